/*
 * list.h - the list of a program's tests, each under the name of the place that it runs in:
 * tests/contract/table.py reads lane, engine, version and mode from there.
 */
#ifndef LIST_H
#define LIST_H

#include "pair.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Each lane, on each engine, in each version. */
#define EVERY_LANE 12
extern const struct pair_opts every_lane[EVERY_LANE];

/* And each on a ring of the caller's, for programs that have one. */
#define ON_CALLERS_RING 3
extern const struct pair_opts on_callers_ring[ON_CALLERS_RING];

/* "kernel uring TLSv1.3"; it holds until the next. */
const char *list_place(const struct pair_opts *o);

/* A test at the end of the list; its state is what it finds at *state. */
struct CMUnitTest *list_add(const void *state, CMUnitTestFunction function, const char *name, ...)
	__attribute__((format(printf, 3, 4)));

struct list_test {
	const char *name;
	CMUnitTestFunction function;
};

/* "PLACE: NAME" for each of the tests in the first place, then in the next. */
void list_add_all(const struct list_test *tests, size_t n_tests, const struct pair_opts *places,
		  size_t n_places);

/* Runs the list, or what the program's argument names of it, such as "kernel*: file*". */
int list_run(const char *program, int argc, char **argv);

#endif
