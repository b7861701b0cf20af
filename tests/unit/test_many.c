/*
 * test_many.c - many connections of one engine, whose queued writes start together: in every
 * lane and engine, TLS 1.2 and 1.3.
 */
#define _GNU_SOURCE /* memfd_create */
#include "support.h"
#include "list.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define FEW  16  /* they are started at once */
#define MANY 160 /* more than one round starts: see engine.c */

#define RECORD 16384

static uint8_t bytes[RECORD];

/* Each is told of with the address of its own. */
struct one {
	int fd, peer_fd;
	SSL *ssl, *peer;
	struct ringtls_conn *conn;
	unsigned sent;
	size_t got;
	bool has_event;
};

static struct one ones[MANY];

static void open_one(struct pair *p, struct one *m, uint32_t max_requests)
{
	const struct ringtls_conn_opts opts = {
		.size = sizeof(opts), .user = m, .max_requests = max_requests};
	int ours = 0, peer = 0;

	memset(m, 0, sizeof(*m));
	pair_sockets(AF_INET, false, &m->fd, &m->peer_fd);
	m->ssl = SSL_new(p->ours_ctx);
	m->peer = SSL_new(p->peer_ctx);
	SSL_set_accept_state(m->ssl);
	SSL_set_connect_state(m->peer);
	assert_int_equal(SSL_set_fd(m->peer, m->peer_fd), 1);
	assert_int_equal(ringtls_conn_new(&m->conn, p->engine, m->ssl, m->fd, &opts), 0);
	for (int i = 0; i < 500 && (ours != 1 || peer != 1); i++) {
		struct pollfd fds[] = {{.fd = m->fd, .events = POLLIN},
				       {.fd = m->peer_fd, .events = POLLIN}};

		ours = ours == 1 ? 1 : ringtls_handshake(m->conn);
		peer = peer == 1 ? 1 : SSL_do_handshake(m->peer);
		if (ours != 1 || peer != 1)
			poll(fds, 2, 20);
	}
	assert_int_equal(ours, 1);
	assert_int_equal(peer, 1);
}

static void open_all(struct pair *p, const struct pair_opts *o, int n, uint32_t max_requests)
{
	struct ringtls_event ev;

	pair_need(o);
	pair_open(p, o);
	pair_handshake(p);
	for (int i = 0; i < n; i++)
		open_one(p, &ones[i], max_requests);
	/* What the handshakes waited for. */
	for (int none = 0; none < 2;)
		none = ringtls_engine_wait(p->engine, &ev, 1, 1) == 0 ? none + 1 : 0;
}

static void close_all(struct pair *p, int n)
{
	for (int i = 0; i < n; i++) {
		assert_int_equal(ringtls_conn_free(ones[i].conn), 0);
		SSL_free(ones[i].ssl);
		SSL_free(ones[i].peer);
		close(ones[i].fd);
		close(ones[i].peer_fd);
	}
	pair_close(p);
}

static int queue(const struct one *m, size_t len)
{
	struct iovec iov[4];
	int n = 0;

	for (size_t at = 0; at < len; at += RECORD)
		iov[n++] = (struct iovec){bytes, len - at < RECORD ? len - at : RECORD};
	return ringtls_queue_writev(m->conn, iov, n, 0);
}

static unsigned collect(struct pair *p)
{
	struct ringtls_completion done[64];
	unsigned sent = 0;
	int n;

	while ((n = ringtls_engine_completions(p->engine, done, 64)) > 0)
		for (int i = 0; i < n; i++) {
			struct one *m = done[i].user;

			assert_ptr_equal(done[i].conn, m->conn);
			if (!(done[i].flags & RINGTLS_SENT))
				continue;
			assert_int_equal(done[i].error, 0);
			m->sent++;
			sent++;
		}
	return sent;
}

/* Until n requests are sent, and so many connections had an event. */
static void go_on(struct pair *p, unsigned n, unsigned n_events)
{
	struct ringtls_event events[FEW];
	unsigned sent = collect(p), told = 0;

	for (int tries = 0; (sent < n || told < n_events) && tries < 2000; tries++) {
		int some = ringtls_engine_wait(p->engine, events, FEW, 10);

		assert_true(some >= 0);
		for (int i = 0; i < some; i++) {
			((struct one *)events[i].user)->has_event = true;
			told++;
		}
		sent += collect(p);
	}
	assert_int_equal(sent, n);
	assert_true(told >= n_events);
}

