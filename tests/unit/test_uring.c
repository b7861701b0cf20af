/* test_uring.c - the ladder of ring set-up, and the reason where there is no ring. */
#include "config.h"
#include "support.h"

#include "refuse.h"
#include "uring.h"

#include <ringtls/ringtls.h>

#define BEST (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

/* A set-up that fails as told, one error for each attempt; 0 goes to the kernel. */
static struct {
	int errors[3];
	unsigned flags[3];
	unsigned asked;
} fake;

static int fake_init(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
	unsigned attempt = fake.asked++;

	assert_true(attempt < 3);
	fake.flags[attempt] = params->flags;
	if (fake.errors[attempt])
		return fake.errors[attempt];
	return ringtls__sys_real.uring_init(entries, ring, params);
}

static struct ringtls__uring_caps open_after(int first, int second, int third)
{
	struct ringtls__sys sys = ringtls__sys_real;
	struct ringtls__uring_caps caps;
	struct io_uring ring;
	int error;

	memset(&fake, 0, sizeof(fake));
	fake.errors[0] = first;
	fake.errors[1] = second;
	fake.errors[2] = third;
	sys.uring_init = fake_init;
	error = ringtls__uring_open(&ring, 8, &caps, &sys);
	if (!error)
		io_uring_queue_exit(&ring);
	assert_int_equal(caps.error, error);
	return caps;
}

static bool have_uring(void)
{
	return open_after(0, 0, 0).error == 0;
}

static void every_errno_has_its_reason(void **state)
{
	(void)state;
	assert_int_equal(ringtls__uring_reason(0), RINGTLS_REASON_NONE);
	assert_int_equal(ringtls__uring_reason(-EPERM), RINGTLS_REASON_URING_DENIED);
	assert_int_equal(ringtls__uring_reason(-EACCES), RINGTLS_REASON_URING_DENIED);
	assert_int_equal(ringtls__uring_reason(-ENOSYS), RINGTLS_REASON_URING_ABSENT);
	assert_int_equal(ringtls__uring_reason(-ENOMEM), RINGTLS_REASON_URING_LIMIT);
	assert_int_equal(ringtls__uring_reason(-EMFILE), RINGTLS_REASON_URING_LIMIT);
	assert_int_equal(ringtls__uring_reason(-ENFILE), RINGTLS_REASON_URING_LIMIT);
	assert_int_equal(ringtls__uring_reason(-EAGAIN), RINGTLS_REASON_URING_LIMIT);
	assert_int_equal(ringtls__uring_reason(-EINVAL), RINGTLS_REASON_URING_OLD);
	assert_int_equal(ringtls__uring_reason(-EOPNOTSUPP), RINGTLS_REASON_URING_OLD);
}

static void what_is_forbidden_is_asked_once(void **state)
{
	const int final[] = { -EPERM, -EACCES, -ENOSYS, -ENOMEM, -EMFILE };

	(void)state;
	for (size_t i = 0; i < sizeof(final) / sizeof(final[0]); i++) {
		struct ringtls__uring_caps caps = open_after(final[i], 0, 0);

		assert_int_equal(caps.error, final[i]);
		assert_int_equal(caps.reason, ringtls__uring_reason(final[i]));
		assert_int_equal(caps.setup_flags, 0);
		assert_int_equal(fake.asked, 1);
	}
}

static void the_best_flags_are_asked_for_first(void **state)
{
	(void)state;
	open_after(-EPERM, 0, 0);
	assert_int_equal(fake.flags[0] & BEST, BEST);
	assert_int_equal(fake.flags[0] & IORING_SETUP_COOP_TASKRUN, 0);
}

static void an_older_kernel_gets_coop_taskrun(void **state)
{
	struct ringtls__uring_caps caps;

	(void)state;
	need("uring", have_uring());
	caps = open_after(-EINVAL, 0, 0);
	assert_int_equal(caps.error, 0);
	assert_int_equal(fake.asked, 2);
	assert_int_equal(caps.setup_flags & BEST, 0);
	assert_int_not_equal(caps.setup_flags & IORING_SETUP_COOP_TASKRUN, 0);
}

