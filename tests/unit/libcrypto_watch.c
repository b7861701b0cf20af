/* libcrypto_watch.c - see libcrypto_watch.h. */
#include "config.h" /* RTLD_NEXT, memmem */
#include "support.h"
#include "libcrypto_watch.h"
#include "suites.h"

#include <dlfcn.h>
#include <malloc.h>
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <pthread.h>

/* ---- Memory ------------------------------------------------------------ */

atomic_long allocations;
atomic_long live;
atomic_long refuse_at = -1;
atomic_int watching;
atomic_int unerased;
atomic_int fail_update = -1;

static void *watch_malloc(size_t size, const char *file, int line)
{
	long number = atomic_fetch_add(&allocations, 1), limit = atomic_load(&refuse_at);
	void *memory;

	(void)file, (void)line;
	if (!size || (limit >= 0 && number >= limit))
		return NULL;
	memory = calloc(1, size); /* so that reading all of it is allowed */
	atomic_fetch_add(&live, memory != NULL);
	return memory;
}

static void watch_free(void *memory, const char *file, int line)
{
	size_t size = memory ? malloc_usable_size(memory) : 0;

	(void)file, (void)line;
	if (!memory)
		return;
	if (atomic_load(&watching) &&
	    (memmem(memory, size, some_key, 16) || memmem(memory, size, some_iv, 4)))
		atomic_fetch_add(&unerased, 1);
	atomic_fetch_sub(&live, 1);
	free(memory);
}

static void *watch_realloc(void *memory, size_t size, const char *file, int line)
{
	size_t before = memory ? malloc_usable_size(memory) : 0;
	void *moved = size ? watch_malloc(size, file, line) : NULL;

	if (size && !moved)
		return NULL;
	if (moved && before)
		memcpy(moved, memory, before < size ? before : size);
	watch_free(memory, file, line);
	return moved;
}

/* ---- Ciphers ----------------------------------------------------------- */

/* Stands before libcrypto's own, which everything else here reaches through it. */
int EVP_EncryptUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *ret_len,
		      const unsigned char *in, int len)
{
	int (*real)(EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int);

	if (atomic_load(&fail_update) >= 0 && atomic_fetch_sub(&fail_update, 1) == 0)
		return 0;
	*(void **)&real = dlsym(RTLD_NEXT, "EVP_EncryptUpdate");
	return real(ctx, out, ret_len, in, len);
}

/* The provider's own functions are called, which nothing can stand before; but we can where
 * they are asked for. */
__attribute__((weak)) bool seal_by_evp;

#define DISPATCH_MAX 32

static const char *const direct_names[DIRECT_CIPHERS] = { "AES-128-GCM:", "AES-256-GCM:",
							  "ChaCha20-Poly1305" };
OSSL_FUNC_cipher_update_fn *direct_update[DIRECT_CIPHERS];

static int watched_update(int cipher, void *ctx, unsigned char *out, size_t *ret_len, size_t room,
			  const unsigned char *in, size_t len)
{
	int done;

	if (atomic_load(&fail_update) >= 0 && atomic_fetch_sub(&fail_update, 1) == 0)
		return 0;
	done = direct_update[cipher](ctx, out, ret_len, room, in, len);
	if (seal_by_evp && out)
		out[0] ^= 1;
	return done;
}

#define WATCHED(n)                                                                                 \
	static int update_##n(void *ctx, unsigned char *out, size_t *ret_len, size_t room,         \
			      const unsigned char *in, size_t len)                                 \
	{                                                                                          \
		return watched_update(n, ctx, out, ret_len, room, in, len);                        \
	}
WATCHED(0)
WATCHED(1)
WATCHED(2)

static void watch_dispatch(int cipher, OSSL_DISPATCH *copy, const OSSL_DISPATCH *from)
{
	static void (*const watched[DIRECT_CIPHERS])(void) = { (void (*)(void))update_0,
							       (void (*)(void))update_1,
							       (void (*)(void))update_2 };

	for (int i = 0; i < DISPATCH_MAX - 1 && from[i].function_id; i++) {
		copy[i] = from[i];
		if (from[i].function_id != OSSL_FUNC_CIPHER_UPDATE)
			continue;
		direct_update[cipher] = OSSL_FUNC_cipher_update(&from[i]);
		copy[i].function = watched[cipher];
	}
}

static OSSL_DISPATCH dispatch[DIRECT_CIPHERS][DISPATCH_MAX];
static OSSL_ALGORITHM algorithms[DIRECT_CIPHERS + 1];
static pthread_once_t once_watched = PTHREAD_ONCE_INIT;
static _Atomic(const OSSL_ALGORITHM *) all_algorithms; /* threads make their first sealers */

static void watch_algorithms(void)
{
	for (const OSSL_ALGORITHM *from = all_algorithms; from->algorithm_names; from++)
		for (int i = 0; i < DIRECT_CIPHERS; i++)
			if (!strncmp(from->algorithm_names, direct_names[i],
				     strlen(direct_names[i]))) {
				algorithms[i] = *from;
				algorithms[i].implementation = dispatch[i];
				watch_dispatch(i, dispatch[i], from->implementation);
			}
	if (seal_by_evp)
		algorithms[DIRECT_CIPHERS - 1].algorithm_names = "another";
}

const OSSL_ALGORITHM *OSSL_PROVIDER_query_operation(const OSSL_PROVIDER *provider, int operation,
						    int *no_cache)
{
	const OSSL_ALGORITHM *(*real)(const OSSL_PROVIDER *, int, int *);

	*(void **)&real = dlsym(RTLD_NEXT, "OSSL_PROVIDER_query_operation");
	all_algorithms = real(provider, operation, no_cache);
	assert_non_null(all_algorithms);
	pthread_once(&once_watched, watch_algorithms);
	return algorithms;
}

bool libcrypto_watch(void)
{
	return CRYPTO_set_mem_functions(watch_malloc, watch_realloc, watch_free) == 1;
}
