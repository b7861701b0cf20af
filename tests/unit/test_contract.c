/*
 * test_contract.c - rows of the contract (tests/contract/rows) that no other program has
 * a test of: in every lane and engine, TLS 1.2 and 1.3, blocking and not.
 */
#include "support.h"
#include "list.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/err.h>

#define BIG (1024 * 1024 + 12345)
#define GIB (1024ll * 1024 * 1024)

static uint8_t big[BIG];

struct way {
	struct pair_opts opts;
	bool blocks;
};

/* A peer with a thread of its own, for blocking calls: it shakes hands, reads until it
 * has so many bytes or there is an end, and says what it was given to say. */
struct peer {
	pthread_t thread;
	struct pair *p;
	size_t until;
	int file; /* cut to the length below once half of until has come; -1: none */
	off_t length;
	bool resets;
};

static void close_hard(struct pair *p)
{
	struct linger reset = { .l_onoff = 1 };

	setsockopt(p->peer_fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(p->peer_fd);
	p->peer_fd = -1;
}

static void *peer_reads(void *arg)
{
	struct peer *peer = arg;
	struct pair *p = peer->p;

	while (p->got_len < peer->until) {
		int n = SSL_read(p->peer, p->got + p->got_len, 16384);

		if (n <= 0) {
			p->peer_error = SSL_get_error(p->peer, n);
			break;
		}
		p->got_len += (size_t)n;
		if (peer->file >= 0 && p->got_len > peer->until / 2) {
			if (ftruncate(peer->file, peer->length) < 0)
				break;
			peer->file = -1;
		}
	}
	if (peer->resets)
		close_hard(p);
	return NULL;
}

static void start_peer(struct peer *peer)
{
	struct pair *p = peer->p;

	pair_set_blocking(p->fd);
	pair_set_blocking(p->peer_fd);
	p->got = realloc(p->got, 2 * BIG);
	p->got_room = 2 * BIG;
	assert_non_null(p->got);
	assert_int_equal(pthread_create(&peer->thread, NULL, peer_reads, peer), 0);
}

static void join_peer(struct peer *peer)
{
	assert_int_equal(pthread_join(peer->thread, NULL), 0);
}

static void open_shaken(struct pair *p, const struct pair_opts *o)
{
	pair_need(o);
	pair_open(p, o);
	pair_handshake(p);
}

static void expect_got(struct pair *p, const uint8_t *bytes, size_t len)
{
	assert_int_equal(p->got_len, len);
	assert_memory_equal(p->got, bytes, len);
}

/* ---- Writing ----------------------------------------------------------- */

static void shake_hands_by_a_write(const struct way *w, bool is_client)
{
	struct pair_opts o = w->opts;
	struct pair p;
	struct peer peer = { .p = &p, .until = 1000, .file = -1 };
	int r;

	o.is_client = is_client;
	pair_need(&o);
	pair_open(&p, &o);
	if (w->blocks) {
		start_peer(&peer);
		assert_int_equal(ringtls_write(p.conn, big, 1000), 1000);
		join_peer(&peer);
	} else {
		/* Before the peer has said a word: a write that wants to read. */
		assert_int_equal(ringtls_write(p.conn, big, 1000), -1);
		assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_READ);
		while ((r = ringtls_write(p.conn, big, 1000)) < 0) {
			assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_READ);
			pair_peer_reads(&p);
			pair_rest(&p);
		}
		assert_int_equal(r, 1000);
		pair_peer_expects(&p, big, 1000);
	}
	expect_got(&p, big, 1000);
	assert_int_equal(pair_info(&p).lane, o.lane);
	pair_close(&p);
}

static void write_shakes_hands_first(void **state)
{
	shake_hands_by_a_write(*state, false);
	shake_hands_by_a_write(*state, true);
}

static void want_write(struct pair *p, const uint8_t *bytes, size_t len)
{
	size_t written;

	assert_int_equal(ringtls_write_ex(p->conn, bytes, len, &written), 0);
	assert_int_equal(ringtls_get_error(p->conn, 0), SSL_ERROR_WANT_WRITE);
}

static void larger_num_in_a_retry_is_legal(void **state)
{
	struct pair_opts o = ((const struct way *)*state)->opts;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	want_write(&p, big, BIG - 50000);
	want_write(&p, big, BIG - 49999);
	pair_write_all(&p, big, BIG);
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
}

/* Of each write one record; the socket is smaller. */
static void full_socket_in_the_middle_of_a_record(void **state)
{
	struct pair_opts o = ((const struct way *)*state)->opts;
	size_t len = 16384, done = 0, written;
	struct pair p;
	int stops = 0;

	o.small_buffers = true;
	open_shaken(&p, &o);
	while (done + len <= BIG) {
		while (ringtls_write_ex(p.conn, big + done, len, &written) != 1) {
			assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_WANT_WRITE);
			stops++;
			pair_peer_reads(&p);
			pair_wait(&p);
		}
		assert_int_equal(written, len);
		done += len;
		len = len * 7 % 16381 + 1; /* so that it stops at all sorts of places */
	}
	assert_true(stops > 0);
	/* The kernel's own records are its affair; ours went out in parts. */
	if (o.lane != RINGTLS_LANE_KERNEL)
		assert_true(pair_info(&p).short_sends > 0);
	pair_peer_expects(&p, big, done);
	pair_close(&p);
}

