/*
 * write.c - ringtls_write and ringtls_sendfile.
 *
 * Two ways, by who seals. Where OpenSSL handed us the key, the caller's bytes are
 * put in the queue for the length of the call, and what is left of them is taken
 * out again when it ends. Where it did not, they go through SSL_write, a bounded
 * piece at a time, into the inbox. Either way nothing of the caller's is looked at
 * between calls: what was not sealed or sent is asked for again.
 */
#include "config.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <openssl/err.h>

#define PIECE RINGTLS__OP_BYTES

/* ---- Both -------------------------------------------------------------- */

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Puts bytes in the queue, sends, takes the rest out. Adds what was taken. */
static int send_item(struct ringtls_conn *c, struct ringtls__item *item, size_t *taken)
{
	int r;

	ringtls__txq_push(&c->tx.q, item);
	r = ringtls__drive(c);
	ringtls__txq_withdraw(&c->tx.q, item);
	*taken += item->done;
	/* Idle, and yet bytes are left: a machine that was closed takes none. */
	if (r == 0 && item->done < item->len && item->kind == RINGTLS__ITEM_DATA)
		return RINGTLS_E_STATE;
	return r;
}

static int send_bytes(struct ringtls_conn *c, const uint8_t *bytes, size_t len, size_t *taken)
{
	struct ringtls__item item = { .kind = RINGTLS__ITEM_DATA, .bytes = bytes, .len = len };

	return send_item(c, &item, taken);
}

struct ringtls__place ringtls__find(const struct iovec *iov, size_t done)
{
	/* NOLINTNEXTLINE(*UndefinedBinaryOperatorResult): done is less than all of iov */
	while (done && done >= iov->iov_len) {
		done -= iov->iov_len;
		iov++;
	}
	return (struct ringtls__place){ iov, done };
}

static int send_pieces(struct ringtls_conn *c, const struct iovec *iov, size_t len, size_t *taken)
{
	struct ringtls__place at = ringtls__find(iov, *taken);
	struct ringtls__item item = {
		.kind = RINGTLS__ITEM_DATA, .iov = at.iov, .iov_done = at.skip, .len = len
	};

	return send_item(c, &item, taken);
}

bool ringtls__iov_len(const struct iovec *iov, int iovcnt, size_t *ret_len)
{
	size_t len = 0;

	if (iovcnt < 0 || iovcnt > IOV_MAX)
		return false;
	for (int i = 0; i < iovcnt; i++) {
		if (iov[i].iov_len > SSIZE_MAX - len)
			return false;
		len += iov[i].iov_len;
	}
	*ret_len = len;
	return true;
}

/* Pieces of memory smaller than this are put together before OpenSSL gets them: a
 * record for each would cost more than the copy. */
#define SMALL 4096

/* Goes on to the first piece that has bytes, and tells how many. */
static size_t first_len(struct ringtls__place *at, size_t left)
{
	while (left && at->skip == at->iov->iov_len)
		*at = (struct ringtls__place){ at->iov + 1, 0 };
	return left ? least(at->iov->iov_len - at->skip, left) : 0;
}

static bool is_small(size_t len, size_t left)
{
	return len < SMALL && len < left;
}

bool ringtls__is_small(struct ringtls__place at, size_t left)
{
	return is_small(first_len(&at, left), left);
}

struct ringtls__piece ringtls__next_bytes(struct ringtls__place at, size_t left, uint8_t *buffer)
{
	size_t len = first_len(&at, left), n = 0;

	if (!is_small(len, left))
		return (struct ringtls__piece){ .bytes = (const uint8_t *)at.iov->iov_base + at.skip,
						.len = len, .may_pause = true };
	while (n < left && n < RINGTLS__RECORD_MAX) {
		len = least(at.iov->iov_len - at.skip, RINGTLS__RECORD_MAX - n);
		memcpy(buffer + n, (const uint8_t *)at.iov->iov_base + at.skip, len);
		n += len;
		at = (struct ringtls__place){ at.iov + 1, 0 };
	}
	return (struct ringtls__piece){ .bytes = buffer, .len = n };
}

/* With SSL_MODE_ENABLE_PARTIAL_WRITE OpenSSL takes a record a call: they are
 * gathered all the same. */
int ringtls__do_write(struct ringtls_conn *c, void *arg)
{
	const struct ringtls__piece *p = arg;
	bool hides_async = !p->may_pause && (SSL_get_mode(c->ssl) & SSL_MODE_ASYNC);
	size_t n = 0;
	int r = 1;

	if (hides_async)
		SSL_clear_mode(c->ssl, SSL_MODE_ASYNC);
	/* Room for all of it at once, with each record's overhead. */
	c->bios.expect = p->len + (p->len / 1024 + 2) * 64;
	while (n < p->len && r > 0) {
		r = SSL_write(c->ssl, p->bytes + n, (int)(p->len - n));
		if (r > 0)
			n += (size_t)r;
	}
	c->bios.expect = 0;
	if (hides_async)
		SSL_set_mode(c->ssl, SSL_MODE_ASYNC);
	c->tx.app_held += n;
	return n ? (int)n : r;
}

