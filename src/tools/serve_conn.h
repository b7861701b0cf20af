/*
 * serve_conn.h - one connection: a state machine over the calls of ringtls.
 *
 *   HANDSHAKE --> REQUEST --> HEAD --> BODY --> (REQUEST | SHUTDOWN)
 *                    |          `-> no body --^
 *                    `--> SHUTDOWN (idle for too long, end of stream, stopping)
 *   SHUTDOWN --> LINGER --> gone
 *
 * Any state may go straight to "gone" when the connection breaks. Each state
 * repeats one call until it succeeds, with the same arguments, as
 * ringtls.h demands.
 */
#ifndef RINGTLS_SERVE_CONN_H
#define RINGTLS_SERVE_CONN_H

#include "serve_http.h"
#include "serve_log.h"
#include "serve_loop.h"

enum serve_state {
	SERVE_STATE_HANDSHAKE,
	SERVE_STATE_REQUEST,
	SERVE_STATE_HEAD,
	SERVE_STATE_BODY,
	SERVE_STATE_SHUTDOWN,
	SERVE_STATE_LINGER,
	SERVE_STATES,
};

struct serve_conn {
	/* The loop's. */
	TAILQ_ENTRY(serve_conn) in_limit, in_runnable;
	enum serve_limit limit;
	uint64_t limit_since_ms;
	bool limited, runnable;

	struct serve_loop *loop;
	int fd;
	SSL *ssl;
	struct ringtls_conn *tls;
	union serve_address peer;
	enum serve_state state;

	/* One request and its answer; an idle connection has neither. */
	struct serve_request *request;
	struct serve_answer answer;
	uint64_t started_ms; /* the request's first byte */
	uint64_t sent;       /* bytes of the body */

	char *ahead; /* read, but behind the present request */
	size_t ahead_len;
	bool peer_done;   /* the peer's close_notify came */
	bool looking;     /* a read between two sends wants to be repeated */
	uint64_t drained; /* bytes that left for the peer, when last looked at */
	unsigned stalled_ms;

	unsigned requests;         /* that began */
	unsigned updates;          /* KeyUpdates and renegotiations, in this minute */
	uint64_t updates_since_ms; /* when that minute began */
};

/* Takes over an accepted socket; closes it when there is no memory for it. */
void serve_conn_start(struct serve_loop *loop, int fd, const union serve_address *peer);

/* Goes on as far as it can; the connection may be gone afterwards. */
void serve_conn_run(struct serve_conn *conn);

/* Its time limit is over; the connection may be gone afterwards. */
void serve_conn_expire(struct serve_conn *conn);

/* The server stops: ends what is idle, lets the rest come to its end. */
void serve_conn_stop(struct serve_conn *conn);

/* Waiting for a request that has not begun. */
bool serve_conn_is_idle(const struct serve_conn *conn);

/* Breaks it off. */
void serve_conn_end(struct serve_conn *conn);

#endif
