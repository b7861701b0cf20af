/*
 * test_install.c - the kernel refuses late: behind OpenSSL's handing over the key,
 * which it will not take back. Where one may fall back, the transfer goes on in the
 * user lane under the same key and record number, to a stock peer that would notice
 * any other; where the kernel lane was named, the connection fails, and bares
 * nothing.
 */
#include "support.h"
#include "pair.h"

#include <errno.h>
#include <unistd.h>
#include <openssl/err.h>
#include "fake_ktls.h"
#include "fake_probe.h"
#include "wiretap.h"

#define LEN	 200000
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char marker[] = "IF YOU CAN READ THIS ON THE WIRE IT IS NOT SEALED";
static uint8_t bytes[LEN + sizeof(marker)]; /* which is at the end */

/* What is refused, and with what; the first two are where TCP_ULP comes. */
static const struct refusal {
	const char *name;
	struct fake_ktls_knobs knobs;
	int error;
} refusals[] = {
	{"TCP_ULP ENOENT", {.ulp = ENOENT}, ENOENT},
	{"TCP_ULP EOPNOTSUPP", {.ulp = EOPNOTSUPP}, EOPNOTSUPP},
	{"TCP_ULP ENOTCONN", {.ulp = ENOTCONN}, ENOTCONN},
	{"TLS_TX ENOENT", {.tx = ENOENT}, ENOENT},
	{"TLS_TX EINVAL", {.tx = EINVAL}, EINVAL},
	{"TLS_TX ENOMEM", {.tx = ENOMEM}, ENOMEM},
	{"TCP_INFO ENOPROTOOPT", {.tcp_info = ENOPROTOOPT}, ENOPROTOOPT},
	{"SIOCOUTQ ENOTTY", {.outq = ENOTTY}, ENOTTY},
};

