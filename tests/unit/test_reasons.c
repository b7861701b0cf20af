/*
 * test_reasons.c - a connection that OpenSSL keeps the key of runs in the openssl lane,
 * says why, and writes as any other. With the user lane's consent to take any key, so
 * that nothing but OpenSSL stands in the way: it needs no kernel TLS.
 */
#include "support.h"
#include "pair.h"

#include <openssl/err.h>

#define LEN 100000

static uint8_t bytes[LEN];

struct situation {
	struct pair_opts opts;
	uint32_t reason;
	void (*prepare)(SSL *ssl); /* before the handshake */
	bool (*was_had)(const SSL *ssl); /* what is prepared came to be; NULL: it does */
};

/* The keys are wanted, and yet no lane is named that would have to be had. */
static void want_every_key(struct pair *p)
{
	p->conn->asked = RINGTLS_LANE_AUTO;
	p->conn->reason = RINGTLS_REASON_NONE;
}

/* Later OpenSSLs think little of CCM-8, and none has compression at a higher level. */
static void allow_anything(struct pair *p)
{
	SSL_set_security_level(p->ours, 0);
	SSL_set_security_level(p->peer, 0);
}

static void it_runs_in_the_openssl_lane_and_says_why(void **state)
{
	const struct situation *s = *state;
	struct ringtls_conn_info info;
	struct pair_opts o = s->opts;
	struct pair p;

	o.lane = RINGTLS_LANE_USER;
	pair_open(&p, &o);
	want_every_key(&p);
	allow_anything(&p);
	if (s->prepare)
		s->prepare(p.ours);
	pair_handshake(&p);
	if (s->was_had && !s->was_had(p.ours)) {
		print_message("# needs an OpenSSL that has or minds it\n");
		pair_close(&p);
		skip();
	}
	pair_write_all(&p, bytes, LEN);
	pair_peer_expects(&p, bytes, LEN);
	info = pair_info(&p);
	assert_int_equal(info.lane, RINGTLS_LANE_OPENSSL);
	assert_string_equal(ringtls_reason_name(info.reason), ringtls_reason_name(s->reason));
	assert_int_equal(info.epochs, 0);
	assert_int_equal(info.bytes, LEN);
	pair_close(&p);
}

/* The same two sides, and nothing in the way: else the others would prove nothing. */
static void without_any_of_it_the_key_is_handed_over(void **state)
{
	const struct situation *s = *state;
	struct pair_opts o = s->opts;
	struct pair p;

	o.lane = RINGTLS_LANE_USER;
	pair_open(&p, &o);
	want_every_key(&p);
	pair_handshake(&p);
	pair_write_all(&p, bytes, LEN);
	pair_peer_expects(&p, bytes, LEN);
	assert_int_equal(pair_info(&p).lane, RINGTLS_LANE_USER);
	pair_close(&p);
}

static void named_lane_fails_the_handshake(void **state)
{
	const struct situation *s = *state;
	struct pair_opts o = s->opts;
	struct pair p;
	int ours = 0;

	o.lane = RINGTLS_LANE_USER;
	pair_open(&p, &o);
	allow_anything(&p);
	if (s->prepare)
		s->prepare(p.ours);
	for (int i = 0; i < 1000; i++) {
		ours = ringtls_handshake(p.conn);
		if (ours == 1 || ringtls_get_error(p.conn, ours) == SSL_ERROR_SSL)
			break;
		SSL_do_handshake(p.peer);
		pair_rest(&p);
	}
	if (s->was_had && !s->was_had(p.ours)) {
		print_message("# needs an OpenSSL that has or minds it\n");
		pair_close(&p);
		skip();
	}
	assert_int_equal(ours, -1);
	assert_int_equal(pair_info(&p).error, RINGTLS_E_LANE);
	pair_close(&p);
}

static void limit_records(SSL *ssl)
{
	assert_int_equal(SSL_set_max_send_fragment(ssl, 4096), 1);
}

