/* probe_verdict.c - which lane and which engine "auto" takes here. */
#include "config.h"
#include "probe_checks.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <ringtls/ringtls.h>
#include "ossl.h"
#include "probe.h"

/* Adds ", TLS 1.3 AES-128-CCM" for each key that the kernel does not take; how many. */
static size_t list_missing(const struct ringtls__probe *probe, char *ret_list, size_t size,
			   uint32_t *ret_reason, int *ret_error)
{
	size_t missing = 0, at = 0;

	ret_list[0] = '\0';
	for (size_t i = 0; i < RINGTLS__PROBE_TX; i++) {
		const struct ringtls__probe_tx *tx = &probe->tx[i];
		uint32_t reason;
		int error = ringtls__probe_tx(probe, tx->version, tx->cipher, &reason);

		if (!error)
			continue;
		if (!missing++) {
			*ret_reason = reason;
			*ret_error = -error;
		}
		at += (size_t)snprintf(ret_list + at, size - at, "%sTLS 1.%d %s",
				       at ? ", " : "", (tx->version & 0xff) - 1, tx->name);
	}
	return missing;
}

/* What keeps every connection out of the kernel lane, in the order of api.c. */
static void find_obstacle(struct probe_choice *lane, size_t missing, uint32_t reason, int error)
{
	lane->reason = ringtls__ossl_selftest();
	if (lane->reason != RINGTLS_REASON_NONE)
		return;
	if (EVP_default_properties_is_fips_enabled(NULL)) {
		lane->reason = RINGTLS_REASON_FIPS;
	} else if (missing == RINGTLS__PROBE_TX) {
		lane->reason = reason;
		lane->error = error;
	}
}

static void judge_lane(struct probe_choice *lane)
{
	uint32_t reason = RINGTLS_REASON_NONE;
	char list[RINGTLS__PROBE_TX * 32];
	int error = 0;
	size_t missing =
		list_missing(ringtls__probe_get(), list, sizeof(list), &reason, &error);
	bool keys = ringtls__ossl_selftest() == RINGTLS_REASON_NONE;

	find_obstacle(lane, missing, reason, error);
	lane->name = ringtls_lane_name(keys ? RINGTLS_LANE_USER : RINGTLS_LANE_OPENSSL);
	if (lane->reason == RINGTLS_REASON_NONE)
		lane->reason = RINGTLS_REASON_CHEAPER;
	if (lane->reason == RINGTLS_REASON_CHEAPER && missing)
		snprintf(lane->text, sizeof(lane->text), "the kernel lane can't have %s", list);
	else
		snprintf(lane->text, sizeof(lane->text), "%s", ringtls_reason_text(lane->reason));
}

static void judge_engine(struct probe_choice *choice)
{
	struct ringtls_engine_info info = { .size = sizeof(info) };
	struct ringtls_engine *engine;
	int error = ringtls_engine_new(&engine, NULL);

	if (error) {
		choice->name = "none";
		choice->error = error < 0 && error >= -4095 ? -error : 0;
		snprintf(choice->text, sizeof(choice->text), "no engine can be made: %s",
			 ringtls_strerror(error));
		return;
	}
	ringtls_engine_get_info(engine, &info);
	choice->name = ringtls_backend_name(info.backend);
	choice->reason = info.reason;
	choice->error = info.reason_errno;
	snprintf(choice->text, sizeof(choice->text), "%s",
		 info.reason == RINGTLS_REASON_NONE ? "operations go through a ring" :
						      ringtls_reason_text(info.reason));
	ringtls_engine_free(engine);
}

void probe_judge(struct probe_report *report)
{
	memset(&report->lane, 0, sizeof(report->lane));
	memset(&report->engine, 0, sizeof(report->engine));
	judge_lane(&report->lane);
	judge_engine(&report->engine);
}
