/* test_serve_target.c - what a request asks for, without a look at the disk: paths, dates, tags,
 * ranges, conditions, types. */
#include "support.h"

#include <fcntl.h>
#include <unistd.h>

#include "tools/serve_cond.h"
#include "tools/serve_file.h"
#include "tools/serve_types.h"

#define MODIFIED 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */
#define NOW	 1700000000

/* ---- Paths --------------------------------------------------------------------- */

static void path_is(const char *target, const char *name, bool folder, const char *query)
{
	struct serve_path path;

	assert_int_equal(serve_path_parse(target, &path), 0);
	assert_string_equal(path.name, name);
	assert_int_equal(path.len, strlen(name));
	assert_int_equal(path.folder, folder);
	assert_string_equal(path.query, query);
}

static void path_refused(const char *target, int status)
{
	struct serve_path path;

	assert_int_equal(serve_path_parse(target, &path), status);
}

static void a_target_becomes_a_path(void **state)
{
	(void)state;
	path_is("/", "", true, "");
	path_is("/a", "a", false, "");
	path_is("/a/", "a", true, "");
	path_is("/a/b.c", "a/b.c", false, "");
	path_is("/a?b/../c", "a", false, "?b/../c");
	path_is("/?x", "", true, "?x");
	path_is("/%61%2Eb", "a.b", false, "");
	path_is("/%e2%82%ac", "\xe2\x82\xac", false, "");
	path_is("/a%3fb", "a?b", false, "");
	path_is("/a+b", "a+b", false, "");
}

static void a_path_is_decoded_once(void **state)
{
	(void)state;
	path_is("/%2561", "%61", false, "");
	path_is("/%252e%252e/a", "%2e%2e/a", false, "");
}

static void dots_and_double_slashes_go(void **state)
{
	(void)state;
	path_is("//a//b", "a/b", false, "");
	path_is("/./a/.", "a", true, "");
	path_is("/a/b/../c", "a/c", false, "");
	path_is("/a/..", "", true, "");
	path_is("/a/b/../../", "", true, "");
	path_is("/a/%2e%2E/b", "b", false, "");
	path_is("/...", "...", false, "");
	path_is("/..a/.b", "..a/.b", false, "");
}

static void no_path_climbs_above_the_root(void **state)
{
	(void)state;
	path_refused("/..", 400);
	path_refused("/../", 400);
	path_refused("/a/../../b", 400);
	path_refused("/%2e%2e/etc/passwd", 400);
	path_refused("/.%2e/etc/passwd", 400);
	path_refused("/..%2fetc/passwd", 404);
	path_refused("/..%5c..", 0); /* on this system a name like others */
}

static void bad_targets_are_refused(void **state)
{
	(void)state;
	path_refused("", 400);
	path_refused("a", 400);
	path_refused("*", 400);
	path_refused("/a%", 400);
	path_refused("/a%4", 400);
	path_refused("/a%4g", 400);
	path_refused("/a%00", 400);
	path_refused("/a#b", 400);
	path_refused("/a b", 400);
	path_refused("/a\x7f", 400);
	path_refused("ftp://x/a", 400);
	path_refused("://x/a", 400);
	path_refused("https:///a", 400);
	path_refused("localhost:443", 400);
	path_refused("/a%2fb", 404);
}

static void the_absolute_form_is_understood(void **state)
{
	(void)state;
	path_is("https://localhost:8443/a?b", "a", false, "?b");
	path_is("HTTP://x/", "", true, "");
	path_is("https://x", "", true, "");
	path_is("https://x?y", "", true, "?y");
}

static void a_path_too_long_is_414(void **state)
{
	static char target[PATH_MAX + 10];

	(void)state;
	target[0] = '/';
	memset(target + 1, 'a', PATH_MAX);
	path_refused(target, 414);
	target[PATH_MAX] = '\0';
	path_refused(target, 0);
}

