/* test_serve_http.c - requests as bytes: what is understood, what is refused. */
#include "support.h"

#include "tools/serve_http.h"

#define HOST "Host: localhost\r\n"

static int setup(void **state)
{
	static struct serve_request req;

	serve_request_init(&req);
	*state = &req;
	return 0;
}

static int teardown(void **state)
{
	serve_request_fini(*state);
	return 0;
}

static bool feed(struct serve_request *req, const char *text, size_t *ret_used)
{
	return serve_request_feed(req, text, strlen(text), ret_used);
}

/* Feeds text, which completes the request or has it refused; returns refused. */
static int judge(struct serve_request *req, const char *text)
{
	size_t used;

	assert_true(feed(req, text, &used));
	return req->refused;
}

/* The verdict on one request, in one piece and then byte by byte: the same. */
static void verdict_is(int status, const char *text)
{
	struct serve_request req;
	size_t used;
	bool ready = false;

	serve_request_init(&req);
	assert_true(feed(&req, text, &used));
	if (req.refused != status)
		fail_msg("%d, not %d, for: %s", req.refused, status, text);
	serve_request_fini(&req);

	serve_request_init(&req);
	for (size_t i = 0; text[i] && !ready; i++)
		ready = serve_request_feed(&req, text + i, 1, &used);
	assert_true(ready);
	if (req.refused != status)
		fail_msg("byte by byte %d, not %d, for: %s", req.refused, status, text);
	serve_request_fini(&req);
}

static void a_get_is_understood(void **state)
{
	struct serve_request *req = *state;

	assert_int_equal(judge(req, "GET /a?b HTTP/1.1\r\n" HOST "Range: bytes=0-1 \r\n\r\n"), 0);
	assert_int_equal(req->method, SERVE_GET);
	assert_string_equal(req->method_name, "GET");
	assert_string_equal(serve_request_target(req), "/a?b");
	assert_string_equal(serve_request_field(req, SERVE_HOST), "localhost");
	assert_string_equal(serve_request_field(req, SERVE_RANGE), "bytes=0-1");
	assert_null(serve_request_field(req, SERVE_IF_RANGE));
	assert_true(req->keep_alive);
}

static void names_of_fields_have_no_case(void **state)
{
	assert_int_equal(judge(*state, "HEAD / HTTP/1.1\r\nhOsT: x\r\n"
				       "IF-NONE-match:\t\"a\"\r\n\r\n"),
			 0);
	assert_int_equal(((struct serve_request *)*state)->method, SERVE_HEAD);
	assert_string_equal(serve_request_field(*state, SERVE_IF_NONE_MATCH), "\"a\"");
}

static void repeated_fields_are_joined(void **state)
{
	assert_int_equal(judge(*state, "GET / HTTP/1.1\r\n" HOST "If-Match: \"a\"\r\nX: y\r\n"
				       "If-Match:\r\nIf-Match: \"c\"\r\n\r\n"),
			 0);
	assert_string_equal(serve_request_field(*state, SERVE_IF_MATCH), "\"a\",, \"c\"");
}

static void an_empty_field_is_not_an_absent_one(void **state)
{
	assert_int_equal(judge(*state, "GET / HTTP/1.1\r\nHost:\r\nRange:\r\n\r\n"), 0);
	assert_string_equal(serve_request_field(*state, SERVE_HOST), "");
	assert_string_equal(serve_request_field(*state, SERVE_RANGE), "");
}

static void a_long_name_is_not_taken_for_its_beginning(void **state)
{
	assert_int_equal(judge(*state, "GET / HTTP/1.1\r\n" HOST
				       "If-Unmodified-Since-Whenever-It-May-Be: x\r\n"
				       "Rang: x\r\nRanges: y\r\n\r\n"),
			 0);
	assert_null(serve_request_field(*state, SERVE_IF_UNMODIFIED_SINCE));
	assert_null(serve_request_field(*state, SERVE_RANGE));
}

