/* engine_uring.c - a ring of our own. */
#include "config.h"
#include "engine.h"
#include "ring.h"
#include "uring.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* user_data: the address of a wait, or of an op and this bit; or nobody's, as of
 * cancellations; or the stall timer's. */
#define IS_OP  1u
#define NOBODY 0u
#define TICK   2u

struct state {
	struct io_uring ring;
	/* A DEFER_TASKRUN ring's own descriptor does not wake epoll from 6.12 on when
	 * a poll or a parked send is due; a registered eventfd does. Pinned by
	 * test_stream, whose waits are polls of this descriptor. */
	struct ringtls__shown shown;
	bool sends;  /* the next submission has something to transmit */
	bool missed; /* a cancellation did not find what it was for */
	struct ringtls__flight *flights; /* what waits in the kernel for a socket */
	bool is_ticking, tick_due;
	struct __kernel_timespec tick;
};

static void close_all(struct ringtls_engine *e)
{
	struct state *s = e->state;

	/* In a fork's child the ring's memory is not there, see open_all. */
	if (e->pid == getpid())
		io_uring_queue_exit(&s->ring);
	else
		close(s->ring.ring_fd);
	close(s->shown.event);
	free(s);
}

static int open_event(struct state *s)
{
	int r;

	s->shown.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->shown.event < 0)
		return -errno;
	r = io_uring_register_eventfd(&s->ring, s->shown.event);
	if (r < 0)
		close(s->shown.event);
	return r;
}

static int open_all(struct ringtls_engine *e, unsigned entries)
{
	struct ringtls__uring_caps caps;
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	r = ringtls__uring_open(&s->ring, entries, &caps, e->sys);
	if (r < 0) {
		e->reason = caps.reason;
		free(s);
		return r;
	}
	/* A child has no business on it, and a kernel may get it wrong (kmod-notes/ring.md). */
	io_uring_ring_dontfork(&s->ring);
	r = open_event(s);
	if (r < 0) {
		e->reason = ringtls__uring_reason(r);
		io_uring_queue_exit(&s->ring);
		free(s);
		return r;
	}
	e->state = s;
	return 0;
}

/* ---- The descriptor ----------------------------------------------------- */

/* There is nothing to hand over, and the kernel has nothing for us. Where that does not say so,
 * we can't know. */