static void a_path_is_encoded_for_a_redirection(void **state)
{
	char text[100];
	struct serve_path path;

	(void)state;
	assert_int_equal(serve_path_parse("//evil.example/%20%0d%0a%25%22%5c/", &path), 0);
	serve_path_encode(&path, text);
	assert_string_equal(text, "/evil.example/%20%0D%0A%25%22%5C");
}

/* ---- Dates, tags, ranges ------------------------------------------------------------ */

static void three_forms_of_a_date(void **state)
{
	time_t date = 0;
	char text[SERVE_DATE_SIZE];

	(void)state;
	assert_true(serve_date_parse("Sun, 06 Nov 1994 08:49:37 GMT", &date));
	assert_int_equal(date, MODIFIED);
	assert_true(serve_date_parse("Sunday, 06-Nov-94 08:49:37 GMT", &date));
	assert_int_equal(date, MODIFIED);
	assert_true(serve_date_parse("Sun Nov  6 08:49:37 1994", &date));
	assert_int_equal(date, MODIFIED);
	assert_false(serve_date_parse("", &date));
	assert_false(serve_date_parse("yesterday", &date));
	assert_false(serve_date_parse("Sun, 06 Nov 1994 08:49:37 GMT, again", &date));
	serve_date_format(MODIFIED, text);
	assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
}

static void tags_in_lists(void **state)
{
	(void)state;
	assert_true(serve_etag_listed("*", "\"a\"", false));
	assert_true(serve_etag_listed("\"a\"", "\"a\"", false));
	assert_true(serve_etag_listed("\"b\" ,, \"x,y\",\t\"a\"", "\"a\"", false));
	assert_true(serve_etag_listed("W/\"a\"", "\"a\"", true));
	assert_false(serve_etag_listed("W/\"a\"", "\"a\"", false));
	assert_false(serve_etag_listed("\"ab\", \"b\"", "\"a\"", true));
	assert_false(serve_etag_listed("a, \"a\"", "\"a\"", true));
	assert_false(serve_etag_listed("\"a", "\"a\"", true));
	assert_false(serve_etag_listed("", "\"a\"", true));
}

static void range_is(const char *value, uint64_t size, uint64_t offset, uint64_t len)
{
	uint64_t got_offset, got_len;

	assert_int_equal(serve_range_parse(value, size, &got_offset, &got_len), SERVE_RANGE_PART);
	assert_int_equal(got_offset, offset);
	assert_int_equal(got_len, len);
}

static void range_gives(enum serve_range verdict, const char *value, uint64_t size)
{
	uint64_t offset, len;

	if (serve_range_parse(value, size, &offset, &len) != verdict)
		fail_msg("%s of %d", value ? value : "no range", (int)size);
}

static void ranges(void **state)
{
	(void)state;
	range_is("bytes=0-0", 10, 0, 1);
	range_is("Bytes= 2-5", 10, 2, 4);
	range_is("bytes=2-", 10, 2, 8);
	range_is("bytes=9-99", 10, 9, 1);
	range_is("bytes=-3", 10, 7, 3);
	range_is("bytes=-99", 10, 0, 10);
	range_is("bytes=0-18446744073709551615", 10, 0, 10);
	range_is("bytes=1-99999999999999999999999", 10, 1, 9);
	range_is("bytes=4294967296-", 1ULL << 33, 1ULL << 32, 1ULL << 32);
}

static void ranges_outside(void **state)
{
	(void)state;
	range_gives(SERVE_RANGE_OUTSIDE, "bytes=10-", 10);
	range_gives(SERVE_RANGE_OUTSIDE, "bytes=10-20", 10);
	range_gives(SERVE_RANGE_OUTSIDE, "bytes=0-", 0);
	range_gives(SERVE_RANGE_OUTSIDE, "bytes=-0", 10);
	range_gives(SERVE_RANGE_OUTSIDE, "bytes=99999999999999999999999-", 10);
}

