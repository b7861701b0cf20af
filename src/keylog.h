/*
 * keylog.h - leaf: the transmit traffic secret of a connection, as OpenSSL's key
 * log gives it. Only OpenSSL 3.0 and 3.1 need it: they change their key behind a
 * KeyUpdate without offering the next one.
 */
#ifndef RINGTLS_KEYLOG_H
#define RINGTLS_KEYLOG_H

#include <stdbool.h>
#include <openssl/ssl.h>
#include "secret.h"

/* Whether OpenSSL offers the next key itself. */
bool ringtls__ossl_offers_next_keys(void);

/* Puts our callback before the application's, once. 0 or -ENOMEM. */
int ringtls__ctx_prepare(SSL_CTX *ctx);

/* From now on the secret is kept there, in memory of its own, if it is needed and the SSL's
 * context was prepared. Without memory it is not: then there is no next key. 0 or -ENOMEM. */
int ringtls__keylog_attach(SSL *ssl, struct ringtls__secret **ret_secret);

/* Erases it. */
void ringtls__keylog_detach(SSL *ssl, struct ringtls__secret **secret);

#endif
