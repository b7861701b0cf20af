/* seal_evp.c - makes a program a test of the records that EVP seals: what a provider does not
 * give out, or gives differently, goes that way. */
#include "libcrypto_watch.h"

bool seal_by_evp = true;
