/*
 * script.h - random scripts for a connection, and how one is run. The same script runs
 * through ringtls and through OpenSSL alone (side.h), against a stock peer that does
 * what the script says; a caller, and the peer, must see the same.
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "pair.h"
#include "side.h"

enum script_kind {
	OP_WRITE,
	OP_WRITE_EX,
	OP_STALL, /* a write before a peer that does not read, and what one may do then */
	OP_FILE,
	OP_QUEUE,   /* requests, where OpenSSL alone writes */
	OP_BUFFERS, /* our send buffer becomes larger or smaller */
	OP_BAD_FILE,
	OP_NEGATIVE,
	OP_UPDATE,
	OP_PEER_UPDATE,
	OP_RENEGOTIATE, /* TLS 1.2, by either side */
	OP_PEER_SAYS,
	OP_READ_NOTHING,
	OP_PARTIAL,    /* SSL_MODE_ENABLE_PARTIAL_WRITE */
	OP_AUTO_RETRY, /* SSL_MODE_AUTO_RETRY */
};

enum script_ending { WE_CLOSE, PEER_CLOSES, PEER_CUTS, PEER_RESETS, NOBODY_CLOSES };

struct script_op {
	enum script_kind kind;
	uint32_t from, len; /* of the pattern, or of the file; others as they like */
	uint32_t how;       /* bits: which way */
};

#define SCRIPT_OPS	  16
#define SCRIPT_PATTERN	  (512 * 1024)
#define SCRIPT_STALL	  300000 /* more than the small buffers, and what is held back, take */
#define SCRIPT_STALL_MORE 5000

struct script {
	uint32_t seed;
	bool is_client, is_small, is_moving, is_explicit; /* the last: shakes hands by itself */
	bool may_renegotiate;
	enum script_ending ending;
	size_t n;
	struct script_op ops[SCRIPT_OPS];
};

/* What there was to see of a run. */
struct script_run {
	struct pair p;
	struct answer answers[SCRIPT_OPS * 6];
	size_t op_of[SCRIPT_OPS * 6]; /* which op it is the answer of */
	size_t n;
	uint8_t *got; /* what our side read */
	size_t got_len;
	char order[2048]; /* the types of the records that the peer was sent */
	size_t order_len;
	size_t sent; /* what the peer must get */
	uint32_t random;
};

void script_setup(void);
uint32_t script_random(uint32_t *x); /* the next, which is never 0 */

/* There may be KeyUpdates, and renegotiations. */
void script_make(struct script *s, uint32_t seed, bool may_update, bool may_renegotiate);
void script_print(const struct script *s);

/* Opens the pair, runs, closes; asserts what must be true of any run. */
void script_run(const struct script *s, const struct pair_opts *o, struct script_run *r);
void script_free(struct script_run *r);

#endif
