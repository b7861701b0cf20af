/*
 * test_promote.c - from the user lane into the kernel, at a byte count: in the middle of
 * writes, files and what is queued, to a stock peer that would notice any other key, number
 * or nonce; and what becomes of it where the kernel can't renew keys. Where it is refused:
 * test_install.c.
 */
#define _GNU_SOURCE /* memfd_create */
#include "support.h"
#include "list.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <openssl/err.h>
#include "probe.h"

#define AFTER 50000
#define LEN   400000

static uint8_t bytes[LEN];
static int file;

static void open_later(struct pair *p, const struct pair_opts *opts, bool is_small)
{
	struct pair_opts o = *opts;

	need("ktls", !ringtls__probe_get()->ulp);
	o.promote_after = AFTER;
	o.small_buffers = is_small;
	pair_open(p, &o);
	assert_int_equal(pair_info(p).reason, RINGTLS_REASON_HANDSHAKE);
	pair_handshake(p);
	assert_int_equal(pair_info(p).lane, RINGTLS_LANE_USER);
	assert_int_equal(pair_info(p).reason, RINGTLS_REASON_PROMOTION);
}

static void expect_promoted(const struct pair *p, uint64_t epochs)
{
	struct ringtls_conn_info info = pair_info(p);

	assert_int_equal(info.lane, RINGTLS_LANE_KERNEL);
	assert_int_equal(info.reason, RINGTLS_REASON_NONE);
	assert_int_equal(info.reason_errno, 0);
	assert_int_equal(info.epochs, epochs);
}

/* The peer has all of them, then nothing but our close_notify. */
static void finish(struct pair *p, size_t len)
{
	int r;

	pair_peer_expects(p, bytes, len);
	assert_int_equal(pair_info(p).bytes, len);
	while ((r = ringtls_shutdown(p->conn)) < 0) {
		assert_int_equal(ringtls_get_error(p->conn, r), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(p);
		pair_wait(p);
	}
	pair_peer_reads_to_the_end(p);
	assert_int_equal(p->peer_error, SSL_ERROR_ZERO_RETURN);
	assert_int_equal(p->got_len, len);
	pair_close(p);
}

/* ---- In the middle of what is sent ------------------------------------- */

static void at_the_byte_count_and_not_before(void **state)
{
	struct pair p;

	open_later(&p, *state, false);
	pair_write_all(&p, bytes, AFTER - 1);
	assert_int_equal(pair_info(&p).reason, RINGTLS_REASON_PROMOTION);
	pair_write_all(&p, bytes + AFTER - 1, 1);
	expect_promoted(&p, 1);
	pair_write_all(&p, bytes + AFTER, LEN - AFTER);
	pair_peer_sends_a_byte(&p);
	finish(&p, LEN);
}

static void in_the_middle_of_a_write(void **state)
{
	struct pair p;

	open_later(&p, *state, true);
	pair_write_all(&p, bytes, LEN);
	expect_promoted(&p, 1);
	finish(&p, LEN);
}

static void send_file(struct pair *p, off_t from, size_t len)
{
	off_t end = from + (off_t)len;

	while (from < end) {
		ssize_t n = ringtls_sendfile(p->conn, file, from, (size_t)(end - from), 0);

		if (n < 0) {
			assert_int_equal(ringtls_get_error(p->conn, -1), SSL_ERROR_WANT_WRITE);
			pair_peer_reads(p);
			pair_wait(p);
			continue;
		}
		assert_true(n > 0);
		from += n;
	}
}

static void in_the_middle_of_a_file(void **state)
{
	struct pair p;

	open_later(&p, *state, true);
	send_file(&p, 0, 300000);
	expect_promoted(&p, 1);
	send_file(&p, 300000, LEN - 300000);
	finish(&p, LEN);
}

/* Until n requests are sent. */
static void collect(struct pair *p, int n)
{
	struct ringtls_completion done[4];
	struct ringtls_event ev;
	int got;

	while (n > 0) {
		assert_true(ringtls_engine_wait(p->engine, &ev, 1, 1) >= 0);
		pair_peer_reads(p);
		got = ringtls_engine_completions(p->engine, done, 4);
		assert_true(got >= 0);
		for (int i = 0; i < got; i++) {
			if (!(done[i].flags & RINGTLS_SENT))
				continue;
			assert_int_equal(done[i].error, 0);
			n--;
		}
	}
}

static void in_the_middle_of_what_is_queued(void **state)
{
	const struct iovec first = { bytes, 150000 }, last = { bytes + 350000, LEN - 350000 };
	struct pair p;

	open_later(&p, *state, true);
	assert_int_equal(ringtls_queue_writev(p.conn, &first, 1, 1), 1);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 150000, 200000, 2), 1);
	assert_int_equal(ringtls_queue_writev(p.conn, &last, 1, 3), 1);
	collect(&p, 3);
	expect_promoted(&p, 1);
	finish(&p, LEN);
}

/* A close that comes at the very byte count. */
static void a_close_is_not_promoted(void **state)
{
	struct pair p;

	open_later(&p, *state, false);
	pair_write_all(&p, bytes, AFTER - 1);
	finish(&p, AFTER - 1);
}

