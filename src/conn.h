/* conn.h - the state machine of a connection's transmit side. See conn.c. */
#ifndef RINGTLS_CONN_H
#define RINGTLS_CONN_H

#include <stdio.h>
#include "tx.h"

struct ringtls__lane;

void ringtls__tx_init(struct ringtls__tx *tx, int fd, struct ringtls__pool *pool);

/* Before anything is queued: the kernel has a key already, of that version and cipher, and
 * what it says of it is in op. */
void ringtls__tx_adopt(struct ringtls__tx *tx, const struct tls_crypto_info *info,
		       const struct ringtls__op *op);

/* Drops what was not sent, erases keys. No op is in flight. */
void ringtls__tx_fini(struct ringtls__tx *tx);

/*
 * What to do next. 1: op is filled and must be run, then handed to
 * ringtls__tx_complete. 0: nothing is left to do. Negative: tx->error, for good.
 */
int ringtls__tx_next(struct ringtls__tx *tx, struct ringtls__op *op);

/* The lane that its state is in; NULL: none any more. */
const struct ringtls__lane *ringtls__tx_lane(const struct ringtls__tx *tx);

/* Takes the answer of that op. */
void ringtls__tx_complete(struct ringtls__tx *tx, const struct ringtls__op *op);

/* How many records a TLS 1.3 key may seal; the machine counts for the lanes with a
 * key, the openssl lane's are counted by its writer. 0: no limit. */
uint64_t ringtls__record_limit(uint16_t cipher_type, uint64_t max_records);

/*
 * In the user lane, with keeps_key set before the first key, nothing sealed and unsent and no
 * key in the queue: the kernel is asked to go on with the sealer's key, from its next record.
 * What it refuses goes on in the user lane. 0, or -ENOMEM and nothing was done; either way
 * there is no second time.
 */
int ringtls__tx_promote(struct ringtls__tx *tx);
bool ringtls__tx_may_promote(const struct ringtls__tx *tx);

/* It will not be promoted: the key that was kept for that is erased. */
void ringtls__tx_stay(struct ringtls__tx *tx);

/* Fails the transmit side, if it has not failed already. */
void ringtls__tx_fail(struct ringtls__tx *tx, int error);

/* What ended the FILE that was just over early; told once. 0: nothing did. */
int ringtls__tx_file_error(struct ringtls__tx *tx);

/* Nothing is queued, and nothing that was sealed is unsent. */
bool ringtls__tx_is_idle(const struct ringtls__tx *tx);

/* Records made in the user and kernel lanes until now; in the kernel lane the
 * count is as fresh as the last op that asked for it. */
uint64_t ringtls__tx_records(const struct ringtls__tx *tx, uint64_t kernel_next);

/* The machine as a Graphviz graph, from its table. */
void ringtls__tx_print_graph(FILE *to);

#endif
