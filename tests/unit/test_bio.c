/*
 * test_bio.c - a connection over BIOs of the caller's, without a socket: BIO pairs,
 * memory, a buffer in front of a socket. The peer is a stock SSL at the other end.
 */
#include "support.h"
#include "pair.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/bio.h>
#include <openssl/err.h>

#define BIG  (1024 * 1024 + 321)
#define ROOM 4096 /* of a BIO pair: less than a record */

static uint8_t big[BIG], got[BIG];

struct ends {
	struct ringtls_engine *engine;
	struct ringtls_conn *conn;
	SSL_CTX *ctx;
	SSL *ours, *peer;
	int fds[2];
	size_t got_len;
};

/* ---- The two ends ------------------------------------------------------ */

/* engine: NULL, or another's. */
static void open_ssls(struct ends *e, const struct pair_opts *o, struct ringtls_engine *engine)
{
	struct ringtls_engine_opts eo = {.size = sizeof(eo), .backend = o->backend};

	memset(e, 0, sizeof(*e));
	e->fds[0] = e->fds[1] = -1;
	e->ctx = pair_ctx(o);
	e->ours = SSL_new(e->ctx);
	e->peer = SSL_new(e->ctx);
	assert_true(e->ours && e->peer);
	if (o->is_client) {
		SSL_set_connect_state(e->ours);
		SSL_set_accept_state(e->peer);
	} else {
		SSL_set_accept_state(e->ours);
		SSL_set_connect_state(e->peer);
	}
	e->engine = engine;
	if (!engine)
		assert_int_equal(ringtls_engine_new(&e->engine, &eo), 0);
}

static void attach(struct ends *e)
{
	assert_int_equal(ringtls_conn_new(&e->conn, e->engine, e->ours, -1, NULL), 0);
}

static void open_pair(struct ends *e, const struct pair_opts *o)
{
	BIO *a, *b;

	open_ssls(e, o, NULL);
	assert_int_equal(BIO_new_bio_pair(&a, ROOM, &b, ROOM), 1);
	SSL_set_bio(e->ours, a, a);
	SSL_set_bio(e->peer, b, b);
}

static void over_pair(struct ends *e, const struct pair_opts *o)
{
	open_pair(e, o);
	attach(e);
}

static void over_memory(struct ends *e, const struct pair_opts *o, struct ringtls_engine *engine)
{
	BIO *there = BIO_new(BIO_s_mem()), *back = BIO_new(BIO_s_mem());

	open_ssls(e, o, engine);
	BIO_set_mem_eof_return(there, -1);
	BIO_set_mem_eof_return(back, -1);
	BIO_up_ref(there);
	BIO_up_ref(back);
	SSL_set_bio(e->ours, back, there);
	SSL_set_bio(e->peer, there, back);
	attach(e);
}

/* A buffer, that keeps what is written until it is flushed, in front of a socket. */
static void over_buffered_socket(struct ends *e, const struct pair_opts *o)
{
	BIO *sock;

	open_ssls(e, o, NULL);
	pair_sockets(AF_INET, false, &e->fds[0], &e->fds[1]);
	sock = BIO_push(BIO_new(BIO_f_buffer()), BIO_new_socket(e->fds[0], BIO_NOCLOSE));
	SSL_set_bio(e->ours, sock, sock);
	assert_int_equal(SSL_set_fd(e->peer, e->fds[1]), 1);
	attach(e);
}

static void close_conn(struct ends *e)
{
	assert_int_equal(ringtls_conn_free(e->conn), 0);
	SSL_free(e->ours);
	SSL_free(e->peer);
	SSL_CTX_free(e->ctx);
	if (e->fds[0] >= 0)
		close(e->fds[0]);
	if (e->fds[1] >= 0)
		close(e->fds[1]);
	ERR_clear_error();
}

static void close_ends(struct ends *e)
{
	close_conn(e);
	assert_int_equal(ringtls_engine_free(e->engine), 0);
}

