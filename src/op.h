/*
 * op.h - one operation: what the state machine asks for, and what became of it.
 * An op and all that it points to stay in place until it is done.
 */
#ifndef RINGTLS_OP_H
#define RINGTLS_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "seal.h"

struct ringtls__waiter;

enum ringtls__op_kind {
	/* Transmit: answer the bytes taken. Run by an engine. */
	RINGTLS__OP_SEND,     /* iov */
	RINGTLS__OP_RECORD,   /* iov, as records of record_type, on a kTLS socket */
	RINGTLS__OP_SENDFILE, /* len bytes of file from offset */
	/* Answers the bytes read, 0 at the file's end. Run by an engine. */
	RINGTLS__OP_READ, /* of file from offset, into iov */
	/* Waits: answer 0. Become waits of the connection (engine.h). */
	RINGTLS__OP_POLL,  /* until one of events */
	RINGTLS__OP_TIMER, /* for ms */
	/* Control: answer 0. They never wait, so control.c runs them at once. */
	RINGTLS__OP_ULP,    /* TCP_ULP "tls" */
	RINGTLS__OP_KEY,    /* TLS_TX with key; fills tcp_bytes, and records for a rekey */
	RINGTLS__OP_OUTPUT, /* fills tcp_bytes and records */
};

#define RINGTLS__OP_IOV 16

/* The most that one op moves. Sealing runs inside the op, so it is bounded. */
#define RINGTLS__OP_BYTES (16 * RINGTLS__RECORD_MAX)

/* What sendfile(2) is asked for at once, and so what of a file is looked at before. */
#define RINGTLS__RANGE_MAX ((size_t)4 * RINGTLS__OP_BYTES)

/* Up to here a file is read and sent even in the kernel lane: the questions that come before
 * sendfile(2) cost more than a copy of a record (doc/performance.md). */
#define RINGTLS__READ_MAX ((size_t)RINGTLS__RECORD_MAX)

/* What is in a ring and waits for a socket there, a part of an op or of a wait;
 * engine_uring.c. */
struct ringtls__flight {
	struct ringtls__flight *next, **at;
	bool is_op;
	bool is_cancelled; /* it was asked to end */
};

struct ringtls__op {
	/* The request. */
	enum ringtls__op_kind kind;
	int fd;
	bool nowait; /* -EAGAIN is an answer; else the engine waits for a first byte */
	bool plain;  /* no kTLS on the socket: an op that waits may ask for all bytes at once,
		      * which a kTLS socket refuses (MSG_WAITALL: EOPNOTSUPP) */
	bool more;   /* plain: what comes next belongs to it, and should leave with it */
	bool many;   /* the kernel makes several records of it, that should leave together */
	bool is_corked; /* for that, until it is done: the engine's */
	bool rekey;  /* KEY: not the first */
	uint8_t record_type;
	short events;
	unsigned ms;
	unsigned iovcnt;
	struct iovec iov[RINGTLS__OP_IOV];
	int file;
	off_t offset;
	size_t len; /* bytes in all */
	const struct ringtls__key *key; /* KEY */
	const struct tls_crypto_info *has; /* OUTPUT, rekey: what the kernel's key is of */

	/* The answer. */
	bool done;
	ssize_t res;        /* 0 or more, or a negated errno */
	uint64_t tcp_bytes; /* ever given to TCP: acknowledged, and in its queue */
	uint32_t queued;    /* of those, in its queue */
	uint64_t records;   /* the kernel's number for the next record */

	/* The engine's, while the op runs. */
	struct ringtls__waiter *waiter; /* who is told of its end; NULL: who runs it looks */
	struct ringtls__flight flight;
	struct msghdr msg;
	_Alignas(struct cmsghdr) unsigned char cmsg[CMSG_SPACE(sizeof(uint8_t))];
};

static inline bool ringtls__op_transmits(const struct ringtls__op *op)
{
	return op->kind <= RINGTLS__OP_SENDFILE;
}

/* Fills msg (and its control message) for SEND and RECORD. */
void ringtls__op_msg(struct ringtls__op *op);

struct ringtls__sys;

/*
 * Attaches the kernel's TLS without a key: bytes still pass as they are. The kernel
 * refuses it once the peer has half-closed, and a client may do so right behind its
 * Finished, which can come before we have sent the key that goes with our own. So
 * it is tried when the connection is new; the op tries again, and its answer counts.
 */
int ringtls__attach_ulp(int fd, const struct ringtls__sys *sys);

/*
 * The kernel hands TCP each record as it is sealed, and with TCP_NODELAY each leaves as a
 * segment of its own. Corked, they share segments (kmod-notes/segments.md). True if it was
 * this that corked it, and so has to uncork; a caller's own cork is left alone.
 */
bool ringtls__cork(int fd, const struct ringtls__sys *sys);
void ringtls__uncork(int fd, const struct ringtls__sys *sys);

/*
 * What the kernel says of a key that it was given by somebody else: its version and
 * cipher in ret_info, and in op what RINGTLS__OP_OUTPUT fills. 0 or a negated errno.
 */
int ringtls__control_adopt(struct ringtls__op *op, struct tls_crypto_info *ret_info,
			   const struct ringtls__sys *sys);

/* Runs a control op and fills its answer. */
void ringtls__control_run(struct ringtls__op *op, const struct ringtls__sys *sys);

#endif
