/* test_error.c - names and sentences. */
#include "support.h"

#include <errno.h>
#include <ringtls/ringtls.h>

static void every_reason_has_a_name_and_a_sentence(void **state)
{
	(void)state;
#define CHECK(name, code, text)                                                                    \
	assert_string_equal(ringtls_reason_name(RINGTLS_REASON_##name), code);                     \
	assert_string_equal(ringtls_reason_text(RINGTLS_REASON_##name), text);
	RINGTLS_REASON_MAP(CHECK)
#undef CHECK
}

static void a_value_out_of_range_is_unknown(void **state)
{
	(void)state;
	assert_string_equal(ringtls_reason_name(99999), "unknown");
	assert_string_equal(ringtls_lane_name(99999), "unknown");
	assert_string_equal(ringtls_backend_name(99999), "unknown");
	assert_string_equal(ringtls_strerror(-99999), "unknown error");
	assert_string_equal(ringtls_strerror(1), "unknown error");
}

static void errors_have_sentences(void **state)
{
	(void)state;
	assert_string_equal(ringtls_strerror(RINGTLS_E_TLS), "OpenSSL failed: see its error queue");
	assert_string_equal(ringtls_strerror(-EPIPE), "Broken pipe");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_reason_has_a_name_and_a_sentence),
		cmocka_unit_test(a_value_out_of_range_is_unknown),
		cmocka_unit_test(errors_have_sentences),
	};

	return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
