/* old_ktls.c - for over_ktls.c: a kernel before 6.14, which takes one key only. */
#include "over_ktls.h"

#include <errno.h>
#include <stddef.h>

int over_ktls_rekey = EBUSY;
bool over_ktls_is_calm = true; /* one call shows it */
const char *over_ktls_tests = "kernel*cannot*";
const char *over_ktls_skips;
