/* kernel_flags.c - which flags a kTLS socket takes (kmod-notes/flags.md). */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

/* The flag is refused, and neither bytes nor a record number went with it. */
static void refused(struct line *l, int flag)
{
	uint64_t seq = line_seq(l);

	assert_int_equal(line_send(l, kernel_bytes, 100, flag), -EOPNOTSUPP);
	assert_int_equal(line_record(l, RINGTLS__RECORD_ALERT, kernel_bytes, 2, flag), -EOPNOTSUPP);
	assert_int_equal(line_seq(l), seq);
}

static void waitall_is_refused_and_nothing_was_taken(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	refused(&l, MSG_WAITALL);
	refused(&l, MSG_WAITALL | MSG_DONTWAIT);
	behaviour("flags/MSG_WAITALL by send", "EOPNOTSUPP");
	assert_int_equal(line_send(&l, kernel_bytes, 100, 0), 100);
	line_finish(&l);
	line_close(&l);
}

static void zerocopy_is_refused_whatever_the_socket_option_says(void **state)
{
	const int one = 1;
	struct line l;
	int r;

	(void)state;
	need("ktls", has_ktls());
	line_open(&l, LARGE);
	assert_int_equal(setsockopt(l.fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)), 0);
	line_install(&l, TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128);
	refused(&l, MSG_ZEROCOPY);
	r = setsockopt(l.fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) < 0 ? -errno : 0;
	behaviour("flags/SO_ZEROCOPY on a kTLS socket", "%s", outcome(r));
	refused(&l, MSG_ZEROCOPY);
	behaviour("flags/MSG_ZEROCOPY by send", "EOPNOTSUPP");
	line_finish(&l);
	line_close(&l);
}

static void urgent_data_is_refused(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	refused(&l, MSG_OOB);
	behaviour("flags/MSG_OOB by send", "EOPNOTSUPP");
	line_finish(&l);
	line_close(&l);
}

static void end_of_record_is_taken_or_refused_whole(void **state)
{
	struct line l;
	ssize_t r;

	(void)state;
	line_sealed(&l, LARGE);
	r = line_send(&l, kernel_bytes, 100, MSG_EOR);
	assert_true(r == 100 || r == -EOPNOTSUPP);
	behaviour("flags/MSG_EOR by send", "%s", outcome(r));
	line_finish(&l);
	line_close(&l);
}

static void dontwait_nosignal_and_more_are_taken(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_send(&l, kernel_bytes, 100, MSG_DONTWAIT), 100);
	assert_int_equal(line_send(&l, kernel_bytes, 100, MSG_DONTWAIT | MSG_MORE), 100);
	assert_int_equal(line_record(&l, RINGTLS__RECORD_ALERT, kernel_bytes, 2, MSG_DONTWAIT), 2);
	behaviour("flags/MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE by send", "taken");
	line_finish(&l);
	line_close(&l);
}

static void more_leaves_a_record_open_that_no_timer_closes(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_send(&l, kernel_bytes, 100, MSG_MORE), 100);
	nap(MOMENT_MS);
	assert_int_equal(line_peer_reads(&l), 0);
	assert_int_equal(line_seq(&l), 0);
	assert_int_equal(line_in_tcp(&l), 0);
	behaviour("flags/MSG_MORE leaves its bytes", "unsealed, with no end in time");
	assert_int_equal(line_send(&l, kernel_bytes, 50, 0), 50);
	line_finish(&l);
	line_expect(&l, 0, RINGTLS__RECORD_DATA, 150);
	line_close(&l);
}

static void more_is_refused_for_a_record_with_a_type(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_record(&l, RINGTLS__RECORD_ALERT, kernel_bytes, 2, MSG_MORE),
			 -EINVAL);
	assert_int_equal(line_seq(&l), 0);
	behaviour("flags/MSG_MORE with a record type", "EINVAL");
	line_finish(&l);
	line_close(&l);
}

static void empty_send_neither_sends_nor_closes_a_record(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_send(&l, kernel_bytes, 0, 0), 0);
	assert_int_equal(line_seq(&l), 0);
	assert_int_equal(line_send(&l, kernel_bytes, 100, MSG_MORE), 100);
	assert_int_equal(line_send(&l, kernel_bytes, 0, 0), 0);
	assert_int_equal(line_seq(&l), 0);
	behaviour("flags/a send of no bytes behind MSG_MORE", "closes no record");
	assert_int_equal(line_send(&l, kernel_bytes, 1, 0), 1);
	line_finish(&l);
	line_expect(&l, 0, RINGTLS__RECORD_DATA, 101);
	line_close(&l);
}

/* ---- Senders that sleep ------------------------------------------------ */

