/*
 * session.h - a connection as the caller has it: the state machine (conn.c), the
 * BIOs (ossl.c), the waits (engine.c), and the call that is under way.
 */
#ifndef RINGTLS_SESSION_H
#define RINGTLS_SESSION_H

#include <stdbool.h>
#include <openssl/ssl.h>
#include <ringtls/ringtls.h>
#include "conn.h"
#include "lane.h"
#include "engine.h"
#include "ossl.h"

enum ringtls__call_kind {
	RINGTLS__CALL_NONE,
	RINGTLS__CALL_WRITE,
	RINGTLS__CALL_EARLY,
	RINGTLS__CALL_FILE,
};

/* A write, write of early data, or sendfile that answered WANT_*, or fewer bytes than it took: it must be
 * repeated. */
struct ringtls__call {
	enum ringtls__call_kind kind;
	uint32_t chunk;     /* WRITE, openssl lane: what OpenSSL must be given again, or 0 */
	size_t num;         /* WRITE */
	size_t done;        /* WRITE: sealed or sent, of num. FILE: sealed, and not told */
	union {
		const uint8_t *buf; /* WRITE, EARLY */
		off_t offset;       /* FILE: where it must go on */
	} at;
};

/* What was queued by ringtls_queue_writev and ringtls_queue_sendfile: see request.h. */
struct ringtls__request;

struct ringtls__requests {
	struct ringtls__request *head;
	struct ringtls__request **tail;
	struct ringtls__request *next; /* the first that is not taken whole by the machine */
	uint32_t count, max;
	uint64_t app_bytes; /* what tx.app_bytes was when it was last looked at */

	uint8_t *piece; /* pool memory: bytes of a file, or of small pieces put together */
	struct ringtls__op *read; /* reads into piece, or NULL */

	/* openssl lane: what OpenSSL must be given, again where it asks for that. */
	struct ringtls__request *given;
	const uint8_t *give;
	uint32_t give_len;
	uint8_t given_want; /* SSL_ERROR_*: it waits for the peer, or for the caller, to do so */

	uint32_t room;   /* of piece */
	bool cancels;    /* some were cancelled, and may still be in the machine's queue */
	bool wants_room; /* the caller waits for an event, as there was no room */
	bool is_read_dropped; /* what it reads is not, or no longer, for next */
};

/* Every connection has one, busy or idle (tests/unit/test_idle.c): so what is small stands
 * together, and what few have, or only a running call, is elsewhere. */
struct ringtls_conn {
	struct ringtls_engine *engine;
	SSL *ssl;
	struct ringtls__waiter waiter;
	struct ringtls__bios bios;
	struct ringtls__tx tx;
	struct ringtls__op *op; /* the one that runs: the engine's, or, once a call may
				 * return before its end, one of the pool */
	struct ringtls__requests requests;
	struct ringtls__call call;
	off_t fetched_offset; /* of fetched */
	int fetched;          /* the file that was read last, for nobody; -1: none */
	int fd;

	/* Which lane, and why. */
	uint32_t reason; /* why not the kernel lane, as far as known before the handshake */
	int reason_errno;
	uint64_t promote_after; /* bytes; 0: not, or not any more */
	uint64_t added_options; /* SSL_OP_* that the SSL did not have before */
	uint64_t epoch_start;   /* openssl lane: bios.records at the last KeyUpdate */
	uint64_t waits;

	enum { OPEN, CLOSING, CLOSED } closing; /* close_notify: not asked for, on its way, told */
	int close_answer;
	int error;     /* SSL_ERROR_* of the last call */
	int sent;      /* of the last pump: 0, -EAGAIN, or the error of the transmit side */
	int sys_errno; /* behind SSL_ERROR_SYSCALL */

	uint8_t asked;       /* enum ringtls_lane */
	uint8_t lane;        /* the lane it is or was in; AUTO before the handshake */
	bool no_read_ahead;  /* it was on, and was switched off */
	bool is_late;        /* the handshake was done before it was attached */
	bool is_settled;     /* the handshake is done, and a named lane was had */
	bool is_dead;        /* OpenSSL failed for good */
	bool must_not_sleep; /* the running call does not wait, whatever the socket is */
	bool is_queue;       /* no call runs: the engine goes on with what was queued */
	bool is_wanted;      /* the caller was told to wait for an event */
	bool is_ending;      /* it is being freed, as soon as nothing is in flight */
};

typedef int ringtls__ssl_call(struct ringtls_conn *c, void *arg);

/* promote.c: from the user lane into the kernel, if that is due and can be. */
void ringtls__promote(struct ringtls_conn *c);

/* queue.c: requests, which outlive the calls that made them. */

void ringtls__requests_init(struct ringtls__requests *q, uint32_t max);

/* Finds out what became of requests, while there are some, after each step of the machine. */
void ringtls__account(struct ringtls_conn *c);

/* All that is queued fails. */
void ringtls__requests_fail(struct ringtls_conn *c, int error);

/* Drops all without a word. Nothing of theirs is in flight. */
void ringtls__requests_fini(struct ringtls_conn *c);

/* It has something to start, in the engine's next round. */
void ringtls__requests_work(struct ringtls_conn *c);

/* The caller does not know yet what became of some. */
bool ringtls__requests_untold(const struct ringtls_conn *c);

/* feed.c: requests on their way to the machine. */

/* Puts in the machine's queue, or gives OpenSSL, what it takes next, and before that an answer
 * to a KeyUpdate that was put off. 0; -EAGAIN: a wait or a read of a file is under way; or an
 * error that ends the connection. */
