/*
 * lane_user.c - we seal: as many records as an op may carry, in one pass from the
 * caller's bytes into a send buffer, which one op then sends.
 */
#include "config.h"
#include "lane.h"

#include <errno.h>
#include <ringtls/ringtls.h>

static bool is_used_up(const struct ringtls__tx *tx)
{
	return tx->record_limit &&
	       ringtls__sealer_seq(tx->sealer) - tx->first_sealed >= tx->record_limit;
}

/* What the next record holds: application bytes of several items share one, a record
 * of another type is a message of its own. */
static size_t next_record(const struct ringtls__tx *tx, struct iovec *iov, unsigned *ret_count)
{
	const struct ringtls__item *item = tx->q.head;

	if (item->kind == RINGTLS__ITEM_DATA)
		return ringtls__txq_gather(&tx->q, iov, RINGTLS__OP_IOV, RINGTLS__RECORD_MAX,
					   ret_count);
	iov->iov_base = (void *)(uintptr_t)(item->bytes + item->done);
	iov->iov_len = item->len - item->done;
	if (iov->iov_len > RINGTLS__RECORD_MAX)
		iov->iov_len = RINGTLS__RECORD_MAX;
	*ret_count = 1;
	return iov->iov_len;
}

/* Seals one record from the head. 1, 0 when the buffer is full, or an error. */
static int seal_one(struct ringtls__tx *tx, size_t room)
{
	struct ringtls__item *item = tx->q.head;
	bool data = item->kind == RINGTLS__ITEM_DATA;
	struct iovec iov[RINGTLS__OP_IOV];
	unsigned count;
	size_t len;
	ssize_t n;

	/* FILE is read before it is sealed (write.c, feed.c), WIRE is sealed already. */
	if (!data && item->kind != RINGTLS__ITEM_RECORD)
		return RINGTLS_E_STATE;
	if (data && is_used_up(tx)) {
		tx->rekey_due = true;
		return 0;
	}
	len = next_record(tx, iov, &count);
	if (tx->out.end + len + ringtls__sealer_overhead(tx->sealer) > room)
		return 0;
	n = ringtls__sealv(tx->sealer, data ? RINGTLS__RECORD_DATA : item->record_type, iov, count,
			   tx->out.bytes + tx->out.end);
	if (n < 0)
		return (int)n;
	tx->out.end += (size_t)n;
	if (data)
		tx->app_held += len;
	ringtls__txq_advance(&tx->q, len);
	return 1;
}

static bool sealable(const struct ringtls__item *item)
{
	return item && item->kind != RINGTLS__ITEM_KEYS && item->kind != RINGTLS__ITEM_CLOSE;
}

static int fill(struct ringtls__tx *tx)
{
	size_t overhead = ringtls__sealer_overhead(tx->sealer), want = 0, room;
	int r = 1;

	/* Items that share a record need no more than if they did not. */
	for (const struct ringtls__item *i = tx->q.head; sealable(i) && want < RINGTLS__POOL_MAX;
	     i = i->next) {
		size_t left = i->len - i->done;

		want += left + (left / RINGTLS__RECORD_MAX + 2) * overhead;
	}
	tx->out.bytes = ringtls__pool_get(
		tx->q.pool, want < RINGTLS__POOL_MAX ? want : RINGTLS__POOL_MAX, &room);
	if (!tx->out.bytes)
		return -ENOMEM;
	tx->out.start = tx->out.end = 0;
	while (r == 1 && sealable(tx->q.head))
		r = seal_one(tx, room);
	return r < 0 ? r : 1;
}

/* An idle connection holds no buffer. */
static void drop(struct ringtls__tx *tx)
{
	ringtls__pool_put(tx->q.pool, tx->out.bytes);
	tx->out.bytes = NULL;
}

static int next(struct ringtls__tx *tx, struct ringtls__op *op)
{
	int r;

	if (!tx->out.bytes) {
		if (!sealable(tx->q.head))
			return 0;
		r = fill(tx);
		if (r < 0)
			return r;
		if (!tx->out.end) { /* nothing may be sealed with this key any more */
			drop(tx);
			return 0;
		}
	}
	op->kind = RINGTLS__OP_SEND;
	op->plain = true;
	op->iov[0].iov_base = tx->out.bytes + tx->out.start;
	op->iov[0].iov_len = op->len = tx->out.end - tx->out.start;
	op->iovcnt = 1;
	return 1;
}

static void took(struct ringtls__tx *tx, const struct ringtls__op *op, size_t n)
{
	(void)op;
	tx->out.start += n;
	if (tx->out.start < tx->out.end)
		return;
	drop(tx);
	tx->app_bytes += tx->app_held;
	tx->app_held = 0;
}

const struct ringtls__lane ringtls__lane_user = { RINGTLS_LANE_USER, next, took };
