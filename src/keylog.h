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

/* Where the pointer to an SSL's secret is; NULL: it is not wanted. */
typedef struct ringtls__secret **ringtls__keylog_place(const SSL *ssl);

/*
 * Puts our callback before the application's, once: again it does nothing. 0 or -ENOMEM. From
 * then on the secrets that are wanted are kept, if they are needed, in memory of their own;
 * without memory there is none, and no next key.
 */
int ringtls__ctx_prepare(SSL_CTX *ctx, ringtls__keylog_place *place);

#endif
