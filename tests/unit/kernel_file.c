/* kernel_file.c - from file to socket (kmod-notes/sendfile.md). */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/sendfile.h>
#include <unistd.h>
#include "sys.h"

static ssize_t send_file(struct line *l, int file, off_t *at, size_t len)
{
	off_t before = *at;
	ssize_t n = sendfile(l->fd, file, at, len);

	if (n < 0)
		return -errno;
	assert_int_equal(*at - before, n);
	line_gave(l, kernel_bytes + before, (size_t)n);
	return n;
}

/* True when bytes that were taken stay unsealed while nobody sends. Slow is no different
 * from open here: where nothing may stay open, line_drain() waits longer. */
static bool record_is_open(struct line *l)
{
	int64_t end = clock_ms() + MOMENT_MS;

	while (clock_ms() < end) {
		if (line_is_drained(l))
			return false;
		line_peer_reads(l);
		nap(1);
	}
	return true;
}

static void file_becomes_full_records_and_a_rest(void **state)
{
	int file = temp_file(50000);
	struct line l;
	off_t at = 0;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(send_file(&l, file, &at, 50000), 50000);
	line_drain(&l);
	behaviour("sendfile/records of a file of 50000 bytes", "%d", (int)line_seq(&l));
	assert_int_equal(lseek(file, 0, SEEK_CUR), 50000); /* not moved: temp_file left it */
	line_finish(&l);
	line_close(&l);
	close(file);
}

static void asking_for_more_than_the_file_has_is_a_short_result(void **state)
{
	int file = temp_file(50000);
	struct line l;
	off_t at = 0;
	bool open;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(send_file(&l, file, &at, 60000), 50000);
	open = record_is_open(&l);
	behaviour("sendfile/the last record when more is asked for than the file has", "%s",
		  open ? "stays open" : "is sealed");
	assert_int_equal(send_file(&l, file, &at, 10000), 0);
	open = record_is_open(&l);
	behaviour("sendfile/the last record behind a sendfile that found the end", "%s",
		  open ? "stays open" : "is sealed");
	line_alert(&l);
	line_finish(&l);
	line_close(&l);
	close(file);
}