/* ---- Keys -------------------------------------------------------------- */

static void open_promoted(struct pair *p, const struct pair_opts *o)
{
	open_later(p, o, false);
	pair_write_all(p, bytes, AFTER);
	expect_promoted(p, 1);
}

static void key_is_renewed_in_the_kernel(void **state)
{
	struct pair p;

	need("rekey", !ringtls__probe_get()->rekey);
	open_promoted(&p, *state);
	assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_REQUESTED), 0);
	pair_write_all(&p, bytes + AFTER, LEN - AFTER);
	expect_promoted(&p, 2);
	finish(&p, LEN);
}

static void key_update_is_refused_where_the_kernel_cannot(void **state)
{
	struct pair p;

	need("no rekey", ringtls__probe_get()->rekey);
	open_promoted(&p, *state);
	assert_null(p.conn->bios.secret); /* no next key will be derived */
	assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_REQUESTED),
			 RINGTLS_E_REKEY);
	pair_write_all(&p, bytes + AFTER, LEN - AFTER);
	expect_promoted(&p, 1);
	finish(&p, LEN);
}

/* The peer gets what was sent, and close_notify, under the key that it knows. */
static void peers_request_ends_it_in_order_where_the_kernel_cannot(void **state)
{
	struct pair p;
	char c;

	need("no rekey", ringtls__probe_get()->rekey);
	open_promoted(&p, *state);
	assert_int_equal(SSL_key_update(p.peer, SSL_KEY_UPDATE_REQUESTED), 1);
	assert_int_equal(SSL_do_handshake(p.peer), 1);
	pair_await(p.fd);
	ringtls_read(p.conn, &c, 1);
	assert_int_equal(ringtls_write(p.conn, bytes, 1), -1);
	assert_int_equal(pair_info(&p).error, RINGTLS_E_REKEY);
	assert_int_equal(pair_info(&p).bytes, AFTER);
	ERR_clear_error();
	pair_peer_reads_to_the_end(&p);
	assert_int_equal(p.peer_error, SSL_ERROR_ZERO_RETURN);
	assert_int_equal(p.got_len, AFTER);
	pair_close(&p);
}

static void renew_and_send(struct pair *p, const struct pair_opts *o)
{
	open_later(p, o, false);
	assert_int_equal(ringtls_conn_key_update(p->conn, SSL_KEY_UPDATE_NOT_REQUESTED), 0);
	pair_write_all(p, bytes, AFTER);
}

static void renew_again(struct pair *p)
{
	assert_int_equal(ringtls_conn_key_update(p->conn, SSL_KEY_UPDATE_NOT_REQUESTED), 0);
	pair_write_all(p, bytes + AFTER, LEN - AFTER);
	assert_int_equal(pair_info(p).epochs, 3);
	finish(p, LEN);
}

static void who_has_renewed_a_key_is_promoted(void **state)
{
	struct pair p;

	need("rekey", !ringtls__probe_get()->rekey);
	renew_and_send(&p, *state);
	expect_promoted(&p, 2);
	renew_again(&p);
}

/* Who has renewed one will do so again. */
static void who_has_renewed_a_key_stays_where_the_kernel_cannot(void **state)
{
	struct pair p;

	need("no rekey", ringtls__probe_get()->rekey);
	renew_and_send(&p, *state);
	assert_int_equal(pair_info(&p).lane, RINGTLS_LANE_USER);
	assert_int_equal(pair_info(&p).reason, RINGTLS_REASON_NO_REKEY);
	renew_again(&p);
}

static bool write_some(struct pair *p)
{
	int r;

	while (r = ringtls_write(p->conn, bytes, 100),
	       ringtls_get_error(p->conn, r) == SSL_ERROR_WANT_WRITE) {
		pair_peer_reads(p);
		pair_wait(p);
	}
	pair_peer_reads(p);
	return r == 100;
}

/* Writes of a record each, until the key's limit is met: how many there were. */
static unsigned records_of_a_key(const struct pair_opts *opts, uint64_t promote_after)
{
	struct pair_opts o = *opts;
	struct pair p;
	unsigned n = 0;

	o.max_records = 30;
	o.promote_after = promote_after;
	pair_open(&p, &o);
	pair_handshake(&p);
	while (pair_info(&p).epochs == 1 && write_some(&p)) {
		n += pair_info(&p).epochs == 1;
		assert_true(n <= 30);
	}
	ERR_clear_error();
	pair_close(&p);
	return n;
}

/* What was sealed here counts when the kernel has the key. */
static void limit_of_a_key_is_for_both_lanes_together(void **state)
{
	need("ktls", !ringtls__probe_get()->ulp);
	assert_int_equal(records_of_a_key(*state, 1000), records_of_a_key(*state, 0));
	assert_true(records_of_a_key(*state, 1000) > 20);
}

/* ---- Afterwards -------------------------------------------------------- */

extern const char *over_ktls_tests __attribute__((weak));

