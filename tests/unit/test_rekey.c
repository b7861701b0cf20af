/*
 * test_rekey.c - KeyUpdate (RFC 8446 4.6.3) against a stock peer: ours, the peer's,
 * those that the record limit calls for, and what happens where there can be none.
 */
#include "support.h"
#include "list.h"

#include <poll.h>
#include <unistd.h>
#include <openssl/err.h>
#include "keylog.h"
#include "probe.h"

#define BIG (1024 * 1024 + 321)

static uint8_t big[BIG];

/* Whether this lane can take a next key here. */
static bool can_rekey(const struct pair_opts *o)
{
	return o->lane != RINGTLS_LANE_KERNEL || !ringtls__probe_get()->rekey;
}

static void open_rekeyable(struct pair *p, const struct pair_opts *o)
{
	pair_need(o);
	if (o->lane == RINGTLS_LANE_KERNEL)
		need("rekey", can_rekey(o));
	pair_open(p, o);
	pair_handshake(p);
}

/* The traffic secret, where we derive the next keys. */
static bool has_secret(const struct pair *p)
{
	return p->conn->bios.secret != NULL;
}

/* The peer reads what we may have sent it, and answers nothing by itself. */
static void expect_more(struct pair *p, const uint8_t *bytes, size_t len)
{
	pair_write_all(p, bytes, len);
	pair_peer_expects(p, bytes, len);
	p->got_len = 0;
}

static void our_update_changes_the_key(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;

	open_rekeyable(&p, o);
	for (int i = 0; i < 8; i++) {
		expect_more(&p, big, 50000);
		assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_NOT_REQUESTED), 0);
	}
	expect_more(&p, big, 50000);
	if (o->lane != RINGTLS_LANE_OPENSSL)
		assert_int_equal(pair_info(&p).epochs, 9);
	pair_close(&p);
}

/* The peer's next read finds our request, its next write answers. */
static void our_request_is_answered(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;

	open_rekeyable(&p, o);
	assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_REQUESTED), 0);
	expect_more(&p, big, 1000);
	pair_peer_sends_a_byte(&p);
	expect_more(&p, big, 1000);
	pair_close(&p);
}

static void peers_request_is_answered_by_a_read(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;

	open_rekeyable(&p, o);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(SSL_key_update(p.peer, SSL_KEY_UPDATE_REQUESTED), 1);
		pair_peer_sends_a_byte(&p);
		expect_more(&p, big, 20000);
	}
	if (o->lane != RINGTLS_LANE_OPENSSL)
		assert_int_equal(pair_info(&p).epochs, 9);
	pair_close(&p);
}

static void peers_update_without_request_changes_nothing_of_ours(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;

	pair_need(o); /* whether the kernel can rekey or not */
	pair_open(&p, o);
	pair_handshake(&p);
	assert_int_equal(SSL_key_update(p.peer, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
	pair_peer_sends_a_byte(&p);
	expect_more(&p, big, 20000);
	assert_int_equal(pair_info(&p).epochs, o->lane != RINGTLS_LANE_OPENSSL);
	pair_close(&p);
}

static void read_ahead(SSL_CTX *ours, SSL_CTX *peer)
{
	(void)peer;
	SSL_CTX_set_read_ahead(ours, 1);
}

/* All comes at once, so that it could be read at once. */
static void updates_that_were_read_ahead(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	static uint8_t got[20000];
	size_t len = 0;
	struct pair p;

	pair_need(&o);
	o.prepare = read_ahead;
	pair_open(&p, &o);
	pair_handshake(&p);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(SSL_write(p.peer, big + i * 1000, 1000), 1000);
		assert_int_equal(SSL_key_update(p.peer, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
	}
	assert_int_equal(SSL_write(p.peer, big + 5000, 1000), 1000);
	for (int tries = 0; len < 6000 && tries < 1000; tries++) {
		int n = ringtls_read(p.conn, got + len, (int)(sizeof(got) - len));

		if (n > 0)
			len += (size_t)n;
		else
			pair_rest(&p);
	}
	assert_int_equal(len, 6000);
	assert_memory_equal(got, big, 6000);
	pair_close(&p);
}

static void update_in_the_middle_of_a_write(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	size_t written = 0;
	struct pair p;
	int updates = 0;

	o.small_buffers = true;
	open_rekeyable(&p, &o);
	while (ringtls_write_ex(p.conn, big, BIG, &written) != 1) {
		assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_WANT_WRITE);
		assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_NOT_REQUESTED), 0);
		updates++;
		pair_peer_reads(&p);
		pair_wait(&p);
	}
	assert_true(updates > 0);
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
}

static void limit_of_records_renews_the_key(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct ringtls_conn_info before, after;
	struct pair p;

	o.max_records = 10;
	open_rekeyable(&p, &o);
	before = pair_info(&p);
	expect_more(&p, big, 64 * 16384);
	after = pair_info(&p);
	if (o.lane != RINGTLS_LANE_OPENSSL) {
		/* 64 full records, ten to a key; each KeyUpdate is sealed with the old one. */
		assert_in_bounds(after.epochs - before.epochs, 6, 7);
		assert_int_equal(after.records - before.records, 64 + after.epochs - before.epochs);
	}
	pair_close(&p);
}

