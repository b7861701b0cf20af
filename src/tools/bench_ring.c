/*
 * bench_ring.c - what one would write with liburing: SEND on plain TCP, and SSL_write
 * into a memory BIO whose records one SEND takes. All connections that have something
 * to send share a submission.
 */
#include "config.h"
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <liburing.h>

#define ENTRIES 1024
#define CHUNK	(16 * BENCH_RECORD) /* plain bytes of an op */
#define ROOM	(CHUNK + 17 * 64)   /* and with the overhead of its records */
#define FLAGS	(MSG_NOSIGNAL | MSG_WAITALL)

struct bench_own {
	struct io_uring ring;
	uint64_t ops, enters, shorts;
};

static bool open_ring(struct bench_side *side)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
						  IORING_SETUP_DEFER_TASKRUN};
	struct bench_own *own = calloc(1, sizeof(*own));
	int r = own ? io_uring_queue_init_params(ENTRIES, &own->ring, &params) : -ENOMEM;

	if (r < 0) {
		free(own);
		return bench_cannot(side, "io_uring: %s", strerror(-r));
	}
	side->own = own;
	return true;
}

static void close_ring(struct bench_side *side)
{
	if (!side->own)
		return;
	io_uring_queue_exit(&side->own->ring);
	free(side->own);
	side->own = NULL;
}

static int start(struct bench_conn *c, const uint8_t *bytes, size_t len)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&c->side->own->ring);

	if (!sqe) {
		bench_cannot(c->side, "the ring is full");
		return -1;
	}
	io_uring_prep_send(sqe, c->fd, bytes, len, FLAGS);
	io_uring_sqe_set_data(sqe, c);
	c->side->own->ops++;
	c->in_flight = true;
	c->out_len = len;
	return 0;
}

static bool took(struct bench_side *side, struct bench_conn *c, int res)
{
	if (res < 0)
		return bench_cannot(side, "sending: %s", strerror(-res));
	side->own->shorts += (size_t)res < c->out_len;
	c->at += (size_t)res;
	c->in_flight = c->busy = false;
	return true;
}

static bool wait_ring(struct bench_side *side, int timeout_ms)
{
	struct io_uring *ring = &side->own->ring;
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;
	bool ok = true;
	int r;

	side->own->enters++;
	r = timeout_ms < 0 ? io_uring_submit_and_wait(ring, 1)
			   : io_uring_submit_and_get_events(ring);
	if (r < 0 && r != -EINTR)
		return bench_cannot(side, "io_uring: %s", strerror(-r));
	io_uring_for_each_cqe(ring, head, cqe)
	{
		n++;
		ok = took(side, io_uring_cqe_get_data(cqe), cqe->res) && ok;
	}
	io_uring_cq_advance(ring, n);
	return ok;
}

static void count_ring(struct bench_side *side, struct bench_counts *counts)
{
	counts->calls += side->own->enters;
	counts->transmits += side->own->enters;
	counts->ops += side->own->ops;
	counts->shorts += side->own->shorts;
}

/* ---- TCP -------------------------------------------------------------------- */

#define ON_RING .open = open_ring, .close = close_ring, .wait = wait_ring, .count = count_ring

static int send_plain(struct bench_conn *c, const struct bench_unit *unit)
{
	if (c->in_flight)
		return 0;
	if (c->at < unit->len)
		return start(c, unit->bytes + c->at, unit->len - c->at);
	c->at = 0;
	return 1;
}

const struct bench_method bench_tcp_ring = {
	.name = "tcp-ring",
	.text = "plain TCP, SEND on a ring",
	.kinds = BENCH_WRITES | BENCH_LATENCY,
	.send = send_plain,
	ON_RING,
};

/* ---- A memory BIO ------------------------------------------------------------- */

/* c->in_start: plain bytes of the unit that are sealed; c->in_end: bytes in c->out. */

static bool set_memory_bio(struct bench_conn *c)
{
	BIO *bio = BIO_new(BIO_s_mem());

	c->in = aligned_alloc(BENCH_PAGE, CHUNK);
	c->out = aligned_alloc(BENCH_PAGE, (ROOM + BENCH_PAGE - 1) / BENCH_PAGE * BENCH_PAGE);
	if (!bio || !c->in || !c->out) {
		BIO_free(bio);
		return bench_cannot(c->side, "no memory");
	}
	SSL_set0_wbio(c->ssl, bio);
	return true;
}

static bool seal(struct bench_conn *c, const struct bench_unit *unit)
{
	size_t len = unit->len - c->in_start < CHUNK ? unit->len - c->in_start : CHUNK;
	const uint8_t *bytes = c->in;
	int n;

	if (unit->bytes)
		bytes = unit->bytes + c->in_start;
	else if (pread(unit->file, c->in, len, (off_t)c->in_start) != (ssize_t)len)
		return bench_cannot(c->side, "can't read the file");
	if (SSL_write(c->ssl, bytes, (int)len) != (int)len)
		return bench_cannot(c->side, "SSL_write failed");
	n = BIO_read(SSL_get_wbio(c->ssl), c->out, ROOM);
	if (n <= 0 || BIO_ctrl_pending(SSL_get_wbio(c->ssl)))
		return bench_cannot(c->side, "the records are larger than expected");
	c->in_start += len;
	c->in_end = (size_t)n;
	c->at = 0;
	return true;
}

static int send_membio(struct bench_conn *c, const struct bench_unit *unit)
{
	if (c->in_flight)
		return 0;
	if (c->at == c->in_end) {
		if (c->in_start == unit->len) {
			c->at = c->in_start = c->in_end = 0;
			return 1;
		}
		if (!seal(c, unit))
			return -1;
	}
	return start(c, c->out + c->at, c->in_end - c->at);
}

const struct bench_method bench_membio_ring = {
	.name = "membio-ring",
	.text = "SSL_write into a memory BIO, its records by SEND on a ring",
	.kinds = BENCH_WRITES | BENCH_FILES | BENCH_LATENCY,
	.tls = true,
	.ready = set_memory_bio,
	.send = send_membio,
	ON_RING,
};