/* What was sent is these bytes again and again. 0: nothing more is there yet. */
static size_t peer_reads(struct one *m)
{
	static uint8_t got[RECORD];
	size_t n, at = m->got % RECORD;

	if (SSL_read_ex(m->peer, got, RECORD - at, &n) != 1)
		return 0;
	assert_memory_equal(got, bytes + at, n);
	m->got += n;
	return n;
}

/* So many bytes since the last time, or since it was opened, and no more. */
static void peer_gets(struct one *m, size_t len)
{
	while (m->got < len) {
		struct pollfd pfd = {.fd = m->peer_fd, .events = POLLIN};

		if (!peer_reads(m))
			assert_int_equal(poll(&pfd, 1, 10000), 1);
	}
	assert_int_equal(m->got, len);
	m->got = 0;
}

static uint64_t transmit_calls(const struct pair *p)
{
	struct ringtls_engine_info info = {.size = sizeof(info)};

	assert_int_equal(ringtls_engine_get_info(p->engine, &info), 0);
	return info.transmit_calls;
}

static void one_system_call_starts_all_connections(void **state)
{
	uint64_t before;
	struct pair p;

	open_all(&p, *state, FEW, 0);
	before = transmit_calls(&p);
	for (int i = 0; i < FEW; i++)
		assert_int_equal(queue(&ones[i], 1000), 1);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	assert_int_equal(transmit_calls(&p) - before,
			 p.opts.backend == RINGTLS_BACKEND_URING ? 1 : FEW);
	go_on(&p, FEW, 0);
	for (int i = 0; i < FEW; i++)
		peer_gets(&ones[i], 1000);
	close_all(&p, FEW);
}

/* What is sealed is bounded, and not by the number of connections: so the pool, which keeps
 * less than they would hold together, is not asked for more. */
static void buffers_do_not_grow(void **state, size_t len, int n)
{
	uint64_t allocations = 0, calls = 0;
	struct pair p;

	open_all(&p, *state, n, 0);
	for (int round = 0; round < 3; round++) {
		allocations = p.engine->pool.allocations;
		calls = transmit_calls(&p);
		for (int i = 0; i < n; i++)
			assert_int_equal(queue(&ones[i], len), 1);
		assert_int_equal(ringtls_engine_submit(p.engine), 0);
		go_on(&p, (unsigned)n, 0);
		for (int i = 0; i < n; i++)
			peer_gets(&ones[i], len);
	}
	calls = transmit_calls(&p) - calls;
	assert_int_equal(p.engine->pool.allocations, allocations);
	if (p.opts.backend == RINGTLS_BACKEND_URING)
		assert_true(calls >= 2 && calls <= 2 + (size_t)n * len / 200000);
	close_all(&p, n);
}

static void buffers_do_not_grow_with_the_connections(void **state)
{
	buffers_do_not_grow(state, RECORD, MANY);
}

static void nor_those_of_several_records(void **state)
{
	buffers_do_not_grow(state, 4 * RECORD, 40);
}

/* A file is read a piece at a time, and that is not needed any more when it is sealed, long
 * before the socket has taken it. */
static void a_piece_of_a_file_is_given_back_when_it_is_sealed(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	int file = memfd_create("file", MFD_CLOEXEC);
	struct ringtls__sys warm = ringtls__sys_real;
	struct pair p;

	/* Not every file system can tell what it has in memory. */
	warm.pread_cached = warm.pread;
	o.sys = &warm;

	for (int i = 0; i < 40; i++)
		assert_int_equal(write(file, bytes, RECORD), RECORD);
	open_all(&p, &o, FEW, 0);
	for (int i = 0; i < FEW; i++)
		assert_int_equal(ringtls_queue_sendfile(ones[i].conn, file, 0, 40 * RECORD, 0), 1);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	/* OpenSSL may have to be given the same once more. */
	for (int i = 0; i < FEW && p.opts.lane != RINGTLS_LANE_OPENSSL; i++)
		assert_null(ones[i].conn->requests.piece);
	for (int sent = 0, tries = 0; sent < FEW && tries < 5000; tries++) {
		struct ringtls_event ev;

		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 1) >= 0);
		sent += (int)collect(&p);
		for (int i = 0; i < FEW; i++)
			peer_reads(&ones[i]);
	}
	for (int i = 0; i < FEW; i++)
		peer_gets(&ones[i], 40 * RECORD);
	close_all(&p, FEW);
	close(file);
}

