/*
 * test_stream.c - the SSL_write family against a stock OpenSSL peer over loopback,
 * in every lane and engine, TLS 1.2 and 1.3. The kernel lane runs in the lab.
 */
#include "support.h"
#include "list.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/err.h>

#define BIG (3 * 1024 * 1024 + 12345)

static uint8_t big[BIG];

static void open_shaken(struct pair *p, const struct pair_opts *o)
{
	pair_need(o);
	pair_open(p, o);
	pair_handshake(p);
}

static void bytes_arrive_in_order(void **state)
{
	static const size_t sizes[] = { 1, 100, 16383, 16384, 16385, 65536, BIG };
	const struct pair_opts *o = *state;
	struct pair p;

	open_shaken(&p, o);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		pair_write_all(&p, big, sizes[i]);
		pair_peer_expects(&p, big, sizes[i]);
		p.got_len = 0;
	}
	assert_int_equal(pair_info(&p).lane, o->lane);
	pair_close(&p);
}

static void the_lane_and_its_reason_are_told(void **state)
{
	const struct pair_opts *o = *state;
	struct ringtls_conn_info info;
	struct pair p;

	pair_need(o);
	pair_open(&p, o);
	info = pair_info(&p);
	assert_int_equal(info.lane, RINGTLS_LANE_AUTO);
	assert_int_equal(info.reason, RINGTLS_REASON_HANDSHAKE);
	pair_handshake(&p);
	pair_write_all(&p, big, 20000);
	info = pair_info(&p);
	assert_int_equal(info.lane, o->lane);
	assert_int_equal(info.reason, o->lane == RINGTLS_LANE_KERNEL ? RINGTLS_REASON_NONE :
								      RINGTLS_REASON_ASKED);
	assert_int_equal(info.version, o->version);
	assert_int_equal(info.bytes, 20000);
	assert_true(info.records >= 2);
	assert_int_equal(info.epochs, o->lane != RINGTLS_LANE_OPENSSL);
	pair_close(&p);
}

/* Fills the socket, and the peer's: the write can't be done, and stays so. */
static void write_until_quiet(struct pair *p, const uint8_t *bytes, size_t len, int quiet_ms)
{
	struct ringtls_event ev;
	size_t written;

	do {
		assert_int_equal(ringtls_write_ex(p->conn, bytes, len, &written), 0);
		assert_int_equal(ringtls_get_error(p->conn, 0), SSL_ERROR_WANT_WRITE);
	} while (ringtls_engine_wait(p->engine, &ev, 1, quiet_ms) == 1);
}

static void write_until_full(struct pair *p, const uint8_t *bytes, size_t len)
{
	write_until_quiet(p, bytes, len, 20);
}

static void full_socket_answers_want_write_and_wakes_when_the_peer_reads(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct ringtls_event ev;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	/* Nobody reads: no event, however often it is asked. On a busy machine TCP goes on to fill
	 * the peer's buffer even after a second, and then the event is true. */
	for (int tries = 0;; tries++) {
		write_until_quiet(&p, big, BIG, 1000);
		if (ringtls_engine_wait(p.engine, &ev, 1, 0) == 0 &&
		    ringtls_engine_wait(p.engine, &ev, 1, 20) == 0)
			break;
		assert_false(pair_is_full(&p));
		assert_true(tries < 10);
	}
	pair_peer_reads(&p);
	pair_wait(&p);
	pair_write_all(&p, big, BIG);
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
}

static void wait_and_read(struct pair *p)
{
	struct pollfd pfd = { .fd = ringtls_engine_fd(p->engine), .events = POLLIN };
	int r = 0;

	for (int tries = 0; r == 0 && tries < 100; tries++) {
		pair_peer_reads(p);
		r = poll(&pfd, 1, 100);
	}
	assert_int_equal(r, 1);
}

/* By small writes, that go out without the ring. */
static void fill_bit_by_bit(struct pair *p)
{
	while (ringtls_write(p->conn, big, 5000) == 5000)
		;
	assert_int_equal(ringtls_get_error(p->conn, -1), SSL_ERROR_WANT_WRITE);
}

/* Two waits of one connection: the end of the second must not be taken for seen when
 * only the first was collected. */
