/* test_states.c - the picture of the state machine in doc/ is the machine's own. */
#include "support.h"
#include "conn.h"

#define ROOM 8192

static size_t read_picture(char *text)
{
	const char *top = getenv("abs_top_srcdir");
	char path[4096];
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "%s/doc/states.dot", top ? top : ".");
	file = fopen(path, "r");
	assert_non_null(file);
	n = fread(text, 1, ROOM - 1, file);
	fclose(file);
	text[n] = '\0';
	return n;
}

/* Where the machine was changed on purpose, "tests/unit/test_states --print" makes
 * the picture anew. */
static void the_picture_is_what_the_table_prints(void **state)
{
	char ours[ROOM] = "", picture[ROOM];
	FILE *to = fmemopen(ours, ROOM - 1, "w");

	(void)state;
	assert_non_null(to);
	ringtls__tx_print_graph(to);
	fclose(to);
	assert_true(read_picture(picture) > 0);
	assert_string_equal(picture, ours);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_picture_is_what_the_table_prints),
	};

	if (argc == 2 && !strcmp(argv[1], "--print")) {
		ringtls__tx_print_graph(stdout);
		return 0;
	}
	return cmocka_run_group_tests_name("states", tests, NULL, NULL);
}