static void the_oldest_kernel_gets_sizes_only(void **state)
{
	struct ringtls__uring_caps caps;

	(void)state;
	need("uring", have_uring());
	caps = open_after(-EINVAL, -EINVAL, 0);
	assert_int_equal(caps.error, 0);
	/* What the library liburing adds by itself does not matter. */
	assert_int_equal(caps.setup_flags & 0xffff, IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP);
}

static void a_kernel_that_takes_no_flags_is_too_old(void **state)
{
	struct ringtls__uring_caps caps = open_after(-EINVAL, -EINVAL, -EINVAL);

	(void)state;
	assert_int_equal(caps.error, -EINVAL);
	assert_int_equal(caps.reason, RINGTLS_REASON_URING_OLD);
	assert_int_equal(fake.asked, 3);
}

static void a_refusal_behind_an_unknown_flag_counts(void **state)
{
	struct ringtls__uring_caps caps = open_after(-EINVAL, -ENOMEM, 0);

	(void)state;
	assert_int_equal(caps.error, -ENOMEM);
	assert_int_equal(caps.reason, RINGTLS_REASON_URING_LIMIT);
	assert_int_equal(fake.asked, 2);
}

static void a_missing_opcode_is_named(void **state)
{
	union {
		struct io_uring_probe probe;
		uint8_t room[sizeof(struct io_uring_probe) +
			     256 * sizeof(struct io_uring_probe_op)];
	} u;

	(void)state;
	memset(&u, 0, sizeof(u));
	u.probe.last_op = 100;
	assert_string_equal(ringtls__uring_missing(&u.probe), "SEND");
	for (int i = 0; i < RINGTLS__URING_OPS; i++) {
		const char *name = ringtls__uring_ops[i].name;

		assert_string_equal(ringtls__uring_missing(&u.probe), name);
		u.probe.ops[ringtls__uring_ops[i].opcode].flags = IO_URING_OP_SUPPORTED;
	}
	assert_null(ringtls__uring_missing(&u.probe));
}

static void a_ring_runs_operations(void **state)
{
	struct ringtls__uring_caps caps;
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;

	(void)state;
	need("uring", have_uring());
	assert_int_equal(ringtls__uring_open(&ring, 64, &caps, &ringtls__sys_real), 0);
	assert_int_equal(caps.reason, RINGTLS_REASON_NONE);
	assert_null(caps.missing);
	assert_int_equal(io_uring_sq_space_left(&ring), 64);
	assert_int_equal(io_uring_cq_ready(&ring), 0);

	sqe = io_uring_get_sqe(&ring);
	if (!sqe)
		fail();
	else
		io_uring_prep_nop(sqe);
	assert_int_equal(io_uring_submit_and_wait(&ring, 1), 1);
	assert_int_equal(io_uring_peek_cqe(&ring, &cqe), 0);
	assert_int_equal(cqe->res, 0);
	io_uring_cqe_seen(&ring, cqe);
	io_uring_queue_exit(&ring);
}

static void more_entries_than_allowed_are_clamped(void **state)
{
	struct ringtls__uring_caps caps;
	struct io_uring ring;

	(void)state;
	need("uring", have_uring());
	assert_int_equal(ringtls__uring_open(&ring, UINT32_MAX, &caps, &ringtls__sys_real), 0);
	io_uring_queue_exit(&ring);
}

static void a_failed_open_leaves_no_descriptor(void **state)
{
	int before = open_descriptors();

	(void)state;
	open_after(-EINVAL, -EINVAL, -EINVAL);
	assert_int_equal(open_descriptors(), before);
}

