/* serve_loop.c - see serve_loop.h. */
#include "config.h"
#include "serve_loop.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "serve_cert.h"
#include "serve_conn.h"
#include "serve_log.h"

#define EVENTS	    128
#define LOOK_MS	    5000 /* at whether a client took anything */
#define LOOK_FILES_MS 1000
#define LINGER_MS   2000
#define ACCEPTS	    32  /* per round */
#define SHORTAGE_MS 100 /* no descriptor, no memory or no room: try again then */
#define SHORTAGE_SAID_MS 60000 /* told again after a minute at the earliest */
#define BUSY_ROUNDS 16  /* rounds of work without a look at the listening socket */

/* ---- Lists of connections ------------------------------------------------------ */

static void unlimit(struct serve_conn *conn)
{
	if (conn->limited)
		TAILQ_REMOVE(&conn->loop->limits[conn->limit], conn, in_limit);
	conn->limited = false;
}

void serve_loop_limit(struct serve_conn *conn, enum serve_limit limit)
{
	unlimit(conn);
	conn->limit = limit;
	conn->limit_since_ms = conn->loop->now_ms;
	conn->limited = true;
	/* Limits of one kind are equally long: the list stays in order. */
	TAILQ_INSERT_TAIL(&conn->loop->limits[limit], conn, in_limit);
}

void serve_loop_yield(struct serve_conn *conn)
{
	if (!conn->runnable)
		TAILQ_INSERT_TAIL(&conn->loop->runnable, conn, in_runnable);
	conn->runnable = true;
}

static void unyield(struct serve_conn *conn)
{
	if (conn->runnable)
		TAILQ_REMOVE(&conn->loop->runnable, conn, in_runnable);
	conn->runnable = false;
}

void serve_loop_forget(struct serve_conn *conn)
{
	struct serve_loop *loop = conn->loop;

	unlimit(conn);
	unyield(conn);
	loop->connections--;
	atomic_fetch_sub(&loop->server->connections, 1);
	/* There is room again. */
	if (loop->accept_again_ms)
		loop->accept_again_ms = loop->now_ms;
}

/* ---- Time ------------------------------------------------------------------------ */

static void read_clock(struct serve_loop *loop)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	loop->now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void expire(struct serve_loop *loop)
{
	for (int i = 0; i < SERVE_LIMITS; i++) {
		struct serve_conn *conn;

		while ((conn = TAILQ_FIRST(&loop->limits[i])) &&
		       loop->now_ms - conn->limit_since_ms >= loop->limit_ms[i])
			serve_conn_expire(conn);
	}
}

/* Milliseconds until something is due, -1 for never. */
static int next_due(const struct serve_loop *loop)
{
	uint64_t due = UINT64_MAX;

	for (int i = 0; i < SERVE_LIMITS; i++) {
		const struct serve_conn *conn = TAILQ_FIRST(&loop->limits[i]);

		if (conn && conn->limit_since_ms + loop->limit_ms[i] < due)
			due = conn->limit_since_ms + loop->limit_ms[i];
	}
	if (loop->accept_again_ms && loop->accept_again_ms < due)
		due = loop->accept_again_ms;
	/* Files that are kept open for nobody. */
	if (loop->cache.count && loop->now_ms + LOOK_FILES_MS < due)
		due = loop->now_ms + LOOK_FILES_MS;
	if (due == UINT64_MAX)
		return -1;
	return due > loop->now_ms ? (int)(due - loop->now_ms) : 0;
}

/* ---- Accepting --------------------------------------------------------------------- */

