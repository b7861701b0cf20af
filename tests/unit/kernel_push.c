/* kernel_push.c - a file in a send buffer below one segment (kmod-notes/sendfile.md). */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

static ssize_t kernels_sendfile(int fd, int file, off_t *offset, size_t len)
{
	ssize_t n = sendfile(fd, file, offset, len);

	return n < 0 ? -errno : n;
}

static void line_with_buffer(struct line *l, int buffer)
{
	line_sealed(l, LARGE);
	assert_int_equal(setsockopt(l->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)), 0);
}

static int asked(const struct line *l, unsigned long what)
{
	int bytes = -1;

	assert_int_equal(ioctl(l->fd, what, &bytes), 0);
	return bytes;
}

/* The socket becomes writable while the peer reads all there is. */
static bool line_becomes_writable(struct line *l, unsigned patience_ms)
{
	struct pollfd pfd = { .fd = l->fd, .events = POLLOUT };
	int64_t end = clock_ms() + patience_ms;

	do {
		line_peer_reads(l);
		if (poll(&pfd, 1, 1) > 0)
			return true;
	} while (clock_ms() < end);
	return false;
}

/* Nothing of what TCP has is on its way. */
static bool is_at_rest(const struct line *l)
{
	return asked(l, SIOCOUTQ) > 0 && asked(l, SIOCOUTQ) == asked(l, SIOCOUTQNSD);
}

/* A busy machine is no kernel that sends nothing. */
static bool goes_on(struct line *l, unsigned patience_ms)
{
	return line_becomes_writable(l, patience_ms) ||
	       (!is_at_rest(l) && line_becomes_writable(l, PATIENCE_MS));
}

/* Sends the file, waiting as a caller would. False when the wait has no end, with from where on
 * in *at. */
static bool send_the_file(struct line *l, int file, off_t *at, unsigned patience_ms)
{
	while (*at < KERNEL_BYTES) {
		off_t before = *at;
		ssize_t n = kernels_sendfile(l->fd, file, at, (size_t)(KERNEL_BYTES - before));

		assert_true(n > 0 || n == -EAGAIN);
		if (n > 0)
			line_gave(l, kernel_bytes + before, (size_t)n);
		else if (!goes_on(l, patience_ms))
			return false;
		*at = n > 0 ? before + n : before;
	}
	return true;
}

static bool stays_unsent_for_ever(int file, int buffer)
{
	const int on = 1;
	struct line l;
	off_t at = 0;
	bool stays;

	line_with_buffer(&l, buffer);
	stays = !send_the_file(&l, file, &at, MOMENT_MS);
	if (stays) {
		assert_true(is_at_rest(&l));
		/* What mends it, though line_open has set it already. */
		setsockopt(l.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		assert_true(line_becomes_writable(&l, PATIENCE_MS));
	}
	line_alert(&l); /* closes a record that was left open */
	line_finish(&l);
	line_close(&l);
	return stays;
}

static void file_in_a_buffer_below_a_segment_may_stay_unsent_for_ever(void **state)
{
	int file = temp_file(KERNEL_BYTES);
	unsigned stays = 0;

	(void)state;
	need("ktls", has_ktls());
	for (int buffer = 4096; buffer <= 32768; buffer *= 2)
		stays += stays_unsent_for_ever(file, buffer);
	behaviour("sendfile/a file, SO_SNDBUF below a segment", "%s",
		  stays ? "EAGAIN with nothing on its way, and no wake-up" : "is sent");
	close(file);
}

static void file_in_a_larger_buffer_is_sent(void **state)
{
	int file = temp_file(KERNEL_BYTES);

	(void)state;
	need("ktls", has_ktls());
	for (int buffer = 65536; buffer <= 1048576; buffer *= 2)
		assert_false(stays_unsent_for_ever(file, buffer));
	close(file);
}

static const struct CMUnitTest tests[] = {
	T(file_in_a_buffer_below_a_segment_may_stay_unsent_for_ever),
	T(file_in_a_larger_buffer_is_sent),
};

const struct kernel_tests kernel_push = KERNEL_TESTS(tests);
