/*
 * test_many.c - many connections of one engine, whose queued writes start together: in every
 * lane and engine, TLS 1.2 and 1.3. Whose turn it is: test_round.c.
 */
#define _GNU_SOURCE /* memfd_create */
#include "support.h"
#include "list.h"
#include "many.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static void one_system_call_starts_all_connections(void **state)
{
	uint64_t before;
	struct pair p;

	many_open(&p, *state, FEW, 0);
	before = many_transmit_calls(&p);
	for (int i = 0; i < FEW; i++)
		assert_int_equal(many_queue(&ones[i], 1000), 1);
	many_submit(&p);
	assert_int_equal(many_transmit_calls(&p) - before,
			 p.opts.backend == RINGTLS_BACKEND_URING    ? 1 :
			 p.opts.backend == RINGTLS_BACKEND_SYSCALLS ? FEW :
								      0);
	many_go_on(&p, FEW, 0);
	for (int i = 0; i < FEW; i++)
		many_peer_gets(&ones[i], 1000);
	many_close(&p, FEW);
}

static void open_on_ring(struct pair *p, const struct pair_opts *opts, int n)
{
	many_open(p, opts, n, 0);
	if (p->opts.backend == RINGTLS_BACKEND_URING)
		return;
	many_close(p, n);
	print_message("# the emulated kernel TLS has no ring\n");
	skip();
}

/* A system call of its own costs less than the ring, which the kernel is not asked about then. */
static void a_lone_write_is_not_the_rings(void **state)
{
	struct ringtls_event ev;
	uint64_t calls, enters;
	struct pair p;

	open_on_ring(&p, *state, 2);
	calls = many_transmit_calls(&p);
	enters = many_enters(&p);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(many_queue(&ones[0], 1000), 1);
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 0) >= 0);
		assert_int_equal(many_collect(&p), 1);
	}
	assert_int_equal(many_transmit_calls(&p) - calls, 10);
	assert_int_equal(many_enters(&p), enters);
	many_peer_gets(&ones[0], 10000);
	many_close(&p, 2);
}

/* That sends it when there is room, without a wait before it. */
static void where_its_socket_is_full_it_is(void **state)
{
	unsigned queued = 0, sent = 0;
	struct ringtls_event ev;
	uint64_t enters, waits;
	struct pair p;

	open_on_ring(&p, *state, 1);
	enters = many_enters(&p);
	waits = p.engine->waits;
	while (many_enters(&p) == enters || queued == sent) {
		if (queued == sent) {
			assert_int_equal(many_queue(&ones[0], 16000), 1);
			queued++;
		}
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 0) >= 0);
		sent += many_collect(&p);
	}
	for (int i = 0; i < 1000 && ones[0].got < (queued - 2) * 16000ul; i++)
		if (!many_peer_reads(&ones[0]))
			poll(NULL, 0, 1);
	many_go_on(&p, queued - sent, 0);
	assert_int_equal(p.engine->waits, waits);
	many_peer_gets(&ones[0], queued * 16000ul);
	many_close(&p, 1);
}

