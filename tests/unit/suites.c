/* suites.c - see suites.h. */
#include "support.h"
#include "suites.h"

const uint8_t some_key[KEY_MAX] = { 0xd5, 0x1e, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
					   0xa7, 0x5c };
const uint8_t some_iv[12] = { 0xc0, 0xff, 0xee, 0x11, 0, 0, 0, 0, 0, 0, 0x01, 0xfe };

#define SUITE(cipher, suite_name, ver, id, of, over, expl)                                         \
	{                                                                                          \
		.name = cipher, .ssl = suite_name, .version = TLS_1_##ver##_VERSION,               \
		.type = TLS_CIPHER_##id, .key_len = TLS_CIPHER_##id##_KEY_SIZE,                    \
		.salt_len = TLS_CIPHER_##id##_SALT_SIZE,                                           \
		.info_len = sizeof(struct tls12_crypto_info_##of), .overhead = over,               \
		.is_explicit = expl                                                                \
	}


const struct suite suites[SUITES] = {
	[GCM128_13] = SUITE("AES-128-GCM", "TLS_AES_128_GCM_SHA256", 3, AES_GCM_128, aes_gcm_128,
			    22, false),
	[GCM256_13] = SUITE("AES-256-GCM", "TLS_AES_256_GCM_SHA384", 3, AES_GCM_256, aes_gcm_256,
			    22, false),
	[CCM_13] = SUITE("AES-128-CCM", "TLS_AES_128_CCM_SHA256", 3, AES_CCM_128, aes_ccm_128, 22,
			 false),
	[CHACHA_13] = SUITE("ChaCha20-Poly1305", "TLS_CHACHA20_POLY1305_SHA256", 3,
			    CHACHA20_POLY1305, chacha20_poly1305, 22, false),
	[GCM128_12] = SUITE("AES-128-GCM", "ECDHE-ECDSA-AES128-GCM-SHA256", 2, AES_GCM_128,
			    aes_gcm_128, 29, true),
	[GCM256_12] = SUITE("AES-256-GCM", "ECDHE-ECDSA-AES256-GCM-SHA384", 2, AES_GCM_256,
			    aes_gcm_256, 29, true),
	[CCM_12] = SUITE("AES-128-CCM", "ECDHE-ECDSA-AES128-CCM", 2, AES_CCM_128, aes_ccm_128, 29,
			 true),
	[CHACHA_12] = SUITE("ChaCha20-Poly1305", "ECDHE-ECDSA-CHACHA20-POLY1305", 2,
			    CHACHA20_POLY1305, chacha20_poly1305, 21, false),
};

void put_seq(uint8_t *to, uint64_t seq)
{
	for (int i = 7; i >= 0; i--, seq >>= 8)
		to[i] = (uint8_t)seq;
}

void fill_info(uint8_t *info, const struct suite *suite, const uint8_t *key, const uint8_t *iv12,
	       uint64_t seq)
{
	struct tls_crypto_info head = { suite->version, suite->type };
	size_t iv_len = 12 - suite->salt_len;
	uint8_t *at = info;

	memcpy(at, &head, sizeof(head));
	at += sizeof(head);
	memcpy(at, iv12 + suite->salt_len, iv_len);
	at += iv_len;
	memcpy(at, key, suite->key_len);
	at += suite->key_len;
	memcpy(at, iv12, suite->salt_len);
	at += suite->salt_len;
	put_seq(at, seq);
	assert_int_equal(at + 8 - info, suite->info_len);
}

void make_key(struct ringtls__key *ret_key, const struct suite *suite, const uint8_t *key,
	      const uint8_t *iv12, uint64_t seq)
{
	uint8_t info[sizeof(ret_key->u)];

	fill_info(info, suite, key, iv12, seq);
	assert_int_equal(ringtls__key_parse(ret_key, info), 0);
}

struct ringtls__sealer *make_sealer(const struct suite *suite, const uint8_t *key,
				    const uint8_t *iv12, uint64_t seq)
{
	struct ringtls__sealer *sealer;
	struct ringtls__key parsed;

	make_key(&parsed, suite, key, iv12, seq);
	assert_int_equal(ringtls__sealer_new(&sealer, &parsed), 0);
	ringtls__key_wipe(&parsed);
	return sealer;
}

uint8_t *pattern(size_t len)
{
	uint8_t *bytes = malloc(len + 1);

	assert_non_null(bytes);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * 31 + (i >> 8));
	return bytes;
}

const struct suite *suite_of(void **state)
{
	return *state;
}
