/* fake_malloc.c - see fake_malloc.h. */
#define _GNU_SOURCE /* memmem */
#include "support.h"
#include "fake_malloc.h"

#include <errno.h>
#include <malloc.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);

unsigned fake_malloc_calls, fake_malloc_frees, fake_malloc_failures, fake_malloc_leaks;

static unsigned fail_at;
static const void *secret;
static size_t secret_len;

void fake_malloc_fail_at(unsigned nth)
{
	fail_at = nth;
}

void fake_malloc_watch(const void *bytes, size_t len)
{
	secret = bytes;
	secret_len = len;
	fake_malloc_leaks = 0;
}

static int fails(void)
{
	if (fail_at && !--fail_at) {
		fake_malloc_failures++;
		errno = ENOMEM;
		return 1;
	}
	fake_malloc_calls++;
	return 0;
}

/* Filled, so that what relies on zeros shows, and nothing in it is undefined. */
static void *filled(void *memory)
{
	if (memory)
		memset(memory, 0xa5, malloc_usable_size(memory));
	return memory;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : filled(__real_malloc(size));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : filled(__real_aligned_alloc(alignment, size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void __wrap_free(void *memory)
{
	if (memory && secret && memmem(memory, malloc_usable_size(memory), secret, secret_len))
		fake_malloc_leaks++;
	fake_malloc_frees += memory != NULL;
	__real_free(memory);
}
