/* serve_jail.c - see serve_jail.h. */
#include "config.h"
#include "serve_jail.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Privileges ------------------------------------------------------------------ */

/* Out of the bounding set, so that nothing that is executed gets one back. */
static void drop_bounding_set(void)
{
	for (unsigned long cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno == EINVAL)
			return; /* the last one that this kernel has was before it */
}

/* setresuid() does that; but who asked for it must be able to rely on it. */
static bool has_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return true;
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		if (data[i].effective || data[i].permitted || data[i].inheritable)
			return true;
	return false;
}

int serve_user_become(uid_t uid, gid_t gid)
{
	drop_bounding_set();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setgroups(1, &gid) < 0 ||
	    setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -errno;
	return has_capabilities() || setresuid(0, 0, 0) == 0 ? -ENOTRECOVERABLE : 0;
}

#ifdef HAVE_SECCOMP

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* ---- Files: Landlock ------------------------------------------------------------------ */

/* The numbers of linux/landlock.h, which is older than some of them, or missing. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self  446
#endif
#define LANDLOCK_VERSION 1u /* LANDLOCK_CREATE_RULESET_VERSION */

#define FS_FIRST    0x1ff3ull /* execute, write, remove, make: all but reading, 5.13 */
#define FS_REFER    (1ull << 13) /* 5.19 */
#define FS_TRUNCATE (1ull << 14) /* 6.2 */
#define FS_IOCTL    (1ull << 15) /* of devices, 6.10 */
#define NET_TCP	    3ull	 /* bind and connect, 6.7 */

struct ruleset {
	uint64_t fs, net;
};

int serve_jail_files(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_VERSION);
	struct ruleset ruleset = { .fs = FS_FIRST };
	size_t size = abi >= 4 ? sizeof(ruleset) : sizeof(ruleset.fs);
	int fd, ret = 0;

	if (abi < 0)
		return -errno;
	ruleset.fs |= (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) |
		      (abi >= 5 ? FS_IOCTL : 0);
	ruleset.net = abi >= 4 ? NET_TCP : 0;
	fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
	if (fd < 0)
		return -errno;
	/* No rule: what is handled is allowed nowhere. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* ---- System calls: seccomp ---------------------------------------------------------------- */

#define LOW(value) 0xffffffff, (value) /* of a 64-bit register: the rest is not looked at */

/* Whatever their arguments are. */
static const int plain_calls[] = {
	/* connections */
	SCMP_SYS(accept4), SCMP_SYS(close), SCMP_SYS(getsockopt), SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg), SCMP_SYS(sendfile), SCMP_SYS(sendmsg), SCMP_SYS(sendto),
	SCMP_SYS(shutdown),
	/* SIGPIPE, which sendfile raises: ringtls takes it away again */
	SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigtimedwait),
	/* waiting */
	SCMP_SYS(clock_nanosleep), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_wait), SCMP_SYS(futex), SCMP_SYS(io_uring_enter), SCMP_SYS(poll),
	SCMP_SYS(ppoll), SCMP_SYS(restart_syscall), SCMP_SYS(sched_yield),
	SCMP_SYS(timerfd_settime),
	/* files; openat2 has its flags in memory, where a filter can't look: that is for Landlock */
	SCMP_SYS(fstat), SCMP_SYS(lseek), SCMP_SYS(newfstatat), SCMP_SYS(openat2),
	SCMP_SYS(pread64), SCMP_SYS(preadv2), SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(write),
	SCMP_SYS(writev),
	/* memory */
	SCMP_SYS(brk), SCMP_SYS(madvise), SCMP_SYS(mremap), SCMP_SYS(munmap),
	/* the C library, OpenSSL, and clocks where there is no vDSO */
	SCMP_SYS(clock_gettime), SCMP_SYS(getegid), SCMP_SYS(geteuid), SCMP_SYS(getgid),
	SCMP_SYS(getpid), SCMP_SYS(getrandom), SCMP_SYS(gettid), SCMP_SYS(gettimeofday),
	SCMP_SYS(getuid), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(sysinfo), SCMP_SYS(time),
	/* the end */
	SCMP_SYS(exit), SCMP_SYS(exit_group),
};

/* With arguments like these. */
static int add_checked_calls(scmp_filter_ctx ctx)
{
	const struct {
		int call;
		struct scmp_arg_cmp argument;
	} calls[] = {
		{ SCMP_SYS(openat), SCMP_A2(SCMP_CMP_MASKED_EQ,
					    O_ACCMODE | O_CREAT | O_TRUNC | O_TMPFILE | O_APPEND,
					    O_RDONLY) },
		{ SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
		{ SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
		{ SCMP_SYS(fcntl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW(F_GETFL)) },
		{ SCMP_SYS(fcntl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW(F_SETFL)) },
		{ SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW(SIOCOUTQ)) },
		{ SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW(TCGETS)) },
		{ SCMP_SYS(setsockopt), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW(IPPROTO_TCP)) },
		{ SCMP_SYS(setsockopt), SCMP_A1(SCMP_CMP_MASKED_EQ, LOW(282)) }, /* SOL_TLS */
	};
	int ret = 0;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]) && !ret; i++)
		ret = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, calls[i].call, 1,
					     &calls[i].argument);
	return ret;
}

static int add_calls(scmp_filter_ctx ctx)
{
	int ret = add_checked_calls(ctx);

	for (size_t i = 0; i < sizeof(plain_calls) / sizeof(plain_calls[0]) && !ret; i++)
		ret = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, plain_calls[i], 0, NULL);
	return ret;
}

int serve_jail_calls(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int ret;

	if (!ctx)
		return -ENOMEM;
	ret = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!ret)
		ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!ret)
		ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!ret)
		ret = add_calls(ctx);
	if (!ret)
		ret = seccomp_load(ctx);
	seccomp_release(ctx);
	return ret;
}

#else

int serve_jail_files(void)
{
	return -ENOSYS;
}

int serve_jail_calls(void)
{
	return -ENOSYS;
}

#endif
