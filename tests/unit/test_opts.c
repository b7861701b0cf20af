/* test_opts.c - option and information structures of another size than ours: of a program that
 * was built with an older or a newer header. */
#include "support.h"
#include "opts.h"

#include <errno.h>

struct ours {
	size_t size;
	uint64_t a, b;
};

/* A newer one's. */
struct theirs {
	size_t size;
	uint64_t a, b, c;
};

static void none_are_all_defaults(void **state)
{
	struct ours o = { 1, 2, 3 };

	(void)state;
	assert_int_equal(ringtls__opts_take(&o, sizeof(o), NULL, 0), 0);
	assert_int_equal(o.a | o.b, 0);
}

static void older_ones_leave_the_rest_at_its_default(void **state)
{
	const struct ours given = { offsetof(struct ours, b), 2, 3 };
	struct ours o = { 0, 7, 7 };

	(void)state;
	assert_int_equal(ringtls__opts_take(&o, sizeof(o), &given, given.size), 0);
	assert_int_equal(o.a, 2);
	assert_int_equal(o.b, 0);
}

/* What we don't know must not be wished for. */
static void newer_ones_are_taken_where_they_ask_for_nothing_new(void **state)
{
	struct theirs given = { sizeof(given), 2, 3, 0 };
	struct ours o;

	(void)state;
	assert_int_equal(ringtls__opts_take(&o, sizeof(o), &given, given.size), 0);
	assert_int_equal(o.b, 3);
	given.c = (uint64_t)1 << 63;
	assert_int_equal(ringtls__opts_take(&o, sizeof(o), &given, given.size), -EINVAL);
}

static void without_a_size_they_are_refused(void **state)
{
	const struct ours given = { 0, 2, 3 };
	struct ours o;
	size_t size = 0;

	(void)state;
	assert_int_equal(ringtls__opts_take(&o, sizeof(o), &given, given.size), -EINVAL);
	assert_int_equal(ringtls__info_give(&o, &size, &given, sizeof(given)), -EINVAL);
}

static void information_is_given_as_far_as_there_is_room(void **state)
{
	const struct ours info = { sizeof(info), 2, 3 };
	struct theirs large = { sizeof(large), 7, 7, 7 };
	struct ours small = { offsetof(struct ours, b), 7, 7 };

	(void)state;
	assert_int_equal(ringtls__info_give(&small, &small.size, &info, sizeof(info)), 0);
	assert_int_equal(small.size, offsetof(struct ours, b));
	assert_int_equal(small.a, 2);
	assert_int_equal(small.b, 7);
	assert_int_equal(ringtls__info_give(&large, &large.size, &info, sizeof(info)), 0);
	assert_int_equal(large.size, sizeof(info));
	assert_int_equal(large.b, 3);
	assert_int_equal(large.c, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_are_all_defaults),
		cmocka_unit_test(older_ones_leave_the_rest_at_its_default),
		cmocka_unit_test(newer_ones_are_taken_where_they_ask_for_nothing_new),
		cmocka_unit_test(without_a_size_they_are_refused),
		cmocka_unit_test(information_is_given_as_far_as_there_is_room),
	};

	return cmocka_run_group_tests_name("opts", tests, NULL, NULL);
}
