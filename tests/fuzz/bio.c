/*
 * bio.c - our two BIOs (src/ossl.c, src/ossl_own.c) as OpenSSL might use them at its worst:
 * any writes, reads and controls, in any order. A model says what each must answer, and
 * what the inbox must hold: each byte that was accepted, once, in order and as its kind.
 */
#include "fuzz.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <ringtls/ringtls.h>
#include "fake_malloc.h"
#include "keylog.h"
#include "keys.h"
#include "ossl.h"

#define PIECES	  512
#define BYTES_MAX (3 * 1024 * 1024) /* written by one input */
#define INBOX_MAX ((size_t)2 * RINGTLS__POOL_MAX)
#define FD	  1234

enum { SET_KTLS = 72, GET_KTLS_SEND = 73, SET_CTRL_MSG = 74, CLEAR_CTRL_MSG = 75 };

const char fuzz_target[] = "bio";

static SSL_CTX *ctx;
static BIO_METHOD *callers_method;
static struct ringtls__pool pool;
static struct ringtls__bios b;
static SSL *ssl;

/* What the inbox must hold. */
struct piece {
	enum ringtls__item_kind kind;
	uint8_t type;
	uint8_t *bytes;
	size_t len, done;
	struct ringtls__key key; /* KEYS */
	bool is_derived;	 /* of the key only the shape is known */
};

static struct {
	struct piece pieces[PIECES];
	size_t first, end;
	size_t written;
	bool keyed, ending;
	bool has_failed; /* nothing in the inbox will be sent, so nothing is asked of it */
	bool gives_back; /* at the end */
	uint8_t next_type;
	uint16_t version, cipher; /* of the last key that was offered */
} m;

/* ---- The socket, and the caller's BIO, as they please ------------------- */

static size_t recv_most; /* what the BIO may ask for at most */

static ssize_t any_result(size_t most)
{
	if (fuzz_any(3))
		return -(ssize_t)(1 + fuzz_any(EHWPOISON));
	return fuzz_any(2) ? (ssize_t)most : (ssize_t)fuzz_any((uint32_t)most + 1);
}

static ssize_t some_recv(int fd, void *to, size_t len, int flags)
{
	ssize_t n = any_result(len);

	fuzz_check(fd == FD && flags == MSG_DONTWAIT);
	fuzz_check(len <= recv_most);
	if (n > 0)
		memset(to, 0x77, (size_t)n);
	return n;
}

static ssize_t some_recvmsg(int fd, struct msghdr *msg, int flags)
{
	size_t len = msg->msg_iov[0].iov_len;
	ssize_t n = any_result(len);
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);

	fuzz_check(fd == FD && flags == MSG_DONTWAIT && msg->msg_iovlen == 1);
	fuzz_check(len <= recv_most && c && msg->msg_controllen >= CMSG_SPACE(1));
	if (n >= 0)
		memset(msg->msg_iov[0].iov_base, 0x77, (size_t)n);
	if (n < 0 || !fuzz_any(4)) {
		msg->msg_controllen = 0;
		return n;
	}
	c->cmsg_level = 282;
	c->cmsg_type = fuzz_any(4) ? TLS_GET_RECORD_TYPE : (int)fuzz_any(256);
	c->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(c) = (uint8_t)fuzz_any(256);
	return n;
}

static struct ringtls__key given; /* what the kernel must be given: ours is erased by then */
static bool is_given;

static int some_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	fuzz_check(fd == FD && level == 282 && name == TLS_RX);
	fuzz_check(len == given.len && !memcmp(value, &given.u, len));
	is_given = true;
	return fuzz_any(2) ? -(int)(1 + fuzz_any(EHWPOISON)) : 0;
}

static const struct ringtls__sys sys = {
	.recv = some_recv,
	.recvmsg = some_recvmsg,
	.setsockopt = some_setsockopt,
};

static void expect_bytes(const uint8_t *bytes, size_t len);

/* Takes all, a part, or refuses, for good or for now and for any reason. */
static int callers_write(BIO *bio, const char *data, int len)
{
	static const int whys[] = {BIO_RR_CONNECT, BIO_RR_ACCEPT};

	BIO_clear_retry_flags(bio);
	switch (fuzz_any(6)) {
	case 0:
		BIO_set_retry_write(bio);
		return -1;
	case 1:
		BIO_set_retry_read(bio);
		return -1;
	case 2:
		BIO_set_retry_special(bio);
		BIO_set_retry_reason(bio, whys[fuzz_any(2)]);
		return fuzz_any(2) ? 0 : -1;
	case 3:
		errno = fuzz_any(2) ? EPIPE : 0;
		return -1;
	case 4:
		len = 1 + (int)fuzz_any((uint32_t)len);
		break;
	}
	expect_bytes((const uint8_t *)data, (size_t)len);
	return len;
}

