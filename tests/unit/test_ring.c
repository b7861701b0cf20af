/*
 * test_ring.c - on a ring of the caller's: shared with the caller's own timers, with
 * a queue that is too small, with fixed files; in every lane, TLS 1.2 and 1.3.
 */
#include "support.h"
#include "list.h"
#include "uring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/err.h>

#define BIG  (2 * 1024 * 1024 + 12345)
#define TAG  0x52544c53u
#define MINE 0x1234567890abcdefull /* the caller's own user_data */

static uint8_t big[BIG];

static struct {
	struct io_uring ring;
	unsigned foreign, ours;
	unsigned sent;
	int error;      /* of the last that was sent */
	uint64_t bytes; /* of all of those */
} my;

/* What a loop on a ring does in a turn; 1 when there was an event. */
static int turn(struct pair *p)
{
	struct __kernel_timespec ts = { .tv_nsec = 5000000 };
	struct ringtls_completion done[16];
	struct ringtls_event events[8];
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;
	int n_events, n_done;

	if (ringtls_engine_submit(p->engine) == -EBUSY)
		assert_true(io_uring_submit(&my.ring) > 0);
	io_uring_submit_and_wait_timeout(&my.ring, &cqe, 1, &ts, NULL);
	io_uring_for_each_cqe(&my.ring, head, cqe) {
		int r = ringtls_engine_feed(p->engine, cqe);

		n++;
		assert_true(r == 0 || r == 1);
		assert_int_equal(r == 0, cqe->user_data == MINE);
		my.foreign += r == 0;
		my.ours += r == 1;
	}
	io_uring_cq_advance(&my.ring, n);
	n_events = ringtls_engine_wait(p->engine, events, 8, 0);
	assert_true(n_events >= 0);
	n_done = ringtls_engine_completions(p->engine, done, 16);
	for (int i = 0; i < n_done; i++) {
		if (!(done[i].flags & RINGTLS_SENT))
			continue;
		my.sent++;
		my.error = done[i].error;
		my.bytes += done[i].bytes;
	}
	return n_events > 0;
}

static void go_on_until_sent(struct pair *p, unsigned n)
{
	for (int quiet = 0; my.sent < n && quiet < 5000; quiet++) {
		turn(p);
		if (p->peer_fd >= 0 && pair_peer_reads(p))
			quiet = 0;
	}
	assert_int_equal(my.sent, n);
}

static void open_ring(unsigned entries, unsigned cq_entries, unsigned flags)
{
	struct io_uring_params params = { .flags = flags, .cq_entries = cq_entries };
	int r;

	memset(&my, 0, sizeof(my));
	if (cq_entries)
		params.flags |= IORING_SETUP_CQSIZE;
	r = io_uring_queue_init_params(entries, &my.ring, &params);
	if (r == -EINVAL && flags) /* a kernel that does not know them */
		r = io_uring_queue_init_params(entries, &my.ring,
					       &(struct io_uring_params){ .flags = 0 });
	need("uring", r == 0);
}

static void open_on(struct pair *p, const struct pair_opts *opts, unsigned entries,
		    unsigned cq_entries, unsigned flags)
{
	struct pair_opts o = *opts;

	pair_need(&o);
	open_ring(entries, cq_entries, flags);
	o.ring = &my.ring;
	o.tag = TAG;
	pair_open(p, &o);
	pair_handshake(p);
	pair_peer_reads(p);
}

static void close_all(struct pair *p)
{
	int r;

	for (int i = 0; (r = ringtls_conn_free(p->conn)) == -EBUSY && i < 5000; i++)
		turn(p);
	assert_int_equal(r, 0);
	p->conn = NULL;
	for (int i = 0; (r = ringtls_engine_free(p->engine)) == -EBUSY && i < 5000; i++)
		turn(p);
	assert_int_equal(r, 0);
	p->engine = NULL;
	pair_close(p);
	io_uring_queue_exit(&my.ring);
}

static void queue(struct pair *p, const uint8_t *bytes, size_t len)
{
	const struct iovec iov = { (void *)(uintptr_t)bytes, len };

	assert_int_equal(ringtls_queue_writev(p->conn, &iov, 1, 7), 1);
}

static int temp_file(const uint8_t *bytes, size_t len)
{
	char name[] = "/tmp/ringtls-test-XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(write(fd, bytes, len), len);
	return fd;
}