static bool watch(struct serve_loop *loop, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* A listening socket that can't be served would wake us without end. */
static void pause_accepting(struct serve_loop *loop)
{
	if (!loop->accept_again_ms)
		epoll_ctl(loop->epoll, EPOLL_CTL_DEL, loop->listener, NULL);
	loop->accept_again_ms = loop->now_ms + SHORTAGE_MS;
}

static void resume_accepting(struct serve_loop *loop)
{
	if (!loop->accept_again_ms || loop->now_ms < loop->accept_again_ms)
		return;
	loop->accept_again_ms = 0;
	if (loop->listener >= 0 && !watch(loop, loop->listener))
		loop->accept_again_ms = loop->now_ms + SHORTAGE_MS;
}

/*
 * A new client is worth more than one that has been idle longest. One at a time: a
 * connection that is being closed makes room soon, whoever is told of it.
 */
static void make_room(struct serve_loop *loop)
{
	struct serve_conn *idle = TAILQ_FIRST(&loop->limits[SERVE_LIMIT_IDLE]);

	if (idle && !idle->runnable && TAILQ_EMPTY(&loop->limits[SERVE_LIMIT_LINGER]))
		serve_conn_expire(idle);
}

static bool is_full(const struct serve_loop *loop)
{
	const struct serve_server *server = loop->server;
	unsigned most = server->options->bounds.thread_connections;

	return atomic_load(&server->connections) >= server->connections_max ||
	       (most && loop->connections >= most);
}

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* Said by one thread for all; a shortage that comes and goes must not fill the log. */
static void say_shortage(struct serve_loop *loop, int error)
{
	uint_fast64_t said = atomic_load(&loop->server->shortage_ms);

	if (said && loop->now_ms - said < SHORTAGE_SAID_MS)
		return;
	if (atomic_compare_exchange_strong(&loop->server->shortage_ms, &said, loop->now_ms))
		serve_log("can't accept connections: %s; they wait until there is room",
			  ringtls_strerror(-error));
}

static void accept_some(struct serve_loop *loop)
{
	union serve_address peer;

	for (int i = 0; i < ACCEPTS; i++) {
		socklen_t len = sizeof(peer);
		int fd;

		if (is_full(loop))
			make_room(loop);
		if (is_full(loop)) {
			pause_accepting(loop);
			return;
		}
		fd = accept4(loop->listener, &peer.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			serve_conn_start(loop, fd, &peer);
			continue;
		}
		if (is_shortage(errno)) {
			say_shortage(loop, errno);
			serve_cache_clear(&loop->cache);
			make_room(loop);
			pause_accepting(loop);
			return;
		}
		/* Anything else is one client's bad luck (ECONNABORTED), or none is left. */
		if (errno != EINTR && errno != ECONNABORTED && errno != EPROTO)
			return;
	}
}

/* ---- The loop ------------------------------------------------------------------------ */

static void stop(struct serve_loop *loop)
{
	loop->stopping = true;
	close(loop->listener); /* epoll forgets it, too */
	loop->listener = -1;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, loop->stop, NULL);
	for (int i = 0; i < SERVE_LIMITS; i++) {
		struct serve_conn *conn = TAILQ_FIRST(&loop->limits[i]), *next;

		for (; conn; conn = next) {
			next = TAILQ_NEXT(conn, in_limit);
			serve_conn_stop(conn);
		}
	}
}

/* Sleeps, unless there is work; then sees to the sockets that are no connections. */
static int poll_others(struct serve_loop *loop, int timeout_ms)
{
	struct epoll_event events[3];
	int n = epoll_wait(loop->epoll, events, 3, timeout_ms);
	bool accepting = false, stopping = false;

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	read_clock(loop);
	for (int i = 0; i < n; i++) {
		accepting |= events[i].data.fd == loop->listener;
		stopping |= events[i].data.fd == loop->stop;
	}
	if (stopping)
		stop(loop);
	else if (accepting)
		accept_some(loop);
	return 0;
}

/* One turn for each connection that gave way before, if there was one; those that do again
 * wait for the next. */
static bool run_runnable(struct serve_loop *loop)
{
	struct serve_conn *last = TAILQ_LAST(&loop->runnable, serve_conns);
	struct serve_conn *conn;
	bool more = last;

	while (more) {
		conn = TAILQ_FIRST(&loop->runnable);
		more = conn != last;
		unyield(conn);
		serve_conn_run(conn);
	}
	return last;
}

/*
 * The work there is. 1: there may be more; 0: sleep; less: an error of the engine. After a turn
 * of any connection there is more: what it waits for is handed over by the next
 * ringtls_engine_wait (LAZY_WAITS), and before that nothing would end our sleep.
 */
static int work(struct serve_loop *loop)
{
	struct ringtls_event events[EVENTS];
	int n = ringtls_engine_wait(loop->engine, events, EVENTS, 0);
	bool ran;

	for (int i = 0; i < n; i++) {
		struct serve_conn *conn = events[i].user;

		/* One that gave way has its turn coming. */
		if (!conn->runnable)
			serve_conn_run(conn);
	}
	ran = run_runnable(loop);
	serve_log_flush();
	return n < 0 ? n : n > 0 || ran;
}

static bool is_over(const struct serve_loop *loop)
{
	return loop->stopping && !loop->connections;
}

static int run(struct serve_loop *loop)
{
	unsigned rounds = 0;
	int ret = 0;

	while (ret >= 0 && !is_over(loop)) {
		read_clock(loop);
		expire(loop);
		serve_cache_expire(&loop->cache, time(NULL));
		resume_accepting(loop);
		ret = work(loop);
		if (ret < 0 || is_over(loop) || (ret > 0 && ++rounds < BUSY_ROUNDS))
			continue;
		ret = poll_others(loop, ret ? 0 : next_due(loop));
		rounds = 0;
	}
	return ret < 0 ? ret : 0;
}

