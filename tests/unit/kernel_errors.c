/* kernel_errors.c - how a kTLS socket fails, and what mends itself (kmod-notes/errors.md). */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "keys.h"

#define STATE_CLOSE 7 /* TCP_CLOSE of netinet/tcp.h, which linux/tcp.h excludes */

static int take_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	return -error;
}

static void last_numbers(struct line *l)
{
	struct ringtls__key key = make_key(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 1);

	need("ktls", has_ktls());
	line_open(l, LARGE);
	assert_int_equal(line_ulp(l), 0);
	key_set_seq(&key, UINT64_MAX);
	assert_int_equal(line_key(l, &key), 0);
}

static void used_up_number_is_ebadmsg(void **state)
{
	ssize_t first, second;
	struct line l;

	(void)state;
	last_numbers(&l);
	first = send(l.fd, kernel_bytes, 100, MSG_NOSIGNAL) < 0 ? -errno : 100;
	second = send(l.fd, kernel_bytes, 100, MSG_NOSIGNAL) < 0 ? -errno : 100;
	behaviour("errors/a send with the last record number", "%s", outcome(first));
	behaviour("errors/the send after it", "%s", outcome(second));
	assert_true(first == -EBADMSG || second == -EBADMSG);
	line_close(&l);
}

/* The worst there is: asking for the error clears it, and a nonce comes again. */
static void so_error_clears_it_and_numbers_start_again_at_0(void **state)
{
	ssize_t n = 0;
	struct line l;

	(void)state;
	last_numbers(&l);
	for (unsigned i = 0; i < 4 && n != -EBADMSG; i++)
		n = send(l.fd, kernel_bytes, 100, MSG_NOSIGNAL) < 0 ? -errno : 100;
	assert_int_equal(n, -EBADMSG);
	behaviour("errors/SO_ERROR behind it", "%s", outcome(take_error(l.fd)));
	n = send(l.fd, kernel_bytes, 100, MSG_NOSIGNAL) < 0 ? -errno : 100;
	behaviour("errors/a send after SO_ERROR was asked", "%s%s", outcome(n),
		  n > 0 && line_seq(&l) <= 2 ? ", from number 0" : "");
	line_close(&l);
}

static void reset_by_peer(struct line *l)
{
	const struct linger reset = { .l_onoff = 1 };
	struct pollfd pfd;

	assert_int_equal(setsockopt(l->peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	close(l->peer);
	l->peer = -1;
	pfd = (struct pollfd){ .fd = l->fd, .events = POLLIN };
	assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
}

static void line_that_was_reset(struct line *l)
{
	line_sealed(l, SMALL);
	line_fill(l, 40000);
	reset_by_peer(l);
}

/* How many of ten sends are answered for; *ret_last is the answer of the last. */
static unsigned sends_taken(struct line *l, ssize_t *ret_last)
{
	unsigned taken = 0;

	do {
		*ret_last = send(l->fd, kernel_bytes, 100, MSG_NOSIGNAL) < 0 ? -errno : 100;
	} while (*ret_last > 0 && ++taken < 10);
	return taken;
}

static void tell_taken(struct line *l, const char *name)
{
	ssize_t last;
	unsigned taken = sends_taken(l, &last);

	if (taken == 10)
		behaviour(name, "all are taken, and lost");
	else if (taken)
		behaviour(name, "%u taken and lost, then %s", taken, outcome(last));
	else
		behaviour(name, "%s", outcome(last));
}

static void peers_reset_is_told_by_every_send(void **state)
{
	struct line l;
	ssize_t last;

	(void)state;
	line_that_was_reset(&l);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(sends_taken(&l, &last), 0);
		assert_true(last == -ECONNRESET || last == -EPIPE);
	}
	behaviour("errors/sends after the peer's reset", "%s, each of them", outcome(last));
	line_close(&l);
}

/* Whoever asks takes the error away, and what is sent from then on goes nowhere. */
static void reset_that_was_told_elsewhere_is_not_told_by_send(void **state)
{
	struct line l;
	char byte;

	(void)state;
	line_that_was_reset(&l);
	assert_int_equal(recv(l.fd, &byte, 1, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	tell_taken(&l, "errors/sends after the peer's reset was told by recv(2)");
	line_close(&l);
	line_that_was_reset(&l);
	assert_int_equal(take_error(l.fd), -ECONNRESET);
	tell_taken(&l, "errors/sends after the peer's reset was told by SO_ERROR");
	line_close(&l);
}

/* So a drain must look at the state: its sum never comes out, and no error is told. */
static void reset_connection_never_drains_and_is_known_by_its_state(void **state)
{
	uint64_t before, sealed;
	struct tcp_info info;
	struct line l;
	socklen_t len = sizeof(info);
	char byte;
	int queued;

	(void)state;
	line_sealed(&l, SMALL);
	line_fill(&l, 40000);
	before = line_in_tcp(&l);
	sealed = line_sealed_bytes(&l);
	assert_true(before < sealed);
	reset_by_peer(&l);
	assert_int_equal(recv(l.fd, &byte, 1, 0), -1);
	nap(MOMENT_MS);
	assert_int_equal(getsockopt(l.fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	assert_int_equal(ioctl(l.fd, SIOCOUTQ, &queued), 0);
	assert_true(info.tcpi_bytes_acked + (uint64_t)queued - l.tcp_base < sealed);
	assert_int_equal(info.tcpi_state, STATE_CLOSE);
	assert_int_equal(line_output_error(&l), -ECONNRESET);
	behaviour("errors/the drain of a connection that was reset",
		  "never ends, TCP_INFO says CLOSE");
	line_close(&l);
}

static void sends_behind_our_own_shutdown_are_taken_and_lost(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_send(&l, kernel_bytes, 100, 0), 100);
	assert_int_equal(shutdown(l.fd, SHUT_WR), 0);
	tell_taken(&l, "errors/sends behind our own shutdown(SHUT_WR)");
	line_peer_reads_to_end(&l);
	line_open_records(&l);
	assert_int_equal(l.plain.len, 100); /* of the send before */
	line_close(&l);
}

static const struct CMUnitTest tests[] = {
	T(used_up_number_is_ebadmsg),
	T(so_error_clears_it_and_numbers_start_again_at_0),
	T(peers_reset_is_told_by_every_send),
	T(reset_that_was_told_elsewhere_is_not_told_by_send),
	T(reset_connection_never_drains_and_is_known_by_its_state),
	T(sends_behind_our_own_shutdown_are_taken_and_lost),
};

const struct kernel_tests kernel_errors = KERNEL_TESTS(tests);
