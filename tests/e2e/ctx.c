/* ctx.c - see ctx.h. */
#include "config.h"
#include "ctx.h"
#include <string.h>

static bool set_cipher(SSL_CTX *ctx, const char *cipher)
{
	if (!cipher)
		return true;
	if (strncmp(cipher, "TLS_", 4) == 0)
		return SSL_CTX_set_ciphersuites(ctx, cipher);
	return SSL_CTX_set_cipher_list(ctx, cipher);
}

bool ctx_speaks(SSL_CTX *ctx, const char *tls, const char *cipher)
{
	int version = !tls ? 0 : strcmp(tls, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;

	return SSL_CTX_set_min_proto_version(ctx, version) &&
	       SSL_CTX_set_max_proto_version(ctx, version) && set_cipher(ctx, cipher);
}
