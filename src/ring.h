/*
 * ring.h - how an op or a wait becomes an entry of a ring, and what a result of
 * the ring means: what the backend on a ring of ours and the one on the caller's
 * share.
 */
#ifndef RINGTLS_RING_H
#define RINGTLS_RING_H

#include <liburing.h>
#include "engine.h"

/* Fill everything but user_data. Not for SENDFILE: a ring has no such op. */
void ringtls__ring_prep_op(struct io_uring_sqe *sqe, struct ringtls__op *op);
void ringtls__ring_prep_wait(struct io_uring_sqe *sqe, struct ringtls__wait *wait);

/* A result as 0 or more, or a negated errno that the rest of us knows. */
int ringtls__ring_result(int res);

/* Runs an op by a plain system call that does not wait. _try: and what it answers is not told
 * yet. */
ssize_t ringtls__ring_try(struct ringtls_engine *e, struct ringtls__op *op);
void ringtls__ring_call(struct ringtls_engine *e, struct ringtls__op *op);

#endif
