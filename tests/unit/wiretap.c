/* wiretap.c - see wiretap.h. */
#define _GNU_SOURCE /* memmem */
#include "support.h"
#include "wiretap.h"

#include <sys/socket.h>
#include <openssl/bio.h>

static void keep(struct wiretap *w, const void *bytes, size_t len)
{
	if (w->len + len > w->room) {
		w->room = 2 * w->room + len + 65536;
		w->bytes = realloc(w->bytes, w->room);
		assert_non_null(w->bytes);
	}
	memcpy(w->bytes + w->len, bytes, len);
	w->len += len;
}

static long on_read(BIO *bio, int oper, const char *data, size_t len, int argi, long argl, int ret,
		    size_t *processed)
{
	(void)len, (void)argi, (void)argl;
	if (oper == (BIO_CB_READ | BIO_CB_RETURN) && ret > 0)
		keep((struct wiretap *)(void *)BIO_get_callback_arg(bio), data, *processed);
	return ret;
}

void wiretap_open(struct wiretap *w, SSL *peer)
{
	BIO *bio = SSL_get_rbio(peer);

	memset(w, 0, sizeof(*w));
	assert_non_null(bio);
	BIO_set_callback_arg(bio, (char *)w);
	BIO_set_callback_ex(bio, on_read);
}

void wiretap_close(struct wiretap *w)
{
	free(w->bytes);
	memset(w, 0, sizeof(*w));
}

void wiretap_rest(struct wiretap *w, int peer_fd)
{
	uint8_t bytes[16384];
	ssize_t n;

	while ((n = recv(peer_fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
		keep(w, bytes, (size_t)n);
}

bool wiretap_has(const struct wiretap *w, const void *bytes, size_t len)
{
	return w->len && memmem(w->bytes, w->len, bytes, len);
}

size_t wiretap_records(const struct wiretap *w)
{
	size_t at = 0, count = 0;

	while (at + 5 <= w->len) {
		const uint8_t *r = w->bytes + at;
		size_t len = (size_t)r[3] << 8 | r[4];

		assert_in_bounds(r[0], 20, 23);
		assert_int_equal(r[1], 3);
		assert_in_bounds(r[2], 1, 3);
		assert_in_bounds(len, 1, 16384 + 256);
		at += 5 + len;
		count++;
	}
	return count;
}
