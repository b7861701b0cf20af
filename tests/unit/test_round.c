/*
 * test_round.c - what one call of the engine starts, whose turn it is, and that what it leaves
 * for the next calls is never forgotten: in every lane and engine, TLS 1.2 and 1.3.
 */
#include "support.h"
#include "list.h"
#include "many.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_started(const struct one *m)
{
	return m->conn->tx.in_flight || m->conn->tx.app_bytes > 0;
}

/* Of those from the first to before the last. */
static int started(int first, int last)
{
	int n = 0;

	for (int i = first; i < last; i++)
		n += is_started(&ones[i]);
	return n;
}

static void queue_each(int first, int last, size_t len)
{
	for (int i = first; i < last; i++)
		assert_int_equal(many_queue(&ones[i], len), 1);
}

/* Of requests that are so long, the number that fills a part of a round. OpenSSL is given a piece
 * at a time, which is a record here. */
static int how_many(const struct pair *p, size_t part, size_t len)
{
	return (int)(part / (p->opts.lane == RINGTLS_LANE_OPENSSL ? RECORD : len));
}

/* ---- How much ---------------------------------------------------------- */

static void a_round_is_256_kib(void **state)
{
	enum { N = 40, LEN = 4 * RECORD };
	struct pair p;
	int one;

	many_open(&p, *state, N, 0);
	one = how_many(&p, 256 * 1024, LEN);
	queue_each(0, N, LEN);
	many_submit(&p);
	assert_int_equal(started(0, N), one);
	many_submit(&p);
	assert_int_equal(started(0, N), 2 * one);
	many_go_on(&p, N, 0);
	many_close(&p, N);
}

static void or_128_operations(void **state)
{
	struct pair p;

	many_open(&p, *state, MANY, 0);
	queue_each(0, MANY, 100);
	many_submit(&p);
	assert_int_equal(started(0, MANY), 128);
	many_submit(&p);
	assert_int_equal(started(0, MANY), MANY);
	many_go_on(&p, MANY, 0);
	many_close(&p, MANY);
}

static void or_64_kib_behind_brief_ones(void **state)
{
	struct pair p;

	many_open(&p, *state, FEW, 0);
	queue_each(0, FEW - 1, 2 * RECORD);
	queue_each(FEW - 1, FEW, 100);
	many_submit(&p);
	assert_int_equal(started(0, FEW - 1), how_many(&p, 64 * 1024, 2 * RECORD));
	assert_true(is_started(&ones[FEW - 1]));
	many_go_on(&p, FEW, 0);
	many_close(&p, FEW);
}

/* 8 requests, of together 16 KiB. */
static void brief_is_what_few_requests_of_a_record_are(void **state)
{
	enum { BULK = 6 };
	struct pair p;

	many_open(&p, *state, BULK + 4, 0);
	queue_each(0, BULK, 4 * RECORD);
	for (int i = 0; i < 9; i++) {
		queue_each(BULK, BULK + (i < 8 ? 2 : 1), 1); /* 9 and 8 */
		if (i < 2) {
			queue_each(BULK + 2, BULK + 3, RECORD / 2 + (size_t)i);
			queue_each(BULK + 3, BULK + 4, RECORD / 2);
		}
	}
	many_submit(&p);
	assert_int_equal(started(0, BULK), how_many(&p, 64 * 1024, 4 * RECORD));
	assert_false(is_started(&ones[BULK]));
	assert_true(is_started(&ones[BULK + 1]));
	assert_false(is_started(&ones[BULK + 2]));
	assert_true(is_started(&ones[BULK + 3]));
	many_go_on(&p, BULK + 9 + 8 + 2 + 2, 0);
	many_close(&p, BULK + 4);
}

static bool is_full;

