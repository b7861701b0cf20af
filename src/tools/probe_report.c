/* probe_report.c - see probe_report.h. */
#include "config.h"
#include "probe_report.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>
#include <ringtls/ringtls.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const status_names[] = {
	[PROBE_OK] = "ok",
	[PROBE_NO] = "no",
	[PROBE_UNKNOWN] = "unknown",
};

static const struct {
	const char *id, *title;
} sections[] = {
	{ "machine", "Machine" },
	{ "io_uring", "io_uring" },
	{ "ktls", "Kernel TLS" },
	{ "openssl", "OpenSSL" },
};

struct probe_check *probe_add(struct probe_report *report, enum probe_status status,
			      const char *id, const char *label)
{
	struct probe_check *check = &report->checks[report->count++];

	assert(report->count <= PROBE_CHECKS_MAX);
	memset(check, 0, sizeof(*check));
	check->status = status;
	snprintf(check->id, sizeof(check->id), "%s", id);
	snprintf(check->label, sizeof(check->label), "%s", label);
	return check;
}

void probe_say(struct probe_check *check, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(check->text, sizeof(check->text), format, args);
	va_end(args);
}

void probe_mend(struct probe_check *check, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(check->mend, sizeof(check->mend), format, args);
	va_end(args);
}

void probe_blame(struct probe_check *check, uint32_t reason, int error)
{
	check->reason = reason;
	check->error = -error;
}

const struct probe_check *probe_find(const struct probe_report *report, const char *id)
{
	for (size_t i = 0; i < report->count; i++)
		if (!strcmp(report->checks[i].id, id))
			return &report->checks[i];
	return NULL;
}

/* ---- For an operator --------------------------------------------------- */

#define INDENT 38
#define WIDTH  110

/* Words from column INDENT on, folded at WIDTH. The cursor is at INDENT. */
static void print_folded(const char *text)
{
	size_t column = INDENT;

	while (*text) {
		size_t word = strcspn(text, " ");

		if (column > INDENT && column + 1 + word > WIDTH) {
			printf("\n%*s", INDENT, "");
			column = INDENT;
		} else if (column > INDENT) {
			putchar(' ');
			column++;
		}
		fwrite(text, 1, word, stdout);
		column += word;
		text += word;
		text += *text == ' ';
	}
	putchar('\n');
}

/* "ENOENT: the sentence"; a line of its own for what would mend it. */
static void print_line(const char *label, const char *status, int error, const char *text,
		       const char *mend)
{
	char line[1024];
	const char *name = error ? strerrorname_np(error) : NULL;

	snprintf(line, sizeof(line), "%s%s%s", name ? name : "", name ? ": " : "", text);
	printf("  %-26s %-8s ", label, status);
	print_folded(line);
	if (*mend) {
		snprintf(line, sizeof(line), "to mend: %s", mend);
		printf("%*s", INDENT, "");
		print_folded(line);
	}
}

static bool is_in(const struct probe_check *check, const char *section)
{
	size_t len = strlen(section);

	return !strncmp(check->id, section, len) && check->id[len] == '.';
}

static void print_choice(const char *label, const struct probe_choice *choice)
{
	print_line(label, choice->name, choice->error, choice->text, "");
}

int probe_print_text(const struct probe_report *report)
{
	printf("ringtls-probe %s\n", ringtls_version());
	for (size_t s = 0; s < COUNT(sections); s++) {
		printf("\n%s\n", sections[s].title);
		for (size_t i = 0; i < report->count; i++) {
			const struct probe_check *check = &report->checks[i];

			if (is_in(check, sections[s].id))
				print_line(check->label, status_names[check->status],
					   check->error, check->text, check->mend);
		}
	}
	printf("\nVerdict\n");
	print_choice("lane \"auto\" takes", &report->lane);
	print_choice("engine \"auto\" takes", &report->engine);
	return fflush(stdout) || ferror(stdout) ? -1 : 0;
}

/* ---- For a program ----------------------------------------------------- */

static const char *reason_or_null(uint32_t reason)
{
	return reason == RINGTLS_REASON_NONE ? NULL : ringtls_reason_name(reason);
}

static const char *errno_or_null(int error)
{
	return error ? strerrorname_np(error) : NULL;
}

static json_t *check_json(const struct probe_check *check)
{
	return json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s?}", "label", check->label, "status",
			 status_names[check->status], "text", check->text, "reason",
			 reason_or_null(check->reason), "errno", errno_or_null(check->error),
			 "mend", *check->mend ? check->mend : NULL);
}

static json_t *choice_json(const struct probe_choice *choice)
{
	return json_pack("{s:s, s:s?, s:s?, s:s}", "auto", choice->name, "reason",
			 reason_or_null(choice->reason), "errno", errno_or_null(choice->error),
			 "text", choice->text);
}

static json_t *report_json(const struct probe_report *report)
{
	json_t *checks = json_object();

	for (size_t i = 0; i < report->count; i++)
		if (json_object_set_new(checks, report->checks[i].id,
					check_json(&report->checks[i])) < 0) {
			json_decref(checks);
			return NULL;
		}
	return json_pack("{s:i, s:s, s:o, s:{s:o, s:o}}", "format", 1, "version",
			 ringtls_version(), "checks", checks, "verdict", "lane",
			 choice_json(&report->lane), "engine", choice_json(&report->engine));
}

int probe_print_json(const struct probe_report *report)
{
	json_t *json = report_json(report);
	int res = -1;

	if (json && !json_dumpf(json, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER))
		res = putchar('\n') == EOF || fflush(stdout) || ferror(stdout) ? -1 : 0;
	json_decref(json);
	return res;
}
