/*
 * seal.c - the kernel's structure from anywhere, and the records that its key makes
 * (src/seal.c, src/secret.c). Each record must open again with OpenSSL's EVP under the
 * number that is due, and no number is used twice.
 */
#include "fuzz.h"

#include <errno.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <ringtls/ringtls.h>
#include "opener.h"
#include "seal.h"
#include "secret.h"

#define RECORDS 64 /* of one input */
#define PIECES	8

const char fuzz_target[] = "seal";

static struct opener peer;
static uint8_t plain[RINGTLS__RECORD_MAX + 64];

void fuzz_prepare(void)
{
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 13 + (i >> 8));
}

/* ---- The structure ------------------------------------------------------- */

static const struct shape {
	uint16_t cipher;
	socklen_t len;
	size_t key_len;
	bool is_explicit_in_12;
} shapes[] = {
	{TLS_CIPHER_AES_GCM_128, sizeof(struct tls12_crypto_info_aes_gcm_128), 16, true},
	{TLS_CIPHER_AES_GCM_256, sizeof(struct tls12_crypto_info_aes_gcm_256), 32, true},
	{TLS_CIPHER_AES_CCM_128, sizeof(struct tls12_crypto_info_aes_ccm_128), 16, true},
	{TLS_CIPHER_CHACHA20_POLY1305, sizeof(struct tls12_crypto_info_chacha20_poly1305), 32,
	 false},
};

static const struct shape *find_shape(uint16_t version, uint16_t cipher)
{
	if (version != TLS_1_2_VERSION && version != TLS_1_3_VERSION)
		return NULL;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (shapes[i].cipher == cipher)
			return &shapes[i];
	return NULL;
}

static uint64_t number_at(const uint8_t *from)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n = n << 8 | from[i];
	return n;
}

static void judge_key(const struct ringtls__key *key, const uint8_t *info,
		      const struct shape *shape)
{
	bool is_12 = key->u.info.version == TLS_1_2_VERSION;
	size_t overhead = 5 + 16 + (is_12 ? 8 * shape->is_explicit_in_12 : 1);

	fuzz_check(key->len == shape->len);
	fuzz_check(!memcmp(&key->u, info, shape->len));
	fuzz_check(ringtls__key_seq(key) == number_at(info + shape->len - 8));
	fuzz_check(ringtls__key_overhead(&key->u.info) == overhead);
}

/* False: it is none of ours, and nothing was written. */
static bool parse(struct ringtls__key *ret_key)
{
	bool is_known = fuzz_any(16);
	uint16_t version = is_known ? (uint16_t)(TLS_1_2_VERSION + fuzz_any(2)) :
				      (uint16_t)fuzz_any(65536);
	uint16_t cipher = is_known ? shapes[fuzz_any(4)].cipher : (uint16_t)fuzz_any(65536);
	const struct shape *shape = find_shape(version, cipher);
	size_t len = shape ? shape->len : sizeof(struct tls_crypto_info);
	struct ringtls__key same;
	uint8_t *block = malloc(len + 1), *info = block + 1; /* of any alignment */
	int r;

	fuzz_check(block);
	memcpy(info, &version, 2);
	memcpy(info + 2, &cipher, 2);
	fuzz_bytes(info + 4, len - 4);
	if (shape && !fuzz_any(4)) { /* close to the last number */
		memset(info + len - 8, 0xff, 8);
		info[len - 1] = (uint8_t)(255 - fuzz_any(4));
	}
	memset(ret_key, 0xab, sizeof(*ret_key));
	same = *ret_key;
	r = ringtls__key_parse(ret_key, info);
	fuzz_check(r == (shape ? 0 : -EINVAL));
	if (shape)
		judge_key(ret_key, info, shape);
	else
		fuzz_check(!memcmp(ret_key, &same, sizeof(same)));
	free(block);
	return shape;
}

/* ---- Records --------------------------------------------------------------- */

static unsigned any_pieces(struct iovec *iov, size_t *ret_len)
{
	unsigned count = 1 + fuzz_any(PIECES);
	size_t len = fuzz_any(4) ? fuzz_any(300) : fuzz_any(sizeof(plain) + 1), at = 0;

	for (unsigned i = 0; i < count; i++) {
		size_t n = i == count - 1 ? len - at : fuzz_any((uint32_t)(len - at) + 1);

		iov[i] = (struct iovec){plain + at, n};
		at += n;
	}
	*ret_len = len;
	return count;
}

static void open_it(const uint8_t *out, size_t n, uint8_t type, size_t len)
{
	opener_feed(&peer, out, n);
	fuzz_check(opener_next(&peer));
	fuzz_check(peer.len == 0 && peer.type == type);
	fuzz_check(peer.text_len == len && !memcmp(peer.text, plain, len));
}

