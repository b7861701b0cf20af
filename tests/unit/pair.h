/*
 * pair.h - a connection of ours and a stock OpenSSL peer, over a real TCP
 * loopback pair, in one thread: each side is stepped by hand, so every test runs
 * the same way each time.
 */
#ifndef PAIR_H
#define PAIR_H

#include <stdbool.h>
#include <openssl/ssl.h>
#include <ringtls/ringtls.h>
#include "session.h"

struct pair_opts {
	uint32_t lane;
	uint32_t backend;
	int version;          /* TLS1_2_VERSION or TLS1_3_VERSION; 0: 1.3 */
	const char *cipher;   /* NULL: AES-128-GCM */
	bool is_client;       /* our side's role */
	bool small_buffers;   /* of the sockets, so that they fill soon */
	int family;           /* AF_INET unless set */
	uint32_t flags;       /* of the engine */
	uint32_t renegotiation;
	uint64_t max_records;
	uint64_t promote_after;
	bool is_unprepared; /* without ringtls_ctx_prepare */
	struct io_uring *ring; /* the test's own, for RINGTLS_BACKEND_CALLER */
	uint32_t tag;
	uint32_t fixed_file;
	bool is_stock;      /* our side is OpenSSL alone, without ringtls: see side.h */
	void (*prepare)(SSL_CTX *ours, SSL_CTX *peer); /* before the SSLs are made, or NULL */
	const struct ringtls__sys *sys; /* NULL: the real one */
};

struct pair {
	struct pair_opts opts;
	struct ringtls_engine *engine;
	struct ringtls_conn *conn;
	SSL_CTX *ours_ctx, *peer_ctx;
	SSL *ours, *peer;
	int fd, peer_fd; /* both non-blocking at first */
	uint8_t *got;    /* what the peer has read */
	size_t got_len, got_room;
	int peer_error; /* SSL_ERROR_* of the peer's last read */
};

/* Asserts on failure. The handshake is not done yet. */
void pair_open(struct pair *p, const struct pair_opts *opts);
void pair_close(struct pair *p);

/* A second connection between the same two contexts; the client resumes session
 * (NULL: doesn't). */
void pair_reconnect(struct pair *p, SSL_SESSION *session);

/* A context for either side, with a certificate. */
SSL_CTX *pair_ctx(const struct pair_opts *opts);

/* A TCP loopback pair, non-blocking. */
void pair_sockets(int family, bool small_buffers, int *ret_a, int *ret_b);

/* Lets what was sent arrive: waits a little until a side can read. On a busy machine
 * loopback is not always done with a packet when send() returns. */
void pair_rest(const struct pair *p);

/* Where something must come, and is looked for once: waits until this side can be read. */
void pair_await(int fd);

/* The peer resets the connection; when this returns, the reset is here. */
void pair_peer_resets(struct pair *p);

/* Steps both sides until both are done; asserts that ours succeeds. */
void pair_handshake(struct pair *p);

/* Reads what the peer can read now, and appends it to got. Bytes read. */
size_t pair_peer_reads(struct pair *p);

/* The peer writes a byte, and we read it. */
void pair_peer_sends_a_byte(struct pair *p);

/* Writes all, stepping the peer's reads on WANT_WRITE. */
void pair_write_all(struct pair *p, const void *bytes, size_t len);

/* Waits (bounded) until the engine says that ours may go on. */
void pair_wait(struct pair *p);

/* Until the engine has something to do, or the peer something to read; who is woken by neither
 * fails. */
void pair_sleep(const struct pair *p);

/* There is neither room to send nor anything to read. */
bool pair_is_full(const struct pair *p);

/* Reads at the peer, and waits where there is nothing yet: until it has len bytes in all,
 * until the connection's end, until it has these bytes and no more. */
void pair_peer_gets(struct pair *p, size_t len);
void pair_peer_reads_to_the_end(struct pair *p);
void pair_peer_expects(struct pair *p, const void *bytes, size_t len);

void pair_set_blocking(int fd);

/* The lane's needs (see need() in support.h). */
void pair_need(const struct pair_opts *opts);

/* Bytes that differ everywhere, so that an offset that is wrong shows. */
void pair_fill(uint8_t *bytes, size_t len);

struct ringtls_conn_info pair_info(const struct pair *p);

#endif
