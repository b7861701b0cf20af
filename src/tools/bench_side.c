/* bench_side.c - opens a method for a case: its connections and their receiver. */
#include "config.h"
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <linux/sockios.h>
#include <unistd.h>

#include <openssl/err.h>

#define PATIENCE_S 60

bool bench_cannot(struct bench_side *side, const char *format, ...)
{
	va_list list;

	if (side->why[0]) /* the first reason is the cause */
		return false;
	va_start(list, format);
	vsnprintf(side->why, sizeof(side->why), format, list);
	va_end(list);
	return false;
}

static int listen_here(uint16_t *ret_port, unsigned backlog)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && !bind(fd, (struct sockaddr *)&in, len) && !listen(fd, (int)backlog) &&
	    !getsockname(fd, (struct sockaddr *)&in, &len)) {
		*ret_port = ntohs(in.sin_port);
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

static bool set_up_socket(struct bench_conn *c)
{
	const struct bench_options *options = c->side->options;
	struct timeval patience = { .tv_sec = PATIENCE_S };
	int on = !options->nagle;

	return !setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) &&
	       !setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) &&
	       (!options->sndbuf || !setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &options->sndbuf,
						sizeof(options->sndbuf)));
}

static bool shake_hands(struct bench_conn *c)
{
	const struct bench_method *m = c->side->method;
	int r;

	c->ssl = SSL_new(c->side->ctx);
	if (!c->ssl)
		return bench_cannot(c->side, "no memory");
	SSL_set_accept_state(c->ssl);
	if (m->ktls)
		SSL_set_options(c->ssl, SSL_OP_ENABLE_KTLS);
	if (m->attach ? !m->attach(c) : !SSL_set_fd(c->ssl, c->fd))
		return bench_cannot(c->side, "can't attach the socket");
	/* The end of an earlier side's ring may interrupt us, and a socket with a time
	 * limit then answers EINTR even where no signal came. */
	do {
		errno = 0;
		r = c->rt ? ringtls_handshake(c->rt) : SSL_accept(c->ssl);
	} while (r != 1 && errno == EINTR);
	if (r != 1) {
		int error = c->rt ? ringtls_get_error(c->rt, r) : SSL_get_error(c->ssl, r);
		const char *reason = ERR_reason_error_string(ERR_peek_last_error());

		return bench_cannot(c->side, "the handshake failed: error %d, %s, %s", error,
				    reason ? reason : "no reason of OpenSSL", strerror(errno));
	}
	return true;
}

static bool open_conn(struct bench_conn *c, int listener)
{
	const struct bench_method *m = c->side->method;
	struct pollfd coming = { .fd = listener, .events = POLLIN };

	if (poll(&coming, 1, PATIENCE_S * 1000) != 1)
		return bench_cannot(c->side, "the receiver does not connect");
	c->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (c->fd < 0 || !set_up_socket(c))
		return bench_cannot(c->side, "socket: %s", strerror(errno));
	if (m->tls && !shake_hands(c))
		return false;
	if (fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK) < 0)
		return bench_cannot(c->side, "socket: %s", strerror(errno));
	return !m->ready || m->ready(c);
}

static bool connect_all(struct bench_side *side)
{
	uint16_t port;
	int listener = listen_here(&port, side->count);
	bool ok = true;

	if (listener < 0)
		return bench_cannot(side, "socket: %s", strerror(errno));
	fflush(NULL);
	side->receiver = bench_receiver_start(side, port);
	if (side->receiver < 0)
		ok = bench_cannot(side, "fork: %s", strerror(errno));
	for (unsigned i = 0; ok && i < side->count; i++)
		ok = open_conn(&side->conns[i], listener);
	close(listener);
	return ok;
}

bool bench_side_open(struct bench_side *side)
{
	const struct bench_method *m = side->method;

	side->epoll = -1;
	side->receiver = -1;
	side->count = m->no_network ? 1 : side->what->conns;
	side->conns = calloc(side->count, sizeof(*side->conns));
	if (!side->conns) {
		side->count = 0;
		return bench_cannot(side, "no memory");
	}
	for (unsigned i = 0; i < side->count; i++)
		side->conns[i] = (struct bench_conn){ .side = side, .fd = -1 };
	if ((!m->open || m->open(side)) && (m->no_network || connect_all(side)))
		return true;
	bench_side_close(side);
	return false;
}

static void close_conn(struct bench_conn *c)
{
	if (c->rt)
		c->side->method->detach(c);
	SSL_free(c->ssl);
	if (c->fd >= 0)
		close(c->fd);
	free(c->in);
	free(c->out);
}

void bench_side_close(struct bench_side *side)
{
	bool failed = side->why[0];

	for (unsigned i = 0; i < side->count; i++)
		close_conn(&side->conns[i]);
	free(side->conns);
	side->conns = NULL;
	side->count = 0;
	if (side->method->close)
		side->method->close(side);
	if (side->receiver > 0) {
		if (failed)
			kill(side->receiver, SIGKILL);
		if (!bench_receiver_end(side->receiver) && !failed)
			bench_cannot(side, "the receiver failed");
	}
	side->receiver = -1;
}

void bench_side_drain(const struct bench_side *side)
{
	const struct timespec nap = { .tv_nsec = 200000 };

	for (unsigned i = 0; i < side->count; i++) {
		int left = 0;

		while (side->conns[i].fd >= 0 && !ioctl(side->conns[i].fd, SIOCOUTQ, &left) && left)
			nanosleep(&nap, NULL);
	}
}

bool bench_is_alone(void)
{
	cpu_set_t may;

	return sched_getaffinity(0, sizeof(may), &may) == 0 && CPU_COUNT(&may) < 2;
}

void bench_pin(const struct bench_options *options, unsigned nth)
{
	static cpu_set_t may; /* at the start: the receiver inherits the sender's one */
	cpu_set_t one;
	unsigned seen = 0;

	if (!options->pinned || (!CPU_COUNT(&may) && sched_getaffinity(0, sizeof(may), &may)) ||
	    CPU_COUNT(&may) < 2)
		return;
	for (unsigned i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &may) || seen++ != nth)
			continue;
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}