static void second_wait_wakes_after_the_first_was_collected(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pollfd ours;
	struct ringtls_event ev;
	struct pair p;
	char c;

	o.small_buffers = true;
	open_shaken(&p, &o);
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	assert_int_equal(SSL_write(p.peer, "x", 1), 1);
	wait_and_read(&p);
	fill_bit_by_bit(&p);
	pair_peer_reads(&p);
	ours = (struct pollfd){ .fd = p.fd, .events = POLLOUT };
	while (poll(&ours, 1, 20) == 0)
		pair_peer_reads(&p);
	assert_int_equal(ringtls_engine_wait(p.engine, &ev, 1, 10000), 1);
	for (int i = 0; i < 3; i++) {
		fill_bit_by_bit(&p);
		wait_and_read(&p);
		ringtls_engine_wait(p.engine, &ev, 1, 0);
	}
	pair_close(&p);
}

static void buffer_is_not_read_between_calls(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	uint8_t *copy;
	size_t written;
	struct pair p;
	int r;

	o.small_buffers = true;
	pair_need(&o); /* a test that is skipped frees nothing */
	copy = malloc(BIG);
	assert_non_null(copy);
	memcpy(copy, big, BIG);
	open_shaken(&p, &o);
	while ((r = ringtls_write_ex(p.conn, copy, BIG, &written)) != 1) {
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_WRITE);
		/* Whatever is sent while the call is not running is seen to be wrong. */
		memset(copy, 0xee, BIG);
		pair_peer_reads(&p);
		pair_wait(&p);
		memcpy(copy, big, BIG);
	}
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
	free(copy);
}

static void another_buffer_is_a_bad_retry_and_loses_nothing(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;
	size_t written;

	o.small_buffers = true;
	open_shaken(&p, &o);
	write_until_full(&p, big, BIG);
	assert_int_equal(ringtls_write_ex(p.conn, big + 1, BIG - 1, &written), 0);
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_SSL);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_BAD_WRITE_RETRY);
	assert_int_equal(ringtls_write_ex(p.conn, big, BIG - 1, &written), 0);
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_SSL);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_BAD_LENGTH);
	pair_write_all(&p, big, BIG);
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
}