static bool wants(const struct ends *e, int r)
{
	int error = ringtls_get_error(e->conn, r);

	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static void shake_hands(struct ends *e)
{
	int ours = 0, peer = 0;

	for (int i = 0; i < 10000 && (ours != 1 || peer != 1); i++) {
		ours = ours == 1 ? 1 : ringtls_handshake(e->conn);
		if (ours != 1)
			assert_true(wants(e, ours));
		peer = peer == 1 ? 1 : SSL_do_handshake(e->peer);
	}
	assert_int_equal(ours, 1);
	assert_int_equal(peer, 1);
}

static void peer_reads(struct ends *e)
{
	int n;

	while (e->got_len < BIG &&
	       (n = SSL_read(e->peer, got + e->got_len, (int)(BIG - e->got_len))) > 0)
		e->got_len += (size_t)n;
}

static void write_all(struct ends *e, const uint8_t *bytes, size_t len)
{
	size_t written;

	while (ringtls_write_ex(e->conn, bytes, len, &written) != 1) {
		assert_int_equal(ringtls_get_error(e->conn, 0), SSL_ERROR_WANT_WRITE);
		peer_reads(e);
	}
	assert_int_equal(written, len);
}

static void peer_has(struct ends *e, size_t len)
{
	for (int i = 0; i < 10000 && e->got_len < len; i++)
		peer_reads(e);
	assert_int_equal(e->got_len, len);
	assert_memory_equal(got, big, len);
}

static struct ringtls_conn_info info_of(const struct ends *e)
{
	struct ringtls_conn_info info = {.size = sizeof(info)};

	assert_int_equal(ringtls_conn_get_info(e->conn, &info), 0);
	return info;
}

/* ---- Writing and reading ----------------------------------------------- */

static void bytes_go_both_ways(struct ends *e)
{
	struct ringtls_conn_info info;
	char text[8];
	int n = -1;

	shake_hands(e);
	write_all(e, big, BIG);
	peer_has(e, BIG);
	assert_int_equal(SSL_write(e->peer, "answer", 6), 6);
	for (int i = 0; i < 1000 && n < 0; i++) {
		n = ringtls_read(e->conn, text, sizeof(text));
		if (n < 0)
			assert_int_equal(ringtls_get_error(e->conn, n), SSL_ERROR_WANT_READ);
	}
	assert_int_equal(n, 6);
	assert_memory_equal(text, "answer", 6);
	info = info_of(e);
	assert_int_equal(info.lane, RINGTLS_LANE_OPENSSL);
	assert_int_equal(info.reason, RINGTLS_REASON_NOT_A_SOCKET);
	assert_int_equal(info.bytes, BIG);
	assert_true(info.records >= BIG / 16384 + 1);
	assert_int_equal(info.waits, 0);
	close_ends(e);
}

static void bytes_go_both_ways_over_a_bio_pair(void **state)
{
	struct ends e;

	over_pair(&e, *state);
	bytes_go_both_ways(&e);
}

static void bytes_go_both_ways_over_memory(void **state)
{
	struct ends e;

	over_memory(&e, *state, NULL);
	bytes_go_both_ways(&e);
}

/* Until nothing goes on: the pair is full. */
static void write_until_full(struct ends *e)
{
	size_t written;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(ringtls_write_ex(e->conn, big, BIG, &written), 0);
		assert_int_equal(ringtls_get_error(e->conn, 0), SSL_ERROR_WANT_WRITE);
	}
}

static void full_pair_is_the_callers_to_drain(void **state)
{
	struct ringtls_event ev;
	struct ends e;

	over_pair(&e, *state);
	shake_hands(&e);
	write_until_full(&e);
	/* Nobody but the caller knows when its BIO has room again. */
	peer_reads(&e);
	assert_int_equal(ringtls_engine_wait(e.engine, &ev, 1, 0), 0);
	write_all(&e, big, BIG);
	peer_has(&e, BIG);
	close_ends(&e);
}

