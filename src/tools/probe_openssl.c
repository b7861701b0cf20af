/* probe_openssl.c - does OpenSSL hand over its keys? */
#include "config.h"
#include "probe_checks.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/opensslv.h>
#include <stdbool.h>
#include <string.h>

#include <ringtls/ringtls.h>
#include "keylog.h"
#include "ossl.h"

static void say_version(struct probe_report *report)
{
	const char *running = OpenSSL_version(OPENSSL_VERSION);
	struct probe_check *check =
		probe_add(report, PROBE_OK, "openssl.version", "version");

	if (!strcmp(running, OPENSSL_VERSION_TEXT))
		probe_say(check, "%s", running);
	else
		probe_say(check, "%s (built against %s)", running, OPENSSL_VERSION_TEXT);
}

static void say_build(struct probe_report *report, uint32_t reason)
{
	bool without = reason == RINGTLS_REASON_BUILD;
	struct probe_check *check = probe_add(report,
					      without			       ? PROBE_NO :
					      reason == RINGTLS_REASON_NONE ? PROBE_OK :
									       PROBE_UNKNOWN,
					      "openssl.ktls", "built with kernel TLS");

	if (without) {
		probe_blame(check, reason, 0);
		probe_say(check, "%s", ringtls_reason_text(reason));
		probe_mend(check, "an OpenSSL that was configured with enable-ktls");
	} else if (reason == RINGTLS_REASON_NONE) {
		probe_say(check, "it offers its keys");
	} else {
		probe_say(check, "the self-test failed before that could be seen");
	}
}

static void say_hand_over(struct probe_report *report, uint32_t reason)
{
	struct probe_check *check = probe_add(report,
					      reason == RINGTLS_REASON_NONE  ? PROBE_OK :
					      reason == RINGTLS_REASON_BUILD ? PROBE_UNKNOWN :
									       PROBE_NO,
					      "openssl.hand-over", "hand-over of keys");

	if (reason == RINGTLS_REASON_NONE) {
		probe_say(check, "a connection in memory, sealed with the key that OpenSSL gave, "
				 "was read by its peer");
	} else if (reason == RINGTLS_REASON_BUILD) {
		probe_say(check, "there is nothing to hand over");
	} else {
		probe_blame(check, reason, 0);
		probe_say(check, "%s", ringtls_reason_text(reason));
		probe_mend(check, "another release of OpenSSL 3; please report this one's version");
	}
}

static void say_next_keys(struct probe_report *report, uint32_t reason)
{
	struct probe_check *check =
		probe_add(report, reason == RINGTLS_REASON_NONE ? PROBE_OK : PROBE_UNKNOWN,
			  "openssl.next-keys", "next keys (KeyUpdate)");

	if (reason != RINGTLS_REASON_NONE)
		probe_say(check, "there is no first key");
	else if (ringtls__ossl_offers_next_keys())
		probe_say(check, "it offers them as it did the first");
	else
		probe_say(check, "it offers the first only; the next are derived, for programs "
				 "that call ringtls_ctx_prepare()");
}

static void say_fips(struct probe_report *report)
{
	bool fips = EVP_default_properties_is_fips_enabled(NULL);
	struct probe_check *check = probe_add(report, fips ? PROBE_NO : PROBE_OK, "openssl.fips",
					      "free to leave FIPS");

	if (!fips) {
		probe_say(check, "the default properties don't ask for FIPS");
		return;
	}
	probe_blame(check, RINGTLS_REASON_FIPS, 0);
	probe_say(check, "the default properties ask for FIPS, and %s",
		  ringtls_reason_text(RINGTLS_REASON_FIPS));
	probe_mend(check, "where the rules allow the kernel's ciphers, name the kernel lane");
}

void probe_check_openssl(struct probe_report *report)
{
	uint32_t reason = ringtls__ossl_selftest();

	say_version(report);
	say_build(report, reason);
	say_hand_over(report, reason);
	say_next_keys(report, reason);
	say_fips(report);
}