static void pieces_of_any_size_make_the_same_request(void **state)
{
	const char *text = "GET /path HTTP/1.1\r\n" HOST "If-Range: \"tag\"\r\n\r\n";
	size_t used;

	(void)state;
	for (size_t cut = 0; cut < strlen(text); cut++) {
		struct serve_request req;

		serve_request_init(&req);
		assert_false(serve_request_feed(&req, text, cut, &used));
		assert_int_equal(used, cut);
		assert_true(feed(&req, text + cut, &used));
		assert_int_equal(used, strlen(text) - cut);
		assert_int_equal(req.refused, 0);
		assert_string_equal(serve_request_target(&req), "/path");
		assert_string_equal(serve_request_field(&req, SERVE_IF_RANGE), "\"tag\"");
		serve_request_fini(&req);
	}
}

static void the_next_request_is_left_alone(void **state)
{
	const char *first = "GET / HTTP/1.1\r\n" HOST "\r\n";
	char both[200];
	size_t used;

	snprintf(both, sizeof(both), "%s%s", first, first);
	assert_true(feed(*state, both, &used));
	assert_int_equal(used, strlen(first));
}

static void a_body_is_thrown_away_up_to_its_length(void **state)
{
	struct serve_request *req = *state;
	size_t used;

	assert_false(feed(req, "GET / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nab", &used));
	assert_true(feed(req, "cdeGET", &used));
	assert_int_equal(used, 3);
	assert_int_equal(req->refused, 0);
	assert_true(req->keep_alive);
}

static void a_body_too_long_is_413(void **state)
{
	(void)state;
	verdict_is(413, "GET / HTTP/1.1\r\n" HOST "Content-Length: 65537\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n");
}

static void a_chunked_body_is_the_connections_last(void **state)
{
	struct serve_request *req = *state;
	const char *text = "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
	size_t used;

	assert_true(feed(req, text, &used));
	assert_int_equal(req->refused, 0);
	assert_false(req->keep_alive);
	assert_int_equal(used, strlen(text) - 5);
}

static void framing_in_doubt_is_refused(void **state)
{
	(void)state;
#define TE "Transfer-Encoding: "
#define CL "Content-Length: "
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST CL "3\r\n" TE "chunked\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST TE "chunked\r\n" CL "3\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST CL "3\r\n" CL "4\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST CL "3\r\n" CL "3\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST CL "3, 3\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST CL "+3\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST CL "-1\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST CL "0x3\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST CL "3 4\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST CL "\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.0\r\n" HOST TE "chunked\r\n\r\n");
	verdict_is(501, "GET / HTTP/1.1\r\n" HOST TE "gzip, chunked\r\n\r\n");
#undef TE
#undef CL
}

static void unknown_codings_are_refused(void **state)
{
	struct serve_request *req = *state;

	/* The two parsers disagree on the number only. */
	judge(req, "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n\r\n");
	assert_true(req->refused == 400 || req->refused == 501);
	assert_false(req->keep_alive);
}