static void buffer_is_not_read_between_calls(void **state)
{
	uint8_t *copy = malloc(BIG);
	size_t written;
	struct ends e;

	assert_non_null(copy);
	memcpy(copy, big, BIG);
	over_pair(&e, *state);
	shake_hands(&e);
	while (ringtls_write_ex(e.conn, copy, BIG, &written) != 1) {
		memset(copy, 0xee, BIG);
		peer_reads(&e);
		memcpy(copy, big, BIG);
	}
	peer_has(&e, BIG);
	close_ends(&e);
	free(copy);
}

static void another_buffer_is_a_bad_retry_and_loses_nothing(void **state)
{
	size_t written;
	struct ends e;

	over_pair(&e, *state);
	shake_hands(&e);
	write_until_full(&e);
	assert_int_equal(ringtls_write_ex(e.conn, big + 1, BIG - 1, &written), 0);
	assert_int_equal(ringtls_get_error(e.conn, 0), SSL_ERROR_SSL);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_BAD_WRITE_RETRY);
	write_all(&e, big, BIG);
	peer_has(&e, BIG);
	close_ends(&e);
}

static void file_is_read_and_sent(void **state)
{
	FILE *file = tmpfile();
	size_t done = 0;
	struct ends e;

	assert_non_null(file);
	assert_int_equal(fwrite(big, 1, BIG, file), BIG);
	fflush(file);
	over_pair(&e, *state);
	shake_hands(&e);
	while (done < BIG) {
		ssize_t n = ringtls_sendfile(e.conn, fileno(file), (off_t)done, BIG - done, 0);

		if (n > 0)
			done += (size_t)n;
		else
			assert_int_equal(ringtls_get_error(e.conn, -1), SSL_ERROR_WANT_WRITE);
		peer_reads(&e);
	}
	peer_has(&e, BIG);
	close_ends(&e);
	fclose(file);
}

static void read_goes_on_while_the_pair_is_full(void **state)
{
	char c = 0;
	struct ends e;

	over_pair(&e, *state);
	shake_hands(&e);
	write_until_full(&e);
	assert_int_equal(SSL_write(e.peer, "x", 1), 1);
	assert_int_equal(ringtls_read(e.conn, &c, 1), 1);
	assert_int_equal(c, 'x');
	write_all(&e, big, BIG);
	peer_has(&e, BIG);
	close_ends(&e);
}

/* The caller knows when its BIO has room; a file is read meanwhile. */
static void go_on_until(struct ends *e, size_t len, uint64_t requests)
{
	struct ringtls_completion done;
	struct ringtls_event ev;
	uint64_t n = 0;

	for (int i = 0; i < 1000000 && n < requests; i++) {
		assert_int_equal(ringtls_engine_wait(e->engine, &ev, 1, 0), 0);
		while (ringtls_engine_completions(e->engine, &done, 1) == 1) {
			assert_int_equal(done.id, n);
			assert_int_equal(done.error, 0);
			n += done.flags & RINGTLS_SENT ? 1 : 0;
		}
		peer_reads(e);
	}
	assert_int_equal(n, requests);
	peer_has(e, len);
}

static void queued_writes_go_on_whenever_the_engine_is_asked(void **state)
{
	const struct iovec iov = {big, 200000}, next = {big + 500000, 300000};
	FILE *file = tmpfile();
	struct ends e;

	assert_non_null(file);
	assert_int_equal(fwrite(big, 1, BIG, file), BIG);
	fflush(file);
	over_pair(&e, *state);
	shake_hands(&e);
	assert_int_equal(ringtls_queue_writev(e.conn, &iov, 1, 0), 1);
	assert_int_equal(ringtls_queue_sendfile(e.conn, fileno(file), 200000, 300000, 1), 1);
	assert_int_equal(ringtls_queue_writev(e.conn, &next, 1, 2), 1);
	assert_int_equal(ringtls_engine_submit(e.engine), 0);
	go_on_until(&e, 800000, 3);
	close_ends(&e);
	fclose(file);
}