static long callers_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)num;
	(void)ptr;
	BIO_clear_retry_flags(bio);
	if (cmd == BIO_CTRL_FLUSH && fuzz_any(3))
		return 1;
	if (cmd == BIO_CTRL_FLUSH && fuzz_any(2))
		BIO_set_retry_write(bio);
	return 0;
}

static int callers_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

/* ---- The model ----------------------------------------------------------- */

static struct piece *add(enum ringtls__item_kind kind, uint8_t type, const void *bytes, size_t len)
{
	struct piece *piece = &m.pieces[m.end++];

	fuzz_check(m.end <= PIECES);
	memset(piece, 0, sizeof(*piece));
	piece->kind = kind;
	piece->type = type;
	piece->len = len;
	piece->bytes = malloc(len + 1);
	fuzz_check(piece->bytes);
	memcpy(piece->bytes, bytes, len);
	return piece;
}

static void drop_first(void)
{
	struct piece *piece = &m.pieces[m.first++];

	free(piece->bytes);
	piece->bytes = NULL;
	OPENSSL_cleanse(&piece->key, sizeof(piece->key));
}

/* These come out next. */
static void expect_bytes(const uint8_t *bytes, size_t len)
{
	while (len && !m.has_failed) {
		struct piece *piece = &m.pieces[m.first];
		size_t n = piece->len - piece->done < len ? piece->len - piece->done : len;

		fuzz_check(m.first < m.end && piece->kind != RINGTLS__ITEM_KEYS);
		fuzz_check(!memcmp(piece->bytes + piece->done, bytes, n));
		piece->done += n;
		bytes += n;
		len -= n;
		if (piece->done == piece->len)
			drop_first();
	}
}

/* Memory was refused in the call that has just ended, if that came to ask for some. */
static bool is_starved(void)
{
	fake_malloc_fail_at(0);
	m.has_failed |= b.error == -ENOMEM;
	return m.has_failed;
}

static void starve(void)
{
	if (!fuzz_any(50))
		fake_malloc_fail_at(1);
}

static size_t pending(void)
{
	size_t n = 0;

	for (size_t i = m.first; i < m.end; i++)
		n += m.pieces[i].len - m.pieces[i].done;
	return n;
}

static bool has_room(void)
{
	return m.end < PIECES - 2 && m.written < BYTES_MAX;
}

static bool may_rekey(void)
{
	return b.may_rekey && (ringtls__ossl_offers_next_keys() || b.secret);
}

/* ---- Writing --------------------------------------------------------------- */

static bool is_key_update(const uint8_t *bytes, size_t len)
{
	return m.next_type == 22 && len == 5 && bytes[0] == 24 && m.version == TLS_1_3_VERSION;
}

static void expect_derived(void)
{
	struct piece *piece;

	if (b.error) { /* the secret was none of the two sizes, or the cipher's key unknown */
		fuzz_check(b.secret->len != 32 && b.secret->len != 48);
		m.has_failed = true;
		return;
	}
	piece = add(RINGTLS__ITEM_KEYS, 0, "", 0);
	piece->is_derived = true;
	piece->key.u.info.version = TLS_1_3_VERSION;
	piece->key.u.info.cipher_type = m.cipher;
}

static void expect_record(const uint8_t *bytes, int len, int r, BIO *wbio)
{
	bool is_update = is_key_update(bytes, (size_t)len);
	uint8_t type = m.next_type;

	if (len > RINGTLS__RECORD_MAX) {
		fuzz_check(r == -1 && b.error && !BIO_should_retry(wbio));
		m.has_failed = true;
		return;
	}
	if (!type && r < 0) {
		fuzz_check(r == -1 && BIO_should_write(wbio));
		fuzz_check(m.has_failed || pending() + (size_t)len > INBOX_MAX);
		return;
	}
	fuzz_check(m.has_failed || type || pending() + (size_t)len <= INBOX_MAX);
	fuzz_check(r == len);
	m.next_type = 0;
	m.ending |= is_update && !may_rekey();
	if (m.ending || m.has_failed)
		return;
	add(type ? RINGTLS__ITEM_RECORD : RINGTLS__ITEM_DATA, type, bytes, (size_t)len);
	if (is_update && !ringtls__ossl_offers_next_keys())
		expect_derived();
}

