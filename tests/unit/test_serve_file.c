/* test_serve_file.c - from a path to an answer: files, links, folders, and what is said of them. */
#define _GNU_SOURCE /* mincore */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/serve_answer.h"
#include "tools/serve_file.h"
#include "tools/serve_types.h"

#define NOW	 1700000000

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