/* The caller's own, that comes back after ns. */
static void set_timer(struct __kernel_timespec *ts, long ns)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&my.ring);

	assert_non_null(sqe);
	if (!sqe) /* the compiler does not know that the assertion does not return */
		return;
	*ts = (struct __kernel_timespec){ .tv_nsec = ns };
	io_uring_prep_timeout(sqe, ts, 0, 0);
	sqe->user_data = MINE;
}

#define TURNS (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

/* ---- Tests ------------------------------------------------------------- */

static void shared_with(struct pair_opts o, unsigned flags)
{
	struct __kernel_timespec ts[20];
	struct pair p;

	o.small_buffers = true;
	open_on(&p, &o, 64, 0, flags);
	for (int i = 0; i < 20; i++)
		set_timer(&ts[i], 1000000 * i);
	queue(&p, big, BIG);
	go_on_until_sent(&p, 1);
	assert_int_equal(my.error, 0);
	assert_int_equal(my.bytes, BIG);
	pair_peer_expects(&p, big, BIG);
	for (int i = 0; my.foreign < 20 && i < 5000; i++)
		turn(&p);
	assert_int_equal(my.foreign, 20);
	assert_true(my.ours > 0);
	close_all(&p);
}

static void ring_is_shared_with_the_callers_timers(void **state)
{
	shared_with(*(const struct pair_opts *)*state, 0);
}

static void ring_of_a_single_issuer_that_defers_its_work(void **state)
{
	shared_with(*(const struct pair_opts *)*state, TURNS);
}

static void nothing_is_submitted_but_by_the_caller(void **state)
{
	struct pair p;

	open_on(&p, *state, 64, 0, 0);
	turn(&p);
	queue(&p, big, 1000);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	assert_true(io_uring_sq_ready(&my.ring) > 0);
	usleep(2000);
	assert_int_equal(pair_peer_reads(&p), 0);
	go_on_until_sent(&p, 1);
	pair_peer_expects(&p, big, 1000);
	close_all(&p);
}

static void calls_are_as_on_any_engine(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	size_t written;
	struct pair p;
	char c;
	int r;

	o.small_buffers = true;
	open_on(&p, &o, 64, 0, 0);
	while ((r = ringtls_write_ex(p.conn, big, BIG, &written)) != 1) {
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_WRITE);
		for (int i = 0; i < 5000 && !turn(&p); i++)
			pair_peer_reads(&p);
	}
	pair_peer_expects(&p, big, BIG);
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_READ);
	assert_int_equal(SSL_write(p.peer, "x", 1), 1);
	for (r = 0; r < 5000 && !turn(&p); r++)
		;
	assert_true(r < 5000);
	assert_int_equal(ringtls_read(p.conn, &c, 1), 1);
	while ((r = ringtls_shutdown(p.conn)) < 0)
		turn(&p);
	close_all(&p);
}

static void a_call_on_a_blocking_socket_does_not_sleep(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	size_t written;
	struct pair p;
	char c;

	o.small_buffers = true;
	open_on(&p, &o, 64, 0, 0);
	pair_set_blocking(p.fd);
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_READ);
	assert_int_equal(ringtls_write_ex(p.conn, big, BIG, &written), 0);
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_WANT_WRITE);
	close_all(&p);
}

static void full_submission_queue_loses_nothing(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct __kernel_timespec ts[2];
	struct pair p;
	char c;

	open_on(&p, &o, 2, 0, 0);
	turn(&p);
	/* No room for what the read waits for, nor for the op. */
	set_timer(&ts[0], 1000);
	set_timer(&ts[1], 1000);
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_READ);
	queue(&p, big, 100000);
	assert_int_equal(ringtls_engine_submit(p.engine), -EBUSY);
	assert_int_equal(SSL_write(p.peer, "x", 1), 1);
	go_on_until_sent(&p, 1);
	pair_peer_expects(&p, big, 100000);
	assert_int_equal(ringtls_read(p.conn, &c, 1), 1);
	for (int i = 0; my.foreign < 2 && i < 5000; i++)
		turn(&p);
	assert_int_equal(my.foreign, 2);
	close_all(&p);
}