/* An op may end where no wait does: at once, or while others are started. */
static void who_waits_for_room_is_told(void **state)
{
	struct pair p;

	open_all(&p, *state, MANY, 1);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(queue(&ones[i], 100), 1);
	for (int i = 0; i < FEW; i++) {
		assert_int_equal(queue(&ones[i], 100), -1);
		assert_int_equal(ringtls_get_error(ones[i].conn, -1), SSL_ERROR_WANT_WRITE);
	}
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	go_on(&p, MANY, FEW);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(ones[i].has_event, i < FEW);
		assert_int_equal(ones[i].sent, 1);
		peer_gets(&ones[i], 100);
	}
	close_all(&p, MANY);
}

/* The nth hand-over from now on is refused, and no other; 0: none is. */
static struct {
	unsigned at;
	int error;
} refuse;

/* What cancels an operation names another one, so many times. */
static unsigned misses;

static void miss(struct io_uring *ring)
{
	for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
		struct io_uring_sqe *sqe = &ring->sq.sqes[i & ring->sq.ring_mask];

		if (!misses || sqe->opcode != IORING_OP_ASYNC_CANCEL)
			continue;
		sqe->addr = 4;
		misses--;
	}
}

int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);

int __wrap_io_uring_submit(struct io_uring *ring)
{
	miss(ring);
	return refuse.at && !--refuse.at ? refuse.error : __real_io_uring_submit(ring);
}

/* What was not taken goes with what comes next. */
static void a_refused_round_goes_with_the_next(void **state)
{
	static const int errors[] = {-EINTR, -EAGAIN, -EBUSY, -ENOMEM};
	unsigned refused = 0;
	struct pair p;

	open_all(&p, *state, MANY, 0);
	for (size_t e = 0; e < COUNT(errors); e++)
		for (unsigned at = 1; at <= 3; at++) {
			for (int i = 0; i < MANY; i++)
				assert_int_equal(queue(&ones[i], 100), 1);
			refuse.at = at;
			refuse.error = errors[e];
			for (int round = 0; round < 3; round++)
				ringtls_engine_submit(p.engine);
			refused += !refuse.at;
			refuse.at = 0;
			go_on(&p, MANY, 0);
			for (int i = 0; i < MANY; i++)
				peer_gets(&ones[i], 100);
		}
	/* There are two rounds, and one more hand-over behind an interrupted one. */
	if (p.opts.backend == RINGTLS_BACKEND_URING)
		assert_true(refused >= 2 * COUNT(errors));
	close_all(&p, MANY);
}

/* A kernel that is just trying again does not find it. */
static void a_cancellation_that_misses_is_repeated(void **state)
{
	static uint8_t much[8 << 20];
	const struct iovec iov = {much, sizeof(much)};
	struct ringtls_completion done[2];
	struct ringtls_event ev;
	struct pair p;
	int n = 0;

	open_all(&p, *state, 1, 0);
	assert_int_equal(ringtls_queue_writev(ones[0].conn, &iov, 1, 0), 1);
	for (int i = 0; i < 200; i++) /* until the socket is full */
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 1) >= 0);
	misses = p.opts.backend == RINGTLS_BACKEND_URING ? 1 : 0;
	assert_int_equal(ringtls_conn_cancel(ones[0].conn, 0), 0);
	for (int i = 0; i < 100 && !n; i++) {
		assert_int_equal(ringtls_engine_submit(p.engine), 0);
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 10) >= 0);
		n = ringtls_engine_completions(p.engine, done, 2);
	}
	assert_int_equal(misses, 0);
	assert_true(n > 0);
	assert_int_equal(done[n - 1].error, -ECANCELED);
	close_all(&p, 1);
}

static void queue_much(const struct one *m)
{
	const struct iovec piece = {bytes, sizeof(bytes)};
	struct iovec much[100];

	for (int i = 0; i < 100; i++)
		much[i] = piece;
	assert_int_equal(ringtls_queue_writev(m->conn, much, 100, 0), 1);
}