/* 0: sealed and sent; -EAGAIN: sealed; 1: OpenSSL's answer is *ret_answer. */
static int write_piece(struct ringtls_conn *c, struct ringtls__piece p, size_t *taken,
		       int *ret_answer)
{
	*ret_answer = ringtls__pump(c, ringtls__do_write, &p);
	if (*ret_answer <= 0)
		return 1;
	*taken += (size_t)*ret_answer;
	return c->sent;
}

/* ---- Write ------------------------------------------------------------- */

static bool may_move(const struct ringtls_conn *c)
{
	return SSL_get_mode(c->ssl) & SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;
}

/* What OpenSSL checks, checked before OpenSSL sees it, so the connection lives. */
static int check_retry(struct ringtls_conn *c, enum ringtls__call_kind kind, const void *buf,
		       size_t num)
{
	const struct ringtls__call *call = &c->call;

	if (call->kind == RINGTLS__CALL_NONE)
		return 1;
	if (call->kind != kind || (call->at.buf != buf && !may_move(c)))
		return ringtls__refused(c, SSL_R_BAD_WRITE_RETRY);
	if (num < call->num)
		return ringtls__refused(c, SSL_R_BAD_LENGTH);
	return 1;
}

static int told(struct ringtls_conn *c, size_t *ret_written)
{
	*ret_written = c->call.done;
	c->call.kind = RINGTLS__CALL_NONE;
	c->error = SSL_ERROR_NONE;
	return 1;
}

static bool is_partial(const struct ringtls_conn *c)
{
	return SSL_get_mode(c->ssl) & SSL_MODE_ENABLE_PARTIAL_WRITE;
}

/* What was sealed by an earlier call is told before more is sealed. */
static int write_some(struct ringtls_conn *c, const struct iovec *iov)
{
	struct ringtls__call *call = &c->call;
	size_t len = call->num - call->done;

	/* The mode last: it is a call into libssl, and most writes are small and new. */
	if ((call->done || len > PIECE) && is_partial(c))
		len = call->done ? 0 : PIECE;
	return len ? send_pieces(c, iov, len, &call->done) : ringtls__drive(c);
}

static int write_ours(struct ringtls_conn *c, const struct iovec *iov, size_t *ret_written)
{
	int r = write_some(c, iov);

	/* In the user lane, what is sealed and not sent must go first. */
	if (r == 0 || (r == -EAGAIN && is_partial(c) && c->call.done && ringtls__tx_is_idle(&c->tx)))
		return told(c, ret_written);
	return r == -EAGAIN ? ringtls__want(c, SSL_ERROR_WANT_WRITE) : ringtls__failed(c, r);
}

/* Of the kernel's names for ciphers, the one whose limit holds. */
static uint16_t cipher_type(const SSL *ssl)
{
	const char *name = SSL_get_cipher_name(ssl);

	return strstr(name, "GCM") ? TLS_CIPHER_AES_GCM_128 :
	       strstr(name, "CCM") ? TLS_CIPHER_AES_CCM_128 :
				     0;
}

/* OpenSSL counts no records: how many bytes may go to it before it needs a new key.
 * Handshake records count, too: that errs on the safe side. */
size_t ringtls__until_limit(struct ringtls_conn *c)
{
	uint64_t limit = ringtls__record_limit(cipher_type(c->ssl), c->tx.max_records);
	uint64_t used = c->bios.records - c->epoch_start;

	if (!limit || SSL_version(c->ssl) != TLS1_3_VERSION)
		return SIZE_MAX;
	if (used >= limit && ringtls__push_key_update(c, SSL_KEY_UPDATE_NOT_REQUESTED) >= 0) {
		c->epoch_start = c->bios.records;
		used = 0;
	}
	/* Without a new key nothing more may be sealed; one record lets OpenSSL say why. */
	if (limit > used && limit - used > PIECE)
		return SIZE_MAX;
	return (size_t)(limit > used ? limit - used : 1) * RINGTLS__RECORD_MAX;
}

/* OpenSSL, too, wants the same bytes again: the same pieces give the same copy. */
static int write_next(struct ringtls_conn *c, const struct iovec *iov, int *ret_answer)
{
	struct ringtls__call *call = &c->call;
	uint8_t buffer[RINGTLS__RECORD_MAX];
	struct ringtls__piece p = ringtls__next_bytes(ringtls__find(iov, call->done),
						      call->num - call->done, buffer);

	if (!call->chunk)
		call->chunk = (uint32_t)least(least(p.len, PIECE), ringtls__until_limit(c));
	p.len = call->chunk;
	return write_piece(c, p, &call->done, ret_answer);
}

