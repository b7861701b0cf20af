/* ossl.c - see ossl.h. The self-test is in selftest.c. */
#include "config.h"
#include "ossl.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include "keylog.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

/*
 * The control numbers by which OpenSSL talks to a kTLS BIO. They are in no public
 * header, and are the same in 3.0 to 4.0. The self-test proves them at start-up.
 */
enum {
	CTRL_SET_KTLS = 72,      /* num: 0 receive, else transmit; ptr: the kernel's structure */
	CTRL_GET_KTLS_SEND = 73, /* is it on? */
	CTRL_SET_CTRL_MSG = 74,  /* num: the type of the next record */
	CTRL_CLEAR_CTRL_MSG = 75,
};

enum { HANDSHAKE_KEY_UPDATE = 24, KEY_UPDATE_LEN = 5 };

/* More application bytes than this are only written by a call that goes round us. */
#define INBOX_MAX (2 * RINGTLS__POOL_MAX)

static BIO_METHOD *write_method, *read_method;
static int write_type;
static pthread_once_t methods_once = PTHREAD_ONCE_INIT;

ringtls__key_mask ringtls__key_bit(uint16_t version, uint16_t cipher)
{
	unsigned i = cipher - TLS_CIPHER_AES_GCM_128;

	if (cipher < TLS_CIPHER_AES_GCM_128 || i > 3)
		return 0;
	return version == TLS_1_2_VERSION ? 1u << i : version == TLS_1_3_VERSION ? 16u << i : 0;
}

_Static_assert(TLS_CIPHER_CHACHA20_POLY1305 - TLS_CIPHER_AES_GCM_128 == 3,
	       "the four ciphers are numbered in a row");

/* ---- Writing ----------------------------------------------------------- */

/* Once an error is set nothing in the inbox is sent, so nothing is lost by it. */
static void fail(struct ringtls__bios *b, int error)
{
	if (!b->error)
		b->error = error;
}

/* Counts the finished records in what OpenSSL writes, wherever it cuts them. */
static void count_records(struct ringtls__bios *b, const uint8_t *bytes, size_t len)
{
	while (len) {
		size_t n;

		if (b->record_left) {
			n = len < b->record_left ? len : b->record_left;
			b->record_left = (uint16_t)(b->record_left - n);
			b->records += !b->record_left;
		} else {
			n = sizeof(b->header) - b->header_len;
			n = len < n ? len : n;
			memcpy(b->header + b->header_len, bytes, n);
			b->header_len = (uint8_t)(b->header_len + n);
			if (b->header_len == sizeof(b->header)) {
				b->record_left = (uint16_t)(b->header[3] << 8 | b->header[4]);
				b->header_len = 0;
			}
		}
		bytes += n;
		len -= n;
	}
}

static void write_wire(struct ringtls__bios *b, const uint8_t *bytes, size_t len)
{
	count_records(b, bytes, len);
	while (len) {
		size_t n = len < RINGTLS__RECORD_MAX ? len : RINGTLS__RECORD_MAX;
		int r = ringtls__txq_copy(&b->inbox, RINGTLS__ITEM_WIRE, 0, bytes, n, b->expect);

		if (r < 0)
			fail(b, r);
		b->expect = b->expect > n ? b->expect - n : 0;
		bytes += n;
		len -= n;
	}
}

/* It has a record of its own (RFC 8446 5.1); the rest of a long message may begin
 * with any byte. */
static bool is_key_update(const struct ringtls__bios *b, uint8_t type, const uint8_t *bytes,
			  size_t len)
{
	return type == RINGTLS__RECORD_HANDSHAKE && len == KEY_UPDATE_LEN &&
	       bytes[0] == HANDSHAKE_KEY_UPDATE && b->version == TLS_1_3_VERSION;
}

/*
 * Where the next key could not be used, a KeyUpdate that left could not be
 * honoured: so it stays here, and all that OpenSSL writes after it.
 */
static bool withhold(struct ringtls__bios *b, uint8_t type, const uint8_t *bytes, size_t len)
{
	if (is_key_update(b, type, bytes, len) && ringtls__bios_rekey(b) == RINGTLS__REKEY_NO)
		b->ending = true;
	return b->ending;
}

static size_t inbox_bytes(const struct ringtls__bios *b)
{
	size_t n = 0;

	for (const struct ringtls__item *i = b->inbox.head; i; i = i->next)
		n += i->len - i->done;
	return n;
}