static int any_len(void)
{
	switch (fuzz_any(8)) {
	case 0:
		return RINGTLS__RECORD_MAX - 2 + (int)fuzz_any(5);
	case 1:
		return (int)fuzz_any(70000);
	case 2:
	case 3:
		return 5;
	default:
		return (int)fuzz_any(300);
	}
}

/* The first bytes matter: a header, a message's type. The others are a pattern. */
static void fill(uint8_t *bytes, size_t len)
{
	static const uint8_t update[] = {24, 0, 0, 1, 0};
	size_t own = 1 + fuzz_any(12);

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(m.end * 31 + i * 7 + (i >> 8));
	if (len == sizeof(update) && fuzz_any(2))
		memcpy(bytes, update, len);
	else
		fuzz_bytes(bytes, own < len ? own : len);
}

static void write_bytes(BIO *wbio, const uint8_t *bytes, int len)
{
	bool is_starving;
	int r;

	m.written += (size_t)len;
	starve();
	r = BIO_write(wbio, bytes, len);
	is_starving = is_starved();
	if (len == 0) {
		fuzz_check(r <= 0);
	} else if (m.keyed) {
		expect_record(bytes, len, r, wbio);
	} else {
		fuzz_check(r == len && !BIO_should_retry(wbio));
		if (!is_starving)
			add(RINGTLS__ITEM_WIRE, 0, bytes, (size_t)len);
	}
}

static void do_write(BIO *wbio)
{
	int len = any_len();
	uint8_t *bytes;

	if (!has_room())
		return;
	bytes = malloc((size_t)len + 1);
	fuzz_check(bytes);
	fill(bytes, (size_t)len);
	write_bytes(wbio, bytes, len);
	free(bytes);
}

static void do_key_update(BIO *wbio)
{
	const uint8_t update[] = {24, 0, 0, 1, (uint8_t)fuzz_any(2)};

	if (!has_room())
		return;
	fuzz_check(BIO_ctrl(wbio, SET_CTRL_MSG, 22, NULL) == 1);
	m.next_type = 22;
	write_bytes(wbio, update, sizeof(update));
}

/* ---- Keys -------------------------------------------------------------------- */

/* The kernel's structure for any cipher, of just its size; else just what names it. */
static void *any_info(struct ringtls__key *ret_key)
{
	bool is_known = fuzz_any(8);
	uint16_t version = is_known ? test_versions[fuzz_any(2)] : (uint16_t)fuzz_any(65536);
	uint16_t cipher = is_known ? test_ciphers[fuzz_any(4)] : (uint16_t)fuzz_any(65536);
	bool is_good = (version == TLS_1_2_VERSION || version == TLS_1_3_VERSION) &&
		       cipher >= TLS_CIPHER_AES_GCM_128 &&
		       cipher <= TLS_CIPHER_CHACHA20_POLY1305;
	void *info;

	if (is_good) {
		*ret_key = test_key(version, cipher, fuzz_number());
	} else {
		memset(ret_key, 0, sizeof(*ret_key));
		ret_key->u.info.version = version;
		ret_key->u.info.cipher_type = cipher;
	}
	info = malloc(is_good ? ret_key->len : sizeof(ret_key->u.info));
	fuzz_check(info);
	memcpy(info, &ret_key->u, is_good ? ret_key->len : sizeof(ret_key->u.info));
	return info;
}

static void free_info(void *info, struct ringtls__key *key)
{
	if (key->len)
		OPENSSL_cleanse(info, key->len);
	OPENSSL_cleanse(key, sizeof(*key));
	free(info);
}

static void do_transmit_key(BIO *wbio)
{
	struct ringtls__key key;
	void *info = any_info(&key);
	uint32_t bit = ringtls__key_bit(key.u.info.version, key.u.info.cipher_type);
	bool is_taken;
	long r;

	if (!has_room()) {
		free_info(info, &key);
		return;
	}
	starve();
	r = BIO_ctrl(wbio, SET_KTLS, 1 + (long)fuzz_any(2), info);
	is_starved();
	is_taken = key.len && (b.mask & bit) && !m.ending;
	fuzz_check(r == is_taken);
	if (key.len) {
		fuzz_check(bit);
		fuzz_check(b.refused == !is_taken);
		m.version = key.u.info.version;
		m.cipher = key.u.info.cipher_type;
	}
	m.keyed |= is_taken;
	if (is_taken && !m.has_failed)
		add(RINGTLS__ITEM_KEYS, 0, "", 0)->key = key;
	free_info(info, &key);
}

