/*
 * ossl_own.c - a BIO of the caller's in the place of the socket. What OpenSSL writes is
 * still gathered in the inbox, so that a retry, a file and a KeyUpdate need no care of
 * their own here; what is taken from there goes on to the caller's BIO.
 */
#include "config.h"
#include "ossl.h"

#include <errno.h>
#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <ringtls/ringtls.h>

/* What SSL_get_error(3) would say of a write. */
static int want(BIO *own)
{
	if (BIO_should_write(own))
		return SSL_ERROR_WANT_WRITE;
	if (BIO_should_read(own))
		return SSL_ERROR_WANT_READ;
	return BIO_get_retry_reason(own) == BIO_RR_ACCEPT ? SSL_ERROR_WANT_ACCEPT
							  : SSL_ERROR_WANT_CONNECT;
}

static int refused(struct ringtls__bios *b)
{
	if (BIO_should_retry(b->own)) {
		b->own_want = want(b->own);
		return -EAGAIN;
	}
	if (ERR_peek_error())
		return RINGTLS_E_TLS;
	return errno ? -errno : -EPIPE;
}

ssize_t ringtls__own_send(struct ringtls__bios *b, const struct iovec *iov, unsigned count)
{
	size_t done = 0;

	for (unsigned i = 0; i < count; i++) {
		size_t len = iov[i].iov_len < INT_MAX ? iov[i].iov_len : INT_MAX;
		int n;

		errno = 0;
		n = BIO_write(b->own, iov[i].iov_base, (int)len);
		if (n <= 0)
			return done ? (ssize_t)done : refused(b);
		done += (size_t)n;
		if ((size_t)n < iov[i].iov_len)
			break;
	}
	b->own_want = SSL_ERROR_WANT_WRITE;
	return (ssize_t)done;
}

int ringtls__own_flush(struct ringtls__bios *b)
{
	struct iovec iov;
	unsigned count;

	if (b->is_behind) {
		b->own_want = SSL_ERROR_WANT_WRITE;
		return -EAGAIN;
	}
	while (b->inbox.head) {
		size_t len = ringtls__txq_gather(&b->inbox, &iov, 1, RINGTLS__POOL_MAX, &count);
		ssize_t n = ringtls__own_send(b, &iov, 1);

		if (n < 0)
			return (int)n;
		ringtls__txq_advance(&b->inbox, (size_t)n < len ? (size_t)n : len);
	}
	errno = 0;
	return BIO_flush(b->own) > 0 ? 0 : refused(b);
}