struct sender {
	struct line *line;
	size_t len;
	int flags;
	ssize_t res;
	atomic_bool done;
	pthread_t thread;
};

static void *send_all(void *arg)
{
	struct sender *s = arg;
	ssize_t n = send(s->line->fd, kernel_bytes, s->len, s->flags | MSG_NOSIGNAL);

	s->res = n < 0 ? -errno : n;
	s->done = true;
	return NULL;
}

static void start(struct sender *s)
{
	s->done = false;
	assert_int_equal(pthread_create(&s->thread, NULL, send_all, s), 0);
	nap(MOMENT_MS);
}

static void join(struct sender *s)
{
	int64_t end = clock_ms() + PATIENCE_MS;

	while (!s->done && clock_ms() < end) {
		line_peer_reads(s->line);
		nap(1);
	}
	assert_true(s->done);
	pthread_join(s->thread, NULL);
	if (s->res > 0)
		line_gave(s->line, kernel_bytes, (size_t)s->res);
}

static void sleeping_sender_makes_even_dontwait_sleep(void **state)
{
	struct line l;
	struct sender first = { .line = &l, .len = KERNEL_BYTES };
	struct sender second = { .line = &l, .len = 5, .flags = MSG_DONTWAIT };
	bool slept;

	(void)state;
	line_sealed(&l, SMALL);
	set_blocking(l.fd, true);
	start(&first);
	assert_false(first.done);
	start(&second);
	slept = !second.done;
	behaviour("flags/MSG_DONTWAIT while another sender sleeps", "%s",
		  slept ? "sleeps as well" : outcome(second.res));
	assert_true(slept);
	join(&first);
	join(&second);
	assert_int_equal(first.res, KERNEL_BYTES);
	line_finish(&l);
	line_close(&l);
}

static void ignore(int signal)
{
	(void)signal;
}

struct after_signal {
	bool slept; /* the next send, though it said MSG_DONTWAIT */
	ssize_t res;
};

/* Sends lead bytes, sleeps in a large send, gets a signal, sends again. */
static struct after_signal send_after_a_signal(size_t lead)
{
	struct after_signal next = { .slept = false };
	struct line l;
	struct sender large = { .line = &l, .len = KERNEL_BYTES };
	struct sender small = { .line = &l, .len = 5, .flags = MSG_DONTWAIT };

	line_sealed(&l, SMALL);
	assert_int_equal(line_send(&l, kernel_bytes, lead, 0), lead);
	set_blocking(l.fd, true);
	start(&large);
	assert_false(large.done);
	pthread_kill(large.thread, SIGUSR1);
	nap(MOMENT_MS);
	assert_true(large.done); /* with what it has */
	pthread_join(large.thread, NULL);
	assert_true(large.res > 0 && large.res < KERNEL_BYTES);
	line_gave(&l, kernel_bytes, (size_t)large.res);
	do {
		start(&small);
		next.slept |= !small.done;
		join(&small);
	} while (small.res == -EAGAIN);
	next.res = small.res;
	if (next.res > 0)
		line_finish(&l);
	line_close(&l);
	return next;
}

/*
 * That the connection may be lost is one reason why ours never sleep there. The
 * other: what the woken one leaves behind, the kernel's worker sends as it would
 * have, asleep with the lock. Which of them depends on where the sender slept.
 */
static void signal_to_a_sleeping_sender_may_break_the_connection(void **state)
{
	const struct sigaction interrupt = { .sa_handler = ignore };
	struct after_signal next = { .res = 0 };
	bool slept = false;

	(void)state;
	need("ktls", has_ktls());
	assert_int_equal(sigaction(SIGUSR1, &interrupt, NULL), 0);
	for (size_t lead = 1000; lead < 16000 && next.res >= 0; lead += 3000) {
		next = send_after_a_signal(lead);
		slept |= next.slept;
	}
	behaviour("flags/a send after a signal woke a sleeping one", "%s%s", outcome(next.res),
		  slept ? "; it sleeps though it says MSG_DONTWAIT" : "");
}

static const struct CMUnitTest tests[] = {
	T(waitall_is_refused_and_nothing_was_taken),
	T(zerocopy_is_refused_whatever_the_socket_option_says),
	T(urgent_data_is_refused),
	T(end_of_record_is_taken_or_refused_whole),
	T(dontwait_nosignal_and_more_are_taken),
	T(more_leaves_a_record_open_that_no_timer_closes),
	T(more_is_refused_for_a_record_with_a_type),
	T(empty_send_neither_sends_nor_closes_a_record),
	T(sleeping_sender_makes_even_dontwait_sleep),
	T(signal_to_a_sleeping_sender_may_break_the_connection),
};

const struct kernel_tests kernel_flags = KERNEL_TESTS(tests);
