/* bench_tls.c - OpenSSL's contexts of both ends, and a certificate made on the spot. */
#include "config.h"
#include "bench.h"

#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

static X509 *make_cert(EVP_PKEY *key)
{
	X509 *cert = X509_new();
	X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL;

	if (name && X509_set_version(cert, X509_VERSION_3) &&
	    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) &&
	    X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
	    X509_gmtime_adj(X509_getm_notAfter(cert), 86400) &&
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost",
				       -1, -1, 0) &&
	    X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key) &&
	    X509_sign(cert, key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

static bool set_cert(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = key ? make_cert(key) : NULL;
	bool ok = cert && SSL_CTX_use_certificate(ctx, cert) == 1 &&
		  SSL_CTX_use_PrivateKey(ctx, key) == 1;

	X509_free(cert);
	EVP_PKEY_free(key);
	return ok;
}

static bool set_cipher(SSL_CTX *ctx, const struct bench_options *options)
{
	if (options->tls == TLS1_3_VERSION)
		return SSL_CTX_set_ciphersuites(ctx, options->cipher) == 1;
	return SSL_CTX_set_cipher_list(ctx, options->cipher) == 1;
}

static SSL_CTX *make(const SSL_METHOD *method, const struct bench_options *options, bool server)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	if (ctx && set_cipher(ctx, options) && SSL_CTX_set_min_proto_version(ctx, options->tls) &&
	    SSL_CTX_set_max_proto_version(ctx, options->tls) && (!server || set_cert(ctx))) {
		/* Nothing but application data shall come behind the handshake. */
		SSL_CTX_set_num_tickets(ctx, 0);
		SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
		SSL_CTX_set_quiet_shutdown(ctx, 1);
		return ctx;
	}
	fprintf(stderr, "ringtls-bench: OpenSSL does not take this version and cipher:\n");
	ERR_print_errors_fp(stderr);
	SSL_CTX_free(ctx);
	return NULL;
}

SSL_CTX *bench_server_ctx(const struct bench_options *options)
{
	return make(TLS_server_method(), options, true);
}

SSL_CTX *bench_client_ctx(const struct bench_options *options)
{
	return make(TLS_client_method(), options, false);
}