/* Whether one is left depends on where the socket got full. */
static bool part_of_a_file_leaves_a_record_open(int file, int buffer)
{
	off_t at = 100; /* so that pages and records do not end together */
	struct line l;
	bool open;
	ssize_t n;

	line_sealed(&l, SMALL);
	setsockopt(l.fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	do {
		n = send_file(&l, file, &at, (size_t)(KERNEL_BYTES - at));
	} while (n > 0 && at < KERNEL_BYTES);
	assert_int_equal(n, -EAGAIN);
	open = record_is_open(&l);
	line_alert(&l);
	line_drain(&l);
	line_finish(&l);
	line_expect(&l, l.record_count - 1, RINGTLS__RECORD_ALERT, 2);
	line_close(&l);
	return open;
}

struct file_sender {
	ssize_t (*send)(int fd, int file, off_t *offset, size_t len);
	struct line *line;
	int file;
	size_t len;
	ssize_t res;
	atomic_bool done;
};

static ssize_t kernels_sendfile(int fd, int file, off_t *offset, size_t len)
{
	ssize_t n = sendfile(fd, file, offset, len);

	return n < 0 ? -errno : n;
}

static void *send_in_a_thread(void *arg)
{
	struct file_sender *s = arg;
	off_t at = 0;

	s->res = s->send(s->line->fd, s->file, &at, s->len);
	s->done = true;
	return NULL;
}

/* Asks for len bytes of a file of 16000, where there is room for a part of them. */
static bool sleeps(ssize_t (*send)(int, int, off_t *, size_t), int file, size_t len)
{
	struct file_sender s = { .send = send, .file = file, .len = len };
	pthread_t thread;
	struct line l;
	bool slept;

	line_sealed(&l, SMALL);
	s.line = &l;
	assert_int_equal(line_send(&l, kernel_bytes, 8000, 0), 8000);
	assert_int_equal(line_send(&l, kernel_bytes, 8000, 0), 8000);
	assert_int_equal(pthread_create(&thread, NULL, send_in_a_thread, &s), 0);
	nap(MOMENT_MS);
	slept = !s.done;
	while (!s.done) {
		line_peer_reads(&l);
		nap(1);
	}
	pthread_join(thread, NULL);
	assert_true(s.res > 0 || s.res == -EAGAIN);
	line_gave(&l, kernel_bytes, s.res > 0 ? (size_t)s.res : 0);
	line_alert(&l);
	line_finish(&l);
	line_close(&l);
	return slept;
}

/* The record that the end of the file closes is pushed without any flag. */
static void sendfile_that_finds_the_end_may_sleep_though_the_socket_does_not_block(void **state)
{
	int file = temp_file(16000);

	(void)state;
	need("ktls", has_ktls());
	assert_false(sleeps(kernels_sendfile, file, 16000));
	behaviour("sendfile/more asked for than the file has, non-blocking socket full", "%s",
		  sleeps(kernels_sendfile, file, 20000) ? "sleeps" : "does not sleep");
	close(file);
}

static void sendfile_of_ours_asks_for_no_more_than_the_file_has(void **state)
{
	int file = temp_file(16000);

	(void)state;
	need("ktls", has_ktls());
	assert_false(sleeps(ringtls__sys_real.sendfile, file, 16000));
	assert_false(sleeps(ringtls__sys_real.sendfile, file, 20000));
	close(file);
}

static void part_of_a_file_may_leave_a_record_open_that_a_control_record_closes(void **state)
{
	int file = temp_file(KERNEL_BYTES);
	unsigned open = 0;

	(void)state;
	need("ktls", has_ktls());
	for (int buffer = 8192; buffer <= 65536; buffer += 8192)
		open += part_of_a_file_leaves_a_record_open(file, buffer);
	/* Not for the table: with the same kernel it differs from run to run. */
	print_message("# with %u of 8 sizes of buffer the last record stayed open\n", open);
	close(file);
}

static void eagain_means_that_nothing_of_the_file_was_taken(void **state)
{
	int file = temp_file(KERNEL_BYTES);
	struct line l;
	off_t at = 0;
	ssize_t n;

	(void)state;
	line_sealed(&l, SMALL);
	while (at < KERNEL_BYTES) {
		n = send_file(&l, file, &at, (size_t)(KERNEL_BYTES - at));
		assert_true(n > 0 || n == -EAGAIN);
		if (n < 0)
			line_peer_reads(&l);
	}
	line_drain(&l);
	line_finish(&l);
	line_close(&l);
	close(file);
}

static void file_after_file_goes_on_where_the_peer_expects_it(void **state)
{
	int file = temp_file(30000);
	struct line l;

	(void)state;
	line_sealed(&l, SMALL);
	for (unsigned i = 0; i < 20; i++) {
		off_t at = i * 10;
		ssize_t n = send_file(&l, file, &at, 29000);

		assert_true(n > 0 || n == -EAGAIN);
		n = line_send(&l, kernel_bytes + i, 500, 0);
		assert_true(n == 500 || n == -EAGAIN);
		line_peer_reads(&l);
	}
	line_send_whole(&l, kernel_bytes, 1);
	line_finish(&l);
	line_close(&l);
	close(file);
}

static void file_that_shrank_is_a_short_result(void **state)
{
	int file = temp_file(50000);
	struct line l;
	off_t at = 40000;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(ftruncate(file, 20000), 0);
	assert_int_equal(send_file(&l, file, &at, 10000), 0);
	at = 10000;
	assert_int_equal(send_file(&l, file, &at, 40000), 10000);
	line_alert(&l);
	line_finish(&l);
	line_close(&l);
	close(file);
}

/* ---- SIGPIPE ----------------------------------------------------------- */

static struct line one;
static volatile sig_atomic_t pipes;

static void count_pipe(int signal)
{
	(void)signal;
	pipes++;
}

static void count_pipes(bool on)
{
	const struct sigaction count = { .sa_handler = count_pipe };
	const struct sigaction usual = { .sa_handler = SIG_DFL };

	pipes = 0;
	assert_int_equal(sigaction(SIGPIPE, on ? &count : &usual, NULL), 0);
}

/* Calls on a connection that we have shut down, and says which of all that raised it. */
static void sigpipe_of(ssize_t (*call)(void), bool *ret_by_call, bool *ret_by_close)
{
	line_sealed(&one, LARGE);
	assert_int_equal(shutdown(one.fd, SHUT_WR), 0);
	count_pipes(true);
	call();
	*ret_by_call = pipes > 0;
	pipes = 0;
	line_close(&one);
	*ret_by_close = pipes > 0;
	count_pipes(false);
}

static ssize_t call_sendfile(void)
{
	int file = temp_file(1000);
	off_t at = 0;
	ssize_t n = sendfile(one.fd, file, &at, 1000) < 0 ? -errno : 0;

	close(file);
	return n;
}

static ssize_t call_splice(void)
{
	int ends[2];
	ssize_t n;

	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], kernel_bytes, 1000), 1000);
	n = splice(ends[0], NULL, one.fd, NULL, 1000, SPLICE_F_NONBLOCK) < 0 ? -errno : 0;
	close(ends[0]);
	close(ends[1]);
	return n;
}

