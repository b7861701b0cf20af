/* seal.c - see seal.h. The records are those of the kernel's net/tls, byte for byte. */
#include "config.h"
#include "seal.h"

#include "aead.h"
#include "wipe.h"

#include <endian.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <ringtls/ringtls.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NONCE_LEN RINGTLS__NONCE_LEN
#define EXPLICIT_LEN 8 /* of the nonce, carried in the record by TLS 1.2 GCM and CCM */
#define TAG_LEN RINGTLS__TAG_LEN
#define SEQ_LEN 8
#define AAD_MAX (SEQ_LEN + RINGTLS__HEADER_LEN)

/* What we know of a cipher, and where the kernel's structure has its parts. */
struct cipher {
	enum ringtls__aead_cipher aead;
	uint16_t type; /* the kernel's */
	bool xor_in_tls12; /* RFC 7905: no explicit nonce, even in TLS 1.2 */
	socklen_t info_len;
	size_t iv, iv_len, key, key_len, salt, salt_len, rec_seq;
};

#define PARTS(id, of)                                                                              \
	.type = TLS_CIPHER_##id, .info_len = sizeof(struct tls12_crypto_info_##of),                \
	.iv = offsetof(struct tls12_crypto_info_##of, iv), .iv_len = TLS_CIPHER_##id##_IV_SIZE,    \
	.key = offsetof(struct tls12_crypto_info_##of, key),                                       \
	.key_len = TLS_CIPHER_##id##_KEY_SIZE,                                                     \
	.salt = offsetof(struct tls12_crypto_info_##of, salt),                                     \
	.salt_len = TLS_CIPHER_##id##_SALT_SIZE,                                                   \
	.rec_seq = offsetof(struct tls12_crypto_info_##of, rec_seq)

static const struct cipher ciphers[] = {
	{ .aead = RINGTLS__AES_128_GCM, PARTS(AES_GCM_128, aes_gcm_128) },
	{ .aead = RINGTLS__AES_256_GCM, PARTS(AES_GCM_256, aes_gcm_256) },
	{ .aead = RINGTLS__AES_128_CCM, PARTS(AES_CCM_128, aes_ccm_128) },
	{ .aead = RINGTLS__CHACHA20_POLY1305,
	  PARTS(CHACHA20_POLY1305, chacha20_poly1305),
	  .xor_in_tls12 = true },
};

#define CIPHERS (sizeof(ciphers) / sizeof(ciphers[0]))

struct ringtls__sealer {
	struct ringtls__aead *aead;
	uint64_t seq;  /* of the next record */
	uint64_t tail; /* last 8 bytes of salt || iv; explicit: less the first seq */
	uint8_t salt[NONCE_LEN - EXPLICIT_LEN];
	uint8_t overhead;
	bool is_tls13;
	bool is_explicit;
	bool has_failed;
};

/* A record under way: where its parts are, and what authenticates it. */
struct record {
	uint8_t type;
	const uint8_t *in;
	size_t len;
	uint8_t *body;
	size_t aad_len;
	uint8_t nonce[NONCE_LEN];
	uint8_t aad[AAD_MAX];
};

static void put_u16(uint8_t *to, size_t value)
{
	uint16_t wire = htobe16((uint16_t)value);

	memcpy(to, &wire, sizeof(wire));
}

static void put_u64(uint8_t *to, uint64_t value)
{
	uint64_t wire = htobe64(value);

	memcpy(to, &wire, sizeof(wire));
}

static uint64_t get_u64(const uint8_t *from)
{
	uint64_t wire;

	memcpy(&wire, from, sizeof(wire));
	return be64toh(wire);
}

static const struct cipher *find_cipher(const struct tls_crypto_info *info)
{
	if (info->version != TLS_1_2_VERSION && info->version != TLS_1_3_VERSION)
		return NULL;
	for (size_t i = 0; i < CIPHERS; i++)
		if (ciphers[i].type == info->cipher_type)
			return &ciphers[i];
	return NULL;
}

static bool is_tls13(const struct tls_crypto_info *info)
{
	return info->version == TLS_1_3_VERSION;
}

static bool is_explicit(const struct tls_crypto_info *info, const struct cipher *cipher)
{
	return !is_tls13(info) && !cipher->xor_in_tls12;
}

int ringtls__key_parse(struct ringtls__key *ret_key, const void *crypto_info)
{
	const struct cipher *cipher;
	struct tls_crypto_info info;

	memcpy(&info, crypto_info, sizeof(info)); /* its alignment is unknown too */
	cipher = find_cipher(&info);
	if (!cipher)
		return -EINVAL;
	memset(ret_key, 0, sizeof(*ret_key));
	memcpy(&ret_key->u, crypto_info, cipher->info_len);
	ret_key->len = cipher->info_len;
	return 0;
}

size_t ringtls__cipher_key_len(uint16_t cipher_type)
{
	struct tls_crypto_info info = { TLS_1_3_VERSION, cipher_type };
	const struct cipher *cipher = find_cipher(&info);

	return cipher ? cipher->key_len : 0;
}

int ringtls__key_make(struct ringtls__key *ret_key, uint16_t cipher_type, const uint8_t *key,
		      const uint8_t *iv)
{
	struct tls_crypto_info info = { TLS_1_3_VERSION, cipher_type };
	const struct cipher *cipher = find_cipher(&info);
	uint8_t *to = (uint8_t *)&ret_key->u;

	if (!cipher)
		return -EINVAL;
	memset(ret_key, 0, sizeof(*ret_key));
	ret_key->u.info = info;
	ret_key->len = cipher->info_len;
	memcpy(to + cipher->key, key, cipher->key_len);
	memcpy(to + cipher->salt, iv, cipher->salt_len);
	memcpy(to + cipher->iv, iv + cipher->salt_len, cipher->iv_len);
	return 0;
}

void ringtls__key_wipe(struct ringtls__key *key)
{
	OPENSSL_cleanse(key, sizeof(*key));
}

struct ringtls__key *ringtls__key_copy(const struct ringtls__key *key)
{
	struct ringtls__key *copy = malloc(sizeof(*copy));

	if (copy)
		*copy = *key;
	return copy;
}

void ringtls__key_free(struct ringtls__key *key)
{
	if (key)
		ringtls__key_wipe(key);
	free(key);
}

uint64_t ringtls__key_seq(const struct ringtls__key *key)
{
	const struct cipher *cipher = find_cipher(&key->u.info);

	return cipher ? get_u64((const uint8_t *)&key->u + cipher->rec_seq) : 0;
}

void ringtls__key_move_on(struct ringtls__key *key, uint64_t seq)
{
	const struct cipher *cipher = find_cipher(&key->u.info);
	uint8_t *raw = (uint8_t *)&key->u;

	if (!cipher)
		return;
	if (is_explicit(&key->u.info, cipher))
		put_u64(raw + cipher->iv, get_u64(raw + cipher->iv) + seq - ringtls__key_seq(key));
	put_u64(raw + cipher->rec_seq, seq);
}

socklen_t ringtls__key_len(const struct tls_crypto_info *info)
{
	const struct cipher *cipher = find_cipher(info);

	return cipher ? cipher->info_len : 0;
}

size_t ringtls__key_overhead(const struct tls_crypto_info *info)
{
	const struct cipher *cipher = find_cipher(info);

	if (!cipher)
		return 0;
	return RINGTLS__HEADER_LEN + (is_explicit(info, cipher) ? EXPLICIT_LEN : 0) +
	       (is_tls13(info) ? 1 : 0) + TAG_LEN;
}

/* The nonce of every record follows from its number; see record_nonce. */
static void set_iv(struct ringtls__sealer *sealer, const struct cipher *cipher, const uint8_t *raw)
{
	uint8_t iv[NONCE_LEN];

	memcpy(iv, raw + cipher->salt, cipher->salt_len);
	memcpy(iv + cipher->salt_len, raw + cipher->iv, cipher->iv_len);
	memcpy(sealer->salt, iv, sizeof(sealer->salt));
	sealer->tail = get_u64(iv + sizeof(sealer->salt));
	if (sealer->is_explicit)
		sealer->tail -= sealer->seq;
	OPENSSL_cleanse(iv, sizeof(iv));
}

int ringtls__sealer_new(struct ringtls__sealer **ret_sealer, const struct ringtls__key *key)
{
	const struct cipher *cipher = find_cipher(&key->u.info);
	const uint8_t *raw = (const uint8_t *)&key->u;
	struct ringtls__sealer *sealer;
	int err;

	if (!cipher)
		return -EINVAL;
	sealer = OPENSSL_zalloc(sizeof(*sealer));
	if (!sealer)
		return -ENOMEM;
	err = ringtls__aead_new(&sealer->aead, cipher->aead, raw + cipher->key);
	if (err) {
		ringtls__sealer_free(sealer);
		return err;
	}
	sealer->seq = ringtls__key_seq(key);
	sealer->overhead = (uint8_t)ringtls__key_overhead(&key->u.info);
	sealer->is_tls13 = is_tls13(&key->u.info);
	sealer->is_explicit = is_explicit(&key->u.info, cipher);
	set_iv(sealer, cipher, raw);
	*ret_sealer = sealer;
	return 0;
}

void ringtls__sealer_free(struct ringtls__sealer *sealer)
{
	if (!sealer)
		return;
	ringtls__aead_free(sealer->aead);
	OPENSSL_clear_free(sealer, sizeof(*sealer));
	ringtls__wipe_stack();
}

size_t ringtls__sealer_overhead(const struct ringtls__sealer *sealer)
{
	return sealer->overhead;
}

uint64_t ringtls__sealer_seq(const struct ringtls__sealer *sealer)
{
	return sealer->seq;
}

/*
 * Explicit: the kernel counts up from the iv that it was given, modulo 2^64.
 * Else: the iv XOR the number. Either way no two numbers share a nonce.
 */
static void record_nonce(const struct ringtls__sealer *sealer, uint8_t *nonce)
{
	uint64_t seq = sealer->seq;

	memcpy(nonce, sealer->salt, sizeof(sealer->salt));
	put_u64(nonce + sizeof(sealer->salt),
		sealer->is_explicit ? sealer->tail + seq : sealer->tail ^ seq);
}

/* Writes what stands before the payload, and from it makes nonce and AAD. */
static void start_record(const struct ringtls__sealer *sealer, struct record *rec, uint8_t *out)
{
	uint8_t *aad = rec->aad;

	out[0] = sealer->is_tls13 ? RINGTLS__RECORD_DATA : rec->type;
	out[1] = TLS_1_2_VERSION_MAJOR;
	out[2] = TLS_1_2_VERSION_MINOR;
	put_u16(out + 3, rec->len + sealer->overhead - RINGTLS__HEADER_LEN);
	rec->body = out + RINGTLS__HEADER_LEN;

	record_nonce(sealer, rec->nonce);
	if (sealer->is_explicit) {
		memcpy(rec->body, rec->nonce + NONCE_LEN - EXPLICIT_LEN, EXPLICIT_LEN);
		rec->body += EXPLICIT_LEN;
	}

	/* TLS 1.3 authenticates the header; TLS 1.2 the number, and the length inside. */
	if (!sealer->is_tls13) {
		put_u64(aad, sealer->seq);
		aad += SEQ_LEN;
	}
	memcpy(aad, out, RINGTLS__HEADER_LEN);
	if (!sealer->is_tls13)
		put_u16(aad + 3, rec->len);
	rec->aad_len = (size_t)(aad - rec->aad) + RINGTLS__HEADER_LEN;
}

/* In TLS 1.3 the type byte follows the payload. */
static bool encrypt_record(const struct ringtls__sealer *sealer, const struct record *rec)
{
	const struct ringtls__aead_text text = {
		.nonce = rec->nonce,
		.aad = rec->aad,
		.aad_len = rec->aad_len,
		.in = rec->in,
		.len = rec->len,
		.last = sealer->is_tls13 ? &rec->type : NULL,
		.out = rec->body,
	};

	return ringtls__aead_seal(sealer->aead, &text);
}

/* The kernel, too, never sends number 2^64-1: the one after it would be 0 again. */
static bool may_seal(const struct ringtls__sealer *sealer)
{
	if (sealer->has_failed) {
		ERR_raise(ERR_LIB_SSL, ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED);
		return false;
	}
	if (sealer->seq == UINT64_MAX) {
		ERR_raise_data(ERR_LIB_SSL, ERR_R_INTERNAL_ERROR, "record numbers are used up");
		return false;
	}
	return true;
}

/*
 * Several pieces are put together where the record's bytes go, and sealed in place: a
 * copy of what is in the cache anyway costs less than a call of the cipher for each,
 * and CCM takes everything in one call.
 */
static void gather(struct record *rec, const struct iovec *iov, unsigned iovcnt)
{
	uint8_t *to = rec->body;

	if (iovcnt == 1) {
		rec->in = iov->iov_base;
		return;
	}
	for (unsigned i = 0; i < iovcnt; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	rec->in = rec->body;
}

ssize_t ringtls__sealv(struct ringtls__sealer *sealer, uint8_t type, const struct iovec *iov,
		       unsigned iovcnt, uint8_t *out)
{
	struct record rec = { .type = type };

	for (unsigned i = 0; i < iovcnt; i++)
		rec.len += iov[i].iov_len;
	if (rec.len > RINGTLS__RECORD_MAX)
		return -EINVAL;
	if (!may_seal(sealer)) {
		sealer->has_failed = true;
		return RINGTLS_E_TLS;
	}
	start_record(sealer, &rec, out);
	gather(&rec, iov, iovcnt);
	if (!encrypt_record(sealer, &rec)) {
		sealer->has_failed = true;
		OPENSSL_cleanse(out, rec.len + sealer->overhead); /* plaintext may be in there */
		return RINGTLS_E_TLS;
	}
	sealer->seq++;
	return (ssize_t)(rec.len + sealer->overhead);
}

ssize_t ringtls__seal(struct ringtls__sealer *sealer, uint8_t type, const uint8_t *in, size_t len,
		      uint8_t *out)
{
	const struct iovec iov = { (void *)(uintptr_t)in, len };

	return ringtls__sealv(sealer, type, &iov, 1, out);
}