/* Those of the first. */
static ssize_t refuse_when_full(int fd, const struct msghdr *msg, int flags)
{
	for (int i = 0; is_full && i < FEW / 2; i++)
		if (ones[i].fd == fd)
			return -EAGAIN;
	return ringtls__sys_real.sendmsg(fd, msg, flags);
}

/* What it can't take is not what the others may not have. On a ring it has no turn: what it was
 * given is in the ring. */
static void a_socket_that_is_full_does_not_use_up_a_round(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct ringtls__sys sys = ringtls__sys_real;
	struct pair p;

	sys.sendmsg = refuse_when_full;
	o.sys = &sys;
	many_open(&p, &o, FEW, 0);
	queue_each(0, FEW, 2 * RECORD);
	is_full = true;
	many_submit(&p);
	is_full = false;
	for (int i = 0; i < FEW / 2; i++)
		assert_int_equal(ones[i].conn->tx.app_bytes, 0);
	assert_int_equal(started(FEW / 2, FEW), FEW / 2);
	many_go_on(&p, FEW, 0);
	many_close(&p, FEW);
}

/* ---- Whose turn it is -------------------------------------------------- */

#define OP_MAX (17 * RECORD) /* what fits into a buffer of the pool; sealed, where we do so */

/* Nobody's comes twice before everybody's has come, whichever way an operation ends. */
static void turns_come_round(void **state)
{
	struct ringtls_event ev;
	struct pair p;

	many_open(&p, *state, FEW, 0);
	for (int i = 0; i < FEW; i++)
		many_queue_much(&ones[i]);
	for (int calls = 0; started(0, FEW) < FEW; calls++) {
		assert_true(calls < 4 * FEW);
		assert_true(many_wait(&p, &ev, 1, 0) >= 0);
		for (int i = 0; started(0, FEW) < FEW && i < FEW; i++) {
			const struct ringtls__tx *tx = &ones[i].conn->tx;

			assert_true(tx->app_bytes <= OP_MAX);
			assert_true(!tx->app_bytes || !tx->in_flight);
		}
	}
	many_close(&p, FEW);
}

/* The kernel lane's takes 16 pieces. */
static void a_turn_is_one_operation(void **state)
{
	enum { PIECES = 40, LEN = 4000 };
	struct iovec iov[PIECES];
	struct pair p;

	many_open(&p, *state, 1, 0);
	for (int i = 0; i < PIECES; i++)
		iov[i] = (struct iovec){many_bytes + i, LEN};
	assert_int_equal(ringtls_queue_writev(ones[0].conn, iov, PIECES, 0), 1);
	many_submit(&p);
	assert_true(is_started(&ones[0]));
	if (p.opts.lane == RINGTLS_LANE_KERNEL)
		assert_true(ones[0].conn->tx.app_bytes <= 16 * LEN);
	many_close(&p, 1);
}

/* What was queued last, a little, is first. */
static void who_has_much_does_not_hold_up_who_has_little(void **state)
{
	enum { LITTLE = FEW - 1 };
	struct ringtls_event ev;
	struct pair p;

	many_open(&p, *state, FEW, 0);
	for (int i = 0; i < LITTLE; i++)
		many_queue_much(&ones[i]);
	assert_int_equal(many_queue(&ones[LITTLE], 100), 1);
	assert_true(many_wait(&p, &ev, 1, 0) >= 0);
	assert_true(started(0, LITTLE) >= 1);
	if (p.opts.backend != RINGTLS_BACKEND_CALLER) /* there a turn is two calls */
		assert_int_equal(started(0, LITTLE), how_many(&p, 64 * 1024, 64 * 1024));
	assert_int_equal(ones[LITTLE].conn->tx.app_bytes, 100);
	many_peer_gets(&ones[LITTLE], 100);
	many_close(&p, FEW);
}

