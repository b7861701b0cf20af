/*
 * walk.h - walks through the state machine: arbitrary items, arbitrary answers, beside a
 * small model of what must come out. Chance is the caller's: random numbers in
 * test_walk.c, the bytes of an input in tests/fuzz.
 */
#ifndef WALK_H
#define WALK_H

#include <stdbool.h>
#include <stdint.h>

extern uint32_t (*walk_any)(uint32_t below); /* 0 to below - 1 */

/* Answers are also such as no kernel gives, memory runs out, and a connection may begin
 * with a key that the kernel has already. */
extern bool walk_is_wild;

/* A connection, its steps, and its end. False: it is over. */
void walk_start(void);
bool walk_step(void);
void walk_end(void);

#endif
