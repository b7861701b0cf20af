/* bench_epoll.c - how methods on non-blocking sockets wait: epoll, edge-triggered. */
#include "config.h"
#include "bench.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

bool bench_epoll_open(struct bench_side *side)
{
	side->epoll = epoll_create1(EPOLL_CLOEXEC);
	return side->epoll >= 0 || bench_cannot(side, "epoll: %s", strerror(errno));
}

void bench_epoll_close(struct bench_side *side)
{
	if (side->epoll >= 0)
		close(side->epoll);
	side->epoll = -1;
}

bool bench_epoll_add(struct bench_conn *conn)
{
	struct epoll_event event = { .events = EPOLLOUT | EPOLLET, .data.ptr = conn };

	return !epoll_ctl(conn->side->epoll, EPOLL_CTL_ADD, conn->fd, &event) ||
	       bench_cannot(conn->side, "epoll: %s", strerror(errno));
}

bool bench_epoll_wait(struct bench_side *side, int timeout_ms)
{
	struct epoll_event events[64];
	int n = epoll_wait(side->epoll, events, 64, timeout_ms);

	if (n < 0 && errno != EINTR)
		return bench_cannot(side, "epoll: %s", strerror(errno));
	for (int i = 0; i < n; i++)
		((struct bench_conn *)events[i].data.ptr)->busy = false;
	return true;
}
