/*
 * keys.h - traffic keys for tests: every cipher and version, filled with a pattern
 * that tests can look for where no key may be any more.
 */
#ifndef KEYS_H
#define KEYS_H

#include <string.h>
#include "seal.h"

/* All that is secret in a key of test_key(), and the iv, is this byte. */
#define KEY_BYTE 0xc7

static const uint8_t key_pattern[16] = {
	KEY_BYTE, KEY_BYTE, KEY_BYTE, KEY_BYTE, KEY_BYTE, KEY_BYTE, KEY_BYTE, KEY_BYTE,
	KEY_BYTE, KEY_BYTE, KEY_BYTE, KEY_BYTE, KEY_BYTE, KEY_BYTE, KEY_BYTE, KEY_BYTE,
};

static const uint16_t test_ciphers[] = {TLS_CIPHER_AES_GCM_128, TLS_CIPHER_AES_GCM_256,
					TLS_CIPHER_AES_CCM_128, TLS_CIPHER_CHACHA20_POLY1305};
static const uint16_t test_versions[] = {TLS_1_2_VERSION, TLS_1_3_VERSION};

/* Where the record number is: behind everything else, in all four structures. */
static inline uint8_t *key_seq_bytes(struct ringtls__key *key)
{
	switch (key->u.info.cipher_type) {
	case TLS_CIPHER_AES_GCM_128:
		return key->u.gcm128.rec_seq;
	case TLS_CIPHER_AES_GCM_256:
		return key->u.gcm256.rec_seq;
	case TLS_CIPHER_AES_CCM_128:
		return key->u.ccm128.rec_seq;
	default:
		return key->u.chacha.rec_seq;
	}
}

static inline void key_set_seq(struct ringtls__key *key, uint64_t seq)
{
	uint8_t *to = key_seq_bytes(key);

	for (int i = 7; i >= 0; i--, seq >>= 8)
		to[i] = (uint8_t)seq;
}

static inline struct ringtls__key test_key(uint16_t version, uint16_t cipher, uint64_t seq)
{
	static const socklen_t lens[] = {
		[TLS_CIPHER_AES_GCM_128] = sizeof(struct tls12_crypto_info_aes_gcm_128),
		[TLS_CIPHER_AES_GCM_256] = sizeof(struct tls12_crypto_info_aes_gcm_256),
		[TLS_CIPHER_AES_CCM_128] = sizeof(struct tls12_crypto_info_aes_ccm_128),
		[TLS_CIPHER_CHACHA20_POLY1305] = sizeof(struct tls12_crypto_info_chacha20_poly1305),
	};
	struct ringtls__key key;

	memset(&key, 0, sizeof(key));
	memset(&key.u, KEY_BYTE, lens[cipher]);
	key.u.info.version = version;
	key.u.info.cipher_type = cipher;
	key.len = lens[cipher];
	key_set_seq(&key, seq);
	return key;
}

#endif
