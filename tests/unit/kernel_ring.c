/* kernel_ring.c - io_uring on a kTLS socket (kmod-notes/ring.md, flags.md). */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Names that liburing 2.3 does not have yet. */
#define SEND_FIXED_BUF (1u << 2) /* IORING_RECVSEND_FIXED_BUF */
#define SEND_BUNDLE    (1u << 4) /* IORING_RECVSEND_BUNDLE */

#define FULL RINGTLS__RECORD_MAX

struct result {
	int res;
	unsigned flags;
};

/* As the library's engine makes it. */
static void ring_open(struct io_uring *ring)
{
	const unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

	need("uring", has_uring());
	assert_int_equal(io_uring_queue_init(8, ring, flags), 0);
}

/* The rings here are never full. */
static struct io_uring_sqe *entry(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe)
		abort();
	return sqe;
}

static struct io_uring_sqe *ring_send(struct io_uring *ring, struct line *l, const void *bytes,
				      size_t len, int flags)
{
	struct io_uring_sqe *sqe = entry(ring);

	io_uring_prep_send(sqe, l->fd, bytes, len, flags | MSG_NOSIGNAL);
	io_uring_sqe_set_data64(sqe, 1);
	return sqe;
}

static void ring_submit(struct io_uring *ring)
{
	assert_true(io_uring_submit(ring) >= 0);
}

static bool has_result(struct io_uring *ring)
{
	io_uring_get_events(ring);
	return io_uring_cq_ready(ring) > 0;
}

static struct result next_result(struct io_uring *ring)
{
	struct __kernel_timespec patience = { .tv_sec = PATIENCE_MS / 1000 };
	struct io_uring_cqe *cqe;
	struct result r;

	assert_int_equal(io_uring_wait_cqe_timeout(ring, &cqe, &patience), 0);
	r = (struct result){ cqe->res, cqe->flags };
	io_uring_cqe_seen(ring, cqe);
	return r;
}

static int run(struct io_uring *ring)
{
	ring_submit(ring);
	return next_result(ring).res;
}

/* Sealed where it can be: what is said here holds for a plain socket as well. */
static void line_either(struct line *l)
{
	line_open(l, SMALL);
	if (has_ktls())
		line_install(l, TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128);
}

/* ---- Flags ------------------------------------------------------------- */

static void ring_send_with_waitall_is_refused(void **state)
{
	struct io_uring ring;
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	ring_open(&ring);
	ring_send(&ring, &l, kernel_bytes, 100, MSG_WAITALL);
	assert_int_equal(run(&ring), -EOPNOTSUPP);
	behaviour("flags/MSG_WAITALL by ring SEND", "EOPNOTSUPP");
	assert_int_equal(line_seq(&l), 0);
	ring_send(&ring, &l, kernel_bytes, 100, 0);
	assert_int_equal(run(&ring), 100);
	line_gave(&l, kernel_bytes, 100);
	line_finish(&l);
	io_uring_queue_exit(&ring);
	line_close(&l);
}

static void ring_sendmsg_with_waitall_is_refused(void **state)
{
	_Alignas(struct cmsghdr) uint8_t control[RECORD_CONTROL];
	struct iovec iov = { kernel_bytes, 100 };
	struct io_uring ring;
	struct msghdr msg;
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	ring_open(&ring);
	fill_record(&msg, &iov, control, RINGTLS__RECORD_ALERT);
	io_uring_prep_sendmsg(entry(&ring), l.fd, &msg, MSG_WAITALL);
	assert_int_equal(run(&ring), -EOPNOTSUPP);
	assert_int_equal(line_seq(&l), 0);
	line_finish(&l);
	io_uring_queue_exit(&ring);
	line_close(&l);
}

static void send_zc(struct io_uring *ring, struct line *l)
{
	struct io_uring_sqe *sqe = entry(ring);

	io_uring_prep_send_zc(sqe, l->fd, kernel_bytes, 100, MSG_NOSIGNAL, 0);
	ring_submit(ring);
}

