/*
 * stream.c - what the SSL_write family is made of: running the state machine on
 * the engine, calling into OpenSSL, and waiting, or saying what to wait for.
 */
#include "config.h"
#include "session.h"
#include "wipe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/time.h>
#include <openssl/err.h>

/* What a call may read from the socket at most, a full record and a little: a peer
 * that only sends KeyUpdates (OpenSSL answers each second one on the spot) costs
 * its own connection, not the others of the thread. */
#define READ_MAX (RINGTLS__RECORD_MAX + 1024)

/* ---- Waiting ----------------------------------------------------------- */

/*
 * Whether calls block is asked when it matters, not remembered: the caller may
 * change it, as with OpenSSL. 1, 0, or a negated errno.
 */
int ringtls__is_blocking(struct ringtls_conn *c)
{
	int flags;

	if (c->bios.own || !c->engine->backend->may_sleep)
		return 0;
	flags = c->engine->sys->getfl(c->fd);
	return flags < 0 ? flags : !(flags & O_NONBLOCK);
}

/* SO_RCVTIMEO or SO_SNDTIMEO bounds a blocking call, as it does OpenSSL's. */
static int timeout_ms(struct ringtls_conn *c, short events)
{
	struct timeval tv = { 0 };
	socklen_t len = sizeof(tv);
	int r = c->engine->sys->getsockopt(c->fd, SOL_SOCKET,
					   events & POLLIN ? SO_RCVTIMEO : SO_SNDTIMEO, &tv, &len);

	if (r < 0 || (!tv.tv_sec && !tv.tv_usec) || tv.tv_sec > INT_MAX / 1000 - 1)
		return -1;
	return (int)(tv.tv_sec * 1000 + (tv.tv_usec + 999) / 1000);
}

static int leave_behind(struct ringtls_conn *c, short events, unsigned ms)
{
	int r = 0;

	c->is_wanted |= !c->is_queue;
	if (!events || (events & POLLOUT))
		r = ringtls__waiter_arm(c->engine, &c->waiter, events & POLLOUT, ms);
	if (r >= 0 && (events & POLLIN))
		r = ringtls__waiter_arm(c->engine, &c->waiter, POLLIN, 0);
	return r < 0 ? r : -EAGAIN;
}

/* Sleeps, and answers 0; or leaves the waits behind, and answers -EAGAIN. */
int ringtls__pause_for(struct ringtls_conn *c, short events, unsigned ms)
{
	int r = c->must_not_sleep ? 0 : ringtls__is_blocking(c);

	if (r < 0)
		return r;
	if (c->bios.own) /* only the caller knows when it goes on */
		return -EAGAIN;
	c->waits++;
	if (!r)
		return leave_behind(c, events, ms);
	return ringtls__waiter_sleep(c->engine, &c->waiter, events, ms,
				     events ? timeout_ms(c, events) : -1);
}

/* ---- What OpenSSL wrote ------------------------------------------------ */

/* The peer gets what is sealed and close_notify, under the key it knows. */
static void end_in_order(struct ringtls_conn *c)
{
	static const uint8_t close_notify[] = { 1, 0 };
	int r;

	if (c->tx.close_error)
		return;
	c->tx.close_error = RINGTLS_E_REKEY;
	r = ringtls__txq_copy(&c->bios.inbox, RINGTLS__ITEM_RECORD, RINGTLS__RECORD_ALERT,
			      close_notify, sizeof(close_notify), sizeof(close_notify));
	if (r >= 0)
		r = ringtls__txq_close(&c->bios.inbox);
	if (r < 0)
		ringtls__tx_fail(&c->tx, r);
}

/* While an op is in flight nothing may get before the bytes that it moves: what OpenSSL
 * wrote stays in the inbox until it is over. */
void ringtls__take_inbox(struct ringtls_conn *c)
{
	if (c->tx.in_flight)
		return;
	if (c->bios.ending && c->closing == OPEN)
		end_in_order(c);
	if (c->bios.error)
		ringtls__tx_fail(&c->tx, c->bios.error);
	if (c->tx.state == RINGTLS__TX_FAILED || c->tx.state == RINGTLS__TX_CLOSED)
		ringtls__txq_fini(&c->bios.inbox); /* nothing may follow */
	else
		ringtls__txq_take(&c->tx.q, &c->bios.inbox);
}

