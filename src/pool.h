/*
 * pool.h - leaf: memory for queue items and send buffers, one pool per engine.
 * A few sizes, each with a bounded free list, so that the write path allocates
 * nothing once it is warm and an idle engine keeps little.
 */
#ifndef RINGTLS_POOL_H
#define RINGTLS_POOL_H

#include <stddef.h>
#include <stdint.h>

#define RINGTLS__POOL_CLASSES 6
#define RINGTLS__POOL_ALIGN   64 /* a cache line */

struct ringtls__block {
	struct ringtls__block *next; /* in the free list only */
	uint32_t class_index;
};

struct ringtls__pool {
	struct ringtls__block *free[RINGTLS__POOL_CLASSES];
	unsigned count[RINGTLS__POOL_CLASSES]; /* blocks in each free list */
	uint64_t allocations;                  /* of memory so far */
	uint64_t in_use;                       /* blocks handed out now */
};

/*
 * At least size bytes, aligned to RINGTLS__POOL_ALIGN, with what they hold undefined;
 * *ret_size is how many there really are. NULL: no memory, or more than the
 * largest class (RINGTLS__POOL_MAX).
 */
void *ringtls__pool_get(struct ringtls__pool *pool, size_t size, size_t *ret_size);
void ringtls__pool_put(struct ringtls__pool *pool, void *memory); /* NULL is fine */
void ringtls__pool_fini(struct ringtls__pool *pool);              /* all were put back */

/* Room for an operation of 16 full records, and its item. */
#define RINGTLS__POOL_MAX (17 * (16384 + 256))

#endif
