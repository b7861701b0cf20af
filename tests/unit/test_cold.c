/*
 * test_cold.c - a file that is not in memory, on a ring: the call answers WANT_WRITE at once
 * and the engine tells when to repeat it, in every lane; nobody waits for the disk. What is in
 * memory is what a table of system calls says here; the ring reads in earnest.
 */
#define _GNU_SOURCE /* memfd_create */
#include "support.h"
#include "list.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <openssl/err.h>
#include "fake_malloc.h"
#include "probe.h"

#define LEN   1500000
#define PIECE RINGTLS__OP_BYTES

static uint8_t bytes[LEN];
static int file;

/* From where on nothing is in memory, how often that was asked and answered with no, and what
 * would have waited. */
static struct {
	off_t cold_from;
	unsigned colds, waits;
	bool stays_cold;
} disk;

/* Whoever was told that a piece is cold finds it in memory the next time, as behind a read. */
static bool is_cold(off_t at)
{
	if (at < disk.cold_from)
		return false;
	disk.colds++;
	if (!disk.stays_cold)
		disk.cold_from = at + PIECE;
	return true;
}

static ssize_t pread_cached(int fd, void *buf, size_t len, off_t at)
{
	if (is_cold(at))
		return -EAGAIN;
	if (len > (size_t)(disk.cold_from - at))
		len = (size_t)(disk.cold_from - at);
	return pread(fd, buf, len, at);
}

static ssize_t waiting_pread(int fd, void *buf, size_t len, off_t at)
{
	disk.waits++;
	return ringtls__sys_real.pread(fd, buf, len, at);
}

/* Of the real one it is asked only for what was found to be there. */
static ssize_t checked_sendfile(int fd, int from, off_t *at, size_t len)
{
	disk.waits += *at + (off_t)len > disk.cold_from && !disk.stays_cold;
	return ringtls__sys_real.sendfile(fd, from, at, len);
}

static void open_cold(struct pair *p, const struct pair_opts *opts, off_t cold_from)
{
	static struct ringtls__sys sys;
	struct pair_opts o = *opts;

	pair_need(&o);
	sys = ringtls__sys_real;
	sys.pread_cached = pread_cached;
	sys.pread = waiting_pread;
	sys.sendfile = checked_sendfile;
	o.sys = &sys;
	memset(&disk, 0, sizeof(disk));
	disk.cold_from = cold_from;
	pair_open(p, &o);
	pair_handshake(p);
}

/* One call; what it took. */
static size_t send_some(struct pair *p, off_t from, size_t len, bool *ret_wants)
{
	ssize_t n = ringtls_sendfile(p->conn, file, from, len, 0);

	*ret_wants = n < 0;
	if (n >= 0)
		return (size_t)n;
	assert_int_equal(ringtls_get_error(p->conn, -1), SSL_ERROR_WANT_WRITE);
	return 0;
}

static void send_file(struct pair *p, off_t from, off_t end)
{
	bool wants;

	while (from < end) {
		size_t n = send_some(p, from, (size_t)(end - from), &wants);

		from += (off_t)n;
		if (!wants)
			continue;
		pair_peer_reads(p);
		pair_wait(p);
	}
}

static void nobody_waits_for_the_disk(void **state)
{
	struct pair p;
	bool wants;

	open_cold(&p, *state, 0);
	assert_int_equal(send_some(&p, 0, LEN, &wants), 0);
	assert_true(wants);
	assert_int_equal(disk.colds, 1);
	pair_wait(&p); /* the socket has room; it is the read that ends */
	send_file(&p, 0, LEN);
	pair_peer_expects(&p, bytes, LEN);
	assert_true(disk.colds >= LEN / PIECE);
	assert_int_equal(disk.waits, 0);
	pair_close(&p);
}

/* What is there goes out, and what is not is waited for. */
static void what_is_in_memory_goes_first(void **state)
{
	struct pair p;
	bool wants;
	size_t n;

	open_cold(&p, *state, 4 * PIECE);
	n = send_some(&p, 0, LEN, &wants);
	assert_true(n <= 4 * PIECE);
	send_file(&p, (off_t)n, LEN);
	pair_peer_expects(&p, bytes, LEN);
	assert_true(disk.colds > 0);
	assert_int_equal(disk.waits, 0);
	pair_close(&p);
}

/* A call was made, and what it asks for is being read. */
static void open_fetching(struct pair *p, const struct pair_opts *opts, off_t from)
{
	bool wants;

	open_cold(p, opts, 0);
	send_some(p, from, 5000, &wants);
	assert_true(wants);
}

/* The caller may do anything else meanwhile. */
static void write_instead_of_the_repetition(void **state)
{
	struct pair p;

	open_fetching(&p, *state, 1000);
	assert_int_equal(ringtls_write(p.conn, bytes, 1000), 1000);
	send_file(&p, 1000, 300000);
	pair_peer_expects(&p, bytes, 300000);
	assert_int_equal(disk.waits, 0);
	pair_close(&p);
}

/* Also of another file, or place. */
static void another_range_meanwhile(void **state)
{
	struct pair p;

	open_fetching(&p, *state, 700000);
	disk.cold_from = 0;
	disk.stays_cold = true;
	send_file(&p, 0, 300000);
	pair_peer_expects(&p, bytes, 300000);
	pair_close(&p);
}