/* ---- Where there can be none ------------------------------------------- */

static void expect_orderly_end(struct pair *p)
{
	for (int i = 0; i < 50 && p->peer_error != SSL_ERROR_ZERO_RETURN; i++)
		pair_peer_reads(p);
	assert_int_equal(p->peer_error, SSL_ERROR_ZERO_RETURN);
	assert_int_equal(ringtls_write(p->conn, big, 10), -1);
	assert_int_equal(ringtls_get_error(p->conn, -1), SSL_ERROR_SSL);
	assert_int_equal(pair_info(p).error, RINGTLS_E_REKEY);
}

static void open_unrekeyable(struct pair *p, const struct pair_opts *o)
{
	pair_need(o);
	if (o->lane == RINGTLS_LANE_KERNEL && can_rekey(o)) {
		print_message("# needs a kernel that can't rekey\n");
		skip();
	}
	if (o->lane == RINGTLS_LANE_OPENSSL ||
	    (o->lane == RINGTLS_LANE_USER && ringtls__ossl_offers_next_keys())) {
		print_message("# needs a lane that can't rekey\n");
		skip();
	}
	pair_open(p, o);
	pair_handshake(p);
}

static void update_that_cannot_be_is_refused_and_the_connection_lives(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;

	o.is_unprepared = true;
	open_unrekeyable(&p, &o);
	assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_NOT_REQUESTED),
			 RINGTLS_E_REKEY);
	expect_more(&p, big, 20000);
	pair_close(&p);
}

static void peers_request_that_cannot_be_met_ends_in_order(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;
	char c;

	o.is_unprepared = true;
	open_unrekeyable(&p, &o);
	pair_write_all(&p, big, 20000);
	assert_int_equal(SSL_key_update(p.peer, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_write(p.peer, "x", 1), 1);
	pair_await(p.fd);
	ringtls_read(p.conn, &c, 1);
	pair_peer_expects(&p, big, 20000);
	expect_orderly_end(&p);
	pair_close(&p);
}

/* The secret is known, and is of no use. */
static void secret_ends_with_a_connection_that_ends_in_order(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;
	char c;

	if (o->lane != RINGTLS_LANE_KERNEL || can_rekey(o)) {
		print_message("# needs a kernel lane that can't rekey\n");
		skip();
	}
	pair_need(o);
	pair_open(&p, o);
	pair_handshake(&p);
	assert_int_equal(SSL_key_update(p.peer, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_write(p.peer, "x", 1), 1);
	pair_await(p.fd);
	ringtls_read(p.conn, &c, 1);
	expect_orderly_end(&p);
	assert_false(has_secret(&p));
	pair_close(&p);
}

static void limit_that_cannot_be_renewed_ends_in_order(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;
	size_t written, left;

	o.is_unprepared = true;
	o.max_records = 10;
	open_unrekeyable(&p, &o);
	/* A server's tickets were sealed with this key, too. */
	left = (10 - (o.is_client ? 0 : 2)) * 16384;
	assert_int_equal(ringtls_write_ex(p.conn, big, 64 * 16384, &written), 0);
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_SSL);
	assert_int_equal(pair_info(&p).bytes, left);
	pair_peer_expects(&p, big, left);
	ERR_clear_error();
	expect_orderly_end(&p);
	pair_close(&p);
}

/* ---- Many -------------------------------------------------------------- */

static void a_thousand_updates_of_each_side(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;

	open_rekeyable(&p, o);
	for (int i = 0; i < 500; i++) {
		assert_int_equal(SSL_key_update(p.peer, SSL_KEY_UPDATE_REQUESTED), 1);
		pair_peer_sends_a_byte(&p);
		expect_more(&p, big, 1000);
		assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_REQUESTED), 0);
		expect_more(&p, big, 100);
	}
	pair_close(&p);
}

/* Records that bring no byte: the read comes back, and other work can be done. */
static void storm_of_updates_does_not_hold_a_read(void **state)
{
	const struct pair_opts *o = *state;
	struct ringtls_conn_info info;
	struct pair p;
	int calls = 0, r;
	char c = 0;

	open_rekeyable(&p, o);
	for (int i = 0; i < 6000; i++) { /* more than eight reads can take */
		assert_int_equal(SSL_key_update(p.peer, SSL_KEY_UPDATE_REQUESTED), 1);
		if (SSL_do_handshake(p.peer) != 1)
			break; /* the socket is full */
	}
	do {
		r = ringtls_read(p.conn, &c, 1);
		calls++;
		if (r < 0)
			assert_true(ringtls_get_error(p.conn, r) == SSL_ERROR_WANT_READ ||
				    ringtls_get_error(p.conn, r) == SSL_ERROR_WANT_WRITE);
		pair_peer_reads(&p);
	} while (r < 0 && calls < 8);
	/* A KeyUpdate has 27 bytes, and a call reads about a record. */
	info = pair_info(&p);
	assert_true(info.epochs <= (uint64_t)calls * 17408 / 27 + 1);
	assert_int_equal(p.peer_error, SSL_ERROR_WANT_READ);
	pair_close(&p);
}

