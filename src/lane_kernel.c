/*
 * lane_kernel.c - the kernel seals: application bytes and file ranges go to the
 * socket as they are, records of another type with a control message.
 */
#include "config.h"
#include "lane.h"

#include <ringtls/ringtls.h>

/*
 * The kernel may close a record early, and only it knows how many it made. So each
 * op is taken for the most records it can become; near the limit the kernel is
 * asked, and sends are cut to what is one record for certain.
 */
static uint64_t most_records(const struct ringtls__op *op)
{
	if (op->kind == RINGTLS__OP_SENDFILE)
		return op->len / 4096 + 2;
	return op->len / RINGTLS__RECORD_MAX + 1 + op->iovcnt;
}

/* 1: the op may run; 0: not before the key is renewed; LIMIT: count first. */
static int mind_limit(struct ringtls__tx *tx, struct ringtls__op *op)
{
	uint64_t left = tx->records_bound < tx->record_limit ?
				tx->record_limit - tx->records_bound :
				0;

	if (!tx->record_limit || most_records(op) <= left) {
		tx->records_bound += most_records(op);
		tx->is_counted = false;
		return 1;
	}
	if (!tx->is_counted)
		return RINGTLS__LANE_COUNT;
	if (!left) {
		tx->rekey_due = true;
		return 0;
	}
	if (op->len > RINGTLS__RECORD_MAX)
		op->len = RINGTLS__RECORD_MAX;
	if (op->kind == RINGTLS__OP_SEND) {
		op->iovcnt = 1;
		if (op->iov[0].iov_len > op->len)
			op->iov[0].iov_len = op->len;
		op->len = op->iov[0].iov_len;
	}
	tx->records_bound++;
	tx->is_counted = false;
	return 1;
}

static void fill_file(const struct ringtls__item *item, struct ringtls__op *op)
{
	op->kind = RINGTLS__OP_SENDFILE;
	op->file = item->file;
	op->offset = item->offset + (off_t)item->done;
	op->len = item->len - item->done;
	/* One call may fill the socket's buffer; more of it would only be refused. */
	if (op->len > RINGTLS__RANGE_MAX)
		op->len = RINGTLS__RANGE_MAX;
}

static int next_data(struct ringtls__tx *tx, struct ringtls__op *op)
{
	int r;

	if (tx->q.head->kind == RINGTLS__ITEM_FILE) {
		fill_file(tx->q.head, op);
	} else {
		op->kind = RINGTLS__OP_SEND;
		op->len = ringtls__txq_gather(&tx->q, op->iov, RINGTLS__OP_IOV, RINGTLS__OP_BYTES,
					      &op->iovcnt);
	}
	r = mind_limit(tx, op);
	op->many = op->len > RINGTLS__RECORD_MAX;
	return r;
}

static int next(struct ringtls__tx *tx, struct ringtls__op *op)
{
	const struct ringtls__item *item = tx->q.head;

	if (!item)
		return 0;
	op->plain = false;
	if (item->kind == RINGTLS__ITEM_FILE || item->kind == RINGTLS__ITEM_DATA)
		return next_data(tx, op);
	/* A finished record of OpenSSL's here would be sealed a second time. */
	if (item->kind != RINGTLS__ITEM_RECORD)
		return RINGTLS_E_STATE;
	op->kind = RINGTLS__OP_RECORD;
	op->record_type = item->record_type;
	op->iov[0].iov_base = (void *)(uintptr_t)(item->bytes + item->done);
	op->iov[0].iov_len = op->len = item->len - item->done;
	op->iovcnt = 1;
	tx->records_bound++; /* a KeyUpdate must get through, limit or not */
	return 1;
}

static void took_file(struct ringtls__tx *tx, size_t n)
{
	struct ringtls__item *item = tx->q.head;

	item->done += n;
	if (n == 0) /* the file became shorter: what was there is what there is */
		item->len = item->done;
	if (item->done == item->len)
		ringtls__txq_pop(&tx->q);
}

static void took(struct ringtls__tx *tx, const struct ringtls__op *op, size_t n)
{
	tx->plain += n;
	if (op->kind != RINGTLS__OP_RECORD)
		tx->app_bytes += n;
	if (op->kind == RINGTLS__OP_SENDFILE)
		took_file(tx, n);
	else
		ringtls__txq_advance(&tx->q, n);
}

const struct ringtls__lane ringtls__lane_kernel = { RINGTLS_LANE_KERNEL, next, took };
