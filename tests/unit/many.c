/* many.c - see many.h. */
#include "support.h"
#include "many.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 10000

struct one ones[MANY];
uint8_t many_bytes[RECORD];

static struct io_uring ring; /* the caller's, if there is one */

void many_fill(void)
{
	pair_fill(many_bytes, sizeof(many_bytes));
}

static bool on_ring(const struct pair *p)
{
	return p->opts.backend == RINGTLS_BACKEND_CALLER;
}

/* ---- The caller's loop ------------------------------------------------- */

void many_submit(struct pair *p)
{
	int r;

	while ((r = ringtls_engine_submit(p->engine)) == -EBUSY)
		assert_true(io_uring_submit(&ring) > 0);
	assert_int_equal(r, 0);
	if (on_ring(p))
		assert_true(io_uring_submit(&ring) >= 0);
}

static void feed(struct pair *p)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&ring, head, cqe) {
		n++;
		assert_true(ringtls_engine_feed(p->engine, cqe) >= 0);
	}
	io_uring_cq_advance(&ring, n);
}

/* The number of completions that were there, or came in time. */
static int wait_for_ring(struct pair *p, int timeout_ms)
{
	struct __kernel_timespec ts = {.tv_sec = timeout_ms / 1000,
				       .tv_nsec = timeout_ms % 1000 * 1000000ll};
	struct io_uring_cqe *cqe;
	int n;

	many_submit(p);
	io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &ts, NULL);
	n = (int)io_uring_cq_ready(&ring);
	feed(p);
	return n;
}

void many_take_ring(struct pair *p)
{
	struct io_uring_cqe *cqe;
	struct __kernel_timespec ts = {.tv_sec = 1};
	unsigned n = io_uring_sq_ready(&ring);

	assert_true(io_uring_submit_and_wait_timeout(&ring, &cqe, n, &ts, NULL) >= 0);
	feed(p);
}

void many_fill_ring(int fd)
{
	struct io_uring_sqe *sqe;

	while (io_uring_sq_space_left(&ring) > 1 && (sqe = io_uring_get_sqe(&ring))) {
		io_uring_prep_poll_add(sqe, fd, POLLIN);
		io_uring_sqe_set_data64(sqe, 1);
	}
}

int many_wait(struct pair *p, struct ringtls_event *events, unsigned max, int timeout_ms)
{
	if (on_ring(p)) {
		wait_for_ring(p, timeout_ms);
		timeout_ms = 0;
	}
	return ringtls_engine_wait(p->engine, events, max, timeout_ms);
}

unsigned many_collect(struct pair *p)
{
	struct ringtls_completion done[64];
	unsigned sent = 0;
	int n;

	while ((n = ringtls_engine_completions(p->engine, done, 64)) > 0)
		for (int i = 0; i < n; i++) {
			struct one *m = done[i].user;

			assert_ptr_equal(done[i].conn, m->conn);
			if (!(done[i].flags & RINGTLS_SENT))
				continue;
			assert_int_equal(done[i].error, 0);
			m->sent++;
			sent++;
		}
	return sent;
}

static bool is_woken(struct pair *p, int timeout_ms)
{
	struct pollfd pfd = {.fd = ringtls_engine_fd(p->engine), .events = POLLIN};

	return on_ring(p) ? wait_for_ring(p, timeout_ms) > 0 : poll(&pfd, 1, timeout_ms) == 1;
}

void many_sleep(struct pair *p)
{
	assert_true(is_woken(p, PATIENCE_MS));
}

bool many_is_woken(struct pair *p)
{
	/* The caller of a ring has it for itself, with what its entries are. */
	return !on_ring(p) && is_woken(p, 0);
}

void many_go_on(struct pair *p, unsigned n, unsigned n_events)
{
	struct ringtls_event events[FEW];
	unsigned sent = many_collect(p), told = 0;
	int some;

	while (sent < n || told < n_events) {
		for (int i = 0; i < FEW; i++)
			if (ones[i].conn)
				many_peer_reads(&ones[i]);
		many_sleep(p);
		some = ringtls_engine_wait(p->engine, events, FEW, 0);
		assert_true(some >= 0);
		for (int i = 0; i < some; i++) {
			((struct one *)events[i].user)->has_event = true;
			told++;
		}
		sent += many_collect(p);
	}
	assert_int_equal(sent, n);
}

/* ---- Opening and closing ----------------------------------------------- */

static void shake_hands(struct pair *p, struct one *m)
{
	int ours = 0, peer = 0;

	for (int i = 0; i < 500 && (ours != 1 || peer != 1); i++) {
		struct pollfd fds[] = {{.fd = m->fd, .events = POLLIN},
				       {.fd = m->peer_fd, .events = POLLIN}};

		if (ours != 1)
			ours = m->conn ? ringtls_handshake(m->conn) : SSL_do_handshake(m->ssl);
		peer = peer == 1 ? 1 : SSL_do_handshake(m->peer);
		if (on_ring(p))
			many_submit(p);
		if (ours != 1 || peer != 1)
			poll(fds, 2, 20);
	}
	assert_int_equal(ours, 1);
	assert_int_equal(peer, 1);
}

