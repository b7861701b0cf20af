/* kernel_records.c - records that are not application data (kmod-notes/records.md), and
 * records on their way to TCP (kmod-notes/segments.md). */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>

static const uint16_t versions[] = { TLS_1_2_VERSION, TLS_1_3_VERSION };

static void control_message_names_the_type(void **state)
{
	static const uint8_t alert[] = { 1, 0 }, update[] = { 24, 0, 0, 1, 0 };

	(void)state;
	need("ktls", has_ktls());
	for (size_t i = 0; i < 2; i++) {
		struct line l;

		line_open(&l, LARGE);
		line_install(&l, versions[i], TLS_CIPHER_AES_GCM_128);
		assert_int_equal(line_send(&l, kernel_bytes, 10, 0), 10);
		assert_int_equal(line_record(&l, RINGTLS__RECORD_HANDSHAKE, update, 5, 0), 5);
		assert_int_equal(line_send(&l, kernel_bytes, 20, 0), 20);
		assert_int_equal(line_record(&l, RINGTLS__RECORD_ALERT, alert, 2, 0), 2);
		assert_int_equal(line_seq(&l), 4);
		line_finish(&l);
		line_expect(&l, 0, RINGTLS__RECORD_DATA, 10);
		line_expect(&l, 1, RINGTLS__RECORD_HANDSHAKE, 5);
		line_expect(&l, 2, RINGTLS__RECORD_DATA, 20);
		line_expect(&l, 3, RINGTLS__RECORD_ALERT, 2);
		line_close(&l);
	}
	behaviour("records/a record type by control message", "taken");
}

static void long_payload_becomes_several_records_of_the_type(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_record(&l, RINGTLS__RECORD_HANDSHAKE, kernel_bytes, 20000, 0),
			 20000);
	assert_int_equal(line_send(&l, kernel_bytes, 1, 0), 1);
	line_finish(&l);
	line_expect(&l, 0, RINGTLS__RECORD_HANDSHAKE, RINGTLS__RECORD_MAX);
	line_expect(&l, 1, RINGTLS__RECORD_HANDSHAKE, 20000 - RINGTLS__RECORD_MAX);
	line_expect(&l, 2, RINGTLS__RECORD_DATA, 1);
	line_close(&l);
}

static void empty_payload_sends_no_record(void **state)
{
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_record(&l, RINGTLS__RECORD_HANDSHAKE, kernel_bytes, 0, 0), 0);
	assert_int_equal(line_seq(&l), 0);
	behaviour("records/a record without payload", "is not sent");
	line_finish(&l);
	assert_int_equal(l.record_count, 0);
	line_close(&l);
}

static void open_record_goes_out_before_the_control_record(void **state)
{
	static const uint8_t alert[] = { 1, 0 };
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_send(&l, kernel_bytes, 100, MSG_MORE), 100);
	assert_int_equal(line_record(&l, RINGTLS__RECORD_ALERT, alert, 2, 0), 2);
	line_finish(&l);
	line_expect(&l, 0, RINGTLS__RECORD_DATA, 100);
	line_expect(&l, 1, RINGTLS__RECORD_ALERT, 2);
	line_close(&l);
}

static void small_record_is_taken_whole_or_not_at_all(void **state)
{
	static const uint8_t update[] = { 24, 0, 0, 1, 0 };
	unsigned taken = 0;
	struct line l;
	ssize_t n;

	(void)state;
	line_sealed(&l, SMALL);
	while ((n = line_record(&l, RINGTLS__RECORD_HANDSHAKE, update, 5, 0)) == 5)
		taken++;
	assert_int_equal(n, -EAGAIN);
	assert_int_equal(line_seq(&l), taken);
	line_finish(&l);
	assert_int_equal(l.record_count, taken);
	line_close(&l);
}

static void unknown_control_message_is_refused(void **state)
{
	_Alignas(struct cmsghdr) uint8_t control[RECORD_CONTROL];
	struct iovec iov = { kernel_bytes, 10 };
	struct msghdr msg;
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	fill_record(&msg, &iov, control, RINGTLS__RECORD_ALERT);
	((struct cmsghdr *)(void *)control)->cmsg_type = 99;
	assert_int_equal(sendmsg(l.fd, &msg, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(line_seq(&l), 0);
	line_finish(&l);
	line_close(&l);
}

static void cork(const struct line *l, int value)
{
	assert_int_equal(setsockopt(l->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value)), 0);
}

/* Segments that three records of one send leave in. */
static unsigned segments(struct line *l, bool is_corked)
{
	struct tcp_info before = { 0 }, after = { 0 };
	socklen_t len = sizeof(before);

	assert_int_equal(getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &before, &len), 0);
	if (is_corked)
		cork(l, 1);
	assert_int_equal(line_send(l, kernel_bytes, 3 * RINGTLS__RECORD_MAX, 0),
			 3 * RINGTLS__RECORD_MAX);
	if (is_corked)
		cork(l, 0);
	line_drain(l);
	len = sizeof(after);
	assert_int_equal(getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &after, &len), 0);
	return after.tcpi_data_segs_out - before.tcpi_data_segs_out;
}

/* line_open sets TCP_NODELAY, and a segment of loopback has room for all three. */
static void records_of_a_send_share_segments_only_under_a_cork(void **state)
{
	unsigned apart, together;
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	apart = segments(&l, false);
	together = segments(&l, true);
	print_message("# three records: %u segments, %u with a cork\n", apart, together);
	assert_true(apart >= 3);
	assert_true(together < apart);
	line_finish(&l);
	line_close(&l);
}

static const struct CMUnitTest tests[] = {
	T(control_message_names_the_type),
	T(long_payload_becomes_several_records_of_the_type),
	T(empty_payload_sends_no_record),
	T(open_record_goes_out_before_the_control_record),
	T(small_record_is_taken_whole_or_not_at_all),
	T(unknown_control_message_is_refused),
	T(records_of_a_send_share_segments_only_under_a_cork),
};

const struct kernel_tests kernel_records = KERNEL_TESTS(tests);