static void zerocopy_by_ring_is_refused_and_notified_all_the_same(void **state)
{
	struct result first, second = { 0, 0 };
	struct io_uring ring;
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	ring_open(&ring);
	send_zc(&ring, &l);
	first = next_result(&ring);
	assert_int_equal(first.res, -EOPNOTSUPP);
	if (first.flags & IORING_CQE_F_MORE) {
		second = next_result(&ring);
		assert_true(second.flags & IORING_CQE_F_NOTIF);
	}
	nap(10);
	assert_false(has_result(&ring));
	behaviour("flags/SEND_ZC", "EOPNOTSUPP, %s",
		  second.flags ? "a notification follows" : "no notification");
	assert_int_equal(line_seq(&l), 0);
	line_finish(&l);
	io_uring_queue_exit(&ring);
	line_close(&l);
}

/* So zero copy is tried only where kTLS was not asked for. */
static void refused_ulp_costs_the_socket_its_zerocopy(void **state)
{
	struct io_uring ring;
	struct result r;
	struct line l;
	char byte;

	(void)state;
	need("ktls", has_ktls());
	ring_open(&ring);
	line_open(&l, LARGE);
	send_zc(&ring, &l);
	r = next_result(&ring);
	assert_int_equal(r.res, 100);
	if (r.flags & IORING_CQE_F_MORE)
		next_result(&ring);
	assert_int_equal(shutdown(l.peer, SHUT_WR), 0);
	set_blocking(l.fd, true);
	assert_int_equal(recv(l.fd, &byte, 1, 0), 0);
	assert_int_equal(line_ulp(&l), -ENOTCONN);
	send_zc(&ring, &l);
	r = next_result(&ring);
	behaviour("flags/SEND_ZC on a plain socket whose TCP_ULP was refused", "%s",
		  outcome(r.res));
	io_uring_queue_exit(&ring);
	line_close(&l);
}