/* OpenSSL 3.0 and 3.1 change their key behind a KeyUpdate and tell nobody. */
static void derive_next_key(struct ringtls__bios *b)
{
	struct ringtls__key key;
	int r = ringtls__secret_next(b->secret, b->cipher, &key);

	if (r >= 0)
		r = ringtls__txq_key(&b->inbox, &key);
	if (r < 0)
		fail(b, r);
	ringtls__key_wipe(&key);
}

/* 1, or 0 when the inbox has no room for application bytes. */
static int write_record(struct ringtls__bios *b, const uint8_t *bytes, size_t len)
{
	uint8_t type = b->next_type;
	int r;

	/* A control record is never put off: OpenSSL forgets its type (74 is for one
	 * write), and it would come again as application data. */
	if (!type && inbox_bytes(b) + len > INBOX_MAX)
		return 0;
	b->next_type = 0;
	if (withhold(b, type, bytes, len))
		return 1;
	r = ringtls__txq_copy(&b->inbox, type ? RINGTLS__ITEM_RECORD : RINGTLS__ITEM_DATA, type,
			      bytes, len, len);
	if (r < 0)
		fail(b, r);
	else if (is_key_update(b, type, bytes, len) && ringtls__bios_rekey(b) == RINGTLS__REKEY_DERIVE)
		derive_next_key(b);
	return 1;
}

static int bio_write(BIO *bio, const char *data, int len)
{
	struct ringtls__bios *b = BIO_get_data(bio);
	const uint8_t *bytes = (const uint8_t *)data;

	BIO_clear_retry_flags(bio);
	if (len <= 0)
		return 0;
	if (!b->keyed) {
		write_wire(b, bytes, (size_t)len);
		return len;
	}
	if (len > RINGTLS__RECORD_MAX) {
		fail(b, -EMSGSIZE); /* the self-test saw one record in a write */
		return -1;
	}
	if (!write_record(b, bytes, (size_t)len)) {
		BIO_set_retry_write(bio);
		return -1;
	}
	return len;
}

/* OpenSSL has it on its stack, has no more use for it whatever the answer, and leaves it
 * there: seen behind a KeyUpdate with 3.6 (tests/unit/test_erase.c). */
static bool move_key(struct ringtls__key *ret_key, void *crypto_info)
{
	if (!crypto_info || ringtls__key_parse(ret_key, crypto_info) < 0)
		return false;
	OPENSSL_cleanse(crypto_info, ret_key->len);
	return true;
}

/* 1: the key is ours from now on. */
static long take_key(struct ringtls__bios *b, void *crypto_info)
{
	struct ringtls__key key;
	int r;

	if (!move_key(&key, crypto_info))
		return 0;
	b->version = key.u.info.version;
	b->cipher = key.u.info.cipher_type;
	b->refused = !(b->mask & ringtls__key_bit(b->version, b->cipher)) || b->ending;
	if (!b->refused) {
		r = ringtls__txq_key(&b->inbox, &key);
		if (r < 0)
			fail(b, r);
		b->keyed = true;
	}
	ringtls__key_wipe(&key);
	return !b->refused;
}

/*
 * To a socket, what was written is in order, and so will go out in order. A BIO of the
 * caller's may wait in a read for the answer to what is still here: so it must go.
 */
static long flush(BIO *bio, struct ringtls__bios *b)
{
	BIO_clear_retry_flags(bio);
	if (!b->own || ringtls__own_flush(b) >= 0)
		return 1;
	if (b->is_behind)
		BIO_set_retry_write(bio);
	else
		BIO_set_flags(bio, BIO_get_retry_flags(b->own));
	BIO_set_retry_reason(bio, BIO_get_retry_reason(b->own));
	return -1;
}

static long write_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	struct ringtls__bios *b = BIO_get_data(bio);

	switch (cmd) {
	case BIO_CTRL_FLUSH:
		return flush(bio, b);
	case BIO_CTRL_WPENDING:
		return (long)inbox_bytes(b);
	case CTRL_SET_KTLS:
		return num ? take_key(b, ptr) : 0;
	case CTRL_GET_KTLS_SEND:
		return b->keyed;
	case CTRL_SET_CTRL_MSG:
		b->next_type = (uint8_t)num;
		return 1;
	case CTRL_CLEAR_CTRL_MSG:
		b->next_type = 0;
		return 1;
	default:
		/* Never 1 for what we don't know: that has turned kTLS on by mistake in
		 * others (openssl#14595). */
		return 0;
	}
}

