/*
 * uring.h - setting up a ring: asks for the best flags and goes down a ladder on
 * EINVAL, and says why when there is none. Used by engine_uring.c and by
 * ringtls-probe.
 */
#ifndef RINGTLS_URING_H
#define RINGTLS_URING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <liburing.h>
#include "sys.h"

struct ringtls__uring_caps {
	int error;            /* 0, or the negated errno of the attempt that counts */
	uint32_t reason;      /* enum ringtls_reason: NONE, or URING_* */
	unsigned setup_flags; /* IORING_SETUP_* that the kernel took */
	unsigned features;    /* IORING_FEAT_* */
	const char *missing;  /* name of the first opcode that is not there, or NULL */
	bool send_zc;         /* the opcode is there; a kTLS socket refuses it all the same */
	bool socket_cmd;      /* setsockopt by IORING_OP_URING_CMD */
};

/*
 * Opens a ring for the calling thread, at least SINGLE_ISSUER and DEFER_TASKRUN
 * where the kernel knows them, checks the opcodes that the engine needs
 * (ringtls__uring_ops), and runs an operation through it. 0 or a negated errno;
 * on failure *ret_ring is closed. ret_caps is filled either way.
 * More entries than the kernel allows become what it allows.
 */
int ringtls__uring_open(struct io_uring *ret_ring, unsigned entries,
			struct ringtls__uring_caps *ret_caps, const struct ringtls__sys *sys);

/* The reason for a negated errno of the set-up. */
uint32_t ringtls__uring_reason(int error);

/* The opcodes that the engine needs. */
struct ringtls__uring_op {
	uint8_t opcode;
	const char *name; /* "SEND" */
};

#define RINGTLS__URING_OPS 5
extern const struct ringtls__uring_op ringtls__uring_ops[RINGTLS__URING_OPS];

/* The name of the first of them that the probe lacks, or NULL. */
const char *ringtls__uring_missing(const struct io_uring_probe *probe);

#endif