static void do_receive_key(BIO *bio, bool is_read)
{
	struct ringtls__key key;
	void *info = any_info(&key);
	long r;

	given = key;
	is_given = false;
	r = BIO_ctrl(bio, SET_KTLS, 0, info);
	fuzz_check(r == 0 || r == 1);
	fuzz_check(is_given == (is_read && b.receives && key.len));
	fuzz_check(!r || is_given);
	free_info(info, &key);
}

/* ---- Controls ------------------------------------------------------------------ */

/* What we don't know is answered with 0, and touches nothing. */
static void do_unknown(BIO *bio, bool is_write)
{
	static const int known[] = {BIO_CTRL_WPENDING, GET_KTLS_SEND, BIO_CTRL_GET_KTLS_RECV,
				    BIO_CTRL_EOF};
	uint8_t block[256], same[256];
	int cmd = fuzz_any(3)	? known[fuzz_any(4)]
		  : fuzz_any(2) ? (int)fuzz_any(256)
				: (int)fuzz_number();
	bool has_block = fuzz_any(2);
	long r;

	if (cmd == SET_KTLS || cmd == BIO_CTRL_FLUSH || (cmd == BIO_C_GET_FD && !is_write))
		return;
	if (is_write && (cmd == SET_CTRL_MSG || cmd == CLEAR_CTRL_MSG))
		return;
	memset(block, 0xee, sizeof(block));
	memset(same, 0xee, sizeof(same));
	r = BIO_ctrl(bio, cmd, (long)fuzz_number(), has_block ? block : NULL);
	fuzz_check(!memcmp(block, same, sizeof(same)));
	if (is_write && cmd == GET_KTLS_SEND)
		fuzz_check(r == m.keyed);
	else if (is_write && cmd == BIO_CTRL_WPENDING)
		fuzz_check(m.has_failed || r == (long)pending());
	else if (!is_write && cmd == BIO_CTRL_GET_KTLS_RECV)
		fuzz_check(r == b.receives);
	else if (!is_write && cmd == BIO_CTRL_EOF)
		fuzz_check(r == 0 || r == 1);
	else
		fuzz_check(r == 0);
}

static void do_type(BIO *wbio)
{
	long num = fuzz_any(4) ? 20 + (long)fuzz_any(4) : (long)fuzz_number();

	if (fuzz_any(8)) {
		fuzz_check(BIO_ctrl(wbio, SET_CTRL_MSG, num, NULL) == 1);
		m.next_type = (uint8_t)num;
	} else {
		fuzz_check(BIO_ctrl(wbio, CLEAR_CTRL_MSG, 0, NULL) == 1);
		m.next_type = 0;
	}
}

/* To the caller's BIO goes all, or it says why not. */
static void do_flush(BIO *wbio)
{
	long r;

	b.is_behind = b.own && !fuzz_any(4);
	ERR_clear_error();
	r = BIO_flush(wbio);
	if (!b.own)
		fuzz_check(r == 1);
	else if (r > 0)
		fuzz_check((m.first == m.end || m.has_failed) && !b.is_behind);
	else
		fuzz_check(r == -1 && (!b.is_behind || BIO_should_write(wbio)));
	b.is_behind = false;
}

static void do_read(BIO *rbio)
{
	int r, len = 1 + (int)fuzz_any(20000), header = b.receives ? RINGTLS__HEADER_LEN : 0;
	uint8_t *bytes = malloc((size_t)len); /* of just the size */

	fuzz_check(bytes);
	b.read_left = fuzz_any(3) ? fuzz_any(100000) : 0;
	recv_most = len < header ? 0 : (size_t)(len - header);
	if (!b.receives && b.read_left < recv_most)
		recv_most = b.read_left;
	r = BIO_read(rbio, bytes, len);
	fuzz_check(r <= len);
	if (r <= 0)
		fuzz_check(!BIO_should_retry(rbio) || b.read_errno == EAGAIN ||
			   b.read_errno == EINTR);
	free(bytes);
}

/* ---- The inbox ------------------------------------------------------------------- */

static void judge_key(const struct piece *piece, const struct ringtls__key *key)
{
	if (piece->is_derived) {
		fuzz_check(key->u.info.version == piece->key.u.info.version);
		fuzz_check(key->u.info.cipher_type == piece->key.u.info.cipher_type);
		fuzz_check(ringtls__key_seq(key) == 0);
	} else {
		fuzz_check(key->len == piece->key.len);
		fuzz_check(!memcmp(&key->u, &piece->key.u, key->len));
	}
}

