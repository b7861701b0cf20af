/* probe_uring.c - may this process have a ring, and what can it do? */
#include "config.h"
#include "probe_checks.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ringtls/ringtls.h>
#include "uring.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	unsigned flag;
	const char *id, *label, *use, *since;
} flags[] = {
	{ IORING_SETUP_SINGLE_ISSUER, "io_uring.single-issuer", "SINGLE_ISSUER",
	  "one thread submits", "6.0" },
	{ IORING_SETUP_DEFER_TASKRUN, "io_uring.defer-taskrun", "DEFER_TASKRUN",
	  "completions run where the engine waits", "6.1" },
	{ IORING_SETUP_COOP_TASKRUN, "io_uring.coop-taskrun", "COOP_TASKRUN",
	  "completions don't interrupt", "5.19" },
	{ IORING_SETUP_TASKRUN_FLAG, "io_uring.taskrun-flag", "TASKRUN_FLAG",
	  "the ring shows that completions are due", "5.19" },
	{ IORING_SETUP_SUBMIT_ALL, "io_uring.submit-all", "SUBMIT_ALL",
	  "a bad entry doesn't hold up the others", "5.18" },
	{ IORING_SETUP_CQSIZE, "io_uring.cqsize", "CQSIZE", "room for bursts of completions",
	  "5.5" },
};

/* What may stand behind an EPERM. */
struct facts {
	int disabled; /* sysctl kernel.io_uring_disabled, or -1 where there is none */
	int group;    /* sysctl kernel.io_uring_group */
};

static int read_number(const char *path, int otherwise)
{
	FILE *file = fopen(path, "re");
	int value;

	if (!file)
		return otherwise;
	if (fscanf(file, "%d", &value) != 1)
		value = otherwise;
	fclose(file);
	return value;
}

static void mend_denial(struct probe_check *check, const struct facts *facts)
{
	if (facts->disabled == 2)
		probe_mend(check, "as root: sysctl kernel.io_uring_disabled=0");
	else if (facts->disabled == 1)
		probe_mend(check,
			   "run it in the group of the sysctl kernel.io_uring_group (now %d; "
			   "-1 is none), or as root: sysctl kernel.io_uring_disabled=0",
			   facts->group);
	else
		probe_mend(check,
			   "the container's seccomp profile%s, or a security module, forbids "
			   "it: allow io_uring_setup, io_uring_enter and io_uring_register "
			   "there%s",
			   prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2 ? " (one is at work)" : "",
			   facts->disabled < 0 ? "; or the sysctl kernel.io_uring_disabled, "
						 "which can't be read here, is not 0" :
						 "");
}

static void mend_limit(struct probe_check *check, int error)
{
	struct rlimit limit = { 0, 0 };

	switch (error) {
	case -EMFILE:
		getrlimit(RLIMIT_NOFILE, &limit);
		probe_mend(check,
			   "raise the limit on open files, now %llu: ulimit -n, LimitNOFILE=",
			   (unsigned long long)limit.rlim_cur);
		break;
	case -ENFILE:
		probe_mend(check, "raise the sysctl fs.file-max");
		break;
	default:
		getrlimit(RLIMIT_MEMLOCK, &limit);
		probe_mend(check,
			   "raise the limit on locked memory, now %llu bytes (ulimit -l, "
			   "LimitMEMLOCK=), or the memory limit of the container",
			   (unsigned long long)limit.rlim_cur);
	}
}

static void say_ring(struct probe_report *report, const struct ringtls__uring_caps *caps,
		     const struct facts *facts)
{
	struct probe_check *check = probe_add(report, caps->error ? PROBE_NO : PROBE_OK,
					      "io_uring.ring", "a ring of one's own");

	if (!caps->error) {
		probe_say(check, "set up, and ran an operation");
		return;
	}
	probe_blame(check, caps->reason, caps->error);
	probe_say(check, "%s", ringtls_reason_text(caps->reason));
	if (caps->reason == RINGTLS_REASON_URING_DENIED)
		mend_denial(check, facts);
	else if (caps->reason == RINGTLS_REASON_URING_LIMIT)
		mend_limit(check, caps->error);
	else if (caps->reason == RINGTLS_REASON_URING_ABSENT)
		probe_mend(check, "a kernel with CONFIG_IO_URING; or the sandbox hides it: allow "
				  "io_uring_setup, io_uring_enter and io_uring_register there");
	else
		probe_mend(check, "a newer kernel: Linux 6.1 or later");
}

