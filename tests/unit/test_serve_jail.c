/* test_serve_jail.c - what is left to ringtls-serve in its jail, and that it is no more. */
#include "config.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/serve_jail.h"

#define CALLS_MAX   600 /* beyond the newest one */
#define NO_SECCOMP  90  /* a child's status */
#define NO_LANDLOCK 91
#define BECAME	    92

/* Runs a function in a child of its own: its wait status. */
static int in_child(void (*function)(long), long arg)
{
	pid_t child = fork();
	int status = 0;

	assert_true(child >= 0);
	if (!child) {
		/* The harness catches what kills. */
		signal(SIGSYS, SIG_DFL);
		signal(SIGSEGV, SIG_DFL);
		alarm(60);
		function(arg);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static bool exited_with(int status, int code)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

static bool was_killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}

static void enter(void)
{
	if (serve_jail_calls())
		_exit(NO_SECCOMP);
}

static void just_enter(long arg)
{
	(void)arg;
	enter();
}

static bool can_jail(void)
{
	return exited_with(in_child(just_enter, 0), 0);
}

/* ---- System calls --------------------------------------------------------------------- */

/* With these arguments, or whatever they are. */
static bool is_needed(long call)
{
	static const long needed[] = {
		SYS_accept4, SYS_close, SYS_getsockopt, SYS_recvfrom, SYS_recvmsg, SYS_sendfile,
		SYS_sendmsg, SYS_sendto, SYS_shutdown, SYS_clock_nanosleep, SYS_epoll_ctl,
		SYS_epoll_pwait, SYS_futex, SYS_io_uring_enter, SYS_ppoll, SYS_restart_syscall,
		SYS_sched_yield, SYS_timerfd_settime, SYS_fstat, SYS_lseek, SYS_newfstatat,
		SYS_openat2, SYS_pread64, SYS_preadv2, SYS_read, SYS_readv, SYS_write, SYS_writev, SYS_brk,
		SYS_madvise, SYS_mremap, SYS_munmap, SYS_clock_gettime, SYS_getegid, SYS_geteuid,
		SYS_getgid, SYS_getpid, SYS_getrandom, SYS_gettid, SYS_gettimeofday, SYS_getuid,
		SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigtimedwait,
		SYS_sched_getaffinity, SYS_sysinfo, SYS_exit, SYS_exit_group,
#ifdef SYS_epoll_wait
		SYS_epoll_wait, SYS_poll, SYS_time, /* older architectures */
#endif
#ifdef __x86_64__
		335, 336, /* uretprobe and uprobe: newer kernels let them past any filter */
#endif
		/* looked at closely below */
		SYS_openat, SYS_mmap, SYS_mprotect,
	};

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (needed[i] == call)
			return true;
	return false;
}

static void make_call(long call)
{
	enter();
	syscall(call, 0, 0, 0, 0, 0, 0);
}

static void all_other_calls_kill(void **state)
{
	(void)state;
	need("seccomp", can_jail());
	for (long call = 0; call < CALLS_MAX; call++)
		if (!is_needed(call) && !was_killed(in_child(make_call, call)))
			fail_msg("system call %ld is allowed", call);
}

#define FORBIDDEN                                                                                  \
	X(syscall(SYS_execve, "/bin/true", NULL, NULL))                                             \
	X(syscall(SYS_execveat, AT_FDCWD, "/bin/true", NULL, NULL, 0))                             \
	X(fork())                                                                                  \
	X(syscall(SYS_clone3, NULL, 0))                                                            \
	X(openat(AT_FDCWD, "/dev/null", O_WRONLY))                                                 \
	X(openat(AT_FDCWD, "/dev/null", O_RDWR))                                                   \
	X(openat(AT_FDCWD, "made", O_RDONLY | O_CREAT, 0600))                                      \
	X(openat(AT_FDCWD, "made", O_RDONLY | O_TRUNC))                                            \
	X(openat(AT_FDCWD, ".", O_RDONLY | O_TMPFILE, 0600))                                       \
	X(unlink("made"))                                                                          \
	X(rename("made", "other"))                                                                 \
	X(mkdir("made", 0700))                                                                     \
	X(chmod("made", 0777))                                                                     \
	X(socket(AF_INET, SOCK_STREAM, 0))                                                         \
	X(socketpair(AF_UNIX, SOCK_STREAM, 0, NULL))                                               \
	X(connect(0, NULL, 0))                                                                     \
	X(bind(0, NULL, 0))                                                                        \
	X(listen(0, 1))                                                                            \
	X(setsockopt(0, SOL_SOCKET, SO_REUSEPORT, "1234", 4))                                      \
	X(setsockopt(0, IPPROTO_IP, 1, "1234", 4))                                                 \
	X(syscall(SYS_ptrace, 0, 0, 0, 0))                                                         \
	X(syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0))                            \
	X(kill(getppid(), 0))                                                                      \
	X(setuid(0))                                                                               \
	X(syscall(SYS_prctl, 22, 0, 0, 0, 0))                                                      \
	X(syscall(SYS_seccomp, 0, 0, NULL))                                                        \
	X(syscall(SYS_bpf, 0, NULL, 0))                                                            \
	X(syscall(SYS_io_uring_setup, 8, NULL))                                                    \
	X(syscall(SYS_io_uring_register, 0, 0, NULL, 0))                                           \
	X(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))             \
	X(mprotect(NULL, 4096, PROT_READ | PROT_EXEC))                                             \
	X(fcntl(0, F_DUPFD, 3))                                                                    \
	X(fcntl(0, F_SETOWN, 1))                                                                   \
	X(ioctl(0, TIOCSTI, "x"))                                                                  \
	X(ioctl(0, FIONBIO, "1234"))                                                               \
	X(dup(0))                                                                                  \
	X(chdir("/"))

