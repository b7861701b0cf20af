/*
 * bench_count.c - counts system calls and allocations of the whole process, of
 * OpenSSL as of ringtls: a program's own functions come before those of libc in
 * the search for a symbol, whichever library calls it. A ring's entries into the
 * kernel are no function calls; methods count those themselves.
 */
#include "config.h"
#include "bench.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SEEN __attribute__((visibility("default")))

struct bench_counts bench_counted;

/* The wrappers have the prototypes of libc's headers, and answer as its functions do. */

static void transmitted(ssize_t n, size_t given)
{
	bench_counted.calls++;
	bench_counted.transmits++;
	bench_counted.shorts += n >= 0 && (size_t)n < given;
}

SEEN ssize_t write(int fd, const void *buf, size_t count)
{
	ssize_t n = syscall(SYS_write, fd, buf, count);

	transmitted(n, count);
	return n;
}

SEEN ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	ssize_t n = syscall(SYS_sendto, fd, buf, len, flags, NULL, 0);

	transmitted(n, len);
	return n;
}

SEEN ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	ssize_t n = syscall(SYS_sendmsg, fd, msg, flags);
	size_t len = 0;

	for (size_t i = 0; i < msg->msg_iovlen; i++)
		len += msg->msg_iov[i].iov_len;
	transmitted(n, len);
	return n;
}

SEEN ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
	ssize_t n = syscall(SYS_sendfile, out, in, offset, count);

	transmitted(n, count);
	return n;
}

SEEN ssize_t pread(int fd, void *buf, size_t count, off_t offset)
{
	bench_counted.calls++;
	return syscall(SYS_pread64, fd, buf, count, offset);
}

SEEN int epoll_wait(int fd, struct epoll_event *events, int max, int timeout)
{
	bench_counted.calls++;
	return (int)syscall(SYS_epoll_pwait, fd, events, max, timeout, NULL, 8);
}

/* With 64-bit file offsets the headers give these names to the functions above. */
#ifdef __LP64__
SEEN ssize_t pread64(int fd, void *buf, size_t count, off64_t offset)
{
	bench_counted.calls++;
	return syscall(SYS_pread64, fd, buf, count, offset);
}

SEEN ssize_t sendfile64(int out, int in, off64_t *offset, size_t count)
{
	ssize_t n = syscall(SYS_sendfile, out, in, offset, count);

	transmitted(n, count);
	return n;
}
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWNED_BY_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
	__has_feature(memory_sanitizer)
#define OWNED_BY_SANITIZER 1
#endif
#endif

#if defined(OWNED_BY_SANITIZER) || !defined(__GLIBC__)
const bool bench_counts_allocations = false;
#else
const bool bench_counts_allocations = true;

/* glibc's own names for what is replaced here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

SEEN void *malloc(size_t size)
{
	bench_counted.allocations++;
	return __libc_malloc(size);
}

SEEN void *calloc(size_t count, size_t size)
{
	bench_counted.allocations++;
	return __libc_calloc(count, size);
}

SEEN void *realloc(void *memory, size_t size)
{
	bench_counted.allocations++;
	return __libc_realloc(memory, size);
}

SEEN void *aligned_alloc(size_t alignment, size_t size)
{
	bench_counted.allocations++;
	return __libc_memalign(alignment, size);
}
#endif