static void moving_buffer_is_allowed_by_its_mode(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	uint8_t *copy;
	struct pair p;

	o.small_buffers = true;
	pair_need(&o); /* a test that is skipped frees nothing */
	copy = malloc(BIG);
	assert_non_null(copy);
	memcpy(copy, big, BIG);
	open_shaken(&p, &o);
	/* After the handshake, where stock OpenSSL gets it wrong (openssl#21202). */
	SSL_set_mode(p.ours, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	write_until_full(&p, copy, BIG);
	memset(copy, 0xee, BIG);
	pair_write_all(&p, big, BIG);
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
	free(copy);
}

static void partial_writes_add_up(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	size_t done = 0, n = 0;
	struct pair p;
	int r;

	o.small_buffers = true;
	open_shaken(&p, &o);
	SSL_set_mode(p.ours, SSL_MODE_ENABLE_PARTIAL_WRITE);
	while (done < BIG) {
		r = ringtls_write_ex(p.conn, big + done, BIG - done, &n);
		if (r == 1) {
			assert_true(n > 0 && n <= BIG - done);
			done += n;
			continue;
		}
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(&p);
		pair_wait(&p);
	}
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
}

/* ---- Blocking ---------------------------------------------------------- */

static void *peer_reads_all(void *arg)
{
	struct pair *p = arg;

	while (p->got_len < BIG) {
		int n = SSL_read(p->peer, p->got + p->got_len, 16384);

		if (n <= 0)
			break;
		p->got_len += (size_t)n;
	}
	return NULL;
}

static void blocking_write_returns_when_all_is_out(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	pthread_t thread;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	pair_set_blocking(p.fd);
	pair_set_blocking(p.peer_fd);
	p.got = malloc(BIG + 16384);
	assert_int_equal(pthread_create(&thread, NULL, peer_reads_all, &p), 0);
	assert_int_equal(ringtls_write(p.conn, big, BIG), BIG);
	pthread_join(thread, NULL);
	assert_int_equal(p.got_len, BIG);
	assert_memory_equal(p.got, big, BIG);
	pair_close(&p);
}

static void *peer_shakes_hands(void *arg)
{
	struct pair *p = arg;

	SSL_do_handshake(p->peer);
	SSL_write(p->peer, "ping", 4);
	return NULL;
}

static void blocking_handshake_and_read(void **state)
{
	const struct pair_opts *o = *state;
	pthread_t thread;
	char buf[16];
	struct pair p;

	pair_need(o);
	pair_open(&p, o);
	pair_set_blocking(p.fd);
	pair_set_blocking(p.peer_fd);
	assert_int_equal(pthread_create(&thread, NULL, peer_shakes_hands, &p), 0);
	assert_int_equal(ringtls_read(p.conn, buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "ping", 4);
	pthread_join(thread, NULL);
	pair_close(&p);
}

/* ---- Reading, closing, failing ----------------------------------------- */

static void read_answers_want_read_and_wakes(void **state)
{
	const struct pair_opts *o = *state;
	char buf[16];
	struct pair p;
	int r;

	open_shaken(&p, o);
	r = ringtls_read(p.conn, buf, sizeof(buf));
	assert_int_equal(r, -1);
	assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_READ);
	assert_int_equal(SSL_write(p.peer, "ping", 4), 4);
	pair_wait(&p);
	assert_int_equal(ringtls_read(p.conn, buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "ping", 4);
	pair_close(&p);
}

static void read_ex_tells_how_much_it_read(void **state)
{
	size_t n = 77;
	char buf[16];
	struct pair p;

	open_shaken(&p, *state);
	assert_int_equal(ringtls_read_ex(p.conn, buf, sizeof(buf), &n), 0);
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_WANT_READ);
	assert_int_equal(n, 77);
	assert_int_equal(SSL_write(p.peer, "ping", 4), 4);
	pair_wait(&p);
	assert_int_equal(ringtls_read_ex(p.conn, buf, 3, &n), 1);
	assert_int_equal(n, 3);
	assert_int_equal(ringtls_read_ex(p.conn, buf + 3, sizeof(buf) - 3, &n), 1);
	assert_int_equal(n, 1);
	assert_memory_equal(buf, "ping", 4);
	pair_close(&p);
}

static void close_notify_comes_behind_all_data(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;
	int r;

	o.small_buffers = true;
	open_shaken(&p, &o);
	pair_write_all(&p, big, BIG);
	while ((r = ringtls_shutdown(p.conn)) < 0) {
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(&p);
		pair_wait(&p);
	}
	assert_int_equal(r, 0);
	/* Closing right now must cut nothing off. */
	assert_int_equal(shutdown(p.fd, SHUT_WR), 0);
	pair_peer_expects(&p, big, BIG);
	pair_peer_reads_to_the_end(&p);
	assert_int_equal(p.peer_error, SSL_ERROR_ZERO_RETURN);
	/* Nothing may follow close_notify. */
	assert_int_equal(ringtls_write(p.conn, big, 1), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SSL);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_PROTOCOL_IS_SHUTDOWN);
	assert_int_equal(SSL_shutdown(p.peer), 1);
	pair_await(p.fd);
	assert_int_equal(ringtls_shutdown(p.conn), 1);
	pair_close(&p);
}

/* SSL_read's 0, and not -1: callers tell the two apart. */
static void end_without_close_notify_is_answered_as_by_openssl(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;
	char c;
	int r;

	open_shaken(&p, o);
	assert_int_equal(shutdown(p.peer_fd, SHUT_WR), 0);
	while ((r = ringtls_read(p.conn, &c, 1)) < 0) {
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_READ);
		pair_wait(&p);
	}
	assert_int_equal(r, 0);
	assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_SSL);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_UNEXPECTED_EOF_WHILE_READING);
	pair_close(&p);
}

static void peers_reset_is_a_syscall_error_that_sticks(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;
	size_t written;
	int r;

	o.small_buffers = true;
	open_shaken(&p, &o);
	write_until_full(&p, big, BIG);
	pair_peer_resets(&p);
	pair_wait(&p);
	for (int i = 0; i < 2; i++) {
		errno = 0;
		r = ringtls_write_ex(p.conn, big, BIG, &written);
		assert_int_equal(r, 0);
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_SYSCALL);
		assert_true(errno == ECONNRESET || errno == EPIPE);
	}
	assert_true(pair_info(&p).error < 0);
	pair_close(&p);
}

static void free_without_shutdown_in_mid_write_is_safe(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	write_until_full(&p, big, BIG);
	pair_close(&p);
}

/* ---- A peer that is fast ----------------------------------------------- */

static struct pair *fast;

