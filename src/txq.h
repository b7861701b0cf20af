/*
 * txq.h - the ordered transmit queue of a connection.
 *
 *   kind    bytes                              made by
 *   DATA    application bytes, borrowed or     the calls; OpenSSL (copied)
 *           copied, not sealed
 *   FILE    a range of a file, not sealed      ringtls_sendfile
 *   RECORD  a record of another type, copied   OpenSSL, through our BIO
 *   WIRE    OpenSSL's own records, copied      OpenSSL, through our BIO
 *   KEYS    the key of the next epoch          OpenSSL, through our BIO
 *   CLOSE   none: drain, nothing comes after   ringtls_shutdown
 *
 * Items that the queue owns live in pool memory, with their bytes behind them; a
 * borrowed one belongs to its maker, who takes it out again (ringtls__txq_withdraw)
 * before it goes.
 */
#ifndef RINGTLS_TXQ_H
#define RINGTLS_TXQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include "pool.h"
#include "seal.h"

enum ringtls__item_kind {
	RINGTLS__ITEM_DATA,
	RINGTLS__ITEM_FILE,
	RINGTLS__ITEM_RECORD,
	RINGTLS__ITEM_WIRE,
	RINGTLS__ITEM_KEYS,
	RINGTLS__ITEM_CLOSE,
};

struct ringtls__item {
	struct ringtls__item *next;
	enum ringtls__item_kind kind;
	bool owned;           /* pool memory; freed when it is done */
	uint8_t record_type;  /* RECORD */
	int file;             /* FILE */
	off_t offset;         /* FILE: of its first byte, whatever done is */
	size_t len;           /* bytes it stands for; 0 for KEYS and CLOSE */
	size_t done;          /* of those, how many the lane has taken */
	const uint8_t *bytes; /* DATA, RECORD, WIRE: the first, whatever done is */
	const struct iovec *iov; /* borrowed DATA in pieces: the first that is not done */
	size_t iov_done;         /* of that one's bytes */
	size_t room;             /* owned: for bytes */
};

struct ringtls__txq {
	struct ringtls__item *head;
	struct ringtls__item **tail; /* where the next one is hung */
	unsigned owned;              /* items in pool memory */
	struct ringtls__pool *pool;
};

void ringtls__txq_init(struct ringtls__txq *q, struct ringtls__pool *pool);
void ringtls__txq_fini(struct ringtls__txq *q); /* drops all; erases keys */

/* At the end. The item is borrowed until it is done or withdrawn. */
void ringtls__txq_push(struct ringtls__txq *q, struct ringtls__item *item);

/* Copies len bytes to the end, joining them to a last item of kind WIRE if there
 * is room; expect is how many bytes are likely to follow. 0 or -ENOMEM, which
 * leaves the queue as it was. */
int ringtls__txq_copy(struct ringtls__txq *q, enum ringtls__item_kind kind, uint8_t record_type,
		      const void *bytes, size_t len, size_t expect);
int ringtls__txq_key(struct ringtls__txq *q, const struct ringtls__key *key);
int ringtls__txq_key_first(struct ringtls__txq *q, const struct ringtls__key *key); /* before all */
int ringtls__txq_close(struct ringtls__txq *q);

/*
 * Moves all of from into q. Records and keys go before application bytes that
 * are not sealed yet: those wait at a record boundary (RFC 8446 4.6.3 allows no
 * application data between a KeyUpdate that was asked for and its answer).
 */
void ringtls__txq_take(struct ringtls__txq *q, struct ringtls__txq *from);

/* The head is done: takes it out, and frees it if it is owned. */
void ringtls__txq_pop(struct ringtls__txq *q);

/* Takes a borrowed item out, wherever it is; one that is done is out already. */
void ringtls__txq_withdraw(struct ringtls__txq *q, struct ringtls__item *item);

/* The bytes of the head and of those behind it that are of its kind: fills up to
 * max iovecs with up to limit bytes. Returns the bytes, *ret_count the iovecs.
 * Pieces without bytes are left out. */
size_t ringtls__txq_gather(const struct ringtls__txq *q, struct iovec *iov, unsigned max,
			   size_t limit, unsigned *ret_count);

/* n of the bytes that gather found are taken. */
void ringtls__txq_advance(struct ringtls__txq *q, size_t n);

/* A key is waiting to be put to use; and one whose KeyUpdate has not left. */
bool ringtls__txq_has_key(const struct ringtls__txq *q);
bool ringtls__txq_has_update(const struct ringtls__txq *q);

const struct ringtls__key *ringtls__item_key(const struct ringtls__item *item);

#endif