static void overflown_completion_queue_loses_nothing(void **state)
{
	struct __kernel_timespec ts[64];
	struct pair p;

	open_on(&p, *state, 4, 4, 0);
	for (int i = 0; i < 64; i++) {
		if (!io_uring_sq_space_left(&my.ring))
			assert_true(io_uring_submit(&my.ring) > 0);
		set_timer(&ts[i], 1000);
	}
	queue(&p, big, BIG);
	go_on_until_sent(&p, 1);
	pair_peer_expects(&p, big, BIG);
	for (int i = 0; my.foreign < 64 && i < 5000; i++)
		turn(&p);
	assert_int_equal(my.foreign, 64);
	close_all(&p);
}

static ssize_t not_in_memory(int fd, void *buf, size_t len, off_t at)
{
	(void)fd, (void)buf, (void)len, (void)at;
	return -EAGAIN;
}

static const struct ringtls__sys *cold_disk(void)
{
	static struct ringtls__sys sys;

	sys = ringtls__sys_real;
	sys.pread_cached = not_in_memory;
	return &sys;
}

static void files_are_read_by_the_ring(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	int file = temp_file(big, BIG);
	struct pair p;

	o.small_buffers = true;
	o.sys = cold_disk();
	open_on(&p, &o, 8, 0, 0);
	pair_set_blocking(p.fd);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 1000, BIG, 0), 1);
	queue(&p, big, 1000);
	go_on_until_sent(&p, 2);
	assert_int_equal(my.bytes, BIG);
	pair_peer_gets(&p, BIG); /* sent is not received: its last part may be on its way */
	assert_memory_equal(p.got, big + 1000, BIG - 1000);
	assert_memory_equal(p.got + BIG - 1000, big, 1000);
	close_all(&p);
	close(file);
}

/* A request of a file that the ring is reading when it is cancelled: we know no end of it. */
static void cancel_while_it_is_read(struct pair *p, int file)
{
	const struct ringtls__requests *q = &p->conn->requests;

	assert_int_equal(ringtls_queue_sendfile(p->conn, file, 0, 5000, 7), 1);
	assert_int_equal(ringtls_engine_submit(p->engine), 0);
	assert_non_null(q->read);
	assert_true(io_uring_submit_and_wait(&my.ring, 1) >= 0);
	assert_int_equal(ringtls_conn_cancel(p->conn, 7), 0);
	assert_true(q->read && !q->read->done);
}

static void what_a_cancelled_file_had_read_is_nobodys(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	int file = temp_file(big, BIG);
	uint64_t before;
	struct pair p;

	o.sys = cold_disk();
	open_on(&p, &o, 8, 0, 0);
	pair_set_blocking(p.fd); /* so that the kernel lane, too, reads the files */
	before = p.engine->pool.in_use;
	cancel_while_it_is_read(&p, file);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 100000, 5000, 8), 1);
	go_on_until_sent(&p, 2);
	assert_int_equal(my.error, 0);
	assert_int_equal(my.bytes, 5000);
	pair_peer_expects(&p, big + 100000, 5000);
	/* Nobody comes behind it, and its buffer goes back all the same. */
	cancel_while_it_is_read(&p, file);
	for (int i = 0; p.conn->requests.read && i < 5000; i++)
		turn(&p);
	assert_int_equal(my.sent, 3);
	assert_int_equal(p.engine->pool.in_use, before);
	assert_false(p.conn->waiter.op_over);
	pair_peer_expects(&p, big + 100000, 5000);
	close_all(&p);
	close(file);
}

static void socket_may_be_a_fixed_file(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;
	int fds[3] = { -1, -1, -1 };

	o.small_buffers = true;
	o.fixed_file = 3;
	pair_need(&o);
	open_ring(64, 0, 0);
	o.ring = &my.ring;
	o.tag = TAG;
	pair_open(&p, &o);
	fds[2] = p.fd;
	assert_int_equal(io_uring_register_files(&my.ring, fds, 3), 0);
	pair_handshake(&p);
	queue(&p, big, BIG);
	go_on_until_sent(&p, 1);
	assert_int_equal(my.error, 0);
	pair_peer_expects(&p, big, BIG);
	close_all(&p);
}

