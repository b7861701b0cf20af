/*
 * test_ktls.c - the kernel lane over the emulated kernel TLS: what it may ask of the
 * kernel, how it takes short and refused sends, and that closing loses nothing. A
 * stock peer reads it all, and a tap sees what went over the wire.
 */
#include "support.h"
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <openssl/err.h>
#include "fake_ktls.h"
#include "fake_probe.h"
#include "wiretap.h"

#define BIG	 (1024 * 1024 + 4321)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint8_t big[BIG];

static int setup(void **state)
{
	(void)state;
	fake_probe_reset();
	fake_ktls_reset();
	return 0;
}

/* In every test: nothing that a kernel refuses, nothing that sleeps inside it. */
static int teardown(void **state)
{
	(void)state;
	assert_int_equal(fake_ktls_seen.refused_flags, 0);
	assert_int_equal(fake_ktls_seen.waits, 0);
	return 0;
}

static const struct pair_opts plain_opts = {
	.lane = RINGTLS_LANE_KERNEL,
	.backend = RINGTLS_BACKEND_SYSCALLS,
	.sys = &fake_ktls,
};

static void open_shaken(struct pair *p, bool small_buffers)
{
	struct pair_opts o = plain_opts;

	o.small_buffers = small_buffers;
	pair_open(p, &o);
	pair_handshake(p);
	assert_int_equal(pair_info(p).lane, RINGTLS_LANE_KERNEL);
}

/* The peer reads, and the kernel's work runs, until ours may go on. */
static void step(struct pair *p)
{
	struct ringtls_event ev;

	for (int i = 0; i < 2000; i++) {
		pair_peer_reads(p);
		fake_ktls_work();
		if (ringtls_engine_wait(p->engine, &ev, 1, 5) == 1)
			return;
	}
	fail_msg("nothing wakes the connection");
}

static void write_all(struct pair *p, const uint8_t *bytes, size_t len)
{
	size_t written = 0;

	while (ringtls_write_ex(p->conn, bytes, len, &written) != 1) {
		assert_int_equal(ringtls_get_error(p->conn, 0), SSL_ERROR_WANT_WRITE);
		step(p);
	}
	assert_int_equal(written, len);
}

static void send_file_all(struct pair *p, int file, off_t offset, size_t len)
{
	while (len) {
		ssize_t n = ringtls_sendfile(p->conn, file, offset, len, 0);

		if (n <= 0) {
			assert_int_equal(n, -1);
			assert_int_equal(ringtls_get_error(p->conn, -1), SSL_ERROR_WANT_WRITE);
			step(p);
			continue;
		}
		offset += n;
		len -= (size_t)n;
	}
}

static int shut(struct pair *p)
{
	int r;

	while ((r = ringtls_shutdown(p->conn)) < 0 &&
	       ringtls_get_error(p->conn, r) == SSL_ERROR_WANT_WRITE)
		step(p);
	return r;
}