static void what_is_no_single_range_means_the_whole(void **state)
{
	(void)state;
	range_gives(SERVE_RANGE_WHOLE, NULL, 10);
	range_gives(SERVE_RANGE_WHOLE, "", 10);
	range_gives(SERVE_RANGE_WHOLE, "bytes=", 10);
	range_gives(SERVE_RANGE_WHOLE, "bytes=-", 10);
	range_gives(SERVE_RANGE_WHOLE, "bytes=5-2", 10);
	range_gives(SERVE_RANGE_WHOLE, "bytes=1", 10);
	range_gives(SERVE_RANGE_WHOLE, "bytes=a-b", 10);
	range_gives(SERVE_RANGE_WHOLE, "bytes=1-2x", 10);
	range_gives(SERVE_RANGE_WHOLE, "bytes=0-1,3-4", 10);
	range_gives(SERVE_RANGE_WHOLE, "lines=0-1", 10);
	range_gives(SERVE_RANGE_WHOLE, "bytes=-5", 0);
	range_gives(SERVE_RANGE_WHOLE, "bytes=--1", 10);
}

/* ---- Conditions ------------------------------------------------------------------------ */

static const struct serve_file example = {
	.fd = -1,
	.size = 10,
	.modified = MODIFIED,
	.etag = "\"tag\"",
};

/* The status for a request with these fields; ret_part may be NULL. */
static int choose(const char *method, const char *fields, struct serve_part *ret_part)
{
	struct serve_request req;
	struct serve_part part;
	char text[1000];
	size_t used;

	snprintf(text, sizeof(text), "%s / HTTP/1.1\r\nHost: x\r\n%s\r\n", method, fields);
	serve_request_init(&req);
	assert_true(serve_request_feed(&req, text, strlen(text), &used));
	assert_int_equal(req.refused, 0);
	serve_part_choose(&req, &example, NOW, &part);
	serve_request_fini(&req);
	if (ret_part)
		*ret_part = part;
	return part.status;
}

#define EARLIER "Sun, 06 Nov 1994 08:49:36 GMT\r\n"
#define SAME	"Sun, 06 Nov 1994 08:49:37 GMT\r\n"

static void conditions_one_by_one(void **state)
{
	(void)state;
	assert_int_equal(choose("GET", "", NULL), 200);
	assert_int_equal(choose("GET", "If-Match: \"tag\"\r\n", NULL), 200);
	assert_int_equal(choose("GET", "If-Match: W/\"tag\"\r\n", NULL), 412);
	assert_int_equal(choose("GET", "If-Match: \"other\"\r\n", NULL), 412);
	assert_int_equal(choose("GET", "If-Unmodified-Since: " SAME, NULL), 200);
	assert_int_equal(choose("GET", "If-Unmodified-Since: " EARLIER, NULL), 412);
	assert_int_equal(choose("GET", "If-None-Match: \"tag\"\r\n", NULL), 304);
	assert_int_equal(choose("HEAD", "If-None-Match: W/\"tag\"\r\n", NULL), 304);
	assert_int_equal(choose("GET", "If-None-Match: \"other\"\r\n", NULL), 200);
	assert_int_equal(choose("GET", "If-Modified-Since: " SAME, NULL), 304);
	assert_int_equal(choose("GET", "If-Modified-Since: " EARLIER, NULL), 200);
	assert_int_equal(choose("GET", "If-Modified-Since: today\r\n", NULL), 200);
}

static void conditions_have_an_order(void **state)
{
	(void)state;
	/* A tag outweighs a date, and what must hold comes before what may be known. */
	assert_int_equal(choose("GET", "If-Match: \"tag\"\r\nIf-Unmodified-Since: " EARLIER, NULL),
			 200);
	assert_int_equal(choose("GET", "If-None-Match: \"x\"\r\nIf-Modified-Since: " SAME, NULL),
			 200);
	assert_int_equal(choose("GET", "If-Match: \"x\"\r\nIf-None-Match: \"tag\"\r\n", NULL), 412);
	assert_int_equal(choose("GET", "If-None-Match: \"tag\"\r\nRange: bytes=0-1\r\n", NULL),
			 304);
}

