/*
 * probe_report.h - what ringtls-probe found out: a list of checks and a verdict,
 * printed for an operator or as JSON.
 */
#ifndef RINGTLS_PROBE_REPORT_H
#define RINGTLS_PROBE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum probe_status {
	PROBE_OK,
	PROBE_NO,
	PROBE_UNKNOWN, /* it could not be asked */
};

struct probe_check {
	char id[48];    /* stable: "ktls.rekey"; what is before the dot is the section */
	char label[32]; /* "second key (rekey)" */
	enum probe_status status;
	uint32_t reason; /* enum ringtls_reason */
	int error;       /* the errno behind it, or 0 */
	char text[256];  /* what was found */
	char mend[384];  /* what would mend it, or empty */
};

/* What "auto" takes, and why it isn't the best there is. */
struct probe_choice {
	const char *name; /* "kernel", "uring" */
	uint32_t reason;
	int error;
	char text[512];
};

#define PROBE_CHECKS_MAX 64

struct probe_report {
	struct probe_check checks[PROBE_CHECKS_MAX];
	size_t count;
	struct probe_choice lane, engine;
};

/* Adds a check; what is said about it follows. */
struct probe_check *probe_add(struct probe_report *report, enum probe_status status,
			      const char *id, const char *label);
void probe_say(struct probe_check *check, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void probe_mend(struct probe_check *check, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* error is 0 or negated, as the library gives it. */
void probe_blame(struct probe_check *check, uint32_t reason, int error);

const struct probe_check *probe_find(const struct probe_report *report, const char *id);

/* 0, or -1 when it could not be written. */
int probe_print_text(const struct probe_report *report);
int probe_print_json(const struct probe_report *report);

#endif
