/* test_sys.c - what the table of system calls promises: negated errnos, and no SIGPIPE. */
#include "config.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "sys.h"

static const struct ringtls__sys *const sys = &ringtls__sys_real;
static volatile sig_atomic_t pipes;

static void count_pipe(int signal)
{
	(void)signal;
	pipes++;
}

struct wire {
	int ends[2];
	int file; /* a megabyte, more than the socket's buffer */
	sigset_t mask;
};

static int setup(void **state)
{
	static struct wire wire;
	const struct sigaction count = { .sa_handler = count_pipe };
	char name[] = "/tmp/ringtls-test-XXXXXX";

	pipes = 0;
	wire.file = mkstemp(name);
	unlink(name);
	if (wire.file < 0 || ftruncate(wire.file, 1 << 20) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, wire.ends) < 0 ||
	    sigaction(SIGPIPE, &count, NULL) < 0 || pthread_sigmask(0, NULL, &wire.mask) < 0)
		return -1;
	*state = &wire;
	return 0;
}

static int teardown(void **state)
{
	struct wire *wire = *state;

	pthread_sigmask(SIG_SETMASK, &wire->mask, NULL); /* what is pending comes now */
	close(wire->file);
	close(wire->ends[0]);
	return 0;
}

static int blocked(int signal)
{
	sigset_t mask;

	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	return sigismember(&mask, signal);
}

static int waiting(int signal)
{
	sigset_t pending;

	sigpending(&pending);
	return sigismember(&pending, signal);
}

static void block(int signal)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signal);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static ssize_t send_file(struct wire *wire)
{
	off_t offset = 0;

	return sys->sendfile(wire->ends[0], wire->file, &offset, 1 << 20);
}

static void sendfile_to_a_closed_peer_raises_no_signal(void **state)
{
	struct wire *wire = *state;

	close(wire->ends[1]);
	assert_int_equal(send_file(wire), -EPIPE);
	assert_int_equal(pipes, 0);
	assert_int_equal(blocked(SIGPIPE), 0);
	assert_int_equal(waiting(SIGPIPE), 0);
}

static void sendfile_leaves_a_pending_signal_pending(void **state)
{
	struct wire *wire = *state;

	close(wire->ends[1]);
	block(SIGPIPE);
	raise(SIGPIPE);
	assert_int_equal(send_file(wire), -EPIPE);
	assert_int_equal(blocked(SIGPIPE), 1);
	assert_int_equal(waiting(SIGPIPE), 1);
	assert_int_equal(pipes, 0);
}

static void sendfile_adds_no_pending_signal_where_the_caller_blocks_it(void **state)
{
	struct wire *wire = *state;

	close(wire->ends[1]);
	block(SIGPIPE);
	assert_int_equal(send_file(wire), -EPIPE);
	assert_int_equal(blocked(SIGPIPE), 1);
	assert_int_equal(waiting(SIGPIPE), 0);
}

/* Takes a quarter of the file, so that the sender is in the middle, and goes. */
static void *read_some_and_close(void *end)
{
	static char buf[1 << 18];

	recv(*(int *)end, buf, sizeof(buf), MSG_WAITALL);
	close(*(int *)end);
	return NULL;
}

static ssize_t send_file_to_one_who_leaves(int file)
{
	const int small = 1 << 16;
	off_t offset = 0;
	pthread_t peer;
	ssize_t sent;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	assert_int_equal(pthread_create(&peer, NULL, read_some_and_close, &ends[1]), 0);
	sent = sys->sendfile(ends[0], file, &offset, 1 << 20);
	pthread_join(peer, NULL);
	close(ends[0]);
	return sent;
}

/* Whether the kernel raises the signal here depends on where it was: often. */
static void sendfile_that_breaks_midway_raises_no_signal(void **state)
{
	struct wire *wire = *state;

	for (int i = 0; i < 20; i++) {
		ssize_t sent = send_file_to_one_who_leaves(wire->file);

		assert_true(sent > 0 && sent < 1 << 20);
	}
	assert_int_equal(pipes, 0);
	assert_int_equal(blocked(SIGPIPE), 0);
	assert_int_equal(waiting(SIGPIPE), 0);
	close(wire->ends[1]);
}

static void sendfile_to_a_reader_moves_bytes(void **state)
{
	struct wire *wire = *state;
	off_t offset = 4096;

	assert_int_equal(sys->sendfile(wire->ends[0], wire->file, &offset, 100), 100);
	assert_int_equal(offset, 4196);
	assert_int_equal(blocked(SIGPIPE), 0);
	close(wire->ends[1]);
}