static void bundle_is_refused(void **state)
{
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	struct line l;
	int r;

	(void)state;
	line_sealed(&l, LARGE);
	ring_open(&ring);
	sqe = entry(&ring);
	io_uring_prep_provide_buffers(sqe, kernel_bytes, 1000, 4, 7, 0);
	assert_true(run(&ring) >= 0);
	sqe = ring_send(&ring, &l, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = 7;
	sqe->ioprio |= SEND_BUNDLE;
	r = run(&ring);
	behaviour("flags/a bundle of provided buffers by ring SEND", "%s", outcome(r));
	assert_true(r == -EOPNOTSUPP || r == -EINVAL); /* refused, or not known */
	assert_int_equal(line_seq(&l), 0);
	line_finish(&l);
	io_uring_queue_exit(&ring);
	line_close(&l);
}

static void registered_buffer_by_plain_send_works_or_is_not_known(void **state)
{
	static uint8_t buffer[4 * FULL];
	const struct iovec iov = { buffer, sizeof(buffer) };
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	struct line l;
	int r;

	(void)state;
	line_sealed(&l, LARGE);
	ring_open(&ring);
	memcpy(buffer, kernel_bytes, sizeof(buffer));
	assert_int_equal(io_uring_register_buffers(&ring, &iov, 1), 0);
	sqe = ring_send(&ring, &l, buffer, sizeof(buffer), 0);
	sqe->ioprio |= SEND_FIXED_BUF;
	sqe->buf_index = 0;
	r = run(&ring);
	behaviour("flags/a registered buffer by ring SEND", "%s", outcome(r));
	assert_true(r == (int)sizeof(buffer) || r == -EINVAL);
	if (r > 0)
		line_gave(&l, buffer, (size_t)r);
	line_finish(&l);
	io_uring_queue_exit(&ring);
	line_close(&l);
}

/* ---- Parked sends ------------------------------------------------------ */

static void send_that_takes_a_part_completes_short(void **state)
{
	struct io_uring ring;
	struct line l;
	int r;

	(void)state;
	line_sealed(&l, SMALL);
	ring_open(&ring);
	ring_send(&ring, &l, kernel_bytes, KERNEL_BYTES, 0);
	r = run(&ring); /* while nobody reads */
	assert_true(r > 0 && r < KERNEL_BYTES);
	assert_int_equal(r % FULL, 0);
	assert_int_equal(line_seq(&l), r / FULL);
	behaviour("ring/SEND of more than fits", "completes short, at a record");
	line_gave(&l, kernel_bytes, (size_t)r);
	line_finish(&l);
	io_uring_queue_exit(&ring);
	line_close(&l);
}

static void parked_send_goes_on_when_the_peer_reads(void **state)
{
	struct io_uring ring;
	struct line l;

	(void)state;
	line_sealed(&l, SMALL);
	ring_open(&ring);
	line_fill(&l, 5000);
	ring_send(&ring, &l, kernel_bytes, 3000, 0);
	ring_submit(&ring);
	nap(MOMENT_MS);
	assert_false(has_result(&ring)); /* although the socket does not block */
	behaviour("ring/SEND on a full socket", "waits, though the socket is non-blocking");
	line_peer_reads(&l);
	assert_int_equal(next_result(&ring).res, 3000);
	line_gave(&l, kernel_bytes, 3000);
	line_finish(&l);
	io_uring_queue_exit(&ring);
	line_close(&l);
}

static void dontwait_makes_eagain_final(void **state)
{
	struct io_uring ring;
	struct line l;

	(void)state;
	line_sealed(&l, SMALL);
	ring_open(&ring);
	line_fill(&l, 5000);
	ring_send(&ring, &l, kernel_bytes, 3000, MSG_DONTWAIT);
	assert_int_equal(run(&ring), -EAGAIN);
	behaviour("ring/SEND with MSG_DONTWAIT on a full socket", "EAGAIN");
	line_finish(&l);
	io_uring_queue_exit(&ring);
	line_close(&l);
}

static void cancelled_send_has_sent_nothing(void **state)
{
	struct io_uring ring;
	struct line l;
	uint64_t seq;
	int a, b;

	(void)state;
	line_sealed(&l, SMALL);
	ring_open(&ring);
	line_fill(&l, 5000);
	seq = line_seq(&l);
	ring_send(&ring, &l, kernel_bytes, 3000, 0);
	ring_submit(&ring);
	nap(10);
	io_uring_prep_cancel64(entry(&ring), 1, 0);
	ring_submit(&ring);
	a = next_result(&ring).res;
	b = next_result(&ring).res;
	assert_true((a == 0 && b == -ECANCELED) || (a == -ECANCELED && b == 0));
	assert_int_equal(line_seq(&l), seq);
	behaviour("ring/ASYNC_CANCEL of a SEND that waits", "ECANCELED, nothing was sent");
	line_drain(&l);
	line_send_whole(&l, kernel_bytes + 7, 2000);
	line_finish(&l);
	io_uring_queue_exit(&ring);
	line_close(&l);
}

/* The header and the pieces are the caller's again at once, the control message
 * and the bytes are not: whatever is there when the send goes on is used. */
static void control_message_is_read_again_when_a_send_goes_on(void **state)
{
	_Alignas(struct cmsghdr) uint8_t control[RECORD_CONTROL];
	static uint8_t bytes[100];
	struct iovec iov = { bytes, sizeof(bytes) };
	struct io_uring ring;
	struct msghdr msg;
	struct line l;
	uint8_t type;

	(void)state;
	line_sealed(&l, SMALL);
	ring_open(&ring);
	line_fill(&l, 5000);
	fill_record(&msg, &iov, control, RINGTLS__RECORD_HANDSHAKE);
	io_uring_prep_sendmsg(entry(&ring), l.fd, &msg, MSG_NOSIGNAL);
	ring_submit(&ring);
	nap(10);
	assert_false(has_result(&ring));
	*CMSG_DATA((struct cmsghdr *)(void *)control) = RINGTLS__RECORD_ALERT;
	memset(&msg, 0xff, sizeof(msg));
	memset(&iov, 0xff, sizeof(iov));
	memset(bytes, 'b', sizeof(bytes));
	line_peer_reads(&l);
	assert_int_equal(next_result(&ring).res, sizeof(bytes));
	line_gave(&l, bytes, sizeof(bytes));
	line_finish(&l);
	type = l.records[l.record_count - 1].type;
	assert_true(type == RINGTLS__RECORD_ALERT || type == RINGTLS__RECORD_HANDSHAKE);
	behaviour("ring/the control message of a SENDMSG that waits", "%s",
		  type == RINGTLS__RECORD_ALERT ? "is read again" : "was copied");
	behaviour("ring/the msghdr and iovec of a SENDMSG that waits", "were copied");
	io_uring_queue_exit(&ring);
	line_close(&l);
}

/* ---- Waking ------------------------------------------------------------ */

static bool epoll_wakes(int fd, struct line *l)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC), n;
	int64_t end = clock_ms() + MOMENT_MS;

	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev), 0);
	assert_true(epoll_wait(epoll, &ev, 1, 50) <= 0); /* not before; EINTR may be */
	do {
		line_peer_reads(l);
		n = epoll_wait(epoll, &ev, 1, 10);
	} while (n <= 0 && clock_ms() < end);
	close(epoll);
	return n == 1;
}

