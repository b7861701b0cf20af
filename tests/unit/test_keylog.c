/*
 * test_keylog.c - ringtls_ctx_prepare, and the next key that follows from a traffic
 * secret (RFC 8446 7.2). That a peer takes such keys is shown by test_rekey.
 */
#include "support.h"

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <ringtls/ringtls.h>
#include "keylog.h"
#include "secret.h"

static unsigned lines;
static SSL *server;
static struct ringtls__secret *secret; /* the server's */

static struct ringtls__secret **place(const SSL *ssl)
{
	return ssl == server ? &secret : NULL;
}

static void application(const SSL *ssl, const char *line)
{
	(void)ssl, (void)line;
	lines++;
}

static SSL_CTX *make_ctx(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
	X509_free(cert);
	EVP_PKEY_free(key);
	return ctx;
}

/* A stock handshake in memory; of the server's secret the length is told, 0: it was not kept. */
static void shake_hands(SSL_CTX *ctx, size_t *ret_secret_len)
{
	SSL *client = SSL_new(ctx);
	int s = 0, c = 0;
	BIO *a, *b;

	server = SSL_new(ctx);
	assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
	SSL_set_bio(server, a, a);
	SSL_set_bio(client, b, b);
	SSL_set_accept_state(server);
	SSL_set_connect_state(client);
	for (int i = 0; i < 10 && (s != 1 || c != 1); i++) {
		c = SSL_do_handshake(client);
		s = SSL_do_handshake(server);
	}
	assert_int_equal(s, 1);
	*ret_secret_len = secret ? secret->len : 0;
	ringtls__secret_free(secret);
	secret = NULL;
	SSL_free(server);
	SSL_free(client);
}

/* Of an application that has a key log; how many lines it gets without us. */
static SSL_CTX *make_logging_ctx(unsigned *ret_lines)
{
	SSL_CTX *ctx = make_ctx();
	size_t len;

	SSL_CTX_set_keylog_callback(ctx, application);
	lines = 0;
	shake_hands(ctx, &len);
	assert_true(lines > 0);
	*ret_lines = lines;
	return ctx;
}

static void the_applications_key_log_goes_on(void **state)
{
	unsigned without;
	SSL_CTX *ctx = make_logging_ctx(&without);
	size_t len;

	(void)state;
	/* Twice does no harm, and does not log twice. */
	assert_int_equal(ringtls__ctx_prepare(ctx, place), 0);
	assert_int_equal(ringtls__ctx_prepare(ctx, place), 0);
	lines = 0;
	shake_hands(ctx, &len);
	assert_int_equal(lines, without);
	SSL_CTX_free(ctx);
}

static void (*wrapped)(const SSL *ssl, const char *line);
static unsigned depth;

/* As an application does that was there after us: it hands on to the one that it found. */
static void wrapper(const SSL *ssl, const char *line)
{
	assert_true(++depth < 10);
	wrapped(ssl, line);
	depth--;
}

static void prepared_twice_a_key_log_between_is_called_once(void **state)
{
	unsigned without;
	SSL_CTX *ctx = make_logging_ctx(&without);
	size_t len;

	(void)state;
	assert_int_equal(ringtls__ctx_prepare(ctx, place), 0);
	wrapped = SSL_CTX_get_keylog_callback(ctx);
	SSL_CTX_set_keylog_callback(ctx, wrapper);
	assert_int_equal(ringtls__ctx_prepare(ctx, place), 0);
	lines = depth = 0;
	shake_hands(ctx, &len);
	assert_int_equal(lines, without);
	assert_int_equal(len, ringtls__ossl_offers_next_keys() ? 0 : 48);
	SSL_CTX_free(ctx);
}

static void the_secret_is_kept_only_where_it_is_needed(void **state)
{
	SSL_CTX *ctx = make_ctx();
	size_t len;

	(void)state;
	shake_hands(ctx, &len);
	assert_int_equal(len, 0); /* the context was not prepared */
	assert_int_equal(ringtls__ctx_prepare(ctx, place), 0);
	shake_hands(ctx, &len);
	/* TLS_AES_256_GCM_SHA384 is what OpenSSL prefers. */
	assert_int_equal(len, ringtls__ossl_offers_next_keys() ? 0 : 48);
	SSL_CTX_free(ctx);
}

static void unhex(const char *hex, uint8_t *to)
{
	unsigned byte;

	for (; *hex; hex += 2) {
		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		*to++ = (uint8_t)byte;
	}
}

/* RFC 8448 section 3: the server's application traffic secret, key and iv. */
static void expand_label_gives_the_keys_of_rfc_8448(void **state)
{
	uint8_t bytes[32], key[16], iv[12], got[16];

	(void)state;
	unhex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643", bytes);
	unhex("9f02283b6c9c07efc26bb9f2ac92e356", key);
	unhex("cf782b88dd83549aadf1e984", iv);
	assert_int_equal(ringtls__expand_label(bytes, 32, "key", got, 16), 0);
	assert_memory_equal(got, key, 16);
	assert_int_equal(ringtls__expand_label(bytes, 32, "iv", got, 12), 0);
	assert_memory_equal(got, iv, 12);
}

static void a_secret_of_another_length_is_refused_and_kept(void **state)
{
	struct ringtls__secret short_one = { .bytes = { 1, 2, 3 }, .len = 20 }, before = short_one;
	struct ringtls__key key;

	(void)state;
	assert_int_equal(ringtls__secret_next(&short_one, TLS_CIPHER_AES_GCM_128, &key),
			 RINGTLS_E_TLS);
	short_one.len = before.len = 32;
	assert_int_equal(ringtls__secret_next(&short_one, 1, &key), RINGTLS_E_TLS);
	assert_memory_equal(&short_one, &before, sizeof(short_one));
}

static void each_next_secret_is_another(void **state)
{
	struct ringtls__secret chain = { .bytes = { 7 }, .len = 32 };
	struct ringtls__key a, b;

	(void)state;
	assert_int_equal(ringtls__secret_next(&chain, TLS_CIPHER_AES_GCM_128, &a), 0);
	assert_int_equal(ringtls__secret_next(&chain, TLS_CIPHER_AES_GCM_128, &b), 0);
	assert_memory_not_equal(a.u.gcm128.key, b.u.gcm128.key, sizeof(a.u.gcm128.key));
	assert_int_equal(ringtls__key_seq(&b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_applications_key_log_goes_on),
		cmocka_unit_test(prepared_twice_a_key_log_between_is_called_once),
		cmocka_unit_test(the_secret_is_kept_only_where_it_is_needed),
		cmocka_unit_test(expand_label_gives_the_keys_of_rfc_8448),
		cmocka_unit_test(a_secret_of_another_length_is_refused_and_kept),
		cmocka_unit_test(each_next_secret_is_another),
	};

	return cmocka_run_group_tests_name("keylog", tests, NULL, NULL);
}