/*
 * Makes OpenSSL write a KeyUpdate, and the next key with it; where there can be
 * none, what it wrote is withheld and the connection ends in order.
 */
int ringtls__push_key_update(struct ringtls_conn *c, int type)
{
	int r;

	if (SSL_key_update(c->ssl, type) != 1)
		return RINGTLS_E_TLS;
	ERR_set_mark();
	r = SSL_do_handshake(c->ssl);
	ERR_pop_to_mark();
	/* Out of memory, say, between the message and the key: then what was written must not go
	 * out, as the peer would take what follows it for sealed with the next key. Where there can
	 * be none, it is withheld already. */
	if (r != 1 && SSL_want(c->ssl) == SSL_NOTHING && !c->bios.ending && !c->bios.error)
		c->bios.error = RINGTLS_E_TLS;
	ringtls__take_inbox(c);
	ringtls__wipe_stack(); /* openssl lane: a key has ended */
	return r == 1 ? 0 : RINGTLS_E_TLS;
}

/* The key has sealed as many records as it may (RFC 8446 5.5). */
static void renew_key(struct ringtls_conn *c)
{
	if (ringtls__bios_rekey(&c->bios) != RINGTLS__REKEY_NO &&
	    SSL_version(c->ssl) == TLS1_3_VERSION) {
		ringtls__push_key_update(c, SSL_KEY_UPDATE_NOT_REQUESTED);
		if (c->tx.q.head && c->tx.q.head->kind == RINGTLS__ITEM_RECORD)
			return;
	}
	c->bios.ending = true;
	ringtls__take_inbox(c);
}

/* ---- Sending ----------------------------------------------------------- */

/* An op that was started is over. */
static void finish_op(struct ringtls_conn *c)
{
	struct ringtls__op *op = c->op;

	c->waiter.op_over = false;
	ringtls__tx_complete(&c->tx, op);
	c->op = NULL;
	ringtls__pool_put(&c->engine->pool, op);
	ringtls__take_inbox(c);
	if (c->requests.head)
		ringtls__account(c);
}

/* What is still in flight is to the calls what a full socket is. */
int ringtls__await(struct ringtls_conn *c, const struct ringtls__op *op)
{
	int r = c->must_not_sleep ? 0 : ringtls__is_blocking(c);

	if (r > 0)
		return ringtls__engine_finish(c->engine, op);
	c->is_wanted |= !c->is_queue;
	return r < 0 ? r : -EAGAIN;
}

static int await_op(struct ringtls_conn *c)
{
	int r;

	if (!c->tx.in_flight)
		return 0;
	r = c->op->done ? 0 : ringtls__await(c, c->op);
	if (r >= 0)
		finish_op(c);
	return r;
}

int ringtls__end_op(struct ringtls_conn *c)
{
	int r = 0;

	if (!c->tx.in_flight)
		return 0;
	r = ringtls__engine_end(c->engine, c->op);
	if (r >= 0)
		finish_op(c);
	return r;
}

static int run_wait(struct ringtls_conn *c)
{
	struct ringtls__op *op = c->op;
	int r = ringtls__pause_for(c, op->kind == RINGTLS__OP_POLL ? op->events : 0, op->ms);

	/* Left behind or over: either way the machine asks again next time. */
	op->res = 0;
	ringtls__tx_complete(&c->tx, op);
	return r;
}

/* The caller's BIO takes what it takes at once: nothing is ever in flight to it. */
static void send_to_own(struct ringtls_conn *c, struct ringtls__op *op)
{
	op->waiter = NULL;
	ringtls__op_done(c->engine, op, ringtls__own_send(&c->bios, op->iov, op->iovcnt));
	if (c->is_queue)
		ringtls__round_count(c->engine, op);
}

/*
 * The first try never waits. On a blocking socket the next one may, where the
 * socket is plain; on a kTLS socket a sleeping sender holds the kernel's lock, and
 * a signal may break the connection (kmod-notes/flags.md): there we poll.
 */
