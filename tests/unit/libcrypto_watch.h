/*
 * libcrypto_watch.h - libcrypto's memory, and the update of a cipher, so that they can be watched
 * and refused; by a table of its provider's functions that is put before its own. In programs
 * with seal_evp.c these functions seal wrongly, or there are none: so EVP seals.
 */
#ifndef LIBCRYPTO_WATCH_H
#define LIBCRYPTO_WATCH_H

#include <openssl/core_dispatch.h>
#include <stdatomic.h>
#include <stdbool.h>

#define DIRECT_CIPHERS 3 /* all but CCM, which goes by EVP anyway */

extern bool seal_by_evp;

/* The real updates of those whose functions were asked for; or NULL. */
extern OSSL_FUNC_cipher_update_fn *direct_update[DIRECT_CIPHERS];

extern atomic_long allocations; /* so far */
extern atomic_long live;        /* of them, not yet freed */
extern atomic_long refuse_at;   /* this one and all after it fail; -1: none */
extern atomic_int watching;     /* for blocks that are freed with some_key or some_iv in them */
extern atomic_int unerased;     /* such blocks */
extern atomic_int fail_update;  /* so many updates of a cipher from now on fails one; -1: none */

/* Before libcrypto's first allocation: then it is refused. */
bool libcrypto_watch(void);

#endif