/* Asleep on nothing but the descriptor. */
static void go_on_by_descriptor(struct pair *p, unsigned n)
{
	struct pollfd pfd = {.fd = ringtls_engine_fd(p->engine), .events = POLLIN};
	struct ringtls_event events[FEW];
	unsigned sent = collect(p);

	while (sent < n) {
		for (int i = 0; i < FEW; i++)
			peer_reads(&ones[i]);
		assert_int_equal(poll(&pfd, 1, 10000), 1);
		assert_true(ringtls_engine_wait(p->engine, events, FEW, 0) >= 0);
		sent += collect(p);
	}
}

static void the_descriptor_tells_of_the_rest(void **state)
{
	struct pair p;

	open_all(&p, *state, FEW, 0);
	for (int i = 0; i < FEW; i++)
		assert_int_equal(queue(&ones[i], 3 * RECORD), 1);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	go_on_by_descriptor(&p, FEW);
	close_all(&p, FEW);
}

static void *write_later(void *peer)
{
	poll(NULL, 0, 30);
	return SSL_write(peer, "x", 1) == 1 ? peer : NULL;
}

/* It takes what wakes it, and that may have been meant for others. */
static void nor_does_a_call_that_sleeps_hide_it(void **state)
{
	pthread_t thread;
	struct pair p;
	void *wrote;
	char c;

	open_all(&p, *state, FEW, 0);
	pair_set_blocking(ones[0].fd);
	for (int i = 1; i < FEW; i++)
		assert_int_equal(queue(&ones[i], 3 * RECORD), 1);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	assert_int_equal(pthread_create(&thread, NULL, write_later, ones[0].peer), 0);
	assert_int_equal(ringtls_read(ones[0].conn, &c, 1), 1);
	assert_int_equal(pthread_join(thread, &wrote), 0);
	assert_ptr_equal(wrote, ones[0].peer);
	go_on_by_descriptor(&p, FEW - 1);
	close_all(&p, FEW);
}

/* What is told outside of the engine's calls shows as well. */
static void the_descriptor_tells_of_a_cancellation(void **state)
{
	struct pair p;

	open_all(&p, *state, 1, 0);
	assert_int_equal(queue(&ones[0], 100), 1);
	assert_int_equal(ringtls_conn_cancel(ones[0].conn, 0), 0);
	assert_int_equal(poll(&(struct pollfd){.fd = ringtls_engine_fd(p.engine), .events = POLLIN},
			      1, 10000), 1);
	close_all(&p, 1);
}

/* A turn of the caller's loop, that sleeps until something completes. */
static void turn(struct pair *p, struct io_uring *ring)
{
	struct __kernel_timespec ts = {.tv_sec = 5};
	struct ringtls_event ev;
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	while (ringtls_engine_submit(p->engine) == -EBUSY)
		assert_true(io_uring_submit(ring) > 0);
	assert_true(io_uring_submit_and_wait_timeout(ring, &cqe, 1, &ts, NULL) >= 0);
	io_uring_for_each_cqe(ring, head, cqe) {
		n++;
		ringtls_engine_feed(p->engine, cqe);
	}
	io_uring_cq_advance(ring, n);
	assert_true(ringtls_engine_wait(p->engine, &ev, 1, 0) >= 0);
}

static void fill_with_polls(struct io_uring *ring, int fd)
{
	struct io_uring_sqe *sqe;

	while (io_uring_sq_space_left(ring) > 1 && (sqe = io_uring_get_sqe(ring))) {
		io_uring_prep_poll_add(sqe, fd, POLLIN);
		io_uring_sqe_set_data64(sqe, 1);
	}
}