static void do_forbidden(long which)
{
	long n = 0;

	enter();
#define X(call)                                                                                    \
	if (n++ == which)                                                                          \
		(void)!(call);
	FORBIDDEN
#undef X
	_exit(BECAME);
}

static void each_forbidden_call_kills(void **state)
{
#define X(call) #call,
	static const char *const names[] = { FORBIDDEN };
#undef X

	(void)state;
	need("seccomp", can_jail());
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int status = in_child(do_forbidden, (long)i);

		if (!was_killed(status))
			fail_msg("%s: status %#x", names[i], status);
	}
}

static void do_needed(long fd)
{
	struct open_how how = { .flags = O_RDONLY, .resolve = RESOLVE_BENEATH };
	int on = 1, queued, flags;
	char text[8];
	void *memory;

	enter();
	/* A key is read again by openat, a file opened by openat2. */
	if (openat(AT_FDCWD, "/", O_RDONLY | O_CLOEXEC) < 0 ||
	    syscall(SYS_openat2, (int)fd, ".", &how, sizeof(how)) < 0)
		_exit(1);
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || mprotect(memory, 4096, PROT_READ) || munmap(memory, 4096))
		_exit(2);
	flags = fcntl(0, F_GETFL);
	if (flags < 0 || fcntl(0, F_SETFL, flags) < 0)
		_exit(3);
	/* What they are asked of may not know the answer; to ask is allowed. */
	ioctl(0, SIOCOUTQ, &queued);
	setsockopt(0, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(0, 282, 1, &on, sizeof(on));
	recv(0, text, sizeof(text), MSG_DONTWAIT);
}

static void what_is_needed_is_left(void **state)
{
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	need("seccomp", can_jail());
	assert_int_equal(in_child(do_needed, root), 0);
	close(root);
}

static int gate[2];

static void *stray(void *arg)
{
	char c;

	(void)arg;
	if (read(gate[0], &c, 1) == 1)
		getppid();
	_exit(BECAME); /* a thread's call must kill the process */
}

static void let_a_thread_stray(long arg)
{
	pthread_t thread;

	(void)arg;
	if (pipe(gate) || pthread_create(&thread, NULL, stray, NULL))
		_exit(1);
	enter();
	if (write(gate[1], "x", 1) != 1)
		_exit(2);
	pthread_join(thread, NULL);
	_exit(3);
}

