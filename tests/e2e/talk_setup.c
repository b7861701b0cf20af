/* talk_setup.c - what talk has once: context, engine, session, and what it says. */
#include "config.h"
#include "ctx.h"
#include "talk.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct talk *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	SSL_SESSION_free(t->session);
	t->session = session;
	return 1; /* it is ours now */
}

static void load_session(struct talk *t)
{
	FILE *file = t->opts.session ? fopen(t->opts.session, "r") : NULL;

	if (file) {
		t->session = PEM_read_SSL_SESSION(file, NULL, NULL, NULL);
		fclose(file);
	}
}

void save_session(const struct talk *t)
{
	FILE *file = t->opts.session && t->session ? fopen(t->opts.session, "w") : NULL;

	if (file && (!PEM_write_SSL_SESSION(file, t->session) || fclose(file)))
		die(t->opts.session);
}

static bool set_certificates(SSL_CTX *ctx, const struct options *o)
{
	static const unsigned char name[] = "talk";

	if (o->ca && !SSL_CTX_load_verify_file(ctx, o->ca))
		return false;
	if (o->ca && o->serve)
		SSL_CTX_set_client_CA_list(ctx, SSL_load_client_CA_file(o->ca));
	if (o->demand)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	else if (o->ca && !o->serve)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (!SSL_CTX_set_session_id_context(ctx, name, sizeof(name) - 1))
		return false;
	return !o->cert || (SSL_CTX_use_certificate_chain_file(ctx, o->cert) == 1 &&
			    SSL_CTX_use_PrivateKey_file(ctx, o->key, SSL_FILETYPE_PEM) == 1);
}

static void make_server(struct talk *t)
{
	uint32_t early = (uint32_t)t->opts.early;

	if (early && (!SSL_CTX_set_max_early_data(t->ctx, early) ||
		      !SSL_CTX_set_recv_max_early_data(t->ctx, early)))
		die("early data");
}

static void make_client(struct talk *t)
{
	SSL_CTX_set_post_handshake_auth(t->ctx, t->opts.post);
	SSL_CTX_set_app_data(t->ctx, t);
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(t->ctx, on_session);
}

static void make_context(struct talk *t)
{
	const struct options *o = &t->opts;
	SSL_CTX *ctx = SSL_CTX_new(o->serve ? TLS_server_method() : TLS_client_method());

	t->ctx = ctx;
	if (!ctx || !ctx_speaks(ctx, o->tls, o->cipher) || !set_certificates(ctx, o) ||
	    ringtls_ctx_prepare(ctx) < 0)
		die("the context");
	if (o->no_ticket)
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	if (o->serve)
		make_server(t);
	else
		make_client(t);
}

static void make_engine(struct talk *t)
{
	/* With its lane it asks the machine now, and not when a connection is counted. */
	struct ringtls_engine_opts opts = {.size = sizeof(opts), .lane = lane_of(t->opts.lane)};
	const char *name = t->opts.engine;
	int r;

	while (name && strcmp(name, ringtls_backend_name(opts.backend)) &&
	       opts.backend < RINGTLS_BACKEND_SYSCALLS)
		opts.backend++;
	r = ringtls_engine_new(&t->engine, &opts);
	if (r < 0) {
		fprintf(stderr, "talk: ringtls_engine_new: %s\n", ringtls_strerror(r));
		exit(2);
	}
}

static void load_text(struct talk *t)
{
	static const char head[] =
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %ld\r\n\r\n";
	FILE *file = t->opts.send ? fopen(t->opts.send, "r") : NULL;
	long len = 0;
	int n = 0;

	if (t->opts.send && (!file || fseek(file, 0, SEEK_END) || (len = ftell(file)) < 0))
		die(t->opts.send);
	t->text = malloc((size_t)len + sizeof(head) + 32);
	if (!t->text)
		die("malloc");
	if (t->opts.http)
		n = sprintf(t->text, head, len);
	if (file) {
		rewind(file);
		if (fread(t->text + n, 1, (size_t)len, file) != (size_t)len)
			die(t->opts.send);
		fclose(file);
	}
	t->size = (uint64_t)(len + n);
}

void set_up(struct talk *t)
{
	load_text(t);
	make_context(t);
	make_engine(t);
	load_session(t);
}

void tear_down(struct talk *t)
{
	SSL_SESSION_free(t->session);
	ringtls_engine_free(t->engine);
	SSL_CTX_free(t->ctx);
	free(t->text);
}