/* One that takes all that it is given is no reason to hold up the others. */
static void connections_share_a_round(void **state)
{
	const struct iovec iov = {big, BIG};
	struct ends e[3];
	int started = 0;

	for (int i = 0; i < 3; i++) {
		over_memory(&e[i], *state, i ? e[0].engine : NULL);
		shake_hands(&e[i]);
		peer_reads(&e[i]);
		assert_int_equal(ringtls_queue_writev(e[i].conn, &iov, 1, 0), 1);
	}
	for (int calls = 1; calls <= 3; calls++) {
		assert_int_equal(ringtls_engine_submit(e[0].engine), 0);
		started = 0;
		for (int i = 0; i < 3; i++)
			started += info_of(&e[i]).bytes > 0;
		assert_int_equal(started, calls);
	}
	for (int i = 2; i >= 0; i--)
		close_conn(&e[i]);
	assert_int_equal(ringtls_engine_free(e[0].engine), 0);
}

static void full_pair_keeps_no_loop_awake(void **state)
{
	const struct iovec iov = {big, BIG};
	struct ringtls_completion done;
	struct ringtls_event ev;
	struct pollfd fd;
	struct ends e;

	over_pair(&e, *state);
	shake_hands(&e);
	assert_int_equal(ringtls_queue_writev(e.conn, &iov, 1, 0), 1);
	assert_int_equal(ringtls_engine_submit(e.engine), 0);
	assert_int_equal(ringtls_engine_wait(e.engine, &ev, 1, 0), 0);
	fd = (struct pollfd){ringtls_engine_fd(e.engine), POLLIN, 0};
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_int_equal(ringtls_engine_completions(e.engine, &done, 1), 0);
	assert_int_equal(ringtls_conn_cancel(e.conn, 0), 0);
	for (int i = 0; i < 1000 && !ringtls_engine_completions(e.engine, &done, 1); i++) {
		peer_reads(&e);
		assert_int_equal(ringtls_engine_wait(e.engine, &ev, 1, 0), 0);
	}
	assert_int_equal(done.error, -ECANCELED);
	assert_true(done.bytes < BIG);
	peer_has(&e, done.bytes);
	close_ends(&e);
}

