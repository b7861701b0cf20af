/* test_serve_file.c - from a target to an answer: paths, links, types, conditions, ranges. */
#define _GNU_SOURCE /* mincore */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/serve_answer.h"
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

/* ---- Files and answers -------------------------------------------------------------------- */

static char folder[] = "/tmp/ringtls-root-XXXXXX";
static struct serve_site site;

static void put(int at, const char *name, const char *text)
{
	int fd = openat(at, name, O_CREAT | O_WRONLY | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int make_site(void **state)
{
	int at;

	(void)state;
	assert_non_null(mkdtemp(folder));
	at = open(folder, O_DIRECTORY);
	assert_int_equal(mkdirat(at, "root", 0755), 0);
	put(at, "secret", "secret");
	assert_int_equal(fchdir(at), 0);
	put(at, "root/a.txt", "0123456789");
	mkdirat(at, "root/sub", 0755);
	put(at, "root/sub/index.html", "index");
	mkdirat(at, "root/none", 0755);
	mkdirat(at, "root/odd", 0755);
	mkdirat(at, "root/odd/index.html", 0755);
	mkfifoat(at, "root/fifo", 0644);
	assert_int_equal(symlinkat("a.txt", at, "root/inside"), 0);
	assert_int_equal(symlinkat("../../root/a.txt", at, "root/sub/around"), 0);
	assert_int_equal(symlinkat("../a.txt", at, "root/sub/up"), 0);
	assert_int_equal(symlinkat("../secret", at, "root/out"), 0);
	assert_int_equal(symlinkat("/etc/passwd", at, "root/absolute"), 0);
	assert_int_equal(symlinkat("/proc/self/root/etc/passwd", at, "root/magic"), 0);
	assert_int_equal(symlinkat("loop", at, "root/loop"), 0);
	assert_int_equal(symlinkat("..", at, "root/parent"), 0);
	close(at);
	site.root = serve_root_open("root");
	if (site.root == -ENOSYS)
		site.root = -1;
	site.types = serve_types_new("/nonexistent");
	return 0;
}

static int remove_site(void **state)
{
	char command[100];

	(void)state;
	close(site.root);
	serve_types_free(site.types);
	if (chdir("/") < 0)
		return -1;
	snprintf(command, sizeof(command), "rm -r %s", folder);
	return system(command);
}

static int status_of(const char *name)
{
	struct serve_file file = { .fd = -1 };
	int status = serve_file_open(site.root, name, &file);

	if (!status && file.fd >= 0)
		close(file.fd);
	return status;
}

static void files_and_links_beneath_the_root(void **state)
{
	(void)state;
	need("openat2", site.root >= 0);
	assert_int_equal(status_of("a.txt"), 0);
	assert_int_equal(status_of("inside"), 0);
	assert_int_equal(status_of("sub/up"), 0);
	assert_int_equal(status_of(""), 0);
	assert_int_equal(status_of("sub"), 0);
	assert_int_equal(status_of("a.txt/"), 404);
	assert_int_equal(status_of("nothing"), 404);
}

static void nothing_leads_out_of_the_root(void **state)
{
	(void)state;
	need("openat2", site.root >= 0);
	assert_int_equal(status_of("out"), 403);
	assert_int_equal(status_of("absolute"), 403);
	assert_int_equal(status_of("magic"), 403);
	assert_int_equal(status_of("loop"), 403);
	assert_int_equal(status_of("parent/secret"), 403);
	assert_int_equal(status_of("parent/root/a.txt"), 403);
	assert_int_equal(status_of("sub/around"), 403);
	/* Not that a path could hold these: the second line of defence. */
	assert_int_equal(status_of("../secret"), 403);
	assert_int_equal(status_of("/etc/passwd"), 403);
}

static void what_is_no_file_is_not_served(void **state)
{
	(void)state;
	need("openat2", site.root >= 0);
	assert_int_equal(status_of("fifo"), 403);
}

static void a_tag_changes_with_the_file(void **state)
{
	struct serve_file before, after;

	(void)state;
	need("openat2", site.root >= 0);
	put(AT_FDCWD, "root/changing", "one");
	assert_int_equal(serve_file_open(site.root, "changing", &before), 0);
	assert_int_equal(futimens(before.fd, (struct timespec[2]){ { 1, 1 }, { 1, 1 } }), 0);
	close(before.fd);
	assert_int_equal(serve_file_open(site.root, "changing", &before), 0);
	assert_int_equal(futimens(before.fd, (struct timespec[2]){ { 1, 1 }, { 1, 2 } }), 0);
	close(before.fd);
	assert_int_equal(serve_file_open(site.root, "changing", &after), 0);
	close(after.fd);
	assert_string_not_equal(before.etag, after.etag);
	assert_int_equal(before.etag[0], '"');
	assert_int_equal(fcntl(before.fd, F_GETFD), -1);
}

/* Makes the answer to a request in full; its text ends in a NUL for these tests. */
static struct serve_answer ask(const char *text)
{
	struct serve_request req;
	struct serve_answer answer;
	size_t used;

	serve_request_init(&req);
	assert_true(serve_request_feed(&req, text, strlen(text), &used));
	assert_true(serve_answer_make(&site, &req, false, NOW, &answer));
	serve_request_fini(&req);
	answer.text = realloc(answer.text, answer.len + 1);
	assert_non_null(answer.text);
	answer.text[answer.len] = '\0';
	return answer;
}

static void answer_has(const char *request, int status, const char *part)
{
	struct serve_answer answer = ask(request);

	assert_int_equal(answer.status, status);
	if (!strstr(answer.text, part))
		fail_msg("no %s in: %s", part, answer.text);
	serve_answer_fini(&answer);
}

#define GET(target) "GET " target " HTTP/1.1\r\nHost: x\r\n"

static void a_short_file_comes_with_its_head(void **state)
{
	struct serve_answer answer;

	(void)state;
	need("openat2", site.root >= 0);
	answer = ask(GET("/a.txt") "\r\n");
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.left, 0);
	assert_int_equal(answer.file.fd, -1);
	assert_int_equal(answer.body, 10);
	assert_non_null(strstr(answer.text, "HTTP/1.1 200 OK\r\nDate: Tue, 14 Nov 2023 "));
	assert_non_null(strstr(answer.text, "Content-Type: text/plain\r\n"));
	assert_non_null(strstr(answer.text, "Content-Length: 10\r\n\r\n0123456789"));
	assert_null(strstr(answer.text, "Connection:"));
	serve_answer_fini(&answer);
}

static void a_head_has_the_same_fields_and_no_body(void **state)
{
	(void)state;
	need("openat2", site.root >= 0);
	answer_has("HEAD /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 200, "Content-Length: 10\r\n\r\n");
	answer_has("HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n", 404, "Content-Length: 14\r\n\r\n");
}

static void a_part_says_where_it_is_from(void **state)
{
	(void)state;
	need("openat2", site.root >= 0);
	answer_has(GET("/a.txt") "Range: bytes=-2\r\n\r\n", 206,
		   "Content-Range: bytes 8-9/10\r\n");
	answer_has(GET("/a.txt") "Range: bytes=-2\r\n\r\n", 206, "\r\n\r\n89");
	answer_has(GET("/a.txt") "Range: bytes=10-\r\n\r\n", 416, "Content-Range: bytes */10\r\n");
}

static void a_long_file_is_left_to_be_sent(void **state)
{
	struct serve_answer answer;
	int fd;

	(void)state;
	need("openat2", site.root >= 0);
	fd = open("root/long", O_CREAT | O_WRONLY, 0644);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	answer = ask(GET("/long") "Range: bytes=5-\r\n\r\n");
	assert_int_equal(answer.body, 0);
	assert_int_equal(answer.offset, 5);
	assert_int_equal(answer.left, (1 << 20) - 5);
	assert_true(answer.file.fd >= 0);
	serve_answer_fini(&answer);
	assert_int_equal(answer.file.fd, -1);
}

/* Reading would bring it there. */
static bool is_in_memory(int fd, size_t len)
{
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	unsigned char pages[16];
	bool all = true;

	assert_true(map != MAP_FAILED);
	assert_int_equal(mincore(map, len, pages), 0);
	for (size_t i = 0; i < (len + 4095) / 4096; i++)
		all = all && (pages[i] & 1);
	munmap(map, len);
	return all;
}

/* What of the file was left to be sent, when its pages had been dropped. To ask for a page starts
 * to read it, and a fast disk may be done before the answer to that: so it may take some tries. */
static uint64_t left_of_a_dropped_file(int fd, size_t len)
{
	uint64_t left = 0;

	for (int tries = 0; tries < 100 && !left; tries++) {
		struct serve_answer answer;

		assert_int_equal(fsync(fd), 0);
		assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
		need("a disk whose pages can be dropped", !is_in_memory(fd, len));
		answer = ask(GET("/brief") "\r\n");
		assert_int_equal(answer.body + answer.left, len);
		left = answer.left;
		serve_answer_fini(&answer);
	}
	return left;
}

/* 30 KiB of a file come with the head, if they are in memory: nobody waits for a disk here. */
static void a_short_file_that_is_not_in_memory_is_left_to_the_engine(void **state)
{
	static const char bytes[30000];
	struct serve_answer answer;
	int fd;

	(void)state;
	need("openat2", site.root >= 0);
	fd = open("root/brief", O_CREAT | O_RDWR, 0644);
	assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	assert_int_equal(pwrite(fd, "end", 3, 29997), 3);
	answer = ask(GET("/brief") "\r\n");
	assert_int_equal(answer.body, 30000);
	assert_int_equal(answer.left, 0);
	assert_memory_equal(answer.text + answer.len - 3, "end", 3);
	serve_answer_fini(&answer);
	assert_int_equal(left_of_a_dropped_file(fd, sizeof(bytes)), sizeof(bytes));
	close(fd);
}

static void folders_have_an_index_or_nothing(void **state)
{
	(void)state;
	need("openat2", site.root >= 0);
	answer_has(GET("/sub/") "\r\n", 200, "\r\n\r\nindex");
	answer_has(GET("/sub/") "\r\n", 200, "Content-Type: text/html\r\n");
	answer_has(GET("/sub?a=b") "\r\n", 301, "Location: /sub/?a=b\r\n");
	answer_has(GET("//sub") "\r\n", 301, "Location: /sub/\r\n");
	answer_has(GET("/") "\r\n", 404, "\r\n\r\n404 Not Found\n");
	answer_has(GET("/none/") "\r\n", 404, "");
	answer_has(GET("/odd/") "\r\n", 404, "");
	answer_has(GET("/a.txt/") "\r\n", 404, "");
}

static void errors_say_what_they_must(void **state)
{
	(void)state;
	answer_has("PUT /a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: GET, HEAD\r\n");
	answer_has("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405, "Allow: GET, HEAD\r\n");
	answer_has(GET("/%00") "\r\n", 400, "Content-Type: text/plain\r\n");
	answer_has("GET / HTTP/1.1\r\n\r\n", 400, "Connection: close\r\n");
	answer_has(GET("/a.txt") "If-Match: \"x\"\r\n\r\n", 412,
		   "\r\n\r\n412 Precondition Failed\n");
}

static void what_is_known_is_not_sent_again(void **state)
{
	struct serve_answer answer;
	char request[300], *etag;

	(void)state;
	need("openat2", site.root >= 0);
	answer = ask(GET("/a.txt") "\r\n");
	etag = strstr(answer.text, "ETag: ") + 6;
	snprintf(request, sizeof(request), GET("/a.txt") "If-None-Match: %.*s\r\n\r\n",
		 (int)strcspn(etag, "\r"), etag);
	serve_answer_fini(&answer);
	answer = ask(request);
	assert_int_equal(answer.status, 304);
	assert_non_null(strstr(answer.text, "ETag: "));
	assert_null(strstr(answer.text, "Content-Length"));
	assert_string_equal(answer.text + answer.len - 4, "\r\n\r\n");
	serve_answer_fini(&answer);
}

static void an_old_client_is_told_that_it_may_stay(void **state)
{
	(void)state;
	answer_has("GET /x HTTP/1.0\r\n\r\n", 404, "Connection: close\r\n");
	answer_has("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 404,
		   "Connection: keep-alive\r\n");
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
		cmocka_unit_test(files_and_links_beneath_the_root),
		cmocka_unit_test(nothing_leads_out_of_the_root),
		cmocka_unit_test(what_is_no_file_is_not_served),
		cmocka_unit_test(a_tag_changes_with_the_file),
		cmocka_unit_test(a_short_file_comes_with_its_head),
		cmocka_unit_test(a_head_has_the_same_fields_and_no_body),
		cmocka_unit_test(a_part_says_where_it_is_from),
		cmocka_unit_test(a_long_file_is_left_to_be_sent),
		cmocka_unit_test(a_short_file_that_is_not_in_memory_is_left_to_the_engine),
		cmocka_unit_test(folders_have_an_index_or_nothing),
		cmocka_unit_test(errors_say_what_they_must),
		cmocka_unit_test(what_is_known_is_not_sent_again),
		cmocka_unit_test(an_old_client_is_told_that_it_may_stay),
	};

	return cmocka_run_group_tests_name("serve_file", tests, make_site, remove_site);
}