static void given_back(void **state)
{
	struct pair p;

	/* OpenSSL's BIO sends past the emulated one. */
	need("a kernel that is not emulated", !&over_ktls_tests);
	open_promoted(&p, *state);
	assert_int_equal(ringtls_conn_detach(p.conn), 0);
	p.conn = NULL;
	assert_int_equal(SSL_write(p.ours, bytes + AFTER, 20000), 20000);
	pair_peer_expects(&p, bytes, AFTER + 20000);
	pair_close(&p);
}

/* ---- Options ----------------------------------------------------------- */

static void engines_count_is_for_those_that_have_none(void **state)
{
	struct ringtls_engine_opts eo = { .size = sizeof(eo), .promote_after = AFTER,
					  .lane = RINGTLS_LANE_USER };
	struct ringtls_conn_opts co = { .size = sizeof(co) };
	struct pair_opts o = { .lane = RINGTLS_LANE_USER, .backend = RINGTLS_BACKEND_SYSCALLS };
	struct ringtls_engine *e;
	struct pair p;

	(void)state;
	assert_int_equal(ringtls_engine_new(&e, &eo), -EINVAL); /* a named lane becomes no other */
	eo.lane = RINGTLS_LANE_AUTO;
	assert_int_equal(ringtls_engine_new(&e, &eo), 0);
	pair_open(&p, &o);
	ringtls_conn_free(p.conn);
	co.promote_after = 1;
	co.lane = RINGTLS_LANE_USER;
	assert_int_equal(ringtls_conn_new(&p.conn, e, p.ours, p.fd, &co), -EINVAL);
	co.promote_after = 0;
	assert_int_equal(ringtls_conn_new(&p.conn, e, p.ours, p.fd, &co), 0);
	assert_int_equal(p.conn->promote_after, 0);
	ringtls_conn_free(p.conn);
	co.lane = RINGTLS_LANE_AUTO;
	assert_int_equal(ringtls_conn_new(&p.conn, e, p.ours, p.fd, &co), 0);
	assert_int_equal(p.conn->promote_after, AFTER);
	ringtls_conn_free(p.conn);
	p.conn = NULL;
	assert_int_equal(ringtls_engine_free(e), 0);
	pair_close(&p);
}

static void without_kernel_tls_it_stays_and_says_why(void **state)
{
	struct pair_opts o = { .backend = RINGTLS_BACKEND_SYSCALLS, .promote_after = AFTER };
	struct pair p;

	(void)state;
	need("no ktls", ringtls__probe_get()->ulp);
	pair_open(&p, &o);
	pair_handshake(&p);
	pair_write_all(&p, bytes, LEN);
	pair_peer_expects(&p, bytes, LEN);
	assert_int_equal(pair_info(&p).lane, RINGTLS_LANE_USER);
	assert_int_equal(pair_info(&p).reason, RINGTLS_REASON_NO_ULP);
	pair_close(&p);
}

static const struct {
	const char *name;
	CMUnitTestFunction function;
	bool is_of_keys; /* only TLS 1.3 has a next one */
} tests[] = {
#define T(f)                                                                                       \
	{                                                                                          \
#f, f, false                                                                       \
	}
#define K(f)                                                                                       \
	{                                                                                          \
#f, f, true                                                                        \
	}
	T(at_the_byte_count_and_not_before),
	T(in_the_middle_of_a_write),
	T(in_the_middle_of_a_file),
	T(in_the_middle_of_what_is_queued),
	T(a_close_is_not_promoted),
	K(key_is_renewed_in_the_kernel),
	K(key_update_is_refused_where_the_kernel_cannot),
	K(peers_request_ends_it_in_order_where_the_kernel_cannot),
	K(who_has_renewed_a_key_is_promoted),
	K(who_has_renewed_a_key_stays_where_the_kernel_cannot),
	K(limit_of_a_key_is_for_both_lanes_together),
	T(given_back),
#undef T
#undef K
};

int main(int argc, char **argv)
{
	/* The names begin as over_ktls.c wants them. */
	static struct pair_opts places[8];

	file = memfd_create("promote", MFD_CLOEXEC);
	pair_fill(bytes, LEN);
	if (file < 0 || write(file, bytes, LEN) != LEN)
		return 1;
	for (size_t i = 0; i < COUNT(places); i++) {
		struct pair_opts *o = &places[i];

		o->backend = i % 2 ? RINGTLS_BACKEND_URING : RINGTLS_BACKEND_SYSCALLS;
		o->version = i / 2 % 2 ? TLS1_2_VERSION : TLS1_3_VERSION;
		o->is_client = i / 4;
		for (size_t j = 0; j < COUNT(tests); j++)
			if (o->version == TLS1_3_VERSION || !tests[j].is_of_keys)
				list_add(o, tests[j].function, "kernel later, %s, %s: %s",
					 list_place(o), o->is_client ? "client" : "server",
					 tests[j].name);
	}
	list_add(NULL, engines_count_is_for_those_that_have_none,
		 "engines_count_is_for_those_that_have_none");
	list_add(NULL, without_kernel_tls_it_stays_and_says_why,
		 "without_kernel_tls_it_stays_and_says_why");
	return list_run("promote", argc, argv);
}
