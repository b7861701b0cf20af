/*
 * test_stall.c - a wake-up that the kernel loses costs time, and nothing else: on our ring
 * what waits for a socket is compared with poll(2) now and then.
 *
 * The ring is made to wait for a socket that never gets ready: it stands in the place of
 * the connection's own while the wait starts. It is the stall timer that puts that back,
 * when it looks: so whatever goes on after that does so by this timer alone.
 */
#include "config.h"
#include "support.h"
#include "pair.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "probe.h"
#include "uring.h"

#define PIECE	 10000 /* sent by sendmsg(2), see engine_uring.c */
#define STALL_MS 50

static struct {
	struct ringtls__sys sys;
	struct pair pair;
	int own, full, full_peer; /* the connection's socket, and the one that is full */
	bool swap_on_eagain;
	bool is_swapped;
	unsigned looks;
} my;

static void swap(int fd)
{
	assert_int_equal(dup2(fd, my.pair.fd), my.pair.fd);
	my.is_swapped = fd == my.full;
}

static ssize_t sendmsg_then_swap(int fd, const struct msghdr *msg, int flags)
{
	ssize_t n = ringtls__sys_real.sendmsg(fd, msg, flags);

	if (n == -EAGAIN && my.swap_on_eagain)
		swap(my.full);
	return n;
}

/* The library's only use of poll(2) on our ring. */
static int swap_then_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	my.looks++;
	if (my.is_swapped) {
		my.swap_on_eagain = false;
		swap(my.own);
		pair_peer_reads(&my.pair);
	}
	return ringtls__sys_real.poll(fds, n, timeout_ms);
}

static bool has_ring(void)
{
	struct ringtls__uring_caps caps;
	struct io_uring ring;

	if (ringtls__uring_open(&ring, 4, &caps, &ringtls__sys_real) < 0)
		return false;
	io_uring_queue_exit(&ring);
	return true;
}

/* For good: a TCP socket would go on by itself when its peer has what was on the way. */
static void make_full(void)
{
	static uint8_t bytes[PIECE];
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	my.full = pair[0];
	my.full_peer = pair[1];
	for (size_t n = sizeof(bytes); n; n /= 2)
		while (send(my.full, bytes, n, 0) > 0)
			;
}

static void open_all(uint32_t lane)
{
	struct pair_opts o = { .lane = lane,
			       .backend = RINGTLS_BACKEND_URING,
			       .small_buffers = true,
			       .sys = &my.sys };

	need("uring", has_ring());
	pair_need(&o);
	memset(&my, 0, sizeof(my));
	my.sys = ringtls__sys_real;
	my.sys.sendmsg = sendmsg_then_swap;
	my.sys.poll = swap_then_poll;
	make_full();
	pair_open(&my.pair, &o);
	my.pair.engine->stall_ms = STALL_MS;
	pair_handshake(&my.pair);
	pair_peer_reads(&my.pair);
	my.pair.engine->stalls = 0; /* what was ready, but not collected yet, counts, too */
	my.looks = 0;
	my.own = dup(my.pair.fd);
	assert_true(my.own >= 0);
}

static void close_all(void)
{
	assert_false(my.is_swapped);
	assert_true(my.pair.engine->stalls > 0);
	pair_close(&my.pair);
	close(my.own);
	close(my.full);
	close(my.full_peer);
}

static void full_socket_that_never_tells(void **state)
{
	static uint8_t bytes[PIECE];
	int r;

	open_all(*(const uint32_t *)*state);
	my.swap_on_eagain = true;
	do {
		r = ringtls_write(my.pair.conn, bytes, PIECE);
	} while (r == PIECE);
	assert_int_equal(ringtls_get_error(my.pair.conn, r), SSL_ERROR_WANT_WRITE);
	assert_true(my.is_swapped);

	pair_wait(&my.pair); /* by the engine's descriptor */
	pair_write_all(&my.pair, bytes, PIECE);
	close_all();
}

/* The peer reads when the timer looks, and not before: the call sleeps till then. */
static void blocking_write_that_is_never_told(void **state)
{
	static uint8_t bytes[PIECE];

	open_all(*(const uint32_t *)*state);
	pair_set_blocking(my.pair.fd);
	pair_set_blocking(my.full);
	my.swap_on_eagain = true;
	while (!my.looks)
		assert_int_equal(ringtls_write(my.pair.conn, bytes, PIECE), PIECE);
	close_all();
}

static void queued_write_that_is_never_told(void **state)
{
	static uint8_t bytes[20 * PIECE];
	const struct iovec iov = { bytes, sizeof(bytes) };
	struct ringtls_completion done;
	struct ringtls_event ev;
	int n = 0;

	open_all(*(const uint32_t *)*state);
	swap(my.full);
	assert_int_equal(ringtls_queue_writev(my.pair.conn, &iov, 1, 0), 1);
	assert_int_equal(ringtls_engine_submit(my.pair.engine), 0);
	for (int i = 0; i < 5000 && !(n > 0 && done.flags & RINGTLS_SENT); i++) {
		assert_true(ringtls_engine_wait(my.pair.engine, &ev, 1, 10) >= 0);
		n = ringtls_engine_completions(my.pair.engine, &done, 1);
		if (!my.is_swapped)
			pair_peer_reads(&my.pair);
	}
	assert_int_equal(n, 1);
	assert_int_equal(done.error, 0);
	pair_peer_gets(&my.pair, sizeof(bytes));
	close_all();
}

static void what_is_not_ready_is_left_alone(void **state)
{
	struct ringtls_event ev;
	char c;
	int r;

	open_all(*(const uint32_t *)*state);
	r = ringtls_read(my.pair.conn, &c, 1);
	assert_int_equal(ringtls_get_error(my.pair.conn, r), SSL_ERROR_WANT_READ);
	for (int quiet = 0; quiet < 4; quiet++) {
		unsigned before = my.looks;

		/* A wait of the handshake's may still end, which is no more than a hint. */
		while (my.looks == before) {
			if (ringtls_engine_wait(my.pair.engine, &ev, 1, STALL_MS) != 0)
				quiet = 0;
			assert_true(ringtls_read(my.pair.conn, &c, 1) < 0);
		}
		if (quiet == 0)
			my.pair.engine->stalls = 0;
	}
	assert_int_equal(my.pair.engine->stalls, 0);
	pair_peer_sends_a_byte(&my.pair);
	my.pair.engine->stalls++; /* for close_all */
	close_all();
}

static const uint32_t openssl = RINGTLS_LANE_OPENSSL, user = RINGTLS_LANE_USER,
		      kernel = RINGTLS_LANE_KERNEL;

#define T(name, lane)                                                                      \
	{                                                                                  \
		#name "_" #lane, name, NULL, NULL, (void *)(uintptr_t)&lane                \
	}
#define ALL(name) T(name, openssl), T(name, user), T(name, kernel)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ALL(full_socket_that_never_tells),
		ALL(blocking_write_that_is_never_told),
		ALL(queued_write_that_is_never_told),
		ALL(what_is_not_ready_is_left_alone),
	};

	alarm(120); /* a wake-up that stays lost is a call that never ends */
	return cmocka_run_group_tests_name("stall", tests, NULL, NULL);
}