/* ---- Reading ----------------------------------------------------------- */

/* Never waits, on a blocking socket either: what OpenSSL wrote in the same call is
 * still in the inbox. The connection waits, once it has sent that. */
static ssize_t receive(struct ringtls__bios *b, void *data, size_t len)
{
	ssize_t n;

	/* A peer may send records that give the caller no byte (KeyUpdates, warnings)
	 * as fast as we read them: a call stops at some point, and comes again. */
	if (!b->read_left)
		return -EAGAIN;
	n = b->sys->recv(b->fd, data, len < b->read_left ? len : b->read_left, MSG_DONTWAIT);
	if (n > 0)
		b->read_left -= (size_t)n;
	return n;
}

/*
 * What the kernel opened comes a record at a time and without its header, which OpenSSL
 * wants, and with its type beside it. As OpenSSL's socket BIO does it (ktls_read_record).
 */
static ssize_t receive_record(struct ringtls__bios *b, uint8_t *data, size_t len)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(uint8_t))];
	} control;
	struct iovec iov = {data + RINGTLS__HEADER_LEN, len - RINGTLS__HEADER_LEN};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c;
	ssize_t n;

	if (len <= RINGTLS__HEADER_LEN)
		return -EINVAL;
	if (!b->read_left)
		return -EAGAIN;
	if (iov.iov_len > RINGTLS__RECORD_MAX)
		iov.iov_len = RINGTLS__RECORD_MAX;
	n = b->sys->recvmsg(b->fd, &msg, MSG_DONTWAIT);
	c = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (!c || c->cmsg_type != TLS_GET_RECORD_TYPE)
		return n; /* the end has no type */
	b->read_left -= (size_t)n < b->read_left ? (size_t)n : b->read_left;
	data[0] = *CMSG_DATA(c);
	data[1] = 3; /* TLS 1.2, as in every record's header */
	data[2] = 3;
	data[3] = (uint8_t)(n >> 8);
	data[4] = (uint8_t)n;
	return n + RINGTLS__HEADER_LEN;
}

static int set_receive_key(struct ringtls__bios *b, void *crypto_info)
{
	struct ringtls__key key;
	int r = -EINVAL;

	if (b->receives && move_key(&key, crypto_info)) {
		r = b->sys->setsockopt(b->fd, SOL_TLS, TLS_RX, &key.u, key.len);
		ringtls__key_wipe(&key);
	}
	return r >= 0;
}

static int bio_read(BIO *bio, char *data, int len)
{
	struct ringtls__bios *b = BIO_get_data(bio);
	ssize_t n = b->receives ? receive_record(b, (uint8_t *)data, (size_t)len)
				: receive(b, data, (size_t)len);

	BIO_clear_retry_flags(bio);
	BIO_clear_flags(bio, BIO_FLAGS_IN_EOF);
	if (n > 0)
		return (int)n;
	if (n == 0) {
		BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
		b->read_errno = errno = 0; /* as OpenSSL's socket BIO does */
		return 0;
	}
	b->read_errno = errno = (int)-n; /* OpenSSL looks at errno where the kernel opens */
	b->is_starved = n == -EAGAIN;
	if (n == -EAGAIN || n == -EINTR)
		BIO_set_retry_read(bio);
	return -1;
}

static long read_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	struct ringtls__bios *b = BIO_get_data(bio);

	switch (cmd) {
	case BIO_CTRL_GET_KTLS_RECV:
		return b->receives;
	case CTRL_SET_KTLS:
		return num ? 0 : set_receive_key(b, ptr);
	case BIO_C_GET_FD: /* for SSL_get_fd */
		if (ptr)
			*(int *)ptr = b->fd;
		return b->fd;
	case BIO_CTRL_EOF:
		return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
	case BIO_CTRL_FLUSH:
		return 1;
	default:
		return 0;
	}
}

/* ---- Attaching --------------------------------------------------------- */

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

/*
 * The write BIO is not of the descriptor type: SSL_sendfile, called by mistake,
 * then finds no descriptor and sends nothing. With one it would put the file on
 * the socket as it is, in plaintext outside the kernel lane. Pinned by test_stream.
 */
