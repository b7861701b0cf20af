/*
 * engine_caller.c - a ring of the caller's. We fill entries and are fed completions;
 * the caller submits, waits, and does with the ring what else it likes. So nothing
 * here sleeps, or enters the ring.
 *
 * user_data is the caller's tag, and the number of a slot: no address of ours is on
 * the ring, and what is not ours is told by its tag. An entry that finds the submission
 * queue full stays in its slot until the next ringtls_engine_submit.
 */
#include "config.h"
#include "engine.h"
#include "ring.h"
#include "uring.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Not slots: cancellations, and the no-op that wakes the caller. */
#define NOBODY UINT32_MAX
#define WAKE   (UINT32_MAX - 1)

enum slot_state {
	FREE,
	STUCK, /* waits for room in the submission queue */
	RUNS,  /* the ring has it */
};

struct slot {
	struct ringtls__op *op; /* or */
	struct ringtls__wait *wait;
	enum slot_state state;
	enum { NOT_CANCELLED, CANCEL_DUE, CANCEL_SENT } cancel;
	uint32_t next_free;
};

struct state {
	struct io_uring *ring;
	uint64_t tag; /* in its place */
	struct slot *slots;
	uint32_t n_slots, first_free;
	unsigned stuck;    /* slots that are STUCK, or CANCEL_DUE */
	uint32_t next_stuck; /* they are looked for in turns, so that none waits for ever */
	unsigned nobodies; /* entries without a slot that were not fed back */
	bool wakes;        /* one of them is the no-op */
};

static int open_ring(struct ringtls_engine *e, unsigned entries)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(e->opts.ring);
	struct state *s;
	bool old;

	(void)entries;
	if (!probe)
		return -EINVAL;
	old = ringtls__uring_missing(probe) != NULL;
	io_uring_free_probe(probe);
	if (old) {
		e->reason = RINGTLS_REASON_URING_OLD;
		return -EOPNOTSUPP;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->ring = e->opts.ring;
	s->tag = (uint64_t)e->opts.tag << 32;
	s->first_free = NOBODY;
	e->state = s;
	return 0;
}

static bool is_busy(const struct ringtls_engine *e)
{
	return ((const struct state *)e->state)->nobodies != 0;
}

static void close_ring(struct ringtls_engine *e)
{
	struct state *s = e->state;

	free(s->slots);
	free(s);
}

static int get_fd(const struct ringtls_engine *e)
{
	(void)e;
	return -EINVAL; /* the caller polls its own ring */
}

/* ---- Slots ------------------------------------------------------------- */

/* Grows to the largest number that was ever in flight, and stays there. */
static int grow(struct state *s)
{
	uint32_t n = s->n_slots ? s->n_slots * 2 : 64;
	struct slot *slots = realloc(s->slots, n * sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (uint32_t i = s->n_slots; i < n; i++)
		slots[i] = (struct slot){ .next_free = i + 1 < n ? i + 1 : NOBODY };
	s->first_free = s->n_slots;
	s->n_slots = n;
	s->slots = slots;
	return 0;
}

/* An entry with its slot's number, or NULL: no room. */
static struct io_uring_sqe *get_sqe(struct state *s, uint32_t number)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(s->ring);

	if (sqe)
		sqe->user_data = s->tag | number; /* prep leaves it alone */
	return sqe;
}

static void use_fixed_file(struct io_uring_sqe *sqe, const struct ringtls__waiter *w)
{
	if (!w || !w->fixed_file)
		return;
	sqe->fd = (int)w->fixed_file - 1;
	sqe->flags |= IOSQE_FIXED_FILE;
}

static void prepare(struct io_uring_sqe *sqe, const struct slot *slot)
{
	uint64_t user_data = sqe->user_data;

	if (slot->op)
		ringtls__ring_prep_op(sqe, slot->op);
	else
		ringtls__ring_prep_wait(sqe, slot->wait);
	sqe->user_data = user_data;
	if (slot->wait)
		use_fixed_file(sqe, slot->wait->events ? ringtls__waiter_of(slot->wait) : NULL);
	else if (slot->op->kind != RINGTLS__OP_READ)
		use_fixed_file(sqe, slot->op->waiter);
}

static void put_on_ring(struct state *s, uint32_t number)
{
	struct slot *slot = &s->slots[number];
	struct io_uring_sqe *sqe = get_sqe(s, number);

	if (sqe)
		prepare(sqe, slot);
	s->stuck += !sqe;
	slot->state = sqe ? RUNS : STUCK;
}

static void end_slot(struct ringtls_engine *e, uint32_t number, int res)
{
	struct state *s = e->state;
	struct slot slot = s->slots[number];

	s->stuck -= (slot.state == STUCK) + (slot.cancel == CANCEL_DUE);
	s->slots[number] = (struct slot){ .next_free = s->first_free };
	s->first_free = number;
	if (slot.op)
		ringtls__op_done(e, slot.op, ringtls__ring_result(res));
	else
		ringtls__wait_done(e, slot.wait);
}

static void cancel_slot(struct ringtls_engine *e, uint32_t number)
{
	struct state *s = e->state;
	struct slot *slot = &s->slots[number];
	struct io_uring_sqe *sqe;

	if (slot->state == STUCK) { /* the ring never had it */
		end_slot(e, number, -ECANCELED);
		return;
	}
	if (slot->cancel == CANCEL_SENT)
		return;
	sqe = get_sqe(s, NOBODY);
	s->stuck += (slot->cancel == NOT_CANCELLED && !sqe);
	s->stuck -= (slot->cancel == CANCEL_DUE && sqe);
	slot->cancel = sqe ? CANCEL_SENT : CANCEL_DUE;
	if (!sqe)
		return;
	io_uring_prep_cancel64(sqe, s->tag | number, 0);
	sqe->user_data = s->tag | NOBODY;
	s->nobodies++;
}

