/*
 * test_walk.c - random walks through the state machine (walk.h).
 *
 * The seed is fixed, so that each run is the same; RINGTLS_SEED gives another.
 */
#include "machine.h"
#include "walk.h"

#define STEPS 100000

static uint64_t chance;

static uint32_t any(uint32_t below)
{
	chance = chance * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(chance >> 33) % below;
}

static void any_walk_keeps_the_order_and_never_bares_a_byte(void **state)
{
	const char *seed = getenv("RINGTLS_SEED");
	unsigned walks = 0, states = 0;

	(void)state;
	walk_any = any;
	chance = seed ? strtoull(seed, NULL, 0) : 20260101;
	print_message("# seed %llu\n", (unsigned long long)chance);
	walk_start();
	for (int i = 0; i < STEPS; i++) {
		states |= 1u << tx.state;
		if (walk_step())
			continue;
		states |= 1u << tx.state;
		walk_end();
		walks++;
		walk_start();
	}
	walk_end();
	print_message("# %u connections\n", walks);
	/* A walk that meets only a part of the machine proves little. */
	assert_int_equal(states, (1u << RINGTLS__TX_STATES) - 1);
	assert_true(walks > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_walk_keeps_the_order_and_never_bares_a_byte),
	};

	return cmocka_run_group_tests_name("walk", tests, NULL, NULL);
}