static bool is_quiet(const struct state *s)
{
	const unsigned *flags = s->ring.sq.kflags;

	return (s->ring.flags & IORING_SETUP_TASKRUN_FLAG) && !io_uring_sq_ready(&s->ring) &&
	       !io_uring_cq_ready(&s->ring) &&
	       !(IO_URING_READ_ONCE(*flags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

/* Every completion makes it readable; this is for what has none. */
static bool kick(struct ringtls_engine *e)
{
	struct state *s = e->state;

	ringtls__event_kick(e, &s->shown);
	return true;
}

static void unkick(struct ringtls_engine *e)
{
	struct state *s = e->state;

	ringtls__event_unkick(&s->shown);
}

/* Until now it showed all completions, collected or not: what is left of them are those that are
 * in the ring, and what came of the others. In a fork's child there is no ring to look at. */
static int get_fd(const struct ringtls_engine *e)
{
	struct state *s = e->state;
	eventfd_t count;

	if (!s->shown.is_watched && e->pid == getpid()) {
		eventfd_read(s->shown.event, &count);
		s->shown.is_kicked |= !is_quiet(s);
		ringtls__event_watch(e, &s->shown);
	}
	return s->shown.event;
}

/* ---- Stalls ------------------------------------------------------------- */

/*
 * Some kernels lose a wake-up (kmod-notes/ring.md): the socket is ready, and what waits for
 * it in the ring never ends. So now and then each of these is compared with poll(2), and
 * ended where that knows better: then its connection tries again.
 */
static void take_off(struct state *s, struct ringtls__flight *f, bool is_op)
{
	f->is_op = is_op;
	f->is_cancelled = false;
	f->next = s->flights;
	f->at = &s->flights;
	if (f->next)
		f->next->at = &f->next;
	s->flights = f;
}

static void land(struct ringtls__flight *f)
{
	if (!f->at)
		return;
	*f->at = f->next;
	if (f->next)
		f->next->at = f->at;
	f->at = NULL;
}

static struct ringtls__op *op_of(const struct ringtls__flight *f)
{
	return (struct ringtls__op *)((uintptr_t)f - offsetof(struct ringtls__op, flight));
}

static struct ringtls__wait *wait_of(const struct ringtls__flight *f)
{
	return (struct ringtls__wait *)((uintptr_t)f - offsetof(struct ringtls__wait, u.flight));
}

/* By which the ring knows it. */
static uint64_t data_of(const struct ringtls__flight *f)
{
	return f->is_op ? (uintptr_t)op_of(f) | IS_OP : (uintptr_t)wait_of(f);
}

/* What it waits for is there, says the kernel outside the ring. */
static bool is_ready(const struct ringtls_engine *e, const struct ringtls__flight *f)
{
	struct pollfd pfd;

	if (f->is_op)
		pfd = (struct pollfd){ .fd = op_of(f)->fd, .events = POLLOUT };
	else
		pfd = (struct pollfd){ .fd = ringtls__waiter_of(wait_of(f))->fd,
				       .events = wait_of(f)->events };
	return e->sys->poll(&pfd, 1, 0) > 0;
}

static void prep_cancel(struct io_uring_sqe *sqe, uint64_t data)
{
	io_uring_prep_cancel64(sqe, data, 0);
	io_uring_sqe_set_data64(sqe, NOBODY);
}

/* Without a submission, which may end what the list is made of. */
static void look_for_stalls(struct ringtls_engine *e)
{
	struct state *s = e->state;

	for (struct ringtls__flight *f = s->flights; f; f = f->next) {
		struct io_uring_sqe *sqe;

		if (!is_ready(e, f))
			continue;
		sqe = io_uring_get_sqe(&s->ring);
		if (!sqe)
			return; /* the rest has to wait for the next time */
		prep_cancel(sqe, data_of(f));
		e->stalls++;
	}
}

/* Goes out with what it is for. */
static void keep_ticking(struct ringtls_engine *e)
{
	struct state *s = e->state;
	struct io_uring_sqe *sqe = s->is_ticking || !s->flights ? NULL : io_uring_get_sqe(&s->ring);

	if (!sqe)
		return;
	s->tick.tv_sec = e->stall_ms / 1000;
	s->tick.tv_nsec = e->stall_ms % 1000 * 1000000ll;
	io_uring_prep_timeout(sqe, &s->tick, 0, 0);
	io_uring_sqe_set_data64(sqe, TICK);
	s->is_ticking = true;
}

/* ---- Answers ------------------------------------------------------------ */

static void complete(struct ringtls_engine *e, uint64_t data, int res)
{
	struct state *s = e->state;
	struct ringtls__wait *wait;
	struct ringtls__op *op;

	if (data == NOBODY) {
		s->missed |= res == -ENOENT;
	} else if (data == TICK) {
		s->is_ticking = false;
		s->tick_due = true;
	} else if (data & IS_OP) {
		op = (struct ringtls__op *)(uintptr_t)(data - IS_OP);
		land(&op->flight);
		ringtls__op_done(e, op, ringtls__ring_result(res));
	} else {
		wait = (struct ringtls__wait *)(uintptr_t)data;
		if (wait->events)
			land(&wait->u.flight);
		ringtls__wait_done(e, wait);
	}
}

/*
 * A send that finds the socket full, and then writable, is tried again by the kernel, and
 * until then no cancellation finds it (ENOENT): it may be full once more, and wait for good.
 */
static void cancel_again(struct state *s)
{
	s->missed = false;
	for (struct ringtls__flight *f = s->flights; f; f = f->next) {
		struct io_uring_sqe *sqe = f->is_cancelled ? io_uring_get_sqe(&s->ring) : NULL;

		if (!f->is_cancelled)
			continue;
		if (!sqe) {
			s->missed = true; /* the rest has to wait for the next answer */
			return;
		}
		prep_cancel(sqe, data_of(f));
	}
}

static void reap(struct ringtls_engine *e)
{
	struct state *s = e->state;
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&s->ring, head, cqe) {
		n++;
		complete(e, cqe->user_data, cqe->res);
	}
	io_uring_cq_advance(&s->ring, n);
	if (s->missed)
		cancel_again(s);
	if (!s->tick_due)
		return;
	s->tick_due = false;
	look_for_stalls(e);
	keep_ticking(e);
}

static void count_enter(struct ringtls_engine *e)
{
	struct state *s = e->state;

	e->enters++;
	e->transmit_calls += s->sends;
	s->sends = false;
}

/*
 * Hands over what is queued. EBUSY and EAGAIN: completions must be taken first. An error says
 * that nothing was taken: so who asked may take its entry back. What was left, whether by an
 * error or not, goes with the next call, which comes soon.
 */
static int submit(struct ringtls_engine *e)
{
	struct state *s = e->state;
	bool took = false;
	int r;

	if (!io_uring_sq_ready(&s->ring))
		return 0;
	do {
		count_enter(e);
		r = io_uring_submit(&s->ring);
		took |= r > 0;
		if (r == -EBUSY || r == -EAGAIN) {
			reap(e);
			io_uring_get_events(&s->ring);
		}
	} while (r == -EINTR || r == -EBUSY || r == -EAGAIN ||
		 (r > 0 && io_uring_sq_ready(&s->ring)));
	if (io_uring_sq_ready(&s->ring))
		kick(e);
	return r < 0 && !took ? r : 0;
}

static int get_sqe(struct ringtls_engine *e, struct io_uring_sqe **ret_sqe)
{
	struct state *s = e->state;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);
	int r;

	if (!sqe) {
		r = submit(e);
		if (r < 0)
			return r;
		sqe = io_uring_get_sqe(&s->ring);
	}
	if (!sqe)
		return -EBUSY;
	*ret_sqe = sqe;
	return 0;
}

static int collect(struct ringtls_engine *e, int timeout_ms)
{
	struct state *s = e->state;
	struct __kernel_timespec ts = { .tv_sec = timeout_ms / 1000,
					.tv_nsec = timeout_ms % 1000 * 1000000ll };
	struct io_uring_cqe *cqe;
	int r;

	if (timeout_ms == 0 && is_quiet(s))
		return 0;
	count_enter(e);
	if (timeout_ms == 0) {
		r = io_uring_submit_and_get_events(&s->ring);
	} else if (timeout_ms < 0) {
		r = io_uring_submit_and_wait(&s->ring, 1);
	} else if (io_uring_cq_ready(&s->ring)) {
		/* liburing does not enter the kernel then; and what that has not posted yet
		 * (DEFER_TASKRUN) would be missed, with its signal taken from the eventfd. */
		r = io_uring_submit_and_get_events(&s->ring);
	} else {
		r = io_uring_submit_and_wait_timeout(&s->ring, &cqe, 1, &ts, NULL);
	}
	reap(e);
	/* Refused, or not all of it: then the kernel has not looked for what has ended, and the
	 * eventfd's signal may be taken already. So the next call comes soon. */
	if ((r < 0 && r != -ETIME) || io_uring_sq_ready(&s->ring))
		kick(e);
	return r < 0 && r != -ETIME && r != -EBUSY && r != -EAGAIN ? r : 0;
}

/* Fills an entry; it goes out with the next submission. */
static int prepare(struct ringtls_engine *e, struct ringtls__op *op, struct io_uring_sqe **ret_sqe)
{
	struct state *s = e->state;
	int r = get_sqe(e, ret_sqe);

	if (r < 0)
		return r;
	op->done = false;
	ringtls__ring_prep_op(*ret_sqe, op);
	io_uring_sqe_set_data64(*ret_sqe, (uintptr_t)op | IS_OP);
	s->sends |= ringtls__op_transmits(op);
	op->flight.at = NULL;
	if (ringtls__op_transmits(op) && !op->nowait) {
		take_off(s, &op->flight, true);
		keep_ticking(e);
	}
	return 0;
}

/* The ring has not taken it (is it another thread's?). It goes out with what comes next,
 * when what it was for may be gone. */
static void take_back(struct io_uring_sqe *sqe, struct ringtls__flight *f)
{
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data64(sqe, NOBODY);
	if (f)
		land(f);
}

/* Its memory is the kernel's until its completion: there is no leaving before. */
static void run_on_ring(struct ringtls_engine *e, struct ringtls__op *op)
{
	struct io_uring_sqe *sqe;
	int r = prepare(e, op, &sqe);

	if (r >= 0) {
		r = submit(e);
		if (r < 0)
			take_back(sqe, &op->flight);
	}
	if (r < 0) {
		ringtls__op_done(e, op, r);
		return;
	}
	reap(e);
	while (!op->done)
		collect(e, -1);
}

/*
 * A lone op that does not wait goes out by sendmsg(2), whatever its size: it is a system call
 * either way, and that one costs less. The ring is for what waits, and for what goes together.
 */
static void transmit(struct ringtls_engine *e, struct ringtls__op *op)
{
	if (op->kind == RINGTLS__OP_SENDFILE || op->nowait)
		ringtls__ring_call(e, op);
	else
		run_on_ring(e, op);
}

/* As in transmit; only where the socket is full it is for the ring after all. */
static bool run_lone(struct ringtls_engine *e, struct ringtls__op *op)
{
	const struct state *s = e->state;
	ssize_t res;

	if (!e->is_lone || !ringtls__op_transmits(op) || io_uring_sq_ready(&s->ring))
		return false;
	res = ringtls__ring_try(e, op);
	if (res == -EAGAIN)
		return false;
	op->waiter = NULL;
	ringtls__op_done(e, op, res);
	return true;
}

static void start(struct ringtls_engine *e, struct ringtls__op *op)
{
	struct io_uring_sqe *sqe;
	int r;

	if (op->kind == RINGTLS__OP_SENDFILE) {
		op->waiter = NULL; /* it is over at once */
		ringtls__ring_call(e, op);
		return;
	}
	if (run_lone(e, op))
		return;
	r = prepare(e, op, &sqe);
	if (r < 0)
		ringtls__op_done(e, op, r);
}

static int arm(struct ringtls_engine *e, struct ringtls__wait *wait)
{
	struct io_uring_sqe *sqe;
	int r = get_sqe(e, &sqe);

	if (r < 0)
		return r;
	ringtls__ring_prep_wait(sqe, wait);
	io_uring_sqe_set_data(sqe, wait);
	if (wait->events) {
		take_off(e->state, &wait->u.flight, false);
		keep_ticking(e);
	}
	if (e->opts.flags & RINGTLS_ENGINE_LAZY_WAITS)
		return 0;
	r = submit(e);
	if (r < 0)
		take_back(sqe, wait->events ? &wait->u.flight : NULL);
	return r;
}

static int cancel_data(struct ringtls_engine *e, uint64_t data)
{
	struct io_uring_sqe *sqe;
	int r = get_sqe(e, &sqe);

	if (r < 0)
		return r;
	prep_cancel(sqe, data);
	return 0;
}

static int cancel_op(struct ringtls_engine *e, struct ringtls__op *op)
{
	int r = op->flight.at && op->flight.is_cancelled ? 0 :
							   cancel_data(e, (uintptr_t)op | IS_OP);

	op->flight.is_cancelled = r >= 0;
	return r;
}

static void cancel(struct ringtls_engine *e, struct ringtls__op *op)
{
	if (!op->done)
		(void)cancel_op(e, op);
}

static int end_op(struct ringtls_engine *e, struct ringtls__op *op)
{
	const struct state *s = e->state;
	int r = cancel_op(e, op);

	while (!op->done && (r >= 0 || r == -EINTR)) {
		r = collect(e, -1);
		if (r >= 0 && !op->done && s->missed) /* there was no room to ask once more */
			r = cancel_data(e, (uintptr_t)op | IS_OP);
	}
	return op->done ? 0 : r;
}

static int cancel_wait(struct ringtls_engine *e, const struct ringtls__wait *wait)
{
	return wait->armed ? cancel_data(e, (uintptr_t)wait) : 0;
}

/* A wait holds the socket open in the kernel: it must end before close() does
 * what the caller means by it. */
static int disarm(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	int r = cancel_wait(e, &w->in);

	/* What is not cancelled must not be waited for. */
	if (r >= 0)
		r = cancel_wait(e, &w->out);
	if (r >= 0)
		r = cancel_wait(e, &w->timer);
	while ((w->in.armed || w->out.armed || w->timer.armed) && (r >= 0 || r == -EINTR))
		r = collect(e, -1);
	return r == -EINTR ? 0 : r;
}

const struct ringtls__backend ringtls__backend_uring = {
	.id = RINGTLS_BACKEND_URING,
	.may_sleep = true,
	.reads_behind = true,
	.open = open_all,
	.close = close_all,
	.fd = get_fd,
	.transmit = transmit,
	.start = start,
	.cancel = cancel,
	.end_op = end_op,
	.arm = arm,
	.disarm = disarm,
	.submit = submit,
	.collect = collect,
	.kick = kick,
	.unkick = unkick,
};
