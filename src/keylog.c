/* keylog.c - see keylog.h. */
#include "config.h"
#include "keylog.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>

static pthread_once_t indexes_once = PTHREAD_ONCE_INIT;
static int previous_index = -1; /* of an SSL_CTX: what was there before */

typedef void keylog_callback(const SSL *ssl, const char *line);

/* Function pointers can't be kept as pointers to data. */
struct previous {
	keylog_callback *call;
	ringtls__keylog_place *place;
};

static void free_previous(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
			  void *argp)
{
	(void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
	OPENSSL_free(ptr);
}

static void make_indexes(void)
{
	previous_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_previous);
}

bool ringtls__ossl_offers_next_keys(void)
{
	return OpenSSL_version_num() >= 0x30200000;
}

static bool unhex(struct ringtls__secret *secret, const char *hex)
{
	unsigned byte;

	for (size_t i = 0; i < secret->len; i++) {
		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			return false;
		secret->bytes[i] = (uint8_t)byte;
	}
	return true;
}

/* "LABEL <client random> <secret>", both in hexadecimal. */
static void keep(struct ringtls__secret **ret_secret, const char *line)
{
	const char *hex = strrchr(line, ' ');
	size_t n = hex ? strlen(hex + 1) / 2 : 0;

	ringtls__secret_free(*ret_secret);
	*ret_secret = NULL;
	if (!n || n > sizeof((*ret_secret)->bytes))
		return;
	*ret_secret = malloc(sizeof(**ret_secret));
	if (!*ret_secret)
		return;
	(*ret_secret)->len = n;
	if (unhex(*ret_secret, hex + 1))
		return;
	ringtls__secret_free(*ret_secret);
	*ret_secret = NULL;
}

static void on_keylog(const SSL *ssl, const char *line)
{
	const struct previous *previous =
		SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), previous_index);
	const char *label = SSL_is_server(ssl) ? "SERVER_TRAFFIC_SECRET_0 " :
						 "CLIENT_TRAFFIC_SECRET_0 ";
	struct ringtls__secret **secret = previous ? previous->place(ssl) : NULL;

	if (secret && !strncmp(line, label, strlen(label)))
		keep(secret, line);
	if (previous && previous->call)
		previous->call(ssl, line);
}

int ringtls__ctx_prepare(SSL_CTX *ctx, ringtls__keylog_place *place)
{
	struct previous *previous;

	/* Where it offers the next key itself, its secrets need not be kept. */
	if (ringtls__ossl_offers_next_keys())
		return 0;
	pthread_once(&indexes_once, make_indexes);
	if (previous_index < 0)
		return -ENOMEM;
	/* The callback now may be one that hands on to ours: behind ours it would call itself.
	 * And what is there may be in use by another thread's handshake. */
	if (SSL_CTX_get_ex_data(ctx, previous_index))
		return 0;
	previous = OPENSSL_malloc(sizeof(*previous));
	if (!previous)
		return -ENOMEM;
	previous->call = SSL_CTX_get_keylog_callback(ctx);
	previous->place = place;
	if (!SSL_CTX_set_ex_data(ctx, previous_index, previous)) {
		OPENSSL_free(previous);
		return -ENOMEM;
	}
	SSL_CTX_set_keylog_callback(ctx, on_keylog);
	return 0;
}
