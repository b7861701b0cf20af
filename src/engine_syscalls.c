/*
 * engine_syscalls.c - plain system calls and epoll: for where rings are
 * forbidden, and as the yardstick that the ring is measured with.
 */
#include "config.h"
#include "engine.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S  1000000000ll
#define NS_PER_MS 1000000ll

struct state {
	int epoll;
	int timer;                  /* wakes epoll for the earliest of timers */
	struct ringtls__shown shown; /* wakes epoll for what only the engine's lists know */
	struct ringtls__wait *timers; /* earliest first */
};

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static int64_t deadline_ns(const struct ringtls__wait *wait)
{
	return wait->u.time.ts.tv_sec * NS_PER_S + wait->u.time.ts.tv_nsec;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void close_all(struct ringtls_engine *e)
{
	struct state *s = e->state;

	close_fd(s->shown.event);
	close_fd(s->timer);
	close_fd(s->epoll);
	free(s);
}

/* data.ptr is a waiter, or where the descriptor itself is kept. */
static int add(struct state *s, int *fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = fd };

	return *fd < 0 || epoll_ctl(s->epoll, EPOLL_CTL_ADD, *fd, &ev) < 0 ? -errno : 0;
}

static int open_all(struct ringtls_engine *e, unsigned entries)
{
	struct state *s = calloc(1, sizeof(*s));
	int r;

	(void)entries;
	if (!s)
		return -ENOMEM;
	e->state = s;
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	s->shown.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = s->epoll < 0 ? -errno : add(s, &s->timer);
	if (r >= 0)
		r = add(s, &s->shown.event);
	if (r < 0)
		close_all(e);
	return r;
}

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

static int get_fd(const struct ringtls_engine *e)
{
	struct state *s = e->state;

	ringtls__event_watch(e, &s->shown);
	return s->epoll;
}

static ssize_t run(struct ringtls_engine *e, const struct ringtls__op *op, int flags)
{
	off_t offset = op->offset;

	if (op->kind == RINGTLS__OP_READ)
		return e->sys->pread(op->file, op->iov[0].iov_base, op->len, offset);
	e->transmit_calls++;
	if (op->kind == RINGTLS__OP_SENDFILE)
		return e->sys->sendfile(op->fd, op->file, &offset, op->len);
	return e->sys->sendmsg(op->fd, &op->msg, flags | (op->more ? MSG_MORE : 0));
}

static void transmit(struct ringtls_engine *e, struct ringtls__op *op)
{
	ringtls__op_done(e, op, run(e, op, op->nowait ? MSG_DONTWAIT : 0));
}

/* Nothing goes on without us here: it is over at once. */
static void start(struct ringtls_engine *e, struct ringtls__op *op)
{
	op->waiter = NULL;
	ringtls__op_done(e, op, run(e, op, MSG_DONTWAIT));
}

static void cancel(struct ringtls_engine *e, struct ringtls__op *op)
{
	(void)e;
	(void)op;
}

static int end_op(struct ringtls_engine *e, struct ringtls__op *op)
{
	(void)e;
	(void)op;
	return 0;
}

static int submit(struct ringtls_engine *e)
{
	(void)e;
	return 0;
}

/* One registration per socket, for all that its connection still waits for. */
static int watch(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	struct state *s = e->state;
	struct epoll_event ev = { .events = EPOLLONESHOT, .data.ptr = w };

	if (w->in.armed)
		ev.events |= EPOLLIN;
	if (w->out.armed)
		ev.events |= EPOLLOUT;
	if (epoll_ctl(s->epoll, w->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &ev) < 0)
		return -errno;
	w->added = true;
	return 0;
}

static void set_timer(struct state *s)
{
	struct itimerspec when = { 0 };

	if (s->timers) {
		when.it_value.tv_sec = s->timers->u.time.ts.tv_sec;
		when.it_value.tv_nsec = (long)s->timers->u.time.ts.tv_nsec;
	}
	timerfd_settime(s->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void arm_timer(struct state *s, struct ringtls__wait *wait)
{
	int64_t when = now_ns() + deadline_ns(wait);
	struct ringtls__wait **at = &s->timers;

	wait->u.time.ts.tv_sec = when / NS_PER_S;
	wait->u.time.ts.tv_nsec = when % NS_PER_S;
	while (*at && deadline_ns(*at) <= when)
		at = &(*at)->u.time.next;
	wait->u.time.next = *at;
	*at = wait;
	set_timer(s);
}

static int arm(struct ringtls_engine *e, struct ringtls__wait *wait)
{
	if (wait->events)
		return watch(e, ringtls__waiter_of(wait));
	arm_timer(e->state, wait);
	return 0;
}

static int disarm(struct ringtls_engine *e, struct ringtls__waiter *w)
{
	struct state *s = e->state;

	if (w->added)
		epoll_ctl(s->epoll, EPOLL_CTL_DEL, w->fd, NULL);
	w->added = false;
	if (w->timer.armed) {
		struct ringtls__wait **at = &s->timers;

		while (*at != &w->timer)
			at = &(*at)->u.time.next;
		*at = w->timer.u.time.next;
		set_timer(s);
	}
	w->in.armed = w->out.armed = w->timer.armed = false;
	return 0;
}

static void fire_timers(struct ringtls_engine *e)
{
	struct state *s = e->state;
	int64_t now = now_ns();

	while (s->timers && deadline_ns(s->timers) <= now) {
		struct ringtls__wait *wait = s->timers;

		s->timers = wait->u.time.next;
		ringtls__wait_done(e, wait);
	}
	/* Setting it also takes back its readiness. */
	set_timer(s);
}

static void fire(struct ringtls_engine *e, struct ringtls__waiter *w, uint32_t events)
{
	const uint32_t both = EPOLLERR | EPOLLHUP;

	if (w->in.armed && (events & (EPOLLIN | both)))
		ringtls__wait_done(e, &w->in);
	if (w->out.armed && (events & (EPOLLOUT | both)))
		ringtls__wait_done(e, &w->out);
	/* Without memory to go on waiting an event too many is told: it is a hint. */
	if ((w->in.armed || w->out.armed) && watch(e, w) < 0)
		ringtls__wait_done(e, w->in.armed ? &w->in : &w->out);
}

static int collect(struct ringtls_engine *e, int timeout_ms)
{
	struct state *s = e->state;
	struct epoll_event evs[64];
	int n = epoll_wait(s->epoll, evs, 64, timeout_ms);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		if (evs[i].data.ptr == &s->timer)
			fire_timers(e);
		else if (evs[i].data.ptr == &s->shown.event)
			unkick(e); /* whoever sleeps here kicks again if need be */
		else
			fire(e, evs[i].data.ptr, evs[i].events);
	}
	return 0;
}

const struct ringtls__backend ringtls__backend_syscalls = {
	.id = RINGTLS_BACKEND_SYSCALLS,
	.may_sleep = true,
	.open = open_all,
	.close = close_all,
	.fd = get_fd,
	.transmit = transmit,
	.start = start,
	.cancel = cancel,
	.end_op = end_op,
	.submit = submit,
	.arm = arm,
	.disarm = disarm,
	.collect = collect,
	.kick = kick,
	.unkick = unkick,
};
