/* sys.c - see sys.h. */
#include "config.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static ssize_t answer(ssize_t res)
{
	return res < 0 ? -errno : res;
}

/* One piece of memory and nothing beside it costs the kernel less by send(2). */
static ssize_t real_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	if (msg->msg_iovlen == 1 && !msg->msg_control)
		return answer(send(fd, msg->msg_iov->iov_base, msg->msg_iov->iov_len,
				   flags | MSG_NOSIGNAL));
	return answer(sendmsg(fd, msg, flags | MSG_NOSIGNAL));
}

static bool is_pending(int signal)
{
	sigset_t pending;

	return !sigpending(&pending) && sigismember(&pending, signal) == 1;
}

/*
 * Of len bytes those that the file has. When kernel TLS meets the end of the file it pushes the
 * record that this closes without any flag: with no room in TCP the call sleeps until the peer
 * reads, on a socket that does not block, too (kmod-notes/sendfile.md; test_kernel). What tells
 * no size, such as a file of procfs, is asked for as much as it is.
 */
static size_t within_file(int file, off_t offset, size_t len)
{
	struct stat st;
	off_t left;

	if (fstat(file, &st) < 0 || !S_ISREG(st.st_mode) || !st.st_size)
		return len;
	left = offset < st.st_size ? st.st_size - offset : 0;
	return len < (uintmax_t)left ? len : (size_t)left;
}

/*
 * sendfile(2) has no MSG_NOSIGNAL: a broken connection raises SIGPIPE, also when
 * it breaks midway and the answer is a count. The signal is blocked around the
 * call and, when the call caused it, taken from the pending set; one that was
 * pending before stays. Pinned by test_sys.
 */
static ssize_t real_sendfile(int fd, int file, off_t *offset, size_t len)
{
	static const struct timespec now = { 0, 0 };
	sigset_t pipe_only, before;
	bool keep;
	ssize_t res;

	len = within_file(file, *offset, len);
	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
	keep = sigismember(&before, SIGPIPE) && is_pending(SIGPIPE);
	res = answer(sendfile(fd, file, offset, len));
	if (!keep && (res == -EPIPE || (res >= 0 && (size_t)res < len)) && is_pending(SIGPIPE)) {
		while (sigtimedwait(&pipe_only, NULL, &now) < 0 && errno == EINTR)
			;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return res;
}

static ssize_t real_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return answer(recvmsg(fd, msg, flags));
}

static ssize_t real_recv(int fd, void *buf, size_t len, int flags)
{
	return answer(recv(fd, buf, len, flags));
}

static ssize_t real_pread(int file, void *buf, size_t len, off_t offset)
{
	return answer(pread(file, buf, len, offset));
}

static ssize_t real_pread_cached(int file, void *buf, size_t len, off_t offset)
{
	const struct iovec iov = { buf, len };

	return answer(preadv2(file, &iov, 1, offset, RWF_NOWAIT));
}

static int real_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	return (int)answer(setsockopt(fd, level, name, value, len));
}

static int real_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	return (int)answer(getsockopt(fd, level, name, value, len));
}

static int real_outq(int fd, int *ret_bytes)
{
	return (int)answer(ioctl(fd, SIOCOUTQ, ret_bytes));
}

static int real_getfl(int fd)
{
	return (int)answer(fcntl(fd, F_GETFL));
}

static int real_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	return (int)answer(poll(fds, n, timeout_ms));
}

static int real_uring_init(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
	return io_uring_queue_init_params(entries, ring, params);
}

const struct ringtls__sys ringtls__sys_real = {
	.sendmsg = real_sendmsg,
	.sendfile = real_sendfile,
	.recv = real_recv,
	.recvmsg = real_recvmsg,
	.pread = real_pread,
	.pread_cached = real_pread_cached,
	.setsockopt = real_setsockopt,
	.getsockopt = real_getsockopt,
	.outq = real_outq,
	.getfl = real_getfl,
	.poll = real_poll,
	.uring_init = real_uring_init,
};
