/*
 * bench_sample.c - takes a sample: so many units on every connection, as fast as it
 * goes. The processor's time is that of the whole process, the threads that the
 * kernel makes for its rings with it. Both clocks stop when the last byte is handed
 * over: the acknowledgement of it may be delayed by tens of milliseconds.
 */
#include "config.h"
#include "bench.h"

#include <time.h>

/* Source addresses step through a page from round to round: on some machines a copy
 * is many times slower at some distances between source and target modulo 4096, and
 * no method shall be judged by one of them. 11 cache lines go round all of a page. */
#define SHIFT (11 * 64)

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t bench_now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static struct bench_counts counts_now(struct bench_side *side)
{
	struct bench_counts counts = bench_counted;

	if (side->method->count)
		side->method->count(side, &counts);
	return counts;
}

void bench_clock_start(struct bench_side *side, struct bench_clock *clock)
{
	clock->counts = counts_now(side);
	clock->wall = bench_now();
	clock->cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

void bench_clock_stop(struct bench_side *side, const struct bench_clock *clock,
		      struct bench_sample *sample)
{
	struct bench_counts counts;

	sample->cpu_ns = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - clock->cpu);
	sample->wall_ns = (double)(bench_now() - clock->wall);
	counts = counts_now(side);
	bench_side_drain(side); /* the next side begins with an idle machine */
	sample->counts.calls = counts.calls - clock->counts.calls;
	sample->counts.transmits = counts.transmits - clock->counts.transmits;
	sample->counts.ops = counts.ops - clock->counts.ops;
	sample->counts.shorts = counts.shorts - clock->counts.shorts;
	sample->counts.allocations = counts.allocations - clock->counts.allocations;
}

struct bench_unit bench_unit_of(const struct bench_side *side, const struct bench_source *source,
				size_t len, unsigned round)
{
	size_t shift = side->options->aligned ? 0 : round * SHIFT % BENCH_PAGE;

	if (side->what->kind == BENCH_FILES)
		return (struct bench_unit){ .file = source->file, .len = len };
	return (struct bench_unit){ .bytes = source->memory + shift, .file = -1, .len = len };
}

/* One unit on each connection that is ready; how many are left to do, or -1. */
static long pass(struct bench_side *side, const struct bench_unit *unit, bool *ret_ready)
{
	long left = 0;

	*ret_ready = false;
	for (unsigned i = 0; i < side->count; i++) {
		struct bench_conn *c = &side->conns[i];
		int r;

		if (!c->units)
			continue;
		if (!c->busy) {
			r = side->method->send(c, unit);
			if (r < 0)
				return -1;
			c->busy = r == 0;
			c->units -= (unsigned)r;
		}
		*ret_ready |= c->units && !c->busy;
		left += c->units > 0;
	}
	return left;
}

/* Readiness is asked for after each pass, as a server's loop does. */
static bool run(struct bench_side *side, const struct bench_unit *unit)
{
	bool ready, waits;
	long left;

	do {
		left = pass(side, unit, &ready);
		waits = left > 0 && !(ready && side->count == 1);
		if (waits && !side->method->wait(side, ready ? 0 : -1))
			return false;
	} while (left > 0);
	return left == 0;
}

bool bench_take(struct bench_side *side, const struct bench_source *source, unsigned round)
{
	struct bench_unit unit = bench_unit_of(side, source, side->what->size, round);
	uint64_t each = side->options->bytes / unit.len / side->count;
	struct bench_sample *sample = &side->samples[side->taken];
	struct bench_clock clock;

	if (!each || side->what->cold)
		each = 1;
	if (side->what->cold && !bench_source_cool(source))
		return bench_cannot(side, "the file stayed in memory");
	for (unsigned i = 0; i < side->count; i++)
		side->conns[i].units = each;
	bench_clock_start(side, &clock);
	if (!run(side, &unit))
		return bench_cannot(side, "sending failed");
	sample->units = each * side->count;
	sample->bytes = sample->units * unit.len;
	bench_clock_stop(side, &clock, sample);
	side->taken++;
	return true;
}