/* All of it, in order, and then close_notify. */
static void expect_all(struct pair *p, const uint8_t *bytes, size_t len)
{
	for (int i = 0; i < 2000 && p->peer_error != SSL_ERROR_ZERO_RETURN; i++) {
		fake_ktls_work();
		if (!pair_peer_reads(p))
			pair_rest(p);
	}
	assert_int_equal(p->peer_error, SSL_ERROR_ZERO_RETURN);
	assert_int_equal(p->got_len, len);
	assert_memory_equal(p->got, bytes, len);
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

/* ---- Every suite ------------------------------------------------------- */

static const struct suite {
	int version;
	const char *name;
} suites[] = {
	{TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},
	{TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
	{TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},
	{TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
	{TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"},
	{TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"},
	{TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM"},
};

static void run_suite(const struct suite *suite, bool is_client)
{
	struct pair_opts o = plain_opts;
	struct wiretap tap;
	struct pair p;
	uint64_t before;

	setup(NULL);
	o.version = suite->version;
	o.cipher = suite->name;
	o.is_client = is_client;
	pair_open(&p, &o);
	wiretap_open(&tap, p.peer);
	pair_handshake(&p);
	before = pair_info(&p).bytes;
	write_all(&p, big, 300000);
	pair_peer_sends_a_byte(&p);
	write_all(&p, big + 300000, 100);
	assert_int_equal(pair_info(&p).lane, RINGTLS_LANE_KERNEL);
	assert_int_equal(pair_info(&p).bytes - before, 300100);
	assert_int_equal(shut(&p), 0);
	expect_all(&p, big, 300100);
	wiretap_rest(&tap, p.peer_fd);
	assert_false(wiretap_has(&tap, big + 1000, 32));
	/* What is told is what went out, the handshake's records and the kernel's. */
	assert_int_equal(pair_info(&p).records, wiretap_records(&tap));
	wiretap_close(&tap);
	pair_close(&p);
	teardown(NULL);
}

static void every_suite_and_role_runs_in_the_kernel_lane(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(suites); i++) {
		run_suite(&suites[i], false);
		run_suite(&suites[i], true);
	}
}

/* ---- Disturbed sends --------------------------------------------------- */

static void short_sends_lose_and_repeat_nothing(void **state)
{
	static const size_t most[] = {1, 7, 16383, 16384, 16385, 100000};

	(void)state;
	for (size_t i = 0; i < COUNT(most); i++) {
		size_t len = most[i] < 100 ? 500 * most[i] : BIG;
		struct pair p;

		setup(NULL);
		open_shaken(&p, false);
		fake_ktls_knobs.send_max = most[i];
		write_all(&p, big, len);
		assert_true(pair_info(&p).short_sends > 0);
		assert_int_equal(shut(&p), 0);
		expect_all(&p, big, len);
		pair_close(&p);
	}
}

static void refused_and_interrupted_sends_lose_and_repeat_nothing(void **state)
{
	struct pair p;

	(void)state;
	open_shaken(&p, true);
	fake_ktls_knobs.eagain_every = 2;
	fake_ktls_knobs.eintr_every = 3;
	fake_ktls_knobs.send_max = 5000;
	for (size_t at = 0; at < 200000; at += 20000)
		write_all(&p, big + at, 20000);
	assert_int_equal(shut(&p), 0);
	expect_all(&p, big, 200000);
	pair_close(&p);
}

static void file_and_bytes_keep_their_order(void **state)
{
	int file = temp_file(big, BIG);

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct pair p;

		setup(NULL);
		open_shaken(&p, true);
		fake_ktls_knobs.send_max = i == 1 ? 3000 : 0;
		fake_ktls_knobs.list_room = i == 2 ? 100000 : 0;
		write_all(&p, big, 777);
		send_file_all(&p, file, 777, 300001);
		write_all(&p, big + 300778, 1000);
		send_file_all(&p, file, 301778, BIG - 301778);
		assert_int_equal(shut(&p), 0);
		expect_all(&p, big, BIG);
		pair_close(&p);
	}
	close(file);
}

/* A file that is cut short leaves plaintext in the kernel's open record: what comes
 * next must go behind it. */
static void record_left_open_by_a_file_is_closed_by_what_follows(void **state)
{
	int file = temp_file(big, BIG);
	ssize_t n;
	struct pair p;

	(void)state;
	open_shaken(&p, true);
	do {
		n = ringtls_sendfile(p.conn, file, 100, BIG - 100, 0);
		if (n < 0)
			step(&p);
	} while (n < 0);
	assert_true(n < BIG - 100);
	assert_true(fake_ktls_held(p.fd) > 0);
	assert_int_equal(shut(&p), 0);
	expect_all(&p, big + 100, (size_t)n);
	pair_close(&p);
	close(file);
}

static void broken_kernel_fails_the_connection_for_good(void **state)
{
	static const int errors[] = {EBADMSG, EPIPE, ECONNRESET};

	(void)state;
	for (size_t i = 0; i < COUNT(errors); i++) {
		struct pair p;

		setup(NULL);
		open_shaken(&p, false);
		fake_ktls_knobs.broken = errors[i];
		for (int tries = 0; tries < 2; tries++) {
			errno = 0;
			assert_int_equal(ringtls_write(p.conn, big, 100), -1);
			assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SYSCALL);
			assert_int_equal(errno, errors[i]);
			fake_ktls_knobs.broken = 0; /* it may seem to be well again */
		}
		assert_int_equal(pair_info(&p).error, -errors[i]);
		assert_int_equal(fake_ktls_seen.sends, 1 + 2); /* two tickets went before */
		pair_close(&p);
	}
}

/* ---- Closing ----------------------------------------------------------- */

/* Writes until TCP is full and the kernel holds records back. */
static size_t hold_back(struct pair *p)
{
	size_t done = 0, n;

	fake_ktls_knobs.list_room = 200000;
	SSL_set_mode(p->ours, SSL_MODE_ENABLE_PARTIAL_WRITE);
	while (ringtls_write_ex(p->conn, big + done, 16384, &n) == 1)
		done += n;
	ringtls_engine_wait(p->engine, &(struct ringtls_event){NULL, NULL}, 1, 0);
	assert_true(fake_ktls_held(p->fd) > 100000);
	fake_ktls_knobs.list_room = 1 << 20; /* so that close_notify gets in */
	return done;
}

/* Invariant 7, and that the emulation would show it. */
static void without_the_drain_records_would_be_lost(void **state)
{
	struct pair p;

	(void)state;
	open_shaken(&p, true);
	hold_back(&p);
	assert_int_equal(SSL_shutdown(p.ours), 0);
	assert_true(fake_ktls_held(p.fd) > 100000);
	pair_close(&p);
}

static void shutdown_is_done_when_the_kernel_holds_nothing_back(void **state)
{
	struct pair p;
	size_t len;
	int r, calls = 0;

	(void)state;
	open_shaken(&p, true);
	len = hold_back(&p);
	while ((r = ringtls_shutdown(p.conn)) < 0) {
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_WRITE);
		assert_true(fake_ktls_held(p.fd) > 0);
		calls++;
		step(&p);
	}
	assert_true(calls > 0);
	assert_int_equal(r, 0);
	assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_SYSCALL); /* as OpenSSL's */
	assert_int_equal(fake_ktls_held(p.fd), 0);
	expect_all(&p, big, len);
	pair_close(&p);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

/* POLLOUT comes, but the kernel's work has not run: a timer looks again. */
static void shutdown_looks_again_when_pollout_came_too_early(void **state)
{
	struct ringtls_event ev;
	int64_t start;
	int events = 0;
	struct pair p;

	(void)state;
	open_shaken(&p, true);
	hold_back(&p);
	assert_int_equal(ringtls_shutdown(p.conn), -1);
	start = now_ms();
	for (int i = 0; i < 50; i++) {
		pair_peer_reads(&p); /* TCP has room now, and nobody fills it */
		if (ringtls_engine_wait(p.engine, &ev, 1, 200) == 1)
			events++;
		assert_int_equal(ringtls_shutdown(p.conn), -1);
		assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_WRITE);
		if (events == 8)
			break;
	}
	assert_int_equal(events, 8);
	/* 1, 2, 4 and 8 ms: not as fast as it can ask. */
	assert_true(now_ms() - start >= 12);
	fake_ktls_knobs.work_every = 1; /* now it does */
	assert_int_equal(shut(&p), 0);
	pair_close(&p);
}

static void *peer_reads_to_the_end(void *arg)
{
	struct pair *p = arg;

	while (pair_peer_reads(p) || p->peer_error == SSL_ERROR_NONE)
		;
	return NULL;
}

static void blocking_shutdown_returns_when_the_kernel_holds_nothing_back(void **state)
{
	pthread_t thread;
	struct pair p;
	size_t len;

	(void)state;
	open_shaken(&p, true);
	len = hold_back(&p);
	pair_set_blocking(p.fd);
	pair_set_blocking(p.peer_fd);
	fake_ktls_start_worker();
	assert_int_equal(pthread_create(&thread, NULL, peer_reads_to_the_end, &p), 0);
	assert_int_equal(ringtls_shutdown(p.conn), 0);
	assert_int_equal(fake_ktls_held(p.fd), 0);
	pthread_join(thread, NULL);
	fake_ktls_stop_worker();
	assert_int_equal(p.peer_error, SSL_ERROR_ZERO_RETURN);
	assert_int_equal(p.got_len, len);
	assert_memory_equal(p.got, big, len);
	pair_close(&p);
}

/* Nothing that the drain asks shows an error: it must not wait for ever. */
static void peer_that_resets_ends_a_shutdown(void **state)
{
	const struct linger reset = {.l_onoff = 1};

	(void)state;
	for (int blocking = 0; blocking < 2; blocking++) {
		struct pair p;
		int r;

		setup(NULL);
		open_shaken(&p, true);
		hold_back(&p);
		assert_int_equal(ringtls_shutdown(p.conn), -1);
		setsockopt(p.peer_fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(p.peer_fd);
		p.peer_fd = -1;
		if (blocking)
			pair_set_blocking(p.fd);
		for (int i = 0; i < 100; i++) {
			struct ringtls_event ev;

			r = ringtls_shutdown(p.conn);
			if (ringtls_get_error(p.conn, r) != SSL_ERROR_WANT_WRITE)
				break;
			ringtls_engine_wait(p.engine, &ev, 1, 100);
		}
		assert_int_equal(r, -1);
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_SYSCALL);
		assert_true(errno == ECONNRESET || errno == EPIPE);
		pair_close(&p);
	}
}

static void drain_that_cannot_ask_fails_the_shutdown(void **state)
{
	struct pair p;

	(void)state;
	open_shaken(&p, false);
	write_all(&p, big, 1000);
	fake_ktls_knobs.get_tx = EBADF;
	assert_int_equal(ringtls_shutdown(p.conn), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SYSCALL);
	assert_int_equal(errno, EBADF);
	pair_close(&p);
}

static void somebody_elses_bytes_on_the_socket_are_found_by_the_drain(void **state)
{
	struct pair p;

	(void)state;
	open_shaken(&p, false);
	write_all(&p, big, 1000);
	assert_int_equal(send(p.fd, "intruder", 8, 0), 8);
	assert_int_equal(ringtls_shutdown(p.conn), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SSL);
	assert_int_equal(pair_info(&p).error, RINGTLS_E_KERNEL);
	pair_close(&p);
}

static void free_in_the_middle_of_everything_is_safe(void **state)
{
	struct pair p;

	(void)state;
	open_shaken(&p, true);
	hold_back(&p);
	assert_int_equal(ringtls_shutdown(p.conn), -1);
	pair_close(&p);
}

/* ---- Keys -------------------------------------------------------------- */

/* The probe said it can rekey, and then it can't: the peer has the KeyUpdate, and
 * nothing may follow it under the old key. */
static void rekey_refused_late_ends_the_connection_behind_the_keyupdate(void **state)
{
	struct pair p;

	(void)state;
	open_shaken(&p, false);
	write_all(&p, big, 1000);
	fake_ktls_knobs.rekey = EBUSY;
	assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_NOT_REQUESTED),
			 RINGTLS_E_REKEY);
	assert_int_equal(pair_info(&p).error, RINGTLS_E_REKEY);
	assert_int_equal(ringtls_write(p.conn, big, 1000), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SSL);
	pair_rest(&p);
	pair_peer_reads(&p);
	assert_int_equal(p.got_len, 1000);
	assert_int_equal(p.peer_error, SSL_ERROR_WANT_READ); /* no record that it could not open */
	pair_close(&p);
}