/* Nor the other way about, however many come again and again. */
static void who_has_little_does_not_hold_up_who_has_much(void **state)
{
	struct ringtls_event ev;
	struct pair p;

	many_open(&p, *state, MANY, 0);
	many_queue_much(&ones[0]);
	for (int round = 0; round < 3; round++) {
		uint64_t before = ones[0].conn->tx.app_bytes;

		for (int i = 1; i < MANY; i++)
			if (!ones[i].conn->requests.head)
				assert_int_equal(many_queue(&ones[i], 100), 1);
		assert_true(many_wait(&p, &ev, 1, 0) >= 0);
		many_collect(&p);
		assert_true(ones[0].conn->tx.app_bytes > before);
		while (many_peer_reads(&ones[0]))
			;
	}
	many_close(&p, MANY);
}


/* ---- What is left for the next calls ----------------------------------- */

static void the_descriptor_tells_of_the_rest(void **state)
{
	struct pair p;

	many_open(&p, *state, FEW, 0);
	for (int i = 0; i < FEW; i++)
		assert_int_equal(many_queue(&ones[i], 3 * RECORD), 1);
	many_submit(&p);
	many_go_on(&p, FEW, 0);
	many_close(&p, FEW);
}

static void *write_later(void *peer)
{
	poll(NULL, 0, 100);
	return SSL_write(peer, "x", 1) == 1 ? peer : NULL;
}

/* It takes what wakes it, and that may have been meant for others. */
static void nor_does_a_call_that_sleeps_hide_it(void **state)
{
	pthread_t thread;
	struct pair p;
	void *wrote;
	char c;

	many_open(&p, *state, FEW, 0);
	pair_set_blocking(ones[0].fd);
	for (int i = 1; i < FEW; i++)
		assert_int_equal(many_queue(&ones[i], 3 * RECORD), 1);
	many_submit(&p);
	assert_int_equal(pthread_create(&thread, NULL, write_later, ones[0].peer), 0);
	assert_int_equal(ringtls_read(ones[0].conn, &c, 1), 1);
	assert_int_equal(pthread_join(thread, &wrote), 0);
	assert_ptr_equal(wrote, ones[0].peer);
	many_go_on(&p, FEW - 1, 0);
	many_close(&p, FEW);
}

/* What is told outside of the engine's calls shows as well. */
static void the_descriptor_tells_of_a_cancellation(void **state)
{
	struct pair p;

	many_open(&p, *state, 1, 0);
	assert_int_equal(many_queue(&ones[0], 100), 1);
	assert_int_equal(ringtls_conn_cancel(ones[0].conn, 0), 0);
	many_sleep(&p);
	many_close(&p, 1);
}

/* Full of what never completes, so nothing else would call the caller back. */
static void a_ring_that_is_full_says_that_there_is_more(void **state)
{
	struct ringtls_event ev;
	struct pair p;
	int never[2];

	many_open_small(&p, *state, 2, 8);
	assert_int_equal(pipe(never), 0);
	many_submit(&p);
	many_fill_ring(never[0]);
	for (int i = 0; i < 2; i++)
		many_queue_much(&ones[i]);
	assert_int_equal(ringtls_engine_submit(p.engine), -EBUSY);
	for (int turns = 0; !ones[1].conn->tx.app_bytes && turns < 20; turns++)
		assert_true(many_wait(&p, &ev, 1, 5000) >= 0);
	assert_true(ones[1].conn->tx.app_bytes > 0);
	many_close(&p, 2);
	close(never[0]);
	close(never[1]);
}

/* What found no room is before what is new; and of more than there is room for, none stays
 * behind for good. */