static void shake_hands_in_memory(SSL *a, SSL *b)
{
	BIO *of_a, *of_b;
	int done_a = 0, done_b = 0;

	assert_int_equal(BIO_new_bio_pair(&of_a, 0, &of_b, 0), 1);
	SSL_set_bio(a, of_a, of_a);
	SSL_set_bio(b, of_b, of_b);
	for (int i = 0; i < 10 && (done_a != 1 || done_b != 1); i++) {
		done_a = SSL_do_handshake(a);
		done_b = SSL_do_handshake(b);
	}
	assert_int_equal(done_a, 1);
	assert_int_equal(done_b, 1);
}

/* A handshake of a copy of ours, which has secrets of its own. */
static void shake_hands_of_copy(SSL *copy, SSL *peer)
{
	assert_non_null(copy);
	if (SSL_is_server(copy))
		SSL_set_connect_state(peer);
	else
		SSL_set_accept_state(peer);
	shake_hands_in_memory(copy, peer);
	SSL_free(copy);
	SSL_free(peer);
}

/* SSL_dup(3) takes along what hangs on an SSL. */
static void copies_of_the_ssl_have_keys_of_their_own(void **state)
{
	const struct pair_opts *o = *state;
	SSL *first, *second, *peers[2];
	struct pair p;

	pair_need(o);
	if (o->lane == RINGTLS_LANE_KERNEL)
		need("rekey", can_rekey(o));
	pair_open(&p, o);
	first = SSL_dup(p.ours);
	second = SSL_dup(p.ours);
	peers[0] = SSL_new(p.peer_ctx);
	peers[1] = SSL_new(p.peer_ctx);
	pair_handshake(&p);
	shake_hands_of_copy(first, peers[0]);
	assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_NOT_REQUESTED), 0);
	expect_more(&p, big, 50000);
	pair_close(&p);
	shake_hands_of_copy(second, peers[1]); /* when ours is freed */
}

/* ---- The traffic secret ------------------------------------------------- */

static void secret_ends_with_a_connection_that_fails(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;

	pair_need(o);
	pair_open(&p, o);
	pair_handshake(&p);
	/* In a kernel that can't rekey it ends with the install, which may be still to come. */
	if (o->lane != RINGTLS_LANE_OPENSSL && can_rekey(o) && !ringtls__ossl_offers_next_keys())
		assert_true(has_secret(&p));
	pair_peer_resets(&p);
	while (!pair_info(&p).error) {
		ringtls_write(p.conn, big, 1000);
		poll(NULL, 0, 1);
	}
	assert_false(has_secret(&p));
	pair_close(&p);
}

/* OpenSSL 3.0 and 3.1 have a secret, and offer no key. */
static void cipher_without_a_key_for_us_leaves_no_secret(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;

	o.lane = RINGTLS_LANE_AUTO;
	o.cipher = "TLS_AES_128_CCM_SHA256";
	pair_need(&o);
	pair_open(&p, &o);
	pair_handshake(&p);
	expect_more(&p, big, 50000);
	assert_false(has_secret(&p));
	pair_close(&p);
}

#define O(l, b, c)                                                                                 \
	{                                                                                          \
		.lane = RINGTLS_LANE_##l, .backend = RINGTLS_BACKEND_##b,                          \
		.version = TLS1_3_VERSION, .is_client = c                                          \
	}

static const struct pair_opts combinations[] = {
	O(OPENSSL, URING, false), O(USER, URING, false),      O(USER, URING, true),
	O(USER, SYSCALLS, false), O(KERNEL, URING, false),    O(KERNEL, URING, true),
	O(KERNEL, SYSCALLS, false), O(OPENSSL, SYSCALLS, false),
};

static const struct list_test tests[] = {
#define T(f) { #f, f }
	T(our_update_changes_the_key),
	T(our_request_is_answered),
	T(peers_request_is_answered_by_a_read),
	T(peers_update_without_request_changes_nothing_of_ours),
	T(updates_that_were_read_ahead),
	T(update_in_the_middle_of_a_write),
	T(limit_of_records_renews_the_key),
	T(update_that_cannot_be_is_refused_and_the_connection_lives),
	T(peers_request_that_cannot_be_met_ends_in_order),
	T(secret_ends_with_a_connection_that_ends_in_order),
	T(limit_that_cannot_be_renewed_ends_in_order),
	T(a_thousand_updates_of_each_side),
	T(storm_of_updates_does_not_hold_a_read),
	T(copies_of_the_ssl_have_keys_of_their_own),
	T(secret_ends_with_a_connection_that_fails),
	T(cipher_without_a_key_for_us_leaves_no_secret),
};

int main(int argc, char **argv)
{
	pair_fill(big, BIG);
	for (size_t i = 0; i < COUNT(combinations); i++)
		for (size_t t = 0; t < COUNT(tests); t++)
			list_add(&combinations[i], tests[t].function, "%s %s: %s",
				 list_place(&combinations[i]),
				 combinations[i].is_client ? "client" : "server", tests[t].name);
	return list_run("rekey", argc, argv);
}
