/* over_ktls.h - which tests over_ktls.c runs, and on which kernel. */
#ifndef OVER_KTLS_H
#define OVER_KTLS_H

#include <stdbool.h>

extern int over_ktls_rekey;	    /* the errno of a second TLS_TX; 0: it is taken */
extern bool over_ktls_is_calm;	    /* it takes what it is given */
extern const char *over_ktls_tests; /* names to run, and those of them not to */
extern const char *over_ktls_skips;

#endif
