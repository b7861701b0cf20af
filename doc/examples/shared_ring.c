/*
 * shared_ring.c - a TLS server whose accepts, timers and TLS connections share one
 * ring, which is its own: it sends back what it is sent, and forgets who is idle.
 *
 *   shared_ring CERT KEY [CONNECTIONS [IDLE_MS]]
 *
 * It listens on a free port of 127.0.0.1, which it prints. With a number it ends when
 * so many connections have come and gone. Who sends nothing for IDLE_MS (10000) goes.
 */
#define _GNU_SOURCE /* SOCK_CLOEXEC */
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/ssl.h>
#include <ringtls/ringtls.h>

/* user_data of our own entries; those of ringtls have its tag in the upper half. */
enum { ACCEPT = 1, TICK = 2 };
#define TLS_TAG 0x544c53u
#define TICK_MS 100

struct client {
	struct client *next;
	struct ringtls_conn *conn;
	SSL *ssl;
	int fd;
	enum { READING, WRITING, CLOSING, ENDING } state;
	int idle_ms;
	char buf[65536]; /* what goes back; the engine's until it is sent */
};

static struct io_uring ring;
static struct ringtls_engine *engine;
static struct client *clients;
static SSL_CTX *ctx;
static int listener, idle_ms = 10000, ticks;
static int connections; /* that are still to end, or less than 0 */
static struct __kernel_timespec tick = { .tv_nsec = TICK_MS * 1000000 };

/* ---- One client -------------------------------------------------------- */

/* Busy while the ring has something of it: then it is tried again in the next turn. */
static int forget(struct client *c)
{
	struct client **at = &clients;

	c->state = ENDING;
	if (ringtls_conn_free(c->conn) == -EBUSY)
		return 0;
	SSL_free(c->ssl);
	close(c->fd);
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	free(c);
	connections -= connections > 0;
	return 1;
}

static int read_and_queue(struct client *c)
{
	int r = ringtls_read(c->conn, c->buf, sizeof(c->buf));

	if (r > 0) {
		struct iovec iov = { c->buf, (size_t)r };

		c->idle_ms = 0;
		c->state = WRITING;
		r = ringtls_queue_writev(c->conn, &iov, 1, 0);
	} else if (ringtls_get_error(c->conn, r) == SSL_ERROR_ZERO_RETURN) {
		c->state = CLOSING;
		r = 1;
	}
	return r;
}

/* Goes on until a call wants something, or until what it queued is sent. */
static void run(struct client *c)
{
	int r = 1, error;

	while (r > 0 && c->state == READING)
		r = read_and_queue(c);
	if (r > 0 && c->state == CLOSING) {
		r = ringtls_shutdown(c->conn);
		if (r >= 0)
			forget(c);
		if (r >= 0)
			return;
	}
	if (r > 0 || c->state == ENDING)
		return;
	error = ringtls_get_error(c->conn, r);
	if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
		forget(c);
}

/* ---- Our own entries --------------------------------------------------- */

static struct io_uring_sqe *get_sqe(uint64_t user_data)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (!sqe) {
		io_uring_submit(&ring);
		sqe = io_uring_get_sqe(&ring);
	}
	if (!sqe) {
		fprintf(stderr, "the ring is full\n");
		exit(1);
	}
	sqe->user_data = user_data; /* prep leaves it alone */
	return sqe;
}

static void ask_for_a_client(void)
{
	struct io_uring_sqe *sqe = get_sqe(ACCEPT);

	io_uring_prep_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	sqe->user_data = ACCEPT;
}

static void ask_for_a_tick(void)
{
	struct io_uring_sqe *sqe = get_sqe(TICK);

	io_uring_prep_timeout(sqe, &tick, 0, 0);
	sqe->user_data = TICK;
}

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
	c->next = clients;
	clients = c;
	SSL_set_accept_state(c->ssl);
	if (ringtls_conn_new(&c->conn, engine, c->ssl, fd, &opts) < 0)
		forget(c);
	else
		run(c); /* the first call: without one there is no event */
}

static void count_idle_time(void)
{
	struct client *c, *next;

	ticks++;
	for (c = clients; c; c = next) {
		next = c->next;
		c->idle_ms += TICK_MS;
		if (c->state == ENDING || c->idle_ms > idle_ms)
			forget(c);
	}
}

static void mine(const struct io_uring_cqe *cqe)
{
	if (cqe->user_data == TICK) {
		count_idle_time();
		ask_for_a_tick();
	} else {
		if (cqe->res >= 0)
			welcome(cqe->res);
		ask_for_a_client();
	}
}

/* ---- The loop ---------------------------------------------------------- */

static void take_completions(void)
{
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&ring, head, cqe) {
		n++;
		if (ringtls_engine_feed(engine, cqe) == 0)
			mine(cqe);
	}
	io_uring_cq_advance(&ring, n);
}

static void serve(void)
{
	struct ringtls_event events[64];
	struct ringtls_completion done[64];
	int n = ringtls_engine_wait(engine, events, 64, 0);

	for (int i = 0; i < n; i++)
		run(events[i].user);
	n = ringtls_engine_completions(engine, done, 64);
	for (int i = 0; i < n; i++) {
		struct client *c = done[i].user;

		if (!(done[i].flags & RINGTLS_SENT) || c->state != WRITING)
			continue;
		c->state = READING;
		if (done[i].error)
			forget(c);
		else
			run(c);
	}
}

static void loop(void)
{
	int r = 0;

	ask_for_a_client();
	ask_for_a_tick();
	while (connections && r >= 0) {
		serve();
		while (ringtls_engine_submit(engine) == -EBUSY)
			io_uring_submit(&ring);
		r = io_uring_submit_and_wait(&ring, 1);
		if (r == -EINTR)
			r = 0;
		take_completions();
	}
	/* What was cancelled comes back, too. */
	for (r = -EBUSY; r == -EBUSY; r = ringtls_engine_free(engine)) {
		io_uring_submit_and_wait(&ring, 1);
		take_completions();
	}
}

/* ---- Set-up ------------------------------------------------------------ */

static void listen_on_loopback(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&in, len) < 0 ||
	    listen(listener, 128) < 0 || getsockname(listener, (struct sockaddr *)&in, &len) < 0) {
		perror("listen");
		exit(1);
	}
	printf("listening on 127.0.0.1:%d\n", ntohs(in.sin_port));
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct ringtls_engine_opts opts = { .size = sizeof(opts),
					    .backend = RINGTLS_BACKEND_CALLER,
					    .ring = &ring,
					    .tag = TLS_TAG };

	ctx = SSL_CTX_new(TLS_server_method());
	if (argc < 3 || SSL_CTX_use_certificate_chain_file(ctx, argv[1]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) != 1) {
		fprintf(stderr, "usage: shared_ring CERT KEY [CONNECTIONS [IDLE_MS]]\n");
		return 2;
	}
	connections = argc > 3 ? atoi(argv[3]) : -1;
	idle_ms = argc > 4 ? atoi(argv[4]) : idle_ms;
	if (io_uring_queue_init(64, &ring, 0) < 0 || ringtls_engine_new(&engine, &opts) < 0) {
		fprintf(stderr, "no ring here\n");
		return 1;
	}
	listen_on_loopback();
	loop();
	printf("ticks=%d\n", ticks);
	close(listener);
	io_uring_queue_exit(&ring);
	SSL_CTX_free(ctx);
	return 0;
}