/* A file system that keeps nothing: each piece is read by the ring once, then waited for. */
static void what_never_stays_in_memory_is_sent_all_the_same(void **state)
{
	struct pair p;

	open_cold(&p, *state, 0);
	disk.stays_cold = true;
	send_file(&p, 0, LEN);
	pair_peer_expects(&p, bytes, LEN);
	pair_close(&p);
}

static void freed_while_it_is_fetched(void **state)
{
	struct pair p;

	open_fetching(&p, *state, 0);
	pair_close(&p); /* asserts that the engine is idle */
}

static void blocking_socket_waits(void **state)
{
	struct pair p;

	open_cold(&p, *state, 0);
	disk.stays_cold = true;
	pair_set_blocking(p.fd);
	assert_int_equal(ringtls_sendfile(p.conn, file, 0, 30000, 0), 30000);
	pair_peer_expects(&p, bytes, 30000);
	assert_true(disk.waits > 0);
	pair_close(&p);
}

/* A queued file is read by the ring where it is cold, also in the kernel lane. */
static void queued_file(void **state)
{
	struct ringtls_completion done;
	struct ringtls_event ev;
	struct pair p;
	int got = 0;

	open_cold(&p, *state, 0);
	assert_int_equal(ringtls_queue_sendfile(p.conn, file, 0, LEN, 7), 1);
	while (!got || !(done.flags & RINGTLS_SENT)) {
		assert_true(ringtls_engine_wait(p.engine, &ev, 1, 1) >= 0);
		pair_peer_reads(&p);
		got = ringtls_engine_completions(p.engine, &done, 1);
		assert_true(got >= 0);
	}
	assert_int_equal(done.error, 0);
	assert_int_equal(done.bytes, LEN);
	pair_peer_expects(&p, bytes, LEN);
	assert_int_equal(disk.waits, 0);
	pair_close(&p);
}

/* Each allocation fails once. Without memory nothing is read ahead, and nothing is kept for it;
 * then the call reads by itself, or fails for lack of memory. */
static void what_was_meant_for_a_read_is_given_back(void **state)
{
	unsigned before = fake_malloc_failures;

	for (unsigned nth = 1; nth <= 6; nth++) {
		struct pair p;
		ssize_t n;

		open_cold(&p, *state, 0);
		fake_malloc_fail_at(nth);
		n = ringtls_sendfile(p.conn, file, 0, LEN, 0);
		fake_malloc_fail_at(0);
		if (!p.conn->requests.read)
			assert_null(p.conn->requests.piece);
		if (n < 0 && ringtls_get_error(p.conn, -1) == SSL_ERROR_WANT_WRITE)
			assert_non_null(p.conn->requests.read);
		pair_close(&p);
	}
	assert_true(fake_malloc_failures > before);
}

/* ---- In earnest -------------------------------------------------------- */

static void drop_pages(int fd)
{
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
}

/* On a disk whose pages can be dropped. To ask for one starts to read it, so the first that
 * asks is the call. */
static void file_whose_pages_were_dropped(void **state)
{
	char name[] = "./ringtls-cold-XXXXXX";
	int on_disk = mkstemp(name), memory = file;
	const struct pair_opts *o = *state;
	unsigned colds = 0;
	struct pair p;
	bool wants;

	pair_need(o);
	assert_true(on_disk >= 0);
	unlink(name);
	assert_int_equal(write(on_disk, bytes, LEN), LEN);
	pair_open(&p, o);
	pair_handshake(&p);
	file = on_disk;
	for (off_t at = 0; at < LEN; at += 100000) {
		size_t n;

		drop_pages(on_disk);
		n = send_some(&p, at, 100000, &wants);
		colds += wants;
		send_file(&p, at + (off_t)n, at + 100000);
	}
	file = memory;
	pair_peer_expects(&p, bytes, LEN);
	pair_close(&p);
	close(on_disk);
	need("a disk that is not memory", colds);
}

static const struct list_test tests[] = {
#define T(f)                                                                                       \
	{                                                                                          \
#f, f                                                                              \
	}
	T(nobody_waits_for_the_disk),
	T(what_is_in_memory_goes_first),
	T(write_instead_of_the_repetition),
	T(another_range_meanwhile),
	T(what_never_stays_in_memory_is_sent_all_the_same),
	T(freed_while_it_is_fetched),
	T(blocking_socket_waits),
	T(queued_file),
	T(what_was_meant_for_a_read_is_given_back),
	T(file_whose_pages_were_dropped),
#undef T
};

/* Plain system calls have nobody to read meanwhile. */
static const struct pair_opts places[] = {
	{ .lane = RINGTLS_LANE_OPENSSL, .backend = RINGTLS_BACKEND_URING, .version = TLS1_3_VERSION },
	{ .lane = RINGTLS_LANE_OPENSSL, .backend = RINGTLS_BACKEND_URING, .version = TLS1_2_VERSION },
	{ .lane = RINGTLS_LANE_USER, .backend = RINGTLS_BACKEND_URING, .version = TLS1_3_VERSION },
	{ .lane = RINGTLS_LANE_KERNEL, .backend = RINGTLS_BACKEND_URING, .version = TLS1_3_VERSION },
};

int main(int argc, char **argv)
{
	file = memfd_create("cold", MFD_CLOEXEC);
	pair_fill(bytes, LEN);
	if (file < 0 || write(file, bytes, LEN) != LEN)
		return 1;
	list_add_all(tests, COUNT(tests), places, COUNT(places));
	return list_run("cold", argc, argv);
}