/* What the peer does while we are still in the call that sent it our flight. */
static ssize_t sendmsg_to_a_fast_peer(int fd, const struct msghdr *msg, int flags)
{
	ssize_t n = ringtls__sys_real.sendmsg(fd, msg, flags);
	struct pair *p = fast;

	for (int i = 0; p && i < 50; i++) {
		pair_rest(p);
		if (SSL_do_handshake(p->peer) != 1)
			continue;
		fast = NULL;
		assert_int_equal(SSL_write(p->peer, "x", 1), 1);
		assert_int_equal(shutdown(p->peer_fd, SHUT_WR), 0);
		break;
	}
	return n;
}

static void peer_half_closes_before_our_key_is_installed(void **state)
{
	struct ringtls__sys sys = ringtls__sys_real;
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;

	pair_need(&o);
	sys.sendmsg = sendmsg_to_a_fast_peer;
	o.sys = &sys;
	pair_open(&p, &o);
	SSL_do_handshake(p.peer);
	/* TLS 1.2: our last flight comes behind the client's, so it can't be that fast. */
	fast = o.version == TLS1_3_VERSION ? &p : NULL;
	pair_rest(&p);
	pair_handshake(&p);
	fast = NULL;
	pair_write_all(&p, big, 100000);
	pair_peer_expects(&p, big, 100000);
	assert_int_equal(pair_info(&p).lane, o.lane);
	pair_close(&p);
}

/* ---- Attached after the handshake -------------------------------------- */

/* The next key would lose it (stream.c). When it is read, all is well. */
static void refuses_what_was_read_ahead(struct pair *p, const struct ringtls_conn_opts *co)
{
	char c[2] = "";

	SSL_set_read_ahead(p->ours, 1);
	assert_int_equal(SSL_write(p->peer, "a", 1), 1);
	assert_int_equal(SSL_write(p->peer, "b", 1), 1);
	pair_rest(p);
	assert_int_equal(SSL_read(p->ours, c, 1), 1);
	assert_int_equal(ringtls_conn_new(&p->conn, p->engine, p->ours, p->fd, co), RINGTLS_E_STATE);
	assert_null(p->conn);
	assert_int_equal(SSL_read(p->ours, c + 1, 1), 1);
	assert_memory_equal(c, "ab", 2);
}

/* The handshake is OpenSSL's alone; ours comes afterwards. */
static void attached_late(void **state)
{
	const struct pair_opts *o = *state;
	struct pair_opts plain = { .lane = RINGTLS_LANE_OPENSSL,
				   .backend = o->backend,
				   .version = o->version };
	struct ringtls_conn_opts co = { .size = sizeof(co), .lane = o->lane };
	bool takes_keys = o->version == TLS1_3_VERSION && OpenSSL_version_num() >= 0x30200000;
	struct pair p;

	pair_need(o);
	pair_open(&p, &plain);
	ringtls_conn_free(p.conn);
	p.conn = NULL;
	assert_int_equal(SSL_set_fd(p.ours, p.fd), 1);
	SSL_clear_options(p.ours, SSL_OP_ENABLE_KTLS);
	for (int i = 0; i < 10; i++) {
		SSL_do_handshake(p.ours);
		SSL_do_handshake(p.peer);
		pair_rest(&p);
	}
	assert_int_equal(SSL_write(p.ours, big, 1000), 1000);
	if (o->lane != RINGTLS_LANE_OPENSSL && !takes_keys) {
		assert_int_equal(ringtls_conn_new(&p.conn, p.engine, p.ours, p.fd, &co),
				 RINGTLS_E_LANE);
		assert_null(p.conn);
		co.lane = RINGTLS_LANE_AUTO;
	}
	co.user = &p;
	if (takes_keys && o->lane != RINGTLS_LANE_OPENSSL)
		refuses_what_was_read_ahead(&p, &co);
	assert_int_equal(ringtls_conn_new(&p.conn, p.engine, p.ours, p.fd, &co), 0);
	pair_write_all(&p, big + 1000, 100000);
	pair_peer_expects(&p, big, 101000);
	if (takes_keys)
		assert_int_equal(pair_info(&p).lane, o->lane);
	else
		assert_int_equal(pair_info(&p).reason, o->lane == RINGTLS_LANE_OPENSSL ?
							       RINGTLS_REASON_ASKED :
							       RINGTLS_REASON_ATTACHED_LATE);
	pair_close(&p);
}