static void lines_in_doubt_are_refused(void **state)
{
	(void)state;
	verdict_is(400, "GET / HTTP/1.1\n" HOST "\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\nHost: a\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST " folded: x\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST "X: y\r\n\tz\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST "Content-Length : 3\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST ": x\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST "no colon\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\n" HOST "X: \x01\r\n\r\n");
	verdict_is(400, "GET  / HTTP/1.1\r\n" HOST "\r\n");
	verdict_is(400, "GET / HTTP/1.1 \r\n" HOST "\r\n");
	verdict_is(400, "GET /\tx HTTP/1.1\r\n" HOST "\r\n");
	verdict_is(400, "GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n");
	verdict_is(400, "GET /\r\n" HOST "\r\n");
	verdict_is(400, "GET / HTTP[1.1\r\n" HOST "\r\n");
	verdict_is(400, "GET / http/1.1\r\n" HOST "\r\n");
	verdict_is(400, "GET / HTTP/1\r\n" HOST "\r\n");
	verdict_is(400, "GET / HTTP/1.10\r\n" HOST "\r\n");
	verdict_is(400, "GET / HTTP/11\r\n" HOST "\r\n");
	verdict_is(400, "\n\nGET / HTTP/1.1\r\n" HOST "\r\n");
	verdict_is(400, " GET / HTTP/1.1\r\n" HOST "\r\n");
	verdict_is(400, "\x16\x03\x01\x02");
}

static void a_nul_is_refused(void **state)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n";
	struct serve_request *req = *state;
	size_t used;

	assert_true(serve_request_feed(req, text, sizeof(text) - 1, &used));
	assert_int_equal(req->refused, 400);
}

static void empty_lines_in_front_are_skipped(void **state)
{
	assert_int_equal(judge(*state, "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n"), 0);
}