/* Items but for WIRE keep OpenSSL's boundaries. */
static void take_one(void)
{
	struct ringtls__item *item = b.inbox.head;
	struct piece *piece = &m.pieces[m.first];

	fuzz_check(m.first < m.end);
	fuzz_check(item->kind == piece->kind && item->owned);
	if (item->kind == RINGTLS__ITEM_KEYS) {
		judge_key(piece, ringtls__item_key(item));
		drop_first();
		ringtls__txq_pop(&b.inbox);
		return;
	}
	if (item->kind != RINGTLS__ITEM_WIRE)
		fuzz_check(item->record_type == piece->type && item->len == piece->len);
	expect_bytes(item->bytes + item->done, item->len - item->done);
	ringtls__txq_advance(&b.inbox, item->len - item->done);
}

static void take(void)
{
	for (uint32_t n = 1 + fuzz_any(8); n && b.inbox.head && !m.has_failed; n--)
		take_one();
}

static void take_all(void)
{
	/* Once it has failed, nothing of it is sent. */
	fuzz_check(m.has_failed == (b.error != 0));
	while (!m.has_failed && b.inbox.head)
		take_one();
	fuzz_check(m.has_failed || m.first == m.end);
	while (m.first < m.end)
		drop_first();
}

/* ---- One input --------------------------------------------------------------------- */

void fuzz_prepare(void)
{
	ctx = SSL_CTX_new(TLS_method());
	callers_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "caller's");
	fuzz_check(ctx && callers_method);
	BIO_meth_set_create(callers_method, callers_create);
	BIO_meth_set_write(callers_method, callers_write);
	BIO_meth_set_ctrl(callers_method, callers_ctrl);
	fuzz_check(ringtls__ctx_prepare(ctx, ringtls__bios_secret) == 0);
}

/* As if OpenSSL's key log had given it. */
static void set_secret(size_t len)
{
	if (!len)
		return;
	b.secret = malloc(sizeof(*b.secret));
	fuzz_check(b.secret);
	memset(b.secret->bytes, KEY_BYTE, sizeof(b.secret->bytes));
	b.secret->len = len;
}

static void attach(void)
{
	static const size_t lens[] = {0, 32, 48, 7};
	bool is_own = !fuzz_any(4);

	memset(&b, 0, sizeof(b));
	memset(&m, 0, sizeof(m));
	m.gives_back = fuzz_any(2);
	ssl = SSL_new(ctx);
	fuzz_check(ssl);
	if (is_own) {
		SSL_set0_wbio(ssl, BIO_new(callers_method));
		fuzz_check(ringtls__bios_attach_own(&b, ssl, &pool) == 0);
		return;
	}
	b.mask = fuzz_any(4) ? RINGTLS__KEYS_ALL : fuzz_any(256);
	b.may_rekey = fuzz_any(2);
	b.receives = fuzz_any(2);
	fuzz_check(ringtls__bios_attach(&b, ssl, FD, &pool, &sys) == 0);
	set_secret(lens[fuzz_any(4)]);
	b.expect = fuzz_any(100000);
	fuzz_check(ringtls__bios_are_of(ssl));
	fuzz_check(SSL_get_fd(ssl) == FD);
}

static void give_back(void)
{
	BIO *bio;

	fuzz_check(ringtls__bios_make_openssls(&b, &bio) == 0);
	ringtls__bios_give_back(&b, ssl, bio);
}

static void detach(void)
{
	if (m.gives_back)
		give_back();
	else
		ringtls__bios_detach(&b, ssl);
	fuzz_check(!ringtls__bios_are_of(ssl));
	fuzz_check(pool.in_use == 0);
	SSL_free(ssl);
}

static void step(BIO *wbio, BIO *rbio)
{
	switch (fuzz_any(14)) {
	case 0:
		do_transmit_key(wbio);
		break;
	case 1:
		do_type(wbio);
		break;
	case 2:
		do_flush(wbio);
		break;
	case 3:
		take();
		break;
	case 4:
		if (rbio)
			do_read(rbio);
		break;
	case 5:
		if (rbio)
			do_receive_key(rbio, true);
		break;
	case 6:
		do_receive_key(wbio, false);
		break;
	case 7:
		do_unknown(wbio, true);
		break;
	case 8:
		if (rbio)
			do_unknown(rbio, false);
		break;
	case 9:
		do_key_update(wbio);
		break;
	default:
		do_write(wbio);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_begin(data, size);
	fake_malloc_watch(key_pattern, sizeof(key_pattern));
	attach();
	while (!fuzz_is_over())
		step(SSL_get_wbio(ssl), b.own ? NULL : SSL_get_rbio(ssl));
	take_all();
	detach();
	ringtls__pool_fini(&pool);
	memset(&pool, 0, sizeof(pool));
	fuzz_check(fake_malloc_leaks == 0); /* no key is in what was freed */
	ERR_clear_error();
	return 0;
}
