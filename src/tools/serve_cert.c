/* serve_cert.c - see serve_cert.h. */
#include "config.h"
#include "serve_cert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "serve_log.h"
#include "serve_text.h"

#define DAYS 30

/* TLS 1.2 with nothing but forward secrecy and AEAD; the suites of TLS 1.3 all have both. */
#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"

/* ---- A certificate made on the spot ------------------------------------------- */

/* A number nobody else has used, as browsers keep a list of those they saw. */
static bool set_serial(X509 *cert)
{
	unsigned char bytes[16];
	BIGNUM *number;
	bool ok;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	bytes[0] &= 0x7f;
	number = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
	BN_free(number);
	return ok;
}

static bool set_names(X509 *cert)
{
	X509_NAME *name = X509_get_subject_name(cert);

	return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
					  (const unsigned char *)"localhost", -1, -1, 0) &&
	       X509_set_issuer_name(cert, name);
}

static bool add_extension(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *extension;
	X509V3_CTX ctx;
	bool ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = extension && X509_add_ext(cert, extension, -1);
	X509_EXTENSION_free(extension);
	return ok;
}

static bool add_extensions(X509 *cert, const char *address)
{
	char buffer[160] = "";
	struct serve_text names = { .at = buffer, .size = sizeof(buffer) };

	/* Who listens on every address is reached by the loopback ones here. */
	if (!strcmp(address, "0.0.0.0") || !strcmp(address, "::"))
		serve_text_add(&names, "DNS:localhost,IP:127.0.0.1,IP:::1");
	else
		serve_text_add(&names, "DNS:localhost,IP:%s", address);
	return add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
	       add_extension(cert, NID_ext_key_usage, "serverAuth") &&
	       add_extension(cert, NID_subject_alt_name, buffer) &&
	       add_extension(cert, NID_subject_key_identifier, "hash");
}

static X509 *make_cert(EVP_PKEY *key, const char *address)
{
	X509 *cert = X509_new();

	if (cert && X509_set_version(cert, X509_VERSION_3) && set_serial(cert) &&
	    /* A clock that is a little behind ours shall take it, too. */
	    X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
	    X509_gmtime_adj(X509_getm_notAfter(cert), DAYS * 86400L) && set_names(cert) &&
	    X509_set_pubkey(cert, key) && add_extensions(cert, address) &&
	    X509_sign(cert, key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

static void announce(const X509 *cert)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len;
	char buffer[200];
	struct serve_text text = { .at = buffer, .size = sizeof(buffer) };

	if (!X509_digest(cert, EVP_sha256(), digest, &len))
		return;
	for (unsigned i = 0; i < len; i++)
		serve_text_add(&text, "%s%02X", i ? ":" : "", digest[i]);
	serve_log("self-signed certificate for %d days, SHA-256 fingerprint %s", DAYS, buffer);
}

static bool use_made(SSL_CTX *ctx, const char *address)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = key ? make_cert(key, address) : NULL;
	bool ok = cert && SSL_CTX_use_certificate(ctx, cert) == 1 &&
		  SSL_CTX_use_PrivateKey(ctx, key) == 1;

	if (ok)
		announce(cert);
	else
		serve_log_openssl("can't make a certificate");
	X509_free(cert);
	EVP_PKEY_free(key);
	return ok;
}

/* ---- A certificate that is given ----------------------------------------------- */

/* A server does not ask its terminal for a pass phrase. */
static int no_password(char *buf, int size, int rwflag, void *user)
{
	(void)buf, (void)size, (void)rwflag, (void)user;
	return -1;
}

static bool use_given(SSL_CTX *ctx, const char *cert, const char *key)
{
	SSL_CTX_set_default_passwd_cb(ctx, no_password);
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
		serve_log_openssl("can't use the certificate %s", cert);
		return false;
	}
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
		serve_log_openssl("can't use the key %s (it must be PEM, without a pass phrase)",
				  key);
		return false;
	}
	/* A key of another kind than the certificate's would pass until here. */
	if (SSL_CTX_check_private_key(ctx) != 1) {
		serve_log_openssl("the key %s is not that of the certificate %s", key, cert);
		return false;
	}
	return true;
}

/* ---- The context ------------------------------------------------------------------ */

