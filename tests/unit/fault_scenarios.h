/*
 * fault_scenarios.h - what is done with a connection while one of its operations fails; each
 * is run by test_faults.c with each fault, in each lane and engine.
 */
#ifndef FAULT_SCENARIOS_H
#define FAULT_SCENARIOS_H

#include "fault_run.h"

struct fault_scenario {
	const char *name;
	void (*run)(struct fault_run *r);
	unsigned flags; /* FAULT_* */
};

#define FAULT_SCENARIOS 28

extern const struct fault_scenario fault_scenarios[FAULT_SCENARIOS];

#endif
