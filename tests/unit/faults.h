/*
 * faults.h - every operation of the library that can fail, made to fail once: the calls
 * of its table, the ring's entries, what its ring and its epoll are asked for, and each
 * allocation. For programs linked with $(FAULTS).
 *
 * What fails does not happen: a send that fails has sent nothing, an entry of the ring
 * that fails is a no-op in its place, and the answer is put in when that has ended.
 * Only what the library does while faults_on is counted, or fails.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include "sys.h"

enum fault_kind {
	/* The table. */
	FAULT_SENDMSG,
	FAULT_RECORD, /* sendmsg with a control message: the kernel takes it whole, or not */
	FAULT_SENDFILE,
	FAULT_RECV,
	FAULT_PREAD,
	FAULT_PREAD_CACHED,
	FAULT_ULP,
	FAULT_KEY, /* TLS_TX */
	FAULT_SETSOCKOPT,
	FAULT_GETSOCKOPT,
	FAULT_OUTQ,
	FAULT_GETFL,
	FAULT_URING_INIT,
	/* What the ring answers to an entry. */
	FAULT_RING_SEND,
	FAULT_RING_RECORD,
	FAULT_RING_READ,
	FAULT_RING_WAIT,
	/* The ring and epoll themselves. */
	FAULT_ENTER,
	FAULT_REGISTER,
	FAULT_EPOLL_CREATE,
	FAULT_EPOLL_CTL,
	FAULT_EPOLL_WAIT,
	FAULT_DESCRIPTOR, /* timerfd_create, eventfd, socket */
	/* Memory: ours, and what OpenSSL needs in calls of ours. */
	FAULT_MALLOC,
	FAULT_OPENSSL_MALLOC,
	FAULT_KINDS,
};

enum fault_how {
	FAULT_ERROR,
	FAULT_LATE, /* the error, some ms later; of a wait: its end */
	FAULT_HALF, /* half of what was asked for */
	FAULT_ONE,  /* a byte of it */
	FAULT_END,  /* the stream's, or the file's */
	FAULT_SOON, /* a wait ends, though nothing happened */
};

struct fault {
	enum fault_kind kind;
	enum fault_how how;
	int error; /* an errno, or 0 */
	bool is_like_another; /* for the library: one that takes the same way through it */
};

extern const struct fault faults[];
extern const size_t faults_count;

/* "send on the ring: ECONNRESET", in static storage. */
const char *fault_text(const struct fault *f);

/* Before anything else: OpenSSL's memory is had from here. */
void faults_init(void);

/* The nth operation of its kind from now on fails, and no other. NULL: none does. */
void faults_arm(const struct fault *f, unsigned nth);
bool faults_hit(void); /* it has failed */

/* Each second question whether a file is in memory is answered with no. */
extern bool faults_cold;

/* Of this thread, from now on; it is off at first. Answers how it was. */
bool faults_on(bool on);

/* Operations since faults_arm. */
extern unsigned faults_seen[FAULT_KINDS];

/* Blocks of memory that the library, and the test, have now. */
long faults_blocks(void);

/* Keys with which a record number was sealed twice, since faults_arm. */
extern unsigned faults_nonces_twice;

/* Real calls, or those of fake_ktls.h, with the faults before them. */
extern const struct ringtls__sys faults_sys;
extern const struct ringtls__sys *faults_base;

#endif
