/* suites.h - the eight suites that may be sealed here, and sealers of them. */
#ifndef SUITES_H
#define SUITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "seal.h"

#define KEY_MAX 32
#define WIRE_MAX (RINGTLS__RECORD_MAX + 64)

struct suite {
	const char *name; /* of the cipher, for EVP_CIPHER_fetch */
	const char *ssl;  /* of the cipher suite */
	uint16_t version;
	uint16_t type;
	size_t key_len;
	size_t salt_len;
	size_t info_len;
	size_t overhead;
	bool is_explicit;
};

enum suite_index {
	GCM128_13,
	GCM256_13,
	CCM_13,
	CHACHA_13,
	GCM128_12,
	GCM256_12,
	CCM_12,
	CHACHA_12,
	SUITES
};

extern const struct suite suites[SUITES];

extern const uint8_t some_key[KEY_MAX], some_iv[12];

void put_seq(uint8_t *to, uint64_t seq);

/* The kernel's structure: version, type, then iv, key, salt, rec_seq without gaps. */
void fill_info(uint8_t *info, const struct suite *suite, const uint8_t *key, const uint8_t *iv12,
	       uint64_t seq);
void make_key(struct ringtls__key *ret_key, const struct suite *suite, const uint8_t *key,
	      const uint8_t *iv12, uint64_t seq);
struct ringtls__sealer *make_sealer(const struct suite *suite, const uint8_t *key,
				    const uint8_t *iv12, uint64_t seq);

/* Bytes to be sealed, in memory that is the caller's to free. */
uint8_t *pattern(size_t len);

/* ---- Tests with a suite, or with each ----------------------------------- */

const struct suite *suite_of(void **state);

#define ONE(test, what, index)                                                                     \
	{                                                                                          \
		.name = #test "_" what, .test_func = test,                                         \
		.initial_state = (void *)(uintptr_t)&suites[index]                                 \
	}
#define TLS12_EXPLICIT(test)                                                                       \
	ONE(test, "tls12_aes128gcm", GCM128_12), ONE(test, "tls12_aes256gcm", GCM256_12),          \
		ONE(test, "tls12_aes128ccm", CCM_12)
#define EACH(test)                                                                                 \
	ONE(test, "tls13_aes128gcm", GCM128_13), ONE(test, "tls13_aes256gcm", GCM256_13),          \
		ONE(test, "tls13_aes128ccm", CCM_13), ONE(test, "tls13_chacha20", CHACHA_13),      \
		TLS12_EXPLICIT(test), ONE(test, "tls12_chacha20", CHACHA_12)

#endif
