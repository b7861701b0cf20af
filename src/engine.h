/*
 * engine.h - what submits ops and collects their answers; one per thread. The
 * two backends are engine_uring.c and engine_syscalls.c; what they share is in
 * engine.c.
 */
#ifndef RINGTLS_ENGINE_H
#define RINGTLS_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <ringtls/ringtls.h>
#include "op.h"
#include "pool.h"
#include "sys.h"

/* A wait that goes on between calls. Its memory is the kernel's while it is armed. Every
 * connection has three, in use or not: so it is small. */
struct ringtls__wait {
	union {
		struct ringtls__flight flight; /* of one for a socket */
		struct {
			struct ringtls__wait *next; /* syscalls: the next to be over */
			struct {
				int64_t tv_sec;
				long long tv_nsec;
			} ts; /* struct __kernel_timespec; syscalls: the deadline */
		} time;
	} u;
	short events; /* POLLIN, POLLOUT; 0: for a time */
	bool armed;
};

/* Those that have something to start. */
enum ringtls__work {
	RINGTLS__WORK_NONE,
	RINGTLS__WORK_BRIEF, /* and not much */
	RINGTLS__WORK_BULK,
	RINGTLS__WORK_HELD, /* only the caller knows when they can go on */
	RINGTLS__WORKS
};

/* What a connection waits for between calls. Embedded in the connection. */
struct ringtls__waiter {
	struct ringtls__wait in, out, timer;
	int fd;
	uint32_t fixed_file; /* the socket's place among the ring's files, plus 1; or 0 */
	struct ringtls__waiter *next;
	struct ringtls__waiter *next_work, **at_work;
	void *user;    /* the caller's, who is told it with each event */
	uint8_t work;  /* enum ringtls__work: the engine's list that it is in */
	bool ready;    /* in the engine's list of those that may go on */
	bool op_over;  /* an op that was started has ended since its owner last looked */
	bool is_brief; /* what it has to start is soon done: the owner's to say */
	bool added;    /* syscalls: epoll knows the socket */
};

/* Whose wait it is. */
struct ringtls__waiter *ringtls__waiter_of(struct ringtls__wait *wait);

struct ringtls__work_list {
	struct ringtls__waiter *head;
	struct ringtls__waiter **tail;
	unsigned count;
};

/* What a backend of ours shows by its descriptor of what only the engine's lists know. */
struct ringtls__shown {
	int event;       /* an eventfd */
	bool is_watched; /* somebody has the descriptor; until then */
	bool is_kicked;  /* what it would show is kept here */
};

struct ringtls__told;

struct ringtls__backend {
	uint32_t id;    /* enum ringtls_backend */
	bool may_sleep; /* collect can wait */

	/* 0, or a negated errno with the engine's reason set. */
	int (*open)(struct ringtls_engine *e, unsigned entries);
	bool (*is_busy)(const struct ringtls_engine *e); /* can't be closed yet; or NULL */
	void (*close)(struct ringtls_engine *e);
	int (*fd)(const struct ringtls_engine *e);

	/* Runs a transmit op to its end: at once if it is nowait, else when a first
	 * byte (plain: all bytes) is taken. Fills res and done. */
	void (*transmit)(struct ringtls_engine *e, struct ringtls__op *op);

	bool reads_behind; /* READ ops, that is: they don't hold up who starts them */

	/* Starts a transmit or READ op without waiting for its end: that comes in a later
	 * collect, or at once (done). What is started goes out together, at the next submit
	 * or collect; -EAGAIN: the socket is full, and was not waited for. */
	void (*start)(struct ringtls_engine *e, struct ringtls__op *op);

	/* Asks for the end of an op that was started; it still comes in a collect. */
	void (*cancel)(struct ringtls_engine *e, struct ringtls__op *op);

	/* The same, and waits for it, if it can. 0, or a negated errno. */
	int (*end_op)(struct ringtls_engine *e, struct ringtls__op *op);

	/* Starts a wait; it ends in a later collect. 0 or a negated errno. */
	int (*arm)(struct ringtls_engine *e, struct ringtls__wait *wait);

	/* Ends a connection's waits: afterwards the engine knows none of them. -EBUSY: they
	 * will end, and it must be asked again. */
	int (*disarm)(struct ringtls_engine *e, struct ringtls__waiter *w);

	/* Hands over what was started. 0 or a negated errno. */
	int (*submit)(struct ringtls_engine *e);

	/* Makes the descriptor readable, or not, for what only the engine's lists know; that
	 * matters only to who has it, and not in a fork's child, where it is the parent's and a
	 * ring may not be there at all. False: on a ring of the caller's there is no room to. */
	bool (*kick)(struct ringtls_engine *e);
	void (*unkick)(struct ringtls_engine *e);

	/* Collects answers, waiting up to timeout_ms (-1: for one) for a first.
	 * 0, -EINTR, or another negated errno. */
	int (*collect)(struct ringtls_engine *e, int timeout_ms);
};

extern const struct ringtls__backend ringtls__backend_uring;
extern const struct ringtls__backend ringtls__backend_syscalls;
extern const struct ringtls__backend ringtls__backend_caller;

