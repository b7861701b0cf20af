/* serve.c - ringtls-serve: its options. The work is in serve_server.c. */
#include "config.h"
#include "serve.h"

#include <argp.h>
#include <arpa/inet.h>
#include <errno.h>
#include <pwd.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serve_server.h"

#define THREADS_MAX 1024
#define FILE_CACHE_MAX_S 3600
#define EXIT_USAGE  2

enum option_key {
	OPT_ROOT = 256,
	OPT_ADDRESS,
	OPT_PORT,
	OPT_CERT,
	OPT_KEY,
	OPT_LANE,
	OPT_ENGINE,
	OPT_THREADS,
	OPT_TLS,
	OPT_CIPHERS,
	OPT_RENEGOTIATION,
	OPT_PREFER_KERNEL,
	OPT_PROMOTE_AFTER,
	OPT_FILE_CACHE,
	OPT_STATS,
	OPT_USER,
	OPT_SANDBOX,
};

static const struct argp_option option_list[] = {
	{ "root", OPT_ROOT, "DIR", 0, "serve the files beneath DIR (default: .)", 0 },
	{ "address", OPT_ADDRESS, "ADDRESS", 0,
	  "listen on this IPv4 or IPv6 address (default: 127.0.0.1)", 0 },
	{ "port", OPT_PORT, "PORT", 0, "listen on this port; 0 picks one (default: 8443)", 0 },
	{ "cert", OPT_CERT, "FILE", 0,
	  "certificate and its chain, PEM (default: a self-signed one is made)", 0 },
	{ "key", OPT_KEY, "FILE", 0, "its private key, PEM", 0 },
	{ "lane", OPT_LANE, "LANE", 0,
	  "who protects the records: auto, kernel, user or openssl (default: auto)", 0 },
	{ "prefer-kernel", OPT_PREFER_KERNEL, NULL, 0,
	  "the lane auto takes the kernel's TLS where that can be had", 0 },
	{ "promote-after", OPT_PROMOTE_AFTER, "BYTES", 0,
	  "the lane auto takes it when a connection has sent so many bytes", 0 },
	{ "engine", OPT_ENGINE, "ENGINE", 0,
	  "how they reach the kernel: auto, uring or syscalls (default: auto)", 0 },
	{ "threads", OPT_THREADS, "N", 0, "threads (default: one per core)", 0 },
	{ "tls", OPT_TLS, "VERSION", 0, "only TLS 1.2 or only 1.3 (default: both)", 0 },
	{ "ciphers", OPT_CIPHERS, "LIST", 0,
	  "ciphers, divided by colons; TLS_* are TLS 1.3 suites, others are for TLS 1.2", 0 },
	{ "renegotiation", OPT_RENEGOTIATION, "POLICY", 0,
	  "refuse or serve what a TLS 1.2 client asks for (default: refuse)", 0 },
	{ "file-cache", OPT_FILE_CACHE, "SECONDS", 0,
	  "keep files open so long: what is replaced is served as it was; 0: don't (default: 1)", 0 },
	{ "stats", OPT_STATS, NULL, 0, "at the end, print each engine's counters on stderr", 0 },
	{ "user", OPT_USER, "NAME", 0,
	  "become this user when the socket is bound and the key is read; for root", 0 },
	{ "sandbox", OPT_SANDBOX, "POLICY", 0,
	  "give up what serving does not need: auto, require or off (default: auto)", 0 },
	{ 0 },
};

/* The value whose name this is; names are those of the library's logs. */
static uint32_t find_name(struct argp_state *state, const char *what, const char *name,
			  const char *(*name_of)(uint32_t), uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (!strcmp(name_of(i), name))
			return i;
	argp_error(state, "unknown %s: %s", what, name);
	return 0;
}

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

static void parse_address(struct argp_state *state, const char *text, struct serve_options *options)
{
	struct in6_addr any;

	if (inet_pton(AF_INET, text, &any) != 1 && inet_pton(AF_INET6, text, &any) != 1)
		argp_error(state, "not an IPv4 or IPv6 address: %s", text);
	options->address = text;
}

static void parse_tls(struct argp_state *state, const char *text, struct serve_options *options)
{
	if (!strcmp(text, "1.2"))
		options->tls = TLS1_2_VERSION;
	else if (!strcmp(text, "1.3"))
		options->tls = TLS1_3_VERSION;
	else
		argp_error(state, "unknown TLS version: %s (1.2 or 1.3)", text);
}

static void parse_policy(struct argp_state *state, const char *text, struct serve_options *options)
{
	if (!strcmp(text, "refuse"))
		options->renegotiation = RINGTLS_RENEG_REFUSE;
	else if (!strcmp(text, "serve"))
		options->renegotiation = RINGTLS_RENEG_SERVE;
	else
		argp_error(state, "unknown policy: %s (refuse or serve)", text);
}

