/*
 * xstate.c - preloaded into a guest's kernel. User-Mode Linux up to 6.12 (or so) sets a
 * process's extended registers by a buffer that ends behind AVX-512 and the protection keys. Where
 * the processor has more of them, as those with AMX have, the host wants all or none: EFAULT, and
 * the guest's init dies. Its own rest is put behind what the guest means; nobody there uses it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long ptrace_call(enum __ptrace_request request, pid_t pid, void *addr, void *data);

static ptrace_call *real;

/* A guest's kernel has 16 KiB of stack, and this takes most of that. */
static _Thread_local unsigned char whole[65536] __attribute__((aligned(64)));

__attribute__((constructor)) static void find_real(void)
{
	*(void **)&real = dlsym(RTLD_NEXT, "ptrace");
}

static long set_whole(pid_t pid, void *kind, const struct iovec *some)
{
	struct iovec iov = { whole, sizeof(whole) };

	if (real(PTRACE_GETREGSET, pid, kind, &iov) < 0)
		return -1;
	if (some->iov_len >= iov.iov_len) {
		errno = EFAULT; /* it was something else */
		return -1;
	}
	memcpy(whole, some->iov_base, some->iov_len);
	return real(PTRACE_SETREGSET, pid, kind, &iov);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list args;
	void *addr, *data;
	pid_t pid;
	long r;

	va_start(args, request);
	pid = va_arg(args, pid_t);
	addr = va_arg(args, void *);
	data = va_arg(args, void *);
	va_end(args);
	r = real(request, pid, addr, data);
	if (r < 0 && errno == EFAULT && request == PTRACE_SETREGSET &&
	    addr == (void *)NT_X86_XSTATE)
		r = set_whole(pid, addr, data);
	return r;
}
