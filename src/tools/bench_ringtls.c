/* bench_ringtls.c - ringtls: each lane on each engine, queued on the ring as well, and what
 * auto makes of it. */
#include "config.h"
#include "bench.h"

#include <stdlib.h>
#include <string.h>

static bool open_engine(struct bench_side *side)
{
	const struct bench_method *m = side->method;
	struct ringtls_engine_opts opts = {.size = sizeof(opts),
					   .backend = m->backend,
					   .lane = m->lane,
					   .flags = RINGTLS_ENGINE_LAZY_WAITS};
	int r = ringtls_engine_new(&side->engine, &opts);

	if (r == RINGTLS_E_LANE)
		return bench_cannot(side,
				    "ringtls can't have the %s lane here: ringtls-probe "
				    "says why",
				    ringtls_lane_name(m->lane));
	return !r || bench_cannot(side, "no engine: %s", ringtls_strerror(r));
}

static void close_engine(struct bench_side *side)
{
	ringtls_engine_free(side->engine);
	side->engine = NULL;
}

static bool attach(struct bench_conn *c)
{
	struct ringtls_conn_opts opts = { .size = sizeof(opts), .user = c };
	int r = ringtls_conn_new(&c->rt, c->side->engine, c->ssl, c->fd, &opts);

	return !r || bench_cannot(c->side, "no connection: %s", ringtls_strerror(r));
}

static void detach(struct bench_conn *c)
{
	ringtls_conn_free(c->rt);
	c->rt = NULL;
}

static bool ready(struct bench_conn *c)
{
	struct ringtls_conn_info info = { .size = sizeof(info) };

	ringtls_conn_get_info(c->rt, &info);
	if (c->side->method->lane && info.lane != c->side->method->lane)
		return bench_cannot(c->side, "it is in the %s lane: %s",
				    ringtls_lane_name(info.lane), ringtls_reason_text(info.reason));
	return true;
}

static int failed(struct bench_conn *c, int ret, const char *what)
{
	int error = ringtls_get_error(c->rt, ret);

	if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ)
		return 0;
	bench_cannot(c->side, "%s: error %d", what, error);
	return -1;
}

static int send_unit(struct bench_conn *c, const struct bench_unit *unit)
{
	if (unit->bytes) {
		int n = ringtls_write(c->rt, unit->bytes, (int)unit->len);

		return n > 0 ? 1 : failed(c, n, "ringtls_write");
	}
	while (c->at < unit->len) {
		ssize_t n = ringtls_sendfile(c->rt, unit->file, (off_t)c->at, unit->len - c->at, 0);

		if (n <= 0)
			return failed(c, (int)n, "ringtls_sendfile");
		c->at += (size_t)n;
	}
	c->at = 0;
	return 1;
}

static bool send_wait(struct bench_side *side, int timeout_ms)
{
	struct ringtls_event events[64];
	int n = ringtls_engine_wait(side->engine, events, 64, timeout_ms);

	if (n < 0)
		return bench_cannot(side, "waiting: %s", ringtls_strerror(n));
	for (int i = 0; i < n; i++)
		((struct bench_conn *)events[i].user)->busy = false;
	return true;
}

/*
 * Queued: a unit is a request, started together with those of the other connections, and it
 * counts when the kernel has all of it.
 */
static int queue_unit(struct bench_conn *c, const struct bench_unit *unit)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)unit->bytes, .iov_len = unit->len};
	int n;

	if (c->in_flight)
		return 0;
	if (c->at) {
		c->at = 0;
		return 1;
	}
	n = unit->bytes ? ringtls_queue_writev(c->rt, &iov, 1, 0)
			: ringtls_queue_sendfile(c->rt, unit->file, 0, unit->len, 0);
	if (n <= 0)
		return failed(c, n, "queueing");
	c->in_flight = true;
	return 0;
}

static bool queue_wait(struct bench_side *side, int timeout_ms)
{
	struct ringtls_completion done[64];
	int n;

	if (!send_wait(side, timeout_ms))
		return false;
	while ((n = ringtls_engine_completions(side->engine, done, 64)) > 0)
		for (int i = 0; i < n; i++) {
			struct bench_conn *c = done[i].user;

			if (!(done[i].flags & RINGTLS_SENT))
				continue;
			if (done[i].error)
				return bench_cannot(side, "a request: %s",
						    ringtls_strerror(done[i].error));
			c->in_flight = c->busy = false;
			c->at = (size_t)done[i].bytes;
		}
	return true;
}

/* The counter of short sends is the engine's: bench_count.c sees only those that are
 * system calls, and counts them again. */
static void count(struct bench_side *side, struct bench_counts *counts)
{
	struct ringtls_engine_info info = { .size = sizeof(info) };

	ringtls_engine_get_info(side->engine, &info);
	counts->calls += info.enters;
	counts->transmits = info.transmit_calls;
	counts->ops += info.ops + info.waits;
	counts->shorts = info.short_sends;
}

#define METHOD(id, lane_is, backend_is, way, named, words)                                            \
	const struct bench_method id = {                                                           \
		.name = named,                                                                     \
		.text = words,                                                                     \
		.kinds = BENCH_WRITES | BENCH_FILES | BENCH_LATENCY,                               \
		.tls = true,                                                                       \
		.lane = RINGTLS_LANE_##lane_is,                                                    \
		.backend = RINGTLS_BACKEND_##backend_is,                                           \
		.open = open_engine,                                                               \
		.close = close_engine,                                                             \
		.attach = attach,                                                                  \
		.detach = detach,                                                                  \
		.ready = ready,                                                                    \
		.send = way##_unit,                                                                \
		.wait = way##_wait,                                                                \
		.count = count,                                                                    \
	}

METHOD(bench_auto, AUTO, AUTO, send, "ringtls-auto", "ringtls as it chooses by itself");
METHOD(bench_kernel_uring, KERNEL, URING, send, "kernel-uring", "ringtls, kernel lane, on a ring");
METHOD(bench_kernel_queued, KERNEL, URING, queue, "kernel-queued",
       "ringtls, kernel lane, queued on a ring");
METHOD(bench_kernel_syscalls, KERNEL, SYSCALLS, send, "kernel-syscalls",
       "ringtls, kernel lane, by system calls");
METHOD(bench_user_uring, USER, URING, send, "user-uring", "ringtls, user lane, on a ring");
METHOD(bench_user_queued, USER, URING, queue, "user-queued",
       "ringtls, user lane, queued on a ring");
METHOD(bench_user_syscalls, USER, SYSCALLS, send, "user-syscalls",
       "ringtls, user lane, by system calls");
METHOD(bench_openssl_uring, OPENSSL, URING, send, "openssl-uring",
       "ringtls, openssl lane, on a ring");
METHOD(bench_openssl_queued, OPENSSL, URING, queue, "openssl-queued",
       "ringtls, openssl lane, queued on a ring");
METHOD(bench_openssl_syscalls, OPENSSL, SYSCALLS, send, "openssl-syscalls",
       "ringtls, openssl lane, by system calls");
