/*
 * conn.c - the state machine (src/conn.c and its lanes): any items, any answers, those too
 * that no kernel gives. The model of tests/unit/walk.c says what must come out.
 */
#include "fuzz.h"
#include "walk.h"

const char fuzz_target[] = "conn";

void fuzz_prepare(void)
{
	walk_any = fuzz_any;
	walk_is_wild = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool is_open = true;

	fuzz_begin(data, size);
	walk_start();
	while (is_open && !fuzz_is_over())
		is_open = walk_step();
	walk_end();
	return 0;
}