static void a_part_and_its_conditions(void **state)
{
	struct serve_part part;

	(void)state;
#define RANGE "Range: bytes=2-4\r\n"
	assert_int_equal(choose("GET", RANGE, &part), 206);
	assert_int_equal(part.offset, 2);
	assert_int_equal(part.len, 3);
	assert_int_equal(choose("HEAD", RANGE, &part), 200);
	assert_int_equal(part.len, 10);
	assert_int_equal(choose("GET", RANGE "If-Range: \"tag\"\r\n", NULL), 206);
	assert_int_equal(choose("GET", RANGE "If-Range: W/\"tag\"\r\n", NULL), 200);
	assert_int_equal(choose("GET", RANGE "If-Range: \"other\"\r\n", NULL), 200);
	assert_int_equal(choose("GET", RANGE "If-Range: " SAME, NULL), 206);
	assert_int_equal(choose("GET", RANGE "If-Range: " EARLIER, NULL), 200);
	assert_int_equal(choose("GET", "Range: bytes=10-\r\n", NULL), 416);
	assert_int_equal(choose("GET", "Range: bytes=10-\r\nIf-Range: \"x\"\r\n", NULL), 200);
	assert_int_equal(choose("GET", "Range: bytes=0-1\r\nRange: bytes=3-4\r\n", NULL), 200);
#undef RANGE
}

/* ---- Types ----------------------------------------------------------------------------- */

static void types_without_the_systems_table(void **state)
{
	struct serve_types *types = serve_types_new("/nonexistent");

	(void)state;
	assert_non_null(types);
	assert_string_equal(serve_types_find(types, "index.html"), "text/html");
	assert_string_equal(serve_types_find(types, "a.b/C.JPEG"), "image/jpeg");
	assert_string_equal(serve_types_find(types, "a.tar.gz"), "application/gzip");
	assert_string_equal(serve_types_find(types, "a.html/b"), "application/octet-stream");
	assert_string_equal(serve_types_find(types, "a/.html"), "application/octet-stream");
	assert_string_equal(serve_types_find(types, "a."), "application/octet-stream");
	serve_types_free(types);
}

static void the_systems_table_comes_first(void **state)
{
	char name[] = "/tmp/ringtls-types-XXXXXX";
	int fd = mkstemp(name);
	struct serve_types *types;

	(void)state;
	assert_true(fd >= 0);
	dprintf(fd, "# comment\n\ntext/x-one\tone html # two\ntext/x-two one\nno/extension\n");
	close(fd);
	types = serve_types_new(name);
	unlink(name);
	assert_non_null(types);
	assert_string_equal(serve_types_find(types, "a.one"), "text/x-one");
	assert_string_equal(serve_types_find(types, "a.html"), "text/x-one");
	assert_string_equal(serve_types_find(types, "a.css"), "text/css");
	assert_string_equal(serve_types_find(types, "a.two"), "application/octet-stream");
	serve_types_free(types);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_target_becomes_a_path),
		cmocka_unit_test(a_path_is_decoded_once),
		cmocka_unit_test(dots_and_double_slashes_go),
		cmocka_unit_test(no_path_climbs_above_the_root),
		cmocka_unit_test(bad_targets_are_refused),
		cmocka_unit_test(the_absolute_form_is_understood),
		cmocka_unit_test(a_path_too_long_is_414),
		cmocka_unit_test(a_path_is_encoded_for_a_redirection),
		cmocka_unit_test(three_forms_of_a_date),
		cmocka_unit_test(tags_in_lists),
		cmocka_unit_test(ranges),
		cmocka_unit_test(ranges_outside),
		cmocka_unit_test(what_is_no_single_range_means_the_whole),
		cmocka_unit_test(conditions_one_by_one),
		cmocka_unit_test(conditions_have_an_order),
		cmocka_unit_test(a_part_and_its_conditions),
		cmocka_unit_test(types_without_the_systems_table),
		cmocka_unit_test(the_systems_table_comes_first),
	};

	return cmocka_run_group_tests_name("serve_target", tests, NULL, NULL);
}
