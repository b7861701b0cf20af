/* kernel_drain.c - a result is not delivery, and the proof that is (kmod-notes/drain.md). */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/sendfile.h>
#include <unistd.h>

/* Full, with sealed records that TCP has not been given: the kernel's list. */
static uint64_t line_with_a_list(struct line *l)
{
	line_sealed(l, SMALL);
	line_fill(l, 40000);
	return line_sealed_bytes(l) - line_in_tcp(l);
}

/* Nor does SIOCOUTQ show it, which is a part of what line_in_tcp adds up. */
static void result_is_not_delivery(void **state)
{
	uint64_t listed;
	struct line l;

	(void)state;
	listed = line_with_a_list(&l);
	behaviour("drain/sealed and answered for, but not given to TCP", "%s",
		  listed ? "yes" : "no");
	assert_true(listed > 0);
	line_finish(&l);
	line_close(&l);
}

/* What the peer gets of a full connection that ends without a drain. */
static void tell_loss(struct line *l, uint64_t sealed, const char *name)
{
	line_peer_reads_to_end(l);
	line_open_records(l);
	assert_true(l->wire.len <= sealed);
	behaviour(name, "%s",
		  l->wire.len == sealed ? "loses nothing" :
		  l->cut		? "cuts the stream within a record" :
					  "cuts the stream between records");
}

static void close_without_the_drain_cuts_the_stream(void **state)
{
	uint64_t sealed;
	struct line l;

	(void)state;
	line_with_a_list(&l);
	sealed = line_sealed_bytes(&l);
	close(l.fd);
	l.fd = -1;
	tell_loss(&l, sealed, "drain/close without the drain");
	line_close(&l);
}

static void shutdown_without_the_drain_cuts_the_stream(void **state)
{
	uint64_t sealed;
	struct line l;

	(void)state;
	line_with_a_list(&l);
	sealed = line_sealed_bytes(&l);
	assert_int_equal(shutdown(l.fd, SHUT_WR), 0);
	tell_loss(&l, sealed, "drain/shutdown without the drain");
	line_close(&l);
}

static void *read_late(void *arg)
{
	nap(MOMENT_MS);
	line_peer_reads_to_end(arg);
	return NULL;
}

static void lingering_does_not_help(void **state)
{
	const struct linger wait = { .l_onoff = 1, .l_linger = 5 };
	pthread_t reader;
	uint64_t sealed;
	struct line l;

	(void)state;
	line_with_a_list(&l);
	sealed = line_sealed_bytes(&l);
	assert_int_equal(setsockopt(l.fd, SOL_SOCKET, SO_LINGER, &wait, sizeof(wait)), 0);
	set_blocking(l.fd, true);
	assert_int_equal(pthread_create(&reader, NULL, read_late, &l), 0);
	close(l.fd);
	l.fd = -1;
	pthread_join(reader, NULL);
	tell_loss(&l, sealed, "drain/close with SO_LINGER, without the drain");
	line_close(&l);
}

static void close_after_the_drain_loses_nothing(void **state)
{
	uint64_t sealed, last;
	struct line l;

	(void)state;
	line_with_a_list(&l);
	sealed = line_sealed_bytes(&l);
	line_drain(&l);
	/* The peer still has to read what TCP has. */
	line_send_whole(&l, kernel_bytes, 5000);
	last = line_sealed_bytes(&l);
	assert_true(last > sealed);
	line_drain(&l);
	close(l.fd);
	l.fd = -1;
	line_peer_reads_to_end(&l);
	line_open_records(&l);
	assert_int_equal(l.wire.len, last);
	assert_int_equal(l.cut, 0);
	assert_memory_equal(l.plain.at, l.given.at, l.given.len);
	behaviour("drain/close after the drain", "loses nothing");
	line_close(&l);
}

/* ---- The formula ------------------------------------------------------- */

static void send_file(struct line *l, int file, size_t len)
{
	off_t at = 0;

	while ((size_t)at < len) {
		off_t before = at;
		ssize_t n = sendfile(l->fd, file, &at, len - (size_t)at);

		assert_true(n > 0 || errno == EAGAIN);
		line_gave(l, kernel_bytes + before, (size_t)(at - before));
		line_peer_reads(l);
	}
}

/* Small, large, control records, a file, each followed by the exact drain. */
static void send_patterns(struct line *l, int file)
{
	static const size_t sizes[] = { 1, 100, 16383, 16384, 16385, 100000 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		line_send_whole(l, kernel_bytes, sizes[i]);
		line_drain(l);
	}
	for (size_t i = 0; i < 100; i++)
		line_send_whole(l, kernel_bytes + i, i % 40 + 1);
	line_drain(l);
	while (line_record(l, RINGTLS__RECORD_HANDSHAKE, kernel_bytes, 200, 0) != 200)
		line_peer_reads(l);
	line_drain(l);
	send_file(l, file, 70000);
	line_drain(l);
	while (line_send(l, kernel_bytes, 100, MSG_MORE) != 100)
		line_peer_reads(l);
	line_alert(l);
	line_drain(l);
}

