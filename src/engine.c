/* engine.c - what both backends share, and the engine's public calls. */
#include "config.h"
#include "engine.h"
#include "probe.h"
#include "opts.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* A lost wake-up costs so much; a look at all that waits, a system call for each. */
#define STALL_MS 10000

/* ---- Waits ------------------------------------------------------------- */

void ringtls__waiter_init(struct ringtls__waiter *w, int fd, void *user)
{
	memset(w, 0, sizeof(*w));
	w->fd = fd;
	w->user = user;
	w->in.events = POLLIN;
	w->out.events = POLLOUT;
}

struct ringtls__waiter *ringtls__waiter_of(struct ringtls__wait *wait)
{
	size_t at = wait->events == POLLIN  ? offsetof(struct ringtls__waiter, in) :
		    wait->events == POLLOUT ? offsetof(struct ringtls__waiter, out) :
					      offsetof(struct ringtls__waiter, timer);

	return (struct ringtls__waiter *)(void *)((char *)wait - at);
}

static void unready(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	struct ringtls__waiter **at = &e->ready_head;

	if (!w->ready)
		return;
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	if (e->ready_tail == &w->next)
		e->ready_tail = at;
	w->ready = false;
}

static void init_list(struct ringtls__work_list *list)
{
	list->head = NULL;
	list->tail = &list->head;
	list->count = 0;
}

static void end_work(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	struct ringtls__work_list *list = &e->works[w->work];

	if (w->work == RINGTLS__WORK_NONE)
		return;
	*w->at_work = w->next_work;
	if (w->next_work)
		w->next_work->at_work = w->at_work;
	else
		list->tail = w->at_work;
	list->count--;
	w->work = RINGTLS__WORK_NONE;
}

static void put_in(struct ringtls_engine *e, enum ringtls__work work, struct ringtls__waiter *w)
{
	struct ringtls__work_list *list = &e->works[work];

	if (w->work == work)
		return;
	end_work(e, w);
	w->work = (uint8_t)work;
	w->next_work = NULL;
	w->at_work = list->tail;
	*list->tail = w;
	list->tail = &w->next_work;
	list->count++;
}

void ringtls__waiter_work(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	put_in(e, w->is_brief ? RINGTLS__WORK_BRIEF : RINGTLS__WORK_BULK, w);
}

void ringtls__waiter_hold(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	put_in(e, RINGTLS__WORK_HELD, w);
}

void ringtls__engine_unhold(struct ringtls_engine *e)
{
	const struct ringtls__work_list *held = &e->works[RINGTLS__WORK_HELD];

	while (held->head)
		ringtls__waiter_work(e, held->head);
}

struct ringtls__waiter *ringtls__work_next(struct ringtls_engine *e, enum ringtls__work work)
{
	struct ringtls__waiter *w = e->works[work].head;

	if (w)
		end_work(e, w);
	return w;
}

bool ringtls__engine_has_more(const struct ringtls_engine *e)
{
	return e->ready_head || e->works[RINGTLS__WORK_BRIEF].head ||
	       e->works[RINGTLS__WORK_BULK].head || e->told_head;
}

bool ringtls__engine_kick(struct ringtls_engine *e)
{
	return e->backend->kick(e);
}

void ringtls__event_kick(const struct ringtls_engine *e, struct ringtls__shown *shown)
{
	if (!shown->is_watched)
		shown->is_kicked = true;
	else if (e->pid == getpid())
		eventfd_write(shown->event, 1);
}

void ringtls__event_unkick(struct ringtls__shown *shown)
{
	eventfd_t count;

	if (shown->is_watched)
		eventfd_read(shown->event, &count);
	shown->is_kicked = false;
}

void ringtls__event_watch(const struct ringtls_engine *e, struct ringtls__shown *shown)
{
	if (shown->is_watched || e->pid != getpid())
		return;
	if (shown->is_kicked || e->ready_head || e->told_head)
		eventfd_write(shown->event, 1);
	shown->is_watched = true;
}

bool ringtls__engine_kick_if_more(struct ringtls_engine *e)
{
	return !ringtls__engine_has_more(e) || ringtls__engine_kick(e);
}

/* In a fork's child the waits are the parent's. */
int ringtls__waiter_disarm(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	return e->pid == getpid() ? e->backend->disarm(e, w) : 0;
}

void ringtls__waiter_fini(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	unready(e, w);
	end_work(e, w);
}

static void make_ready(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	if (w->ready)
		return;
	w->ready = true;
	w->next = NULL;
	*e->ready_tail = w;
	e->ready_tail = &w->next;
}

/* The calls that are repeated find out what it was. */
void ringtls__wait_done(struct ringtls_engine *e, struct ringtls__wait *wait)
{
	wait->armed = false;
	make_ready(e, ringtls__waiter_of(wait));
}

void ringtls__waiter_wake(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	make_ready(e, w);
	ringtls__engine_kick(e);
}

