/*
 * fake_malloc.h - malloc, calloc and aligned_alloc that fail when they are told to, and
 * a free that looks at what it is given. For programs linked with $(FAKE_MALLOC): the
 * library's own calls and the test's come here, those of libcrypto don't.
 */
#ifndef FAKE_MALLOC_H
#define FAKE_MALLOC_H

#include <stddef.h>

/* The nth call from now (1: the next) fails, and no other. 0: none does. */
void fake_malloc_fail_at(unsigned nth);

/* Calls that gave memory, blocks that were freed, calls that were made to fail. */
extern unsigned fake_malloc_calls, fake_malloc_frees, fake_malloc_failures;

/* From now on counts the freed blocks in which these bytes are found. They stay
 * the caller's. NULL ends it. */
void fake_malloc_watch(const void *bytes, size_t len);
extern unsigned fake_malloc_leaks;

#endif