/* ---- Closing ----------------------------------------------------------- */

/* Until there is something other than a want; a blocking socket never has one. */
static int read_one(struct pair *p, char *c)
{
	int r;

	while ((r = ringtls_read(p->conn, c, 1)) < 0 &&
	       ringtls_get_error(p->conn, r) == SSL_ERROR_WANT_READ)
		pair_wait(p);
	return r;
}

static int shut_down(struct pair *p)
{
	int r;

	while ((r = ringtls_shutdown(p->conn)) < 0) {
		int e = ringtls_get_error(p->conn, r);

		assert_true(e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE);
		pair_wait(p);
	}
	return r;
}

static void peer_closes_and_we_go_on_writing(void **state)
{
	const struct way *w = *state;
	struct pair p;
	char c;

	open_shaken(&p, &w->opts);
	if (w->blocks)
		pair_set_blocking(p.fd);
	assert_int_equal(SSL_shutdown(p.peer), 0);
	assert_int_equal(read_one(&p, &c), 0);
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_ZERO_RETURN);
	pair_write_all(&p, big, 100000);
	assert_int_equal(shut_down(&p), 1);
	pair_peer_expects(&p, big, 100000);
	pair_peer_reads_to_the_end(&p);
	assert_int_equal(p.peer_error, SSL_ERROR_ZERO_RETURN);
	pair_close(&p);
}

static void we_close_and_the_peer_goes_on_writing(void **state)
{
	const struct way *w = *state;
	struct pair p;
	char c;

	open_shaken(&p, &w->opts);
	if (w->blocks)
		pair_set_blocking(p.fd);
	pair_write_all(&p, big, 100000);
	assert_int_equal(shut_down(&p), 0);
	pair_peer_expects(&p, big, 100000);
	assert_int_equal(SSL_write(p.peer, "xy", 2), 2);
	assert_int_equal(read_one(&p, &c), 1);
	assert_int_equal(c, 'x');
	assert_int_equal(read_one(&p, &c), 1);
	assert_int_equal(c, 'y');
	pair_peer_reads(&p);
	SSL_shutdown(p.peer);
	assert_int_equal(shut_down(&p), 1);
	pair_close(&p);
}

/* close_notify closes the peer's direction only. */
static void peers_close_notify_in_mid_write(void **state)
{
	struct pair_opts o = ((const struct way *)*state)->opts;
	struct pair p;
	char c;

	o.small_buffers = true;
	open_shaken(&p, &o);
	want_write(&p, big, BIG);
	assert_int_equal(SSL_shutdown(p.peer), 0);
	assert_int_equal(read_one(&p, &c), 0);
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_ZERO_RETURN);
	pair_write_all(&p, big, BIG);
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
}

static void reset_in_mid_write_says_how_many_bytes_are_sent(void **state)
{
	const struct way *w = *state;
	struct pair_opts o = w->opts;
	struct pair p;
	struct peer peer = { .p = &p, .until = 600000, .file = -1, .resets = true };
	struct ringtls_conn_info info;
	size_t written;

	o.small_buffers = true;
	open_shaken(&p, &o);
	if (w->blocks) {
		start_peer(&peer);
		assert_int_equal(ringtls_write(p.conn, big, BIG), -1);
		assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_SYSCALL);
		join_peer(&peer);
	} else {
		while (p.got_len < 600000) {
			want_write(&p, big, BIG);
			pair_peer_reads(&p);
			pair_wait(&p);
		}
		close_hard(&p);
		while (ringtls_write_ex(p.conn, big, BIG, &written) == 0 &&
		       ringtls_get_error(p.conn, 0) == SSL_ERROR_WANT_WRITE)
			pair_rest(&p);
		assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_SYSCALL);
	}
	assert_true(errno == ECONNRESET || errno == EPIPE);
	info = pair_info(&p);
	assert_true(info.error == -ECONNRESET || info.error == -EPIPE);
	/* No byte that the kernel was not given; and what it was given, but for the last
	 * operation: where we seal, that counts when all of it is taken. */
	assert_true(info.bytes < BIG);
	assert_true(info.bytes + (o.lane == RINGTLS_LANE_KERNEL ? 0 : RINGTLS__OP_BYTES) >=
		    p.got_len);
	assert_memory_equal(p.got, big, p.got_len);
	pair_close(&p);
}

/* ---- Files ------------------------------------------------------------- */

static int temp_file(void)
{
	char name[] = "/tmp/ringtls-test-XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	return fd;
}