static void formula_holds_after_every_pattern_for_every_cipher(void **state)
{
	static const uint16_t ciphers[] = { TLS_CIPHER_AES_GCM_128, TLS_CIPHER_AES_GCM_256,
					    TLS_CIPHER_AES_CCM_128, TLS_CIPHER_CHACHA20_POLY1305 };
	int file = temp_file(70000);

	(void)state;
	need("ktls", has_ktls());
	for (size_t i = 0; i < 16; i++) {
		struct line l;

		line_open(&l, i & 1 ? SMALL : LARGE);
		line_install(&l, i & 2 ? TLS_1_2_VERSION : TLS_1_3_VERSION, ciphers[i / 4]);
		send_patterns(&l, file);
		line_finish(&l);
		line_close(&l);
	}
	behaviour("drain/the formula, all ciphers, TLS 1.2 and 1.3", "exact");
	close(file);
}

static void formula_holds_over_several_epochs(void **state)
{
	int file = temp_file(70000);
	struct line l;

	(void)state;
	need("rekey", has_rekey());
	line_sealed(&l, SMALL);
	for (unsigned i = 0; i < 4; i++) {
		line_send_whole(&l, kernel_bytes, 50000); /* the rekey finds a list */
		line_install(&l, TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128);
		send_patterns(&l, file);
	}
	line_finish(&l);
	behaviour("drain/the formula over several epochs", "exact");
	line_close(&l);
	close(file);
}

static void formula_holds_when_plain_bytes_came_before_the_key(void **state)
{
	struct line l;

	(void)state;
	need("ktls", has_ktls());
	line_open(&l, LARGE);
	assert_int_equal(send(l.fd, kernel_bytes, 3000, MSG_NOSIGNAL), 3000);
	line_install(&l, TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128);
	assert_int_equal(line_send(&l, kernel_bytes, 40000, 0), 40000);
	line_drain(&l);
	assert_int_equal(shutdown(l.fd, SHUT_WR), 0);
	line_peer_reads_to_end(&l);
	assert_int_equal(l.wire.len, 3000 + line_sealed_bytes(&l));
	line_close(&l);
}

static void *read_all(void *arg)
{
	line_peer_reads_to_end(arg);
	return NULL;
}

/* Acknowledged bytes are asked for first, so a race can only make it err low. */
static void formula_never_runs_ahead_of_the_truth(void **state)
{
	pthread_t reader;
	struct line l;
	size_t at = 0;

	(void)state;
	line_sealed(&l, SMALL);
	assert_int_equal(pthread_create(&reader, NULL, read_all, &l), 0);
	while (at < KERNEL_BYTES) {
		struct pollfd pfd = { .fd = l.fd, .events = POLLOUT };
		size_t len = KERNEL_BYTES - at < 50000 ? KERNEL_BYTES - at : 50000;
		ssize_t n = line_send(&l, kernel_bytes + at, len, 0);

		line_is_drained(&l); /* asserts it */
		if (n > 0)
			at += (size_t)n;
		else
			assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
	}
	for (unsigned i = 0; i < 10000 && !line_is_drained(&l); i++)
		nap(1);
	assert_int_equal(shutdown(l.fd, SHUT_WR), 0);
	pthread_join(reader, NULL);
	assert_int_equal(l.wire.len, line_sealed_bytes(&l));
	line_close(&l);
}

static void kernel_gives_tcp_the_list_without_being_asked(void **state)
{
	int64_t end = clock_ms() + PATIENCE_MS;
	uint64_t sealed;
	struct line l;

	(void)state;
	line_with_a_list(&l);
	sealed = line_sealed_bytes(&l);
	/* Only the peer does anything from here on. */
	while (l.wire.len < sealed && clock_ms() < end) {
		line_peer_reads(&l);
		nap(1);
	}
	assert_int_equal(l.wire.len, sealed);
	behaviour("drain/the list moves on", "by itself, when the peer reads");
	line_finish(&l);
	line_close(&l);
}

static void socket_is_writable_again_only_when_the_peer_reads(void **state)
{
	struct pollfd pfd;
	struct line l;

	(void)state;
	line_with_a_list(&l);
	pfd = (struct pollfd){ .fd = l.fd, .events = POLLOUT };
	assert_int_equal(poll(&pfd, 1, MOMENT_MS), 0);
	while (poll(&pfd, 1, 0) == 0)
		line_peer_reads(&l);
	assert_true(pfd.revents & POLLOUT);
	line_finish(&l);
	line_close(&l);
}

static void open_record_is_in_the_way_of_the_drain(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_send(&l, kernel_bytes, 100, MSG_MORE), 100);
	nap(MOMENT_MS);
	assert_true(line_in_tcp(&l) < line_sealed_bytes(&l));
	close(l.fd);
	l.fd = -1;
	line_peer_reads_to_end(&l);
	assert_int_equal(l.wire.len, 0);
	behaviour("drain/close with an open record", "loses the record");
	line_close(&l);
}

static const struct CMUnitTest tests[] = {
	T(result_is_not_delivery),
	T(close_without_the_drain_cuts_the_stream),
	T(shutdown_without_the_drain_cuts_the_stream),
	T(lingering_does_not_help),
	T(close_after_the_drain_loses_nothing),
	T(formula_holds_after_every_pattern_for_every_cipher),
	T(formula_holds_over_several_epochs),
	T(formula_holds_when_plain_bytes_came_before_the_key),
	T(formula_never_runs_ahead_of_the_truth),
	T(kernel_gives_tcp_the_list_without_being_asked),
	T(socket_is_writable_again_only_when_the_peer_reads),
	T(open_record_is_in_the_way_of_the_drain),
};

const struct kernel_tests kernel_drain = KERNEL_TESTS(tests);
