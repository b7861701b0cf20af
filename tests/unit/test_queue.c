/*
 * test_queue.c - queued writes and files against a stock OpenSSL peer over loopback: in
 * every lane and engine, TLS 1.2 and 1.3.
 */
#include "support.h"
#include "list.h"
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <openssl/err.h>

#define BIG      (3 * 1024 * 1024 + 12345)
#define REQUESTS 400

static uint8_t big[BIG];

/* What the caller was told of each request, by its id. */
static struct {
	struct ringtls_completion sent[REQUESTS];
	unsigned n_released, n_sent;
	uint64_t last_released;
} told;

/* At most max, of 8; how many there were. */
static int collect_some(struct pair *p, unsigned max)
{
	struct ringtls_completion done[8];
	int n = ringtls_engine_completions(p->engine, done, max);

	for (int i = 0; i < n; i++) {
		assert_ptr_equal(done[i].conn, p->conn);
		assert_ptr_equal(done[i].user, p);
		assert_int_not_equal(done[i].flags, 0);
		if (done[i].flags & RINGTLS_RELEASED) {
			assert_int_equal(done[i].id, told.n_released);
			told.n_released++;
		}
		if (done[i].flags & RINGTLS_SENT) {
			assert_int_equal(done[i].id, told.n_sent); /* in order */
			assert_true(told.n_sent < told.n_released);
			told.sent[told.n_sent++] = done[i];
		}
	}
	return n;
}

static void collect(struct pair *p)
{
	int n;

	while ((n = collect_some(p, 8)) > 0)
		;
	assert_int_equal(n, 0);
}

/* Lets the engine and the peer go on until so many requests are told to be sent. */
static void go_on_until_sent(struct pair *p, unsigned n)
{
	struct ringtls_event ev;

	while (told.n_sent < n) {
		unsigned before = told.n_sent;
		size_t read;

		assert_true(ringtls_engine_wait(p->engine, &ev, 1, 0) >= 0);
		collect(p);
		read = p->peer_fd >= 0 ? pair_peer_reads(p) : 0;
		if (!read && told.n_sent == before)
			pair_sleep(p);
	}
	assert_int_equal(told.n_sent, n);
}

static void open_shaken(struct pair *p, const struct pair_opts *o)
{
	pair_need(o);
	memset(&told, 0, sizeof(told));
	pair_open(p, o);
	pair_handshake(p);
	pair_peer_reads(p);
}

