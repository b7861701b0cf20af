/*
 * test_early.c - early data (RFC 8446 2.3) in both roles and every lane, against a
 * stock peer.
 */
#include "support.h"
#include "list.h"

#include <openssl/err.h>

#define EARLY (40 * 1024)

static uint8_t big[4 * EARLY];

/* A first connection, for its ticket; then a second one that resumes it. */
static void open_resumed(struct pair *p, const struct pair_opts *o)
{
	SSL_SESSION *session;

	pair_need(o);
	pair_open(p, o);
	pair_handshake(p);
	/* The client has the tickets once it has read behind them. */
	if (o->is_client) {
		pair_peer_sends_a_byte(p);
		session = SSL_get1_session(p->ours);
	} else {
		pair_write_all(p, big, 1);
		pair_peer_expects(p, big, 1);
		session = SSL_get1_session(p->peer);
	}
	assert_true(SSL_SESSION_get_max_early_data(session) > 0);
	/* Sessions of connections that did not end well are not resumed. */
	SSL_shutdown(p->peer);
	ringtls_shutdown(p->conn);
	pair_reconnect(p, session);
	SSL_SESSION_free(session);
}

static void expect_want(struct pair *p)
{
	int e = ringtls_get_error(p->conn, 0);

	if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
		ERR_print_errors_fp(stderr);
	assert_true(e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE);
}

static void server_reads_early_data_and_answers_before_the_handshake_is_done(void **state)
{
	const struct pair_opts *o = *state;
	uint8_t *got;
	size_t written = 0, n = 0, total = 0;
	struct pair p;
	int r;

	pair_need(o); /* a test that is skipped frees nothing */
	got = malloc(sizeof(big));
	assert_non_null(got);
	open_resumed(&p, o);
	assert_int_equal(SSL_write_early_data(p.peer, big, EARLY, &written), 1);
	for (int i = 0; i < 100 && total < EARLY; i++) {
		r = ringtls_read_early_data(p.conn, got + total, sizeof(big) - total, &n);
		assert_true(r == SSL_READ_EARLY_DATA_SUCCESS || r == SSL_READ_EARLY_DATA_ERROR);
		if (r == SSL_READ_EARLY_DATA_SUCCESS)
			total += n;
		else
			expect_want(&p);
		pair_rest(&p);
	}
	assert_int_equal(total, EARLY);
	assert_memory_equal(got, big, EARLY);
	/* 0.5-RTT: the client's Finished is still to come. */
	assert_int_equal(ringtls_write_early_data(p.conn, big, EARLY, &written), 1);
	assert_int_equal(written, EARLY);
	/* SSL_in_init is no guide here: it is false while early data is exchanged. */
	for (int i = 0; i < 100 && r != SSL_READ_EARLY_DATA_FINISH; i++) {
		SSL_do_handshake(p.peer);
		r = ringtls_read_early_data(p.conn, got, 1, &n);
		pair_rest(&p);
	}
	pair_handshake(&p);
	assert_int_equal(SSL_get_early_data_status(p.ours), SSL_EARLY_DATA_ACCEPTED);
	pair_write_all(&p, big + EARLY, 2 * EARLY);
	pair_peer_expects(&p, big, 3 * EARLY);
	assert_int_equal(pair_info(&p).lane, o->lane);
	pair_close(&p);
	free(got);
}

static void client_writes_early_data(void **state)
{
	const struct pair_opts *o = *state;
	uint8_t *got;
	size_t written = 0, n = 0, total = 0;
	struct pair p;
	int r = 0;

	pair_need(o); /* a test that is skipped frees nothing */
	got = malloc(sizeof(big));
	assert_non_null(got);
	open_resumed(&p, o);
	assert_int_equal(ringtls_write_early_data(p.conn, big, EARLY, &written), 1);
	assert_int_equal(written, EARLY);
	for (int i = 0; i < 100 && total < EARLY; i++) {
		if (SSL_read_early_data(p.peer, got + total, sizeof(big) - total, &n) ==
		    SSL_READ_EARLY_DATA_SUCCESS)
			total += n;
		pair_rest(&p);
	}
	assert_int_equal(total, EARLY);
	assert_memory_equal(got, big, EARLY);
	for (int i = 0; i < 100 && r != SSL_READ_EARLY_DATA_FINISH; i++) {
		ringtls_handshake(p.conn);
		r = SSL_read_early_data(p.peer, got, 1, &n);
		pair_rest(&p);
	}
	pair_handshake(&p);
	assert_int_equal(SSL_get_early_data_status(p.ours), SSL_EARLY_DATA_ACCEPTED);
	pair_write_all(&p, big + EARLY, 2 * EARLY);
	pair_peer_expects(&p, big + EARLY, 2 * EARLY);
	assert_int_equal(pair_info(&p).lane, o->lane);
	pair_close(&p);
	free(got);
}

static void another_buffer_is_a_bad_retry(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	size_t written = 0;
	struct pair p;

	o.small_buffers = true;
	open_resumed(&p, &o);
	assert_int_equal(ringtls_write_early_data(p.conn, big, sizeof(big), &written), 0);
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_WANT_WRITE);
	assert_int_equal(ringtls_write_early_data(p.conn, big + 1, sizeof(big), &written), 0);
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_SSL);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_BAD_WRITE_RETRY);
	pair_close(&p);
}

#define O(l, b, c)                                                                                 \
	{                                                                                          \
		.lane = RINGTLS_LANE_##l, .backend = RINGTLS_BACKEND_##b,                          \
		.version = TLS1_3_VERSION, .is_client = c                                          \
	}

static const struct pair_opts roles[][6] = {
	{ O(OPENSSL, URING, false), O(OPENSSL, SYSCALLS, false), O(USER, URING, false),
	  O(USER, SYSCALLS, false), O(KERNEL, URING, false), O(KERNEL, SYSCALLS, false) },
	{ O(OPENSSL, URING, true), O(OPENSSL, SYSCALLS, true), O(USER, URING, true),
	  O(USER, SYSCALLS, true), O(KERNEL, URING, true), O(KERNEL, SYSCALLS, true) },
};

#define T(f) { #f, f }

int main(int argc, char **argv)
{
	static const struct list_test server[] = {
		T(server_reads_early_data_and_answers_before_the_handshake_is_done),
	}, client[] = {
		T(client_writes_early_data),
		T(another_buffer_is_a_bad_retry),
	};

	pair_fill(big, sizeof(big));
	for (size_t i = 0; i < COUNT(roles[0]); i++) {
		list_add_all(server, COUNT(server), &roles[0][i], 1);
		list_add_all(client, COUNT(client), &roles[1][i], 1);
	}
	return list_run("early", argc, argv);
}
