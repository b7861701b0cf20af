/* secret.c - see secret.h. */
#include "config.h"
#include "secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <ringtls/ringtls.h>

#define KEY_MAX 32
#define IV_LEN  12

/* struct HkdfLabel: length, "tls13 " and the label, no context. */
static size_t make_info(uint8_t *info, size_t room, const char *label, size_t out_len)
{
	int n = snprintf((char *)info + 3, room - 4, "tls13 %s", label);

	info[0] = (uint8_t)(out_len >> 8);
	info[1] = (uint8_t)out_len;
	info[2] = (uint8_t)n;
	info[3 + n] = 0;
	return (size_t)n + 4;
}

int ringtls__expand_label(const uint8_t *secret, size_t len, const char *label, uint8_t *ret_out,
			  size_t out_len)
{
	char digest[8], expand_only[] = "EXPAND_ONLY";
	uint8_t info[64];
	size_t info_len = make_info(info, sizeof(info), label, out_len);
	OSSL_PARAM params[5];
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	int ok = 0;

	snprintf(digest, sizeof(digest), "%s", len == 48 ? "SHA384" : "SHA256");
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_MODE, expand_only, 0);
	params[1] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
	params[2] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY,
						      (void *)(uintptr_t)secret, len);
	params[3] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, info_len);
	params[4] = OSSL_PARAM_construct_end();
	if (ctx)
		ok = EVP_KDF_derive(ctx, ret_out, out_len, params) == 1;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok ? 0 : RINGTLS_E_TLS;
}

void ringtls__secret_free(struct ringtls__secret *secret)
{
	if (secret)
		OPENSSL_cleanse(secret, sizeof(*secret));
	free(secret);
}

int ringtls__secret_next(struct ringtls__secret *secret, uint16_t cipher_type,
			 struct ringtls__key *ret_key)
{
	size_t key_len = ringtls__cipher_key_len(cipher_type), len = secret->len;
	uint8_t next[sizeof(secret->bytes)], key[KEY_MAX], iv[IV_LEN];
	int r = RINGTLS_E_TLS;

	if ((len == 32 || len == 48) && key_len && key_len <= KEY_MAX)
		r = ringtls__expand_label(secret->bytes, len, "traffic upd", next, len);
	if (r >= 0)
		r = ringtls__expand_label(next, len, "key", key, key_len);
	if (r >= 0)
		r = ringtls__expand_label(next, len, "iv", iv, IV_LEN);
	if (r >= 0)
		r = ringtls__key_make(ret_key, cipher_type, key, iv);
	if (r >= 0)
		memcpy(secret->bytes, next, len);
	OPENSSL_cleanse(next, sizeof(next));
	OPENSSL_cleanse(key, sizeof(key));
	OPENSSL_cleanse(iv, sizeof(iv));
	return r;
}