static void in_a_ring_that_is_full_what_found_no_room_is_first(void **state)
{
	enum { ROOM = 4 };
	struct ringtls_event ev;
	struct pair p;

	many_open_small(&p, *state, 3 * ROOM, ROOM);
	many_submit(&p);
	queue_each(0, 2 * ROOM, 100);
	assert_int_equal(ringtls_engine_submit(p.engine), -EBUSY);
	many_take_ring(&p);
	queue_each(2 * ROOM, 3 * ROOM, 100);
	assert_int_equal(ringtls_engine_submit(p.engine), -EBUSY);
	many_take_ring(&p);
	assert_true(ringtls_engine_wait(p.engine, &ev, 1, 0) >= 0);
	many_collect(&p);
	for (int i = 0; i < 3 * ROOM; i++)
		assert_int_equal(ones[i].sent, i < 2 * ROOM);
	many_go_on(&p, ROOM, 0);
	many_close(&p, 3 * ROOM);
}

/* All that the child of a fork may do. 0: it could. */
static int free_in_child(struct pair *p, int n)
{
	bool is_right = true;

	for (int i = 0; i < n; i++)
		is_right &= ringtls_conn_free(ones[i].conn) == 0;
	is_right &= ringtls_conn_free(p->conn) == 0;
	is_right &= ringtls_engine_free(p->engine) == 0;
	return is_right ? 0 : 1;
}

/* It has the same descriptors, and what wakes the loop is the parent's. */
static void the_child_of_a_fork_wakes_nobody(void **state)
{
	struct pair p;
	int status;
	pid_t pid;

	many_open(&p, *state, 2, 0);
	queue_each(0, 2, 100);
	pid = fork();
	if (!pid)
		_exit(free_in_child(&p, 2));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_false(many_is_woken(&p));
	many_submit(&p);
	many_go_on(&p, 2, 0);
	for (int i = 0; i < 2; i++)
		many_peer_gets(&ones[i], 100);
	many_close(&p, 2);
}

/* One that was woken, and did not hear of it yet, may end all the same. */
static void nor_does_it_wait_to_be_woken(void **state)
{
	struct pair p;
	int status;
	pid_t pid;

	many_open(&p, *state, 2, 0);
	for (int i = 0; i < 2; i++)
		many_queue_much(&ones[i]);
	many_submit(&p); /* there is more */
	pid = fork();
	if (!pid)
		_exit(free_in_child(&p, 2));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	many_close(&p, 2);
}

static const struct list_test tests[] = {
#define T(f) { #f, f }
	T(a_round_is_256_kib),
	T(or_128_operations),
	T(or_64_kib_behind_brief_ones),
	T(brief_is_what_few_requests_of_a_record_are),
	T(turns_come_round),
	T(a_turn_is_one_operation),
	T(who_has_much_does_not_hold_up_who_has_little),
	T(who_has_little_does_not_hold_up_who_has_much),
	T(the_descriptor_tells_of_the_rest),
	T(the_descriptor_tells_of_a_cancellation),
	T(the_child_of_a_fork_wakes_nobody),
	T(nor_does_it_wait_to_be_woken),
};

static const struct list_test of_system_calls[] = {
	T(a_socket_that_is_full_does_not_use_up_a_round),
};

static const struct list_test of_a_call_that_sleeps[] = {
	T(nor_does_a_call_that_sleeps_hide_it),
};

static const struct list_test of_a_callers_ring[] = {
	T(a_ring_that_is_full_says_that_there_is_more),
	T(in_a_ring_that_is_full_what_found_no_room_is_first),
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL); /* none may come */
	many_fill();
	list_add_all(tests, COUNT(tests), every_lane, EVERY_LANE);
	list_add_all(of_a_call_that_sleeps, COUNT(of_a_call_that_sleeps), every_lane, EVERY_LANE);
	for (size_t i = 0; i < EVERY_LANE; i++)
		if (every_lane[i].backend == RINGTLS_BACKEND_SYSCALLS)
			list_add_all(of_system_calls, COUNT(of_system_calls), &every_lane[i], 1);
	list_add_all(tests, COUNT(tests), on_callers_ring, ON_CALLERS_RING);
	list_add_all(of_a_callers_ring, COUNT(of_a_callers_ring), on_callers_ring, ON_CALLERS_RING);
	return list_run("round", argc, argv);
}
