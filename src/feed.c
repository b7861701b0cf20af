/*
 * feed.c - what the machine takes next of the requests that are queued.
 *
 * Where the key is ours: the caller's bytes and, in the kernel lane, ranges of files that
 * are in memory; elsewhere a file is read first, a piece at a time: what is not in memory by an
 * op of its own, so that a cold one does not hold up the others. Where OpenSSL has the key, it
 * is given a piece when all before it is sent. Nothing is fed behind a file before that has
 * ended, since it may turn out shorter than was thought.
 */
#include "config.h"
#include "request.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#define PIECE RINGTLS__OP_BYTES

#define STOP 1 /* the machine has something to do first */

/* ---- Buffers ----------------------------------------------------------- */

void ringtls__requests_drop_piece(struct ringtls_conn *c)
{
	ringtls__pool_put(&c->engine->pool, c->requests.piece);
	c->requests.piece = NULL;
}

void ringtls__request_pass(struct ringtls_conn *c, const struct ringtls__request *r)
{
	struct ringtls__requests *q = &c->requests;

	if (q->next != r)
		return;
	q->next = r->next;
	if (!q->read) /* what it read may still need it: see ringtls__await_dropped_read */
		ringtls__requests_drop_piece(c);
}

/* What is there may be of the other user's size. */
static bool have_piece(struct ringtls_conn *c, size_t want)
{
	struct ringtls__requests *q = &c->requests;
	size_t room;

	if (q->piece && q->room < want)
		ringtls__requests_drop_piece(c);
	if (!q->piece) {
		q->piece = ringtls__pool_get(&c->engine->pool, want, &room);
		q->room = q->piece ? (uint32_t)room : 0;
	}
	return q->piece;
}

/* What it read has been looked at, or is not wanted. */
static void put_read(struct ringtls_conn *c)
{
	c->waiter.op_over = c->tx.in_flight && c->op->done;
	ringtls__pool_put(&c->engine->pool, c->requests.read);
	c->requests.read = NULL;
}

void ringtls__requests_drop_read(struct ringtls_conn *c)
{
	const struct ringtls__requests *q = &c->requests;

	if (!q->read || !q->is_read_dropped || !q->read->done)
		return;
	put_read(c);
	ringtls__requests_drop_piece(c);
}

/* The kernel writes to the piece until it ends. */
int ringtls__await_dropped_read(struct ringtls_conn *c)
{
	const struct ringtls__requests *q = &c->requests;
	int res = !q->read || !q->is_read_dropped || q->read->done ? 0 : ringtls__await(c, q->read);

	if (res == 0)
		ringtls__requests_drop_read(c);
	return res;
}

int ringtls__requests_end_read(struct ringtls_conn *c)
{
	struct ringtls__op *op = c->requests.read;
	int r;

	if (!op)
		return 0;
	r = ringtls__engine_end(c->engine, op);
	if (r < 0)
		return r;
	ringtls__pool_put(&c->engine->pool, op);
	c->requests.read = NULL;
	return 0;
}

/* ---- Where the key is ours --------------------------------------------- */

static int push_item(struct ringtls_conn *c, struct ringtls__request *r, size_t len)
{
	r->item.owned = false;
	r->item.len = r->given = len;
	r->item.done = 0;
	r->fed += len;
	if (len)
		ringtls__txq_push(&c->tx.q, &r->item);
	return 0;
}

static int feed_bytes(struct ringtls_conn *c, struct ringtls__request *r)
{
	r->item.kind = RINGTLS__ITEM_DATA;
	r->item.iov = r->iovs;
	push_item(c, r, r->len);
	ringtls__request_pass(c, r);
	return 0;
}

static int feed_range(struct ringtls_conn *c, struct ringtls__request *r, size_t len)
{
	r->item.kind = RINGTLS__ITEM_FILE;
	r->item.bytes = NULL; /* of a piece that was read before */
	r->item.file = r->file;
	r->item.offset = r->offset + (off_t)r->fed;
	push_item(c, r, len);
	return STOP;
}

static bool may_send_range(struct ringtls_conn *c, const struct ringtls__request *r, size_t len)
{
	return len > RINGTLS__READ_MAX && ringtls__may_sendfile(c) > 0 &&
	       !ringtls__is_cold(c, r->file, r->offset + (off_t)r->fed, len);
}

/* ---- Pieces of files --------------------------------------------------- */