/* In a child: the reason that an open gives, or 127 when it left a descriptor. */
static int reason_of_open(void)
{
	struct ringtls__uring_caps caps;
	struct io_uring ring;
	int before = open_descriptors();

	if (!ringtls__uring_open(&ring, 8, &caps, &ringtls__sys_real))
		io_uring_queue_exit(&ring);
	return open_descriptors() == before ? (int)caps.reason : 127;
}

static int open_where_setup_is_forbidden(void)
{
	return refuse_syscall(SYS_io_uring_setup, EPERM) ? CHILD_CANNOT : reason_of_open();
}

static int open_where_setup_is_unknown(void)
{
	return refuse_syscall(SYS_io_uring_setup, ENOSYS) ? CHILD_CANNOT : reason_of_open();
}

static int open_where_enter_is_forbidden(void)
{
	return refuse_syscall(SYS_io_uring_enter, EPERM) ? CHILD_CANNOT : reason_of_open();
}

static int open_where_register_is_forbidden(void)
{
	return refuse_syscall(SYS_io_uring_register, EACCES) ? CHILD_CANNOT : reason_of_open();
}

static int open_without_descriptors(void)
{
	return refuse_descriptors() ? CHILD_CANNOT : reason_of_open();
}

static void a_filter_that_forbids_rings_is_a_denial(void **state)
{
	int reason = in_child(open_where_setup_is_forbidden);

	(void)state;
	need("seccomp", reason != CHILD_CANNOT);
	assert_int_equal(reason, RINGTLS_REASON_URING_DENIED);
}

static void a_filter_that_hides_rings_is_an_absence(void **state)
{
	int reason = in_child(open_where_setup_is_unknown);

	(void)state;
	need("seccomp", reason != CHILD_CANNOT);
	assert_int_equal(reason, RINGTLS_REASON_URING_ABSENT);
}

static void a_ring_that_may_not_be_entered_is_denied_and_closed(void **state)
{
	int reason = in_child(open_where_enter_is_forbidden);

	(void)state;
	need("uring", have_uring());
	need("seccomp", reason != CHILD_CANNOT);
	assert_int_equal(reason, RINGTLS_REASON_URING_DENIED);
}

static void a_ring_that_may_not_be_probed_is_denied_and_closed(void **state)
{
	int reason = in_child(open_where_register_is_forbidden);

	(void)state;
	need("uring", have_uring());
	need("seccomp", reason != CHILD_CANNOT);
	assert_int_equal(reason, RINGTLS_REASON_URING_DENIED);
}

static void without_descriptors_it_is_a_limit(void **state)
{
	(void)state;
	need("uring", have_uring());
	assert_int_equal(in_child(open_without_descriptors), RINGTLS_REASON_URING_LIMIT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_errno_has_its_reason),
		cmocka_unit_test(what_is_forbidden_is_asked_once),
		cmocka_unit_test(the_best_flags_are_asked_for_first),
		cmocka_unit_test(an_older_kernel_gets_coop_taskrun),
		cmocka_unit_test(the_oldest_kernel_gets_sizes_only),
		cmocka_unit_test(a_kernel_that_takes_no_flags_is_too_old),
		cmocka_unit_test(a_refusal_behind_an_unknown_flag_counts),
		cmocka_unit_test(a_missing_opcode_is_named),
		cmocka_unit_test(a_ring_runs_operations),
		cmocka_unit_test(more_entries_than_allowed_are_clamped),
		cmocka_unit_test(a_failed_open_leaves_no_descriptor),
		cmocka_unit_test(a_filter_that_forbids_rings_is_a_denial),
		cmocka_unit_test(a_filter_that_hides_rings_is_an_absence),
		cmocka_unit_test(a_ring_that_may_not_be_entered_is_denied_and_closed),
		cmocka_unit_test(a_ring_that_may_not_be_probed_is_denied_and_closed),
		cmocka_unit_test(without_descriptors_it_is_a_limit),
	};

	return cmocka_run_group_tests_name("uring", tests, NULL, NULL);
}
