/*
 * fault_scenarios.c - see fault_scenarios.h: what is done with a connection while one of its
 * operations fails.
 */
#include "support.h"
#include "fault_scenarios.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>
#include <openssl/err.h>
#include "keylog.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BIG	 120000

/* ---- Calls ------------------------------------------------------------- */

struct range {
	size_t from, len;
};

static long call_write(struct fault_run *r, void *arg)
{
	const struct range *g = arg;

	return ringtls_write(r->p.conn, fault_bytes + g->from, (int)g->len);
}

/* A call has said that it took them all, so no more may come of it. */
static void took(struct fault_run *r, size_t len)
{
	r->at += len;
	r->may = 0;
}

/* A write of the next bytes. */
static void write_next(struct fault_run *r, size_t len)
{
	struct range g = { r->at + r->gap, len };

	if (!run_lives(r))
		return;
	r->may = len;
	if (run_until_done(r, call_write, &g, 1) > 0)
		took(r, len);
}

static long call_writev(struct fault_run *r, void *arg)
{
	const struct range *g = arg;
	struct iovec iov[5];
	size_t at = g->from, left = g->len;

	for (int i = 0; i < 5; i++) {
		size_t n = i < 4 ? left / 3 : left;

		iov[i] = (struct iovec){ fault_bytes + at, n };
		at += n;
		left -= n;
	}
	return ringtls_writev(r->p.conn, iov, 5);
}

static void writev_next(struct fault_run *r, size_t len)
{
	struct range g = { r->at + r->gap, len };

	if (!run_lives(r))
		return;
	r->may = len;
	if (run_until_done(r, call_writev, &g, 1) > 0)
		took(r, len);
}

static long call_sendfile(struct fault_run *r, void *arg)
{
	const struct range *g = arg;

	return ringtls_sendfile(r->p.conn, fault_file, (off_t)g->from, g->len, 0);
}

/* An end of the file that was only said is not one: it is asked again. */
static void sendfile_next(struct fault_run *r, size_t len)
{
	size_t until = r->at + len;

	while (r->at < until && run_lives(r)) {
		struct range g = { r->at, until - r->at };
		long n;

		r->may = g.len;
		n = run_until_done(r, call_sendfile, &g, 0);
		if (n >= 0)
			took(r, (size_t)n);
		if (n == 0 && r->fault && r->fault->how != FAULT_END)
			run_wrong(r, "the end of a file that goes on");
	}
}

static long call_handshake(struct fault_run *r, void *arg)
{
	(void)arg;
	return ringtls_handshake(r->p.conn);
}

static void shake_hands(struct fault_run *r)
{
	run_until_done(r, call_handshake, NULL, 1);
	while (!SSL_is_init_finished(r->p.peer) && run_lives(r))
		run_peer(r);
}

static long call_shutdown(struct fault_run *r, void *arg)
{
	(void)arg;
	return ringtls_shutdown(r->p.conn);
}

static long call_read(struct fault_run *r, void *arg)
{
	struct range *g = arg;
	static uint8_t got[20000];
	int n = ringtls_read(r->p.conn, got, sizeof(got));

	if (n > 0 && memcmp(got, fault_bytes + g->from, (size_t)n) != 0)
		run_wrong(r, "other bytes were read");
	return n;
}

/* The peer says bytes, which are read. */
static void read_from_peer(struct fault_run *r, size_t len)
{
	struct range g = { 0, len };
	bool before = faults_on(false);
	int n = SSL_write(r->p.peer, fault_bytes, (int)len);

	faults_on(before);
	if (n != (int)len)
		run_wrong(r, "the peer could not say %zu bytes", len);
	while (g.from < len && run_lives(r)) {
		n = (int)run_until_done(r, call_read, &g, 1);
		if (n > 0)
			g.from += (size_t)n;
	}
}

/* ---- Scenarios --------------------------------------------------------- */

static void handshake(struct fault_run *r)
{
	if (r->p.conn)
		shake_hands(r);
	write_next(r, 100);
}

static void handshake_by_a_write(struct fault_run *r)
{
	write_next(r, 20000);
}

static void creation(struct fault_run *r)
{
	(void)r;
}

static void small_writes(struct fault_run *r)
{
	for (size_t len = 100; len < 2000; len += 600)
		write_next(r, len);
}

static void pieces(struct fault_run *r)
{
	writev_next(r, 1000);
	writev_next(r, 40000);
	write_next(r, 100);
}

