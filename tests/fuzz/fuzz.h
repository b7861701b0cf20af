/*
 * fuzz.h - what the fuzz targets share. Each is a function that takes an input apart;
 * libFuzzer calls it (tests/fuzz/fuzz), or replay.c with the inputs of corpus/.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "config.h" /* declarations of GNU */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The two that libFuzzer knows by name. */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern const char fuzz_target[]; /* its folder in corpus/ */
void fuzz_prepare(void);	 /* once, before the first input */

/* Ends the program, which is a finding. */
#define fuzz_check(condition)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* An input is a row of choices. Behind its end every choice is 0. */
void fuzz_begin(const uint8_t *data, size_t size);
bool fuzz_is_over(void);
uint32_t fuzz_any(uint32_t below); /* 0 to below - 1 */
uint64_t fuzz_number(void);
void fuzz_bytes(void *to, size_t len);

#endif