static void make_methods(void)
{
	int index = BIO_get_new_index();

	if (index == -1)
		return;
	write_type = index | BIO_TYPE_SOURCE_SINK;
	write_method = BIO_meth_new(write_type, "ringtls write");
	read_method = BIO_meth_new(write_type | BIO_TYPE_DESCRIPTOR, "ringtls read");
	if (!write_method || !read_method)
		return;
	BIO_meth_set_create(write_method, bio_create);
	BIO_meth_set_write(write_method, bio_write);
	BIO_meth_set_ctrl(write_method, write_ctrl);
	BIO_meth_set_create(read_method, bio_create);
	BIO_meth_set_read(read_method, bio_read);
	BIO_meth_set_ctrl(read_method, read_ctrl);
}

int ringtls__bios_attach(struct ringtls__bios *b, SSL *ssl, int fd, struct ringtls__pool *pool,
			 const struct ringtls__sys *sys)
{
	BIO *wbio, *rbio;

	pthread_once(&methods_once, make_methods);
	if (!write_method || !read_method)
		return -ENOMEM;
	wbio = BIO_new(write_method);
	rbio = BIO_new(read_method);
	if (!wbio || !rbio) {
		BIO_free(wbio);
		BIO_free(rbio);
		return -ENOMEM;
	}
	b->fd = fd;
	b->sys = sys;
	ringtls__txq_init(&b->inbox, pool);
	BIO_set_data(wbio, b);
	BIO_set_data(rbio, b);
	SSL_set_bio(ssl, rbio, wbio);
	return 0;
}

int ringtls__bios_attach_own(struct ringtls__bios *b, SSL *ssl, struct ringtls__pool *pool)
{
	BIO *wbio;

	pthread_once(&methods_once, make_methods);
	wbio = write_method ? BIO_new(write_method) : NULL;
	if (!wbio)
		return -ENOMEM;
	b->fd = -1;
	b->own = SSL_get_wbio(ssl);
	b->own_want = SSL_ERROR_WANT_WRITE;
	BIO_up_ref(b->own);
	ringtls__txq_init(&b->inbox, pool);
	BIO_set_data(wbio, b);
	SSL_set0_wbio(ssl, wbio);
	return 0;
}

void ringtls__bios_forget(struct ringtls__bios *b)
{
	ringtls__secret_free(b->secret);
	b->secret = NULL;
}

void ringtls__bios_detach(struct ringtls__bios *b, SSL *ssl)
{
	if (b->own)
		SSL_set0_wbio(ssl, b->own);
	else
		SSL_set_bio(ssl, NULL, NULL);
	ringtls__txq_fini(&b->inbox);
	ringtls__bios_forget(b);
}

int ringtls__bios_make_openssls(const struct ringtls__bios *b, BIO **ret_bio)
{
	BIO *bio = NULL;

	if (!b->own) {
		bio = BIO_new_socket(b->fd, BIO_NOCLOSE);
		if (!bio)
			return -ENOMEM;
		if (b->keyed)
			BIO_set_flags(bio, RINGTLS__BIO_KTLS_TX);
		if (b->receives)
			BIO_set_flags(bio, RINGTLS__BIO_KTLS_RX);
	}
	*ret_bio = bio;
	return 0;
}

void ringtls__bios_give_back(struct ringtls__bios *b, SSL *ssl, BIO *bio)
{
	ringtls__bios_detach(b, ssl);
	if (bio)
		SSL_set_bio(ssl, bio, bio);
}

enum ringtls__rekey ringtls__bios_rekey(const struct ringtls__bios *b)
{
	if (!b->may_rekey)
		return RINGTLS__REKEY_NO;
	if (ringtls__ossl_offers_next_keys())
		return RINGTLS__REKEY_OFFER;
	return b->secret ? RINGTLS__REKEY_DERIVE : RINGTLS__REKEY_NO;
}


bool ringtls__bios_are_of(const SSL *ssl)
{
	BIO *wbio = SSL_get_wbio(ssl);

	/* Another thread may be making the type right now. */
	pthread_once(&methods_once, make_methods);
	return wbio && write_type && BIO_method_type(wbio) == write_type;
}

struct ringtls__secret **ringtls__bios_secret(const SSL *ssl)
{
	struct ringtls__bios *b;

	if (!ringtls__bios_are_of(ssl))
		return NULL;
	b = BIO_get_data(SSL_get_wbio(ssl));
	return b->mask ? &b->secret : NULL;
}