static void every_thread_is_in_the_jail(void **state)
{
	(void)state;
	need("seccomp", can_jail());
	assert_true(was_killed(in_child(let_a_thread_stray, 0)));
}

/* ---- Files ---------------------------------------------------------------------------- */

static void just_lock(long arg)
{
	int ret = serve_jail_files();

	(void)arg;
	_exit(ret == -ENOSYS || ret == -EOPNOTSUPP ? NO_LANDLOCK : ret ? 1 : 0);
}

static bool can_lock(void)
{
	return exited_with(in_child(just_lock, 0), 0);
}

static bool is_refused(long ret)
{
	return ret < 0 && errno == EACCES;
}

/* By openat2, at whose flags the filter of system calls can't look. */
static long open2(const char *name, uint64_t flags)
{
	struct open_how how = { .flags = flags, .mode = flags & O_CREAT ? 0600 : 0 };

	return syscall(SYS_openat2, AT_FDCWD, name, &how, sizeof(how));
}

static void do_with_files(long root)
{
	char c;
	long fd;

	if (open2("jail-file", O_CREAT | O_RDWR) < 0 || serve_jail_files())
		_exit(1);
	if (!is_refused(open2("jail-file", O_WRONLY)) || !is_refused(open2("jail-file", O_RDWR)) ||
	    !is_refused(open2("jail-new", O_CREAT | O_RDWR)))
		_exit(2);
	if (!is_refused(mkdir("jail-new", 0700)) || !is_refused(unlink("jail-file")) ||
	    !is_refused(symlink("a", "jail-new")))
		_exit(3);
	execl("/bin/true", "true", (char *)NULL);
	if (errno != EACCES)
		_exit(4);
	fd = open2("jail-file", O_RDONLY);
	if (fd < 0 || read((int)fd, &c, 1) != 0 || faccessat((int)root, ".", R_OK, 0))
		_exit(5);
}

static void files_can_be_read_and_nothing_else(void **state)
{
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	need("Landlock", can_lock());
	assert_int_equal(in_child(do_with_files, root), 0);
	assert_int_equal(unlink("jail-file"), 0);
	close(root);
}

/* ---- Privileges ------------------------------------------------------------------------- */

static void do_become(long arg)
{
	uid_t real, effective, saved;
	gid_t group, groups[64];

	(void)arg;
	if (serve_user_become(65534, 65533))
		_exit(1);
	if (getresuid(&real, &effective, &saved) || real != 65534 || effective != 65534 ||
	    saved != 65534)
		_exit(2);
	if (getresgid(&group, &groups[0], &groups[1]) || group != 65533 || groups[0] != 65533 ||
	    groups[1] != 65533)
		_exit(3);
	if (getgroups(64, groups) != 1 || groups[0] != 65533)
		_exit(4);
	if (!setuid(0) || !setgid(0) || !seteuid(0) || !setgroups(0, NULL))
		_exit(5);
	if (open("/proc/1/mem", O_RDWR) >= 0)
		_exit(6);
	_exit(BECAME);
}

static void another_user_is_one_for_good(void **state)
{
	(void)state;
	need("root", geteuid() == 0);
	assert_true(exited_with(in_child(do_become, 0), BECAME));
}

static void become_in_vain(long arg)
{
	(void)arg;
	_exit(serve_user_become(65533, 65533) < 0 ? 0 : 1);
}

static void do_become_twice(long arg)
{
	if (!serve_user_become(65534, 65534))
		become_in_vain(arg);
	_exit(2);
}

static void who_is_not_root_becomes_nobody(void **state)
{
	(void)state;
	need("root", geteuid() == 0);
	assert_true(exited_with(in_child(do_become_twice, 0), 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_other_calls_kill),
		cmocka_unit_test(each_forbidden_call_kills),
		cmocka_unit_test(what_is_needed_is_left),
		cmocka_unit_test(every_thread_is_in_the_jail),
		cmocka_unit_test(files_can_be_read_and_nothing_else),
		cmocka_unit_test(another_user_is_one_for_good),
		cmocka_unit_test(who_is_not_root_becomes_nobody),
	};

	return cmocka_run_group_tests_name("serve_jail", tests, NULL, NULL);
}