/* What is queued waits for the peer's next flight, which only the caller can bring. */
static void renegotiation_is_the_callers_to_go_on_with(void **state)
{
	const struct ringtls_conn_opts co = {.size = sizeof(co),
					     .renegotiation = RINGTLS_RENEG_SERVE};
	const struct pair_opts *o = *state;
	const struct iovec iov = {big, 1000};
	struct ringtls_event ev;
	struct ends e;
	char c;

	need("TLS 1.2", o->version == TLS1_2_VERSION);
	open_pair(&e, o);
	SSL_set_options(e.ours, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	assert_int_equal(ringtls_conn_new(&e.conn, e.engine, e.ours, -1, &co), 0);
	shake_hands(&e);
	peer_reads(&e);
	assert_int_equal(SSL_renegotiate(e.peer), 1);
	SSL_do_handshake(e.peer);
	assert_int_equal(ringtls_queue_writev(e.conn, &iov, 1, 0), 1);
	alarm(60); /* once it went round in there */
	assert_int_equal(ringtls_read(e.conn, &c, 1), -1);
	assert_int_equal(ringtls_get_error(e.conn, -1), SSL_ERROR_WANT_READ);
	assert_int_equal(ringtls_write(e.conn, big, 10), -1);
	assert_int_equal(ringtls_get_error(e.conn, -1), SSL_ERROR_WANT_READ);
	assert_int_equal(ringtls_engine_wait(e.engine, &ev, 1, 20), 0);
	for (int i = 0; i < 1000 && e.got_len < 1000; i++) {
		SSL_do_handshake(e.peer);
		ringtls_read(e.conn, &c, 1);
		assert_int_equal(ringtls_engine_wait(e.engine, &ev, 1, 0), 0);
		peer_reads(&e);
	}
	alarm(0);
	peer_has(&e, 1000);
	assert_int_equal(SSL_num_renegotiations(e.peer), 1);
	close_ends(&e);
}

/* ---- Keys and the end -------------------------------------------------- */

static void keys_are_renewed_from_both_sides(void **state)
{
	const struct pair_opts *o = *state;
	struct ends e;
	char c = 0;

	over_pair(&e, o);
	shake_hands(&e);
	if (o->version != TLS1_3_VERSION) {
		assert_int_equal(ringtls_conn_key_update(e.conn, SSL_KEY_UPDATE_NOT_REQUESTED),
				 RINGTLS_E_STATE);
		close_ends(&e);
		return;
	}
	assert_int_equal(ringtls_conn_key_update(e.conn, SSL_KEY_UPDATE_REQUESTED), 0);
	write_all(&e, big, 50000);
	peer_has(&e, 50000);
	assert_int_equal(SSL_key_update(e.peer, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_write(e.peer, "x", 1), 1);
	assert_int_equal(ringtls_read(e.conn, &c, 1), 1);
	write_all(&e, big + 50000, BIG - 50000);
	peer_has(&e, BIG);
	close_ends(&e);
}

static void close_notify_comes_behind_all_data(void **state)
{
	struct ends e;
	int r;

	over_pair(&e, *state);
	shake_hands(&e);
	write_all(&e, big, BIG - 1);
	while ((r = ringtls_shutdown(e.conn)) < 0) {
		assert_int_equal(ringtls_get_error(e.conn, r), SSL_ERROR_WANT_WRITE);
		peer_reads(&e);
	}
	assert_int_equal(r, 0);
	peer_has(&e, BIG - 1);
	assert_int_equal(SSL_read(e.peer, got, 1), 0);
	assert_int_equal(SSL_get_error(e.peer, 0), SSL_ERROR_ZERO_RETURN);
	assert_int_equal(SSL_shutdown(e.peer), 1);
	assert_int_equal(ringtls_shutdown(e.conn), 1);
	close_ends(&e);
}

static void freed_connection_leaves_the_ssl_its_bios(void **state)
{
	struct ends e;
	BIO *rbio, *wbio;

	over_pair(&e, *state);
	rbio = SSL_get_rbio(e.ours);
	shake_hands(&e);
	write_all(&e, big, 1000);
	assert_int_equal(ringtls_conn_free(e.conn), 0);
	e.conn = NULL;
	wbio = SSL_get_wbio(e.ours);
	assert_ptr_equal(wbio, rbio);
	assert_ptr_equal(SSL_get_rbio(e.ours), rbio);
	assert_int_equal(SSL_write(e.ours, big + 1000, 1000), 1000);
	peer_has(&e, 2000);
	close_ends(&e);
}

static void broken_bio_fails_the_connection_and_sticks(void **state)
{
	struct ends e;

	over_pair(&e, *state);
	shake_hands(&e);
	BIO_destroy_bio_pair(SSL_get_rbio(e.ours));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ringtls_write(e.conn, "x", 1), -1);
		assert_int_not_equal(ringtls_get_error(e.conn, -1), SSL_ERROR_NONE);
		assert_false(wants(&e, -1));
	}
	assert_true(info_of(&e).error < 0);
	close_ends(&e);
}

/* ---- Sockets behind BIOs ----------------------------------------------- */

