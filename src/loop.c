/* loop.c - the engine's calls that let its connections go on. */
#include "config.h"
#include "session.h"

#include <errno.h>

static struct ringtls_conn *conn_of(struct ringtls__waiter *w)
{
	size_t at = offsetof(struct ringtls_conn, waiter);

	return (struct ringtls_conn *)(void *)((char *)w - at);
}

static void take_turns(struct ringtls_engine *e, enum ringtls__work work)
{
	unsigned n = e->works[work].count;
	struct ringtls__waiter *w;

	/* Those that come back into the list wait for the next round. */
	while (n-- && !ringtls__round_is_full(e) && (w = ringtls__work_next(e, work)))
		ringtls__advance(conn_of(w));
}

/* What is soon done goes first, and waits for no bulk transfer; but of those some are started,
 * too, however many of the others there are. */
static void do_work(struct ringtls_engine *e)
{
	ringtls__round_begin(e);
	e->is_lone = e->works[RINGTLS__WORK_BRIEF].count == 1 &&
		     !e->works[RINGTLS__WORK_BULK].count;
	take_turns(e, RINGTLS__WORK_BRIEF);
	e->is_lone = false;
	if (e->started)
		ringtls__round_little_more(e);
	take_turns(e, RINGTLS__WORK_BULK);
}

int ringtls_engine_submit(struct ringtls_engine *e)
{
	int r;

	ringtls__engine_unhold(e);
	do_work(e);
	r = e->backend->submit(e);
	if (!ringtls__engine_kick_if_more(e) && r >= 0)
		r = -EBUSY;
	return r;
}

/* Takes those that may go on; the caller is told of those that it waits for. */
static unsigned take_ready(struct ringtls_engine *e, struct ringtls_event *ret_events, unsigned max)
{
	struct ringtls__waiter *w;
	unsigned n = 0;

	while (n < max && (w = ringtls__engine_next_ready(e))) {
		struct ringtls_conn *c = conn_of(w);

		ringtls__advance(c);
		if (c->is_wanted && !c->is_ending)
			ret_events[n++] = (struct ringtls_event){ c, w->user };
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
	r = e->backend->collect(e, ringtls__engine_has_more(e) ? 0 : ringtls__left_ms(deadline));
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
	ringtls__engine_kick_if_more(e);
	/* Events are told once, whatever became of the rest: that goes with the next call. */
	return r < 0 && !n ? r : (int)n;
}
