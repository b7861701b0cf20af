/*
 * test_faults.c - every operation fails once: for each scenario, lane and engine the 1st,
 * 2nd, 3rd ... operation of each kind fails with each error that it can give, until the
 * scenario runs through without meeting the fault. RINGTLS_FAULTS=all takes each number,
 * each error and each lane; without it the numbers grow apart, errors that are all one to
 * the library have one to stand for them, and a guest of the lab runs the kernel lane.
 * RINGTLS_FAULTS_ONLY, such as "sendfile", takes those whose text has that in it, and
 * shows each.
 */
#include "support.h"
#include "fault_scenarios.h"

#include <signal.h>
#include <unistd.h>
#include "keylog.h"
#include "probe.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The lanes that run here: see faults_ktls.c. */
__attribute__((weak)) const struct fault_way faults_ways[] = {
	{ RINGTLS_LANE_OPENSSL, RINGTLS_BACKEND_URING, 0 },
	{ RINGTLS_LANE_OPENSSL, RINGTLS_BACKEND_SYSCALLS, 0 },
	{ RINGTLS_LANE_OPENSSL, RINGTLS_BACKEND_CALLER, 0 },
	{ RINGTLS_LANE_USER, RINGTLS_BACKEND_URING, 0 },
	{ RINGTLS_LANE_USER, RINGTLS_BACKEND_SYSCALLS, 0 },
	{ RINGTLS_LANE_USER, RINGTLS_BACKEND_CALLER, 0 },
	{ RINGTLS_LANE_KERNEL, RINGTLS_BACKEND_URING, 0 },
	{ RINGTLS_LANE_KERNEL, RINGTLS_BACKEND_SYSCALLS, 0 },
	{ RINGTLS_LANE_KERNEL, RINGTLS_BACKEND_CALLER, 0 },
	{ 0 },
};

struct one {
	const struct fault_scenario *scenario;
	const struct fault_way *way;
};

static struct {
	unsigned injected, survived, ended, findings;
} sum;

static char now_running[256];

static void crashed(int sig)
{
	static const char what[] = "\n# crashed, or stuck, in ";

	(void)!write(2, what, sizeof(what) - 1);
	(void)!write(2, now_running, strlen(now_running));
	(void)!write(2, "\n", 1);
	signal(sig, SIG_DFL);
	raise(sig);
}

/* false: the fault was not met, so there are no more of its kind. */
static bool run_with(const struct one *o, const struct fault *f, unsigned nth)
{
	struct fault_run r;

	snprintf(now_running, sizeof(now_running), "%s %s: %s: %s, %u.",
		 ringtls_lane_name(o->way->lane), ringtls_backend_name(o->way->backend),
		 o->scenario->name, f ? fault_text(f) : "nothing fails", nth);
	if (getenv("RINGTLS_FAULTS_ONLY"))
		print_message("# %s\n", now_running);
	alarm(120);
	faults_arm(f, nth);
	run_open(&r, o->way, o->scenario->flags, f);
	if (run_lives(&r))
		o->scenario->run(&r);
	run_close(&r);
	if (!f && r.failed)
		run_wrong(&r, "it fails by itself");
	sum.findings += r.why[0] != 0;
	if (r.why[0])
		print_message("# %s\n#   %s\n", now_running, r.why);
	if (!faults_hit())
		return false;
	sum.injected++;
	sum.survived += !r.failed;
	sum.ended += r.failed;
	return true;
}

static bool takes_all(void)
{
	const char *all = getenv("RINGTLS_FAULTS");

	return all && strcmp(all, "all") == 0;
}

static bool is_a_wait(const struct fault *f)
{
	return f->kind == FAULT_EPOLL_CTL || f->kind == FAULT_RING_WAIT;
}

static bool is_chosen(const struct one *o, const struct fault *f, const unsigned *seen)
{
	const char *only = getenv("RINGTLS_FAULTS_ONLY");

	if (f->kind == FAULT_OPENSSL_MALLOC && !(o->scenario->flags & FAULT_IN_OPENSSL))
		return false;
	if (f->is_like_another && !takes_all())
		return false;
	if ((o->scenario->flags & FAULT_IS_SLOW) && !is_a_wait(f) && !takes_all())
		return false;
	if (f->how == FAULT_END && (o->scenario->flags & FAULT_WITHOUT_END))
		return false;
	return seen[f->kind] && (!only || strstr(fault_text(f), only));
}

