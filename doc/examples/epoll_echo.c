/*
 * epoll_echo.c - a TLS server in an epoll loop of its own, that sends back what it
 * is sent: one descriptor, ringtls_engine_fd(), stands for all connections.
 *
 *   epoll_echo CERT KEY [CONNECTIONS]
 *
 * It listens on a free port of 127.0.0.1, which it prints. With a number it ends
 * when so many connections have come and gone.
 */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/ssl.h>
#include <ringtls/ringtls.h>

struct client {
	struct ringtls_conn *conn;
	SSL *ssl;
	int fd;
	enum { READING, WRITING, CLOSING } state;
	char buf[65536];
	int len; /* bytes in buf that go back */
};

static struct ringtls_engine *engine;
static SSL_CTX *ctx;
static int connections; /* that are still to end, or less than 0 */

/* ---- One client -------------------------------------------------------- */

static void forget(struct client *c)
{
	ringtls_conn_free(c->conn);
	SSL_free(c->ssl);
	close(c->fd);
	free(c);
	connections -= connections > 0;
}

/* One call; what it returned. The state says which it must be, now as after an event. */
static int step(struct client *c)
{
	int r;

	switch (c->state) {
	case READING:
		r = ringtls_read(c->conn, c->buf, sizeof(c->buf));
		if (r > 0) {
			c->len = r;
			c->state = WRITING;
		} else if (ringtls_get_error(c->conn, r) == SSL_ERROR_ZERO_RETURN) {
			c->state = CLOSING; /* all is read; nothing is left to send back */
			r = 1;
		}
		return r;
	case WRITING:
		r = ringtls_write(c->conn, c->buf, c->len);
		if (r > 0)
			c->state = READING;
		return r;
	default:
		return ringtls_shutdown(c->conn);
	}
}

/* Goes on until a call wants something: then the engine tells when to come back. */
static void run(struct client *c)
{
	int r, error;

	do {
		int closing = c->state == CLOSING;

		r = step(c);
		if (closing && r >= 0) {
			forget(c);
			return;
		}
	} while (r > 0);
	error = ringtls_get_error(c->conn, r);
	if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
		forget(c);
}

/* ---- The loop ---------------------------------------------------------- */

static void welcome(int fd)
{
	struct client *c = calloc(1, sizeof(*c));
	struct ringtls_conn_opts opts = { .size = sizeof(opts), .user = c };

	if (c)
		c->ssl = SSL_new(ctx);
	if (!c || !c->ssl) {
		free(c);
		close(fd);
		return;
	}
	c->fd = fd;
	SSL_set_accept_state(c->ssl);
	if (ringtls_conn_new(&c->conn, engine, c->ssl, fd, &opts) < 0)
		forget(c);
	else
		run(c); /* the first call: without one there is no event */
}

static void take_events(void)
{
	struct ringtls_event events[64];
	int n = ringtls_engine_wait(engine, events, 64, 0);

	for (int i = 0; i < n; i++)
		run(events[i].user);
}

static void loop(int listener)
{
	struct epoll_event evs[2], ev = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC), n, fd;

	ev.data.fd = listener;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev);
	ev.data.fd = ringtls_engine_fd(engine);
	epoll_ctl(epoll, EPOLL_CTL_ADD, ev.data.fd, &ev);
	while (connections) {
		n = epoll_wait(epoll, evs, 2, -1);
		if (n < 0 && errno != EINTR)
			break;
		for (int i = 0; i < n; i++) {
			if (evs[i].data.fd != listener)
				take_events();
			else if ((fd = accept4(listener, NULL, NULL,
					       SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
				welcome(fd);
		}
	}
	close(epoll);
}

/* ---- Set-up ------------------------------------------------------------ */

static int listen_on_loopback(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&in, len) < 0 || listen(fd, 128) < 0 ||
	    getsockname(fd, (struct sockaddr *)&in, &len) < 0) {
		perror("listen");
		exit(1);
	}
	printf("listening on 127.0.0.1:%d\n", ntohs(in.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	int listener;

	ctx = SSL_CTX_new(TLS_server_method());
	if (argc < 3 || SSL_CTX_use_certificate_chain_file(ctx, argv[1]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) != 1) {
		fprintf(stderr, "usage: epoll_echo CERT KEY [CONNECTIONS]\n");
		return 2;
	}
	connections = argc > 3 ? atoi(argv[3]) : -1;
	if (ringtls_engine_new(&engine, NULL) < 0)
		return 1;
	listener = listen_on_loopback();
	loop(listener);
	close(listener);
	ringtls_engine_free(engine); /* busy, while a client is still there */
	SSL_CTX_free(ctx);
	return 0;
}
