/* seal_evp.c - makes test_seal.c a test of the records that EVP seals: what a provider does
 * not give out, or gives differently, goes that way. */
#include <stdbool.h>

extern bool seal_by_evp;
bool seal_by_evp = true;
