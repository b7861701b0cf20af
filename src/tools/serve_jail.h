/*
 * serve_jail.h - what ringtls-serve gives up once it has started: its privileges, the
 * files that are not to be read, and the system calls that it does not need.
 */
#ifndef RINGTLS_SERVE_JAIL_H
#define RINGTLS_SERVE_JAIL_H

#include <sys/types.h>

enum serve_sandbox {
	SERVE_SANDBOX_AUTO, /* what this system can do; the log has the rest */
	SERVE_SANDBOX_REQUIRE,
	SERVE_SANDBOX_OFF,
};

/*
 * Becomes that user, for good: no other group, no capability, and none by an exec.
 * For a process with one thread that is root. Returns 0 or a negated errno; that is
 * ENOTRECOVERABLE where privileges are left all the same.
 */
int serve_user_become(uid_t uid, gid_t gid);

/*
 * Landlock: this thread, and those it starts, can't write, make, remove or run a file,
 * nor bind or connect a TCP socket, as far as the kernel has words for it. Returns 0 or
 * a negated errno.
 */
int serve_jail_files(void);

/*
 * seccomp: all threads keep the system calls that serving needs; any other one kills
 * the process. Returns 0 or a negated errno.
 */
int serve_jail_calls(void);

#endif
