/*
 * test_reneg.c - renegotiation (RFC 5246 7.4.1, RFC 5746) in TLS 1.2: refused, or
 * served in the openssl lane, in the middle of writes, started by either side.
 */
#include "support.h"
#include "list.h"

#include <openssl/err.h>

#define BIG    (300 * 1024)
#define ROUNDS 100

static uint8_t big[BIG];

static void open_serving(struct pair *p, const struct pair_opts *o)
{
	struct pair_opts serve = *o;

	serve.version = TLS1_2_VERSION;
	serve.renegotiation = RINGTLS_RENEG_SERVE;
	pair_open(p, &serve);
	SSL_set_options(p->ours, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	SSL_set_options(p->peer, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	pair_handshake(p);
	assert_int_equal(pair_info(p).lane, RINGTLS_LANE_OPENSSL);
	assert_int_equal(pair_info(p).reason, RINGTLS_REASON_RENEGOTIATION);
}

/* The peer's reads do its part of the handshake. */
static void expect_want(struct pair *p, int r)
{
	int e = ringtls_get_error(p->conn, r);

	if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
		ERR_print_errors_fp(stderr);
	assert_true(e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE);
	pair_rest(p);
	pair_peer_reads(p);
}

/* A write that runs into a renegotiation is repeated until it is through. */
static void write_through_it(struct pair *p)
{
	size_t written = 0;
	char c;
	int r;

	for (int i = 0; i < 1000; i++) {
		if (ringtls_write_ex(p->conn, big, BIG, &written) == 1)
			break;
		expect_want(p, 0);
		/* The request is noticed by a read, as in OpenSSL. */
		r = ringtls_read(p->conn, &c, 1);
		assert_int_equal(r, -1);
		expect_want(p, r);
	}
	assert_int_equal(written, BIG);
}

static void drain_peer(struct pair *p)
{
	pair_peer_expects(p, big, BIG);
	p->got_len = 0;
}

static void peers_renegotiations_during_writes(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;
	char c;

	o.small_buffers = true;
	open_serving(&p, &o);
	for (int i = 0; i < ROUNDS; i++) {
		assert_int_equal(SSL_renegotiate(p.peer), 1);
		SSL_do_handshake(p.peer);
		for (int tries = 0; SSL_renegotiate_pending(p.peer) && tries < 100; tries++) {
			assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
			expect_want(&p, -1);
		}
		assert_false(SSL_renegotiate_pending(p.peer));
		write_through_it(&p);
		drain_peer(&p);
	}
	assert_int_equal(SSL_num_renegotiations(p.peer), ROUNDS);
	pair_close(&p);
}

static void our_renegotiations_during_writes(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;

	o.small_buffers = true;
	open_serving(&p, &o);
	for (int i = 0; i < ROUNDS; i++) {
		assert_int_equal(SSL_renegotiate(p.ours), 1);
		write_through_it(&p);
		drain_peer(&p);
	}
	assert_true(SSL_num_renegotiations(p.ours) >= ROUNDS);
	pair_close(&p);
}

/* A stock OpenSSL client takes the refusal for fatal; what matters is that it is one,
 * and that what was written before it arrives. */
static void peers_request_is_refused_by_default(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;
	char c;

	o.version = TLS1_2_VERSION;
	pair_need(&o);
	pair_open(&p, &o);
	pair_handshake(&p);
	pair_write_all(&p, big, 20000);
	pair_peer_expects(&p, big, 20000);
	SSL_set_options(p.peer, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	assert_int_equal(SSL_renegotiate(p.peer), 1);
	SSL_do_handshake(p.peer);
	pair_await(p.fd);
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_READ);
	ERR_clear_error();
	pair_peer_reads_to_the_end(&p);
	assert_int_equal(p.peer_error, SSL_ERROR_SSL);
	assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
	assert_int_equal(SSL_num_renegotiations(p.ours), 0);
	pair_close(&p);
}

static void our_own_is_a_named_error_and_the_connection_lives(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;

	o.version = TLS1_2_VERSION;
	pair_need(&o);
	pair_open(&p, &o);
	pair_handshake(&p);
	assert_int_equal(SSL_renegotiate(p.ours), 0);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_NO_RENEGOTIATION);
	pair_write_all(&p, big, 20000);
	pair_peer_expects(&p, big, 20000);
	pair_close(&p);
}

#define O(l, b, c)                                                                                 \
	{                                                                                          \
		.lane = RINGTLS_LANE_##l, .backend = RINGTLS_BACKEND_##b,                          \
		.version = TLS1_2_VERSION, .is_client = c                                          \
	}

static const struct pair_opts serving[] = {
	O(OPENSSL, URING, false), O(OPENSSL, SYSCALLS, false), O(OPENSSL, URING, true),
};
static const struct pair_opts refusing[] = {
	O(OPENSSL, URING, false),   O(OPENSSL, SYSCALLS, false), O(USER, URING, false),
	O(USER, SYSCALLS, true),    O(KERNEL, URING, false),     O(KERNEL, SYSCALLS, true),
};

static void add(const char *name, CMUnitTestFunction function, const struct pair_opts *o)
{
	list_add(o, function, "%s %s: %s", list_place(o), o->is_client ? "client" : "server", name);
}

int main(int argc, char **argv)
{
	pair_fill(big, BIG);
	for (size_t i = 0; i < COUNT(serving); i++) {
		/* The policy, not a named lane, must choose the openssl lane. */
		static struct pair_opts by_policy[COUNT(serving)];

		by_policy[i] = serving[i];
		by_policy[i].lane = RINGTLS_LANE_AUTO;
		add("peers_renegotiations_during_writes", peers_renegotiations_during_writes,
		    &by_policy[i]);
		add("our_renegotiations_during_writes", our_renegotiations_during_writes,
		    &by_policy[i]);
	}
	for (size_t i = 0; i < COUNT(refusing); i++) {
		add("peers_request_is_refused_by_default", peers_request_is_refused_by_default,
		    &refusing[i]);
		add("our_own_is_a_named_error_and_the_connection_lives",
		    our_own_is_a_named_error_and_the_connection_lives, &refusing[i]);
	}
	return list_run("reneg", argc, argv);
}
