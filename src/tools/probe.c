/*
 * probe.c - ringtls-probe: what can this machine do for ringtls, line by line, and
 * what would mend what it can't. See ringtls-probe(1).
 */
#include "config.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include <ringtls/ringtls.h>
#include "probe_checks.h"

#define EXIT_LACKING 1 /* something that was required is not there */
#define EXIT_FAILED  2 /* the report could not be written */

struct options {
	bool json;
	char *require;
};

static void print_version(FILE *stream, struct argp_state *state)
{
	(void)state;
	fprintf(stream, "ringtls-probe %s\n", ringtls_version());
}

static error_t take_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'j':
		options->json = true;
		return 0;
	case 'r':
		options->require = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument: %s", arg);
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option option_table[] = {
	{ "json", 'j', NULL, 0, "Print the report as JSON", 0 },
	{ "require", 'r', "NAME[,NAME...]", 0,
	  "Exit with 1 unless all of these are there: uring, ktls, rekey, or the name of a check "
	  "as the JSON has it",
	  0 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};

static const struct argp parser = {
	.options = option_table,
	.parser = take_option,
	.doc = "Tells what this machine can do for ringtls: io_uring, kernel TLS for each cipher, "
	       "and the hand-over of OpenSSL's keys; what it can't do, why, and what would mend "
	       "it.",
};

void probe_check_machine(struct probe_report *report)
{
	struct probe_check *check = probe_add(report, PROBE_OK, "machine.kernel", "kernel");
	struct utsname name;

	uname(&name);
	probe_say(check, "%s %s %s (for information only)",
		  name.sysname, name.release, name.machine);
}

/* 1: it is there, 0: it is not, -1: there is no such name. */
static int has(const struct probe_report *report, const char *name)
{
	const struct probe_check *check;

	if (!strcmp(name, "ktls")) /* nothing stands in its way but its cost */
		return report->lane.reason == RINGTLS_REASON_CHEAPER;
	if (!strcmp(name, "uring"))
		name = "io_uring.ring";
	if (!strcmp(name, "rekey"))
		name = "ktls.rekey";
	check = probe_find(report, name);
	return check ? check->status == PROBE_OK : -1;
}

/* 0 when nothing is missing, else the exit status. */
static int check_required(const struct probe_report *report, char *names)
{
	int res, status = 0;
	char *rest;

	for (char *name = strtok_r(names, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
		res = has(report, name);
		if (res < 0) {
			fprintf(stderr, "ringtls-probe: no check is named %s\n", name);
			return argp_err_exit_status;
		}
		if (!res) {
			fprintf(stderr, "ringtls-probe: required, and not here: %s\n", name);
			status = EXIT_LACKING;
		}
	}
	return status;
}

int main(int argc, char **argv)
{
	struct options options = { .json = false };
	struct probe_report report = { .count = 0 };

	argp_program_version_hook = print_version;
	argp_parse(&parser, argc, argv, 0, NULL, &options);

	probe_check_machine(&report);
	probe_check_uring(&report);
	probe_check_ktls(&report);
	probe_check_openssl(&report);
	probe_judge(&report);
	if (options.json ? probe_print_json(&report) : probe_print_text(&report)) {
		perror("ringtls-probe: the report could not be written");
		return EXIT_FAILED;
	}
	return options.require ? check_required(&report, options.require) : EXIT_SUCCESS;
}
