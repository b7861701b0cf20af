/* support.h - cmocka with its prerequisites, and what a test needs of the machine. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/*
 * A test that needs a feature ("ktls", "rekey", "uring") which is missing skips,
 * unless RINGTLS_MUST names that feature: then it fails. The lab names what its
 * kernel exists for, so nothing there is skipped unnoticed.
 */
#define need(feature, present)                                                                     \
	do {                                                                                       \
		if (!(present)) {                                                                  \
			const char *must_ = getenv("RINGTLS_MUST");                                \
			if (must_ && strstr(must_, feature))                                       \
				fail_msg("%s is missing, and must be here", feature);              \
			print_message("# needs %s\n", feature);                                    \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

/* cmocka 2 deprecates assert_in_range, cmocka 1 has nothing else. */
#define assert_in_bounds(value, low, high)                                                         \
	do {                                                                                       \
		unsigned long long value_ = (value);                                               \
		if (value_ < (low) || value_ > (high))                                             \
			fail_msg("%llu is not within %d and %d", value_, (int)(low), (int)(high)); \
	} while (0)

#endif
