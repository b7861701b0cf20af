/* kernel_short.c - what a short answer means (kmod-notes/short-sends.md). */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define FULL RINGTLS__RECORD_MAX

static ssize_t send_two(struct line *l, void *first, size_t first_len, void *second,
			size_t second_len)
{
	struct iovec iov[] = { { first, first_len }, { second, second_len } };
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n = sendmsg(l->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n < 0 ? -errno : n;
}

static void eagain_means_that_nothing_was_taken(void **state)
{
	uint8_t *other;
	struct line l;
	uint64_t seq;

	(void)state;
	line_sealed(&l, SMALL);
	line_fill(&l, 5000);
	seq = line_seq(&l);
	for (size_t len = 1; len < 100000; len *= 10) {
		assert_int_equal(line_send(&l, kernel_bytes, len, 0), -EAGAIN);
		assert_int_equal(line_record(&l, RINGTLS__RECORD_ALERT, kernel_bytes, len, 0),
				 -EAGAIN);
	}
	assert_int_equal(line_seq(&l), seq);
	behaviour("short-sends/EAGAIN", "nothing was taken");
	line_drain(&l);
	/* So what comes next may be other bytes, from other memory. */
	other = malloc(3000);
	memset(other, 0xa5, 3000);
	line_send_whole(&l, other, 3000);
	line_finish(&l);
	line_close(&l);
	free(other);
}

static void short_send_ends_at_a_record(void **state)
{
	struct line l;
	ssize_t n;

	(void)state;
	line_sealed(&l, SMALL);
	n = line_send(&l, kernel_bytes, KERNEL_BYTES, 0);
	assert_true(n > 0 && n < KERNEL_BYTES);
	assert_int_equal(n % FULL, 0);
	assert_int_equal(line_seq(&l), n / FULL);
	behaviour("short-sends/a short send ends", "at a record");
	line_finish(&l); /* what was counted can be read, every byte of it */
	assert_int_equal(l.record_count, n / FULL);
	line_close(&l);
}

static void every_byte_counted_can_be_read_after_any_run_of_sends(void **state)
{
	static const size_t sizes[] = { 1, 37, 1000, FULL - 1, FULL, FULL + 1, 50000, 200000 };
	struct line l;

	(void)state;
	line_sealed(&l, SMALL);
	for (size_t i = 0; i < 200; i++) {
		ssize_t n = line_send(&l, kernel_bytes + i, sizes[i * 7 % 8], 0);

		assert_true(n > 0 || n == -EAGAIN);
		if (n < 0 || i % 5 == 0)
			line_peer_reads(&l);
	}
	line_finish(&l);
	line_close(&l);
}

static void bytes_are_cut_into_full_records_and_a_rest(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_send(&l, kernel_bytes, 5 * FULL + 1, 0), 5 * FULL + 1);
	assert_int_equal(line_seq(&l), 6);
	line_finish(&l);
	for (size_t i = 0; i < 5; i++)
		line_expect(&l, i, RINGTLS__RECORD_DATA, FULL);
	line_expect(&l, 5, RINGTLS__RECORD_DATA, 1);
	line_close(&l);
}

static void many_pieces_of_a_send_share_a_record(void **state)
{
	struct iovec iov[64];
	const struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 64 };
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	for (size_t i = 0; i < 64; i++) { /* all on pages of their own */
		iov[i].iov_base = kernel_bytes + i * 5000;
		iov[i].iov_len = 256;
		line_gave(&l, iov[i].iov_base, 256);
	}
	assert_int_equal(sendmsg(l.fd, &msg, MSG_NOSIGNAL), FULL);
	behaviour("short-sends/records of 64 pieces of 256 bytes", "%d", (int)line_seq(&l));
	line_finish(&l);
	line_close(&l);
}

/* Why records are counted by the kernel's number, never worked out from lengths. */
static void pieces_under_more_may_close_a_record_early(void **state)
{
	struct line l;
	int records;

	(void)state;
	line_sealed(&l, LARGE);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(line_send(&l, kernel_bytes + i * 5000, 256,
					   i < 63 ? MSG_MORE : 0),
				 256);
	records = (int)line_seq(&l);
	assert_true(records >= 1);
	behaviour("short-sends/records of 64 sends of 256 bytes with MSG_MORE", "%d", records);
	line_finish(&l);
	line_close(&l);
}

static void bad_memory_costs_only_what_is_not_yet_sealed(void **state)
{
	void *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct line l;
	ssize_t n;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(send_two(&l, kernel_bytes, FULL, bad, 4096), FULL);
	line_gave(&l, kernel_bytes, FULL);
	assert_int_equal(line_seq(&l), 1);
	assert_int_equal(line_send(&l, bad, 4096, 0), -EFAULT);
	n = send_two(&l, kernel_bytes, 1000, bad, 4096);
	assert_true(n == -EFAULT || n == 1000);
	behaviour("short-sends/1000 good bytes, then bad memory", "%s",
		  n > 0 ? "1000" : outcome(n));
	if (n > 0)
		line_gave(&l, kernel_bytes, (size_t)n);
	assert_int_equal(line_send(&l, kernel_bytes, 100, 0), 100);
	line_finish(&l);
	line_close(&l);
	munmap(bad, 4096);
}

static void mapping_of_a_truncated_file_is_an_error_and_no_signal(void **state)
{
	int file = temp_file(4 * FULL);
	uint8_t *map = mmap(NULL, 4 * FULL, PROT_READ, MAP_SHARED, file, 0);
	struct line l;

	(void)state;
	assert_ptr_not_equal(map, MAP_FAILED);
	line_sealed(&l, LARGE);
	assert_int_equal(ftruncate(file, FULL), 0);
	/* SIGBUS would end this program. */
	assert_int_equal(line_send(&l, map, 4 * FULL, 0), FULL);
	assert_int_equal(line_send(&l, map + FULL, 3 * FULL, 0), -EFAULT);
	behaviour("short-sends/a mapped file that was truncated",
		  "whole records before, then EFAULT");
	assert_int_equal(line_send(&l, kernel_bytes, 100, 0), 100);
	line_finish(&l);
	line_close(&l);
	munmap(map, 4 * FULL);
	close(file);
}

static const struct CMUnitTest tests[] = {
	T(eagain_means_that_nothing_was_taken),
	T(short_send_ends_at_a_record),
	T(every_byte_counted_can_be_read_after_any_run_of_sends),
	T(bytes_are_cut_into_full_records_and_a_rest),
	T(many_pieces_of_a_send_share_a_record),
	T(pieces_under_more_may_close_a_record_early),
	T(bad_memory_costs_only_what_is_not_yet_sealed),
	T(mapping_of_a_truncated_file_is_an_error_and_no_signal),
};

const struct kernel_tests kernel_short = KERNEL_TESTS(tests);
