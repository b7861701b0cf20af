/* txq.c - see txq.h. */
#include "config.h"
#include "txq.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <openssl/crypto.h>

void ringtls__txq_init(struct ringtls__txq *q, struct ringtls__pool *pool)
{
	q->head = NULL;
	q->tail = &q->head;
	q->pool = pool;
	q->owned = 0;
}

/* The bytes of an owned item lie behind it, aligned for any object. */
#define ITEM_SIZE                                                                                  \
	((sizeof(struct ringtls__item) + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1))

static uint8_t *payload(const struct ringtls__item *item)
{
	return (uint8_t *)(uintptr_t)item + ITEM_SIZE;
}

static void free_item(struct ringtls__txq *q, struct ringtls__item *item)
{
	if (!item->owned)
		return;
	/* Keys must not outlive their use; tickets and alerts are no secret of ours. */
	if (item->kind == RINGTLS__ITEM_KEYS)
		OPENSSL_cleanse(payload(item), sizeof(struct ringtls__key));
	q->owned--;
	ringtls__pool_put(q->pool, item);
}

void ringtls__txq_fini(struct ringtls__txq *q)
{
	while (q->head)
		ringtls__txq_pop(q);
}

void ringtls__txq_push(struct ringtls__txq *q, struct ringtls__item *item)
{
	item->next = NULL;
	*q->tail = item; /* NOLINT(clang-analyzer-core.NullDereference): tail is never NULL */
	q->tail = &item->next;
}

static struct ringtls__item *new_item(struct ringtls__txq *q, enum ringtls__item_kind kind,
				      size_t bytes)
{
	struct ringtls__item *item;
	size_t size;

	item = ringtls__pool_get(q->pool, ITEM_SIZE + bytes, &size);
	if (!item)
		return NULL;
	memset(item, 0, sizeof(*item));
	item->kind = kind;
	item->owned = true;
	item->bytes = payload(item);
	item->room = size - ITEM_SIZE;
	q->owned++;
	return item;
}

static struct ringtls__item *last(const struct ringtls__txq *q)
{
	return q->head ? (struct ringtls__item *)((char *)q->tail -
						  offsetof(struct ringtls__item, next))
		       : NULL;
}

/* Only WIRE may be joined: the other kinds keep OpenSSL's record boundaries. */
static size_t join(struct ringtls__txq *q, const uint8_t *bytes, size_t len)
{
	struct ringtls__item *item = last(q);
	size_t n;

	if (!item || item->kind != RINGTLS__ITEM_WIRE || !item->owned)
		return 0;
	n = item->room - item->len;
	if (n > len)
		n = len;
	memcpy(payload(item) + item->len, bytes, n);
	item->len += n;
	return n;
}

int ringtls__txq_copy(struct ringtls__txq *q, enum ringtls__item_kind kind, uint8_t record_type,
		      const void *bytes, size_t len, size_t expect)
{
	const size_t most = RINGTLS__POOL_MAX - ITEM_SIZE;
	struct ringtls__item *item = NULL, *joined = last(q);
	size_t want, n = 0;

	assert(len <= most);
	if (kind == RINGTLS__ITEM_WIRE && joined && joined->kind == kind && joined->owned)
		n = joined->room - joined->len < len ? joined->room - joined->len : len;
	if (n < len) {
		want = expect > len - n ? expect : len - n;
		item = new_item(q, kind, want < most ? want : most);
		if (!item)
			return -ENOMEM;
		item->record_type = record_type;
		item->len = len - n;
		memcpy(payload(item), (const uint8_t *)bytes + n, len - n);
	}
	if (n)
		join(q, bytes, n);
	if (item)
		ringtls__txq_push(q, item);
	return 0;
}

static struct ringtls__item *new_key(struct ringtls__txq *q, const struct ringtls__key *key)
{
	struct ringtls__item *item = new_item(q, RINGTLS__ITEM_KEYS, sizeof(*key));

	if (item)
		memcpy(payload(item), key, sizeof(*key));
	return item;
}

int ringtls__txq_key(struct ringtls__txq *q, const struct ringtls__key *key)
{
	struct ringtls__item *item = new_key(q, key);

	if (!item)
		return -ENOMEM;
	ringtls__txq_push(q, item);
	return 0;
}

int ringtls__txq_key_first(struct ringtls__txq *q, const struct ringtls__key *key)
{
	struct ringtls__item *item = new_key(q, key);

	if (!item)
		return -ENOMEM;
	item->next = q->head;
	q->head = item;
	if (!item->next)
		q->tail = &item->next;
	return 0;
}

