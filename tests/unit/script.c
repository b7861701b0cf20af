/* script.c - see script.h. */
#define _GNU_SOURCE
#include "support.h"
#include "script.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/err.h>

#define FILE_LEN 200000

static uint8_t pattern[SCRIPT_PATTERN];
static int file;

void script_setup(void)
{
	file = memfd_create("script", MFD_CLOEXEC);
	assert_true(file >= 0);
	pair_fill(pattern, SCRIPT_PATTERN);
	assert_int_equal(write(file, pattern, FILE_LEN), FILE_LEN);
}

/* ---- The peer ---------------------------------------------------------- */

static void put_order(struct script_run *r, char c)
{
	if (c == 'd' && r->order_len && r->order[r->order_len - 1] == 'd')
		return;
	assert_true(r->order_len < sizeof(r->order) - 1);
	r->order[r->order_len++] = c;
}

/* One that still waits to be sent answers a request, too; OpenSSL sends two then. */
static void put_update(struct script_run *r)
{
	put_order(r, 'k');
	if (r->order_len >= 4 && memcmp(r->order + r->order_len - 4, "rkrk", 4) == 0) {
		r->order_len -= 2;
		memset(r->order + r->order_len, 0, 2);
	}
}

/* d data, r a handshake record, k a KeyUpdate message, a alert, c change cipher spec. */
static void see(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
	const uint8_t *b = buf;
	bool inner = SSL_version(ssl) == TLS1_3_VERSION;

	(void)version;
	if (write_p || !len)
		return;
	if (type == SSL3_RT_HANDSHAKE && b[0] == SSL3_MT_KEY_UPDATE) {
		put_update(arg);
	} else if (type == SSL3_RT_INNER_CONTENT_TYPE || type == SSL3_RT_HEADER) {
		int t = b[0];

		if (type == SSL3_RT_HEADER && inner && t == SSL3_RT_APPLICATION_DATA)
			return;
		put_order(arg, t == SSL3_RT_APPLICATION_DATA ? 'd' :
			       t == SSL3_RT_HANDSHAKE	     ? 'r' :
			       t == SSL3_RT_ALERT	     ? 'a' :
							       'c');
	}
}

/* Reads up to most bytes of what is there; all of it, if most is 0. */
static void peer_reads(struct script_run *r, size_t most)
{
	struct pair *p = &r->p;
	uint8_t bytes[16384];
	int n;

	ERR_clear_error(); /* ours are not the peer's */
	if (!most) {
		pair_peer_reads(p);
		return;
	}
	n = SSL_read(p->peer, bytes, (int)(most < sizeof(bytes) ? most : sizeof(bytes)));
	if (n <= 0)
		return;
	if (p->got_room - p->got_len < sizeof(bytes)) {
		p->got_room = p->got_room * 2 + 65536;
		p->got = realloc(p->got, p->got_room);
		assert_non_null(p->got);
	}
	memcpy(p->got + p->got_len, bytes, (size_t)n);
	p->got_len += (size_t)n;
}

/* A call of ours answered WANT_*: the peer does a little, or all that it can. */
static void go_on(struct script_run *r, const struct answer *a)
{
	struct pair *p = &r->p;
	size_t most = script_random(&r->random) % 3 ? 0 : 1 + script_random(&r->random) % 20000;
	struct pollfd pfd = { .fd = p->fd, .events = POLLOUT };
	struct ringtls_event ev;

	peer_reads(r, most);
	if (a->error == SSL_ERROR_WANT_READ)
		pair_rest(p);
	else if (!p->conn)
		poll(&pfd, 1, most ? 1 : 1000);
	else if (most)
		ringtls_engine_wait(p->engine, &ev, 1, 1);
	else
		pair_wait(p); /* it has room: somebody must say so */
}

static void peer_gets_all(struct script_run *r)
{
	struct pair *p = &r->p;
	struct pollfd pfd = { .fd = p->peer_fd, .events = POLLIN };

	while (p->got_len < r->sent) {
		peer_reads(r, 0);
		if (p->got_len < r->sent)
			assert_int_equal(poll(&pfd, 1, 10000), 1);
		if (p->peer_error != SSL_ERROR_WANT_READ)
			break;
	}
}

