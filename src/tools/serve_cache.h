/*
 * serve_cache.h - files of one thread that are kept open for the next requests, for a second
 * or so: what was replaced meanwhile is served as it was.
 */
#ifndef RINGTLS_SERVE_CACHE_H
#define RINGTLS_SERVE_CACHE_H

#include <time.h>

#include "serve_file.h"

#define SERVE_CACHE_SLOTS 64

struct serve_cached;

struct serve_cache {
	unsigned valid_s; /* 0: nothing is kept */
	unsigned count;
	struct serve_cached *slots[SERVE_CACHE_SLOTS];
};

/* As serve_file_open; one that was opened less than valid_s ago is given again. */
int serve_cache_open(struct serve_cache *cache, int root, const char *name, time_t now,
		     struct serve_file *ret_file);

/* Closes it when nobody else has it; of a cache or not. */
void serve_cache_close(struct serve_file *file);

/* Lets go of those that are not given any more, and of all. */
void serve_cache_expire(struct serve_cache *cache, time_t now);
void serve_cache_clear(struct serve_cache *cache);

#endif