static void queue(struct pair *p, const uint8_t *bytes, size_t len, uint64_t id)
{
	const struct iovec iov = { (void *)(uintptr_t)bytes, len };

	assert_int_equal(ringtls_queue_writev(p->conn, &iov, 1, id), 1);
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

/* ---- Queued writes ----------------------------------------------------- */

static void requests_arrive_and_are_told_in_order(void **state)
{
	static const size_t sizes[] = { 1, 0, 100, 16383, 16384, 16385, 65536, 1000000, 7 };
	struct pair_opts o = *(const struct pair_opts *)*state;
	size_t at = 0, n = sizeof(sizes) / sizeof(sizes[0]);
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	for (size_t i = 0; i < n; i++) {
		queue(&p, big + at, sizes[i], i);
		at += sizes[i];
	}
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	go_on_until_sent(&p, (unsigned)n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(told.sent[i].error, 0);
		assert_int_equal(told.sent[i].bytes, sizes[i]);
	}
	pair_peer_expects(&p, big, at);
	assert_int_equal(pair_info(&p).bytes, at);
	pair_close(&p);
}

static void nothing_is_sent_before_it_is_started(void **state)
{
	struct ringtls_event ev;
	struct pair p;

	open_shaken(&p, *state);
	queue(&p, big, 100, 0);
	usleep(2000);
	assert_int_equal(pair_peer_reads(&p), 0);
	/* Waiting starts it, too. */
	assert_true(ringtls_engine_wait(p.engine, &ev, 1, 0) >= 0);
	go_on_until_sent(&p, 1);
	pair_peer_expects(&p, big, 100);
	pair_close(&p);
}

static void small_requests_share_a_record(void **state)
{
	const struct pair_opts *o = *state;
	uint64_t before;
	struct pair p;

	open_shaken(&p, o);
	before = pair_info(&p).records;
	for (unsigned i = 0; i < 10; i++)
		queue(&p, big + i * 100, 100, i);
	go_on_until_sent(&p, 10);
	pair_peer_expects(&p, big, 1000);
	if (o->lane != RINGTLS_LANE_OPENSSL)
		assert_true(pair_info(&p).records - before <= 2);
	pair_close(&p);
}

/* In the kernel lane none need be; the others have so many tries until one is. */
static bool sealed_only(const struct pair_opts *o)
{
	return o->lane != RINGTLS_LANE_KERNEL && told.n_released == told.n_sent;
}

/* Released is not sent: a sealed byte needs its memory no more. */
static void sealed_bytes_are_released_though_the_socket_is_full(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	uint8_t *copy;
	struct ringtls_event ev;
	unsigned n = 0;
	struct pair p;

	pair_need(&o); /* a test that is skipped frees nothing */
	copy = malloc(BIG);
	assert_non_null(copy);
	memcpy(copy, big, BIG);
	o.small_buffers = true;
	open_shaken(&p, &o);
	for (size_t at = 0; at < BIG && n < 200; at += 16384, n++)
		queue(&p, copy + at, BIG - at < 16384 ? BIG - at : 16384, n);
	for (int i = 0; i < (sealed_only(&o) ? 1000 : 10); i++) {
		unsigned before = told.n_released;

		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 10) >= 0);
		collect(&p);
		/* Whatever is read of it from now on is seen to be wrong. */
		for (unsigned id = before; id < told.n_released; id++)
			memset(copy + id * 16384, 0xee, BIG - id * 16384 < 16384 ?
							  BIG - id * 16384 : 16384);
	}
	assert_true(told.n_sent < n);
	if (o.lane != RINGTLS_LANE_KERNEL)
		assert_true(told.n_released > told.n_sent);
	go_on_until_sent(&p, n);
	pair_peer_expects(&p, big, n * 16384 < BIG ? n * 16384 : BIG);
	pair_close(&p);
	free(copy);
}

/* That the first is sent comes to a list in which those behind it still stand, released. */
static void who_collects_one_at_a_time_is_told_in_order(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct ringtls_event ev;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	for (unsigned i = 0; i < 8; i++)
		queue(&p, big + i * 10000, 10000, i);
	while (told.n_sent < 8) {
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 1) >= 0);
		assert_true(collect_some(&p, 1) >= 0);
		pair_peer_reads(&p);
	}
	pair_peer_expects(&p, big, 80000);
	pair_close(&p);
}

static void full_queue_answers_want_write_and_wakes(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	const struct iovec iov = { big, 100000 };
	struct pair p;
	unsigned n = 0;
	int r;

	o.small_buffers = true;
	open_shaken(&p, &o);
	while ((r = ringtls_queue_writev(p.conn, &iov, 1, n)) == 1)
		n++;
	assert_int_equal(n, 256);
	assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_WRITE);
	for (int i = 0; i < 2000 && !told.n_sent; i++) {
		struct ringtls_event ev = { NULL, NULL };

		pair_peer_reads(&p);
		r = ringtls_engine_wait(p.engine, &ev, 1, 10);
		assert_true(r >= 0);
		collect(&p);
	}
	assert_int_equal(ringtls_queue_writev(p.conn, &iov, 1, n), 1);
	pair_close(&p);
}

static void calls_go_behind_what_is_queued(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	int file = temp_file(big, BIG);
	struct ringtls_event ev;
	size_t written;
	struct pair p;
	int r;

	o.small_buffers = true;
	open_shaken(&p, &o);
	queue(&p, big, 200000, 0);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 200000, 300000, 1), 1);
	queue(&p, big + 500000, 100000, 2);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	while ((r = ringtls_write_ex(p.conn, big + 600000, 50000, &written)) != 1) {
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_WRITE);
		/* What was queued is told meanwhile, and then that the call may go on. */
		do {
			pair_peer_reads(&p);
			r = ringtls_engine_wait(p.engine, &ev, 1, 10);
			collect(&p);
		} while (r == 0);
		assert_int_equal(r, 1);
	}
	assert_int_equal(ringtls_engine_completions(p.engine, NULL, 0), 0);
	collect(&p);
	assert_int_equal(told.n_sent, 3);
	queue(&p, big + 650000, 1000, 3);
	while ((r = ringtls_shutdown(p.conn)) < 0) {
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(&p);
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 10) >= 0);
		collect(&p);
	}
	go_on_until_sent(&p, 4);
	pair_peer_reads_to_the_end(&p);
	assert_int_equal(p.got_len, 651000);
	assert_memory_equal(p.got, big, 651000);
	assert_int_equal(p.peer_error, SSL_ERROR_ZERO_RETURN);
	pair_close(&p);
	close(file);
}