static int write_through(struct ringtls_conn *c, const struct iovec *iov, size_t *ret_written)
{
	struct ringtls__call *call = &c->call;
	int r = ringtls__drive(c), answer;

	if (r == 0 && call->done && is_partial(c))
		return told(c, ret_written);
	while (r == 0 && call->done < call->num) {
		r = write_next(c, iov, &answer);
		if (r > 0)
			return answer;
		call->chunk = 0;
		if (r == 0 && is_partial(c))
			break;
	}
	if (r == 0)
		return told(c, ret_written);
	return r == -EAGAIN ? ringtls__want(c, SSL_ERROR_WANT_WRITE) : ringtls__failed(c, r);
}

static int write_call(struct ringtls_conn *c, const struct iovec *iov, size_t num,
		      size_t *ret_written)
{
	int r = check_retry(c, RINGTLS__CALL_WRITE, iov->iov_base, num);

	if (r > 0)
		r = ringtls__may_call(c);
	if (r <= 0)
		return r;
	if (c->call.kind == RINGTLS__CALL_NONE)
		c->call = (struct ringtls__call){ .kind = RINGTLS__CALL_WRITE };
	c->call.at.buf = iov->iov_base;
	c->call.num = num;
	return c->bios.keyed ? write_ours(c, iov, ret_written) : write_through(c, iov, ret_written);
}

int ringtls_write_ex(struct ringtls_conn *c, const void *buf, size_t num, size_t *ret_written)
{
	const struct iovec iov = { (void *)(uintptr_t)buf, num };

	return write_call(c, &iov, num, ret_written) > 0;
}

ssize_t ringtls_writev(struct ringtls_conn *c, const struct iovec *iov, int iovcnt)
{
	static const struct iovec none = { NULL, 0 };
	size_t num, written = 0;
	int r;

	if (!ringtls__iov_len(iov, iovcnt, &num))
		return ringtls__failed(c, -EINVAL);
	r = write_call(c, iovcnt ? iov : &none, num, &written);
	return r > 0 ? (ssize_t)written : r;
}

int ringtls_write(struct ringtls_conn *c, const void *buf, int num)
{
	size_t written = 0;
	int r;

	if (num < 0)
		return ringtls__refused(c, SSL_R_BAD_LENGTH);
	r = write_call(c, &(const struct iovec){ (void *)(uintptr_t)buf, (size_t)num }, (size_t)num,
		       &written);
	return r > 0 ? (int)written : r;
}

/* ---- Early data -------------------------------------------------------- */

/* Before the handshake is done the bytes go through OpenSSL in every lane: ours come
 * back through the BIO, as records in their order. */
static int do_write_early(struct ringtls_conn *c, void *arg)
{
	const struct ringtls__piece *p = arg;
	size_t written = 0;
	int r = SSL_write_early_data(c->ssl, p->bytes, p->len, &written);

	c->call.done += written;
	return r;
}

static int write_early(struct ringtls_conn *c, size_t *ret_written)
{
	struct ringtls__piece p = { .bytes = c->call.at.buf,
				    .len = least(c->call.num, PIECE) };
	int r;

	if (!c->call.done && p.len) {
		r = ringtls__pump(c, do_write_early, &p);
		if (r <= 0) {
			if (c->error == SSL_ERROR_SSL || c->error == SSL_ERROR_SYSCALL)
				c->call.kind = RINGTLS__CALL_NONE;
			return r;
		}
	}
	r = ringtls__drive(c);
	if (r == 0)
		return told(c, ret_written);
	return r == -EAGAIN ? ringtls__want(c, SSL_ERROR_WANT_WRITE) : ringtls__failed(c, r);
}

int ringtls_write_early_data(struct ringtls_conn *c, const void *buf, size_t num,
			     size_t *ret_written)
{
	int r = check_retry(c, RINGTLS__CALL_EARLY, buf, num);

	if (r > 0 && c->tx.state == RINGTLS__TX_FAILED)
		r = ringtls__failed(c, c->tx.error);
	if (r <= 0)
		return 0;
	if (c->call.kind == RINGTLS__CALL_NONE)
		c->call = (struct ringtls__call){ .kind = RINGTLS__CALL_EARLY };
	c->call.at.buf = buf;
	c->call.num = num;
	return write_early(c, ret_written) > 0;
}

/* ---- Sendfile ---------------------------------------------------------- */

struct range {
	int file;
	off_t offset;
	size_t size;
	size_t done;     /* sent: may be told */
	size_t held;     /* sealed from offset + done on, and not sent yet */
	uint8_t *buffer; /* pool memory, or NULL */
};