enum waits_as { PARKED_SEND, ARMED_POLL };

/* True when a descriptor in epoll tells that what waits in the ring can go on. */
static bool wakes(enum waits_as what, bool by_event)
{
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct io_uring ring;
	struct line l;
	bool woke;

	line_either(&l);
	ring_open(&ring);
	if (by_event)
		assert_int_equal(io_uring_register_eventfd(&ring, event), 0);
	line_fill(&l, 5000);
	if (what == PARKED_SEND)
		ring_send(&ring, &l, kernel_bytes, 3000, 0);
	else
		io_uring_prep_poll_add(entry(&ring), l.fd, POLLOUT);
	ring_submit(&ring);
	woke = epoll_wakes(by_event ? event : ring.ring_fd, &l);
	/* Told or not, it is there to be fetched. */
	assert_true(next_result(&ring).res > 0);
	io_uring_queue_exit(&ring);
	close(event);
	line_close(&l);
	return woke;
}

static void registered_eventfd_wakes_epoll(void **state)
{
	(void)state;
	need("uring", has_uring());
	assert_true(wakes(PARKED_SEND, true));
	assert_true(wakes(ARMED_POLL, true));
	behaviour("ring/a registered eventfd in epoll, when a SEND can go on", "wakes");
	behaviour("ring/a registered eventfd in epoll, when a POLL_ADD is due", "wakes");
}

static void own_descriptor_of_a_ring_may_not_wake_epoll(void **state)
{
	(void)state;
	need("uring", has_uring());
	behaviour("ring/a DEFER_TASKRUN ring's own descriptor in epoll, when a SEND can go on",
		  "%s", wakes(PARKED_SEND, false) ? "wakes" : "does not wake");
	behaviour("ring/a DEFER_TASKRUN ring's own descriptor in epoll, when a POLL_ADD is due",
		  "%s", wakes(ARMED_POLL, false) ? "wakes" : "does not wake");
}

static bool peer_sees_the_end(struct line *l, int ms)
{
	struct pollfd pfd = { .fd = l->peer, .events = POLLIN };
	char byte;

	return poll(&pfd, 1, ms) == 1 && recv(l->peer, &byte, 1, MSG_DONTWAIT) == 0;
}

/* close() by itself then says nothing to the peer: waits are cancelled before. */
static void poll_in_a_ring_holds_a_closed_socket_open(void **state)
{
	struct io_uring ring;
	struct line l;

	(void)state;
	ring_open(&ring);
	line_open(&l, LARGE);
	io_uring_prep_poll_add(entry(&ring), l.fd, POLLIN);
	io_uring_sqe_set_data64(&ring.sq.sqes[0], 1);
	ring_submit(&ring);
	close(l.fd);
	l.fd = -1;
	assert_false(peer_sees_the_end(&l, MOMENT_MS));
	behaviour("ring/close of a socket with a POLL_ADD in a ring", "waits for the poll");
	io_uring_prep_cancel64(entry(&ring), 1, 0);
	ring_submit(&ring);
	next_result(&ring);
	next_result(&ring);
	assert_true(peer_sees_the_end(&l, PATIENCE_MS));
	io_uring_queue_exit(&ring);
	line_close(&l);
}

static const struct CMUnitTest tests[] = {
	T(ring_send_with_waitall_is_refused),
	T(ring_sendmsg_with_waitall_is_refused),
	T(zerocopy_by_ring_is_refused_and_notified_all_the_same),
	T(refused_ulp_costs_the_socket_its_zerocopy),
	T(bundle_is_refused),
	T(registered_buffer_by_plain_send_works_or_is_not_known),
	T(send_that_takes_a_part_completes_short),
	T(parked_send_goes_on_when_the_peer_reads),
	T(dontwait_makes_eagain_final),
	T(cancelled_send_has_sent_nothing),
	T(control_message_is_read_again_when_a_send_goes_on),
	T(registered_eventfd_wakes_epoll),
	T(own_descriptor_of_a_ring_may_not_wake_epoll),
	T(poll_in_a_ring_holds_a_closed_socket_open),
};

const struct kernel_tests kernel_ring = KERNEL_TESTS(tests);