/* ---- The operations ---------------------------------------------------- */

static void note(struct script_run *r, size_t op, struct answer a)
{
	assert_true(r->n < SCRIPT_OPS * 6);
	r->op_of[r->n] = op;
	r->answers[r->n++] = a;
}

static bool is_partial(const struct script_run *r)
{
	return SSL_get_mode(r->p.ours) & SSL_MODE_ENABLE_PARTIAL_WRITE;
}

/* Until all of it is written; the answer is that of the last call, for all of them. */
static struct answer write_all(struct script_run *r, const uint8_t *bytes, size_t len, bool ex)
{
	size_t done = 0, written;
	struct answer a;

	for (;;) {
		written = 0;
		if (ex)
			a = side_write_ex(&r->p, bytes + done, len - done, &written);
		else
			a = side_write(&r->p, bytes + done, (int)(len - done));
		if (answer_is_want(&a)) {
			go_on(r, &a);
			continue;
		}
		if (a.ret <= 0)
			break;
		done += ex ? written : (size_t)a.ret;
		assert_true(is_partial(r) || done == len);
		if (done == len)
			break;
	}
	r->sent += done;
	a.ret = (long)done;
	if (!len) /* SSL_get_error(3) has nothing to say of this 0 */
		a.error = 0, a.err_no = 0;
	return a;
}

static struct answer send_file(struct script_run *r, const struct script_op *op)
{
	off_t offset = op->from % FILE_LEN;
	size_t done = 0;
	struct answer a = { 0 };

	while (done < op->len) {
		a = side_sendfile(&r->p, file, offset + (off_t)done, op->len - done);
		if (answer_is_want(&a))
			go_on(r, &a);
		else if (a.ret <= 0)
			break;
		else
			done += (size_t)a.ret;
	}
	r->sent += done;
	a.ret = (long)done;
	return a;
}

#define QUEUED_MAX 4

/* Two pieces of the pattern, or a range of the file, that is as long as it seems. */
static struct answer queue_one(struct script_run *r, const struct script_op *op, unsigned i)
{
	const struct iovec iov[2] = {
		{ pattern + op->from, op->len / 3 },
		{ pattern + op->from + op->len / 3, op->len - op->len / 3 },
	};
	struct answer a = { 0 };

	ERR_clear_error();
	if (op->how >> i & 1)
		a.ret = ringtls_queue_sendfile(r->p.conn, file, 0, op->len, i);
	else
		a.ret = ringtls_queue_writev(r->p.conn, iov, 2, i);
	if (a.ret != 1)
		a.error = ringtls_get_error(r->p.conn, (int)a.ret);
	return a;
}

/* What is told of them, until all of them are over. */
static size_t collect(struct script_run *r, unsigned n)
{
	struct ringtls_completion done[QUEUED_MAX];
	struct ringtls_event ev;
	size_t bytes = 0;
	unsigned sent = 0;
	int got;

	while (sent < n) {
		assert_true(ringtls_engine_wait(r->p.engine, &ev, 1, 0) >= 0);
		peer_reads(r, 0);
		got = ringtls_engine_completions(r->p.engine, done, QUEUED_MAX);
		assert_true(got >= 0);
		if (!got)
			pair_sleep(&r->p);
		for (int i = 0; i < got; i++) {
			if (!(done[i].flags & RINGTLS_SENT))
				continue;
			assert_int_equal(done[i].id, sent);
			assert_int_equal(done[i].error, 0);
			bytes += done[i].bytes;
			sent++;
		}
	}
	return bytes;
}

static struct answer queue_all(struct script_run *r, const struct script_op *op)
{
	unsigned n = 1 + op->how / 16 % QUEUED_MAX;
	struct answer a = { 0 };
	long total = 0;

