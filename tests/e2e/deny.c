/*
 * deny.c - runs a command for which io_uring_setup(2) fails, as under a container's
 * seccomp filter (EPERM) or on a kernel without io_uring (ENOSYS).
 *
 *	deny EPERM|ENOSYS COMMAND [ARGUMENT]...
 */
#include "config.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Two instructions decide, so this needs no library. The numbers of system calls as
 * new as this one are the same on nearly every architecture, so the one that the
 * compiler knows is enough. */
static int deny_io_uring(unsigned error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Nothing may pass untried: the filter has to work here. */
static int is_denied(unsigned error)
{
	return syscall(SYS_io_uring_setup, 1, NULL) == -1 && errno == (int)error;
}

int main(int argc, char **argv)
{
	unsigned error = 0;

	if (argc > 2 && strcmp(argv[1], "EPERM") == 0)
		error = EPERM;
	else if (argc > 2 && strcmp(argv[1], "ENOSYS") == 0)
		error = ENOSYS;
	if (!error) {
		fprintf(stderr, "usage: deny EPERM|ENOSYS COMMAND [ARGUMENT]...\n");
		return 2;
	}
	if (deny_io_uring(error) < 0) {
		fprintf(stderr, "deny: seccomp: %s\n", strerror(errno));
		return 77;
	}
	if (!is_denied(error)) {
		fprintf(stderr, "deny: the filter has no effect\n");
		return 77;
	}
	execvp(argv[2], argv + 2);
	fprintf(stderr, "deny: %s: %s\n", argv[2], strerror(errno));
	return 127;
}