struct ringtls_engine {
	const struct ringtls__backend *backend;
	void *state; /* the backend's */
	const struct ringtls__sys *sys;
	struct ringtls__pool pool;
	struct ringtls_engine_opts opts;
	uint32_t reason;
	int reason_errno;
	uint32_t connections;
	pid_t pid; /* a fork's child has the same descriptors, and must leave them alone */
	struct ringtls__waiter *ready_head;
	struct ringtls__waiter **ready_tail;
	struct ringtls__work_list works[RINGTLS__WORKS];
	struct ringtls__told *told_head; /* queue.c: what the caller is to be told */
	struct ringtls__told **told_tail;
	struct ringtls__op op; /* of the call that runs */
	/* Ops that were started in this round, and their bytes. */
	unsigned started;
	size_t started_bytes;
	bool is_lone; /* what is started now is all that the round will have, and brief */
	unsigned stall_ms;	/* how often what waits in a ring is compared with poll(2) */
	uint64_t ops, bytes, short_sends, transmit_calls, waits, enters;
	uint64_t stalls; /* waits that only poll(2) knew to be over */
};

/* As ringtls_engine_new, on a table of system calls that a test may bend. */
int ringtls__engine_new_on(struct ringtls_engine **ret_engine,
			   const struct ringtls_engine_opts *opts, const struct ringtls__sys *sys);

/* Runs a transmit or control op to its end. */
void ringtls__engine_run(struct ringtls_engine *e, struct ringtls__op *op);

void ringtls__waiter_init(struct ringtls__waiter *w, int fd, void *user);
/* Ends its waits: 0, or an error, and then it stays as it is. */
int ringtls__waiter_disarm(struct ringtls_engine *e, struct ringtls__waiter *w);
void ringtls__waiter_fini(struct ringtls_engine *e, struct ringtls__waiter *w);

/* Starts waiting for POLLIN, POLLOUT or (events 0) for ms, unless it does so
 * already. When it is over the connection is among the ready. 0 or a negated errno. */
int ringtls__waiter_arm(struct ringtls_engine *e, struct ringtls__waiter *w, short events,
			unsigned ms);

/* The same for one or both of POLLIN and POLLOUT, or for ms, and sleeps until one is
 * over; -EAGAIN after timeout_ms (-1: never). Others become ready meanwhile. */
int ringtls__waiter_sleep(struct ringtls_engine *e, struct ringtls__waiter *w, short events,
			  unsigned ms, int timeout_ms);

/* Puts the connection among the ready, for what no wait would show. */
void ringtls__waiter_wake(struct ringtls_engine *e, struct ringtls__waiter *w);

/* Starts an op for a connection, which is among the ready when it ends later. */
void ringtls__engine_start(struct ringtls_engine *e, struct ringtls__waiter *w,
			   struct ringtls__op *op);

/* What is started in one round is bounded; ringtls__round_little_more: by less from now on,
 * but one more at least may be started. */
void ringtls__round_begin(struct ringtls_engine *e);
void ringtls__round_little_more(struct ringtls_engine *e);
bool ringtls__round_is_full(const struct ringtls_engine *e);

/* For what is run in a round and not by ringtls__engine_start. */
void ringtls__round_count(struct ringtls_engine *e, const struct ringtls__op *op);

/* Waits for the end of an op that was started. 0, or a negated errno. */
int ringtls__engine_finish(struct ringtls_engine *e, const struct ringtls__op *op);

/* The same, and asks for it. In a fork's child the op is the parent's, and this only a
 * copy: there it counts as cancelled. */
int ringtls__engine_end(struct ringtls_engine *e, struct ringtls__op *op);

/* Those that may go on, and those with something to start, in one of the lists or the other:
 * the first is taken out of it. NULL: there is none. */
struct ringtls__waiter *ringtls__engine_next_ready(struct ringtls_engine *e);
struct ringtls__waiter *ringtls__work_next(struct ringtls_engine *e, enum ringtls__work work);
void ringtls__waiter_work(struct ringtls_engine *e, struct ringtls__waiter *w);

/* It has something to start, but not before the caller's next call, which puts all such
 * among those that have. */
void ringtls__waiter_hold(struct ringtls_engine *e, struct ringtls__waiter *w);
void ringtls__engine_unhold(struct ringtls_engine *e);

/* What the caller's loop sleeps on shows that there is more to do; false: on a ring of the caller's
 * there is no room to. */
bool ringtls__engine_has_more(const struct ringtls_engine *e);
bool ringtls__engine_kick(struct ringtls_engine *e);
bool ringtls__engine_kick_if_more(struct ringtls_engine *e);

/* A time that is over in timeout_ms, and what is left of it; -1: never. */
int64_t ringtls__deadline(int timeout_ms);
int ringtls__left_ms(int64_t deadline);

/* For backends: to show that there is more, or nothing that is known; and that somebody has the
 * descriptor now, who hears of what was there before. In a fork's child it is the parent's. */
void ringtls__event_kick(const struct ringtls_engine *e, struct ringtls__shown *shown);
void ringtls__event_unkick(struct ringtls__shown *shown);
void ringtls__event_watch(const struct ringtls_engine *e, struct ringtls__shown *shown);

/* For backends: a wait, or an op, is over. */
void ringtls__wait_done(struct ringtls_engine *e, struct ringtls__wait *wait);
void ringtls__op_done(struct ringtls_engine *e, struct ringtls__op *op, ssize_t res);

#endif
