/*
 * test_seal_peer.c - the records of the user lane against stock OpenSSL: they are those that it
 * makes itself, and it reads them.
 */
#include "support.h"
#include "libcrypto_watch.h"
#include "suites.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const uint8_t close_notify[] = { 1, 0 };

/* A finished handshake in memory, and the key of what the server sends. */
struct peer {
	const struct suite *suite;
	SSL *client, *server;
	BIO *to_client;
	uint8_t key[KEY_MAX];
	uint8_t iv[12]; /* in TLS 1.2 GCM and CCM only its salt is known */
	uint64_t seq;   /* of the server's next record */
};

static char secret_line[512]; /* SERVER_TRAFFIC_SECRET_0 of the latest handshake */

static void keep_secret(const SSL *ssl, const char *line)
{
	(void)ssl;
	if (!strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24))
		snprintf(secret_line, sizeof(secret_line), "%s", line);
}

static void add_certificate(SSL_CTX *ctx)
{
	EVP_PKEY *pkey = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name;

	assert_non_null(pkey);
	assert_non_null(cert);
	name = X509_get_subject_name(cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1,
				   0);
	X509_set_version(cert, X509_VERSION_3);
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, pkey);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	assert_true(X509_sign(cert, pkey, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, pkey), 1);
	X509_free(cert);
	EVP_PKEY_free(pkey);
}

static SSL *make_ssl(const struct suite *suite, bool is_server, BIO *in, BIO *out)
{
	SSL_CTX *ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	SSL *ssl;

	assert_non_null(ctx);
	SSL_CTX_set_min_proto_version(ctx, suite->version);
	SSL_CTX_set_max_proto_version(ctx, suite->version);
	if (suite->version == TLS_1_3_VERSION)
		assert_int_equal(SSL_CTX_set_ciphersuites(ctx, suite->ssl), 1);
	else
		assert_int_equal(SSL_CTX_set_cipher_list(ctx, suite->ssl), 1);
	if (is_server) {
		add_certificate(ctx);
		SSL_CTX_set_num_tickets(ctx, 0); /* they would use up record numbers */
		SSL_CTX_set_keylog_callback(ctx, keep_secret);
	}
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	assert_non_null(ssl);
	SSL_set_bio(ssl, in, out);
	if (is_server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

static void derive(const char *kdf_name, OSSL_PARAM *params, uint8_t *out, size_t len)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, kdf_name, NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);

	assert_int_equal(EVP_KDF_derive(ctx, out, len, params), 1);
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

/* HKDF-Expand-Label(secret, label, "", len), RFC 8446 7.1. */
static void expand_label(const struct peer *peer, uint8_t *secret, size_t secret_len,
			 const char *label, uint8_t *out, size_t len)
{
	const EVP_MD *md = SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(peer->server));
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	uint8_t info[64] = { (uint8_t)(len >> 8), (uint8_t)len, (uint8_t)(6 + strlen(label)) };
	size_t info_len = 3 + (size_t)sprintf((char *)info + 3, "tls13 %s", label) + 1;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
						 (char *)(uintptr_t)EVP_MD_get0_name(md), 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret, secret_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, info_len),
		OSSL_PARAM_construct_end(),
	};

	derive("HKDF", params, out, len);
}

static void derive_tls13(struct peer *peer)
{
	const char *hex = strrchr(secret_line, ' ');
	uint8_t secret[64];
	size_t len;

	assert_non_null(hex);
	assert_int_equal(OPENSSL_hexstr2buf_ex(secret, sizeof(secret), &len, hex + 1, '\0'), 1);
	expand_label(peer, secret, len, "key", peer->key, peer->suite->key_len);
	expand_label(peer, secret, len, "iv", peer->iv, 12);
}

/* The key block of RFC 5246 6.3: both keys, then both ivs, client's first. */
static void derive_tls12(struct peer *peer)
{
	const EVP_MD *md = SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(peer->server));
	size_t key_len = peer->suite->key_len;
	size_t iv_len = peer->suite->is_explicit ? peer->suite->salt_len : 12;
	uint8_t master[64], seed[13 + 64] = "key expansion", block[2 * (KEY_MAX + 12)];
	size_t master_len = SSL_SESSION_get_master_key(SSL_get_session(peer->server), master,
						       sizeof(master));
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
						 (char *)(uintptr_t)EVP_MD_get0_name(md), 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, master_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof(seed)),
		OSSL_PARAM_construct_end(),
	};

	SSL_get_server_random(peer->server, seed + 13, 32);
	SSL_get_client_random(peer->server, seed + 13 + 32, 32);
	derive("TLS1-PRF", params, block, 2 * (key_len + iv_len));
	memcpy(peer->key, block + key_len, key_len);
	memcpy(peer->iv, block + 2 * key_len + iv_len, iv_len);
	peer->seq = 1; /* 0 was its Finished */
}

