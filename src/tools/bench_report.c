/* bench_report.c - a table on standard output, and the same as JSON. */
#include "config.h"
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <jansson.h>

#define MIB	1048576.0
#define AGAINST "ssl-write"

/* What a sample says, one number each. */
enum value {
	MB_S,
	CPU_NS_PER_BYTE,
	CALLS_PER_MIB,
	TRANSMITS_PER_MIB,
	OPS_PER_MIB,
	SHORTS_PER_MIB,
	ALLOCATIONS_PER_WRITE,
	P50_US,
	P99_US,
	P999_US,
	VALUES,
};

static const struct {
	const char *key;
	const char *ratio; /* its name where it is divided by the sample of AGAINST */
} values[VALUES] = {
	[MB_S] = { "mb_s", "speed_ratio" },
	[CPU_NS_PER_BYTE] = { "cpu_ns_per_byte", "cpu_ratio" },
	[CALLS_PER_MIB] = { "calls_per_mib", NULL },
	[TRANSMITS_PER_MIB] = { "transmits_per_mib", NULL },
	[OPS_PER_MIB] = { "ops_per_mib", NULL },
	[SHORTS_PER_MIB] = { "shorts_per_mib", NULL },
	[ALLOCATIONS_PER_WRITE] = { "allocations_per_write", NULL },
	[P50_US] = { "p50_us", NULL },
	[P99_US] = { "p99_us", "p99_ratio" },
	[P999_US] = { "p999_us", NULL },
};

struct bench_report {
	json_t *root, *cases;
};

static double value_of(const struct bench_sample *s, enum value value)
{
	double bytes = (double)s->bytes, mib = bytes / MIB;

	switch (value) {
	case MB_S:
		return bytes / 1e6 / (s->wall_ns / 1e9);
	case CPU_NS_PER_BYTE:
		return s->cpu_ns / bytes;
	case CALLS_PER_MIB:
		return (double)s->counts.calls / mib;
	case TRANSMITS_PER_MIB:
		return (double)s->counts.transmits / mib;
	case OPS_PER_MIB:
		return (double)s->counts.ops / mib;
	case SHORTS_PER_MIB:
		return (double)s->counts.shorts / mib;
	case ALLOCATIONS_PER_WRITE:
		return (double)s->counts.allocations / (double)s->units;
	case P50_US:
		return s->p50_us;
	case P99_US:
		return s->p99_us;
	default:
		return s->p999_us;
	}
}

/* Of all rounds; over another side, round by round, where one is given. */
static struct bench_figure figure(const struct bench_side *side, const struct bench_side *over,
				  enum value value)
{
	double *all = calloc(side->taken + 1, sizeof(*all));
	struct bench_figure f = { 0 };

	if (!all)
		return f;
	for (unsigned i = 0; i < side->taken; i++) {
		all[i] = value_of(&side->samples[i], value);
		if (over)
			all[i] /= value_of(&over->samples[i], value);
	}
	f = bench_figure_of(all, side->taken);
	free(all);
	return f;
}

static const struct bench_side *find(const struct bench_side *sides, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(sides[i].method->name, name) && !sides[i].why[0])
			return &sides[i];
	return NULL;
}

/* ---- The table ------------------------------------------------------------------ */

static void print_ratio(const struct bench_side *side, const struct bench_side *over,
			enum value value)
{
	if (over)
		printf(" %6.2fx", figure(side, over, value).median);
	else
		printf("       -");
}

static void print_writes(const struct bench_side *side, const struct bench_side *over)
{
	struct bench_figure speed = figure(side, NULL, MB_S);
	struct bench_figure cpu = figure(side, NULL, CPU_NS_PER_BYTE);

	printf("  %-16s %7.0f %6.0f-%-6.0f %7.3f %6.3f-%-6.3f", side->method->name, speed.median,
	       speed.q1, speed.q3, cpu.median, cpu.q1, cpu.q3);
	print_ratio(side, over, MB_S);
	print_ratio(side, over, CPU_NS_PER_BYTE);
	printf(" %8.1f %8.1f %7.2f", figure(side, NULL, CALLS_PER_MIB).median,
	       figure(side, NULL, OPS_PER_MIB).median, figure(side, NULL, SHORTS_PER_MIB).median);
	if (bench_counts_allocations)
		printf(" %7.2f\n", figure(side, NULL, ALLOCATIONS_PER_WRITE).median);
	else
		printf("       -\n");
}

static void print_latency(const struct bench_side *side, const struct bench_side *over)
{
	struct bench_figure p99 = figure(side, NULL, P99_US);

	printf("  %-16s %7.0f %9.1f %9.1f %7.1f-%-7.1f %9.1f", side->method->name,
	       figure(side, NULL, MB_S).median, figure(side, NULL, P50_US).median, p99.median,
	       p99.q1, p99.q3, figure(side, NULL, P999_US).median);
	print_ratio(side, over, P99_US);
	printf("\n");
}

