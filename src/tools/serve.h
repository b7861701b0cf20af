/* serve.h - what the parts of ringtls-serve share. */
#ifndef RINGTLS_SERVE_H
#define RINGTLS_SERVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <openssl/ssl.h>
#include <ringtls/ringtls.h>

#include "serve_answer.h"
#include "serve_bounds.h"
#include "serve_jail.h"

struct serve_options {
	const char *root, *address;
	uint16_t port;
	const char *cert, *key; /* NULL: a certificate made on the spot */
	const char *ciphers;    /* NULL: OpenSSL's default */
	uint32_t lane;          /* enum ringtls_lane */
	uint32_t backend;       /* enum ringtls_backend */
	uint32_t renegotiation; /* enum ringtls_reneg */
	int tls;                /* TLS1_2_VERSION, TLS1_3_VERSION, or 0 for both */
	unsigned threads;
	bool prefer_kernel; /* lane auto takes the kernel lane where that can be had */
	uint64_t promote_after; /* or when a connection has sent so many bytes; 0: not */
	unsigned file_cache_s; /* a file is kept open so long */
	bool stats;
	bool change_user; /* to this one, when the socket is bound and the key is read */
	uid_t uid;
	gid_t gid;
	enum serve_sandbox sandbox;
	struct serve_bounds bounds;
};

/* Shared by the threads; all but the context and the last two is fixed before they start. */
struct serve_server {
	const struct serve_options *options;
	struct serve_site site;
	SSL_CTX *ctx; /* for new connections; SIGHUP puts another in its place */
	pthread_mutex_t ctx_lock;
	unsigned connections_max;
	atomic_uint connections;
	atomic_uint_fast64_t shortage_ms; /* when a shortage was last told; 0: never */
};

#endif
