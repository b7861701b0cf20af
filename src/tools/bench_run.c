/* bench_run.c - the table of methods, and the order in which a case's sides take turns. */
#include "config.h"
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct bench_method *const bench_methods[] = {
	&bench_aead,
	&bench_tcp_send,
	&bench_tcp_ring,
	&bench_tcp_sealed,
	&bench_tcp_sendfile,
	&bench_ktls,
	&bench_ssl_write,
	&bench_ssl_ktls,
	&bench_ssl_sendfile,
	&bench_membio_ring,
	&bench_auto,
	&bench_kernel_uring,
	&bench_kernel_queued,
	&bench_kernel_syscalls,
	&bench_user_uring,
	&bench_user_queued,
	&bench_user_syscalls,
	&bench_openssl_uring,
	&bench_openssl_queued,
	&bench_openssl_syscalls,
};

const size_t bench_method_count = BENCH_COUNT(bench_methods);

/* Large units get fewer rounds, so that a case does not take for ever. */
static unsigned rounds_of(const struct bench_case *what, const struct bench_options *options)
{
	size_t most = 4 * options->bytes;
	unsigned rounds = options->rounds;

	if (what->kind == BENCH_FILES && what->size > most)
		rounds = (unsigned)(rounds * most / what->size);
	return rounds < 3 && options->rounds >= 3 ? 3 : rounds ? rounds : 1;
}

static void take(struct bench_side *side, const struct bench_source *source, unsigned round)
{
	if (side->why[0])
		return;
	if (side->what->kind == BENCH_LATENCY)
		bench_take_latency(side, source, round);
	else
		bench_take(side, source, round);
}

/* There and back again: A B C, C B A, so that a machine that gets slower or faster in
 * the meantime does so for all alike. The first round of all warms up. */
static void take_rounds(struct bench_side *sides, size_t n, const struct bench_source *source,
			unsigned rounds)
{
	for (unsigned round = 0; round <= rounds; round++) {
		for (size_t i = 0; i < n; i++) {
			struct bench_side *side = &sides[round % 2 ? n - 1 - i : i];
			unsigned before = side->taken;

			take(side, source, round);
			if (round == 0)
				side->taken = before;
		}
	}
}

static size_t choose(struct bench_side *sides, const struct bench_case *what,
		     const struct bench_options *options, SSL_CTX *ctx, unsigned rounds)
{
	unsigned kinds = what->kind | (what->cold ? BENCH_FILES : 0);
	size_t n = 0;

	for (size_t i = 0; i < bench_method_count; i++) {
		if ((bench_methods[i]->kinds & kinds) != kinds ||
		    (what->cold && bench_methods[i]->holds_file) ||
		    !bench_matches(options->methods, bench_methods[i]->name))
			continue;
		sides[n] = (struct bench_side){
			.method = bench_methods[i], .what = what, .options = options, .ctx = ctx};
		sides[n].samples = calloc(rounds + 1, sizeof(*sides[n].samples));
		if (!sides[n].samples)
			bench_cannot(&sides[n], "no memory");
		n++;
	}
	return n;
}

/* All connections are there at the same time. */
static void take_turn(struct bench_side *sides, size_t n, const struct bench_case *what,
		      const struct bench_options *options, unsigned rounds)
{
	struct bench_source source;
	char why[sizeof(sides[0].why)] = "";
	bool ok = bench_source_open(&source, what, options, why);

	for (size_t i = 0; i < n; i++) {
		if (!ok)
			bench_cannot(&sides[i], "%s", why);
		else if (!sides[i].why[0])
			bench_side_open(&sides[i]);
	}
	if (ok)
		take_rounds(sides, n, &source, rounds);
	for (size_t i = 0; i < n; i++)
		bench_side_close(&sides[i]);
	bench_source_close(&source);
}

/* Where memory lies may decide by a quarter, so it is made anew now and then. */
static bool run_case(const struct bench_case *what, const struct bench_options *options,
		     SSL_CTX *ctx, struct bench_report *report)
{
	struct bench_side sides[BENCH_COUNT(bench_methods)];
	unsigned rounds = rounds_of(what, options), turns = options->turns;
	size_t n = choose(sides, what, options, ctx, rounds);

	if (turns > rounds)
		turns = rounds;
	for (unsigned turn = 0; turn < turns; turn++)
		take_turn(sides, n, what, options, rounds / turns + (turn < rounds % turns));
	bench_report_case(report, what, sides, n);
	for (size_t i = 0; i < n; i++)
		free(sides[i].samples);
	return true;
}

/* Every method that was asked for is in the report: measured, or with the reason. */
bool bench_run(const struct bench_options *options)
{
	SSL_CTX *ctx = bench_server_ctx(options);
	struct bench_report *report = ctx ? bench_report_new(options) : NULL;

	if (!report) {
		SSL_CTX_free(ctx);
		return false;
	}
	for (size_t i = 0; i < bench_case_count; i++)
		if (bench_matches(options->cases, bench_cases[i].name))
			run_case(&bench_cases[i], options, ctx, report);
	SSL_CTX_free(ctx);
	return bench_report_end(report, options);
}