static const struct suite {
	int version;
	const char *name;
} suites[] = {
	{TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},
	{TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
	{TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},
	{TLS1_3_VERSION, "TLS_AES_128_CCM_SHA256"},
	{TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"},
	{TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"},
	{TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"},
	{TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM"},
};

/* OpenSSL 3.0 and 3.1 don't offer that key. */
static bool is_offered(const struct suite *suite)
{
	return OpenSSL_version_num() >= 0x30200000 || strcmp(suite->name, "TLS_AES_128_CCM_SHA256");
}

#define PROMOTE_AFTER 30000

/* Every suite, role and engine. */
static void with_all(const struct refusal *refusal, uint32_t lane,
		     void (*test)(const struct refusal *, const struct pair_opts *))
{
	for (size_t i = 0; i < 4 * COUNT(suites); i++) {
		const struct suite *suite = &suites[i / 4];
		struct pair_opts o = {
			.lane = lane,
			.flags = RINGTLS_ENGINE_PREFER_KERNEL,
			.backend = i % 2 ? RINGTLS_BACKEND_URING : RINGTLS_BACKEND_SYSCALLS,
			.is_client = i / 2 % 2,
			.version = suite->version,
			.cipher = suite->name,
			.sys = &fake_ktls,
		};

		if (!is_offered(suite))
			continue;
		fake_ktls_reset();
		fake_ktls_knobs = refusal->knobs;
		test(refusal, &o);
	}
}

/* ---- The user lane takes over ------------------------------------------ */

static void expect_told(const struct pair *p, const struct refusal *refusal)
{
	struct ringtls_conn_info info = pair_info(p);

	assert_int_equal(info.lane, RINGTLS_LANE_USER);
	assert_int_equal(info.reason, RINGTLS_REASON_INSTALL);
	assert_int_equal(info.reason_errno, refusal->error);
	assert_int_equal(info.error, 0);
	assert_int_equal(info.epochs, 1);
}

static void expect_close(struct pair *p)
{
	int r;

	while ((r = ringtls_shutdown(p->conn)) < 0) {
		assert_int_equal(ringtls_get_error(p->conn, r), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(p);
		pair_wait(p);
	}
	assert_int_equal(r, 0);
	for (int i = 0; i < 100 && p->peer_error != SSL_ERROR_ZERO_RETURN; i++) {
		pair_rest(p);
		pair_peer_reads(p);
	}
	assert_int_equal(p->peer_error, SSL_ERROR_ZERO_RETURN);
}

/* The marker went over the wire, and was not seen there. */
static void close_unseen(struct pair *p, struct wiretap *tap)
{
	expect_close(p);
	wiretap_rest(tap, p->peer_fd);
	assert_false(wiretap_has(tap, marker, sizeof(marker)));
	wiretap_close(tap);
	pair_close(p);
}

static void goes_on(const struct refusal *refusal, const struct pair_opts *o)
{
	struct wiretap tap;
	struct pair p;

	pair_open(&p, o);
	wiretap_open(&tap, p.peer);
	pair_handshake(&p);
	expect_told(&p, refusal);
	pair_write_all(&p, bytes, LEN);
	pair_peer_expects(&p, bytes, LEN);
	pair_peer_sends_a_byte(&p);
	pair_write_all(&p, marker, sizeof(marker));
	pair_peer_expects(&p, bytes, LEN + sizeof(marker));
	assert_int_equal(pair_info(&p).bytes, LEN + sizeof(marker));
	expect_close(&p);
	expect_told(&p, refusal);
	assert_int_equal(fake_ktls_seen.installs, 0);
	wiretap_rest(&tap, p.peer_fd);
	assert_false(wiretap_has(&tap, marker, sizeof(marker)));
	assert_true(wiretap_records(&tap) >= LEN / 16384 + 3);
	wiretap_close(&tap);
	pair_close(&p);
}

static void transfer_goes_on_in_the_user_lane(void **state)
{
	with_all(*state, RINGTLS_LANE_AUTO, goes_on);
}

static void expect_not_yet_promoted(const struct pair *p)
{
	struct ringtls_conn_info info = pair_info(p);

	assert_int_equal(info.lane, RINGTLS_LANE_USER);
	assert_int_equal(info.reason, RINGTLS_REASON_PROMOTION);
	assert_int_equal(fake_ktls_seen.ulps, 0);
	assert_int_equal(info.epochs, 1);
}

static void stays(const struct refusal *refusal, const struct pair_opts *o)
{
	struct pair_opts later = *o;
	struct wiretap tap;
	struct pair p;

	later.promote_after = PROMOTE_AFTER;
	pair_open(&p, &later);
	wiretap_open(&tap, p.peer);
	pair_handshake(&p);
	pair_write_all(&p, bytes, 1000);
	expect_not_yet_promoted(&p);
	pair_write_all(&p, bytes + 1000, LEN - 1000);
	pair_peer_expects(&p, bytes, LEN);
	expect_told(&p, refusal);
	pair_write_all(&p, marker, sizeof(marker));
	pair_peer_expects(&p, bytes, LEN + sizeof(marker));
	assert_true(fake_ktls_seen.ulps <= 1); /* it was asked once */
	assert_int_equal(fake_ktls_seen.installs, 0);
	close_unseen(&p, &tap);
}

static void refused_promotion_stays_in_the_user_lane(void **state)
{
	with_all(*state, RINGTLS_LANE_AUTO, stays);
}

/* The next key is for the user lane, too, and no other kernel is asked. */
static void next_key_is_the_user_lanes_as_well(const struct refusal *refusal,
					       const struct pair_opts *o)
{
	struct pair p;

	if (o->version != TLS1_3_VERSION)
		return;
	fake_probe.rekey = -EBUSY; /* what the kernel could not do does not matter any more */
	pair_open(&p, o);
	pair_handshake(&p);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_NOT_REQUESTED), 0);
		pair_write_all(&p, bytes, 20000);
		pair_peer_expects(&p, bytes, 20000);
		p.got_len = 0;
	}
	assert_int_equal(pair_info(&p).epochs, 4);
	assert_int_equal(pair_info(&p).reason_errno, refusal->error);
	pair_close(&p);
	fake_probe_reset();
}

static void key_is_renewed_in_the_user_lane(void **state)
{
	with_all(*state, RINGTLS_LANE_AUTO, next_key_is_the_user_lanes_as_well);
}

/* ---- A named lane never becomes another -------------------------------- */

/* Steps both sides until ours ends. */
static int shake_until_it_fails(struct pair *p)
{
	for (int i = 0; i < 200; i++) {
		int r = ringtls_handshake(p->conn), e = ringtls_get_error(p->conn, r);

		if (r == 1 || (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE))
			return r;
		SSL_do_handshake(p->peer);
		pair_rest(p);
	}
	return 0;
}

static void expect_lane_error(struct pair *p, int r)
{
	assert_int_equal(ringtls_get_error(p->conn, r), SSL_ERROR_SSL);
	assert_int_equal(pair_info(p).error, RINGTLS_E_LANE);
	ERR_clear_error();
}

static void fails(const struct refusal *refusal, const struct pair_opts *o)
{
	struct wiretap tap;
	struct pair p;
	size_t written;
	char c;

	pair_open(&p, o);
	wiretap_open(&tap, p.peer);
	assert_int_equal(shake_until_it_fails(&p), -1);
	expect_lane_error(&p, -1);
	(void)refusal;
	/* Whatever the caller tries, it sticks. */
	assert_int_equal(ringtls_write(p.conn, marker, sizeof(marker)), -1);
	expect_lane_error(&p, -1);
	assert_int_equal(ringtls_write_ex(p.conn, marker, sizeof(marker), &written), 0);
	assert_int_equal(ringtls_sendfile(p.conn, 0, 0, 1, 0), -1);
	expect_lane_error(&p, -1);
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	assert_int_equal(ringtls_shutdown(p.conn), -1);
	expect_lane_error(&p, -1);
	ringtls_conn_free(p.conn);
	p.conn = NULL;
	pair_peer_reads(&p);
	wiretap_rest(&tap, p.peer_fd);
	assert_false(wiretap_has(&tap, marker, sizeof(marker)));
	wiretap_records(&tap);
	wiretap_close(&tap);
	pair_close(&p);
}

static void named_kernel_lane_fails_and_bares_nothing(void **state)
{
	with_all(*state, RINGTLS_LANE_KERNEL, fails);
}

/* ---- What may not be mistaken for a refusal ---------------------------- */

static void without_a_refusal_it_is_the_kernel_lane(const struct refusal *refusal,
						    const struct pair_opts *o)
{
	struct pair p;

	(void)refusal;
	if (o->backend != RINGTLS_BACKEND_SYSCALLS) /* a ring's sends pass the emulation by */
		return;
	pair_open(&p, o);
	pair_handshake(&p);
	assert_int_equal(pair_info(&p).lane, RINGTLS_LANE_KERNEL);
	assert_int_equal(pair_info(&p).reason, RINGTLS_REASON_NONE);
	pair_write_all(&p, bytes, LEN);
	pair_peer_expects(&p, bytes, LEN);
	assert_int_equal(fake_ktls_seen.installs, 1);
	pair_close(&p);
}

/* For every cipher the kernel must go on with the very next number, and nonce. */
static void without_a_refusal_it_is_promoted(const struct refusal *refusal,
					     const struct pair_opts *o)
{
	struct pair_opts later = *o;
	struct wiretap tap;
	struct pair p;

	(void)refusal;
	if (o->backend != RINGTLS_BACKEND_SYSCALLS)
		return;
	later.promote_after = PROMOTE_AFTER;
	pair_open(&p, &later);
	wiretap_open(&tap, p.peer);
	pair_handshake(&p);
	pair_write_all(&p, bytes, PROMOTE_AFTER - 1);
	expect_not_yet_promoted(&p);
	pair_write_all(&p, bytes + PROMOTE_AFTER - 1, 1);
	assert_int_equal(pair_info(&p).lane, RINGTLS_LANE_KERNEL);
	assert_int_equal(pair_info(&p).reason, RINGTLS_REASON_NONE);
	assert_int_equal(pair_info(&p).epochs, 1);
	pair_write_all(&p, bytes + PROMOTE_AFTER, LEN + sizeof(marker) - PROMOTE_AFTER);
	pair_peer_expects(&p, bytes, LEN + sizeof(marker));
	assert_int_equal(fake_ktls_seen.installs, 1);
	assert_int_equal(pair_info(&p).bytes, LEN + sizeof(marker));
	close_unseen(&p, &tap);
}

static void these_tests_would_be_in_the_kernel_lane_otherwise(void **state)
{
	static const struct refusal none = {.name = "none"};

	(void)state;
	with_all(&none, RINGTLS_LANE_AUTO, without_a_refusal_it_is_the_kernel_lane);
	with_all(&none, RINGTLS_LANE_KERNEL, without_a_refusal_it_is_the_kernel_lane);
	with_all(&none, RINGTLS_LANE_AUTO, without_a_refusal_it_is_promoted);
}

/* The tap sees what it looks for. */
static void plaintext_would_be_seen_on_the_tap(void **state)
{
	struct pair_opts o = {.lane = RINGTLS_LANE_USER};
	struct wiretap tap;
	struct pair p;

	(void)state;
	pair_open(&p, &o);
	wiretap_open(&tap, p.peer);
	pair_handshake(&p);
	assert_int_equal(write(p.fd, marker, sizeof(marker)), sizeof(marker));
	pair_await(p.peer_fd);
	pair_peer_reads(&p);
	wiretap_rest(&tap, p.peer_fd);
	assert_true(wiretap_has(&tap, marker, sizeof(marker)));
	wiretap_close(&tap);
	pair_close(&p);
}

/* ---- The list ---------------------------------------------------------- */

static const struct {
	const char *name;
	CMUnitTestFunction function;
} tests[] = {
#define T(f)                                                                                       \
	{                                                                                          \
#f, f                                                                              \
	}
	T(transfer_goes_on_in_the_user_lane),
	T(refused_promotion_stays_in_the_user_lane),
	T(key_is_renewed_in_the_user_lane),
	T(named_kernel_lane_fails_and_bares_nothing),
};

int main(void)
{
	static struct CMUnitTest list[COUNT(tests) * COUNT(refusals) + 2];
	static char names[COUNT(list)][120];
	const struct CMUnitTest others[] = {
		cmocka_unit_test(these_tests_would_be_in_the_kernel_lane_otherwise),
		cmocka_unit_test(plaintext_would_be_seen_on_the_tap),
	};

	pair_fill(bytes, LEN);
	memcpy(bytes + LEN, marker, sizeof(marker));
	for (size_t i = 0; i < COUNT(list) - 2; i++) {
		const struct refusal *refusal = &refusals[i / COUNT(tests)];

		snprintf(names[i], sizeof(names[i]), "%s: %s", refusal->name,
			 tests[i % COUNT(tests)].name);
		list[i].name = names[i];
		list[i].test_func = tests[i % COUNT(tests)].function;
		list[i].initial_state = (void *)(uintptr_t)refusal;
	}
	memcpy(&list[COUNT(list) - 2], others, sizeof(others));
	return cmocka_run_group_tests_name("install", list, NULL, NULL);
}