static void big_write(struct fault_run *r)
{
	write_next(r, BIG);
	write_next(r, 100);
}

static void file(struct fault_run *r)
{
	write_next(r, 100);
	sendfile_next(r, 80000);
	write_next(r, 100);
}

static void peer_updates_its_key(struct fault_run *r)
{
	bool before = faults_on(false);

	SSL_key_update(r->p.peer, SSL_KEY_UPDATE_REQUESTED);
	faults_on(before);
	read_from_peer(r, 10);
	write_next(r, 20000);
	read_from_peer(r, 10);
}

static long call_key_update(struct fault_run *r, void *arg)
{
	(void)arg;
	return run_check(r, ringtls_conn_key_update(r->p.conn, SSL_KEY_UPDATE_REQUESTED)) ? 1 : -1;
}

static void we_update_our_key(struct fault_run *r)
{
	write_next(r, 100);
	if (run_lives(r) && call_key_update(r, NULL) == 1) {
		write_next(r, 20000);
		read_from_peer(r, 10);
	}
}

static void reading(struct fault_run *r)
{
	read_from_peer(r, 100);
	read_from_peer(r, 40000);
	write_next(r, 100);
}

/* One call. Does it want this, and does all go on? */
static bool wants(struct fault_run *r, run_call *call, struct range *g, int error)
{
	int ret;

	if (!run_lives(r))
		return false;
	ret = (int)call(r, g);
	if (ret < 0 && ringtls_get_error(r->p.conn, ret) == error)
		return true;
	if (!faults_hit())
		run_wrong(r, "nothing is wanted");
	r->failed = true;
	return false;
}

static void peer_says(struct fault_run *r)
{
	struct pollfd pfd = { .fd = r->p.fd, .events = POLLIN };
	bool before = faults_on(false);

	if (SSL_write(r->p.peer, fault_bytes, 10) != 10 || poll(&pfd, 1, 5000) != 1)
		run_wrong(r, "the peer could not say 10 bytes");
	faults_on(before);
}

