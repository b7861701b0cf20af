/*
 * queue.c - requests: writes and files that are queued, and go on after the call.
 *
 * A request's memory is the caller's again when it is *released*: its bytes were
 * sealed, or taken by the kernel. It is *sent* when the kernel has all its records.
 *
 * How far a request is, is derived: its item knows what was taken, and what the machine
 * has sent is counted off from the head. feed.c gives the machine what it takes next.
 */
#include "config.h"
#include "request.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#define MAX_COUNT      256
#define BRIEF_REQUESTS 8

void ringtls__requests_init(struct ringtls__requests *q, uint32_t max)
{
	memset(q, 0, sizeof(*q));
	q->tail = &q->head;
	q->max = max ? max : MAX_COUNT;
}

/* ---- What is told ------------------------------------------------------ */

/* Both in one, but only at the end of the list: else it would be told that this one is sent
 * before what stands behind it, that an earlier one is. */
static void tell(struct ringtls__request *r, uint32_t flags)
{
	struct ringtls_engine *e = r->conn->engine;
	struct ringtls__told *t = &r->released;

	flags &= ~r->done;
	r->done |= flags;
	if (!flags)
		return;
	if (t->flags && e->told_tail == &t->next) {
		t->flags |= flags;
		return;
	}
	if (!(flags & RINGTLS_RELEASED))
		t = &r->was_sent;
	*t = (struct ringtls__told){ .request = r, .flags = flags };
	*e->told_tail = t;
	e->told_tail = &t->next;
}

static void untell(struct ringtls_engine *e, struct ringtls__told *t)
{
	struct ringtls__told **at = &e->told_head;

	if (!t->flags)
		return;
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	if (e->told_tail == &t->next)
		e->told_tail = at;
	t->flags = 0;
}

static void free_request(struct ringtls__request *r)
{
	untell(r->conn->engine, &r->released);
	untell(r->conn->engine, &r->was_sent);
	ringtls__pool_put(&r->conn->engine->pool, r);
}

static void take_completion(struct ringtls_engine *e, struct ringtls_completion *ret)
{
	struct ringtls__told *t = e->told_head;
	struct ringtls__request *r = t->request;

	*ret = (struct ringtls_completion){
		.conn = r->conn,
		.user = r->conn->waiter.user,
		.id = r->id,
		.flags = t->flags,
		.error = r->error,
		.bytes = r->sent,
	};
	if (t->flags & RINGTLS_SENT)
		free_request(r);
	else
		untell(e, t);
}

int ringtls_engine_completions(struct ringtls_engine *e, struct ringtls_completion *ret_completions,
			       unsigned max)
{
	unsigned n = 0;

	while (n < max && n < INT_MAX && e->told_head)
		take_completion(e, &ret_completions[n++]);
	return (int)n;
}

/* ---- What became of them ----------------------------------------------- */

static bool is_piece(const struct ringtls_conn *c, const struct ringtls__request *r)
{
	return r->item.bytes && r->item.bytes == c->requests.piece;
}

/* A piece of a file is a copy; the file itself is needed until all of it is read. */
static bool is_released(const struct ringtls_conn *c, const struct ringtls__request *r)
{
	return r->fed == r->len && (is_piece(c, r) || ringtls__request_taken(r) == r->len);
}

/* One that is sealed, or given to OpenSSL: the next connection reads into it. */
static void put_back_piece(struct ringtls_conn *c)
{
	struct ringtls__requests *q = &c->requests;

	if (q->piece && !q->read && !q->given && q->next && q->next->file >= 0 &&
	    ringtls__request_taken(q->next) == q->next->fed)
		ringtls__requests_drop_piece(c);
}

void ringtls__request_cut(struct ringtls_conn *c, struct ringtls__request *r, int error)
{
	if (ringtls__request_taken(r) < r->fed && r->given)
		ringtls__txq_withdraw(&c->tx.q, &r->item);
	r->len = r->fed = ringtls__request_taken(r);
	r->given = r->item.len = r->item.done;
	if (c->requests.next == r)
		c->requests.is_read_dropped = true;
	if (!r->error)
		r->error = error;
}

