/* bench_stats.c - the middle of several samples, and how far they spread. */
#include "config.h"
#include "bench.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Between two samples, the straight line. */
static double quantile(const double *values, unsigned n, double q)
{
	double at = q * (n - 1);
	unsigned i = (unsigned)at;

	return i + 1 < n ? values[i] + (values[i + 1] - values[i]) * (at - i) : values[n - 1];
}

struct bench_figure bench_figure_of(double *values, unsigned n)
{
	if (!n)
		return (struct bench_figure){ 0 };
	qsort(values, n, sizeof(*values), compare);
	return (struct bench_figure){quantile(values, n, 0.5), quantile(values, n, 0.25),
				     quantile(values, n, 0.75)};
}