/* Where a system call takes a hundred times as long. */
static bool is_guest(void)
{
	return faults_base == &ringtls__sys_real && !ringtls__probe_get()->ulp;
}

static unsigned next_number(unsigned n)
{
	if (takes_all() || (n < 3 && !is_guest()))
		return n + 1;
	return is_guest() ? n * 4 : n * 2;
}

/* Does a lane get its key of a KeyUpdate when it is attached late? */
static bool is_late_key(uint32_t lane)
{
	return lane == RINGTLS_LANE_USER ||
	       (lane == RINGTLS_LANE_KERNEL && faults_base != &ringtls__sys_real);
}

static bool has_uring(void)
{
	struct io_uring ring;
	int r = io_uring_queue_init(2, &ring, 0);

	if (r == 0)
		io_uring_queue_exit(&ring);
	return r == 0;
}

static void every_operation_fails_once(void **state)
{
	const struct one *o = *state;
	unsigned seen[FAULT_KINDS], before = sum.injected, found = sum.findings;

	if (o->way->lane == RINGTLS_LANE_KERNEL) {
		need("ktls", !ringtls__probe_get()->ulp);
		if (o->scenario->flags & FAULT_REKEYS)
			need("rekey", !ringtls__probe_get()->rekey);
	}
	if (o->way->backend != RINGTLS_BACKEND_SYSCALLS)
		need("uring", has_uring());
	/* OpenSSL 3.0 and 3.1 give the key of a KeyUpdate to nobody. */
	if (o->scenario->flags & FAULT_STOCK && is_late_key(o->way->lane))
		need("next keys of OpenSSL", ringtls__ossl_offers_next_keys());
	run_with(o, NULL, 0);
	memcpy(seen, faults_seen, sizeof(seen));
	for (size_t i = 0; i < faults_count; i++) {
		unsigned n = 1;

		if (!is_chosen(o, &faults[i], seen))
			continue;
		while (sum.findings < found + 10 && run_with(o, &faults[i], n))
			n = next_number(n);
	}
	print_message("# %u faults\n", sum.injected - before);
	assert_int_equal(sum.findings, found);
}

/* The lanes that run here, times the scenarios. */
static size_t list_tests(struct CMUnitTest *list)
{
	static struct one ones[9 * FAULT_SCENARIOS];
	static char names[COUNT(ones)][160];
	size_t n = 0;

	for (const struct fault_way *w = faults_ways; w->backend; w++) {
		if (w->lane != RINGTLS_LANE_KERNEL && is_guest() && !takes_all())
			continue;
		for (size_t i = 0; i < FAULT_SCENARIOS; i++) {
			if (fault_scenarios[i].flags & FAULT_PROMOTES && w->lane != RINGTLS_LANE_KERNEL)
				continue;
			ones[n] = (struct one){ &fault_scenarios[i], w };
			snprintf(names[n], sizeof(names[n]), "%s %s: %s",
				 ringtls_lane_name(w->lane), ringtls_backend_name(w->backend),
				 fault_scenarios[i].name);
			list[n] = (struct CMUnitTest){ names[n], every_operation_fails_once, NULL,
						       NULL, &ones[n] };
			n++;
		}
	}
	return n;
}

int main(int argc, char **argv)
{
	static struct CMUnitTest list[9 * FAULT_SCENARIOS];
	int r;

	faults_init();
	signal(SIGPIPE, SIG_DFL); /* none may come */
	signal(SIGABRT, crashed);
	signal(SIGALRM, crashed);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]); /* such as "user uring: a file" */
	run_setup();
	r = _cmocka_run_group_tests("faults", list, list_tests(list), NULL, NULL);
	print_message("# %u faults injected: %u survived, %u ended the connection, %u findings\n",
		      sum.injected, sum.survived, sum.ended, sum.findings);
	return r;
}