void ringtls__requests_cut_behind(struct ringtls_conn *c, const struct ringtls__request *r)
{
	for (struct ringtls__request *i = r->next; i; i = i->next)
		ringtls__request_cut(c, i, -ECANCELED);
}

/* A range that the kernel lane sends may end early, or could not be read. */
static void look_at_file(struct ringtls_conn *c)
{
	struct ringtls__request *r = c->requests.head;
	int error;

	if (!r || r->item.kind != RINGTLS__ITEM_FILE || !r->given)
		return;
	error = ringtls__tx_file_error(&c->tx);
	if (error) {
		r->error = error;
		r->item.len = r->item.done; /* it is out of the queue already */
		ringtls__requests_cut_behind(c, r);
	}
	if (r->item.len < r->given) {
		r->fed -= r->given - r->item.len;
		r->given = r->item.len;
		r->len = r->fed;
	}
}

static void cut_cancelled(struct ringtls_conn *c)
{
	if (c->tx.in_flight || !c->requests.cancels)
		return;
	for (struct ringtls__request *r = c->requests.head; r; r = r->next)
		if (r->error && ringtls__request_taken(r) < r->len && r != c->requests.given)
			ringtls__request_cut(c, r, r->error);
	c->requests.cancels = c->requests.given != NULL;
}

static void pop(struct ringtls_conn *c)
{
	struct ringtls__requests *q = &c->requests;
	struct ringtls__request *r = q->head;

	q->head = r->next;
	if (!q->head)
		q->tail = &q->head;
	ringtls__request_pass(c, r);
	q->count--;
	tell(r, RINGTLS_RELEASED | RINGTLS_SENT);
	if (q->wants_room) /* what an engine does at once ends no wait */
		ringtls__waiter_wake(c->engine, &c->waiter);
	q->wants_room = false;
}

static void count_off(struct ringtls_conn *c, uint64_t n)
{
	struct ringtls__request *r = c->requests.head;

	while (r && (r->done & RINGTLS_RELEASED)) {
		size_t left = r->len - r->sent, mine = n < left ? (size_t)n : left;

		r->sent += mine;
		n -= mine;
		if (r->sent < r->len)
			return;
		pop(c);
		r = c->requests.head;
	}
	if (r)
		r->sent += (size_t)n;
}

void ringtls__account(struct ringtls_conn *c)
{
	struct ringtls__requests *q = &c->requests;
	uint64_t n = c->tx.app_bytes - q->app_bytes;

	q->app_bytes = c->tx.app_bytes;
	look_at_file(c);
	cut_cancelled(c);
	for (struct ringtls__request *r = q->head; r && is_released(c, r); r = r->next)
		tell(r, RINGTLS_RELEASED);
	put_back_piece(c);
	count_off(c, n);
}

void ringtls__requests_fail(struct ringtls_conn *c, int error)
{
	if (c->tx.in_flight) /* what it moves is told when it is over */
		return;
	while (c->requests.head) {
		ringtls__request_cut(c, c->requests.head, error);
		pop(c);
	}
	c->requests.given = NULL;
	c->requests.given_want = SSL_ERROR_NONE;
	c->requests.cancels = false;
}

static const struct ringtls__told *next_told(const struct ringtls_conn *c)
{
	const struct ringtls__told *t = c->engine->told_head;

	while (t && t->request->conn != c)
		t = t->next;
	return t;
}

bool ringtls__requests_untold(const struct ringtls_conn *c)
{
	return c->requests.head || next_told(c);
}

void ringtls__requests_fini(struct ringtls_conn *c)
{
	const struct ringtls__told *t;
	struct ringtls__request *r;

	assert(!c->requests.read && !c->tx.in_flight);
	while (c->requests.head) {
		r = c->requests.head;
		if (ringtls__request_taken(r) < r->fed && r->given)
			ringtls__txq_withdraw(&c->tx.q, &r->item);
		c->requests.head = r->next;
		free_request(r);
	}
	while ((t = next_told(c)))
		free_request(t->request);
	ringtls__requests_drop_piece(c);
}