int ringtls__start_read(struct ringtls_conn *c, bool is_dropped, int file, off_t offset,
			size_t want)
{
	struct ringtls__requests *q = &c->requests;
	size_t room;

	if (!have_piece(c, want))
		return -ENOMEM;
	q->read = ringtls__pool_get(&c->engine->pool, sizeof(*q->read), &room);
	if (!q->read)
		return -ENOMEM;
	memset(q->read, 0, sizeof(*q->read));
	q->read->kind = RINGTLS__OP_READ;
	q->read->file = file;
	q->read->offset = offset;
	q->read->iov[0] = (struct iovec){ q->piece, want };
	q->read->iovcnt = 1;
	q->read->len = q->read->iov[0].iov_len;
	q->is_read_dropped = is_dropped;
	ringtls__engine_start(c->engine, &c->waiter, q->read);
	return 0;
}

/* What is in memory costs less to read at once than by an op. */
static ssize_t read_cached(struct ringtls_conn *c, int file, off_t offset, size_t want)
{
	if (!c->engine->backend->reads_behind)
		return -EOPNOTSUPP;
	if (!have_piece(c, want))
		return -ENOMEM;
	return c->engine->sys->pread_cached(file, c->requests.piece, want, offset);
}

/* The bytes read, 0 at the file's end, -EAGAIN while it reads, -ENOMEM, or with *ret_mine
 * an error of the file. */
static ssize_t read_piece(struct ringtls_conn *c, struct ringtls__request *r, bool *ret_mine)
{
	struct ringtls__requests *q = &c->requests;
	size_t want = r->len - r->fed < PIECE ? r->len - r->fed : PIECE;
	off_t at = r->offset + (off_t)r->fed;
	ssize_t res;

	assert(!q->read || !q->is_read_dropped); /* ringtls__feed awaits such a one */
	res = q->read ? -EAGAIN : read_cached(c, r->file, at, want);
	*ret_mine = res >= 0;
	if (res >= 0)
		return res;
	res = q->read ? 0 : ringtls__start_read(c, false, r->file, at, want);
	if (res < 0)
		return res;
	if (!q->read->done) {
		res = ringtls__await(c, q->read);
		if (res < 0)
			return res;
	}
	res = q->read->res;
	put_read(c);
	*ret_mine = true;
	return res;
}

/* 1: there is a piece of *ret_len bytes; 0: the request has ended; else as feed. */
static int next_piece(struct ringtls_conn *c, struct ringtls__request *r, size_t *ret_len)
{
	bool mine;
	ssize_t n = r->fed < r->len ? read_piece(c, r, &mine) : 0;

	if (n > 0) {
		*ret_len = (size_t)n;
		return 1;
	}
	if (n < 0 && !mine)
		return (int)n;
	if (n < 0) {
		ringtls__request_cut(c, r, (int)n);
		ringtls__requests_cut_behind(c, r);
	}
	r->len = r->fed;
	r->item.bytes = NULL;
	ringtls__request_pass(c, r);
	return 0;
}

static int feed_piece(struct ringtls_conn *c, struct ringtls__request *r)
{
	size_t len;
	int res;

	res = next_piece(c, r, &len);
	if (res <= 0)
		return res;
	r->item.kind = RINGTLS__ITEM_DATA;
	r->item.bytes = c->requests.piece;
	push_item(c, r, len);
	return STOP;
}

static int feed_ours(struct ringtls_conn *c, struct ringtls__request *r)
{
	size_t len = r->len - r->fed < RINGTLS__RANGE_MAX ? r->len - r->fed : RINGTLS__RANGE_MAX;

	if (r->file < 0)
		return feed_bytes(c, r);
	if (ringtls__request_taken(r) < r->fed)
		return STOP;
	if (len && !c->requests.read && may_send_range(c, r, len))
		return feed_range(c, r, len);
	return feed_piece(c, r);
}

/* ---- OpenSSL ----------------------------------------------------------- */

/* As choose, for memory. */
static int choose_bytes(struct ringtls_conn *c, struct ringtls__request *r)
{
	struct ringtls__requests *q = &c->requests;
	size_t left = r->len - r->fed;
	struct ringtls__piece p;

	if (!left) {
		ringtls__request_pass(c, r);
		return 0;
	}
	if (ringtls__is_small(r->at, left) && !have_piece(c, RINGTLS__RECORD_MAX))
		return -ENOMEM;
	p = ringtls__next_bytes(r->at, left, q->piece);
	q->give = p.bytes;
	q->give_len = (uint32_t)(p.len < PIECE ? p.len : PIECE);
	return 1;
}

