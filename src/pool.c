/* pool.c - see pool.h. */
#include "config.h"
#include "pool.h"

#include <assert.h>
#include <stdlib.h>

/*
 * Alerts, key updates and requests; a record of 1 KiB; one of 4 KiB, handshake flights; a
 * full one; four; one operation. Of each so many are kept free as three rounds of queued writes
 * need (engine.c), which are under way on a caller's ring, and requests for many connections:
 * 4 MiB in all. They are multiples of what they are aligned to: C11 wants it.
 */
static const struct {
	size_t size;
	unsigned keep;
} classes[RINGTLS__POOL_CLASSES] = {
	{ 256, 1024 },
	{ 1152, 256 },
	{ 4352, 128 },
	{ 20480, 52 },
	{ 67584, 13 },
	{ RINGTLS__POOL_MAX, 4 },
};

/*
 * Blocks begin where a cache line does, and so does what is behind their header. Where `rep movsb`
 * is fast, processors of AMD copy at a tenth of their speed to what is, modulo 4096, up to 31 bytes
 * behind the source. The page cache is the source of a file's pages, and from an allocator that
 * aligns large blocks to pages a header of 16 bytes is just that far.
 */
#define HEADER RINGTLS__POOL_ALIGN

_Static_assert(sizeof(struct ringtls__block) <= HEADER, "the header has room");

void *ringtls__pool_get(struct ringtls__pool *pool, size_t size, size_t *ret_size)
{
	struct ringtls__block *block;
	uint32_t i = 0;

	while (i < RINGTLS__POOL_CLASSES && classes[i].size < size)
		i++;
	if (i == RINGTLS__POOL_CLASSES)
		return NULL;
	block = pool->free[i];
	if (block) {
		pool->free[i] = block->next;
		pool->count[i]--;
	} else {
		block = aligned_alloc(RINGTLS__POOL_ALIGN, HEADER + classes[i].size);
		if (!block)
			return NULL;
		pool->allocations++;
		block->class_index = i;
	}
	pool->in_use++;
	*ret_size = classes[i].size;
	return (char *)block + HEADER;
}

void ringtls__pool_put(struct ringtls__pool *pool, void *memory)
{
	struct ringtls__block *block;
	uint32_t i;

	if (!memory)
		return;
	block = (struct ringtls__block *)(void *)((char *)memory - HEADER);
	i = block->class_index;
	pool->in_use--;
	if (pool->count[i] == classes[i].keep) {
		free(block);
		return;
	}
	block->next = pool->free[i];
	pool->free[i] = block;
	pool->count[i]++;
}

void ringtls__pool_fini(struct ringtls__pool *pool)
{
	assert(pool->in_use == 0);
	for (uint32_t i = 0; i < RINGTLS__POOL_CLASSES; i++) {
		while (pool->free[i]) {
			struct ringtls__block *block = pool->free[i];

			pool->free[i] = block->next;
			free(block);
		}
		pool->count[i] = 0;
	}
}