static void peer_start(struct peer *peer, const struct suite *suite)
{
	BIO *to_server = BIO_new(BIO_s_mem());
	bool done = false;

	memset(peer, 0, sizeof(*peer));
	peer->suite = suite;
	peer->to_client = BIO_new(BIO_s_mem());
	BIO_up_ref(peer->to_client);
	BIO_up_ref(to_server);
	peer->client = make_ssl(suite, false, peer->to_client, to_server);
	peer->server = make_ssl(suite, true, to_server, peer->to_client);
	for (int turns = 0; !done && turns < 10; turns++) {
		int client_is_done = SSL_do_handshake(peer->client) == 1;

		done = SSL_do_handshake(peer->server) == 1 && client_is_done;
	}
	assert_true(done);
	assert_int_equal(BIO_ctrl_pending(peer->to_client), 0);
	if (suite->version == TLS_1_3_VERSION)
		derive_tls13(peer);
	else
		derive_tls12(peer);
}

static void peer_end(struct peer *peer)
{
	SSL_free(peer->client);
	SSL_free(peer->server);
}

/* One record that the stock server makes itself; returns its length. */
static size_t stock_record(struct peer *peer, const uint8_t *in, size_t len, uint8_t *record)
{
	int wire;

	assert_int_equal(SSL_write(peer->server, in, (int)len), len);
	wire = BIO_read(peer->to_client, record, WIRE_MAX);
	assert_true(wire > 0);
	assert_int_equal(BIO_ctrl_pending(peer->to_client), 0);
	peer->seq++;
	return (size_t)wire;
}

static void a_record_is_the_one_that_stock_openssl_makes(void **state)
{
	static const size_t sizes[] = { 1, 100, 16383, 16384 };
	const struct suite *suite = suite_of(state);
	uint8_t *in = pattern(16384), *stock = malloc(WIRE_MAX), *ours = malloc(WIRE_MAX);
	struct ringtls__sealer *sealer = NULL;
	struct peer peer;

	peer_start(&peer, suite);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		uint64_t seq = peer.seq;
		size_t len = stock_record(&peer, in, sizes[i], stock);

		if (!sealer) { /* OpenSSL chose the first explicit nonce, and counts up too */
			if (suite->is_explicit)
				memcpy(peer.iv + 4, stock + 5, 8);
			sealer = make_sealer(suite, peer.key, peer.iv, seq);
		}
		assert_int_equal(ringtls__seal(sealer, 23, in, sizes[i], ours), len);
		assert_memory_equal(ours, stock, len);
	}
	ringtls__sealer_free(sealer);
	peer_end(&peer);
	free(ours);
	free(stock);
	free(in);
}

static void deliver(struct peer *peer, const uint8_t *record, size_t len)
{
	assert_int_equal(BIO_write(peer->to_client, record, (int)len), len);
}

static void client_reads(struct peer *peer, const uint8_t *expected, size_t len)
{
	uint8_t *got = malloc(WIRE_MAX);
	int n = SSL_read(peer->client, got, WIRE_MAX);

	if (len) {
		assert_int_equal(n, len);
		assert_memory_equal(got, expected, len);
	} else {
		assert_int_equal(SSL_get_error(peer->client, n), SSL_ERROR_WANT_READ);
	}
	free(got);
}

/* The server has sent some itself, as before a take-over in mid-connection. */
static void a_stock_client_reads_what_is_sealed_up_to_close_notify(void **state)
{
	static const size_t sizes[] = { 0, 1, 16383, 16384, 0, 517 };
	const struct suite *suite = suite_of(state);
	uint8_t *in = pattern(16384), *record = malloc(WIRE_MAX);
	struct ringtls__sealer *sealer;
	struct peer peer;
	int n;

	peer_start(&peer, suite);
	for (size_t i = 1; i < 4; i++) {
		deliver(&peer, record, stock_record(&peer, in, i, record));
		client_reads(&peer, in, i);
	}
	sealer = make_sealer(suite, peer.key, peer.iv, peer.seq);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		deliver(&peer, record, (size_t)ringtls__seal(sealer, 23, in, sizes[i], record));
		client_reads(&peer, in, sizes[i]);
	}
	deliver(&peer, record, (size_t)ringtls__seal(sealer, 21, close_notify, 2, record));
	n = SSL_read(peer.client, record, WIRE_MAX);
	assert_int_equal(SSL_get_error(peer.client, n), SSL_ERROR_ZERO_RETURN);

	ringtls__sealer_free(sealer);
	peer_end(&peer);
	free(record);
	free(in);
}

static const struct CMUnitTest tests[] = {
	EACH(a_record_is_the_one_that_stock_openssl_makes),
	EACH(a_stock_client_reads_what_is_sealed_up_to_close_notify),
};

int main(void)
{
	if (!libcrypto_watch())
		return 99;
	return cmocka_run_group_tests_name(seal_by_evp ? "seal_peer_evp" : "seal_peer", tests, NULL, NULL);
}