/* The kernel is asked how many it made, and never makes more than the limit. */
static void limit_of_records_holds_however_the_kernel_cuts_them(void **state)
{
	int file = temp_file(big, BIG);
	unsigned long before;
	struct pair_opts o = plain_opts;
	struct pair p;

	(void)state;
	o.max_records = 20;
	o.small_buffers = true;
	pair_open(&p, &o);
	pair_handshake(&p);
	fake_ktls_knobs.send_max = 5000;
	before = fake_ktls_seen.records;
	write_all(&p, big, 300000);
	send_file_all(&p, file, 300000, BIG - 300000);
	assert_true(fake_ktls_seen.rekeys >= (fake_ktls_seen.records - before) / 22);
	assert_int_equal(shut(&p), 0);
	expect_all(&p, big, BIG);
	pair_close(&p);
	close(file);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(every_suite_and_role_runs_in_the_kernel_lane),
		T(short_sends_lose_and_repeat_nothing),
		T(refused_and_interrupted_sends_lose_and_repeat_nothing),
		T(file_and_bytes_keep_their_order),
		T(record_left_open_by_a_file_is_closed_by_what_follows),
		T(broken_kernel_fails_the_connection_for_good),
		T(without_the_drain_records_would_be_lost),
		T(shutdown_is_done_when_the_kernel_holds_nothing_back),
		T(shutdown_looks_again_when_pollout_came_too_early),
		T(blocking_shutdown_returns_when_the_kernel_holds_nothing_back),
		T(peer_that_resets_ends_a_shutdown),
		T(drain_that_cannot_ask_fails_the_shutdown),
		T(somebody_elses_bytes_on_the_socket_are_found_by_the_drain),
		T(free_in_the_middle_of_everything_is_safe),
		T(rekey_refused_late_ends_the_connection_behind_the_keyupdate),
		T(limit_of_records_holds_however_the_kernel_cuts_them),
	};

	pair_fill(big, BIG);
	return cmocka_run_group_tests_name("ktls", tests, NULL, NULL);
}
