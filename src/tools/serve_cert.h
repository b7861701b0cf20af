/* serve_cert.h - the TLS side of ringtls-serve: context and certificate. */
#ifndef RINGTLS_SERVE_CERT_H
#define RINGTLS_SERVE_CERT_H

#include "serve.h"

/* NULL: it failed, and said why on stderr. */
SSL_CTX *serve_ctx_new(const struct serve_options *options);

/*
 * Reads the certificate again, for the connections to come; those that are there keep
 * theirs. Where it is no good the old one stays, and stderr has why.
 */
void serve_ctx_renew(struct serve_server *server);

/* An SSL of the present context; any thread may ask. NULL: no memory. */
SSL *serve_ssl_new(struct serve_server *server);

#endif