/* ---- Files ------------------------------------------------------------- */

/* It was told by the call that it belongs to. */
static void error_of_an_earlier_sendfile_is_not_a_queued_files(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	int file = temp_file(big, 50000);
	struct pair p;

	open_shaken(&p, &o);
	assert_int_equal(ringtls_sendfile(p.conn, -1, 0, 100, 0), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SYSCALL);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 0, 50000, 0), 1);
	go_on_until_sent(&p, 1);
	assert_int_equal(told.sent[0].error, 0);
	assert_int_equal(told.sent[0].bytes, 50000);
	pair_peer_expects(&p, big, 50000);
	pair_close(&p);
	close(file);
}

static void files_go_between_writes(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	int file = temp_file(big, BIG);
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	queue(&p, big, 1000, 0);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 1000, BIG - 3000, 1), 1);
	queue(&p, big + BIG - 2000, 1000, 2);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, BIG - 1000, 1000, 3), 1);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	go_on_until_sent(&p, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(told.sent[i].error, 0);
	assert_int_equal(told.sent[1].bytes, BIG - 3000);
	pair_peer_expects(&p, big, BIG);
	assert_int_equal(lseek(file, 0, SEEK_CUR), BIG); /* the position is the caller's */
	pair_close(&p);
	close(file);
}

static void a_shorter_file_is_sent_as_it_is(void **state)
{
	int file = temp_file(big, 100000), empty = temp_file(big, 0);
	struct pair p;

	open_shaken(&p, *state);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 0, SIZE_MAX, 0), 1);
	assert_int_equal(ringtls_queue_sendfile(p.conn, empty, 0, 5000, 1), 1);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 200000, 5000, 2), 1);
	queue(&p, big + 100000, 1000, 3);
	go_on_until_sent(&p, 4);
	assert_int_equal(told.sent[0].bytes, 100000);
	assert_int_equal(told.sent[1].bytes, 0);
	assert_int_equal(told.sent[2].bytes, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(told.sent[i].error, 0);
	pair_peer_expects(&p, big, 101000);
	pair_close(&p);
	close(file);
	close(empty);
}

static void an_unreadable_file_ends_those_behind_it(void **state)
{
	int folder = open("/tmp", O_RDONLY);
	struct pair p;

	open_shaken(&p, *state);
	queue(&p, big, 1000, 0);
	assert_int_equal(ringtls_queue_sendfile(p.conn, folder, 0, 5000, 1), 1);
	queue(&p, big + 1000, 1000, 2);
	go_on_until_sent(&p, 3);
	assert_int_equal(told.sent[0].error, 0);
	/* EISDIR by read(2), EINVAL by sendfile(2). */
	assert_true(told.sent[1].error == -EISDIR || told.sent[1].error == -EINVAL);
	assert_int_equal(told.sent[1].bytes, 0);
	assert_int_equal(told.sent[2].error, -ECANCELED);
	assert_int_equal(told.sent[2].bytes, 0);
	/* The connection lives. */
	queue(&p, big + 1000, 1000, 3);
	go_on_until_sent(&p, 4);
	assert_int_equal(told.sent[3].error, 0);
	pair_peer_expects(&p, big, 2000);
	pair_close(&p);
	close(folder);
}

static void files_on_a_blocking_socket_do_not_block(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	int file = temp_file(big, BIG);
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	pair_set_blocking(p.fd);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 0, BIG, 0), 1);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	go_on_until_sent(&p, 1);
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
	close(file);
}

static void queue_pieces(struct pair *p, const uint8_t *bytes, uint64_t id)
{
	struct iovec iov[20];

	for (unsigned i = 0; i < 20; i++)
		iov[i] = (struct iovec){ (void *)(uintptr_t)(bytes + i * 100), 100 };
	assert_int_equal(ringtls_queue_writev(p->conn, iov, 20, id), 1);
}

