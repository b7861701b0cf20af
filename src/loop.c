/* loop.c - the engine's calls that let its connections go on. */
#include "config.h"
#include "session.h"

#include <errno.h>

/*
 * What is started goes out together, but in portions: what was just sealed is in the cache
 * still, and the next portion has the same buffers again, however many connections there are
 * (pool.c keeps as many free). A system call for half a MiB is nothing beside that.
 */
#define PORTION_BYTES (512 * 1024)
#define PORTION_OPS   128

static unsigned count_work(const struct ringtls_engine *e)
{
	unsigned n = 0;

	for (const struct ringtls__waiter *w = e->work.head; w; w = w->next_work)
		n++;
	return n;
}

/* Those whose ops have ended go on; of what the caller waits for it is told later. */
static void settle(struct ringtls_engine *e)
{
	struct ringtls__waiter *w, *first_kept = NULL;

	while (e->ready_head && e->ready_head != first_kept) {
		struct ringtls_conn *c;

		w = ringtls__engine_next_ready(e);
		c = w->event.conn;
		if (!c->is_wanted) {
			ringtls__advance(c);
			continue;
		}
		ringtls__waiter_put_back(e, w);
		first_kept = first_kept ? first_kept : w;
	}
}

static void hand_over_portion(struct ringtls_engine *e)
{
	if ((e->started < PORTION_OPS && e->started_bytes < PORTION_BYTES) || !e->backend->flush)
		return;
	e->started = 0;
	e->started_bytes = 0;
	/* What could not be handed over goes with the next submission, whose error counts. */
	(void)e->backend->flush(e);
	settle(e);
}

/* A turn for each that has something to start; those that come back into the list wait for
 * the next round. */
static void do_work(struct ringtls_engine *e)
{
	unsigned n = count_work(e);
	struct ringtls__waiter *w;

	e->started = 0;
	e->started_bytes = 0;
	while (n-- && (w = ringtls__engine_next_work(e))) {
		ringtls__advance(w->event.conn);
		hand_over_portion(e);
	}
}

static bool has_more(const struct ringtls_engine *e)
{
	return e->ready_head || e->work.head || e->told_head;
}

/* What the loop sleeps on shows that there is more. */
static void kick_if_more(struct ringtls_engine *e)
{
	if (has_more(e))
		e->backend->kick(e);
}

int ringtls_engine_submit(struct ringtls_engine *e)
{
	int r;

	ringtls__engine_unhold(e);
	do_work(e);
	r = e->backend->submit(e);
	kick_if_more(e);
	return r;
}

/* Takes those that may go on; the caller is told of those that it waits for. */
static unsigned take_ready(struct ringtls_engine *e, struct ringtls_event *ret_events, unsigned max)
{
	struct ringtls__waiter *w;
	unsigned n = 0;

	while (n < max && (w = ringtls__engine_next_ready(e))) {
		struct ringtls_conn *c = w->event.conn;

		ringtls__advance(c);
		if (c->is_wanted && !c->is_ending)
			ret_events[n++] = w->event;
		c->is_wanted = false;
	}
	return n;
}

/* One round: starts what can be started, and takes what has ended. */
static int go_round(struct ringtls_engine *e, struct ringtls_event *ret_events, unsigned max,
		    int64_t deadline, unsigned *ret_n)
{
	int r;

	do_work(e);
	r = e->backend->collect(e, has_more(e) ? 0 : ringtls__left_ms(deadline));
	if (r >= 0 || r == -EINTR)
		*ret_n = take_ready(e, ret_events, max);
	return r;
}

int ringtls_engine_wait(struct ringtls_engine *e, struct ringtls_event *ret_events, unsigned max,
			int timeout_ms)
{
	int64_t deadline = ringtls__deadline(timeout_ms);
	unsigned n = 0;
	int r;

	if (!max || timeout_ms < -1 || (timeout_ms && !e->backend->may_sleep))
		return -EINVAL;
	/* Before the answers are collected, so that none is missed. */
	e->backend->unkick(e);
	ringtls__engine_unhold(e);
	do {
		r = go_round(e, ret_events, max, deadline, &n);
	} while (r >= 0 && !n && !e->told_head && ringtls__left_ms(deadline));
	if (r >= 0 || r == -EINTR)
		r = e->backend->submit(e); /* what the last round started */
	if (r == -EBUSY) /* a full ring of the caller's, who submits anyway */
		r = 0;
	kick_if_more(e);
	return r < 0 ? r : (int)n;
}