/* Until TCP takes no more: what the peer's side has taken makes room for some. */
static bool fills(struct fault_run *r, struct range *g)
{
	struct pollfd pfd = { .fd = r->p.fd, .events = POLLOUT };
	int one = 1;

	/* An acknowledgement that is late would come with what the peer says next. */
	do {
		setsockopt(r->p.peer_fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
		if (!wants(r, call_write, g, SSL_ERROR_WANT_WRITE))
			return false;
	} while (poll(&pfd, 1, 100) == 1);
	return true;
}

/* Both are waits of one socket. */
static void both_wait(struct fault_run *r)
{
	struct range g = { 0, BIG }, bytes = { 0, 10 };
	struct ringtls_event ev;

	r->may = BIG;
	if (!fills(r, &g) || !wants(r, call_read, &bytes, SSL_ERROR_WANT_READ))
		return;
	peer_says(r);
	if (r->way.backend != RINGTLS_BACKEND_CALLER)
		ringtls_engine_wait(r->p.engine, &ev, 1, 0);
	run_until_done(r, call_read, &bytes, 1);
	write_next(r, BIG);
}

/* Freed while it waits for bytes, for the second time if the first could not begin. */
static void freed_while_it_waits(struct fault_run *r)
{
	struct range bytes = { 0, 10 };

	for (int i = 0; i < 2; i++)
		if (call_read(r, &bytes) > 0)
			run_wrong(r, "read what nobody said");
}

static void closing(struct fault_run *r)
{
	bool before;

	write_next(r, 40000);
	run_until_done(r, call_shutdown, NULL, 0);
	if (!run_lives(r))
		return;
	before = faults_on(false);
	while (run_peer(r), r->p.peer_error == SSL_ERROR_WANT_READ && run_lives(r))
		pair_rest(&r->p);
	if (r->p.peer_error != SSL_ERROR_ZERO_RETURN)
		run_wrong(r, "no close_notify at the peer");
	SSL_shutdown(r->p.peer);
	faults_on(before);
	if (run_until_done(r, call_shutdown, NULL, 1) != 1 && run_lives(r))
		run_wrong(r, "not closed");
}

/* A blocking socket, and a peer that reads by itself. */
static void blocking(struct fault_run *r)
{
	write_next(r, BIG);
	sendfile_next(r, 50000);
	write_next(r, 100);
	run_until_done(r, call_shutdown, NULL, 0);
}

static void give_back(struct fault_run *r)
{
	int res = -EAGAIN, again = 0;

	while (run_lives(r) && res == -EAGAIN) {
		res = ringtls_conn_detach(r->p.conn);
		if (res == -EAGAIN || (res == -EBUSY && r->way.backend == RINGTLS_BACKEND_CALLER))
			run_wait(r), res = -EAGAIN;
		else if (res < 0 && res >= -4095 && faults_hit() && !again++)
			res = -EAGAIN; /* it lives on as it was */
	}
	if (res == 0)
		r->p.conn = NULL;
	else if (res == RINGTLS_E_DETACH && r->way.lane == RINGTLS_LANE_USER)
		return;
	else
		run_check(r, res);
}

static void detaching(struct fault_run *r)
{
	write_next(r, 20000);
	if (run_lives(r))
		give_back(r);
	if (!r->failed && !r->p.conn)
		run_attach(r);
	if (run_lives(r))
		write_next(r, 20000);
}

static void attaching_late(struct fault_run *r)
{
	if (r->p.engine)
		run_attach(r);
	if (run_lives(r))
		shake_hands(r);
	write_next(r, 1000);
	if (run_lives(r))
		read_from_peer(r, 10);
	write_next(r, 20000);
}

/* ---- Queued ------------------------------------------------------------ */

static const size_t lens[] = { 100, 50000, 30000, 20000, 200 };

static long call_queue(struct fault_run *r, void *arg)
{
	size_t i = *(const size_t *)arg, from = 0;
	struct iovec iov[2];

	for (size_t k = 0; k < i; k++)
		from += lens[k];
	if (i % 2)
		return ringtls_queue_sendfile(r->p.conn, fault_file, (off_t)from, lens[i], i);
	iov[0] = (struct iovec){ fault_bytes + from, lens[i] / 3 };
	iov[1] = (struct iovec){ fault_bytes + from + lens[i] / 3, lens[i] - lens[i] / 3 };
	return ringtls_queue_writev(r->p.conn, iov, 2, i);
}

/* What is known to be sent, and what of the one that failed may be. After it there is
 * nothing, as the stream that is expected has no gap. */
static void take_completion(struct fault_run *r, const struct ringtls_completion *d, size_t *n_sent)
{
	bool cut;

	if (!(d->flags & RINGTLS_SENT))
		return;
	if (d->id != *n_sent)
		run_wrong(r, "request %u is told, and %zu is next", (unsigned)d->id, *n_sent);
	++*n_sent;
	cut = d->bytes < lens[d->id];
	if (!d->error && cut && !(r->fault && r->fault->how == FAULT_END))
		run_wrong(r, "%zu of %zu bytes, and no error", (size_t)d->bytes, lens[d->id]);
	if (r->failed && d->bytes)
		run_wrong(r, "bytes behind those that failed");
	/* What was sealed with it may have gone out, which nobody knows any more. */
	if (r->failed) {
		r->may += lens[d->id];
		return;
	}
	r->at += d->bytes;
	/* A file that seemed shorter is sent as it was, and those behind it go on. */
	if (cut && !d->error) {
		r->gap_at = r->at;
		r->gap = lens[d->id] - d->bytes;
		return;
	}
	r->may = cut ? lens[d->id] - d->bytes : 0;
	if (d->error)
		run_check(r, d->error);
	r->failed |= cut;
}

static void go_on_until_sent(struct fault_run *r)
{
	struct ringtls_completion done[8];
	size_t n_sent = 0;
	unsigned quiet = 0;
	int n, res;

	while (n_sent < COUNT(lens) && !r->why[0]) {
		res = ringtls_engine_submit(r->p.engine);
		if (res < 0 && res != -EBUSY && (!r->fault || -res != r->fault->error))
			run_wrong(r, "ringtls_engine_submit answers %d", res);
		run_turn(r);
		n = ringtls_engine_completions(r->p.engine, done, COUNT(done));
		for (int i = 0; i < n; i++)
			take_completion(r, &done[i], &n_sent);
		if (++quiet > 5000)
			run_wrong(r, "stuck: %zu requests of %zu are told", n_sent, COUNT(lens));
	}
}

static void queued(struct fault_run *r)
{
	size_t i;

	for (i = 0; i < COUNT(lens) && run_lives(r); i++)
		run_until_done(r, call_queue, &i, 1);
	if (!run_lives(r))
		return;
	go_on_until_sent(r);
	if (run_lives(r))
		write_next(r, 100);
}

/* Freed, and cancelled, in mid flight. */
static void freed_while_queued(struct fault_run *r)
{
	size_t i;

	for (i = 0; i < COUNT(lens) && run_lives(r); i++)
		run_until_done(r, call_queue, &i, 1);
	for (i = 0; i < COUNT(lens); i++)
		r->may += lens[i];
	for (i = 0; i < 3 && run_lives(r); i++)
		run_turn(r);
	ringtls_conn_cancel(r->p.conn, 2);
}

/* ---- From the user lane into the kernel -------------------------------- */

static void expect_promoted(struct fault_run *r)
{
	struct ringtls_conn_info info = { .size = sizeof(info) };
	bool before = faults_on(false);

	if (!r->fault && run_lives(r)) {
		ringtls_conn_get_info(r->p.conn, &info);
		if (info.lane != RINGTLS_LANE_KERNEL)
			run_wrong(r, "not promoted: %s", ringtls_reason_name(info.reason));
	}
	faults_on(before);
}

static void promoted_in_a_write(struct fault_run *r)
{
	write_next(r, 1000);
	write_next(r, BIG);
	expect_promoted(r);
	sendfile_next(r, 50000);
	write_next(r, 1000);
}

static void promoted_in_a_file(struct fault_run *r)
{
	sendfile_next(r, BIG);
	expect_promoted(r);
	sendfile_next(r, 50000);
	write_next(r, 1000);
}

static void promoted_while_queued(struct fault_run *r)
{
	queued(r);
	expect_promoted(r);
}

/* ---- The table --------------------------------------------------------- */

const struct fault_scenario fault_scenarios[FAULT_SCENARIOS] = {
	{ "an engine and a connection are made", creation,
	  FAULT_FROM_START | FAULT_UNSHAKEN | FAULT_IN_OPENSSL },
	{ "handshake as server", handshake, FAULT_FROM_START | FAULT_UNSHAKEN },
	{ "handshake as client", handshake, FAULT_FROM_START | FAULT_UNSHAKEN | FAULT_IS_CLIENT },
	{ "handshake by a write", handshake_by_a_write, FAULT_UNSHAKEN | FAULT_TINY_RING },
	{ "small writes", small_writes, FAULT_IN_OPENSSL },
	{ "pieces", pieces, 0 },
	{ "a big write and a small buffer", big_write, FAULT_IS_SMALL | FAULT_TINY_RING },
	{ "a file", file, FAULT_IS_SMALL },
	{ "a file and large buffers", file, 0 },
	{ "a cold file", file, FAULT_COLD },
	{ "a cold file on a tiny ring", file, FAULT_COLD | FAULT_TINY_RING },
	{ "queued writes and files", queued, FAULT_IS_SMALL },
	{ "queued in large buffers", queued, 0 },
	{ "queued and cold", queued, FAULT_COLD },
	{ "queued on a tiny ring", queued, FAULT_TINY_RING },
	{ "freed while queued", freed_while_queued,
	  FAULT_IS_SMALL | FAULT_TINY_RING | FAULT_WITHOUT_END },
	{ "the peer asks for a key update", peer_updates_its_key, FAULT_IN_OPENSSL | FAULT_REKEYS },
	{ "a key update of ours", we_update_our_key, FAULT_IN_OPENSSL | FAULT_REKEYS },
	{ "reading", reading, 0 },
	{ "waiting both ways", both_wait, FAULT_IS_SMALL | FAULT_IS_SLOW },
	{ "freed while it waits", freed_while_it_waits, 0 },
	{ "closing", closing, FAULT_IS_SMALL },
	{ "blocking calls", blocking, FAULT_IS_SMALL | FAULT_BLOCKS },
	{ "given back and attached again", detaching, FAULT_IN_OPENSSL },
	{ "attached late", attaching_late, FAULT_FROM_START | FAULT_STOCK },
	{ "promoted in a write", promoted_in_a_write, FAULT_IS_SMALL | FAULT_PROMOTES },
	{ "promoted in a file", promoted_in_a_file, FAULT_IS_SMALL | FAULT_PROMOTES },
	{ "promoted while queued", promoted_while_queued, FAULT_IS_SMALL | FAULT_PROMOTES },
};
