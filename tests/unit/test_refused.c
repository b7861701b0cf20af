/*
 * test_refused.c - in the openssl lane, where OpenSSL takes no bytes and it is neither the peer's
 * turn nor ours: a callback that asks to be called again, and jobs that it leaves in the middle of
 * something (SSL_MODE_ASYNC). Bytes are queued, or lie where no job may go on to read them.
 */
#include "support.h"
#include "list.h"

#include <fcntl.h>
#include <unistd.h>
#include <openssl/async.h>
#include <openssl/err.h>

#define LEN 250000

static uint8_t big[LEN];

static const struct pair_opts places[] = {
	{ .lane = RINGTLS_LANE_OPENSSL, .backend = RINGTLS_BACKEND_URING, .version = TLS1_2_VERSION },
	{ .lane = RINGTLS_LANE_OPENSSL,
	  .backend = RINGTLS_BACKEND_SYSCALLS,
	  .version = TLS1_2_VERSION },
	{ .lane = RINGTLS_LANE_OPENSSL, .backend = RINGTLS_BACKEND_URING, .version = TLS1_3_VERSION },
	{ .lane = RINGTLS_LANE_OPENSSL,
	  .backend = RINGTLS_BACKEND_SYSCALLS,
	  .version = TLS1_3_VERSION },
};

static void open_shaken(struct pair *p, const struct pair_opts *o)
{
	pair_need(o);
	pair_open(p, o);
	pair_handshake(p);
	pair_peer_reads(p);
}

static void queue(struct pair *p, size_t len)
{
	const struct iovec iov = { big, len };

	assert_int_equal(ringtls_queue_writev(p->conn, &iov, 1, 7), 1);
}

/* Nobody is woken by what only the caller knows the end of: it asks now and then. */
static void ask_until_the_peer_has(struct pair *p, size_t len)
{
	struct ringtls_completion done;
	struct ringtls_event event;
	char c;

	for (int i = 0; i < 500 && p->got_len < len; i++) {
		ringtls_read(p->conn, &c, 1);
		ringtls_engine_wait(p->engine, &event, 1, 1);
		ringtls_engine_completions(p->engine, &done, 1);
		pair_peer_reads(p);
	}
	pair_peer_expects(p, big, len);
}

/* An event of before may be left, but then the engine sleeps. */
static void nobody_is_woken(struct pair *p)
{
	struct ringtls_event event;
	int r = 1;

	for (int i = 0; i < 3 && r; i++)
		r = ringtls_engine_wait(p->engine, &event, 1, 20);
	assert_int_equal(r, 0);
}

/* ---- A callback -------------------------------------------------------- */

static struct {
	bool is_held;
	unsigned calls;
} callback;

static int certificate_later(SSL *ssl, void *arg)
{
	(void)ssl, (void)arg;
	assert_true(++callback.calls < 100); /* nobody asks for it all the time */
	return callback.is_held ? -1 : 1;
}