/* In the kernel lane, on a socket that does not block: from file to socket. 0: go on; 1: the
 * file's end; -EAGAIN or an error. */
static int send_range(struct ringtls_conn *c, struct range *g)
{
	size_t len = least(g->size - g->done, RINGTLS__RANGE_MAX);
	struct ringtls__item item = {
		.kind = RINGTLS__ITEM_FILE,
		.file = g->file,
		.offset = g->offset + (off_t)g->done,
		.len = len,
	};
	int r = ringtls__have_file(c, g->file, item.offset, len), error;

	if (r < 0)
		return r;
	r = send_item(c, &item, &g->done);
	error = ringtls__tx_file_error(&c->tx);
	return r < 0 ? r : error ? error : item.done < len;
}

static int send_ranges(struct ringtls_conn *c, struct range *g)
{
	int r = 0;

	while (r == 0 && g->done < g->size)
		r = send_range(c, g);
	return r;
}

/* Read, then written like any bytes. 0: go on; 1: the file's end; or as write_piece. */
static int send_read(struct ringtls_conn *c, struct range *g, int *ret_answer)
{
	size_t want = g->size - g->done < PIECE ? g->size - g->done : PIECE, taken = 0, room;
	ssize_t n;
	int r;

	if (!g->buffer)
		g->buffer = ringtls__pool_get(&c->engine->pool, want, &room);
	if (!g->buffer)
		return -ENOMEM;
	n = ringtls__read_file(c, g->file, g->buffer, want, g->offset + (off_t)g->done);
	if (n <= 0)
		return n < 0 ? (int)n : 1;
	r = c->bios.keyed ?
		    send_bytes(c, g->buffer, (size_t)n, &taken) :
		    write_piece(c, (struct ringtls__piece){ .bytes = g->buffer, .len = (size_t)n },
				&taken, ret_answer);
	/* A connection that failed is idle, too: but what was sealed was not sent. */
	if (c->tx.state == RINGTLS__TX_FAILED)
		return r == 1 ? 2 : r;
	if (r == 0 || ringtls__tx_is_idle(&c->tx))
		g->done += taken;
	else
		g->held = taken;
	return r == 1 ? 2 : r;
}

/* Reading and sending go over for any socket. */
static int send_file(struct ringtls_conn *c, struct range *g, int *ret_answer)
{
	int r = ringtls__drive(c);

	if (r < 0)
		return r;
	g->done = g->held;
	g->held = 0;
	r = g->size - g->done > RINGTLS__READ_MAX ? ringtls__may_sendfile(c) : 0;
	if (r)
		return r < 0 ? r : send_ranges(c, g);
	while (r == 0 && g->done < g->size)
		r = send_read(c, g, ret_answer);
	ringtls__pool_put(&c->engine->pool, g->buffer);
	return r;
}

/* What was sealed and is not sent is told by the call that finds it sent. */
static void remember(struct ringtls_conn *c, const struct range *g)
{
	c->call.kind = g->held ? RINGTLS__CALL_FILE : RINGTLS__CALL_NONE;
	c->call.at.offset = g->offset + (off_t)g->done;
	c->call.done = g->held;
}

static int check_range(struct ringtls_conn *c, const struct range *g, int flags)
{
	const struct ringtls__call *call = &c->call;

	if (flags || g->offset < 0)
		return ringtls__failed(c, -EINVAL);
	if (call->kind == RINGTLS__CALL_NONE)
		return 1;
	if (call->kind != RINGTLS__CALL_FILE || call->at.offset != g->offset)
		return ringtls__refused(c, SSL_R_BAD_WRITE_RETRY);
	if (g->size < call->done)
		return ringtls__refused(c, SSL_R_BAD_LENGTH);
	return 1;
}

ssize_t ringtls_sendfile(struct ringtls_conn *c, int file, off_t offset, size_t size, int flags)
{
	struct range g = { .file = file, .offset = offset, .size = size };
	int answer = -1, r;

	if (g.size > SSIZE_MAX)
		g.size = SSIZE_MAX;
	r = check_range(c, &g, flags);
	if (r > 0)
		r = ringtls__may_call(c);
	if (r <= 0)
		return r;
	if (c->call.kind == RINGTLS__CALL_FILE)
		g.held = c->call.done;
	r = send_file(c, &g, &answer);
	remember(c, &g);
	if (g.done || r == 0 || r == 1) {
		c->error = SSL_ERROR_NONE;
		return (ssize_t)g.done;
	}
	if (r == -EAGAIN)
		return ringtls__want(c, SSL_ERROR_WANT_WRITE);
	return r == 2 ? answer : ringtls__failed(c, r);
}