static int run_op(struct ringtls_conn *c, bool *waits)
{
	struct ringtls__op *op = c->op;
	int r = 0;

	op->nowait = !(*waits && op->plain);
	if (c->bios.own && op->kind == RINGTLS__OP_SEND)
		send_to_own(c, op);
	else
		ringtls__engine_run(c->engine, op);
	if (ringtls__op_transmits(op) && op->res == -EAGAIN) {
		r = op->plain && !*waits && !c->must_not_sleep ? ringtls__is_blocking(c) : 0;
		*waits = r > 0;
		if (r == 0)
			r = ringtls__pause_for(c, POLLOUT, 0);
	}
	ringtls__tx_complete(&c->tx, op);
	return r < 0 ? r : 0;
}

/* It goes on when the call has ended: a ring waits for room by itself. */
static int start_op(struct ringtls_conn *c)
{
	struct ringtls__op *op = c->op;
	int r = 0;

	op->nowait = false;
	/* Held back until the op is done, what does not fill a segment could be all that fits. */
	op->many = op->many && !ringtls__is_small_buffer(c);
	ringtls__engine_start(c->engine, &c->waiter, op);
	if (!op->done)
		return -EAGAIN;
	if (op->res == -EAGAIN)
		r = ringtls__pause_for(c, POLLOUT, 0);
	ringtls__tx_complete(&c->tx, op);
	return r;
}

/* No next key will be derived: OpenSSL seals, or this is the end, or the kernel can take none. */
static bool has_its_last_key(const struct ringtls_conn *c)
{
	return !c->bios.keyed || c->bios.ending || c->tx.state == RINGTLS__TX_CLOSED ||
	       c->tx.state == RINGTLS__TX_FAILED ||
	       (c->tx.state == RINGTLS__TX_KERNEL && !c->bios.may_rekey);
}

/* What the next keys would be derived from is not kept for nothing. */
static void drop_secret(struct ringtls_conn *c)
{
	if (c->bios.secret && c->is_settled && has_its_last_key(c))
		ringtls__bios_forget(&c->bios);
}

static void note_lane(struct ringtls_conn *c)
{
	const struct ringtls__lane *lane = ringtls__tx_lane(&c->tx);

	if (c->is_settled && lane)
		c->lane = (uint8_t)lane->id;
	/* A key that the kernel refused is sealed with here, and so is the next one. */
	if (c->tx.state == RINGTLS__TX_USER)
		c->bios.may_rekey = true;
	drop_secret(c);
}

static void fail(struct ringtls_conn *c, int error)
{
	ringtls__requests_fail(c, error);
	drop_secret(c);
}

static int run(struct ringtls_conn *c, bool *waits)
{
	if (c->op->kind == RINGTLS__OP_POLL || c->op->kind == RINGTLS__OP_TIMER)
		return run_wait(c);
	if (c->is_queue && ringtls__op_transmits(c->op) && !c->bios.own)
		return start_op(c);
	return run_op(c, waits);
}

#define IDLE 1

/* 0: go on; IDLE: nothing is left; -EAGAIN, or the error of the transmit side. */
static int step(struct ringtls_conn *c, bool *waits)
{
	int r;

	if (c->tx.keeps_key)
		ringtls__promote(c);
	r = ringtls__tx_next(&c->tx, c->op);
	note_lane(c);
	if (r > 0)
		r = run(c, waits);
	else if (r == 0 && c->tx.rekey_due)
		renew_key(c);
	else if (r == 0)
		r = ringtls__has_more(c) ? 0 : IDLE;
	if (c->requests.head)
		ringtls__account(c);
	return r;
}

int ringtls__drive(struct ringtls_conn *c)
{
	bool waits = false, untold = c->engine->told_head;
	int r;

	do {
		ringtls__requests_drop_read(c);
		r = await_op(c);
		if (r >= 0 && c->requests.head)
			r = ringtls__feed(c);
		if (r >= 0) {
			c->op = &c->engine->op;
			r = step(c, &waits);
		}
	} while (r == 0);
	if (r < 0 && r != -EAGAIN)
		fail(c, r);
	/* A call may drive out what was queued before it. */
	if (c->engine->told_head && !untold)
		ringtls__engine_kick(c->engine);
	return r == IDLE ? 0 : r;
}

