/*
 * selftest.c - proves at start-up that this OpenSSL hands over its keys the way
 * ossl.c thinks: an in-memory TLS 1.3 connection, whose server writes through our
 * BIO and whose client is stock. The server's bytes after the hand-over are sealed
 * with the key it gave; the client must read them, and close_notify. All that an
 * undocumented interface could have changed is in that: the control numbers, the
 * structure, the record types, the sequence number.
 */
#include "config.h"
#include "ossl.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <ringtls/ringtls.h>

struct pair {
	struct ringtls__pool pool;
	struct ringtls__bios bios;
	SSL_CTX *ctx;
	SSL *server, *client;
	BIO *to_server, *to_client; /* memory */
	struct ringtls__sealer *sealer;
	bool bad;
};

static const char hello[] = "ringtls self-test";

static X509 *self_signed(EVP_PKEY *key)
{
	X509 *cert = X509_new();

	if (cert && X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
	    X509_gmtime_adj(X509_getm_notAfter(cert), 3600) && X509_set_pubkey(cert, key) &&
	    X509_sign(cert, key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

static SSL_CTX *make_ctx(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = key ? self_signed(key) : NULL;
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	bool ok = cert && ctx && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) &&
		  SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") &&
		  SSL_CTX_use_certificate(ctx, cert) && SSL_CTX_use_PrivateKey(ctx, key);

	X509_free(cert);
	EVP_PKEY_free(key);
	if (ok)
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

static bool make_pair(struct pair *p)
{
	BIO *server_in, *client_in, *client_out;

	p->ctx = make_ctx();
	if (!p->ctx)
		return false;
	p->server = SSL_new(p->ctx);
	p->client = SSL_new(p->ctx);
	if (!p->server || !p->client ||
	    ringtls__bios_attach(&p->bios, p->server, -1, &p->pool, &ringtls__sys_real) < 0)
		return false;
	p->bios.mask = RINGTLS__KEYS_ALL;
	server_in = BIO_new(BIO_s_mem());
	client_in = BIO_new(BIO_s_mem());
	client_out = server_in;
	if (!server_in || !client_in || !BIO_up_ref(server_in)) {
		BIO_free(server_in);
		BIO_free(client_in);
		return false;
	}
	BIO_set_mem_eof_return(server_in, -1);
	BIO_set_mem_eof_return(client_in, -1);
	SSL_set0_rbio(p->server, server_in);
	SSL_set_bio(p->client, client_in, client_out);
	p->to_server = server_in;
	p->to_client = client_in;
	SSL_set_options(p->server, SSL_OP_ENABLE_KTLS);
	SSL_set_accept_state(p->server);
	SSL_set_connect_state(p->client);
	return true;
}

static void seal_to_client(struct pair *p, uint8_t type, const struct ringtls__item *item)
{
	uint8_t record[RINGTLS__RECORD_MAX + 256];
	ssize_t n = -1;

	if (p->sealer)
		n = ringtls__seal(p->sealer, type, item->bytes, item->len, record);
	if (n < 0 || BIO_write(p->to_client, record, (int)n) != (int)n)
		p->bad = true;
}

static void deliver(struct pair *p)
{
	while (p->bios.inbox.head) {
		const struct ringtls__item *item = p->bios.inbox.head;

		if (item->kind == RINGTLS__ITEM_WIRE)
			p->bad |= BIO_write(p->to_client, item->bytes, (int)item->len) < 0;
		else if (item->kind == RINGTLS__ITEM_KEYS)
			p->bad |= p->sealer || ringtls__sealer_new(&p->sealer,
								   ringtls__item_key(item)) < 0;
		else
			seal_to_client(p,
				       item->kind == RINGTLS__ITEM_RECORD ? item->record_type :
									    RINGTLS__RECORD_DATA,
				       item);
		ringtls__txq_pop(&p->bios.inbox);
	}
}

static bool shake_hands(struct pair *p)
{
	int client = 0, server = 0;

	for (int turn = 0; turn < 10 && !p->bad && (client != 1 || server != 1); turn++) {
		client = SSL_do_handshake(p->client);
		server = SSL_do_handshake(p->server);
		deliver(p);
	}
	return client == 1 && server == 1 && !p->bad;
}

static bool converse(struct pair *p)
{
	char got[sizeof(hello)];

	if (SSL_write(p->server, hello, sizeof(hello)) != sizeof(hello) ||
	    SSL_shutdown(p->server) != 0)
		return false;
	deliver(p);
	/* The tickets come first: they are records of another type. */
	return !p->bad && SSL_read(p->client, got, sizeof(got)) == sizeof(got) &&
	       !memcmp(got, hello, sizeof(got)) && SSL_read(p->client, got, sizeof(got)) == 0 &&
	       SSL_get_error(p->client, 0) == SSL_ERROR_ZERO_RETURN;
}

static void free_pair(struct pair *p)
{
	if (p->server)
		ringtls__bios_detach(&p->bios, p->server);
	SSL_free(p->server);
	SSL_free(p->client);
	SSL_CTX_free(p->ctx);
	ringtls__sealer_free(p->sealer);
	ringtls__pool_fini(&p->pool);
}

static uint32_t run(void)
{
	struct pair p = { .bad = false };
	uint32_t reason = RINGTLS_REASON_SELFTEST;

	if (make_pair(&p) && shake_hands(&p)) {
		if (!p.bios.keyed)
			reason = RINGTLS_REASON_BUILD;
		else if (converse(&p))
			reason = RINGTLS_REASON_NONE;
	}
	free_pair(&p);
	return reason;
}

static uint32_t answer;

static void run_once(void)
{
	/* The caller's error queue is not ours to fill. */
	ERR_set_mark();
	answer = run();
	ERR_pop_to_mark();
}

uint32_t ringtls__ossl_selftest(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, run_once);
	return answer;
}

/* The question has a public number; a BIO without a socket answers it, too. */
static int flag_means(int flag, int sends, int receives)
{
	BIO *bio = BIO_new_socket(-1, BIO_NOCLOSE);
	bool ok;

	if (!bio)
		return -ENOMEM;
	BIO_set_flags(bio, flag);
	ok = BIO_ctrl(bio, BIO_CTRL_GET_KTLS_SEND, 0, NULL) == sends &&
	     BIO_ctrl(bio, BIO_CTRL_GET_KTLS_RECV, 0, NULL) == receives;
	BIO_free(bio);
	return ok ? 0 : RINGTLS_E_DETACH;
}

int ringtls__ossl_selftest_flags(void)
{
	int r = flag_means(0, 0, 0);

	if (r == 0)
		r = flag_means(RINGTLS__BIO_KTLS_TX, 1, 0);
	return r == 0 ? flag_means(RINGTLS__BIO_KTLS_RX, 0, 1) : r;
}
