/* bench_openssl.c - OpenSSL's own ways on non-blocking sockets in an epoll loop. */
#include "config.h"
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define READ_BYTES 65536 /* of a file at a time */

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

static int failed(struct bench_conn *c, int ret, const char *what)
{
	int error = SSL_get_error(c->ssl, ret);

	if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ)
		return 0;
	bench_cannot(c->side, "%s: error %d", what, error);
	return -1;
}

static int write_memory(struct bench_conn *c, const struct bench_unit *unit)
{
	int n = SSL_write(c->ssl, unit->bytes, (int)unit->len);

	return n > 0 ? 1 : failed(c, n, "SSL_write");
}

static int write_read(struct bench_conn *c, const struct bench_unit *unit)
{
	int n;

	while (c->at < unit->len) {
		if (c->in_start == c->in_end) {
			ssize_t got = pread(unit->file, c->in, READ_BYTES, (off_t)c->at);

			if (got <= 0) {
				bench_cannot(c->side, "can't read the file");
				return -1;
			}
			c->in_start = 0;
			c->in_end = (size_t)got;
		}
		n = SSL_write(c->ssl, c->in, (int)c->in_end);
		if (n <= 0)
			return failed(c, n, "SSL_write");
		c->at += (size_t)n;
		c->in_start = c->in_end;
	}
	c->at = 0;
	return 1;
}

static int write_unit(struct bench_conn *c, const struct bench_unit *unit)
{
	return unit->bytes ? write_memory(c, unit) : write_read(c, unit);
}

static int sendfile_unit(struct bench_conn *c, const struct bench_unit *unit)
{
	while (c->at < unit->len) {
		ssize_t n = SSL_sendfile(c->ssl, unit->file, (off_t)c->at, unit->len - c->at, 0);

		if (n <= 0)
			return failed(c, (int)n, "SSL_sendfile");
		c->at += (size_t)n;
	}
	c->at = 0;
	return 1;
}

static int cork(struct bench_conn *c, int value)
{
	if (!setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value)))
		return 1;
	bench_cannot(c->side, "TCP_CORK: %s", strerror(errno));
	return -1;
}

static int failed_bare(struct bench_conn *c, const char *what)
{
	if (errno == EAGAIN)
		return 0;
	bench_cannot(c->side, "%s: %s", what, strerror(errno));
	return -1;
}

/* Past OpenSSL, corked where there are several records: the least that the kernel's TLS costs. */
static int send_bare(struct bench_conn *c, const struct bench_unit *unit)
{
	bool several = unit->len > BENCH_RECORD;

	if (several && !c->at && cork(c, 1) < 0)
		return -1;
	while (c->at < unit->len) {
		off_t at = (off_t)c->at;
		size_t left = unit->len - c->at;
		ssize_t n = unit->bytes ? send(c->fd, unit->bytes + c->at, left, MSG_NOSIGNAL) :
					  sendfile(c->fd, unit->file, &at, left);

		if (n <= 0)
			return failed_bare(c, unit->bytes ? "send" : "sendfile");
		c->at += (size_t)n;
	}
	c->at = 0;
	return several ? cork(c, 0) : 1;
}

static bool ready(struct bench_conn *c)
{
	c->in = aligned_alloc(BENCH_PAGE, READ_BYTES);
	if (!c->in)
		return bench_cannot(c->side, "no memory");
	return bench_epoll_add(c);
}

/* What the kernel says to a socket like ours; the listening end of nothing. */
static bool explain(struct bench_conn *c)
{
	if (!BIO_get_ktls_send(SSL_get_wbio(c->ssl))) {
		if (setsockopt(c->fd, IPPROTO_TCP, TCP_ULP, "tls", 4) && errno != EEXIST)
			return bench_cannot(c->side, "the kernel has no TLS (TCP_ULP: %s)",
					    strerror(errno));
		return bench_cannot(c->side,
				    "OpenSSL does not use the kernel's TLS with this cipher, or "
				    "was built without it");
	}
	return true;
}

static bool ready_ktls(struct bench_conn *c)
{
	return explain(c) && ready(c);
}

const struct bench_method bench_ssl_write = {
	.name = "ssl-write",
	.text = "SSL_write in an epoll loop; files are read 64 KiB at a time",
	.kinds = BENCH_WRITES | BENCH_FILES | BENCH_LATENCY,
	.tls = true,
	.ready = ready,
	.send = write_unit,
	BENCH_ON_EPOLL,
};

const struct bench_method bench_ssl_ktls = {
	.name = "ssl-write-ktls",
	.text = "the same, over the kernel's TLS as OpenSSL uses it",
	.kinds = BENCH_WRITES | BENCH_FILES | BENCH_LATENCY,
	.tls = true,
	.ktls = true,
	.ready = ready_ktls,
	.send = write_unit,
	BENCH_ON_EPOLL,
};

const struct bench_method bench_ssl_sendfile = {
	.name = "ssl-sendfile",
	.text = "SSL_sendfile, over the kernel's TLS",
	.kinds = BENCH_FILES,
	.tls = true,
	.ktls = true,
	.ready = ready_ktls,
	.send = sendfile_unit,
	BENCH_ON_EPOLL,
};

const struct bench_method bench_ktls = {
	.name = "ktls",
	.text = "send(2) and sendfile(2) over the kernel's TLS, corked for several records",
	.kinds = BENCH_WRITES | BENCH_FILES,
	.tls = true,
	.ktls = true,
	.ready = ready_ktls,
	.send = send_bare,
	BENCH_ON_EPOLL,
};
