/*
 * sys.h - leaf: our direct system calls as a table, so that a test can refuse
 * one, cut it short or count it. Every member answers 0 or more, or a negated
 * errno; none raises SIGPIPE or restarts after EINTR.
 */
#ifndef RINGTLS_SYS_H
#define RINGTLS_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

struct io_uring;
struct io_uring_params;

struct ringtls__sys {
	ssize_t (*sendmsg)(int fd, const struct msghdr *msg, int flags);
	ssize_t (*sendfile)(int fd, int file, off_t *offset, size_t len);
	ssize_t (*recv)(int fd, void *buf, size_t len, int flags);
	ssize_t (*pread)(int file, void *buf, size_t len, off_t offset);
	/* What of it is in memory; -EAGAIN: nothing. Files of some kinds can't tell. */
	ssize_t (*pread_cached)(int file, void *buf, size_t len, off_t offset);
	int (*setsockopt)(int fd, int level, int name, const void *value, socklen_t len);
	int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *len);
	int (*outq)(int fd, int *ret_bytes); /* SIOCOUTQ */
	int (*getfl)(int fd);                /* F_GETFL */
	int (*poll)(struct pollfd *fds, nfds_t n, int timeout_ms);
	ssize_t (*recvmsg)(int fd, struct msghdr *msg, int flags);
	int (*uring_init)(unsigned entries, struct io_uring *ring, struct io_uring_params *params);
};

extern const struct ringtls__sys ringtls__sys_real;

#endif
