/*
 * fetch.c - files that are not in memory. Who does not wait for the socket does not wait for
 * the disk either: the ring reads what comes next, into memory that is thrown away. Then it is
 * in the page cache, where the repeated call finds it.
 */
#include "config.h"
#include "request.h"

#include <errno.h>

#define PIECE RINGTLS__OP_BYTES

static bool can_fetch(const struct ringtls_conn *c)
{
	return c->engine->backend->reads_behind && !c->bios.own;
}

/* Nobody waits for a ring's read but the ring: so it goes out now, unless the caller is to
 * call ringtls_engine_wait before every sleep anyway. */
static int hand_over(struct ringtls_conn *c)
{
	struct ringtls_engine *e = c->engine;
	int r = e->opts.flags & RINGTLS_ENGINE_LAZY_WAITS ? 0 : e->backend->submit(e);

	return r < 0 ? r : ringtls__await(c, c->requests.read);
}

/* 0: go on, it may be waited for; -EAGAIN: it is on its way, and its end is an event. */
static int fetch(struct ringtls_conn *c, int file, off_t offset, size_t len)
{
	int r = ringtls__await_dropped_read(c);

	if (r < 0)
		return r;
	/* It was read, and is gone again, or this file is never kept. */
	if (c->fetched.file == file && c->fetched.offset == offset) {
		c->fetched.file = -1;
		return 0;
	}
	r = ringtls__is_blocking(c);
	if (r)
		return r < 0 ? r : 0;
	if (ringtls__start_read(c, NULL, file, offset, len < PIECE ? len : PIECE) < 0)
		return 0;
	c->fetched.file = file;
	c->fetched.offset = offset;
	return hand_over(c);
}

ssize_t ringtls__read_file(struct ringtls_conn *c, int file, void *buf, size_t len, off_t offset)
{
	const struct ringtls__sys *sys = c->engine->sys;
	ssize_t n = can_fetch(c) ? sys->pread_cached(file, buf, len, offset) : -EOPNOTSUPP;

	if (n >= 0)
		return n;
	/* Any other error is a file system, or a sandbox, that can't tell: the plain read will. */
	if (n == -EAGAIN) {
		int r = fetch(c, file, offset, len);

		if (r < 0)
			return r;
	}
	return sys->pread(file, buf, len, offset);
}

static bool is_cold(struct ringtls_conn *c, int file, off_t at)
{
	char byte;

	return c->engine->sys->pread_cached(file, &byte, 1, at) == -EAGAIN;
}

/* Where the first piece is that is not in memory, or -1. What is small was read in one go, from
 * its beginning; so its end tells. */
static off_t find_cold(struct ringtls_conn *c, int file, off_t offset, size_t len)
{
	off_t end = offset + (off_t)len, at = offset;

	for (; end - at > 65536; at += PIECE < end - at ? PIECE : end - at)
		if (is_cold(c, file, at))
			return at;
	at = len > PIECE ? end - PIECE : offset;
	return is_cold(c, file, end - 1) ? at : -1;
}

bool ringtls__is_cold(struct ringtls_conn *c, int file, off_t offset, size_t len)
{
	return can_fetch(c) && len && find_cold(c, file, offset, len) >= 0;
}

int ringtls__have_file(struct ringtls_conn *c, int file, off_t offset, size_t len)
{
	off_t cold = can_fetch(c) && len ? find_cold(c, file, offset, len) : -1;

	return cold < 0 ? 0 : fetch(c, file, cold, len - (size_t)(cold - offset));
}
