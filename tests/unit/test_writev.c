/*
 * test_writev.c - ringtls_writev against a stock OpenSSL peer over loopback: in every lane and
 * engine, TLS 1.2 and 1.3.
 */
#include "support.h"
#include "list.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/uio.h>
#include <openssl/err.h>

#define BIG (3 * 1024 * 1024 + 12345)

static uint8_t big[BIG];

static void open_shaken(struct pair *p, const struct pair_opts *o)
{
	pair_need(o);
	pair_open(p, o);
	pair_handshake(p);
	pair_peer_reads(p);
}

/* All of big up to len, and nothing else comes. */
static void writev_all(struct pair *p, const struct iovec *iov, int n, size_t len)
{
	ssize_t r;

	while ((r = ringtls_writev(p->conn, iov, n)) < 0) {
		assert_int_equal(ringtls_get_error(p->conn, -1), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(p);
		pair_wait(p);
	}
	assert_int_equal(r, len);
	pair_peer_expects(p, big, len);
}

static void writev_sends_all_pieces(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct iovec iov[100];
	size_t len = 0;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	for (unsigned i = 0; i < 100; i++) {
		size_t n = i % 10 == 9 ? 150000 : i % 7 == 3 ? 0 : i * 37;

		iov[i] = (struct iovec){ big + len, n };
		len += n;
	}
	writev_all(&p, iov, 100, len);
	pair_close(&p);
}

static void writev_puts_small_pieces_in_one_record(void **state)
{
	struct iovec iov[20];
	uint64_t before;
	struct pair p;

	open_shaken(&p, *state);
	before = pair_info(&p).records;
	for (unsigned i = 0; i < 20; i++)
		iov[i] = (struct iovec){ big + i * 100, 100 };
	assert_int_equal(ringtls_writev(p.conn, iov, 20), 2000);
	pair_peer_expects(&p, big, 2000);
	assert_true(pair_info(&p).records - before <= 2);
	pair_close(&p);
}

static void writev_of_nothing_or_nonsense(void **state)
{
	struct iovec iov[2] = { { big, SSIZE_MAX }, { big, 1 } };
	struct pair p;

	open_shaken(&p, *state);
	assert_int_equal(ringtls_writev(p.conn, NULL, 0), 0);
	assert_int_equal(ringtls_writev(p.conn, iov, 2), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SYSCALL);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ringtls_writev(p.conn, iov, -1), -1);
	assert_int_equal(ringtls_queue_writev(p.conn, iov, 2, 0), -1);
	assert_int_equal(ringtls_queue_writev(p.conn, iov, 1025, 0), -1);
	assert_int_equal(errno, EINVAL);
	pair_write_all(&p, big, 100);
	pair_peer_expects(&p, big, 100);
	pair_close(&p);
}

static void another_writev_is_a_bad_retry(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct iovec iov[2] = { { big, 1000 }, { big + 1000, BIG - 1000 } };
	struct iovec other[2] = { { big + 1, 1000 }, { big, BIG - 1000 } };
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	assert_int_equal(ringtls_writev(p.conn, iov, 2), -1);
	assert_int_equal(ringtls_writev(p.conn, other, 2), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SSL);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_BAD_WRITE_RETRY);
	assert_int_equal(ringtls_writev(p.conn, iov, 1), -1);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_BAD_LENGTH);
	/* Nor may anything be queued in the middle of it. */
	assert_int_equal(ringtls_queue_writev(p.conn, iov, 2, 0), -1);
	assert_int_equal(ERR_GET_REASON(ERR_get_error()), SSL_R_BAD_WRITE_RETRY);
	writev_all(&p, iov, 2, BIG);
	pair_close(&p);
}

static const struct list_test tests[] = {
#define T(f) { #f, f }
	T(writev_sends_all_pieces),
	T(writev_puts_small_pieces_in_one_record),
	T(writev_of_nothing_or_nonsense),
	T(another_writev_is_a_bad_retry),
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL); /* none may come */
	pair_fill(big, BIG);
	list_add_all(tests, COUNT(tests), every_lane, EVERY_LANE);
	return list_run("writev", argc, argv);
}