/* Both may need a buffer, and not of the same size. */
static void files_and_small_pieces_take_turns(void **state)
{
	int file = temp_file(big, BIG);
	struct pair p;

	open_shaken(&p, *state);
	queue_pieces(&p, big, 0);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 2000, 300000, 1), 1);
	queue_pieces(&p, big + 302000, 2);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 304000, 300000, 3), 1);
	queue_pieces(&p, big + 604000, 4);
	go_on_until_sent(&p, 5);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(told.sent[i].error, 0);
		assert_int_equal(told.sent[i].bytes, i % 2 ? 300000 : 2000);
	}
	pair_peer_expects(&p, big, 606000);
	pair_close(&p);
	close(file);
}

static void what_is_sent_leaves_no_buffer_behind(void **state)
{
	int file = temp_file(big, 100000);
	struct pair p;
	uint64_t before;

	open_shaken(&p, *state);
	pair_set_blocking(p.fd); /* so that the kernel lane, too, reads the files */
	before = p.engine->pool.in_use;
	for (unsigned id = 0; id < 4; id++) {
		if (id % 2)
			queue_pieces(&p, big, id);
		else
			assert_int_equal(ringtls_queue_sendfile(p.conn, file, 0,
								id ? SIZE_MAX : 100000, id), 1);
		go_on_until_sent(&p, id + 1);
		assert_int_equal(p.engine->pool.in_use, before);
	}
	pair_close(&p);
	close(file);
}

/* ---- Ends -------------------------------------------------------------- */

static void cancel_is_exact(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct ringtls_event ev;
	uint64_t n;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	queue(&p, big, BIG, 0);
	queue(&p, big, 5000, 1);
	queue(&p, big, 1000, 2);
	for (int i = 0; i < 5; i++)
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 10) >= 0);
	assert_int_equal(ringtls_conn_cancel(p.conn, 7), -ENOENT);
	assert_int_equal(ringtls_conn_cancel(p.conn, 0), 0);
	assert_int_equal(ringtls_conn_cancel(p.conn, 0), -ENOENT);
	assert_int_equal(ringtls_conn_cancel(p.conn, 1), 0);
	go_on_until_sent(&p, 3);
	assert_int_equal(told.sent[0].error, -ECANCELED);
	n = told.sent[0].bytes;
	assert_true(n > 0 && n < BIG);
	assert_int_equal(told.sent[1].error, -ECANCELED);
	assert_int_equal(told.sent[1].bytes, 0);
	assert_int_equal(told.sent[2].error, 0);
	/* Exactly what was told, and then what was not cancelled. */
	pair_peer_gets(&p, n + 1000);
	assert_memory_equal(p.got, big, n);
	assert_memory_equal(p.got + n, big, 1000);
	pair_close(&p);
}

static int is_corked(const struct pair *p)
{
	int value = -1;
	socklen_t len = sizeof(value);

	assert_int_equal(getsockopt(p->fd, IPPROTO_TCP, TCP_CORK, &value, &len), 0);
	return value;
}

/* The kernel hands each record to TCP by itself, and they should share segments; but not where
 * the buffer is so small that what is held back could be all that fits. */
static void records_of_an_operation_leave_together(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;

	for (int small = 0; small < 2; small++) {
		struct pair p;

		o.small_buffers = small;
		open_shaken(&p, &o);
		queue(&p, big, BIG, 0);
		assert_int_equal(ringtls_engine_submit(p.engine), 0);
		if (o.lane == RINGTLS_LANE_KERNEL && p.opts.backend == RINGTLS_BACKEND_URING)
			assert_int_equal(is_corked(&p), !small);
		else
			assert_int_equal(is_corked(&p), 0);
		assert_int_equal(ringtls_conn_cancel(p.conn, 0), 0);
		go_on_until_sent(&p, 1);
		assert_int_equal(is_corked(&p), 0);
		pair_close(&p);
	}
}

