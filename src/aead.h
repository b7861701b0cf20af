/*
 * aead.h - leaf: the four AEAD ciphers of TLS that the sealer knows, by libcrypto: keyed
 * once, then a nonce for each record (RFC 5116).
 */
#ifndef RINGTLS_AEAD_H
#define RINGTLS_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RINGTLS__NONCE_LEN 12
#define RINGTLS__TAG_LEN   16

enum ringtls__aead_cipher {
	RINGTLS__AES_128_GCM,
	RINGTLS__AES_256_GCM,
	RINGTLS__AES_128_CCM,
	RINGTLS__CHACHA20_POLY1305,
	RINGTLS__AEAD_CIPHERS
};

struct ringtls__aead;

/* One plaintext and all that belongs to it. */
struct ringtls__aead_text {
	const uint8_t *nonce; /* RINGTLS__NONCE_LEN bytes, never the same twice with a key */
	const uint8_t *aad;
	size_t aad_len;
	const uint8_t *in; /* may be out */
	size_t len;
	const uint8_t *last; /* a byte that is encrypted behind it; NULL: none */
	uint8_t *out;	     /* ciphertext, then RINGTLS__TAG_LEN bytes */
};

/* -ENOMEM, or RINGTLS_E_TLS with OpenSSL's error queue. The key is of the cipher's length. */
int ringtls__aead_new(struct ringtls__aead **ret_aead, enum ringtls__aead_cipher cipher,
		      const uint8_t *key);

/* Erases the key. NULL is fine. */
void ringtls__aead_free(struct ringtls__aead *aead);

/* False when libcrypto failed: then there may be plaintext in out. Allocates nothing. */
bool ringtls__aead_seal(struct ringtls__aead *aead, const struct ringtls__aead_text *text);

#endif
