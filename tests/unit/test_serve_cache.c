/* test_serve_cache.c - files that ringtls-serve keeps open. */
#include "support.h"
#include "tools/serve_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOW 1700000000

static char folder[] = "/tmp/ringtls-cache-XXXXXX";
static int root;
static struct serve_cache cache;

static void put(const char *name, const char *text)
{
	int fd;

	assert_int_equal(chdir(folder), 0);
	unlink(name);
	fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int make_folder(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	put("a", "aa");
	put("b", "bbb");
	mkdir("sub", 0755);
	root = serve_root_open(folder);
	return 0;
}

static int remove_folder(void **state)
{
	char command[100];

	(void)state;
	close(root);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static int setup(void **state)
{
	(void)state;
	cache = (struct serve_cache){.valid_s = 1};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	serve_cache_clear(&cache);
	assert_int_equal(cache.count, 0);
	return 0;
}

static struct serve_file open_at(const char *name, time_t now)
{
	struct serve_file file;

	need("openat2", root != -ENOSYS);
	assert_int_equal(serve_cache_open(&cache, root, name, now, &file), 0);
	assert_true(file.fd >= 0);
	return file;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int count_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += is_open(fd);
	return n;
}

static void the_next_request_gets_the_same_file(void **state)
{
	struct serve_file one = open_at("a", NOW), two = open_at("a", NOW);

	(void)state;
	assert_int_equal(one.fd, two.fd);
	assert_int_equal(two.size, 2);
	assert_string_equal(one.etag, two.etag);
	assert_int_equal(cache.count, 1);
	serve_cache_close(&one);
	serve_cache_close(&two);
	assert_int_equal(one.fd, -1);
	one = open_at("a", NOW);
	assert_int_equal(cache.count, 1);
	serve_cache_close(&one);
}

static void what_is_replaced_is_served_as_it_was_for_a_second(void **state)
{
	struct serve_file before, during, after;

	(void)state;
	before = open_at("a", NOW);
	put("a", "aaaa");
	during = open_at("a", NOW);
	after = open_at("a", NOW + 1);
	assert_int_equal(during.size, 2);
	assert_int_equal(after.size, 4);
	assert_true(is_open(before.fd)); /* it is being sent */
	serve_cache_close(&before);
	serve_cache_close(&during);
	serve_cache_close(&after);
	put("a", "aa");
}

static void a_clock_that_was_set_back_makes_it_old(void **state)
{
	struct serve_file one, two;

	(void)state;
	one = open_at("a", NOW);
	two = open_at("a", NOW - 100);
	assert_int_not_equal(one.fd, two.fd);
	serve_cache_close(&one);
	serve_cache_close(&two);
}

static void what_is_old_is_closed_when_nobody_sends_it(void **state)
{
	struct serve_file idle, busy;
	int idle_fd, busy_fd;

	(void)state;
	idle = open_at("a", NOW);
	busy = open_at("b", NOW);
	idle_fd = idle.fd;
	busy_fd = busy.fd;
	serve_cache_close(&idle);
	serve_cache_expire(&cache, NOW);
	assert_true(is_open(idle_fd));
	serve_cache_expire(&cache, NOW + 1);
	assert_int_equal(cache.count, 0);
	assert_false(is_open(idle_fd));
	assert_true(is_open(busy_fd));
	serve_cache_close(&busy);
	assert_false(is_open(busy_fd));
}

/* More names than places: each file is the one of its name, and all are closed in the end. */
static void names_that_collide_do_not_mix(void **state)
{
	enum { MANY = 3 * SERVE_CACHE_SLOTS };
	static struct serve_file files[MANY];
	int before = count_open();
	char name[16];

	(void)state;
	need("openat2", root != -ENOSYS);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < MANY; i++) {
			snprintf(name, sizeof(name), "f%d", i);
			if (round == 0)
				put(name, name);
			files[i] = open_at(name, NOW);
		}
		assert_true(cache.count > 1 && cache.count <= SERVE_CACHE_SLOTS);
		for (int i = 0; i < MANY; i++) {
			char text[16] = "";

			snprintf(name, sizeof(name), "f%d", i);
			assert_true(pread(files[i].fd, text, sizeof(text) - 1, 0) > 0);
			assert_string_equal(text, name);
			serve_cache_close(&files[i]);
		}
	}
	serve_cache_clear(&cache);
	assert_int_equal(count_open(), before);
}

static void folders_and_errors_are_not_kept(void **state)
{
	struct serve_file file;

	(void)state;
	need("openat2", root != -ENOSYS);
	assert_int_equal(serve_cache_open(&cache, root, "sub", NOW, &file), 0);
	assert_int_equal(file.fd, -1);
	serve_cache_close(&file);
	assert_int_equal(serve_cache_open(&cache, root, "new", NOW, &file), 404);
	put("new", "new");
	file = open_at("new", NOW);
	assert_int_equal(file.size, 3);
	serve_cache_close(&file);
	unlink("new");
}

/* Not for the sake of what nobody asks for now. */
static void where_descriptors_are_short_it_gives_up_its_own(void **state)
{
	struct serve_file a = open_at("a", NOW), b;
	struct rlimit before, tight;

	(void)state;
	serve_cache_close(&a);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	tight = before;
	tight.rlim_cur = (rlim_t)dup(root); /* the first that is free */
	close((int)tight.rlim_cur);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	b = open_at("b", NOW);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(b.size, 3);
	assert_int_equal(cache.count, 1);
	serve_cache_close(&b);
}

static void without_time_nothing_is_kept(void **state)
{
	struct serve_file file;
	int fd;

	(void)state;
	cache.valid_s = 0;
	file = open_at("a", NOW);
	fd = file.fd;
	assert_int_equal(cache.count, 0);
	serve_cache_close(&file);
	assert_false(is_open(fd));
	assert_int_equal(serve_cache_open(NULL, root, "a", NOW, &file), 0);
	serve_cache_close(&file);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_next_request_gets_the_same_file),
		T(what_is_replaced_is_served_as_it_was_for_a_second),
		T(a_clock_that_was_set_back_makes_it_old),
		T(what_is_old_is_closed_when_nobody_sends_it),
		T(names_that_collide_do_not_mix),
		T(folders_and_errors_are_not_kept),
		T(where_descriptors_are_short_it_gives_up_its_own),
		T(without_time_nothing_is_kept),
	};

	return cmocka_run_group_tests_name("serve_cache", tests, make_folder, remove_folder);
}