static void pad_to_blocks(SSL *ssl)
{
	assert_int_equal(SSL_set_block_padding(ssl, 256), 1);
}

/* OpenSSL 3.0 hands over the key all the same, and pads no more (ringtls(7)). */
static bool minds_block_padding(const SSL *ssl)
{
	(void)ssl;
	return OpenSSL_version_num() >= 0x30200000;
}

static size_t padding(SSL *ssl, int type, size_t len, void *arg)
{
	(void)ssl, (void)type, (void)len, (void)arg;
	return 16;
}

static void pad_by_a_callback(SSL *ssl)
{
	assert_int_equal(SSL_set_record_padding_callback(ssl, padding), 1);
}

static void compress(SSL *ssl)
{
	SSL_clear_options(ssl, SSL_OP_NO_COMPRESSION);
}

static bool is_compressed(const SSL *ssl)
{
	return SSL_get_current_compression(ssl) != NULL;
}

#define IN_13(name) { .version = TLS1_3_VERSION, .cipher = (name) }
#define IN_12(name) { .version = TLS1_2_VERSION, .cipher = (name), .is_client = true }

static struct situation plain_13 = { .opts = IN_13(NULL) };
static struct situation plain_12 = { .opts = IN_12(NULL) };
static struct situation fragment_13 = { IN_13(NULL), RINGTLS_REASON_RECORDS, limit_records, NULL };
static struct situation fragment_12 = { IN_12(NULL), RINGTLS_REASON_RECORDS, limit_records, NULL };
static struct situation blocks = { IN_13(NULL), RINGTLS_REASON_RECORDS, pad_to_blocks,
				   minds_block_padding };
static struct situation callback = { IN_13(NULL), RINGTLS_REASON_RECORDS, pad_by_a_callback, NULL };
static struct situation compression = { IN_12(NULL), RINGTLS_REASON_RECORDS, compress,
					is_compressed };
static struct situation ccm8_13 = { IN_13("TLS_AES_128_CCM_8_SHA256"), RINGTLS_REASON_CIPHER, NULL,
				    NULL };
static struct situation ccm8_12 = { IN_12("ECDHE-ECDSA-AES128-CCM8"), RINGTLS_REASON_CIPHER, NULL,
				    NULL };
static struct situation aria = { IN_12("ECDHE-ECDSA-ARIA128-GCM-SHA256"), RINGTLS_REASON_CIPHER,
				 NULL, NULL };
static struct situation cbc = { IN_12("ECDHE-ECDSA-AES128-SHA256"), RINGTLS_REASON_CIPHER, NULL,
				NULL };

#define T(name, what) { what ": " #name, name, NULL, NULL
#define BOTH(what, s)                                                                              \
	T(it_runs_in_the_openssl_lane_and_says_why, what), &(s) },                                 \
	T(named_lane_fails_the_handshake, what), &(s) }

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(without_any_of_it_the_key_is_handed_over, "user TLSv1.3"), &plain_13 },
		T(without_any_of_it_the_key_is_handed_over, "user TLSv1.2"), &plain_12 },
		BOTH("openssl TLSv1.3 max_send_fragment", fragment_13),
		BOTH("openssl TLSv1.2 max_send_fragment", fragment_12),
		BOTH("openssl TLSv1.3 block padding", blocks),
		BOTH("openssl TLSv1.3 padding callback", callback),
		BOTH("openssl TLSv1.2 compression", compression),
		BOTH("openssl TLSv1.3 AES-CCM-8", ccm8_13),
		BOTH("openssl TLSv1.2 AES-CCM-8", ccm8_12),
		BOTH("openssl TLSv1.2 ARIA", aria),
		BOTH("openssl TLSv1.2 CBC", cbc),
	};

	pair_fill(bytes, LEN);
	return cmocka_run_group_tests_name("reasons", tests, NULL, NULL);
}