	for (unsigned i = 0; i < n; i++) {
		if (r->p.conn) {
			while (a = queue_one(r, op, i), answer_is_want(&a))
				go_on(r, &a);
			assert_int_equal(a.ret, 1);
			continue;
		}
		a = write_all(r, op->how >> i & 1 ? pattern : pattern + op->from, op->len, false);
		total += a.ret;
	}
	if (r->p.conn) {
		total = (long)collect(r, n);
		r->sent += (size_t)total;
	}
	a.ret = total;
	return a;
}

/* No larger than small ones where a write must meet a full socket, and else above and below one
 * of loopback's segments. The peer's stays: with a window below a segment TCP sends by its probe
 * timer only. */
static void set_buffers(struct script_run *r, const struct script *s, const struct script_op *op)
{
	int size = (s->is_small ? 2048 : 16384) << op->how % (s->is_small ? 2 : 5);

	setsockopt(r->p.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static struct answer send_bad_file(struct script_run *r, bool is_closed)
{
	struct answer a;

	/* What is due before it, such as a KeyUpdate, may have to wait. */
	while (a = side_sendfile(&r->p, is_closed ? -1 : file, is_closed ? 0 : -1, 100),
	       answer_is_want(&a))
		go_on(r, &a);
	return a;
}

/* The peer reads nothing, so the write can't be done; then what how says. */
static void stall(struct script_run *r, const struct script *s, size_t i)
{
	const struct script_op *op = &s->ops[i];
	const uint8_t *bytes = pattern + op->from;
	size_t len = SCRIPT_STALL;
	uint8_t *copy = NULL;
	char c;

	note(r, i, side_write(&r->p, bytes, SCRIPT_STALL));
	if (op->how & 1)
		note(r, i, side_read(&r->p, &c, 1));
	if (op->how & 2 && r->p.conn) { /* OpenSSL alone ends the connection */
		struct answer a = side_write(&r->p, bytes + s->is_moving, SCRIPT_STALL - 1);

		assert_int_equal(a.reason, SSL_R_BAD_LENGTH);
		if (!s->is_moving) {
			a = side_write(&r->p, bytes + 1, SCRIPT_STALL);
			assert_int_equal(a.reason, SSL_R_BAD_WRITE_RETRY);
		}
	}
	if (op->how & 4)
		note(r, i, side_write(&r->p, bytes, -1));
	if (op->how & 8)
		len += SCRIPT_STALL_MORE;
	if (s->is_moving) {
		copy = malloc(len);
		assert_non_null(copy);
		memcpy(copy, bytes, len);
	}
	note(r, i, write_all(r, copy ? copy : bytes, len, false));
	free(copy);
}

/* The peer writes, and we read until we have it. */
static struct answer listen_to(struct script_run *r, uint32_t from, size_t len, size_t size)
{
	size_t said = 0, heard = 0;
	struct answer a = { 0 };
	int n;

	while (heard < len) {
		n = said < len ? SSL_write(r->p.peer, pattern + from, (int)len) : 0;
		if (n > 0)
			said = (size_t)n;
		r->got = realloc(r->got, r->got_len + size);
		assert_non_null(r->got);
		a = side_read(&r->p, r->got + r->got_len, (int)size);
		if (answer_is_want(&a)) {
			go_on(r, &a);
			continue;
		}
		if (a.ret <= 0)
			break;
		heard += (size_t)a.ret;
		r->got_len += (size_t)a.ret;
	}
	a.ret = (long)heard;
	return a;
}

/* The answer of ours goes out before the next data; so there is some. */
static void peers_update(struct script_run *r, const struct script *s, size_t i)
{
	const struct script_op *op = &s->ops[i];

	while (SSL_do_handshake(r->p.peer) != 1)
		pair_rest(&r->p);
	assert_int_equal(SSL_key_update(r->p.peer, op->how & 1 ? SSL_KEY_UPDATE_REQUESTED :
								  SSL_KEY_UPDATE_NOT_REQUESTED),
			 1);
	note(r, i, listen_to(r, op->from, 10, 10));
	note(r, i, write_all(r, pattern + op->from, 1 + op->len, false));
}

static struct answer our_update(struct script_run *r, const struct script_op *op)
{
	struct answer a;

	for (;;) {
		a = side_key_update(&r->p, op->how & 1 ? SSL_KEY_UPDATE_REQUESTED :
							  SSL_KEY_UPDATE_NOT_REQUESTED);
		if (!answer_is_want(&a))
			return a;
		go_on(r, &a);
	}
}

/* What both sides of a handshake have when it is done, and no other has. */
struct verify {
	uint8_t sent[64], got[64];
	size_t sent_len, got_len;
};

static struct verify verify_of(const SSL *ssl)
{
	struct verify v = { .sent_len = 0 };

	v.sent_len = SSL_get_finished(ssl, v.sent, sizeof(v.sent));
	v.got_len = SSL_get_peer_finished(ssl, v.got, sizeof(v.got));
	return v;
}

static bool is_renegotiated(const struct pair *p, const struct verify *before)
{
	struct verify ours = verify_of(p->ours), peers = verify_of(p->peer);

	return !SSL_in_init(p->ours) && !SSL_in_init(p->peer) &&
	       memcmp(ours.sent, before->sent, sizeof(ours.sent)) != 0 &&
	       memcmp(ours.got, before->got, sizeof(ours.got)) != 0 &&
	       memcmp(ours.sent, peers.got, sizeof(ours.sent)) == 0 &&
	       memcmp(ours.got, peers.sent, sizeof(ours.got)) == 0;
}

static struct answer finish_renegotiation(struct script_run *r, const struct verify *before)
{
	struct answer a = { .ret = 1 };
	char c;

	while (!is_renegotiated(&r->p, before)) {
		a = side_read(&r->p, &c, 1);
		if (!answer_is_want(&a))
			return a;
		go_on(r, &a);
	}
	return (struct answer){ .ret = 1 };
}

/* Started by either side; how says whether data goes out before it is done. */
static void renegotiate(struct script_run *r, const struct script_op *op, size_t i)
{
	struct verify before = verify_of(r->p.ours);
	SSL *starts = op->how & 1 ? r->p.ours : r->p.peer;

	/* It may not have read our Finished yet; and SSL_do_handshake is no read, and would take
	 * data that it finds for an error. */
	while (SSL_do_handshake(r->p.peer) != 1)
		pair_rest(&r->p);
	peer_gets_all(r);
	assert_int_equal(SSL_renegotiate(starts), 1);
	if (starts == r->p.peer)
		SSL_do_handshake(r->p.peer);
	if (op->how & 2)
		note(r, i, write_all(r, pattern + op->from, 1 + op->len, false));
	note(r, i, finish_renegotiation(r, &before));
	note(r, i, write_all(r, pattern + op->from, 1 + op->len, false));
}

static void set_mode(struct script_run *r, long mode, bool on)
{
	if (on)
		SSL_set_mode(r->p.ours, mode);
	else
		SSL_clear_mode(r->p.ours, mode);
}

static void do_op(struct script_run *r, const struct script *s, size_t i)
{
	const struct script_op *op = &s->ops[i];
	char c;

	switch (op->kind) {
	case OP_WRITE:
	case OP_WRITE_EX:
		note(r, i, write_all(r, pattern + op->from, op->len, op->kind == OP_WRITE_EX));
		break;
	case OP_STALL:
		stall(r, s, i);
		break;
	case OP_FILE:
		note(r, i, send_file(r, op));
		break;
	case OP_QUEUE:
		note(r, i, queue_all(r, op));
		break;
	case OP_BUFFERS:
		set_buffers(r, s, op);
		break;
	case OP_BAD_FILE:
		note(r, i, send_bad_file(r, op->how & 1));
		break;
	case OP_NEGATIVE:
		note(r, i, side_write(&r->p, pattern, -(int)(1 + op->len)));
		break;
	case OP_UPDATE:
		note(r, i, our_update(r, op));
		break;
	case OP_PEER_UPDATE:
		peers_update(r, s, i);
		break;
	case OP_RENEGOTIATE:
		renegotiate(r, op, i);
		break;
	case OP_PEER_SAYS:
		note(r, i, listen_to(r, op->from, op->len % 20000, 400 + op->how % 16384));
		break;
	case OP_READ_NOTHING:
		note(r, i, side_read(&r->p, &c, 1));
		break;
	case OP_PARTIAL:
		set_mode(r, SSL_MODE_ENABLE_PARTIAL_WRITE, op->how & 1);
		break;
	case OP_AUTO_RETRY:
		set_mode(r, SSL_MODE_AUTO_RETRY, op->how & 1);
		break;
	}
}

/* ---- The beginning and the end ----------------------------------------- */

static void shake_hands(struct script_run *r)
{
	struct answer a;

	while (a = side_handshake(&r->p), answer_is_want(&a)) {
		SSL_do_handshake(r->p.peer);
		pair_rest(&r->p);
	}
	assert_int_equal(a.ret, 1);
}

static struct answer shut_down(struct script_run *r)
{
	struct answer a;

	while (a = side_shutdown(&r->p), answer_is_want(&a))
		go_on(r, &a);
	a.err_no = 0; /* 0 is no failure, whatever SSL_get_error(3) makes of it */
	return a;
}

static struct answer read_to_the_end(struct script_run *r)
{
	struct answer a;
	char c;

	while (a = side_read(&r->p, &c, 1), answer_is_want(&a))
		pair_rest(&r->p);
	return a;
}

static void reset_by_peer(struct script_run *r)
{
	struct linger reset = { .l_onoff = 1 };

	setsockopt(r->p.peer_fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(r->p.peer_fd);
	r->p.peer_fd = -1;
}

static void end(struct script_run *r, const struct script *s)
{
	struct pair *p = &r->p;

	/* A byte that is behind every record before it. */
	note(r, s->n, write_all(r, pattern, 1, false));
	peer_gets_all(r);
	switch (s->ending) {
	case WE_CLOSE:
		note(r, s->n, shut_down(r));
		note(r, s->n, side_write(p, pattern, 1));
		while (peer_reads(r, 0), p->peer_error == SSL_ERROR_WANT_READ)
			pair_rest(p);
		SSL_shutdown(p->peer);
		note(r, s->n, shut_down(r));
		break;
	case PEER_CLOSES:
		SSL_shutdown(p->peer);
		note(r, s->n, read_to_the_end(r));
		note(r, s->n, write_all(r, pattern, 1000, false));
		note(r, s->n, shut_down(r));
		while (peer_reads(r, 0), p->peer_error == SSL_ERROR_WANT_READ)
			pair_rest(p);
		break;
	case PEER_CUTS:
		shutdown(p->peer_fd, SHUT_WR);
		note(r, s->n, read_to_the_end(r));
		break;
	case PEER_RESETS:
		reset_by_peer(r);
		note(r, s->n, read_to_the_end(r));
		break;
	case NOBODY_CLOSES:
		break;
	}
}

void script_run(const struct script *s, const struct pair_opts *opts, struct script_run *r)
{
	struct pair_opts o = *opts;

	memset(r, 0, sizeof(*r));
	r->random = s->seed | 1;
	o.is_client = s->is_client;
	o.small_buffers = s->is_small;
	o.renegotiation = s->may_renegotiate ? RINGTLS_RENEG_SERVE : RINGTLS_RENEG_DEFAULT;
	if (o.promote_after) /* a number of the script's own */
		o.promote_after = 1 + s->seed * 7919u % o.promote_after;
	pair_open(&r->p, &o);
	if (s->may_renegotiate) {
		SSL_set_options(r->p.ours, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
		SSL_set_options(r->p.peer, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	}
	SSL_set_msg_callback(r->p.peer, see);
	SSL_set_msg_callback_arg(r->p.peer, r);
	if (s->is_moving)
		SSL_set_mode(r->p.ours, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (s->is_explicit)
		shake_hands(r);
	for (size_t i = 0; i < s->n; i++)
		do_op(r, s, i);
	end(r, s);
}

void script_free(struct script_run *r)
{
	pair_close(&r->p);
	free(r->got);
	r->got = NULL;
}