static void parse_user(struct argp_state *state, const char *name, struct serve_options *options)
{
	const struct passwd *user = getpwnam(name);

	if (!user || !user->pw_uid || geteuid()) {
		argp_error(state, "%s: %s", name,
			   !user     ? "there is no such user"
			   : geteuid() ? "only root can become another user"
				       : "that is root, who can't give up anything");
		return;
	}
	options->change_user = true;
	options->uid = user->pw_uid;
	options->gid = user->pw_gid;
}

static void parse_promote_after(struct argp_state *state, const char *text,
				struct serve_options *options)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || !n)
		argp_error(state, "--promote-after must be a number of bytes, not %s", text);
	options->promote_after = n;
}

static void parse_sandbox(struct argp_state *state, const char *text, struct serve_options *options)
{
	if (!strcmp(text, "auto"))
		options->sandbox = SERVE_SANDBOX_AUTO;
	else if (!strcmp(text, "require"))
		options->sandbox = SERVE_SANDBOX_REQUIRE;
	else if (!strcmp(text, "off"))
		options->sandbox = SERVE_SANDBOX_OFF;
	else
		argp_error(state, "unknown policy: %s (auto, require or off)", text);
}

static error_t finish(struct argp_state *state, const struct serve_options *options)
{
	if (!options->cert != !options->key)
		argp_error(state, "--cert and --key are given together");
	if (options->promote_after && options->lane != RINGTLS_LANE_AUTO)
		argp_error(state, "with --promote-after the lane must be auto");
	/* Else every single connection would be refused. */
	if (options->renegotiation == RINGTLS_RENEG_SERVE &&
	    (options->lane == RINGTLS_LANE_KERNEL || options->lane == RINGTLS_LANE_USER))
		argp_error(state, "to serve renegotiations, the lane must be auto or openssl");
	return 0;
}

static error_t parse_more(int key, char *arg, struct argp_state *state)
{
	struct serve_options *options = state->input;

	switch (key) {
	case OPT_USER:
		parse_user(state, arg, options);
		return 0;
	case OPT_SANDBOX:
		parse_sandbox(state, arg, options);
		return 0;
	case OPT_PREFER_KERNEL:
		options->prefer_kernel = true;
		return 0;
	case OPT_PROMOTE_AFTER:
		parse_promote_after(state, arg, options);
		return 0;
	case OPT_FILE_CACHE:
		options->file_cache_s =
			parse_number(state, "the time to keep files", arg, 0, FILE_CACHE_MAX_S);
		return 0;
	case OPT_STATS:
		options->stats = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "there are no arguments, only options: %s", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct serve_options *options = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &options->bounds;
		return 0;
	case OPT_ROOT:
		options->root = arg;
		return 0;
	case OPT_ADDRESS:
		parse_address(state, arg, options);
		return 0;
	case OPT_PORT:
		options->port = (uint16_t)parse_number(state, "the port", arg, 0, UINT16_MAX);
		return 0;
	case OPT_CERT:
		options->cert = arg;
		return 0;
	case OPT_KEY:
		options->key = arg;
		return 0;
	case OPT_LANE:
		options->lane = find_name(state, "lane", arg, ringtls_lane_name,
					  RINGTLS_LANE_OPENSSL + 1);
		return 0;
	case OPT_ENGINE:
		options->backend = find_name(state, "engine", arg, ringtls_backend_name,
					     RINGTLS_BACKEND_SYSCALLS + 1);
		return 0;
	case OPT_THREADS:
		options->threads = parse_number(state, "the number of threads", arg, 1,
						THREADS_MAX);
		return 0;
	case OPT_TLS:
		parse_tls(state, arg, options);
		return 0;
	case OPT_CIPHERS:
		options->ciphers = arg;
		return 0;
	case OPT_RENEGOTIATION:
		parse_policy(state, arg, options);
		return 0;
	case ARGP_KEY_END:
		return finish(state, options);
	default:
		return parse_more(key, arg, state);
	}
}

/* Those that this process may use. */
static unsigned count_cores(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return (unsigned)CPU_COUNT(&set);
}

static void print_version(FILE *stream, struct argp_state *state)
{
	(void)state;
	fprintf(stream, "ringtls-serve %s\n", ringtls_version());
}

int main(int argc, char **argv)
{
	static const struct argp_child children[] = { { &serve_bounds_argp, 0, NULL, 0 }, { 0 } };
	static const struct argp argp = {
		.options = option_list,
		.parser = parse,
		.children = children,
		.doc = "Serve files over HTTPS, with the write path of ringtls.",
	};
	struct serve_options options = {
		.root = ".",
		.address = "127.0.0.1",
		.port = 8443,
		.renegotiation = RINGTLS_RENEG_REFUSE,
		.threads = count_cores(),
		.file_cache_s = 1,
	};

	serve_bounds_init(&options.bounds);
	argp_err_exit_status = EXIT_USAGE;
	argp_program_version_hook = print_version;
	argp_parse(&argp, argc, argv, 0, NULL, &options);
	return serve_run(&options);
}
