/*
 * fetch.c - when a file may go by sendfile(2), and files that are not in memory. Who does not
 * wait for the socket does not wait for the disk either: the ring reads what comes next, into
 * memory that is thrown away. Then it is in the page cache, where the repeated call finds it.
 */
#include "config.h"
#include "request.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#define PIECE RINGTLS__OP_BYTES

/* As the kernel tells it, which is twice what was set. More than the 64 KiB of a segment and what
 * goes with them: then there is always one that TCP sends, or room. */
#define SAFE_BUFFER 131072

bool ringtls__is_small_buffer(const struct ringtls_conn *c)
{
	int size = 0;
	socklen_t len = sizeof(size);

	return c->engine->sys->getsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, &len) < 0 ||
	       size < SAFE_BUFFER;
}

/*
 * Not on a socket that blocks: sendfile(2) has no flag not to wait, and a sender that sleeps
 * in the kernel's TLS may lose the connection to a signal (kmod-notes/flags.md). Nor into a
 * small send buffer: there 6.1 may never send it (kmod-notes/sendfile.md), and by no question
 * that takes less than a moment is it found out whether a kernel does so.
 */
int ringtls__may_sendfile(struct ringtls_conn *c)
{
	int flags;

	if (c->tx.state != RINGTLS__TX_KERNEL)
		return 0;
	flags = c->engine->sys->getfl(c->fd);
	if (flags < 0)
		return flags;
	return (flags & O_NONBLOCK) && !ringtls__is_small_buffer(c);
}

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
	if (c->fetched == file && c->fetched_offset == offset) {
		c->fetched = -1;
		return 0;
	}
	r = ringtls__is_blocking(c);
	if (r)
		return r < 0 ? r : 0;
	if (ringtls__start_read(c, true, file, offset, len < PIECE ? len : PIECE) < 0) {
		ringtls__requests_drop_piece(c); /* it may be the other buffer that was not had */
		return 0;
	}
	if (c->requests.read->done) { /* it could not be started */
		ringtls__requests_drop_read(c);
		return 0;
	}
	c->fetched = file;
	c->fetched_offset = offset;
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

/* Where the first piece is that is not in memory and can be fetched, or -1. What is small was
 * read in one go, from its beginning; so its end tells. */
static off_t find_cold(struct ringtls_conn *c, int file, off_t offset, size_t len)
{
	off_t end = offset + (off_t)len, at = offset;

	if (!can_fetch(c) || !len)
		return -1;
	for (; end - at > 65536; at += PIECE < end - at ? PIECE : end - at)
		if (is_cold(c, file, at))
			return at;
	at = len > PIECE ? end - PIECE : offset;
	return is_cold(c, file, end - 1) ? at : -1;
}

bool ringtls__is_cold(struct ringtls_conn *c, int file, off_t offset, size_t len)
{
	return find_cold(c, file, offset, len) >= 0;
}

int ringtls__have_file(struct ringtls_conn *c, int file, off_t offset, size_t len)
{
	off_t cold = find_cold(c, file, offset, len);

	return cold < 0 ? 0 : fetch(c, file, cold, len - (size_t)(cold - offset));
}