/* As step, with an op that may outlive it. */
static int step_queue(struct ringtls_conn *c)
{
	bool waits = false;
	size_t room;
	int r;

	c->op = ringtls__pool_get(&c->engine->pool, sizeof(*c->op), &room);
	if (!c->op) {
		ringtls__tx_fail(&c->tx, -ENOMEM);
		return -ENOMEM;
	}
	r = step(c, &waits);
	if (!c->tx.in_flight) {
		ringtls__pool_put(&c->engine->pool, c->op);
		c->op = NULL;
	}
	return r;
}

static int start_next(struct ringtls_conn *c)
{
	int r = c->requests.head ? ringtls__feed(c) : 0;

	return r < 0 ? r : step_queue(c);
}

/* What is queued waits for what only the caller knows the end of. */
static bool is_the_callers_turn(const struct ringtls_conn *c)
{
	return c->bios.own || (c->requests.given_want != SSL_ERROR_NONE &&
			       c->requests.given_want != SSL_ERROR_WANT_READ);
}

void ringtls__advance(struct ringtls_conn *c)
{
	int r;

	if (c->is_ending)
		return;
	ringtls__requests_drop_read(c);
	if (!c->requests.head && !c->tx.in_flight)
		return;
	c->is_queue = c->must_not_sleep = true;
	r = await_op(c);
	if (r >= 0 && !(c->requests.head && ringtls__round_is_full(c->engine)))
		r = start_next(c);
	c->is_queue = c->must_not_sleep = false;
	/* One op a turn: others have queues, too. */
	if (r == 0 && c->requests.head)
		ringtls__requests_work(c);
	else if (r < 0 && r != -EAGAIN)
		fail(c, r);
	else if (is_the_callers_turn(c) && c->requests.head && !c->requests.read)
		ringtls__waiter_hold(c->engine, &c->waiter);
}

/* ---- Answers ----------------------------------------------------------- */

int ringtls__want(struct ringtls_conn *c, int ssl_error)
{
	/* What is queued, or the caller's BIO, may want something else before it takes more. */
	if (ssl_error == SSL_ERROR_WANT_WRITE && c->requests.given_want)
		ssl_error = c->requests.given_want;
	else if (ssl_error == SSL_ERROR_WANT_WRITE && c->bios.own)
		ssl_error = c->bios.own_want;
	c->error = ssl_error;
	return -1;
}

int ringtls__refused(struct ringtls_conn *c, int ssl_reason)
{
	ERR_raise(ERR_LIB_SSL, ssl_reason);
	return ringtls__want(c, SSL_ERROR_SSL);
}

int ringtls__failed(struct ringtls_conn *c, int error)
{
	if (error >= -4095) {
		errno = -error;
		return ringtls__want(c, SSL_ERROR_SYSCALL);
	}
	/* Behind what OpenSSL has said about it. */
	ERR_raise_data(ERR_LIB_SSL, ERR_R_OPERATION_FAIL, "ringtls: %s", ringtls_strerror(error));
	return ringtls__want(c, SSL_ERROR_SSL);
}

/* ---- Calling into OpenSSL ---------------------------------------------- */

void ringtls__answer_now(struct ringtls_conn *c)
{
	if (c->bios.keyed && SSL_get_key_update_type(c->ssl) != SSL_KEY_UPDATE_NONE)
		ringtls__push_key_update(c, SSL_KEY_UPDATE_NOT_REQUESTED);
}

/*
 * OpenSSL sends its answer to a KeyUpdate from a write, and our writes go past it:
 * so it is pushed out here. One answer does for all that were asked for before it
 * (RFC 8446 4.6.3): while one waits in the queue a second is put off, until there is
 * something to write, so that who only asks does not fill our memory.
 */
void ringtls__answer_key_update(struct ringtls_conn *c)
{
	if (!ringtls__txq_has_key(&c->tx.q) && !ringtls__txq_has_key(&c->bios.inbox))
		ringtls__answer_now(c);
}