/* One call's worth: the bytes sent, or 0 behind the end. */
static size_t send_more(struct pair *p, int file, off_t offset, size_t len)
{
	ssize_t n;

	while ((n = ringtls_sendfile(p->conn, file, offset, len, 0)) < 0) {
		assert_int_equal(ringtls_get_error(p->conn, (int)n), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(p);
		pair_wait(p);
	}
	return (size_t)n;
}

static size_t send_range(struct pair *p, int file, off_t offset, size_t len)
{
	size_t done = 0, n;

	while (done < len && (n = send_more(p, file, offset + (off_t)done, len - done)) > 0)
		done += n;
	return done;
}

static void ranges_beyond_2_gib(void **state)
{
	static const off_t places[] = { 2 * GIB - 5000, 4 * GIB - 5000, 5 * GIB + 1 };
	const struct way *w = *state;
	struct pair p;
	int file = temp_file();

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pwrite(file, big + i * 10000, 10000, places[i]), 10000);
	open_shaken(&p, &w->opts);
	if (w->blocks)
		pair_set_blocking(p.fd);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(send_range(&p, file, places[i], 10000), 10000);
	assert_int_equal(send_range(&p, file, places[2] + 9000, 5000), 1000);
	assert_int_equal(send_range(&p, file, places[2] + 10000, 1), 0);
	assert_int_equal(send_range(&p, file, 100 * GIB, 1), 0);
	pair_write_all(&p, big + 30000, 1000);
	pair_rest(&p);
	while (p.got_len < 32000) {
		pair_peer_reads(&p);
		pair_rest(&p);
	}
	assert_int_equal(p.got_len, 32000);
	assert_memory_equal(p.got, big, 30000);
	assert_memory_equal(p.got + 30000, big + 29000, 1000);
	assert_memory_equal(p.got + 31000, big + 30000, 1000);
	pair_close(&p);
	close(file);
}

/* What was read before it became shorter may still go out; then it is at its end. */
static void file_truncated_while_it_is_sent(void **state)
{
	const struct way *w = *state;
	struct pair_opts o = w->opts;
	int file = temp_file();
	struct pair p;
	struct peer peer = { .p = &p, .until = BIG, .file = file, .length = 600000 };
	size_t done;

	assert_int_equal(write(file, big, BIG), BIG);
	o.small_buffers = true;
	open_shaken(&p, &o);
	if (w->blocks) {
		start_peer(&peer);
		done = send_range(&p, file, 0, BIG);
		assert_int_equal(ringtls_shutdown(p.conn), 0);
		join_peer(&peer);
		expect_got(&p, big, done);
	} else {
		done = send_more(&p, file, 0, BIG);
		assert_int_equal(ftruncate(file, 600000), 0);
		done += send_range(&p, file, (off_t)done, BIG - done);
		assert_int_equal(send_more(&p, file, (off_t)done, 1), 0);
		pair_write_all(&p, big + done, 1000);
		pair_peer_expects(&p, big, done + 1000);
	}
	assert_in_bounds(done, 600000, BIG - 1);
	pair_close(&p);
	close(file);
}

static void file_growing_while_it_is_sent(void **state)
{
	struct pair_opts o = ((const struct way *)*state)->opts;
	int file = temp_file();
	struct pair p;
	size_t done;

	assert_int_equal(write(file, big, 500000), 500000);
	o.small_buffers = true;
	open_shaken(&p, &o);
	done = send_more(&p, file, 0, BIG);
	assert_int_equal(write(file, big + 500000, 200000), 200000);
	done += send_range(&p, file, (off_t)done, BIG - done);
	assert_int_equal(done, 700000);
	assert_int_equal(write(file, big + 700000, BIG - 700000), BIG - 700000);
	done += send_range(&p, file, (off_t)done, BIG - done);
	assert_int_equal(done, BIG);
	pair_peer_expects(&p, big, BIG);
	pair_close(&p);
	close(file);
}

/* ---- The list ---------------------------------------------------------- */

static const struct {
	const char *name;
	CMUnitTestFunction function;
	bool also_blocking;
} tests[] = {
#define T(f, b) { #f, f, b }
	T(write_shakes_hands_first, true),
	T(larger_num_in_a_retry_is_legal, false),
	T(full_socket_in_the_middle_of_a_record, false),
	T(peer_closes_and_we_go_on_writing, true),
	T(we_close_and_the_peer_goes_on_writing, true),
	T(peers_close_notify_in_mid_write, false),
	T(reset_in_mid_write_says_how_many_bytes_are_sent, true),
	T(ranges_beyond_2_gib, true),
	T(file_truncated_while_it_is_sent, true),
	T(file_growing_while_it_is_sent, false),
};

static void add(size_t test, const struct pair_opts *o, bool blocks)
{
	static struct way ways[COUNT(tests) * EVERY_LANE * 2];
	static size_t n;

	ways[n] = (struct way){ *o, blocks };
	list_add(&ways[n++], tests[test].function, "%s %s: %s", list_place(o),
		 blocks ? "blocking" : "non-blocking", tests[test].name);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL); /* none may come */
	pair_fill(big, BIG);
	for (size_t c = 0; c < EVERY_LANE; c++)
		for (size_t t = 0; t < COUNT(tests); t++) {
			add(t, &every_lane[c], false);
			if (tests[t].also_blocking)
				add(t, &every_lane[c], true);
		}
	return list_run("contract", argc, argv);
}