/* Names that begin with TLS_ are TLS 1.3 suites, the others a TLS 1.2 cipher list. */
static bool set_ciphers(SSL_CTX *ctx, const char *ciphers)
{
	size_t size = strlen(ciphers) + 1;
	char *copy = strdup(ciphers), *save = NULL;
	struct serve_text suites = { .at = calloc(1, size), .size = size };
	struct serve_text list = { .at = calloc(1, size), .size = size };
	bool ok = copy && suites.at && list.at;

	for (char *name = ok ? strtok_r(copy, ":, ", &save) : NULL; name;
	     name = strtok_r(NULL, ":, ", &save)) {
		struct serve_text *to = strncmp(name, "TLS_", 4) ? &list : &suites;

		serve_text_add(to, "%s%s", to->len ? ":" : "", name);
	}
	if (ok && suites.len)
		ok = SSL_CTX_set_ciphersuites(ctx, suites.at) == 1;
	if (ok && (list.len || !suites.len))
		ok = SSL_CTX_set_cipher_list(ctx, list.at) == 1;
	free(copy);
	free(suites.at);
	free(list.at);
	if (!ok)
		serve_log_openssl("can't use the ciphers %s", ciphers);
	return ok;
}

/* A client that offers protocols, and not ours, is told so (RFC 7301 3.2). */
static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
			   const unsigned char *in, unsigned in_len, void *user)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *chosen;

	(void)ssl, (void)user;
	if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/*
 * No groups of finite fields: a client makes us work on them for milliseconds at the
 * price of a few bytes. From OpenSSL 3.5 on there is one that outlasts a quantum computer.
 */
static bool set_groups(SSL_CTX *ctx)
{
	/* Not const: OpenSSL's macro casts that away. */
	char groups[] = "X25519MLKEM768:X25519:P-256:X448:P-384:P-521";

	if (SSL_CTX_set1_groups_list(ctx, groups) == 1)
		return true;
	ERR_clear_error(); /* this OpenSSL does not know the first one */
	if (SSL_CTX_set1_groups_list(ctx, strchr(groups, ':') + 1) == 1)
		return true;
	serve_log_openssl("can't set the groups");
	return false;
}

/* What the administrator names comes on top of what is good practice. */
static bool set_algorithms(SSL_CTX *ctx, const struct serve_options *options)
{
	/* 112 bits: a configuration of OpenSSL's may ask for more, but get no less. */
	if (SSL_CTX_get_security_level(ctx) < 2)
		SSL_CTX_set_security_level(ctx, 2);
	/* Our order, but for a client that has no AES in hardware and says so. */
	SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	return set_groups(ctx) && set_ciphers(ctx, CIPHERS_1_2) &&
	       (!options->ciphers || set_ciphers(ctx, options->ciphers));
}

static bool set_up(SSL_CTX *ctx, const struct serve_options *options)
{
	int lowest = options->tls ? options->tls : TLS1_2_VERSION;
	int highest = options->tls ? options->tls : TLS1_3_VERSION;
	int ret = ringtls_ctx_prepare(ctx);

	if (ret < 0) {
		serve_log("can't prepare for key updates: %s", ringtls_strerror(ret));
		return false;
	}
	if (!SSL_CTX_set_min_proto_version(ctx, lowest) ||
	    !SSL_CTX_set_max_proto_version(ctx, highest)) {
		serve_log_openssl("can't set the protocol version");
		return false;
	}
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION);
	if (options->renegotiation == RINGTLS_RENEG_SERVE)
		SSL_CTX_set_options(ctx, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	else
		SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
	/* An idle connection keeps no record buffers. */
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_alpn_select_cb(ctx, select_protocol, NULL);
	if (!set_algorithms(ctx, options))
		return false;
	return options->cert ? use_given(ctx, options->cert, options->key)
			     : use_made(ctx, options->address);
}

SSL_CTX *serve_ctx_new(const struct serve_options *options)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (!ctx) {
		serve_log_openssl("can't start OpenSSL");
		return NULL;
	}
	/* For key updates on OpenSSL 3.0 and 3.1. */
	if (!set_up(ctx, options) || ringtls_ctx_prepare(ctx) < 0) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

void serve_ctx_renew(struct serve_server *server)
{
	SSL_CTX *old, *ctx = serve_ctx_new(server->options);

	if (!ctx) {
		serve_log("the old certificate stays");
		return;
	}
	pthread_mutex_lock(&server->ctx_lock);
	old = server->ctx;
	server->ctx = ctx;
	pthread_mutex_unlock(&server->ctx_lock);
	SSL_CTX_free(old); /* its connections hold it for as long as they need it */
	serve_log("the certificate was read again");
}

SSL *serve_ssl_new(struct serve_server *server)
{
	SSL_CTX *ctx;
	SSL *ssl;

	pthread_mutex_lock(&server->ctx_lock);
	ctx = server->ctx;
	SSL_CTX_up_ref(ctx);
	pthread_mutex_unlock(&server->ctx_lock);
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	return ssl;
}