static void open_one(struct pair *p, struct one *m, uint32_t max_requests)
{
	const struct ringtls_conn_opts opts = {
		.size = sizeof(opts), .user = m, .max_requests = max_requests, .lane = p->opts.lane};

	memset(m, 0, sizeof(*m));
	pair_sockets(AF_INET, false, &m->fd, &m->peer_fd);
	m->ssl = SSL_new(p->ours_ctx);
	m->peer = SSL_new(p->peer_ctx);
	SSL_set_accept_state(m->ssl);
	SSL_set_connect_state(m->peer);
	assert_int_equal(SSL_set_fd(m->peer, m->peer_fd), 1);
	if (p->opts.is_stock)
		assert_int_equal(SSL_set_fd(m->ssl, m->fd), 1);
	else
		assert_int_equal(ringtls_conn_new(&m->conn, p->engine, m->ssl, m->fd, &opts), 0);
	shake_hands(p, m);
}

static void open_pair(struct pair *p, const struct pair_opts *opts, unsigned entries)
{
	struct pair_opts o = *opts;

	pair_need(&o);
	if (o.backend == RINGTLS_BACKEND_CALLER) {
		need("uring", io_uring_queue_init(entries, &ring, 0) == 0);
		io_uring_ring_dontfork(&ring); /* kmod-notes/ring.md */
		o.ring = &ring;
		o.tag = 7;
	}
	pair_open(p, &o);
	if (o.is_stock)
		return;
	p->engine->stall_ms = 3600 * 1000; /* its look for stalls would be a wake-up */
	pair_handshake(p);
}

static void open_all(struct pair *p, int n, uint32_t max_requests)
{
	struct ringtls_event ev;

	memset(ones, 0, sizeof(ones));
	for (int i = 0; i < n; i++)
		open_one(p, &ones[i], max_requests);
	/* What the handshakes waited for. */
	for (int none = 0; p->engine && none < 2;)
		none = many_wait(p, &ev, 1, 1) == 0 ? none + 1 : 0;
}

void many_open(struct pair *p, const struct pair_opts *o, int n, uint32_t max_requests)
{
	open_pair(p, o, 2 * MANY);
	open_all(p, n, max_requests);
}

void many_open_small(struct pair *p, const struct pair_opts *o, int n, unsigned entries)
{
	open_pair(p, o, entries);
	open_all(p, n, 0);
}

static void free_conn(struct pair *p, struct ringtls_conn *conn)
{
	struct ringtls_event ev;
	int r;

	for (int i = 0; (r = ringtls_conn_free(conn)) == -EBUSY && i < 5000; i++)
		many_wait(p, &ev, 1, 10);
	assert_int_equal(r, 0);
}

static void free_engine(struct pair *p)
{
	int r;

	for (int i = 0; (r = ringtls_engine_free(p->engine)) == -EBUSY && i < 5000; i++)
		wait_for_ring(p, 10);
	assert_int_equal(r, 0);
	p->engine = NULL;
}

void many_close(struct pair *p, int n)
{
	for (int i = 0; i < n; i++) {
		free_conn(p, ones[i].conn);
		SSL_free(ones[i].ssl);
		SSL_free(ones[i].peer);
		close(ones[i].fd);
		close(ones[i].peer_fd);
	}
	free_conn(p, p->conn);
	p->conn = NULL;
	free_engine(p);
	pair_close(p);
	if (on_ring(p))
		io_uring_queue_exit(&ring);
}

/* ---- What is sent ------------------------------------------------------ */

int many_queue(struct one *m, size_t len)
{
	struct iovec iov[102];
	size_t part;
	int n = 0, r;

	for (size_t at = 0; at < len; at += part) {
		size_t from = (m->queued + at) % RECORD;

		part = len - at < RECORD - from ? len - at : RECORD - from;
		iov[n++] = (struct iovec){many_bytes + from, part};
	}
	r = ringtls_queue_writev(m->conn, iov, n, 0);
	m->queued += r == 1 ? len : 0;
	return r;
}

void many_queue_much(struct one *m)
{
	assert_int_equal(many_queue(m, (size_t)100 * RECORD), 1);
}

size_t many_peer_reads(struct one *m)
{
	static uint8_t got[RECORD];
	size_t n, at = m->got % RECORD;

	if (SSL_read_ex(m->peer, got, RECORD - at, &n) != 1)
		return 0;
	assert_memory_equal(got, many_bytes + at, n);
	m->got += n;
	return n;
}

void many_peer_gets(struct one *m, size_t len)
{
	while (m->got < len) {
		struct pollfd pfd = {.fd = m->peer_fd, .events = POLLIN};

		if (!many_peer_reads(m))
			assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
	}
	assert_int_equal(m->got, len);
	m->got = m->queued = 0;
}

static struct ringtls_engine_info info_of(const struct pair *p)
{
	struct ringtls_engine_info info = {.size = sizeof(info)};

	assert_int_equal(ringtls_engine_get_info(p->engine, &info), 0);
	return info;
}

uint64_t many_transmit_calls(const struct pair *p)
{
	return info_of(p).transmit_calls;
}

uint64_t many_enters(const struct pair *p)
{
	return info_of(p).enters;
}