/* Full of what never completes, so nothing else would call the caller back. */
static void a_full_ring_says_that_there_is_more(void **state)
{
	struct pair_opts o = {.lane = RINGTLS_LANE_USER, .backend = RINGTLS_BACKEND_CALLER,
			      .version = TLS1_3_VERSION, .tag = 7};
	struct io_uring ring;
	struct pair p;
	int never[2];

	(void)state;
	need("uring", io_uring_queue_init(8, &ring, 0) == 0);
	o.ring = &ring;
	pair_open(&p, &o);
	for (int i = 0; i < 2; i++)
		open_one(&p, &ones[i], 0);
	assert_int_equal(pipe(never), 0);
	while (ringtls_engine_submit(p.engine) == -EBUSY)
		assert_true(io_uring_submit(&ring) > 0);
	io_uring_submit(&ring);
	fill_with_polls(&ring, never[0]);
	for (int i = 0; i < 2; i++)
		queue_much(&ones[i]);
	assert_int_equal(ringtls_engine_submit(p.engine), -EBUSY);
	for (int turns = 0; !ones[1].conn->tx.app_bytes && turns < 20; turns++)
		turn(&p, &ring);
	assert_true(ones[1].conn->tx.app_bytes > 0);
	for (int i = 0; i < 2; i++) {
		close(ones[i].peer_fd); /* what waits for room ends by that */
		ones[i].peer_fd = -1;
		while (ringtls_conn_free(ones[i].conn) == -EBUSY)
			turn(&p, &ring);
		SSL_free(ones[i].ssl);
		SSL_free(ones[i].peer);
		close(ones[i].fd);
	}
	while (ringtls_conn_free(p.conn) == -EBUSY)
		turn(&p, &ring);
	p.conn = NULL;
	while (ringtls_engine_free(p.engine) == -EBUSY)
		turn(&p, &ring);
	p.engine = NULL;
	pair_close(&p);
	close(never[0]);
	close(never[1]);
	io_uring_queue_exit(&ring);
}

/* What one call starts is bounded, and what was queued last, a little, is first. */
static void who_has_much_does_not_hold_up_who_has_little(void **state)
{
	enum { LITTLE = FEW - 1 };
	struct ringtls_event ev;
	unsigned started = 0;
	struct pair p;

	open_all(&p, *state, FEW, 0);
	for (int i = 0; i < LITTLE; i++)
		queue_much(&ones[i]);
	assert_int_equal(queue(&ones[LITTLE], 100), 1);
	assert_true(ringtls_engine_wait(p.engine, &ev, 1, 0) >= 0);
	for (int i = 0; i < LITTLE; i++)
		started += ones[i].conn->tx.app_bytes > 0;
	assert_true(started >= 1 && started <= LITTLE / 2);
	assert_int_equal(ones[LITTLE].conn->tx.app_bytes, 100);
	peer_gets(&ones[LITTLE], 100);
	close_all(&p, FEW);
}

/* Nor the other way about, however many come again and again. */
static void who_has_little_does_not_hold_up_who_has_much(void **state)
{
	struct ringtls_event ev;
	struct pair p;

	open_all(&p, *state, MANY, 0);
	queue_much(&ones[0]);
	for (int round = 0; round < 3; round++) {
		uint64_t before = ones[0].conn->tx.app_bytes;

		for (int i = 1; i < MANY; i++)
			if (!ones[i].conn->requests.head)
				assert_int_equal(queue(&ones[i], 100), 1);
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 0) >= 0);
		collect(&p);
		assert_true(ones[0].conn->tx.app_bytes > before);
		while (peer_reads(&ones[0]))
			;
	}
	close_all(&p, MANY);
}

static const struct list_test tests[] = {
#define T(f) { #f, f }
	T(one_system_call_starts_all_connections),
	T(buffers_do_not_grow_with_the_connections),
	T(nor_those_of_several_records),
	T(a_piece_of_a_file_is_given_back_when_it_is_sealed),
	T(who_waits_for_room_is_told),
	T(a_refused_round_goes_with_the_next),
	T(a_cancellation_that_misses_is_repeated),
	T(the_descriptor_tells_of_the_rest),
	T(nor_does_a_call_that_sleeps_hide_it),
	T(the_descriptor_tells_of_a_cancellation),
	T(who_has_much_does_not_hold_up_who_has_little),
	T(who_has_little_does_not_hold_up_who_has_much),
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL); /* none may come */
	pair_fill(bytes, sizeof(bytes));
	list_add_all(tests, COUNT(tests), every_lane, EVERY_LANE);
	list_add(NULL, a_full_ring_says_that_there_is_more, "a_full_ring_says_that_there_is_more");
	return list_run("many", argc, argv);
}
