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

#define SCRIPT_OPS 16

struct script {
	uint32_t seed;
	bool is_client, is_small, is_moving, is_explicit; /* the last: shakes hands by itself */
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

/* can_update: there may be KeyUpdates. */
void script_make(struct script *s, uint32_t seed, bool can_update);
void script_print(const struct script *s);

/* Opens the pair, runs, closes; asserts what must be true of any run. */
void script_run(const struct script *s, const struct pair_opts *o, struct script_run *r);
void script_free(struct script_run *r);

#endif