static void say_sysctl(struct probe_report *report, const struct ringtls__uring_caps *caps,
		       const struct facts *facts)
{
	enum probe_status status = facts->disabled < 0 ? PROBE_UNKNOWN :
				   facts->disabled == 0 || !caps->error ? PROBE_OK :
									  PROBE_NO;
	struct probe_check *check =
		probe_add(report, status, "io_uring.sysctl", "kernel.io_uring_disabled");

	switch (facts->disabled) {
	case -1:
		probe_say(check, "there is no such sysctl: Linux before 6.6, or no /proc");
		break;
	case 0:
		probe_say(check, "0: every process may have rings");
		break;
	case 1:
		probe_say(check, "1: CAP_SYS_ADMIN and the group %d may have rings (-1 is none)",
			  facts->group);
		break;
	default:
		probe_say(check, "%d: no process may make a ring", facts->disabled);
	}
}

static void say_flag(struct probe_report *report, const struct ringtls__uring_caps *caps, size_t i)
{
	bool taken = caps->setup_flags & flags[i].flag;
	bool spared = flags[i].flag == IORING_SETUP_COOP_TASKRUN &&
		      caps->setup_flags & IORING_SETUP_DEFER_TASKRUN;
	struct probe_check *check =
		probe_add(report,
			  caps->error || spared ? PROBE_UNKNOWN :
			  taken			? PROBE_OK :
						  PROBE_NO,
			  flags[i].id, flags[i].label);

	if (caps->error) {
		probe_say(check, "there is no ring to ask");
	} else if (spared) {
		probe_say(check, "not asked for: DEFER_TASKRUN is better");
	} else if (taken) {
		probe_say(check, "%s", flags[i].use);
	} else {
		probe_say(check, "the kernel does not know this flag; the engine does without");
		probe_mend(check, "a newer kernel: Linux %s or later", flags[i].since);
	}
}

/* The opcodes before the one that is missing are there; those behind were not asked. */
static void say_opcodes(struct probe_report *report, const struct ringtls__uring_caps *caps)
{
	bool asked = !caps->error || caps->missing;

	for (size_t i = 0; i < RINGTLS__URING_OPS; i++) {
		const char *name = ringtls__uring_ops[i].name;
		bool missing = caps->missing && !strcmp(caps->missing, name);
		struct probe_check *check;
		char id[48] = "io_uring.op.";
		size_t at = strlen(id);

		for (const char *c = name; *c && at < sizeof(id) - 1; c++)
			id[at++] = *c == '_' ? '-' : (char)(*c | 0x20);
		check = probe_add(report,
				  missing ? PROBE_NO :
				  asked	  ? PROBE_OK :
					    PROBE_UNKNOWN,
				  id, name);
		if (missing) {
			probe_say(check, "the kernel lacks this operation, which the engine needs");
			probe_mend(check, "a newer kernel: Linux 6.1 or later");
			asked = false;
		} else {
			probe_say(check, asked ? "the operation is there" :
						 "there is no ring to ask");
		}
	}
}

static void say_extra(struct probe_report *report, const struct ringtls__uring_caps *caps,
		      const char *id, const char *label, bool present, const char *use)
{
	struct probe_check *check = probe_add(report,
					      caps->error ? PROBE_UNKNOWN :
					      present	  ? PROBE_OK :
							    PROBE_NO,
					      id, label);

	probe_say(check, "%s",
		  caps->error ? "there is no ring to ask" :
		  present     ? use :
				"the kernel does not have it; the engine does without");
}

void probe_check_uring(struct probe_report *report)
{
	const struct facts facts = {
		.disabled = read_number("/proc/sys/kernel/io_uring_disabled", -1),
		.group = read_number("/proc/sys/kernel/io_uring_group", -1),
	};
	struct ringtls__uring_caps caps;
	struct io_uring ring;

	if (!ringtls__uring_open(&ring, 8, &caps, &ringtls__sys_real))
		io_uring_queue_exit(&ring);
	say_ring(report, &caps, &facts);
	say_sysctl(report, &caps, &facts);
	for (size_t i = 0; i < COUNT(flags); i++)
		say_flag(report, &caps, i);
	say_opcodes(report, &caps);
	say_extra(report, &caps, "io_uring.op.send-zc", "SEND_ZC", caps.send_zc,
		  "the operation is there (a socket with kernel TLS refuses it)");
	say_extra(report, &caps, "io_uring.socket-setsockopt", "URING_CMD setsockopt",
		  caps.socket_cmd, "socket options can be set through the ring");
}