static void print_head(const struct bench_case *what)
{
	printf("\n%s: %s\n", what->name, what->text);
	if (what->kind == BENCH_LATENCY)
		printf("  %-16s %7s %9s %9s %15s %9s %7s\n", "method", "MB/s", "p50 us", "p99 us",
		       "quartiles", "p99.9 us", "p99");
	else
		printf("  %-16s %7s %13s %7s %13s %7s %7s %8s %8s %7s %7s\n", "method", "MB/s",
		       "quartiles", "ns/B", "quartiles", "speed", "cpu", "calls", "ops", "short",
		       "allocs");
}

static void print(const struct bench_case *what, const struct bench_side *sides, size_t n)
{
	const struct bench_side *over = find(sides, n, AGAINST);

	print_head(what);
	for (size_t i = 0; i < n; i++) {
		if (sides[i].why[0])
			printf("  %-16s not measured: %s\n", sides[i].method->name, sides[i].why);
		else if (what->kind == BENCH_LATENCY)
			print_latency(&sides[i], over);
		else
			print_writes(&sides[i], sides[i].method->no_network ? NULL : over);
	}
	fflush(stdout);
}

/* ---- JSON ----------------------------------------------------------------------- */

static json_t *json_figure(struct bench_figure f)
{
	return json_pack("{s:f, s:f, s:f}", "median", f.median, "q1", f.q1, "q3", f.q3);
}

static bool has(const struct bench_side *side, enum value value)
{
	if (value == ALLOCATIONS_PER_WRITE)
		return bench_counts_allocations;
	return value < P50_US || side->what->kind == BENCH_LATENCY;
}

static json_t *json_side(const struct bench_side *side, const struct bench_side *over)
{
	json_t *is =
		json_pack("{s:s, s:s}", "name", side->method->name, "text", side->method->text);

	if (side->why[0]) {
		json_object_set_new(is, "not_measured", json_string(side->why));
		return is;
	}
	json_object_set_new(is, "samples", json_integer(side->taken));
	for (enum value v = 0; v < VALUES; v++) {
		if (!has(side, v))
			continue;
		json_object_set_new(is, values[v].key, json_figure(figure(side, NULL, v)));
		if (over && values[v].ratio && !side->method->no_network)
			json_object_set_new(is, values[v].ratio,
					    json_figure(figure(side, over, v)));
	}
	return is;
}

/* A processor's name as the kernel has it. */
static json_t *json_cpu(void)
{
	char line[256], *name = NULL;
	FILE *file = fopen("/proc/cpuinfo", "re");
	json_t *is;

	while (file && !name && fgets(line, sizeof(line), file))
		if (!strncmp(line, "model name", 10))
			name = strchr(line, ':');
	if (file)
		fclose(file);
	if (!name)
		return json_string("unknown");
	name[strcspn(name, "\n")] = 0;
	is = json_string(name + 1 + strspn(name + 1, " "));
	return is ? is : json_string("unknown");
}

static json_t *json_machine(const struct bench_options *options)
{
	struct utsname uts;

	uname(&uts);
	return json_pack("{s:s, s:s, s:o, s:I, s:s, s:s, s:s, s:s, s:I, s:i, s:b, s:b}", "kernel",
			 uts.release, "arch", uts.machine, "cpu", json_cpu(), "cores",
			 (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "openssl",
			 OpenSSL_version(OPENSSL_VERSION_STRING), "ringtls", ringtls_version(),
			 "tls", options->tls == TLS1_3_VERSION ? "1.3" : "1.2", "cipher",
			 options->cipher, "sample_bytes", (json_int_t)options->bytes, "sndbuf",
			 options->sndbuf, "aligned", options->aligned, "nagle", options->nagle);
}

struct bench_report *bench_report_new(const struct bench_options *options)
{
	struct bench_report *report = calloc(1, sizeof(*report));

	if (!report)
		return NULL;
	report->cases = json_array();
	report->root = json_pack("{s:s, s:o, s:O}", "program", "ringtls-bench", "machine",
				 json_machine(options), "cases", report->cases);
	return report;
}

void bench_report_case(struct bench_report *report, const struct bench_case *what,
		       const struct bench_side *sides, size_t n)
{
	const struct bench_side *over = find(sides, n, AGAINST);
	json_t *methods = json_array();
	json_t *is = json_pack("{s:s, s:s, s:I, s:I, s:s, s:o}", "name", what->name, "text",
			       what->text, "connections", (json_int_t)what->conns, "size",
			       (json_int_t)what->size, "kind",
			       what->kind == BENCH_WRITES  ? "writes"
			       : what->kind == BENCH_FILES ? "files"
							   : "latency",
			       "methods", methods);

	for (size_t i = 0; i < n; i++)
		json_array_append_new(methods, json_side(&sides[i], over));
	json_array_append_new(report->cases, is);
	print(what, sides, n);
}

bool bench_report_end(struct bench_report *report, const struct bench_options *options)
{
	bool ok = true;

	if (options->json) {
		ok = !json_dump_file(report->root, options->json,
				     JSON_INDENT(1) | JSON_REAL_PRECISION(6));
		if (!ok)
			fprintf(stderr, "ringtls-bench: can't write %s\n", options->json);
	}
	json_decref(report->cases);
	json_decref(report->root);
	free(report);
	return ok;
}
