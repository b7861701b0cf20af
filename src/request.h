/*
 * request.h - a request as queue.c, which tells what becomes of it, and feed.c, which
 * moves it into the machine's queue, have it.
 */
#ifndef RINGTLS_REQUEST_H
#define RINGTLS_REQUEST_H

#include "session.h"

/* What the caller is to be told of a request, in the engine's list. */
struct ringtls__told {
	struct ringtls__told *next;
	struct ringtls__request *request;
	uint32_t flags; /* RINGTLS_* of a completion; 0: not in the list */
};

struct ringtls__request {
	struct ringtls__request *next; /* of the connection */
	struct ringtls_conn *conn;
	uint64_t id;
	size_t len;   /* bytes; becomes less where the file's end, an error, or a cancel ends it */
	size_t fed;   /* of those, given to the machine or to OpenSSL */
	size_t given; /* of those, in item */
	size_t sent;  /* of those, known to be taken by the kernel */
	int error;    /* 0, or why it is not sent whole */
	uint32_t done; /* RINGTLS_* flags of a completion that have come to it */
	/* That it is released, and that it is sent: two, as each is told in the order of the
	 * requests, and the one must not wait for the other. */
	struct ringtls__told released, was_sent;
	int file; /* or -1 */
	off_t offset;
	struct ringtls__item item; /* what of it is in the machine's queue */
	struct ringtls__place at;  /* how far OpenSSL was given its bytes */
	struct iovec iovs[];
};

/* Bytes of it that the lane has taken. */
static inline size_t ringtls__request_taken(const struct ringtls__request *r)
{
	return r->fed - r->given + r->item.done;
}

/* It ends with what was taken; the rest is taken out of the machine's queue. */
void ringtls__request_cut(struct ringtls_conn *c, struct ringtls__request *r, int error);

/* All that are behind it are cut: -ECANCELED. */
void ringtls__requests_cut_behind(struct ringtls_conn *c, const struct ringtls__request *r);

/* All of it was given away: if it is the next, the next is the one behind it. */
void ringtls__request_pass(struct ringtls_conn *c, const struct ringtls__request *r);

/* Starts to read into the piece: for the next request, or dropped, for nobody. 0 or -ENOMEM. */
int ringtls__start_read(struct ringtls_conn *c, bool is_dropped, int file, off_t offset,
			size_t want);

/* A read that is for nobody, or whose request was cut, must be over before the piece is used.
 * 0, or -EAGAIN: it is not. */
int ringtls__await_dropped_read(struct ringtls_conn *c);

/* Gives the buffer back. Nothing reads into it. */
void ringtls__requests_drop_piece(struct ringtls_conn *c);

#endif
