/* bench.c - ringtls-bench: its options. The work is in bench_run.c. */
#include "config.h"
#include "bench.h"

#include <argp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define EXIT_USAGE 2
#define MIB	   (1u << 20)

enum option_key {
	OPT_CASE = 256,
	OPT_METHOD,
	OPT_JSON,
	OPT_FOLDER,
	OPT_TLS,
	OPT_CIPHER,
	OPT_ROUNDS,
	OPT_MIB,
	OPT_MS,
	OPT_TURNS,
	OPT_SNDBUF,
	OPT_ALIGNED,
	OPT_NAGLE,
	OPT_UNPINNED,
	OPT_LIST,
};

static const struct argp_option option_list[] = {
	{ "case", OPT_CASE, "PATTERN,...", 0, "only these cases, such as 'write-*' (default: all)",
	 0},
	{ "method", OPT_METHOD, "PATTERN,...", 0, "only these methods (default: all)", 0 },
	{ "json", OPT_JSON, "FILE", 0, "write all figures to FILE as well", 0 },
	{ "dir", OPT_FOLDER, "DIR", 0, "make the files that are sent here (default: /var/tmp)", 0 },
	{ "tls", OPT_TLS, "VERSION", 0, "TLS 1.2 or 1.3 (default: 1.3)", 0 },
	{ "cipher", OPT_CIPHER, "NAME", 0,
	 "by OpenSSL's name (default: AES-128-GCM; in TLS 1.2 with ECDHE and ECDSA)", 0},
	{ "rounds", OPT_ROUNDS, "N", 0, "samples of each method and case (default: 11)", 0 },
	{ "turns", OPT_TURNS, "N", 0, "make all connections anew so many times (default: 3)", 0 },
	{ "mib", OPT_MIB, "N", 0, "MiB that a sample sends, about (default: 32)", 0 },
	{ "ms", OPT_MS, "N", 0, "milliseconds of a sample of latency (default: 500)", 0 },
	{ "sndbuf", OPT_SNDBUF, "BYTES", 0, "SO_SNDBUF (default: as the system has it)", 0 },
	{ "aligned", OPT_ALIGNED, NULL, 0,
	 "every write begins where a page does, in every round; else it moves through the page", 0},
	{ "nagle", OPT_NAGLE, NULL, 0, "leave out TCP_NODELAY", 0 },
	{ "unpinned", OPT_UNPINNED, NULL, 0, "don't bind sender and receiver to a processor each",
	 0},
	{ "list", OPT_LIST, NULL, 0, "print the cases and methods, and end", 0 },
	{ 0 },
};

static unsigned parse_number(struct argp_state *state, const char *what, const char *text,
			     unsigned least, unsigned most)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n < least || n > most)
		argp_error(state, "%s must be a number from %u to %u, not %s", what, least, most,
			   text);
	return (unsigned)n;
}

static void parse_tls(struct argp_state *state, const char *text, struct bench_options *options)
{
	if (!strcmp(text, "1.2"))
		options->tls = TLS1_2_VERSION;
	else if (!strcmp(text, "1.3"))
		options->tls = TLS1_3_VERSION;
	else
		argp_error(state, "unknown TLS version: %s (1.2 or 1.3)", text);
}

static bool any_case(const char *patterns)
{
	for (size_t i = 0; i < bench_case_count; i++)
		if (bench_matches(patterns, bench_cases[i].name))
			return true;
	return false;
}

static bool any_method(const char *patterns)
{
	for (size_t i = 0; i < bench_method_count; i++)
		if (bench_matches(patterns, bench_methods[i]->name))
			return true;
	return false;
}

static error_t finish(struct argp_state *state, struct bench_options *options)
{
	if (!any_case(options->cases))
		argp_error(state, "no case is named %s (see --list)", options->cases);
	if (!any_method(options->methods))
		argp_error(state, "no method is named %s (see --list)", options->methods);
	if (!options->cipher)
		options->cipher = options->tls == TLS1_3_VERSION ? "TLS_AES_128_GCM_SHA256"
								 : "ECDHE-ECDSA-AES128-GCM-SHA256";
	return 0;
}

static error_t parse_sample(int key, const char *arg, struct argp_state *state)
{
	struct bench_options *options = state->input;

	switch (key) {
	case OPT_ROUNDS:
		options->rounds = parse_number(state, "the number of rounds", arg, 1, 10000);
		return 0;
	case OPT_TURNS:
		options->turns = parse_number(state, "the number of turns", arg, 1, 10000);
		return 0;
	case OPT_MIB:
		options->bytes = (size_t)parse_number(state, "MiB", arg, 1, 65536) * MIB;
		return 0;
	case OPT_MS:
		options->ms = parse_number(state, "milliseconds", arg, 1, 3600000);
		return 0;
	case OPT_SNDBUF:
		options->sndbuf = (int)parse_number(state, "SO_SNDBUF", arg, 1, 1u << 30);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct bench_options *options = state->input;

	switch (key) {
	case OPT_CASE:
		options->cases = arg;
		return 0;
	case OPT_METHOD:
		options->methods = arg;
		return 0;
	case OPT_JSON:
		options->json = arg;
		return 0;
	case OPT_FOLDER:
		options->folder = arg;
		return 0;
	case OPT_TLS:
		parse_tls(state, arg, options);
		return 0;
	case OPT_CIPHER:
		options->cipher = arg;
		return 0;
	case OPT_ALIGNED:
		options->aligned = true;
		return 0;
	case OPT_NAGLE:
		options->nagle = true;
		return 0;
	case OPT_UNPINNED:
		options->pinned = false;
		return 0;
	case OPT_LIST:
		options->list = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "there are no arguments, only options: %s", arg);
		return 0;
	case ARGP_KEY_END:
		return finish(state, options);
	default:
		return parse_sample(key, arg, state);
	}
}

static void print_lists(void)
{
	printf("cases:\n");
	for (size_t i = 0; i < bench_case_count; i++)
		printf("  %-18s %s\n", bench_cases[i].name, bench_cases[i].text);
	printf("methods:\n");
	for (size_t i = 0; i < bench_method_count; i++)
		printf("  %-18s %s\n", bench_methods[i]->name, bench_methods[i]->text);
}

static void print_version(FILE *stream, struct argp_state *state)
{
	(void)state;
	fprintf(stream, "ringtls-bench %s\n", ringtls_version());
}

/* All methods hold their connections at the same time. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = option_list,
		.parser = parse,
		.doc = "Compare ringtls with the other ways to send over TLS, on this machine.",
	};
	struct bench_options options = {
		.folder = "/var/tmp",
		.tls = TLS1_3_VERSION,
		.rounds = 11,
		.turns = 3,
		.bytes = 32 * MIB,
		.ms = 500,
		.pinned = true,
	};

	argp_err_exit_status = EXIT_USAGE;
	argp_program_version_hook = print_version;
	argp_parse(&argp, argc, argv, 0, NULL, &options);
	if (options.list) {
		print_lists();
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	raise_limit();
	options.alone = bench_is_alone();
	bench_pin(&options, 0);
	return bench_run(&options) ? 0 : 1;
}
