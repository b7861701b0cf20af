/* opener.c - see opener.h. */
#include "support.h"
#include "opener.h"

#define HEADER	 5
#define EXPLICIT 8
#define TAG	 16

static bool is_tls13(const struct opener *o)
{
	return o->version == TLS_1_3_VERSION;
}

static bool is_ccm(const struct opener *o)
{
	return o->cipher == TLS_CIPHER_AES_CCM_128;
}

static bool is_explicit(const struct opener *o)
{
	return !is_tls13(o) && o->cipher != TLS_CIPHER_CHACHA20_POLY1305;
}

static const EVP_CIPHER *evp(const struct opener *o)
{
	switch (o->cipher) {
	case TLS_CIPHER_AES_GCM_128:
		return EVP_aes_128_gcm();
	case TLS_CIPHER_AES_GCM_256:
		return EVP_aes_256_gcm();
	case TLS_CIPHER_AES_CCM_128:
		return EVP_aes_128_ccm();
	default:
		return EVP_chacha20_poly1305();
	}
}

static uint64_t number(const uint8_t *from)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | from[i];
	return n;
}

static void take_parts(struct opener *o, const uint8_t *salt, size_t salt_len, const uint8_t *iv,
		       size_t iv_len, const uint8_t *key, size_t key_len, const uint8_t *seq)
{
	memset(o->iv, 0, sizeof(o->iv));
	memcpy(o->iv, salt, salt_len);
	memcpy(o->iv + salt_len, iv, iv_len);
	memcpy(o->key, key, key_len);
	o->seq = number(seq);
}

#define TAKE(of)                                                                                   \
	take_parts(o, key->u.of.salt, sizeof(key->u.of.salt), key->u.of.iv, sizeof(key->u.of.iv),  \
		   key->u.of.key, sizeof(key->u.of.key), key->u.of.rec_seq)

void opener_set_key(struct opener *o, const struct ringtls__key *key)
{
	static const uint8_t none[1];

	o->version = key->u.info.version;
	o->cipher = key->u.info.cipher_type;
	if (o->cipher == TLS_CIPHER_AES_GCM_128)
		TAKE(gcm128);
	else if (o->cipher == TLS_CIPHER_AES_GCM_256)
		TAKE(gcm256);
	else if (o->cipher == TLS_CIPHER_AES_CCM_128)
		TAKE(ccm128);
	else
		take_parts(o, none, 0, key->u.chacha.iv, sizeof(key->u.chacha.iv),
			   key->u.chacha.key, sizeof(key->u.chacha.key), key->u.chacha.rec_seq);
}

void opener_fini(struct opener *o)
{
	EVP_CIPHER_CTX_free(o->ctx);
	o->ctx = NULL;
}

void opener_feed(struct opener *o, const void *bytes, size_t len)
{
	assert_true(o->len + len <= sizeof(o->bytes));
	memcpy(o->bytes + o->len, bytes, len);
	o->len += len;
}

static void make_nonce(const struct opener *o, const uint8_t *body, uint8_t *nonce)
{
	memcpy(nonce, o->iv, 12);
	for (int i = 0; i < 8; i++) {
		if (is_explicit(o))
			nonce[4 + i] = body[i];
		else
			nonce[4 + i] ^= (uint8_t)(o->seq >> (56 - 8 * i));
	}
}

static int make_aad(const struct opener *o, size_t len, uint8_t *aad)
{
	if (is_tls13(o)) {
		memcpy(aad, o->bytes, HEADER);
		return HEADER;
	}
	for (int i = 0; i < 8; i++)
		aad[i] = (uint8_t)(o->seq >> (56 - 8 * i));
	memcpy(aad + 8, o->bytes, 3);
	aad[11] = (uint8_t)(len >> 8);
	aad[12] = (uint8_t)len;
	return 13;
}

static void decrypt(struct opener *o, const uint8_t *body, const uint8_t *sealed, size_t len)
{
	uint8_t nonce[12], aad[13], tag[TAG];
	int n, aad_len = make_aad(o, len, aad);

	if (!o->ctx)
		o->ctx = EVP_CIPHER_CTX_new();
	assert_non_null(o->ctx);
	make_nonce(o, body, nonce);
	memcpy(tag, sealed + len, TAG);
	assert_int_equal(EVP_DecryptInit_ex(o->ctx, evp(o), NULL, NULL, NULL), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(o->ctx, EVP_CTRL_AEAD_SET_IVLEN, 12, NULL), 1);
	assert_int_equal(EVP_CIPHER_CTX_ctrl(o->ctx, EVP_CTRL_AEAD_SET_TAG, TAG, tag), 1);
	assert_int_equal(EVP_DecryptInit_ex(o->ctx, NULL, NULL, o->key, nonce), 1);
	if (is_ccm(o))
		assert_int_equal(EVP_DecryptUpdate(o->ctx, NULL, &n, NULL, (int)len), 1);
	assert_int_equal(EVP_DecryptUpdate(o->ctx, NULL, &n, aad, aad_len), 1);
	assert_int_equal(EVP_DecryptUpdate(o->ctx, o->text, &n, sealed, (int)len), 1);
	if (!is_ccm(o)) /* CCM has verified it by then */
		assert_int_equal(EVP_DecryptFinal_ex(o->ctx, o->text + len, &n), 1);
}

bool opener_next(struct opener *o)
{
	const uint8_t *body = o->bytes + HEADER;
	size_t record, extra = (is_explicit(o) ? EXPLICIT : 0) + TAG;

	if (o->len < HEADER)
		return false;
	assert_int_equal(o->bytes[1], 3);
	assert_int_equal(o->bytes[2], 3);
	record = (size_t)o->bytes[3] << 8 | o->bytes[4];
	assert_true(record >= extra && record <= RINGTLS__RECORD_MAX + 256);
	if (o->len < HEADER + record)
		return false;
	o->type = o->bytes[0];
	o->text_len = record - extra;
	decrypt(o, body, body + (is_explicit(o) ? EXPLICIT : 0), o->text_len);
	if (is_tls13(o)) {
		assert_int_equal(o->type, RINGTLS__RECORD_DATA);
		while (o->text_len && !o->text[o->text_len - 1])
			o->text_len--;
		assert_true(o->text_len > 0);
		o->type = o->text[--o->text_len];
	}
	o->seq++;
	o->len -= HEADER + record;
	memmove(o->bytes, body + record, o->len);
	return true;
}
