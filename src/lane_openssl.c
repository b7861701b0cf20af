/*
 * lane_openssl.c - OpenSSL sealed the records and our BIO gathered them: they go
 * out as they are, many in one op. Handshakes of every lane begin here.
 */
#include "config.h"
#include "lane.h"

#include <ringtls/ringtls.h>

/*
 * In TLS 1.2 the key comes in the middle of our last flight, before Finished. A peer that
 * takes offence at what goes before answers with an alert and closes, and the rest,
 * sent a moment later, would meet a reset that throws the alert away. So TCP holds the
 * first part back until the second comes: it is in the queue, and is sent in any case.
 */
static bool is_split_by_a_key(const struct ringtls__txq *q)
{
	const struct ringtls__item *item = q->head;

	while (item && item->kind == RINGTLS__ITEM_WIRE)
		item = item->next;
	return item && item->kind == RINGTLS__ITEM_KEYS && item->next &&
	       item->next->kind == RINGTLS__ITEM_RECORD;
}

static int next(struct ringtls__tx *tx, struct ringtls__op *op)
{
	if (!tx->q.head)
		return 0;
	/* Invariant 1: plaintext is never handed to a socket without a key. */
	if (tx->q.head->kind != RINGTLS__ITEM_WIRE)
		return RINGTLS_E_STATE;
	op->kind = RINGTLS__OP_SEND;
	op->plain = true;
	op->more = is_split_by_a_key(&tx->q);
	op->len = ringtls__txq_gather(&tx->q, op->iov, RINGTLS__OP_IOV, RINGTLS__POOL_MAX,
				      &op->iovcnt);
	return 1;
}

static void took(struct ringtls__tx *tx, const struct ringtls__op *op, size_t n)
{
	(void)op;
	ringtls__txq_advance(&tx->q, n);
	if (!tx->q.head || tx->q.head->kind != RINGTLS__ITEM_WIRE) {
		tx->app_bytes += tx->app_held;
		tx->app_held = 0;
	}
}

const struct ringtls__lane ringtls__lane_openssl = { RINGTLS_LANE_OPENSSL, next, took };