/* One record; the peer counts on its own, from the key's number. False: no more. */
static bool seal_one(struct ringtls__sealer *sealer, bool has_ended)
{
	uint8_t type = (uint8_t)(fuzz_any(2) ? 20 + fuzz_any(4) : 1 + fuzz_any(255));
	uint64_t seq = ringtls__sealer_seq(sealer);
	struct iovec iov[PIECES];
	size_t len, room;
	unsigned count = any_pieces(iov, &len);
	uint8_t *out;
	ssize_t n;

	room = len + ringtls__sealer_overhead(sealer);
	out = malloc(room);
	fuzz_check(out);
	fuzz_check(seq == peer.seq);
	n = count == 1 ? ringtls__seal(sealer, type, plain, len, out) :
			 ringtls__sealv(sealer, type, iov, count, out);
	if (len > RINGTLS__RECORD_MAX) {
		fuzz_check(n == -EINVAL);
	} else if (seq == UINT64_MAX || has_ended) {
		fuzz_check(n == RINGTLS_E_TLS);
		has_ended = true;
	} else {
		fuzz_check(n == (ssize_t)room);
		open_it(out, room, type, len);
	}
	fuzz_check(ringtls__sealer_seq(sealer) == peer.seq);
	free(out);
	return !has_ended;
}

static void seal_some(const struct ringtls__key *key)
{
	struct ringtls__sealer *sealer;
	bool may_go_on = true;

	opener_set_key(&peer, key);
	peer.len = 0;
	fuzz_check(ringtls__sealer_new(&sealer, key) == 0);
	fuzz_check(ringtls__sealer_overhead(sealer) == ringtls__key_overhead(&key->u.info));
	for (int i = 0; i < RECORDS && !fuzz_is_over(); i++)
		may_go_on = seal_one(sealer, !may_go_on);
	ringtls__sealer_free(sealer);
}

/* ---- The next secret --------------------------------------------------------- */

/* HKDF-Expand-Label of RFC 8446 7.1, for no more than one block: HMAC is all of it. */
static void expand(const uint8_t *secret, size_t len, const char *label, uint8_t *out,
		   size_t out_len)
{
	uint8_t info[64], block[EVP_MAX_MD_SIZE];
	size_t n = 0, label_len = strlen(label);
	unsigned block_len;

	info[n++] = 0;
	info[n++] = (uint8_t)out_len;
	info[n++] = (uint8_t)(6 + label_len);
	memcpy(info + n, "tls13 ", 6);
	memcpy(info + n + 6, label, label_len);
	n += 6 + label_len;
	info[n++] = 0;
	info[n++] = 1;
	fuzz_check(HMAC(len == 48 ? EVP_sha384() : EVP_sha256(), secret, (int)len, info, n, block,
			&block_len));
	fuzz_check(out_len <= block_len);
	memcpy(out, block, out_len);
}

static void judge_next(const struct ringtls__secret *old, const struct ringtls__secret *new,
		       const struct ringtls__key *key, const struct shape *shape)
{
	uint8_t next[48], raw[32], iv[12];
	size_t key_len = shape->key_len;
	struct opener o = {0};

	expand(old->bytes, old->len, "traffic upd", next, old->len);
	fuzz_check(!memcmp(new->bytes, next, old->len));
	expand(next, old->len, "key", raw, key_len);
	expand(next, old->len, "iv", iv, sizeof(iv));
	opener_set_key(&o, key);
	fuzz_check(o.seq == 0 && o.version == TLS_1_3_VERSION && o.cipher == shape->cipher);
	fuzz_check(!memcmp(o.key, raw, key_len) && !memcmp(o.iv, iv, sizeof(iv)));
}

static void derive(void)
{
	static const size_t lens[] = {32, 48, 0, 20};
	uint16_t cipher = fuzz_any(8) ? shapes[fuzz_any(4)].cipher : (uint16_t)fuzz_any(65536);
	const struct shape *shape = find_shape(TLS_1_3_VERSION, cipher);
	struct ringtls__secret secret = {.len = lens[fuzz_any(8) ? fuzz_any(2) : fuzz_any(4)]};
	struct ringtls__secret old;
	struct ringtls__key key;
	int r;

	fuzz_bytes(secret.bytes, secret.len);
	old = secret;
	r = ringtls__secret_next(&secret, cipher, &key);
	if (shape && (old.len == 32 || old.len == 48)) {
		fuzz_check(r == 0);
		judge_next(&old, &secret, &key, shape);
	} else {
		fuzz_check(r == RINGTLS_E_TLS);
		fuzz_check(!memcmp(&old, &secret, sizeof(old)));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ringtls__key key;

	fuzz_begin(data, size);
	if (!fuzz_any(8))
		derive();
	else if (parse(&key))
		seal_some(&key);
	opener_fini(&peer);
	ERR_clear_error();
	return 0;
}