/* Only when the last completion was fed is the memory the caller's again. */
static void free_in_mid_flight_is_busy_until_all_is_fed(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;
	uint8_t *copy;
	char c;
	int r;

	pair_need(&o); /* a test that is skipped frees nothing */
	copy = malloc(BIG);
	assert_non_null(copy);
	memcpy(copy, big, BIG);
	o.small_buffers = true;
	open_on(&p, &o, 64, 0, 0);
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	queue(&p, copy, BIG);
	for (int i = 0; i < 5; i++)
		turn(&p);
	assert_int_equal(ringtls_conn_free(p.conn), -EBUSY);
	assert_int_equal(ringtls_conn_free(p.conn), -EBUSY);
	for (r = -EBUSY; r == -EBUSY; r = ringtls_conn_free(p.conn))
		turn(&p);
	assert_int_equal(r, 0);
	p.conn = NULL;
	free(copy);
	assert_int_equal(my.sent, 0);
	shutdown(p.fd, SHUT_WR);
	pair_peer_reads_to_the_end(&p);
	assert_memory_equal(p.got, big, p.got_len);
	close_all(&p);
}

static void cancel_is_exact(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;

	o.small_buffers = true;
	open_on(&p, &o, 64, 0, 0);
	queue(&p, big, BIG);
	for (int i = 0; i < 5; i++)
		turn(&p);
	assert_int_equal(ringtls_conn_cancel(p.conn, 7), 0);
	go_on_until_sent(&p, 1);
	assert_int_equal(my.error, -ECANCELED);
	assert_true(my.bytes < BIG);
	pair_peer_gets(&p, my.bytes);
	assert_memory_equal(p.got, big, p.got_len);
	queue(&p, big, 1000);
	go_on_until_sent(&p, 2);
	close_all(&p);
}

static void strange_completions_are_told_apart(void **state)
{
	union {
		struct io_uring_cqe cqe;
		uint64_t room[4];
	} u;
	struct pair p;

	memset(&u, 0, sizeof(u));
	open_on(&p, *state, 8, 0, 0);
	u.cqe.user_data = (uint64_t)(TAG + 1) << 32;
	assert_int_equal(ringtls_engine_feed(p.engine, &u.cqe), 0);
	u.cqe.user_data = (uint64_t)TAG << 32 | 100000;
	assert_int_equal(ringtls_engine_feed(p.engine, &u.cqe), -EINVAL);
	assert_int_equal(ringtls_engine_fd(p.engine), -EINVAL);
	assert_int_equal(ringtls_engine_wait(p.engine, &(struct ringtls_event){ 0 }, 1, 10), -EINVAL);
	close_all(&p);
}

static void ring_and_backend_go_together(void **state)
{
	struct ringtls_engine_opts opts = { .size = sizeof(opts),
					    .backend = RINGTLS_BACKEND_CALLER };
	struct ringtls_engine *e;

	(void)state;
	assert_int_equal(ringtls_engine_new(&e, &opts), -EINVAL);
	open_ring(8, 0, 0);
	opts.ring = &my.ring;
	opts.backend = RINGTLS_BACKEND_AUTO;
	assert_int_equal(ringtls_engine_new(&e, &opts), -EINVAL);
	opts.backend = RINGTLS_BACKEND_CALLER;
	assert_int_equal(ringtls_engine_new(&e, &opts), 0);
	assert_int_equal(ringtls_engine_free(e), 0);
	io_uring_queue_exit(&my.ring);
}

/* ---- The list ---------------------------------------------------------- */

#define O(l, v)                                                                                    \
	{ .lane = RINGTLS_LANE_##l, .backend = RINGTLS_BACKEND_CALLER,                             \
	  .version = TLS1_##v##_VERSION }

static const struct pair_opts combinations[] = {
	O(OPENSSL, 3), O(OPENSSL, 2), O(USER, 3), O(USER, 2), O(KERNEL, 3), O(KERNEL, 2),
};

static const struct list_test tests[] = {
#define T(f) { #f, f }
	T(ring_is_shared_with_the_callers_timers),
	T(ring_of_a_single_issuer_that_defers_its_work),
	T(nothing_is_submitted_but_by_the_caller),
	T(calls_are_as_on_any_engine),
	T(a_call_on_a_blocking_socket_does_not_sleep),
	T(full_submission_queue_loses_nothing),
	T(overflown_completion_queue_loses_nothing),
	T(files_are_read_by_the_ring),
	T(what_a_cancelled_file_had_read_is_nobodys),
	T(socket_may_be_a_fixed_file),
	T(free_in_mid_flight_is_busy_until_all_is_fed),
	T(cancel_is_exact),
	T(strange_completions_are_told_apart),
	T(ring_and_backend_go_together),
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL); /* none may come */
	pair_fill(big, BIG);
	list_add_all(tests, COUNT(tests), combinations, COUNT(combinations));
	return list_run("ring", argc, argv);
}
