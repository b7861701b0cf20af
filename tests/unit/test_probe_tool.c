/* test_probe_tool.c - ringtls-probe as an operator and as a script sees it. */
#include "config.h"
#include "support.h"

#include <ctype.h>
#include <jansson.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "pair.h"
#include "probe.h"
#include "refuse.h"

struct run {
	int status;
	char out[1 << 16], err[4096];
};

static void read_all(int fd, char *ret_text, size_t size)
{
	ssize_t got;
	size_t len = 0;

	while (len < size - 1 && (got = read(fd, ret_text + len, size - 1 - len)) > 0)
		len += (size_t)got;
	ret_text[len] = '\0';
	close(fd);
}

/* Runs the program with these arguments, in a child that made itself poorer first. */
static const struct run *run(int (*refuse)(void), const char *first, const char *second)
{
	static struct run result;
	char path[4096];
	const char *top = getenv("abs_top_builddir");
	int out[2], err[2];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/ringtls-probe", top ? top : ".");
	assert_int_equal(pipe(out), 0);
	assert_int_equal(pipe(err), 0);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], 1);
		dup2(err[1], 2);
		if (refuse && refuse())
			_exit(CHILD_CANNOT);
		execl(path, "ringtls-probe", first, second, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	close(err[1]);
	read_all(out[0], result.out, sizeof(result.out));
	read_all(err[0], result.err, sizeof(result.err));
	assert_int_equal(waitpid(pid, &result.status, 0), pid);
	result.status = WIFEXITED(result.status) ? WEXITSTATUS(result.status) : 255;
	return &result;
}

/* The report as JSON, or NULL where the child could not be made poorer. */
static json_t *report(int (*refuse)(void))
{
	const struct run *r = run(refuse, "--json", NULL);
	json_error_t error;
	json_t *json;

	if (r->status == CHILD_CANNOT)
		return NULL;
	assert_int_equal(r->status, 0);
	json = json_loads(r->out, JSON_REJECT_DUPLICATES, &error);
	if (!json)
		fail_msg("line %d: %s", error.line, error.text);
	return json;
}

static const char *get(json_t *json, const char *part, const char *name, const char *key)
{
	json_t *check = json_object_get(json_object_get(json, part), name);

	if (!check)
		fail_msg("%s.%s is not in the report", part, name);
	return json_string_value(json_object_get(check, key));
}

#define assert_check(json, id, key, value)                                                         \
	assert_string_equal(get(json, "checks", id, key), value)
#define assert_choice(json, what, key, value)                                                      \
	assert_string_equal(get(json, "verdict", what, key), value)

/* All blanks as one, since the text is folded. */
static void unfold(const char *text, char *ret_words)
{
	for (; *text; text++) {
		if (!isspace((unsigned char)*text))
			*ret_words++ = *text;
		else if (!isspace((unsigned char)text[1]))
			*ret_words++ = ' ';
	}
	*ret_words = '\0';
}

static void assert_said(const char *words, json_t *check, const char *status)
{
	const char *label = json_string_value(json_object_get(check, "label"));
	const char *error = json_string_value(json_object_get(check, "errno"));
	const char *mend = json_string_value(json_object_get(check, "mend"));
	char line[2048];

	snprintf(line, sizeof(line), "%s %s %s%s%s%s%s", label, status, error ? error : "",
		 error ? ": " : "", json_string_value(json_object_get(check, "text")),
		 mend ? " to mend: " : "", mend ? mend : "");
	if (!strstr(words, line))
		fail_msg("the text does not say: %s", line);
}

static void the_text_says_what_the_json_says(void **state)
{
	static char words[1 << 16];
	json_t *json, *check;
	const char *id;
	size_t checks = 0;

	(void)state;
	run(NULL, NULL, NULL); /* as root, the first to ask loads the module */
	unfold(run(NULL, NULL, NULL)->out, words);
	json = report(NULL);
	json_object_foreach(json_object_get(json, "checks"), id, check) {
		assert_said(words, check, json_string_value(json_object_get(check, "status")));
		checks++;
	}
	assert_true(checks > 20);
	json_decref(json);
}

static void every_check_has_the_same_keys(void **state)
{
	static const char *const keys[] = { "label", "status", "text", "reason", "errno", "mend" };
	json_t *json = report(NULL), *check;
	const char *id;

	(void)state;
	assert_int_equal(json_integer_value(json_object_get(json, "format")), 1);
	json_object_foreach(json_object_get(json, "checks"), id, check) {
		assert_int_equal(json_object_size(check), sizeof(keys) / sizeof(keys[0]));
		for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
			assert_non_null(json_object_get(check, keys[i]));
		assert_true(strlen(json_string_value(json_object_get(check, "text"))) > 0);
	}
	json_decref(json);
}

static void it_agrees_with_the_library(void **state)
{
	const struct ringtls__probe *probe = ringtls__probe_get();
	json_t *json = report(NULL);
	int keys = 0;

	(void)state;
	for (int i = 0; i < RINGTLS__PROBE_TX; i++)
		keys += probe->tx[i].result == 0;
	assert_check(json, "ktls.ulp", "status", probe->ulp ? "no" : "ok");
	assert_check(json, "openssl.hand-over", "status", "ok");
	assert_choice(json, "lane", "auto", "user");
	if (keys == RINGTLS__PROBE_TX)
		assert_choice(json, "lane", "reason", "user-lane-cheaper");
	json_decref(json);
}