static void a_cancelled_file_ends_where_it_is(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	int file = temp_file(big, BIG);
	struct ringtls_event ev;
	uint64_t n;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 0, BIG, 0), 1);
	for (int i = 0; i < 5; i++)
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 10) >= 0);
	assert_int_equal(ringtls_conn_cancel(p.conn, 0), 0);
	queue(&p, big, 1000, 1);
	go_on_until_sent(&p, 2);
	assert_int_equal(told.sent[0].error, -ECANCELED);
	n = told.sent[0].bytes;
	assert_true(n < BIG);
	pair_peer_gets(&p, n + 1000);
	assert_memory_equal(p.got, big, n);
	assert_memory_equal(p.got + n, big, 1000);
	pair_close(&p);
	close(file);
}

static void free_in_mid_flight_gives_the_memory_back(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	uint8_t *copy;
	struct ringtls_event ev;
	struct pair p;

	pair_need(&o); /* a test that is skipped frees nothing */
	copy = malloc(BIG);
	assert_non_null(copy);
	memcpy(copy, big, BIG);
	o.small_buffers = true;
	open_shaken(&p, &o);
	queue(&p, copy, BIG, 0);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	assert_true(ringtls_engine_wait(p.engine, &ev, 1, 10) >= 0);
	assert_int_equal(ringtls_conn_free(p.conn), 0);
	p.conn = NULL;
	free(copy); /* a sanitizer, or the peer, sees who reads it now */
	shutdown(p.fd, SHUT_WR);
	pair_peer_reads_to_the_end(&p);
	assert_true(p.got_len < BIG);
	assert_memory_equal(p.got, big, p.got_len);
	collect(&p); /* nothing is told any more */
	assert_int_equal(told.n_sent, 0);
	pair_close(&p);
}

static void a_reset_ends_all_with_its_error(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct linger hard = { 1, 0 };
	struct ringtls_event ev;
	uint64_t sent = 0;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	for (unsigned i = 0; i < 5; i++)
		queue(&p, big, 1000000, i);
	for (int i = 0; i < 3; i++)
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 10) >= 0);
	assert_int_equal(setsockopt(p.peer_fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	close(p.peer_fd);
	p.peer_fd = -1;
	go_on_until_sent(&p, 5);
	for (unsigned i = 0; i < 5; i++) {
		assert_true(told.sent[i].error == -ECONNRESET || told.sent[i].error == -EPIPE);
		sent += told.sent[i].bytes;
	}
	assert_true(sent < 5000000);
	assert_int_equal(pair_info(&p).bytes, sent);
	assert_int_equal(ringtls_queue_writev(p.conn, NULL, 0, 5), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SYSCALL);
	pair_close(&p);
}

static void reads_go_on_meanwhile(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct ringtls_event ev;
	char c;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	queue(&p, big, BIG, 0);
	for (int i = 0; i < 5; i++)
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 5) >= 0);
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_READ);
	assert_int_equal(SSL_write(p.peer, "x", 1), 1);
	/* The event is for the read. */
	assert_int_equal(ringtls_engine_wait(p.engine, &ev, 1, 10000), 1);
	assert_ptr_equal(ev.conn, p.conn);
	assert_int_equal(ringtls_read(p.conn, &c, 1), 1);
	go_on_until_sent(&p, 1);
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
}

/* TLS 1.2 has no KeyUpdate. */
static void need_tls_1_3(const struct pair_opts *o)
{
	if (o->version == TLS1_3_VERSION)
		return;
	print_message("# needs TLS 1.3\n");
	skip();
}

/* A KeyUpdate asked for while an op is in flight gets between two records. */
static void keys_are_renewed_in_mid_flight(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct ringtls_event ev;
	struct pair p;

	o.small_buffers = true;
	pair_need(&o);
	need_tls_1_3(&o);
	if (o.lane == RINGTLS_LANE_KERNEL)
		need("rekey", !ringtls__probe_get()->rekey);
	open_shaken(&p, &o);
	for (unsigned i = 0; i < 8; i++) {
		queue(&p, big + i * 300000, 300000, i);
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 5) >= 0);
		assert_int_equal(SSL_key_update(p.peer, SSL_KEY_UPDATE_REQUESTED), 1);
		pair_peer_sends_a_byte(&p);
	}
	go_on_until_sent(&p, 8);
	pair_peer_expects(&p, big, 8 * 300000);
	pair_close(&p);
}