/* Who never had the descriptor needs none; who asks for it late misses nothing by that. */
static void a_descriptor_that_is_asked_for_late(void **state)
{
	struct ringtls_event ev;
	struct pair p;

	many_open(&p, *state, 3, 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(many_queue(&ones[i], 1000), 1);
	assert_true(many_wait(&p, &ev, 1, 0) >= 0);
	many_sleep(&p);
	many_go_on(&p, 2, 0);
	for (int i = 0; i < 2; i++)
		many_peer_gets(&ones[i], 1000);
	many_close(&p, 3);
}

/* What is freed collects the ends of its waits, and with them those of others. */
static void what_was_collected_before_shows_too(void **state)
{
	struct ringtls_event ev = {.conn = NULL};
	struct pollfd pfd;
	struct pair p;
	char c;

	open_on_ring(&p, *state, 2);
	for (int i = 0; i < 2; i++)
		assert_int_equal(ringtls_read(ones[i].conn, &c, 1), -1);
	assert_int_equal(SSL_write(ones[0].peer, "x", 1), 1);
	pfd = (struct pollfd){.fd = ones[0].fd, .events = POLLIN};
	assert_int_equal(poll(&pfd, 1, 5000), 1);
	assert_int_equal(ringtls_conn_free(ones[1].conn), 0);
	ones[1].conn = NULL;
	many_sleep(&p);
	assert_int_equal(ringtls_engine_wait(p.engine, &ev, 1, 0), 1);
	assert_ptr_equal(ev.conn, ones[0].conn);
	many_close(&p, 2);
}

/* What is sealed is bounded, and not by the number of connections: so the pool, which keeps
 * less than they would hold together, is not asked for more. */
static void buffers_do_not_grow(void **state, size_t len, int n)
{
	uint64_t allocations = 0, calls = 0;
	struct pair p;

	many_open(&p, *state, n, 0);
	for (int round = 0; round < 3; round++) {
		allocations = p.engine->pool.allocations;
		calls = many_transmit_calls(&p);
		for (int i = 0; i < n; i++)
			assert_int_equal(many_queue(&ones[i], len), 1);
		many_submit(&p);
		many_go_on(&p, (unsigned)n, 0);
		for (int i = 0; i < n; i++)
			many_peer_gets(&ones[i], len);
	}
	calls = many_transmit_calls(&p) - calls;
	assert_int_equal(p.engine->pool.allocations, allocations);
	if (p.opts.backend == RINGTLS_BACKEND_URING)
		assert_true(calls >= 2 && calls <= 2 + (size_t)n * len / 200000);
	many_close(&p, n);
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
		assert_int_equal(write(file, many_bytes, RECORD), RECORD);
	many_open(&p, &o, FEW, 0);
	for (int i = 0; i < FEW; i++)
		assert_int_equal(ringtls_queue_sendfile(ones[i].conn, file, 0, 40 * RECORD, 0), 1);
	many_submit(&p);
	/* OpenSSL may have to be given the same once more. */
	for (int i = 0; i < FEW && p.opts.lane != RINGTLS_LANE_OPENSSL; i++)
		assert_null(ones[i].conn->requests.piece);
	for (int sent = 0, tries = 0; sent < FEW && tries < 5000; tries++) {
		struct ringtls_event ev;

		assert_true(many_wait(&p, &ev, 1, 1) >= 0);
		sent += (int)many_collect(&p);
		for (int i = 0; i < FEW; i++)
			many_peer_reads(&ones[i]);
	}
	for (int i = 0; i < FEW; i++)
		many_peer_gets(&ones[i], 40 * RECORD);
	many_close(&p, FEW);
	close(file);
}

/* An op may end where no wait does: at once, or while others are started. */
static void who_waits_for_room_is_told(void **state)
{
	struct pair p;

	many_open(&p, *state, MANY, 1);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(many_queue(&ones[i], 100), 1);
	for (int i = 0; i < FEW; i++) {
		assert_int_equal(many_queue(&ones[i], 100), -1);
		assert_int_equal(ringtls_get_error(ones[i].conn, -1), SSL_ERROR_WANT_WRITE);
	}
	many_submit(&p);
	many_go_on(&p, MANY, FEW);
	for (int i = 0; i < MANY; i++) {
		/* In the kernel lane a handshake's drain may have left a wait behind. */
		if (i < FEW || p.opts.lane != RINGTLS_LANE_KERNEL)
			assert_int_equal(ones[i].has_event, i < FEW);
		assert_int_equal(ones[i].sent, 1);
		many_peer_gets(&ones[i], 100);
	}
	many_close(&p, MANY);
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

#define HALF   1 /* no error: the kernel has no memory for more */
#define NO_MORE 2 /* the same, and the next is refused */

static int take_half(struct io_uring *ring)
{
	unsigned tail = ring->sq.sqe_tail;
	int r;

	ring->sq.sqe_tail -= io_uring_sq_ready(ring) / 2;
	r = __real_io_uring_submit(ring);
	ring->sq.sqe_tail = tail;
	return r;
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
	miss(ring);
	if (!refuse.at || --refuse.at)
		return __real_io_uring_submit(ring);
	if (refuse.error <= 0)
		return refuse.error;
	refuse.at = refuse.error == NO_MORE;
	refuse.error = -ENOMEM;
	return take_half(ring);
}

static bool is_on_ring(const struct pair *p)
{
	return p->opts.backend == RINGTLS_BACKEND_URING;
}

static void refuse_first(const struct pair *p, int error)
{
	refuse.at = is_on_ring(p);
	refuse.error = error;
}

/* What was not taken goes with what comes next. */
static void a_refused_round_goes_with_the_next(void **state)
{
	static const int errors[] = {-EINTR, -EAGAIN, -EBUSY, -ENOMEM};
	unsigned refused = 0;
	struct pair p;

	many_open(&p, *state, MANY, 0);
	for (size_t e = 0; e < COUNT(errors); e++)
		for (unsigned at = 1; at <= 3; at++) {
			for (int i = 0; i < MANY; i++)
				assert_int_equal(many_queue(&ones[i], 100), 1);
			refuse.at = at;
			refuse.error = errors[e];
			for (int round = 0; round < 3; round++)
				ringtls_engine_submit(p.engine);
			refused += !refuse.at;
			refuse.at = 0;
			many_go_on(&p, MANY, 0);
			for (int i = 0; i < MANY; i++)
				many_peer_gets(&ones[i], 100);
		}
	/* There are two rounds, and one more hand-over behind an interrupted one. */
	if (p.opts.backend == RINGTLS_BACKEND_URING)
		assert_true(refused >= 2 * COUNT(errors));
	many_close(&p, MANY);
}

/* Nor does what the kernel has left out wait for another call: perhaps none comes. */
static void what_is_taken_by_halves_is_given_at_once(void **state)
{
	struct pair p;

	many_open(&p, *state, FEW, 0);
	for (int i = 0; i < FEW; i++)
		assert_int_equal(many_queue(&ones[i], 100), 1);
	refuse_first(&p, HALF);
	many_submit(&p);
	assert_int_equal(refuse.at, 0);
	if (!is_on_ring(&p)) /* then it was nothing new */
		many_go_on(&p, FEW, 0);
	for (int i = 0; i < FEW; i++)
		many_peer_gets(&ones[i], 100);
	if (is_on_ring(&p))
		many_go_on(&p, FEW, 0);
	many_close(&p, FEW);
}

/* A wait, and the engine's look for stalls: when the kernel has the first, the second's refusal
 * is no reason to take that back, since it will end. */
static void what_is_taken_is_not_taken_back(void **state)
{
	struct ringtls_event ev;
	struct pair p;
	char c;

	pair_need(*state);
	pair_open(&p, *state);
	p.engine->stall_ms = 1; /* so that it has just ended, and is begun again */
	pair_handshake(&p);
	for (int quiet = 0; quiet < 3;)
		quiet = ringtls_engine_wait(p.engine, &ev, 1, 5) ? 0 : quiet + 1;
	p.engine->stall_ms = 10000;
	pair_peer_reads(&p);
	refuse_first(&p, NO_MORE);
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_READ);
	assert_int_equal(refuse.at, 0);
	assert_int_equal(SSL_write(p.peer, "x", 1), 1);
	pair_wait(&p);
	assert_int_equal(ringtls_read(p.conn, &c, 1), 1);
	pair_close(&p);
}

/* Behind what was collected, the next operations are handed over. */
static void a_refusal_hides_no_event(void **state)
{
	struct ringtls_event events[2];
	bool is_told = false;
	struct pair p;
	char c;

	many_open(&p, *state, 2, 0);
	assert_int_equal(ringtls_read(ones[0].conn, &c, 1), -1);
	many_queue_much(&ones[1]);
	many_submit(&p);
	assert_int_equal(SSL_write(ones[0].peer, "x", 1), 1);
	refuse_first(&p, -ENOMEM);
	for (int i = 0; i < 100 && !is_told; i++) {
		int n = many_wait(&p, events, 2, i ? 10 : 0);

		for (int e = 0; e < n; e++)
			is_told |= events[e].conn == ones[0].conn;
	}
	assert_true(is_told);
	assert_int_equal(refuse.at, 0);
	assert_int_equal(ringtls_read(ones[0].conn, &c, 1), 1);
	many_go_on(&p, 1, 0);
	many_close(&p, 2);
}

/* Nor what it was that was refused. */
static void a_refused_submission_shows(void **state)
{
	struct pair p;

	many_open(&p, *state, 1, 0);
	many_queue_much(&ones[0]);
	refuse_first(&p, -ENOMEM);
	assert_int_equal(ringtls_engine_submit(p.engine), is_on_ring(&p) ? -ENOMEM : 0);
	assert_int_equal(refuse.at, 0);
	many_go_on(&p, 1, 0);
	many_close(&p, 1);
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

	many_open(&p, *state, 1, 0);
	assert_int_equal(ringtls_queue_writev(ones[0].conn, &iov, 1, 0), 1);
	for (int i = 0; i < 200; i++) /* until the socket is full */
		assert_true(many_wait(&p, &ev, 1, 1) >= 0);
	misses = p.opts.backend == RINGTLS_BACKEND_URING ? 1 : 0;
	assert_int_equal(ringtls_conn_cancel(ones[0].conn, 0), 0);
	for (int i = 0; i < 100 && !n; i++) {
		many_submit(&p);
		assert_true(many_wait(&p, &ev, 1, 10) >= 0);
		n = ringtls_engine_completions(p.engine, done, 2);
	}
	assert_int_equal(misses, 0);
	assert_true(n > 0);
	assert_int_equal(done[n - 1].error, -ECANCELED);
	many_close(&p, 1);
}

static const struct list_test tests[] = {
#define T(f) { #f, f }
	T(one_system_call_starts_all_connections),
	T(buffers_do_not_grow_with_the_connections),
	T(nor_those_of_several_records),
	T(a_piece_of_a_file_is_given_back_when_it_is_sealed),
	T(who_waits_for_room_is_told),
	T(a_refused_round_goes_with_the_next),
	T(what_is_taken_by_halves_is_given_at_once),
	T(a_refusal_hides_no_event),
	T(a_refused_submission_shows),
	T(a_cancellation_that_misses_is_repeated),
	T(a_descriptor_that_is_asked_for_late),
};

static const struct list_test of_a_ring[] = {
	T(what_is_taken_is_not_taken_back),
	T(a_lone_write_is_not_the_rings),
	T(where_its_socket_is_full_it_is),
	T(what_was_collected_before_shows_too),
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL); /* none may come */
	many_fill();
	list_add_all(tests, COUNT(tests), every_lane, EVERY_LANE);
	for (size_t i = 0; i < EVERY_LANE; i++)
		if (every_lane[i].backend == RINGTLS_BACKEND_URING)
			list_add_all(of_a_ring, COUNT(of_a_ring), &every_lane[i], 1);
	list_add_all(tests, COUNT(tests), on_callers_ring, ON_CALLERS_RING);
	return list_run("many", argc, argv);
}
