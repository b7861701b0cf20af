/* fuzz.c - see fuzz.h. */
#include "fuzz.h"

#include <string.h>

static const uint8_t *next;
static size_t left;

void fuzz_begin(const uint8_t *data, size_t size)
{
	next = data;
	left = size;
}

bool fuzz_is_over(void)
{
	return !left;
}

static uint8_t take(void)
{
	if (!left)
		return 0;
	left--;
	return *next++;
}

/* No more bytes than the choice needs: so a change of one byte is a change of one choice. */
uint32_t fuzz_any(uint32_t below)
{
	uint32_t n = 0;

	for (uint32_t most = below - 1; most; most >>= 8)
		n = n << 8 | take();
	return below ? n % below : 0;
}

uint64_t fuzz_number(void)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | take();
	return n;
}

void fuzz_bytes(void *to, size_t len)
{
	size_t n = len < left ? len : left;

	if (n)
		memcpy(to, next, n);
	if (n < len)
		memset((uint8_t *)to + n, 0, len - n);
	next += n;
	left -= n;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	/* What is asserted by cmocka, in the helpers of tests/unit, ends the program too. */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	fuzz_prepare();
	return 0;
}