/*
 * From 3.2 on OpenSSL loses what it has read ahead of a KeyUpdate where SSL_OP_ENABLE_KTLS is set
 * and the kernel does not take the key: the record layer that was tried first takes it along.
 * OpenSSL alone does so, too. Pinned by test_rekey, updates_that_were_read_ahead.
 */
static void read_no_further(struct ringtls_conn *c)
{
	if (!SSL_get_read_ahead(c->ssl) || !(SSL_get_options(c->ssl) & SSL_OP_ENABLE_KTLS))
		return;
	SSL_set_read_ahead(c->ssl, 0);
	c->no_read_ahead = true;
}

int ringtls__call_openssl(struct ringtls_conn *c, ringtls__ssl_call *call, void *arg)
{
	int r;

	read_no_further(c);

	/* SSL_get_error(3) takes any old entry for this call's. */
	ERR_clear_error();
	c->bios.read_left = READ_MAX;
	c->bios.is_starved = false;
	c->bios.is_behind = c->tx.q.head || c->tx.in_flight;
	c->bios.read_errno = 0; /* an earlier call's is not this one's */
	errno = 0;
	r = call(c, arg);
	c->sys_errno = errno;
	c->error = r > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, r);
	if (c->error == SSL_ERROR_SSL || c->error == SSL_ERROR_SYSCALL)
		c->is_dead = true;
	else
		ringtls__answer_key_update(c);
	/* Where the socket had no error it is OpenSSL's, which is out of memory and says
	 * nothing of it in its queue. */
	if (c->bios.read_errno)
		c->sys_errno = c->bios.read_errno;
	ringtls__take_inbox(c);
	return r;
}

/* What is to be sent waits for room, or its end. What is queued may also wait for the peer or for
 * the caller (feed.c), and then there is nothing to wait for here. */
static bool is_held_up(const struct ringtls_conn *c)
{
	return c->sent == -EAGAIN && (c->tx.in_flight || !ringtls__tx_is_idle(&c->tx));
}

/*
 * Waits for input, and for room where output is held up. 0, -EAGAIN, or an error.
 * Without SSL_MODE_AUTO_RETRY OpenSSL says WANT_READ with more in its own buffer:
 * then, as there, it is the caller's turn, and no poll would ever tell.
 */
static int await_input(struct ringtls_conn *c)
{
	/* What is in flight ends by itself, and is told as an end. */
	short out = is_held_up(c) && !c->tx.in_flight ? POLLOUT : 0;

	if (c->bios.is_starved || c->bios.own)
		return ringtls__pause_for(c, (short)(POLLIN | out), 0);
	c->is_wanted = true;
	ringtls__waiter_wake(c->engine, &c->waiter);
	return -EAGAIN;
}

static int finish(struct ringtls_conn *c, int r)
{
	if (c->error == SSL_ERROR_SYSCALL)
		errno = c->sys_errno;
	return r;
}

int ringtls__pump(struct ringtls_conn *c, ringtls__ssl_call *call, void *arg)
{
	int r, waited;

	for (;;) {
		r = ringtls__call_openssl(c, call, arg);
		c->sent = ringtls__drive(c);
		if (c->error != SSL_ERROR_WANT_READ && c->error != SSL_ERROR_WANT_WRITE)
			return finish(c, r);
		if (c->sent == -EAGAIN)
			return ringtls__want(c, SSL_ERROR_WANT_WRITE);
		if (c->sent < 0)
			return ringtls__failed(c, c->sent);
		/* WANT_WRITE is the inbox's, and that is empty again; or the caller's BIO's. */
		waited = c->error == SSL_ERROR_WANT_READ || c->bios.own ? await_input(c) : 0;
		if (waited == -EAGAIN)
			return -1;
		if (waited < 0)
			return ringtls__failed(c, waited);
	}
}

/* A read does not sleep until its answers are sent: the peer may be waiting for us
 * to read, just as we for it. */
static int drive_without_sleep(struct ringtls_conn *c)
{
	int r;

	c->must_not_sleep = true;
	r = ringtls__drive(c);
	c->must_not_sleep = false;
	return r;
}