static void a_key_that_is_used_up_is_renewed_in_mid_flight(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;

	pair_need(&o);
	need_tls_1_3(&o);
	if (o.lane == RINGTLS_LANE_KERNEL)
		need("rekey", !ringtls__probe_get()->rekey);
	o.max_records = 20;
	open_shaken(&p, &o);
	for (unsigned i = 0; i < 8; i++)
		queue(&p, big + i * 300000, 300000, i);
	go_on_until_sent(&p, 8);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(told.sent[i].error, 0);
	pair_peer_expects(&p, big, 8 * 300000);
	pair_close(&p);
}

/* The peer's messages: how many bytes it had read when an update came. */
static struct {
	size_t at[2];
	unsigned n;
} updates;

static void on_message(int is_written, int version, int type, const void *bytes, size_t len,
		       SSL *peer, void *arg)
{
	const struct pair *p = arg;

	(void)version, (void)peer;
	if (is_written || type != SSL3_RT_HANDSHAKE || !len ||
	    *(const uint8_t *)bytes != SSL3_MT_KEY_UPDATE)
		return;
	assert_true(updates.n < 2);
	updates.at[updates.n++] = p->got_len;
}

/* The first update of ours was handed over to be sent, and the key behind it not used yet. */
static bool is_between_keys(const struct ringtls__tx *tx)
{
	const struct ringtls__item *head = tx->q.head;

	return head && (head->kind == RINGTLS__ITEM_KEYS ||
			(head->kind == RINGTLS__ITEM_RECORD && tx->in_flight));
}

/* What is over is known, and the connection has not gone on. */
static void look_around(struct pair *p)
{
	int r;

	assert_int_equal(p->engine->backend->submit(p->engine), 0);
	r = p->engine->backend->collect(p->engine, 1);
	assert_true(r == 0 || r == -EINTR);
	ringtls__round_begin(p->engine);
}

/* Until nothing more is taken: the peer does not read. */
static void fill(struct pair *p)
{
	for (int quiet = 0; quiet < 20; quiet++) {
		uint64_t before = p->conn->tx.moved;

		look_around(p);
		ringtls__advance(p->conn);
		if (p->conn->tx.moved != before)
			quiet = 0;
	}
}

/* Stops where the peer has our update and we have not gone on since: a turn more, and the
 * next data would be sealed. */
static void go_on_until_updated(struct pair *p)
{
	const struct ringtls__tx *tx = &p->conn->tx;

	for (int quiet = 0; !updates.n; quiet++) {
		assert_true(quiet < 5000);
		look_around(p);
		if (pair_peer_reads(p))
			quiet = 0;
		if (!is_between_keys(tx) || (!tx->in_flight && tx->out.bytes))
			ringtls__advance(p->conn);
	}
	collect(p);
}