static void buffered_socket_is_flushed_when_openssl_would(void **state)
{
	struct ends e;
	int r;

	over_buffered_socket(&e, *state);
	shake_hands(&e);
	write_all(&e, big, 20000);
	/* As with SSL_write: what is in the caller's buffer is the caller's to flush. */
	assert_int_equal(BIO_flush(SSL_get_rbio(e.ours)), 1);
	peer_has(&e, 20000);
	write_all(&e, big + 20000, 100);
	while ((r = ringtls_shutdown(e.conn)) < 0)
		assert_true(wants(&e, r));
	assert_int_equal(r, 0);
	peer_has(&e, 20100);
	for (int i = 0; i < 10000 && !(SSL_get_shutdown(e.peer) & SSL_RECEIVED_SHUTDOWN); i++)
		SSL_read(e.peer, got, 1);
	assert_true(SSL_get_shutdown(e.peer) & SSL_RECEIVED_SHUTDOWN);
	close_ends(&e);
}

static void *peer_echoes(void *arg)
{
	struct ends *e = arg;
	char buf[16];
	int n = SSL_do_handshake(e->peer) == 1 ? SSL_read(e->peer, buf, sizeof(buf)) : -1;

	return n > 0 && SSL_write(e->peer, buf, n) == n ? e : NULL;
}