static void sendfile_sends_what_the_file_has(void **state)
{
	struct wire *wire = *state;
	int proc = open("/proc/version", O_RDONLY);
	off_t end = lseek(wire->file, 0, SEEK_END), offset = end - 100;
	char text[400];

	assert_int_equal(sys->sendfile(wire->ends[0], wire->file, &offset, 1000), 100);
	assert_int_equal(sys->sendfile(wire->ends[0], wire->file, &offset, 1000), 0);
	offset = end + 1000;
	assert_int_equal(sys->sendfile(wire->ends[0], wire->file, &offset, 1000), 0);
	/* Says that it has a size of 0. */
	assert_true(proc >= 0);
	offset = 0;
	assert_int_equal(sys->sendfile(wire->ends[0], proc, &offset, sizeof(text)),
			 pread(proc, text, sizeof(text), 0));
	close(proc);
	close(wire->ends[1]);
}

static void sendmsg_to_a_closed_peer_raises_no_signal(void **state)
{
	struct wire *wire = *state;
	char byte = 'x';
	struct iovec iov = { &byte, 1 };
	const struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	close(wire->ends[1]);
	assert_int_equal(sys->sendmsg(wire->ends[0], &msg, 0), -EPIPE);
	assert_int_equal(pipes, 0);
	assert_int_equal(waiting(SIGPIPE), 0);
}

static void ignore(int signal)
{
	(void)signal;
}

static void poll_is_not_restarted_after_a_signal(void **state)
{
	const struct sigaction handle = { .sa_handler = ignore };
	const struct itimerval soon = { .it_value = { 0, 1000 }, .it_interval = { 0, 1000 } };
	const struct itimerval never = { .it_value = { 0, 0 } };
	int res;

	(void)state;
	assert_int_equal(sigaction(SIGALRM, &handle, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
	res = sys->poll(NULL, 0, 10000);
	setitimer(ITIMER_REAL, &never, NULL);
	assert_int_equal(res, -EINTR);
}

static void every_call_answers_a_negated_errno(void **state)
{
	struct io_uring ring;
	struct io_uring_params params;
	const struct msghdr msg = { .msg_iovlen = 0 };
	char byte;
	int value = 0;
	socklen_t len = sizeof(value);
	off_t offset = 0;

	(void)state;
	memset(&params, 0, sizeof(params));
	errno = 0;
	assert_int_equal(sys->sendmsg(-1, &msg, 0), -EBADF);
	assert_int_equal(sys->sendfile(-1, -1, &offset, 1), -EBADF);
	assert_int_equal(sys->recv(-1, &byte, 1, 0), -EBADF);
	assert_int_equal(sys->pread(-1, &byte, 1, 0), -EBADF);
	assert_int_equal(sys->pread_cached(-1, &byte, 1, 0), -EBADF);
	assert_int_equal(sys->setsockopt(-1, SOL_SOCKET, SO_KEEPALIVE, &value, len), -EBADF);
	assert_int_equal(sys->getsockopt(-1, SOL_SOCKET, SO_KEEPALIVE, &value, &len), -EBADF);
	assert_int_equal(sys->outq(-1, &value), -EBADF);
	assert_int_equal(sys->getfl(-1), -EBADF);
	assert_true(sys->uring_init(0, &ring, &params) < 0);
}

static void outq_counts_what_the_peer_has_not_acknowledged(void **state)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	socklen_t len = sizeof(to);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
	int bytes = -1;

	(void)state;
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&to, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&to, &len), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, len), 0);
	assert_int_equal(sys->outq(fd, &bytes), 0);
	assert_int_equal(bytes, 0);
	close(fd);
	close(listener);
}

static void flags_of_a_socket_tell_whether_it_blocks(void **state)
{
	struct wire *wire = *state;

	assert_int_equal(sys->getfl(wire->ends[0]) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(wire->ends[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(sys->getfl(wire->ends[0]) & O_NONBLOCK, O_NONBLOCK);
	close(wire->ends[1]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(sendfile_to_a_closed_peer_raises_no_signal),
		T(sendfile_leaves_a_pending_signal_pending),
		T(sendfile_adds_no_pending_signal_where_the_caller_blocks_it),
		T(sendfile_that_breaks_midway_raises_no_signal),
		T(sendfile_to_a_reader_moves_bytes),
		T(sendfile_sends_what_the_file_has),
		T(sendmsg_to_a_closed_peer_raises_no_signal),
		cmocka_unit_test(poll_is_not_restarted_after_a_signal),
		cmocka_unit_test(every_call_answers_a_negated_errno),
		cmocka_unit_test(outq_counts_what_the_peer_has_not_acknowledged),
		T(flags_of_a_socket_tell_whether_it_blocks),
	};

	return cmocka_run_group_tests_name("sys", tests, NULL, NULL);
}