static void serve(SSL_CTX *ours, SSL_CTX *peer)
{
	(void)peer;
	SSL_CTX_set_options(ours, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
}

static void open_held(struct pair *p, const struct pair_opts *opts)
{
	struct pair_opts o = *opts;

	need("TLS 1.2", o.version == TLS1_2_VERSION);
	o.renegotiation = RINGTLS_RENEG_SERVE;
	o.prepare = serve;
	open_shaken(p, &o);
	SSL_set_cert_cb(p->ours, certificate_later, NULL);
	callback.is_held = true;
	callback.calls = 0;
	assert_int_equal(SSL_renegotiate(p->peer), 1);
	SSL_do_handshake(p->peer);
	pair_await(p->fd);
}

/* The read for itself, the write for what is queued before it. */
static void both_want(struct pair *p, int want)
{
	char c;

	assert_int_equal(ringtls_read(p->conn, &c, 1), -1);
	assert_int_equal(ringtls_get_error(p->conn, -1), want);
	assert_int_equal(ringtls_write(p->conn, big, 10), -1);
	assert_int_equal(ringtls_get_error(p->conn, -1), want);
}

static void callback_that_asks_to_be_called_again(void **state)
{
	struct pair p;

	open_held(&p, *state);
	queue(&p, 1000);
	both_want(&p, SSL_ERROR_WANT_X509_LOOKUP);
	nobody_is_woken(&p);
	assert_int_equal(pair_peer_reads(&p), 0);
	callback.is_held = false;
	ask_until_the_peer_has(&p, 1000);
	assert_int_equal(SSL_num_renegotiations(p.peer), 1);
	pair_close(&p);
}

/* On a socket that blocks as well: it waits for the socket, and for nothing else. */
static void callback_on_a_blocking_socket(void **state)
{
	struct pair p;

	open_held(&p, *state);
	pair_set_blocking(p.fd);
	queue(&p, 1000);
	both_want(&p, SSL_ERROR_WANT_X509_LOOKUP);
	pair_close(&p);
}

/* The peer says nothing more for now. Room in the socket is no reason to wake anybody. */
static void renegotiation_that_waits_for_the_peer(void **state)
{
	struct pair p;

	open_held(&p, *state);
	callback.is_held = false;
	queue(&p, 1000);
	both_want(&p, SSL_ERROR_WANT_READ);
	nobody_is_woken(&p);
	ask_until_the_peer_has(&p, 1000);
	assert_int_equal(SSL_num_renegotiations(p.peer), 1);
	pair_close(&p);
}

/* ---- Jobs -------------------------------------------------------------- */

static struct {
	int direction; /* of the record whose job is paused: 1, we write it */
	bool is_held;
	unsigned pauses;
} job;

static void pause_at_a_record(int is_write, int version, int type, const void *buf, size_t len,
			      SSL *ssl, void *arg)
{
	(void)version, (void)buf, (void)len, (void)ssl, (void)arg;
	if (type != SSL3_RT_HEADER || is_write != job.direction || !ASYNC_get_current_job())
		return;
	for (bool first = true; first || job.is_held; first = false) {
		assert_true(++job.pauses < 1000);
		ASYNC_pause_job();
	}
}

/* From 3.2 on a record layer only asks when it is made whether anybody listens. */
static void listen_to_records(SSL_CTX *ours, SSL_CTX *peer)
{
	(void)peer;
	SSL_CTX_set_msg_callback(ours, pause_at_a_record);
}

static void open_with_jobs(struct pair *p, const struct pair_opts *opts, int direction)
{
	struct pair_opts o = *opts;

	need("async", ASYNC_is_capable());
	o.prepare = listen_to_records;
	open_shaken(p, &o);
	SSL_set_mode(p->ours, SSL_MODE_ASYNC);
	job.direction = direction;
	job.is_held = false;
	job.pauses = 0;
}

static bool is_to_be_repeated(struct pair *p, ssize_t r)
{
	int error = r > 0 ? SSL_ERROR_NONE : ringtls_get_error(p->conn, (int)r);

	pair_peer_reads(p);
	assert_true(r > 0 || error == SSL_ERROR_WANT_ASYNC || error == SSL_ERROR_WANT_WRITE);
	return error == SSL_ERROR_WANT_ASYNC || error == SSL_ERROR_WANT_WRITE;
}

/* It has the caller's bytes, which are there until the call has ended. */
static void job_of_a_write_goes_on(void **state)
{
	struct pair p;
	int r;

	open_with_jobs(&p, *state, 1);
	while (r = ringtls_write(p.conn, big, LEN), is_to_be_repeated(&p, r))
		;
	assert_int_equal(r, LEN);
	assert_true(job.pauses > 10);
	pair_peer_expects(&p, big, LEN);
	pair_close(&p);
}

/* From another place of the stack, where a copy is another; what was there is overwritten. */
static ssize_t __attribute__((noinline)) writev_deeper(struct pair *p, const struct iovec *iov,
						       int n)
{
	char above[40000];

	memset(above, 'S', sizeof(above));
	__asm__ volatile("" : : "r"(above) : "memory");
	return ringtls_writev(p->conn, iov, n);
}

static void small_pieces_are_left_to_no_job(void **state)
{
	struct iovec iov[160];
	struct pair p;
	ssize_t r;

	open_with_jobs(&p, *state, 1);
	SSL_set_max_send_fragment(p.ours, 1024);
	for (size_t i = 0; i < COUNT(iov); i++)
		iov[i] = (struct iovec){ big + i * 100, 100 };
	r = ringtls_writev(p.conn, iov, COUNT(iov));
	while (is_to_be_repeated(&p, r))
		r = writev_deeper(&p, iov, COUNT(iov));
	assert_int_equal(r, 16000);
	pair_peer_expects(&p, big, 16000);
	assert_true(SSL_get_mode(p.ours) & SSL_MODE_ASYNC);
	pair_close(&p);
}

/* The buffer that it was read into is another connection's, once it was given back. */
static void *take_buffer(struct pair *p)
{
	size_t room;
	uint8_t *buffer = ringtls__pool_get(&p->engine->pool, LEN, &room);

	assert_non_null(buffer);
	memset(buffer, 'B', room);
	return buffer;
}

static void file_is_left_to_no_job(void **state)
{
	char name[] = "/tmp/ringtls-test-XXXXXX";
	int file = mkstemp(name);
	void *buffer = NULL;
	size_t sent = 0;
	struct pair p;

	assert_true(file >= 0);
	unlink(name);
	assert_int_equal(write(file, big, LEN), LEN);
	open_with_jobs(&p, *state, 1);
	while (sent < LEN) {
		ssize_t r = ringtls_sendfile(p.conn, file, (off_t)sent, LEN - sent, 0);

		buffer = buffer ? buffer : take_buffer(&p);
		if (!is_to_be_repeated(&p, r))
			sent += (size_t)r;
	}
	ringtls__pool_put(&p.engine->pool, buffer);
	pair_peer_expects(&p, big, LEN);
	assert_true(SSL_get_mode(p.ours) & SSL_MODE_ASYNC);
	pair_close(&p);
	close(file);
}

/* No call would be its own to go on with it. */
static void what_is_queued_is_left_to_no_job(void **state)
{
	struct pair p;

	open_with_jobs(&p, *state, 1);
	queue(&p, LEN);
	ask_until_the_peer_has(&p, LEN);
	assert_true(SSL_get_mode(p.ours) & SSL_MODE_ASYNC);
	pair_close(&p);
}

/* It might be in the middle of a handshake. */
static void what_is_queued_waits_for_another_calls_job(void **state)
{
	struct pair p;
	char c = 0;

	open_with_jobs(&p, *state, 0);
	job.is_held = true;
	assert_int_equal(SSL_write(p.peer, "x", 1), 1);
	pair_await(p.fd);
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_ASYNC);
	queue(&p, 1000);
	assert_int_equal(ringtls_engine_submit(p.engine), 0);
	nobody_is_woken(&p);
	assert_int_equal(pair_peer_reads(&p), 0);
	assert_int_equal(ringtls_write(p.conn, big, 10), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_ASYNC);
	job.is_held = false;
	assert_int_equal(ringtls_read(p.conn, &c, 1), 1);
	assert_int_equal(c, 'x');
	ask_until_the_peer_has(&p, 1000);
	pair_close(&p);
}

static const struct list_test tests[] = {
#define T(f)                                                                                       \
	{                                                                                          \
		#f, f                                                                              \
	}
	T(callback_that_asks_to_be_called_again),
	T(callback_on_a_blocking_socket),
	T(renegotiation_that_waits_for_the_peer),
	T(job_of_a_write_goes_on),
	T(small_pieces_are_left_to_no_job),
	T(file_is_left_to_no_job),
	T(what_is_queued_is_left_to_no_job),
	T(what_is_queued_waits_for_another_calls_job),
};

int main(int argc, char **argv)
{
	pair_fill(big, sizeof(big));
	list_add_all(tests, COUNT(tests), places, COUNT(places));
	return list_run("refused", argc, argv);
}