static void blocking_bio_is_flushed_before_it_is_read(void **state)
{
	const struct pair_opts *o = *state;
	pthread_t thread;
	struct ends e;
	char buf[16];
	void *ok;

	open_ssls(&e, o, NULL);
	pair_sockets(AF_INET, false, &e.fds[0], &e.fds[1]);
	pair_set_blocking(e.fds[0]);
	pair_set_blocking(e.fds[1]);
	assert_int_equal(SSL_set_fd(e.ours, e.fds[0]), 1);
	assert_int_equal(SSL_set_fd(e.peer, e.fds[1]), 1);
	attach(&e);
	assert_int_equal(pthread_create(&thread, NULL, peer_echoes, &e), 0);
	assert_int_equal(ringtls_write(e.conn, "echo", 4), 4);
	assert_int_equal(ringtls_read(e.conn, buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "echo", 4);
	pthread_join(thread, &ok);
	assert_ptr_equal(ok, &e);
	close_ends(&e);
}

/* ---- What is refused --------------------------------------------------- */

static void named_lane_is_refused(void **state)
{
	static const uint32_t lanes[] = {RINGTLS_LANE_KERNEL, RINGTLS_LANE_USER};
	struct ringtls_conn_opts co = {.size = sizeof(co)};
	struct ringtls_conn *conn;
	struct ends e;

	open_ssls(&e, *state, NULL);
	SSL_set_bio(e.ours, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	for (int i = 0; i < 2; i++) {
		co.lane = lanes[i];
		assert_int_equal(ringtls_conn_new(&conn, e.engine, e.ours, -1, &co),
				 RINGTLS_E_LANE);
	}
	co.lane = RINGTLS_LANE_OPENSSL;
	assert_int_equal(ringtls_conn_new(&e.conn, e.engine, e.ours, -1, &co), 0);
	assert_int_equal(ringtls_conn_new(&conn, e.engine, e.ours, -1, &co), RINGTLS_E_STATE);
	close_ends(&e);
}

static void ssl_without_bios_needs_a_socket(void **state)
{
	struct ringtls_conn *conn;
	struct ends e;

	open_ssls(&e, *state, NULL);
	assert_int_equal(ringtls_conn_new(&conn, e.engine, e.ours, -1, NULL), -EINVAL);
	close_ends(&e);
}

static void bio_on_another_descriptor_is_refused(void **state)
{
	struct ringtls_conn *conn;
	struct ends e;

	open_ssls(&e, *state, NULL);
	pair_sockets(AF_INET, false, &e.fds[0], &e.fds[1]);
	assert_int_equal(SSL_set_fd(e.ours, e.fds[1]), 1);
	assert_int_equal(ringtls_conn_new(&conn, e.engine, e.ours, e.fds[0], NULL), -EINVAL);
	assert_int_equal(SSL_set_fd(e.ours, e.fds[0]), 1);
	assert_int_equal(ringtls_conn_new(&e.conn, e.engine, e.ours, e.fds[0], NULL), 0);
	close_ends(&e);
}

static void bytes_that_wait_in_a_bio_are_not_dropped(void **state)
{
	struct ringtls_conn *conn;
	struct ends e;
	BIO *buffer;

	open_ssls(&e, *state, NULL);
	pair_sockets(AF_INET, false, &e.fds[0], &e.fds[1]);
	buffer = BIO_push(BIO_new(BIO_f_buffer()), BIO_new_socket(e.fds[0], BIO_NOCLOSE));
	SSL_set_bio(e.ours, buffer, buffer);
	assert_int_equal(BIO_write(buffer, "kept", 4), 4);
	assert_int_equal(ringtls_conn_new(&conn, e.engine, e.ours, e.fds[0], NULL),
			 RINGTLS_E_STATE);
	assert_int_equal(BIO_flush(buffer), 1);
	assert_int_equal(ringtls_conn_new(&e.conn, e.engine, e.ours, e.fds[0], NULL), 0);
	close_ends(&e);
}

/* ------------------------------------------------------------------------ */

#define LIST(T)                                                                                    \
	T(bytes_go_both_ways_over_a_bio_pair)                                                      \
	T(bytes_go_both_ways_over_memory)                                                          \
	T(full_pair_is_the_callers_to_drain)                                                       \
	T(buffer_is_not_read_between_calls)                                                        \
	T(another_buffer_is_a_bad_retry_and_loses_nothing)                                         \
	T(file_is_read_and_sent)                                                                   \
	T(read_goes_on_while_the_pair_is_full)                                                     \
	T(connections_share_a_round)                                                               \
	T(queued_writes_go_on_whenever_the_engine_is_asked)                                        \
	T(full_pair_keeps_no_loop_awake)                                                           \
	T(renegotiation_is_the_callers_to_go_on_with)                                              \
	T(keys_are_renewed_from_both_sides)                                                        \
	T(close_notify_comes_behind_all_data)                                                      \
	T(freed_connection_leaves_the_ssl_its_bios)                                                \
	T(broken_bio_fails_the_connection_and_sticks)                                              \
	T(buffered_socket_is_flushed_when_openssl_would)                                           \
	T(blocking_bio_is_flushed_before_it_is_read)

#define TEST(name, ver, back, opts)                                                                \
	{                                                                                          \
		"openssl " back " " ver " non-blocking: " #name, name, NULL, NULL, opts                                    \
	}
#define S12(name) TEST(name, "TLSv1.2", "syscalls", &syscalls_12),
#define S13(name) TEST(name, "TLSv1.3", "syscalls", &syscalls_13),
#define U12(name) TEST(name, "TLSv1.2", "uring", &uring_12),
#define U13(name) TEST(name, "TLSv1.3", "uring", &uring_13),

static struct pair_opts syscalls_12 = {.version = TLS1_2_VERSION,
				       .backend = RINGTLS_BACKEND_SYSCALLS},
			syscalls_13 = {.version = TLS1_3_VERSION,
				       .backend = RINGTLS_BACKEND_SYSCALLS},
			uring_12 = {.version = TLS1_2_VERSION, .is_client = true},
			uring_13 = {.version = TLS1_3_VERSION, .is_client = true};

int main(void)
{
	const struct CMUnitTest tests[] = {
		LIST(S12) LIST(S13) LIST(U12) LIST(U13) S13(named_lane_is_refused)
			S13(ssl_without_bios_needs_a_socket)
				S13(bio_on_another_descriptor_is_refused)
					S13(bytes_that_wait_in_a_bio_are_not_dropped)};

	pair_fill(big, BIG);
	return cmocka_run_group_tests_name("bio", tests, NULL, NULL);
}