static void one_host_is_needed(void **state)
{
	(void)state;
	verdict_is(400, "GET / HTTP/1.1\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
	verdict_is(400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n");
	verdict_is(0, "GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n");
	verdict_is(0, "GET / HTTP/1.0\r\n\r\n");
}

static void methods_and_versions(void **state)
{
	(void)state;
	verdict_is(501, "FETCH / HTTP/1.1\r\n" HOST "\r\n");
	verdict_is(505, "GET / HTTP/2.0\r\n" HOST "\r\n");
	verdict_is(505, "GET / HTTP/1.2\r\n" HOST "\r\n");
	verdict_is(505, "GET / HTTP/0.9\r\n" HOST "\r\n");
	verdict_is(0, "DELETE / HTTP/1.1\r\n" HOST "\r\n");
	verdict_is(0, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n");
	verdict_is(417, "GET / HTTP/1.1\r\n" HOST "Expect: miracles\r\n\r\n");
}

static void a_body_that_waits_for_our_answer_is_not_read(void **state)
{
	struct serve_request *req = *state;
	const char *text = "GET / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n"
			   "Expect: 100-continue\r\n\r\n";

	assert_int_equal(judge(req, text), 0);
	assert_false(req->keep_alive);
}

static void a_post_with_a_body_is_the_connections_last(void **state)
{
	struct serve_request *req = *state;

	assert_int_equal(judge(req, "POST / HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\n"), 0);
	assert_int_equal(req->method, SERVE_OTHER);
	assert_false(req->keep_alive);
}

static bool stays(const char *text)
{
	struct serve_request req;
	bool keep_alive;

	serve_request_init(&req);
	assert_int_equal(judge(&req, text), 0);
	keep_alive = req.keep_alive;
	serve_request_fini(&req);
	return keep_alive;
}

static void who_stays_connected(void **state)
{
	(void)state;
	assert_true(stays("GET / HTTP/1.1\r\n" HOST "\r\n"));
	assert_false(stays("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"));
	assert_false(stays("GET / HTTP/1.1\r\n" HOST "Connection: x, Close\r\n\r\n"));
	assert_false(stays("GET / HTTP/1.0\r\n\r\n"));
	assert_true(stays("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
	assert_false(stays("CONNECT localhost:1 HTTP/1.1\r\n" HOST "\r\n"));
}

static void an_offer_to_upgrade_is_ignored(void **state)
{
	struct serve_request *req = *state;
	const char *text = "GET / HTTP/1.1\r\n" HOST "Connection: Upgrade, HTTP2-Settings\r\n"
			   "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
	size_t used;

	assert_true(feed(req, text, &used));
	assert_int_equal(used, strlen(text));
	assert_int_equal(req->refused, 0);
	assert_true(req->keep_alive);
}

/* A request whose target or whose header has len bytes. */
static char *long_request(const char *before, size_t len, const char *after)
{
	char *text = malloc(strlen(before) + len + strlen(after) + 1);

	assert_non_null(text);
	strcpy(text, before);
	memset(text + strlen(before), 'a', len);
	strcpy(text + strlen(before) + len, after);
	return text;
}

static void limits_of_size(void **state)
{
	static const char end[] = " HTTP/1.1\r\n" HOST "\r\n";
	char *text;

	(void)state;
	text = long_request("GET /", SERVE_TARGET_MAX - 1, end);
	verdict_is(0, text);
	free(text);
	text = long_request("GET /", SERVE_TARGET_MAX, end);
	verdict_is(414, text);
	free(text);
	text = long_request("GET /", 2 * SERVE_HEADER_MAX, end);
	verdict_is(414, text);
	free(text);
	text = long_request("GET / HTTP/1.1\r\n" HOST "X: ", SERVE_HEADER_MAX, "\r\n\r\n");
	verdict_is(431, text);
	free(text);
	text = long_request("GET / HTTP/1.1\r\n" HOST "Range: ", 8000, "\r\n\r\n");
	verdict_is(0, text);
	free(text);
}

/* count fields of one name, with values of len bytes */
static char *many_fields(const char *name, unsigned count, size_t len)
{
	char *text = malloc(100 + count * (strlen(name) + len + 4));
	char *at = text;

	assert_non_null(text);
	at += sprintf(at, "GET / HTTP/1.1\r\n" HOST);
	for (unsigned i = 0; i < count; i++) {
		at += sprintf(at, "%s: ", name);
		memset(at, 'a', len);
		at += len;
		at += sprintf(at, "\r\n");
	}
	strcpy(at, "\r\n");
	return text;
}

static void limits_of_number(void **state)
{
	char *text = many_fields("X", SERVE_FIELDS_MAX - 1, 1);

	(void)state;
	verdict_is(0, text);
	free(text);
	text = many_fields("X", SERVE_FIELDS_MAX, 1);
	verdict_is(431, text);
	free(text);
	/* Joining copies: that has its limit, too. */
	text = many_fields("If-Match", 90, 100);
	verdict_is(431, text);
	free(text);
}

static void limits_that_are_told(void **state)
{
	const char *small = "GET / HTTP/1.1\r\n" HOST "A: b\r\n\r\n";
	struct serve_request *req = *state;

	serve_request_limit(req, strlen(small), 2);
	assert_int_equal(judge(req, small), 0);
	serve_request_fini(req);
	serve_request_init(req);
	serve_request_limit(req, strlen(small) - 1, 2);
	assert_int_equal(judge(req, small), 431);
	serve_request_fini(req);
	serve_request_init(req);
	serve_request_limit(req, strlen(small), 1);
	assert_int_equal(judge(req, small), 431);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_get_is_understood),
		T(names_of_fields_have_no_case),
		T(repeated_fields_are_joined),
		T(an_empty_field_is_not_an_absent_one),
		T(a_long_name_is_not_taken_for_its_beginning),
		T(pieces_of_any_size_make_the_same_request),
		T(the_next_request_is_left_alone),
		T(a_body_is_thrown_away_up_to_its_length),
		T(a_body_too_long_is_413),
		T(a_chunked_body_is_the_connections_last),
		T(framing_in_doubt_is_refused),
		T(unknown_codings_are_refused),
		T(lines_in_doubt_are_refused),
		T(a_nul_is_refused),
		T(empty_lines_in_front_are_skipped),
		T(one_host_is_needed),
		T(methods_and_versions),
		T(a_body_that_waits_for_our_answer_is_not_read),
		T(a_post_with_a_body_is_the_connections_last),
		T(who_stays_connected),
		T(an_offer_to_upgrade_is_ignored),
		T(limits_of_size),
		T(limits_of_number),
		T(limits_that_are_told),
	};

	return cmocka_run_group_tests_name("serve_http", tests, NULL, NULL);
}