const struct ringtls__key *ringtls__item_key(const struct ringtls__item *item)
{
	assert(item->kind == RINGTLS__ITEM_KEYS);
	return (const struct ringtls__key *)(const void *)payload(item);
}

static bool has_key(const struct ringtls__item *from)
{
	for (const struct ringtls__item *i = from; i; i = i->next)
		if (i->kind == RINGTLS__ITEM_KEYS)
			return true;
	return false;
}

bool ringtls__txq_has_key(const struct ringtls__txq *q)
{
	return has_key(q->head);
}

bool ringtls__txq_has_update(const struct ringtls__txq *q)
{
	return q->head && has_key(q->head->next);
}

int ringtls__txq_close(struct ringtls__txq *q)
{
	struct ringtls__item *item = new_item(q, RINGTLS__ITEM_CLOSE, 0);

	if (!item)
		return -ENOMEM;
	ringtls__txq_push(q, item);
	return 0;
}

/* Application bytes that the caller queued: what other records may overtake. */
static bool is_unsealed(const struct ringtls__item *item)
{
	return (item->kind == RINGTLS__ITEM_DATA || item->kind == RINGTLS__ITEM_FILE) &&
	       !item->owned;
}

void ringtls__txq_take(struct ringtls__txq *q, struct ringtls__txq *from)
{
	struct ringtls__item **at = &q->head;

	assert(q->pool == from->pool);
	if (!from->head)
		return;
	while (*at && !is_unsealed(*at))
		at = &(*at)->next;
	*from->tail = *at;
	if (!*at)
		q->tail = from->tail;
	*at = from->head;
	q->owned += from->owned;
	from->owned = 0;
	from->head = NULL;
	from->tail = &from->head;
}

void ringtls__txq_pop(struct ringtls__txq *q)
{
	struct ringtls__item *item = q->head;

	q->head = item->next;
	if (!q->head)
		q->tail = &q->head;
	free_item(q, item);
}

void ringtls__txq_withdraw(struct ringtls__txq *q, struct ringtls__item *item)
{
	struct ringtls__item **at = &q->head;

	assert(!item->owned);
	while (*at && *at != item)
		at = &(*at)->next;
	if (!*at)
		return;
	*at = item->next;
	if (q->tail == &item->next)
		q->tail = at;
}

struct gather {
	struct iovec *iov;
	unsigned n, max;
	size_t total, limit;
};

static bool is_full(const struct gather *g)
{
	return g->n == g->max || g->total == g->limit;
}

static void add_piece(struct gather *g, const void *bytes, size_t len)
{
	if (len > g->limit - g->total)
		len = g->limit - g->total;
	if (!len)
		return;
	g->iov[g->n].iov_base = (void *)(uintptr_t)bytes;
	g->iov[g->n++].iov_len = len;
	g->total += len;
}

static void add_item(struct gather *g, const struct ringtls__item *item)
{
	size_t left = item->len - item->done, skip = item->iov_done;

	if (!item->iov) {
		add_piece(g, item->bytes + item->done, left);
		return;
	}
	/* It may be shorter than its pieces: a call takes no more than it may. */
	for (const struct iovec *iov = item->iov; left && !is_full(g); iov++) {
		size_t len = iov->iov_len - skip < left ? iov->iov_len - skip : left;

		add_piece(g, (const uint8_t *)iov->iov_base + skip, len);
		left -= len;
		skip = 0;
	}
}

size_t ringtls__txq_gather(const struct ringtls__txq *q, struct iovec *iov, unsigned max,
			   size_t limit, unsigned *ret_count)
{
	const struct ringtls__item *item = q->head;
	struct gather g = { .iov = iov, .max = max, .limit = limit };

	for (; item && item->kind == q->head->kind && !is_full(&g); item = item->next)
		add_item(&g, item);
	*ret_count = g.n;
	return g.total;
}

/* The first n bytes that are left of an item are taken. */
static void take_bytes(struct ringtls__item *item, size_t n)
{
	item->done += n;
	if (!item->iov)
		return;
	n += item->iov_done;
	while (n && n >= item->iov->iov_len) {
		n -= item->iov->iov_len;
		item->iov++;
	}
	item->iov_done = n;
}

void ringtls__txq_advance(struct ringtls__txq *q, size_t n)
{
	while (n) {
		struct ringtls__item *item = q->head;
		size_t left;

		assert(item); /* no more was taken than was queued */
		left = item->len - item->done;
		if (n < left) {
			take_bytes(item, n);
			return;
		}
		item->done = item->len;
		n -= left;
		ringtls__txq_pop(q);
	}
}