/* ---- Beginning and end ------------------------------------------------------------------ */

static void set_limits(struct serve_loop *loop)
{
	const struct serve_bounds *bounds = &loop->server->options->bounds;
	/* Often enough to notice in time that a client takes nothing. */
	unsigned look_ms = bounds->send_s * 250;

	loop->limit_ms[SERVE_LIMIT_HANDSHAKE] = bounds->handshake_s * 1000;
	loop->limit_ms[SERVE_LIMIT_REQUEST] = bounds->header_s * 1000;
	loop->limit_ms[SERVE_LIMIT_IDLE] = bounds->idle_s * 1000;
	loop->limit_ms[SERVE_LIMIT_SEND] = look_ms < LOOK_MS ? look_ms : LOOK_MS;
	loop->limit_ms[SERVE_LIMIT_LINGER] = LINGER_MS;
	TAILQ_INIT(&loop->runnable);
	for (int i = 0; i < SERVE_LIMITS; i++)
		TAILQ_INIT(&loop->limits[i]);
}

static struct ringtls_engine_opts engine_opts(const struct serve_options *options)
{
	return (struct ringtls_engine_opts){
		.size = sizeof(struct ringtls_engine_opts),
		.backend = options->backend,
		.lane = options->lane,
		.renegotiation = options->renegotiation,
		.promote_after = options->promote_after,
		.flags = RINGTLS_ENGINE_LAZY_WAITS |
			 (options->prefer_kernel ? RINGTLS_ENGINE_PREFER_KERNEL : 0),
	};
}

void serve_loop_warm_up(struct serve_server *server)
{
	struct ringtls_engine_opts opts = engine_opts(server->options);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ringtls_engine *engine;
	struct ringtls_conn *conn;
	SSL *ssl;

	/* What fails here fails again where somebody is told of it. */
	if (fd >= 0 && ringtls_engine_new(&engine, &opts) >= 0) {
		ssl = serve_ssl_new(server);
		if (ssl && ringtls_conn_new(&conn, engine, ssl, fd, NULL) >= 0)
			ringtls_conn_free(conn);
		SSL_free(ssl);
		ringtls_engine_free(engine);
	}
	if (fd >= 0)
		close(fd);
}

static int set_up(struct serve_loop *loop)
{
	const struct serve_options *options = loop->server->options;
	struct ringtls_engine_opts opts = engine_opts(options);
	int ret;

	set_limits(loop);
	loop->site = loop->server->site;
	loop->site.cache = &loop->cache;
	loop->cache.valid_s = options->file_cache_s;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0)
		return -errno;
	ret = ringtls_engine_new(&loop->engine, &opts);
	if (ret < 0)
		return ret;
	if (!watch(loop, loop->listener) || !watch(loop, loop->stop) ||
	    !watch(loop, ringtls_engine_fd(loop->engine)))
		return -errno;
	return 0;
}

/* One line per engine, for people and for tests. */
static void print_stats(const struct serve_loop *loop)
{
	struct ringtls_engine_info info = { .size = sizeof(info) };

	ringtls_engine_get_info(loop->engine, &info);
	serve_log("engine thread=%u backend=%s reason=%s accepted=%llu requests=%llu ops=%llu "
		  "bytes=%llu short_sends=%llu transmit_calls=%llu waits=%llu enters=%llu",
		  loop->index, ringtls_backend_name(info.backend), ringtls_reason_name(info.reason),
		  (unsigned long long)loop->accepted, (unsigned long long)loop->requests,
		  (unsigned long long)info.ops, (unsigned long long)info.bytes,
		  (unsigned long long)info.short_sends, (unsigned long long)info.transmit_calls,
		  (unsigned long long)info.waits, (unsigned long long)info.enters);
}

static void tear_down(struct serve_loop *loop)
{
	struct serve_conn *conn;

	for (int i = 0; i < SERVE_LIMITS; i++)
		while ((conn = TAILQ_FIRST(&loop->limits[i])))
			serve_conn_end(conn);
	serve_cache_clear(&loop->cache);
	serve_log_flush();
	if (loop->engine && loop->server->options->stats)
		print_stats(loop);
	ringtls_engine_free(loop->engine);
	if (loop->epoll >= 0)
		close(loop->epoll);
	OPENSSL_thread_stop();
}

void *serve_loop_main(void *arg)
{
	struct serve_loop *loop = arg;
	int refused = set_up(loop);
	uint64_t one = 1;
	ssize_t n;

	loop->refused = refused;
	sem_post(loop->started);
	if (!refused)
		loop->broken = run(loop);
	tear_down(loop);
	n = write(loop->done, &one, sizeof(one));
	(void)n; /* an eventfd takes it */
	return NULL;
}
