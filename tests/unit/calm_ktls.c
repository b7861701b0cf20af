/* calm_ktls.c - for over_ktls.c: a kernel that has room, where a test counts what it takes. */
#include "over_ktls.h"

bool over_ktls_is_calm = true;
const char *over_ktls_skips = "*that_is_full*"; /* there is no ring, and always room */