int ringtls__feed(struct ringtls_conn *c);

/* There is something that the machine was not given yet. */
bool ringtls__has_more(const struct ringtls_conn *c);

/* A read of a file that outlived its request: gives back what it used, if it has ended. */
void ringtls__requests_drop_read(struct ringtls_conn *c);

/* A read of a file is in flight: ends it. 0 or a negated errno. */
int ringtls__requests_end_read(struct ringtls_conn *c);

/* fetch.c: files, for calls that may not wait for the disk. */

/* The kernel lane, and a socket for it: 1, 0, or a negated errno. */
int ringtls__may_sendfile(struct ringtls_conn *c);

/* Its send buffer does not hold a segment for sure. */
bool ringtls__is_small_buffer(const struct ringtls_conn *c);

/* pread(2); or -EAGAIN: it is not in memory, is being fetched, and an event will say so. */
ssize_t ringtls__read_file(struct ringtls_conn *c, int file, void *buf, size_t len, off_t offset);

/* sendfile(2) of that range would not wait for the disk: 0; or -EAGAIN, as above. */
int ringtls__have_file(struct ringtls_conn *c, int file, off_t offset, size_t len);

/* It would, and the engine can read it meanwhile. */
bool ringtls__is_cold(struct ringtls_conn *c, int file, off_t offset, size_t len);

/* write.c: what is given to SSL_write in one go. */
struct ringtls__piece {
	const uint8_t *bytes;
	size_t len;
	/* They are what the running call was given, and must be given again: so a job that OpenSSL
	 * leaves in the middle of it (SSL_MODE_ASYNC) may go on to read them. */
	bool may_pause;
};

int ringtls__do_write(struct ringtls_conn *c, void *piece); /* a ringtls__ssl_call */

/* Bytes that may go to OpenSSL before its key must be renewed; renews it if due. */
size_t ringtls__until_limit(struct ringtls_conn *c);

/* Their sum; false: it can't be had. */
bool ringtls__iov_len(const struct iovec *iov, int iovcnt, size_t *ret_len);

/* A place in the caller's pieces. */
struct ringtls__place {
	const struct iovec *iov;
	size_t skip; /* of its first */
};

/* Behind the first done bytes of them. */
struct ringtls__place ringtls__find(const struct iovec *iov, size_t done);

/*
 * What OpenSSL is given next of the left bytes from a place on, of which there are some: a
 * large piece where it is, or small ones together in a copy, a record long at most. Only if
 * they are small is there need of the buffer for it.
 */
bool ringtls__is_small(struct ringtls__place at, size_t left);
struct ringtls__piece ringtls__next_bytes(struct ringtls__place at, size_t left, uint8_t *buffer);

/* stream.c: the SSL_write family's own parts. */

/* One op further with what is queued, without waiting. */
void ringtls__advance(struct ringtls_conn *c);

/* Cancels the op that is in flight, if there is one, and takes its end. 0, or a negated
 * errno: it could not be waited for. */
int ringtls__end_op(struct ringtls_conn *c);

/* Whether calls may wait: 1, 0, or a negated errno. */
int ringtls__is_blocking(struct ringtls_conn *c);

/* Waits for the end of an op that was started, on a socket that blocks. 0, or -EAGAIN. */
int ringtls__await(struct ringtls_conn *c, const struct ringtls__op *op);

/* Sleeps until one of events (0: ms) is over, or leaves a wait behind: 0 or -EAGAIN. */
int ringtls__pause_for(struct ringtls_conn *c, short events, unsigned ms);

/* Sends what is queued. 0: all; -EAGAIN: a wait was left behind; else the error. */
int ringtls__drive(struct ringtls_conn *c);

/* Makes OpenSSL write a KeyUpdate, and takes it. 0, or RINGTLS_E_TLS with nothing sent. */
int ringtls__push_key_update(struct ringtls_conn *c, int type);

/* Moves what OpenSSL wrote into the queue. */
void ringtls__take_inbox(struct ringtls_conn *c);

/* Calls into OpenSSL, sets c->error, and takes what it wrote. */
int ringtls__call_openssl(struct ringtls_conn *c, ringtls__ssl_call *call, void *arg);

/*
 * Calls into OpenSSL, and sends what it writes, until it is done, failed, or must
 * wait on a non-blocking socket. The answer is OpenSSL's; c->error goes with it, and
 * c->sent says how the sending went.
 */
int ringtls__pump(struct ringtls_conn *c, ringtls__ssl_call *call, void *arg);

/* The same for a read: what it makes OpenSSL send need not be sent for it to end. */
int ringtls__pump_read(struct ringtls_conn *c, ringtls__ssl_call *call, void *arg);

/* Queues the answer to the peer's KeyUpdate, if one is due; the first, not while a key waits
 * in the queue. */
void ringtls__answer_key_update(struct ringtls_conn *c);
void ringtls__answer_now(struct ringtls_conn *c);

/* Answers of the family: set the error (and errno) and give -1. */
int ringtls__want(struct ringtls_conn *c, int ssl_error);
int ringtls__failed(struct ringtls_conn *c, int error);     /* a negated errno or RINGTLS_E_* */
int ringtls__refused(struct ringtls_conn *c, int ssl_reason); /* SSL_R_*; nothing is lost */

/* 1, or the answer that the call must give. */
int ringtls__handshake(struct ringtls_conn *c);
int ringtls__may_write(struct ringtls_conn *c);
int ringtls__may_call(struct ringtls_conn *c); /* the same, behind all that is queued */

#endif
