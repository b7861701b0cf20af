/*
 * bench_latency.c - writes that are due at times fixed before, whatever became of
 * those before them: so a sender that stalls can't hide it by asking less often. What
 * counts is the time from when a write is due until all its bytes are handed over.
 * Between writes the loop spins, so that no clock of the scheduler is measured.
 */
#include "config.h"
#include "bench.h"

#include <stdlib.h>

struct plan {
	uint64_t start, step; /* ns */
	struct bench_unit rated, bulk;
	double *late_us;
	size_t n, room;
	uint64_t bytes;
};

/* Each rated connection takes every so manieth write; done: how many it has sent. */
static uint64_t due(const struct plan *plan, const struct bench_side *side, unsigned i,
		    uint64_t done)
{
	return plan->start + plan->step * (i + done * side->what->rated);
}

static bool send_one(struct bench_conn *c, const struct bench_unit *unit, struct plan *plan)
{
	int r = c->side->method->send(c, unit);

	c->busy = r == 0;
	if (r > 0)
		plan->bytes += unit->len;
	return r >= 0;
}

static bool send_rated(struct bench_side *side, unsigned i, struct plan *plan, uint64_t end)
{
	struct bench_conn *c = &side->conns[i];
	uint64_t at = due(plan, side, i, c->units), now = bench_now();

	if (at > now || at >= end)
		return true;
	if (!send_one(c, &plan->rated, plan))
		return false;
	if (c->busy)
		return true;
	c->units++;
	if (plan->n < plan->room)
		plan->late_us[plan->n++] = (double)(bench_now() - at) / 1000;
	return true;
}

/* Past the end only what has begun goes on. */
static bool pass(struct bench_side *side, struct plan *plan, uint64_t end, bool closing)
{
	for (unsigned i = 0; i < side->count; i++) {
		struct bench_conn *c = &side->conns[i];
		bool ok = true;

		if (c->busy || (closing && !c->begun))
			continue;
		if (i < side->what->rated)
			ok = send_rated(side, i, plan, end);
		else
			ok = send_one(c, &plan->bulk, plan);
		if (!ok)
			return false;
		c->begun = c->busy;
	}
	return true;
}

static bool any_begun(const struct bench_side *side)
{
	for (unsigned i = 0; i < side->count; i++)
		if (side->conns[i].begun)
			return true;
	return false;
}

static bool run(struct bench_side *side, struct plan *plan, uint64_t end)
{
	bool closing = false;

	while (!closing || any_begun(side)) {
		if (!pass(side, plan, end, closing))
			return false;
		if (any_begun(side) && !side->method->wait(side, 0))
			return false;
		closing = bench_now() >= end;
	}
	return true;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(const struct plan *plan, double q)
{
	size_t i = (size_t)((double)plan->n * q);

	return plan->n ? plan->late_us[i < plan->n ? i : plan->n - 1] : 0;
}

static void note(struct bench_sample *sample, struct plan *plan)
{
	qsort(plan->late_us, plan->n, sizeof(*plan->late_us), compare);
	sample->units = plan->n;
	sample->bytes = plan->bytes;
	sample->p50_us = quantile(plan, 0.5);
	sample->p99_us = quantile(plan, 0.99);
	sample->p999_us = quantile(plan, 0.999);
}

bool bench_take_latency(struct bench_side *side, const struct bench_source *source, unsigned round)
{
	const struct bench_case *what = side->what;
	struct bench_sample *sample = &side->samples[side->taken];
	struct plan plan = {.step = 1000000000u / what->rate,
			    .rated = bench_unit_of(side, source, what->size, round),
			    .bulk = bench_unit_of(side, source, what->bulk, round),
			    .room = (size_t)what->rate * side->options->ms / 1000 + 1};
	struct bench_clock clock;
	bool ok;

	if (what->cold)
		plan.bulk = (struct bench_unit){.file = source->file, .len = what->bulk};
	plan.late_us = calloc(plan.room, sizeof(*plan.late_us));
	if (!plan.late_us)
		return bench_cannot(side, "no memory");
	for (unsigned i = 0; i < side->count; i++) {
		side->conns[i].units = 0;
		side->conns[i].begun = false;
	}
	bench_clock_start(side, &clock);
	plan.start = clock.wall;
	ok = run(side, &plan, plan.start + side->options->ms * (uint64_t)1000000);
	bench_clock_stop(side, &clock, sample);
	note(sample, &plan);
	free(plan.late_us);
	side->taken += ok;
	return ok || bench_cannot(side, "sending failed");
}