static void peer_asks(struct pair *p)
{
	struct pollfd pfd = { .fd = p->fd, .events = POLLIN };

	assert_int_equal(SSL_key_update(p->peer, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_write(p->peer, "x", 1), 1);
	assert_int_equal(poll(&pfd, 1, 10000), 1);
}

static void we_read(struct pair *p)
{
	struct pollfd pfd = { .fd = p->fd, .events = POLLIN };
	char c;

	while (ringtls_read(p->conn, &c, 1) != 1) {
		assert_int_equal(ringtls_get_error(p->conn, -1), SSL_ERROR_WANT_READ);
		assert_int_equal(poll(&pfd, 1, 10000), 1);
	}
}

/* How many bytes were sealed by now, or can't be held back any more. */
static uint64_t sealed_bytes(const struct ringtls_conn *c)
{
	bool is_sending = c->tx.in_flight && c->tx.state == RINGTLS__TX_KERNEL &&
			  c->op->kind != RINGTLS__OP_RECORD;

	return c->tx.app_bytes + c->tx.app_held + (is_sending ? c->op->len : 0);
}

/* RFC 8446 4.6.3: no data between a request and its answer. While the key of the answer
 * to a first request waits, the answer to a second is put off. */
static void answer_that_was_put_off_goes_before_the_next_data(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	unsigned n = 1;
	uint64_t sealed;
	struct pair p;

	o.small_buffers = true;
	pair_need(&o);
	need_tls_1_3(&o);
	if (o.lane == RINGTLS_LANE_KERNEL)
		need("rekey", !ringtls__probe_get()->rekey);
	open_shaken(&p, &o);
	memset(&updates, 0, sizeof(updates));
	SSL_set_msg_callback(p.peer, on_message);
	SSL_set_msg_callback_arg(p.peer, &p);
	queue(&p, big, 600000, 0);
	peer_asks(&p);
	fill(&p); /* not before the peer spoke: with that it told TCP of more room */
	we_read(&p);
	go_on_until_updated(&p);
	sealed = sealed_bytes(p.conn);
	peer_asks(&p);
	we_read(&p);
	if (o.lane == RINGTLS_LANE_OPENSSL) /* OpenSSL answers by itself, with the next write */
		queue(&p, big + 600000, 1000, n++);
	go_on_until_sent(&p, n);
	pair_peer_expects(&p, big, n == 1 ? 600000 : 601000);
	assert_int_equal(updates.n, 2);
	assert_true(updates.at[1] <= sealed);
	pair_close(&p);
}

/* ---- The engine -------------------------------------------------------- */

static void descriptor_tells_of_completions(void **state)
{
	struct pollfd pfd = { .events = POLLIN };
	struct pair p;

	open_shaken(&p, *state);
	pfd.fd = ringtls_engine_fd(p.engine);
	queue(&p, big, 100, 0);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	while (told.n_sent < 1) {
		struct ringtls_event ev;

		assert_int_equal(poll(&pfd, 1, 10000), 1);
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 0) >= 0);
		collect(&p);
	}
	pair_close(&p);
}

static void warm_queue_allocates_nothing(void **state)
{
	struct pair p;
	uint64_t before = 0;
	unsigned n = 0;

	open_shaken(&p, *state);
	for (int round = 0; round < 10; round++) {
		if (round == 3)
			before = p.engine->pool.allocations;
		for (int i = 0; i < 30; i++, n++)
			queue(&p, big + n, 1000, n);
		go_on_until_sent(&p, n);
	}
	assert_int_equal(p.engine->pool.allocations, before);
	pair_close(&p);
}

static void the_child_of_a_fork_may_free(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct ringtls_event ev;
	int status;
	struct pair p;
	pid_t pid;

	o.small_buffers = true;
	open_shaken(&p, &o);
	queue(&p, big, BIG, 0);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	assert_true(ringtls_engine_wait(p.engine, &ev, 1, 5) >= 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(ringtls_conn_free(p.conn) != 0 || ringtls_engine_free(p.engine) != 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	go_on_until_sent(&p, 1);
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
}

/* ---- The list ---------------------------------------------------------- */

static const struct list_test tests[] = {
#define T(f) { #f, f }
	T(requests_arrive_and_are_told_in_order),
	T(nothing_is_sent_before_it_is_started),
	T(small_requests_share_a_record),
	T(sealed_bytes_are_released_though_the_socket_is_full),
	T(who_collects_one_at_a_time_is_told_in_order),
	T(full_queue_answers_want_write_and_wakes),
	T(calls_go_behind_what_is_queued),
	T(files_go_between_writes),
	T(error_of_an_earlier_sendfile_is_not_a_queued_files),
	T(a_shorter_file_is_sent_as_it_is),
	T(an_unreadable_file_ends_those_behind_it),
	T(files_on_a_blocking_socket_do_not_block),
	T(files_and_small_pieces_take_turns),
	T(what_is_sent_leaves_no_buffer_behind),
	T(cancel_is_exact),
	T(records_of_an_operation_leave_together),
	T(a_cancelled_file_ends_where_it_is),
	T(free_in_mid_flight_gives_the_memory_back),
	T(a_reset_ends_all_with_its_error),
	T(reads_go_on_meanwhile),
	T(keys_are_renewed_in_mid_flight),
	T(a_key_that_is_used_up_is_renewed_in_mid_flight),
	T(answer_that_was_put_off_goes_before_the_next_data),
	T(descriptor_tells_of_completions),
	T(warm_queue_allocates_nothing),
	T(the_child_of_a_fork_may_free),
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL); /* none may come */
	pair_fill(big, BIG);
	list_add_all(tests, COUNT(tests), every_lane, EVERY_LANE);
	return list_run("queue", argc, argv);
}
