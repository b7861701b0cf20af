/* list.c - see list.h. */
#include "support.h"
#include "list.h"

#define O(l, b, v)                                                                                 \
	{ .lane = RINGTLS_LANE_##l, .backend = RINGTLS_BACKEND_##b, .version = TLS1_##v##_VERSION }

const struct pair_opts every_lane[EVERY_LANE] = {
	O(OPENSSL, URING, 3), O(OPENSSL, URING, 2), O(OPENSSL, SYSCALLS, 3), O(OPENSSL, SYSCALLS, 2),
	O(USER, URING, 3),    O(USER, URING, 2),    O(USER, SYSCALLS, 3),    O(USER, SYSCALLS, 2),
	O(KERNEL, URING, 3),  O(KERNEL, URING, 2),  O(KERNEL, SYSCALLS, 3),  O(KERNEL, SYSCALLS, 2),
};

const struct pair_opts on_callers_ring[ON_CALLERS_RING] = {
	O(OPENSSL, CALLER, 3), O(USER, CALLER, 3), O(KERNEL, CALLER, 3),
};

#define LIST_MAX 1000
#define NAME_ROOM 160

static struct CMUnitTest list[LIST_MAX];
static char names[LIST_MAX][NAME_ROOM];
static size_t listed;

const char *list_place(const struct pair_opts *o)
{
	static char place[80];

	/* A ring of the caller's is all that there is in its program: it goes without saying. */
	snprintf(place, sizeof(place), "%s%s%s TLSv1.%d", ringtls_lane_name(o->lane),
		 o->backend == RINGTLS_BACKEND_CALLER ? "" : " ",
		 o->backend == RINGTLS_BACKEND_CALLER ? "" : ringtls_backend_name(o->backend),
		 o->version - TLS1_VERSION);
	return place;
}

struct CMUnitTest *list_add(const void *state, CMUnitTestFunction function, const char *name, ...)
{
	struct CMUnitTest *test = &list[listed];
	va_list args;

	if (listed == LIST_MAX)
		abort();
	va_start(args, name);
	vsnprintf(names[listed], NAME_ROOM, name, args);
	va_end(args);
	test->name = names[listed++];
	test->test_func = function;
	test->initial_state = (void *)(uintptr_t)state;
	return test;
}

void list_add_all(const struct list_test *tests, size_t n_tests, const struct pair_opts *places,
		  size_t n_places)
{
	for (size_t p = 0; p < n_places; p++)
		for (size_t t = 0; t < n_tests; t++)
			list_add(&places[p], tests[t].function, "%s: %s", list_place(&places[p]),
				 tests[t].name);
}

int list_run(const char *program, int argc, char **argv)
{
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return _cmocka_run_group_tests(program, list, listed, NULL, NULL);
}
