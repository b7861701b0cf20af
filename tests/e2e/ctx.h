/* ctx.h - what peer and talk have in common: which TLS a context speaks. */
#ifndef CTX_H
#define CTX_H

#include <openssl/ssl.h>
#include <stdbool.h>

/* Only version tls, "1.2" or "1.3" (NULL: either), and only this cipher (NULL: the usual ones). */
bool ctx_speaks(SSL_CTX *ctx, const char *tls, const char *cipher);

#endif