/* In a handshake the peer waits for what could not be sent; else it need not. */
static int want_of_read(struct ringtls_conn *c)
{
	bool held_up = is_held_up(c);

	if (c->bios.own && !held_up) /* it is the BIO's that is read from */
		return -1;
	if (c->error == SSL_ERROR_WANT_WRITE || (held_up && SSL_in_init(c->ssl)))
		return ringtls__want(c, SSL_ERROR_WANT_WRITE);
	return ringtls__want(c, SSL_ERROR_WANT_READ);
}

/* Records that OpenSSL may have waiting to be sent before it reads on: a peer that
 * asks and does not read must not fill our memory. */
#define RECORDS_MAX 64

int ringtls__pump_read(struct ringtls_conn *c, ringtls__ssl_call *call, void *arg)
{
	int r, waited;

	for (;;) {
		if (c->tx.q.owned + c->bios.inbox.owned > RECORDS_MAX && ringtls__drive(c) == -EAGAIN)
			return ringtls__want(c, SSL_ERROR_WANT_WRITE);
		r = ringtls__call_openssl(c, call, arg);
		c->sent = drive_without_sleep(c);
		if (c->error != SSL_ERROR_WANT_READ && c->error != SSL_ERROR_WANT_WRITE)
			return finish(c, r);
		if (c->error == SSL_ERROR_WANT_WRITE && c->sent != -EAGAIN && !c->bios.own)
			continue; /* it was the inbox's, and that is empty again */
		/* A transmit side that failed does not keep the peer's bytes from us. */
		waited = await_input(c);
		if (waited == -EAGAIN)
			return want_of_read(c);
		if (waited < 0)
			return ringtls__failed(c, waited);
	}
}

/* ---- Handshake --------------------------------------------------------- */

static int do_handshake(struct ringtls_conn *c, void *arg)
{
	(void)arg;
	return SSL_do_handshake(c->ssl);
}

/* A lane that was named never becomes another. */
static int settle(struct ringtls_conn *c)
{
	bool named = c->asked == RINGTLS_LANE_KERNEL || c->asked == RINGTLS_LANE_USER;

	int r = 0;

	if (c->is_late && c->bios.mask) {
		ringtls__push_key_update(c, SSL_KEY_UPDATE_NOT_REQUESTED);
		r = ringtls__drive(c);
	}
	c->is_settled = true;
	note_lane(c);
	if (r < 0 && r != -EAGAIN)
		return ringtls__failed(c, r);
	if (c->bios.keyed || !named)
		return r == -EAGAIN ? ringtls__want(c, SSL_ERROR_WANT_WRITE) : 1;
	ringtls__tx_fail(&c->tx, RINGTLS_E_LANE);
	return ringtls__failed(c, RINGTLS_E_LANE);
}

int ringtls__handshake(struct ringtls_conn *c)
{
	int r = ringtls__pump(c, do_handshake, NULL);

	if (r <= 0)
		return r;
	if (c->sent == -EAGAIN)
		return ringtls__want(c, SSL_ERROR_WANT_WRITE);
	if (c->sent < 0)
		return ringtls__failed(c, c->sent);
	return c->is_settled ? 1 : settle(c);
}

int ringtls__may_write(struct ringtls_conn *c)
{
	if (c->tx.state == RINGTLS__TX_FAILED)
		return ringtls__failed(c, c->tx.error);
	if (c->is_dead)
		return ringtls__failed(c, RINGTLS_E_TLS);
	if (!c->is_settled)
		return ringtls__handshake(c);
	if (c->closing != OPEN || (SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN))
		return ringtls__refused(c, SSL_R_PROTOCOL_IS_SHUTDOWN);
	ringtls__answer_now(c); /* what was put off goes before the next data, not behind it */
	return 1;
}

int ringtls__may_call(struct ringtls_conn *c)
{
	int r = ringtls__may_write(c);

	if (r <= 0 || !c->requests.head)
		return r;
	r = ringtls__drive(c);
	if (r == -EAGAIN)
		return ringtls__want(c, SSL_ERROR_WANT_WRITE);
	return r < 0 ? ringtls__failed(c, r) : 1;
}