/* -EBUSY: there is no room for all. */
static int put_stuck_on_ring(struct ringtls_engine *e)
{
	struct state *s = e->state;

	for (uint32_t n = s->n_slots; s->stuck && n && io_uring_sq_space_left(s->ring); n--) {
		uint32_t number = s->next_stuck++ % s->n_slots;
		struct slot *slot = &s->slots[number];

		if (slot->state == STUCK) {
			s->stuck--;
			put_on_ring(s, number);
		} else if (slot->state == RUNS && slot->cancel == CANCEL_DUE) {
			cancel_slot(e, number);
		}
	}
	return s->stuck ? -EBUSY : 0;
}

static int take_slot(struct ringtls_engine *e, struct ringtls__op *op, struct ringtls__wait *wait)
{
	struct state *s = e->state;
	uint32_t number;
	int r = s->first_free == NOBODY ? grow(s) : 0;

	if (r < 0)
		return r;
	put_stuck_on_ring(e); /* it was there first */
	number = s->first_free;
	s->first_free = s->slots[number].next_free;
	s->slots[number] = (struct slot){ .op = op, .wait = wait };
	put_on_ring(s, number);
	return 0;
}

/* ---- What the engine asks for ------------------------------------------ */

static void start(struct ringtls_engine *e, struct ringtls__op *op)
{
	int r;

	if (op->kind == RINGTLS__OP_SENDFILE) {
		op->waiter = NULL; /* it is over at once */
		ringtls__ring_call(e, op);
		return;
	}
	op->done = false;
	r = take_slot(e, op, NULL);
	if (r < 0)
		ringtls__op_done(e, op, r);
}

static int arm(struct ringtls_engine *e, struct ringtls__wait *wait)
{
	return take_slot(e, NULL, wait);
}

static void cancel(struct ringtls_engine *e, struct ringtls__op *op)
{
	struct state *s = e->state;

	for (uint32_t i = 0; i < s->n_slots; i++)
		if (s->slots[i].state != FREE && s->slots[i].op == op)
			cancel_slot(e, i);
}

static int end_op(struct ringtls_engine *e, struct ringtls__op *op)
{
	cancel(e, op);
	return op->done ? 0 : -EBUSY;
}

/* What it was for is still there, and could not be found (engine_uring.c): once more. */
static void cancel_missed(struct state *s)
{
	for (uint32_t i = 0; i < s->n_slots; i++) {
		struct slot *slot = &s->slots[i];

		if (slot->state != RUNS || slot->cancel != CANCEL_SENT)
			continue;
		slot->cancel = CANCEL_DUE;
		s->stuck++;
	}
}

static int disarm(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	struct state *s = e->state;

	for (uint32_t i = 0; i < s->n_slots; i++) {
		struct ringtls__wait *wait = s->slots[i].state != FREE ? s->slots[i].wait : NULL;

		if (wait && ringtls__waiter_of(wait) == w)
			cancel_slot(e, i);
	}
	return w->in.armed || w->out.armed || w->timer.armed ? -EBUSY : 0;
}

/* The caller waits, and feeds. */
static int collect(struct ringtls_engine *e, int timeout_ms)
{
	(void)e;
	return timeout_ms ? -EBUSY : 0;
}

/* There is more to do for which no completion would come: one is made. What fills the queue need
 * not complete. */
static bool kick(struct ringtls_engine *e)
{
	struct state *s = e->state;
	struct io_uring_sqe *sqe;

	if (s->wakes || e->pid != getpid())
		return true;
	sqe = get_sqe(s, WAKE);
	if (!sqe)
		return false;
	io_uring_prep_nop(sqe);
	sqe->user_data = s->tag | WAKE;
	s->nobodies++;
	s->wakes = true;
	return true;
}

static void unkick(struct ringtls_engine *e)
{
	(void)e;
}

int ringtls_engine_feed(struct ringtls_engine *e, const struct io_uring_cqe *cqe)
{
	struct state *s = e->state;
	uint32_t number = (uint32_t)cqe->user_data;

	if (e->backend->id != RINGTLS_BACKEND_CALLER)
		return -EINVAL;
	if ((cqe->user_data ^ s->tag) >> 32)
		return 0;
	if (number >= WAKE) {
		s->nobodies--;
		s->wakes &= number != WAKE;
		if (number == NOBODY && cqe->res == -ENOENT)
			cancel_missed(s);
	} else if (number < s->n_slots && s->slots[number].state == RUNS) {
		end_slot(e, number, cqe->res);
	} else {
		return -EINVAL;
	}
	return 1;
}

const struct ringtls__backend ringtls__backend_caller = {
	.id = RINGTLS_BACKEND_CALLER,
	.reads_behind = true,
	.open = open_ring,
	.is_busy = is_busy,
	.close = close_ring,
	.fd = get_fd,
	.transmit = ringtls__ring_call,
	.start = start,
	.cancel = cancel,
	.end_op = end_op,
	.arm = arm,
	.disarm = disarm,
	.submit = put_stuck_on_ring,
	.collect = collect,
	.kick = kick,
	.unkick = unkick,
};