/* ---- The calls --------------------------------------------------------- */

/* 1, or the answer that the call must give. */
static int may_queue(struct ringtls_conn *c)
{
	int r = ringtls__may_write(c);

	if (r <= 0)
		return r;
	if (c->call.kind != RINGTLS__CALL_NONE)
		return ringtls__refused(c, SSL_R_BAD_WRITE_RETRY);
	if (c->requests.count >= c->requests.max) {
		c->is_wanted = c->requests.wants_room = true;
		return ringtls__want(c, SSL_ERROR_WANT_WRITE);
	}
	return 1;
}

static struct ringtls__request *new_request(struct ringtls_conn *c, unsigned iovcnt, uint64_t id)
{
	struct ringtls__request *r;
	size_t size = sizeof(*r) + iovcnt * sizeof(r->iovs[0]), room;

	r = ringtls__pool_get(&c->engine->pool, size, &room);
	if (!r)
		return NULL;
	memset(r, 0, sizeof(*r));
	r->conn = c;
	r->id = id;
	r->file = -1;
	r->at.iov = r->iovs;
	return r;
}

/* A few requests of together no more than a record. */
static bool is_brief(const struct ringtls__requests *q)
{
	size_t left = RINGTLS__RECORD_MAX;

	if (q->count > BRIEF_REQUESTS)
		return false;
	for (const struct ringtls__request *r = q->head; r; r = r->next) {
		if (r->len - r->sent > left)
			return false;
		left -= r->len - r->sent;
	}
	return true;
}

void ringtls__requests_work(struct ringtls_conn *c)
{
	c->waiter.is_brief = is_brief(&c->requests);
	ringtls__waiter_work(c->engine, &c->waiter);
}

static int queue_request(struct ringtls_conn *c, struct ringtls__request *r)
{
	struct ringtls__requests *q = &c->requests;

	if (!q->head) /* what was sent before is nobody's */
		q->app_bytes = c->tx.app_bytes;
	*q->tail = r;
	q->tail = &r->next;
	if (!q->next)
		q->next = r;
	q->count++;
	ringtls__requests_work(c);
	c->error = SSL_ERROR_NONE;
	return 1;
}

int ringtls_queue_writev(struct ringtls_conn *c, const struct iovec *iov, int iovcnt, uint64_t id)
{
	struct ringtls__request *r;
	size_t len = 0;
	int res = may_queue(c);

	if (res <= 0)
		return res;
	if (!ringtls__iov_len(iov, iovcnt, &len))
		return ringtls__failed(c, -EINVAL);
	r = new_request(c, (unsigned)iovcnt, id);
	if (!r)
		return ringtls__failed(c, -ENOMEM);
	if (iovcnt)
		memcpy(r->iovs, iov, (size_t)iovcnt * sizeof(*iov));
	r->len = len;
	return queue_request(c, r);
}

int ringtls_queue_sendfile(struct ringtls_conn *c, int file, off_t offset, size_t size, uint64_t id)
{
	struct ringtls__request *r;
	int res = may_queue(c);

	if (res <= 0)
		return res;
	if (file < 0 || offset < 0)
		return ringtls__failed(c, file < 0 ? -EBADF : -EINVAL);
	r = new_request(c, 0, id);
	if (!r)
		return ringtls__failed(c, -ENOMEM);
	r->file = file;
	r->offset = offset;
	r->len = size < SSIZE_MAX ? size : SSIZE_MAX;
	return queue_request(c, r);
}

int ringtls_conn_cancel(struct ringtls_conn *c, uint64_t id)
{
	struct ringtls__request *r = c->requests.head;

	while (r && (r->id != id || r->error))
		r = r->next;
	if (!r)
		return -ENOENT;
	r->error = -ECANCELED;
	c->requests.cancels = true;
	if (c->tx.in_flight && !c->op->done)
		c->engine->backend->cancel(c->engine, c->op);
	ringtls__account(c);
	ringtls__requests_work(c);
	ringtls__engine_kick(c->engine); /* of this no call of the engine knows yet */
	return 0;
}
