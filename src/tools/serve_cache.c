/*
 * serve_cache.c - see serve_cache.h. A name has one place, and takes it from whoever had it: so
 * names that were chosen to collide cost no more than no cache at all.
 */
#include "config.h"
#include "serve_cache.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct serve_cached {
	struct serve_file file;
	char *name;
	time_t since;
	unsigned users; /* its place is one of them */
};

static struct serve_cached **place_of(struct serve_cache *cache, const char *name)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 16777619u;
	return &cache->slots[hash % SERVE_CACHE_SLOTS];
}

static void let_go(struct serve_cached *cached)
{
	if (--cached->users)
		return;
	close(cached->file.fd);
	free(cached->name);
	free(cached);
}

static void clear_place(struct serve_cache *cache, struct serve_cached **place)
{
	if (!*place)
		return;
	let_go(*place);
	*place = NULL;
	cache->count--;
}

/* A clock that was set back makes them old, too. */
static bool is_fresh(const struct serve_cache *cache, const struct serve_cached *cached, time_t now)
{
	return now >= cached->since && now - cached->since < (time_t)cache->valid_s;
}

/* Without memory it is the caller's alone. */
static void keep(struct serve_cache *cache, struct serve_cached **place, const char *name,
		 time_t now, struct serve_file *file)
{
	struct serve_cached *cached = calloc(1, sizeof(*cached));
	char *copy = strdup(name);

	if (!cached || !copy) {
		free(cached);
		free(copy);
		return;
	}
	file->cached = cached;
	*cached = (struct serve_cached){.file = *file, .name = copy, .since = now, .users = 2};
	*place = cached;
	cache->count++;
}

int serve_cache_open(struct serve_cache *cache, int root, const char *name, time_t now,
		     struct serve_file *ret_file)
{
	struct serve_cached **place = cache && cache->valid_s ? place_of(cache, name) : NULL;
	int status;

	if (!place)
		return serve_file_open(root, name, ret_file);
	if (*place && is_fresh(cache, *place, now) && !strcmp((*place)->name, name)) {
		(*place)->users++;
		*ret_file = (*place)->file;
		return 0;
	}
	clear_place(cache, place);
	status = serve_file_open(root, name, ret_file);
	if (status == 503 && cache->count) { /* it may be us who have all descriptors */
		serve_cache_clear(cache);
		status = serve_file_open(root, name, ret_file);
	}
	if (!status && ret_file->fd >= 0)
		keep(cache, place, name, now, ret_file);
	return status;
}

void serve_cache_close(struct serve_file *file)
{
	if (file->cached)
		let_go(file->cached);
	else if (file->fd >= 0)
		close(file->fd);
	file->cached = NULL;
	file->fd = -1;
}

void serve_cache_expire(struct serve_cache *cache, time_t now)
{
	for (int i = 0; cache->count && i < SERVE_CACHE_SLOTS; i++)
		if (cache->slots[i] && !is_fresh(cache, cache->slots[i], now))
			clear_place(cache, &cache->slots[i]);
}

void serve_cache_clear(struct serve_cache *cache)
{
	for (int i = 0; i < SERVE_CACHE_SLOTS; i++)
		clear_place(cache, &cache->slots[i]);
}