static ssize_t call_send(void)
{
	return send(one.fd, kernel_bytes, 10, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void sendfile_and_splice_raise_sigpipe(void **state)
{
	bool by_call, by_close;

	(void)state;
	need("ktls", has_ktls());
	sigpipe_of(call_sendfile, &by_call, &by_close);
	behaviour("sendfile/SIGPIPE by sendfile(2) behind shutdown", "%s",
		  by_call ? "raised" : "not raised");
	behaviour("sendfile/SIGPIPE by close(2) behind that", "%s",
		  by_close ? "raised" : "not raised");
	sigpipe_of(call_splice, &by_call, &by_close);
	behaviour("sendfile/SIGPIPE by splice(2) behind shutdown", "%s",
		  by_call ? "raised" : "not raised");
}

static void send_with_nosignal_raises_none_and_neither_does_its_close(void **state)
{
	bool by_call, by_close;

	(void)state;
	need("ktls", has_ktls());
	sigpipe_of(call_send, &by_call, &by_close);
	assert_false(by_call);
	assert_false(by_close);
}

/* A list of records that sendfile made, a peer that resets, then close(2). */
static bool close_after_a_reset_raises_sigpipe(int file, bool error_was_taken)
{
	const struct linger reset = { .l_onoff = 1 };
	struct pollfd pfd;
	struct line l;
	off_t at = 0;
	char byte;

	line_sealed(&l, SMALL);
	while (send_file(&l, file, &at, (size_t)(KERNEL_BYTES - at)) > 0)
		;
	assert_int_equal(setsockopt(l.peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	close(l.peer);
	l.peer = -1;
	pfd = (struct pollfd){ .fd = l.fd, .events = POLLIN };
	assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
	if (error_was_taken)
		assert_int_equal(recv(l.fd, &byte, 1, 0), -1);
	count_pipes(true);
	close(l.fd);
	l.fd = -1;
	line_close(&l);
	at = pipes;
	count_pipes(false);
	return at > 0;
}

static void close_may_raise_sigpipe_for_records_of_sendfile(void **state)
{
	int file = temp_file(KERNEL_BYTES);
	bool untold, told;

	(void)state;
	need("ktls", has_ktls());
	untold = close_after_a_reset_raises_sigpipe(file, false);
	told = close_after_a_reset_raises_sigpipe(file, true);
	behaviour("sendfile/SIGPIPE by close(2) with a list, the peer has reset", "%s",
		  untold ? "raised" : "not raised");
	behaviour("sendfile/SIGPIPE by close(2) with a list, recv(2) has told of the reset", "%s",
		  told ? "raised" : "not raised");
	close(file);
}

static const struct CMUnitTest tests[] = {
	T(file_becomes_full_records_and_a_rest),
	T(asking_for_more_than_the_file_has_is_a_short_result),
	T(sendfile_that_finds_the_end_may_sleep_though_the_socket_does_not_block),
	T(sendfile_of_ours_asks_for_no_more_than_the_file_has),
	T(part_of_a_file_may_leave_a_record_open_that_a_control_record_closes),
	T(eagain_means_that_nothing_of_the_file_was_taken),
	T(file_after_file_goes_on_where_the_peer_expects_it),
	T(file_that_shrank_is_a_short_result),
	T(sendfile_and_splice_raise_sigpipe),
	T(send_with_nosignal_raises_none_and_neither_does_its_close),
	T(close_may_raise_sigpipe_for_records_of_sendfile),
};

const struct kernel_tests kernel_file = KERNEL_TESTS(tests);