/* ---- Files ------------------------------------------------------------- */

static int temp_file(const uint8_t *bytes, size_t len)
{
	char name[] = "/tmp/ringtls-test-XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(write(fd, bytes, len), len);
	return fd;
}

static void send_file_all(struct pair *p, int file, off_t offset, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = ringtls_sendfile(p->conn, file, offset + (off_t)done, len - done, 0);

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		assert_int_equal(n, -1);
		assert_int_equal(ringtls_get_error(p->conn, (int)n), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(p);
		pair_wait(p);
	}
}

static void file_arrives_between_writes(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	int file = temp_file(big, BIG);
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	pair_write_all(&p, big, 1000);
	send_file_all(&p, file, 1000, BIG - 2000);
	pair_write_all(&p, big + BIG - 1000, 1000);
	pair_peer_expects(&p, big, BIG);
	/* The caller's file position is its own. */
	assert_int_equal(lseek(file, 0, SEEK_CUR), BIG);
	pair_close(&p);
	close(file);
}

static void file_on_a_blocking_socket(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	int file = temp_file(big, BIG);
	pthread_t thread;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	pair_set_blocking(p.fd);
	pair_set_blocking(p.peer_fd);
	p.got = malloc(BIG + 16384);
	assert_int_equal(pthread_create(&thread, NULL, peer_reads_all, &p), 0);
	/* More than there is: the answer is what there is. */
	assert_int_equal(ringtls_sendfile(p.conn, file, 0, BIG + 5000, 0), BIG);
	pthread_join(thread, NULL);
	assert_int_equal(p.got_len, BIG);
	assert_memory_equal(p.got, big, BIG);
	assert_int_equal(ringtls_sendfile(p.conn, file, BIG, 1, 0), 0);
	pair_close(&p);
	close(file);
}

static void bad_file_is_an_error_and_the_connection_lives(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;

	open_shaken(&p, o);
	assert_int_equal(ringtls_sendfile(p.conn, -1, 0, 100, 0), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SYSCALL);
	assert_int_equal(errno, EBADF);
	assert_int_equal(ringtls_sendfile(p.conn, 0, -1, 100, 0), -1);
	assert_int_equal(errno, EINVAL);
	pair_write_all(&p, big, 100);
	pair_peer_expects(&p, big, 100);
	pair_close(&p);
}

static void sendfile_of_openssl_by_mistake_sends_nothing(void **state)
{
	const struct pair_opts *o = *state;
	int file = temp_file(big, 50000);
	struct pair p;

	open_shaken(&p, o);
	assert_true(SSL_sendfile(p.ours, file, 0, 50000, 0) < 0);
	ERR_clear_error();
	pair_write_all(&p, big, 100);
	pair_peer_expects(&p, big, 100);
	pair_close(&p);
	close(file);
}

/* ---- The list ---------------------------------------------------------- */

static const struct list_test tests[] = {
#define T(f) { #f, f }
	T(bytes_arrive_in_order),
	T(the_lane_and_its_reason_are_told),
	T(full_socket_answers_want_write_and_wakes_when_the_peer_reads),
	T(second_wait_wakes_after_the_first_was_collected),
	T(buffer_is_not_read_between_calls),
	T(another_buffer_is_a_bad_retry_and_loses_nothing),
	T(moving_buffer_is_allowed_by_its_mode),
	T(partial_writes_add_up),
	T(blocking_write_returns_when_all_is_out),
	T(blocking_handshake_and_read),
	T(read_answers_want_read_and_wakes),
	T(read_ex_tells_how_much_it_read),
	T(close_notify_comes_behind_all_data),
	T(end_without_close_notify_is_answered_as_by_openssl),
	T(peers_reset_is_a_syscall_error_that_sticks),
	T(free_without_shutdown_in_mid_write_is_safe),
	T(file_arrives_between_writes),
	T(file_on_a_blocking_socket),
	T(bad_file_is_an_error_and_the_connection_lives),
	T(sendfile_of_openssl_by_mistake_sends_nothing),
	T(attached_late),
	T(peer_half_closes_before_our_key_is_installed),
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL); /* none may come */
	pair_fill(big, BIG);
	list_add_all(tests, COUNT(tests), every_lane, EVERY_LANE);
	return list_run("stream", argc, argv);
}