static struct ringtls__wait *the_wait(struct ringtls__waiter *w, short events)
{
	return events == POLLIN ? &w->in : events == POLLOUT ? &w->out : &w->timer;
}

int ringtls__waiter_arm(struct ringtls_engine *e, struct ringtls__waiter *w, short events,
			unsigned ms)
{
	struct ringtls__wait *wait = the_wait(w, events);
	int r;

	if (wait->armed)
		return 0;
	if (!events) {
		wait->u.time.ts.tv_sec = ms / 1000;
		wait->u.time.ts.tv_nsec = ms % 1000 * 1000000ll;
	}
	wait->armed = true;
	r = e->backend->arm(e, wait);
	if (r < 0)
		wait->armed = false;
	else
		e->waits++;
	return r;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

int64_t ringtls__deadline(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
}

int ringtls__left_ms(int64_t deadline)
{
	int64_t left = deadline - now_ms();

	return deadline < 0 ? -1 : left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

/* An op that ended may let its owner go on as well. */
static bool is_over(const struct ringtls__waiter *w, short events)
{
	if (w->op_over)
		return true;
	if (!events)
		return !w->timer.armed;
	return ((events & POLLIN) && !w->in.armed) || ((events & POLLOUT) && !w->out.armed);
}

static int arm_all(struct ringtls_engine *e, struct ringtls__waiter *w, short events, unsigned ms)
{
	int r = 0;

	if (!events)
		return ringtls__waiter_arm(e, w, 0, ms);
	if (events & POLLIN)
		r = ringtls__waiter_arm(e, w, POLLIN, 0);
	if (r >= 0 && (events & POLLOUT))
		r = ringtls__waiter_arm(e, w, POLLOUT, 0);
	return r;
}

/*
 * A signal does not end the sleep: OpenSSL's blocking calls go on after a signal
 * whose handler was installed with SA_RESTART, and that can't be told here.
 */
int ringtls__waiter_sleep(struct ringtls_engine *e, struct ringtls__waiter *w, short events,
			  unsigned ms, int timeout_ms)
{
	int64_t deadline = ringtls__deadline(timeout_ms);
	int r = arm_all(e, w, events, ms), left = 1;

	while (r >= 0 && left && !is_over(w, events)) {
		left = ringtls__left_ms(deadline);
		r = e->backend->collect(e, left);
		if (r == -EINTR)
			r = 0;
	}
	if (r >= 0 && !is_over(w, events))
		r = -EAGAIN;
	if (r >= 0)
		unready(e, w); /* its owner goes on right now */
	/* The waits of others that ended here will not end a second time, and what the
	 * descriptor showed before may have been taken. */
	ringtls__engine_kick_if_more(e);
	return r;
}

/* ---- Rounds ------------------------------------------------------------ */

/*
 * What was just sealed is in the cache still, and the next round has the same buffers again,
 * however many connections there are (pool.c keeps as many free); and a write that is queued
 * meanwhile has no more than that before it, and one op: a range of a file may be 1 MiB. A
 * system call for so much is nothing beside it.
 */
#define ROUND_BYTES  (256 * 1024)
#define ROUND_OPS    128
#define BEHIND_BRIEF (64 * 1024) /* of bulk, where something else was started */

void ringtls__round_begin(struct ringtls_engine *e)
{
	e->started = 0;
	e->started_bytes = 0;
}

void ringtls__round_little_more(struct ringtls_engine *e)
{
	e->started_bytes = ROUND_BYTES - BEHIND_BRIEF;
	if (e->started >= ROUND_OPS)
		e->started = ROUND_OPS - 1;
}

bool ringtls__round_is_full(const struct ringtls_engine *e)
{
	return e->started >= ROUND_OPS || e->started_bytes >= ROUND_BYTES;
}

/* A full socket must not use up the others' round. What is read counts when it is sent. */
void ringtls__round_count(struct ringtls_engine *e, const struct ringtls__op *op)
{
	if (op->done && op->res < 0)
		return;
	e->started++;
	e->started_bytes += ringtls__op_transmits(op) ? op->len : 0;
}

/* ---- Ops --------------------------------------------------------------- */

void ringtls__engine_run(struct ringtls_engine *e, struct ringtls__op *op)
{
	if (!ringtls__op_transmits(op)) {
		ringtls__control_run(op, e->sys);
		return;
	}
	ringtls__op_msg(op);
	op->waiter = NULL;
	op->is_corked = op->many && ringtls__cork(op->fd, e->sys);
	e->backend->transmit(e, op);
}

void ringtls__engine_start(struct ringtls_engine *e, struct ringtls__waiter *w,
			   struct ringtls__op *op)
{
	ringtls__op_msg(op);
	op->waiter = w;
	op->is_corked = op->many && ringtls__cork(op->fd, e->sys);
	e->backend->start(e, op);
	ringtls__round_count(e, op);
}

int ringtls__engine_finish(struct ringtls_engine *e, const struct ringtls__op *op)
{
	int r = 0;

	while (!op->done && (r >= 0 || r == -EINTR))
		r = e->backend->collect(e, -1);
	return op->done ? 0 : r;
}

int ringtls__engine_end(struct ringtls_engine *e, struct ringtls__op *op)
{
	if (op->done)
		return 0;
	if (e->pid != getpid()) {
		op->res = -ECANCELED;
		op->done = true;
		return 0;
	}
	return e->backend->end_op(e, op);
}

void ringtls__op_done(struct ringtls_engine *e, struct ringtls__op *op, ssize_t res)
{
	op->res = res;
	op->done = true;
	if (op->is_corked)
		ringtls__uncork(op->fd, e->sys);
	op->is_corked = false;
	if (op->waiter) {
		op->waiter->op_over = true;
		make_ready(e, op->waiter);
	}
	if (res < 0 || !ringtls__op_transmits(op))
		return;
	e->ops++;
	e->bytes += (size_t)res;
	e->short_sends += (size_t)res < op->len;
}

/* ---- Public ------------------------------------------------------------ */

static int check_opts(const struct ringtls_engine_opts *opts)
{
	if (opts->backend > RINGTLS_BACKEND_CALLER || opts->lane > RINGTLS_LANE_OPENSSL ||
	    opts->renegotiation > RINGTLS_RENEG_SERVE ||
	    (opts->flags & ~(RINGTLS_ENGINE_LAZY_WAITS | RINGTLS_ENGINE_PREFER_KERNEL)) ||
	    opts->entries > 32768 || (opts->promote_after && opts->lane))
		return -EINVAL;
	return (opts->ring != NULL) == (opts->backend == RINGTLS_BACKEND_CALLER) ? 0 : -EINVAL;
}

static int open_backend(struct ringtls_engine *e)
{
	unsigned entries = e->opts.entries ? e->opts.entries : 256;
	int r;

	if (e->opts.backend == RINGTLS_BACKEND_CALLER) {
		e->backend = &ringtls__backend_caller;
		return e->backend->open(e, entries);
	}
	if (e->opts.backend == RINGTLS_BACKEND_SYSCALLS) {
		e->reason = RINGTLS_REASON_ASKED;
	} else {
		e->backend = &ringtls__backend_uring;
		r = e->backend->open(e, entries);
		if (r >= 0)
			return 0;
		e->reason_errno = -r;
		if (e->opts.backend == RINGTLS_BACKEND_URING)
			return r;
	}
	e->backend = &ringtls__backend_syscalls;
	return e->backend->open(e, entries);
}

int ringtls__engine_new_on(struct ringtls_engine **ret_engine,
			   const struct ringtls_engine_opts *opts, const struct ringtls__sys *sys)
{
	struct ringtls_engine *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	e->sys = sys;
	e->pid = getpid();
	e->stall_ms = STALL_MS;
	e->ready_tail = &e->ready_head;
	for (unsigned i = 0; i < RINGTLS__WORKS; i++)
		init_list(&e->works[i]);
	e->told_tail = &e->told_head;
	r = ringtls__opts_take(&e->opts, sizeof(e->opts), opts, opts ? opts->size : 0);
	if (r >= 0)
		r = check_opts(&e->opts);
	if (r >= 0 && e->opts.lane == RINGTLS_LANE_KERNEL && ringtls__probe_get()->ulp)
		r = RINGTLS_E_LANE;
	if (r >= 0)
		r = open_backend(e);
	if (r < 0) {
		free(e);
		return r;
	}
	*ret_engine = e;
	return 0;
}

int ringtls_engine_new(struct ringtls_engine **ret_engine, const struct ringtls_engine_opts *opts)
{
	return ringtls__engine_new_on(ret_engine, opts, &ringtls__sys_real);
}

int ringtls_engine_free(struct ringtls_engine *e)
{
	if (!e)
		return 0;
	/* In a fork's child nothing of the ring's ever completes. */
	if (e->connections || (e->pid == getpid() && e->backend->is_busy && e->backend->is_busy(e)))
		return -EBUSY;
	e->backend->close(e);
	ringtls__pool_fini(&e->pool);
	free(e);
	return 0;
}

int ringtls_engine_fd(const struct ringtls_engine *e)
{
	return e->backend->fd(e);
}

struct ringtls__waiter *ringtls__engine_next_ready(struct ringtls_engine *e)
{
	struct ringtls__waiter *w = e->ready_head;

	if (w)
		unready(e, w);
	return w;
}

int ringtls_engine_get_info(const struct ringtls_engine *e, struct ringtls_engine_info *ret_info)
{
	struct ringtls_engine_info info = {
		.size = sizeof(info),
		.backend = e->backend->id,
		.reason = e->reason,
		.reason_errno = e->reason_errno,
		.connections = e->connections,
		.ops = e->ops,
		.bytes = e->bytes,
		.short_sends = e->short_sends,
		.transmit_calls = e->transmit_calls,
		.waits = e->waits,
		.enters = e->enters,
	};

	return ringtls__info_give(ret_info, &ret_info->size, &info, sizeof(info));
}