static void a_connection_takes_the_lane_of_the_verdict(void **state)
{
	const struct pair_opts opts = { .lane = RINGTLS_LANE_AUTO };
	json_t *json = report(NULL);
	struct ringtls_conn_info info;
	struct pair pair;

	(void)state;
	pair_open(&pair, &opts);
	pair_handshake(&pair);
	info = pair_info(&pair);
	assert_choice(json, "lane", "auto", ringtls_lane_name(info.lane));
	if (info.reason != RINGTLS_REASON_NONE) {
		assert_choice(json, "lane", "reason", ringtls_reason_name(info.reason));
		if (info.reason_errno)
			assert_choice(json, "lane", "errno", strerrorname_np(info.reason_errno));
	}
	pair_close(&pair);
	json_decref(json);
}

static int forbid_rings(void)
{
	return refuse_syscall(SYS_io_uring_setup, EPERM);
}

static int hide_rings(void)
{
	return refuse_syscall(SYS_io_uring_setup, ENOSYS);
}

static int forbid_sockets(void)
{
	return refuse_syscall_with(SYS_socket, AF_INET, EACCES) ||
	       refuse_syscall_with(SYS_socket, AF_INET6, EACCES);
}

static void a_forbidden_ring_is_explained(void **state)
{
	json_t *json = report(forbid_rings);

	(void)state;
	need("seccomp", json);
	assert_check(json, "io_uring.ring", "status", "no");
	assert_check(json, "io_uring.ring", "reason", "io_uring-denied");
	assert_check(json, "io_uring.ring", "errno", "EPERM");
	assert_non_null(get(json, "checks", "io_uring.ring", "mend"));
	assert_check(json, "io_uring.op.send", "status", "unknown");
	assert_choice(json, "engine", "auto", "syscalls");
	assert_choice(json, "engine", "reason", "io_uring-denied");
	assert_choice(json, "engine", "errno", "EPERM");
	json_decref(json);
}

static void a_hidden_ring_is_an_absent_one(void **state)
{
	json_t *json = report(hide_rings);

	(void)state;
	need("seccomp", json);
	assert_check(json, "io_uring.ring", "reason", "io_uring-absent");
	assert_check(json, "io_uring.ring", "errno", "ENOSYS");
	assert_choice(json, "engine", "auto", "syscalls");
	json_decref(json);
}

static void without_a_loopback_kernel_tls_is_not_known(void **state)
{
	json_t *json = report(forbid_sockets);

	(void)state;
	need("seccomp", json);
	assert_check(json, "ktls.loopback", "status", "no");
	assert_check(json, "ktls.loopback", "errno", "EACCES");
	assert_check(json, "ktls.ulp", "status", "unknown");
	assert_check(json, "ktls.rekey", "status", "unknown");
	assert_choice(json, "lane", "auto", "user");
	assert_choice(json, "lane", "reason", "probe-failed");
	json_decref(json);
}

static void what_is_required_and_there_gives_success(void **state)
{
	const struct run *r = run(NULL, "--require", "machine.kernel,openssl.hand-over");

	(void)state;
	assert_int_equal(r->status, 0);
	assert_string_equal(r->err, "");
}

static void what_is_required_and_missing_is_named(void **state)
{
	const struct run *r = run(forbid_rings, "--require=openssl.version,uring", NULL);

	(void)state;
	need("seccomp", r->status != CHILD_CANNOT);
	assert_int_equal(r->status, 1);
	assert_string_equal(r->err, "ringtls-probe: required, and not here: uring\n");
	assert_true(strlen(r->out) > 0);
}

static void an_unknown_name_is_a_mistake_of_usage(void **state)
{
	(void)state;
	assert_int_equal(run(NULL, "--require=nonsense", NULL)->status, 64);
	assert_int_equal(run(NULL, "--nonsense", NULL)->status, 64);
	assert_int_equal(run(NULL, "nonsense", NULL)->status, 64);
}

static int write_to_a_full_device(void)
{
	return dup2(open("/dev/full", O_WRONLY), 1) < 0;
}

static void a_report_that_was_not_written_is_a_failure(void **state)
{
	(void)state;
	assert_int_equal(run(write_to_a_full_device, NULL, NULL)->status, 2);
	assert_int_equal(run(write_to_a_full_device, "--json", NULL)->status, 2);
}

static void here_the_kernel_lane_can_be_had(void **state)
{
	const struct run *r = run(NULL, "--require", "ktls,ktls.tls1.2.aes-128-gcm");

	(void)state;
	need("ktls", ringtls__probe_get()->ulp == 0);
	assert_int_equal(r->status, 0);
}

static void here_a_second_key_is_taken(void **state)
{
	(void)state;
	need("rekey", ringtls__probe_get()->rekey == 0);
	assert_int_equal(run(NULL, "--require", "rekey")->status, 0);
}

static void here_a_ring_is_taken(void **state)
{
	const struct run *r = run(NULL, "--require", "uring");

	(void)state;
	need("uring", r->status == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_text_says_what_the_json_says),
		cmocka_unit_test(every_check_has_the_same_keys),
		cmocka_unit_test(it_agrees_with_the_library),
		cmocka_unit_test(a_connection_takes_the_lane_of_the_verdict),
		cmocka_unit_test(a_forbidden_ring_is_explained),
		cmocka_unit_test(a_hidden_ring_is_an_absent_one),
		cmocka_unit_test(without_a_loopback_kernel_tls_is_not_known),
		cmocka_unit_test(what_is_required_and_there_gives_success),
		cmocka_unit_test(what_is_required_and_missing_is_named),
		cmocka_unit_test(an_unknown_name_is_a_mistake_of_usage),
		cmocka_unit_test(a_report_that_was_not_written_is_a_failure),
		cmocka_unit_test(here_the_kernel_lane_can_be_had),
		cmocka_unit_test(here_a_second_key_is_taken),
		cmocka_unit_test(here_a_ring_is_taken),
	};

	return cmocka_run_group_tests_name("probe_tool", tests, NULL, NULL);
}