static void gave_bytes(struct ringtls__request *r, size_t n)
{
	r->fed += n;
	if (r->file < 0)
		r->at = ringtls__find(r->at.iov, r->at.skip + n);
}

/* 1: there is something to give; else as feed. */
static int choose(struct ringtls_conn *c, struct ringtls__request *r)
{
	struct ringtls__requests *q = &c->requests;
	size_t limit, len = 0;
	int res;

	if (r->file < 0) {
		res = choose_bytes(c, r);
	} else {
		res = next_piece(c, r, &len);
		q->give = q->piece;
		q->give_len = (uint32_t)len;
	}
	if (res != 1)
		return res;
	/* A file's piece was read; it is no larger than what a key may seal at least. */
	limit = ringtls__until_limit(c);
	if (r->file < 0 && q->give_len > limit)
		q->give_len = (uint32_t)limit;
	q->given = r;
	return 1;
}

/* It goes on when the peer has done something, or the caller: no machine of ours can help. */
static int wait_outside(struct ringtls_conn *c, int want)
{
	c->requests.given_want = (uint8_t)want;
	return want == SSL_ERROR_WANT_READ ? ringtls__pause_for(c, POLLIN, 0) : -EAGAIN;
}

/* A refusal whose cause ends in here: there is something to send first; or OpenSSL failed, and so
 * will what is queued; or it has more than one record in its own buffer (no SSL_MODE_AUTO_RETRY). */
static bool is_ours(const struct ringtls_conn *c, int want)
{
	return c->is_dead || !ringtls__tx_is_idle(&c->tx) ||
	       (want == SSL_ERROR_WANT_READ && !c->bios.is_starved && !c->bios.own);
}

/* STOP: go on; -EAGAIN: it waits for the peer, or for the caller. */
static int give(struct ringtls_conn *c, struct ringtls__request *r)
{
	struct ringtls__requests *q = &c->requests;
	struct ringtls__piece piece = { .bytes = q->give, .len = q->give_len };
	int before = c->error, n, error;

	/* A job that another call has left is in the middle of something, a handshake maybe. */
	if (SSL_waiting_for_async(c->ssl))
		return wait_outside(c, SSL_ERROR_WANT_ASYNC);
	n = ringtls__call_openssl(c, ringtls__do_write, &piece);
	error = c->error;
	c->error = before; /* the running call answers for itself */
	if (n > 0) {
		gave_bytes(r, (size_t)n);
		q->give += n;
		q->give_len -= (uint32_t)n;
		if (!q->give_len)
			q->given = NULL;
		return STOP;
	}
	return is_ours(c, error) ? STOP : wait_outside(c, error);
}

/* Only when all before it is sent: so the records of one piece are what waits at most. */
static int feed_openssl(struct ringtls_conn *c, struct ringtls__request *r)
{
	int res = 1;

	if (!ringtls__tx_is_idle(&c->tx))
		return STOP;
	if (!c->requests.given)
		res = choose(c, r);
	return res == 1 ? give(c, c->requests.given) : res;
}

/* ---- Feeding ----------------------------------------------------------- */

static bool may_feed(const struct ringtls_conn *c)
{
	return c->is_settled && c->closing == OPEN && !c->call.chunk && !c->bios.ending &&
	       c->tx.state != RINGTLS__TX_CLOSED && c->tx.state != RINGTLS__TX_FAILED;
}

bool ringtls__has_more(const struct ringtls_conn *c)
{
	return c->requests.next && may_feed(c);
}

int ringtls__feed(struct ringtls_conn *c)
{
	struct ringtls__request *r;
	int res = 0;

	c->requests.given_want = SSL_ERROR_NONE;
	/* An update that has not left is an answer to all that came before it. */
	if (may_feed(c) && !c->is_dead && !ringtls__txq_has_update(&c->tx.q))
		ringtls__answer_now(c);
	while (res == 0 && ringtls__has_more(c)) {
		if (c->is_dead) { /* the alert that OpenSSL wrote goes out all the same */
			ringtls__requests_fail(c, RINGTLS_E_TLS);
			break;
		}
		r = c->requests.next;
		res = ringtls__await_dropped_read(c);
		if (res < 0)
			break;
		if (r->error && r != c->requests.given) {
			ringtls__request_cut(c, r, r->error);
			ringtls__request_pass(c, r);
		} else {
			res = c->bios.keyed ? feed_ours(c, r) : feed_openssl(c, r);
		}
	}
	if (c->requests.head)
		ringtls__account(c);
	return res == STOP ? 0 : res;
}
