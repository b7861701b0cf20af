/*
 * bench_receiver.c - the other end: a process of its own, so that its time is not
 * the sender's, that shakes hands and then throws away what comes. With MSG_TRUNC
 * TCP drops bytes without copying them, so it costs as little as a receiver can.
 */
#include "config.h"
#include "bench.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT_ONCE (16 << 20)

static int reach(uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		_exit(2);
	return fd;
}

/* The keys go with the SSL: nobody will read what comes. */
static void shake_hands(SSL_CTX *ctx, int fd)
{
	SSL *ssl = SSL_new(ctx);

	if (!ssl || !SSL_set_fd(ssl, fd) || SSL_connect(ssl) != 1)
		_exit(3);
	SSL_free(ssl);
}

static void drop_one(int fd)
{
	ssize_t n;

	do {
		n = recv(fd, NULL, AT_ONCE, MSG_TRUNC);
	} while (n > 0 || (n < 0 && errno == EINTR));
}

static void drop_many(int epoll, unsigned open)
{
	struct epoll_event events[256];

	while (open) {
		int n = epoll_wait(epoll, events, 256, -1);

		for (int i = 0; i < n; i++) {
			if (recv(events[i].data.fd, NULL, AT_ONCE, MSG_TRUNC | MSG_DONTWAIT) == 0) {
				close(events[i].data.fd);
				open--;
			}
		}
	}
}

static void receive(const struct bench_side *side, uint16_t port)
{
	SSL_CTX *ctx = side->method->tls ? bench_client_ctx(side->options) : NULL;
	int epoll = epoll_create1(EPOLL_CLOEXEC), fd = -1;

	for (unsigned i = 0; i < side->count; i++) {
		struct epoll_event event = { .events = EPOLLIN };

		fd = event.data.fd = reach(port);
		if (ctx)
			shake_hands(ctx, fd);
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
			_exit(4);
	}
	SSL_CTX_free(ctx);
	if (side->count > 1) {
		drop_many(epoll, side->count);
	} else {
		/* A wait of epoll would cost the sender more for each wake-up. */
		close(epoll);
		drop_one(fd);
	}
	_exit(0);
}

pid_t bench_receiver_start(const struct bench_side *side, uint16_t port)
{
	const struct sched_param first = { .sched_priority = 1 };
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The connections of other sides must end when their sender closes them. */
	close_range(3, ~0u, 0);
	bench_pin(side->options, 1);
	/* Where both share a processor, each send would be followed by a switch to the
	 * receiver and back, or not, as the scheduler's accounts happen to stand. So it
	 * always is, as if the receiver had a processor of its own. */
	if (side->options->alone)
		sched_setscheduler(0, SCHED_FIFO, &first);
	receive(side, port);
	_exit(1);
}

bool bench_receiver_end(pid_t receiver)
{
	int status;

	while (waitpid(receiver, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(status) && !WEXITSTATUS(status);
}
