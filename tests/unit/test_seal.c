/*
 * test_seal.c - the records of the user lane: against published vectors, against
 * a stock OpenSSL peer, and against a second reading of the RFCs below (struct
 * wire). RFC 8448 has records for TLS 1.3 with AES-128-GCM only; no RFC has any
 * for TLS 1.2 AEADs, so there the stock peer is the reference.
 */
#include "config.h" /* RTLD_NEXT, memmem */
#include "support.h"
#include "seal.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <ringtls/ringtls.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define WIRE_MAX (RINGTLS__RECORD_MAX + 64)
#define KEY_MAX 32

/* ---- OpenSSL's memory and one cipher call, so that they can be watched and refused ---- */

static atomic_long allocations;     /* so far */
static atomic_long live;            /* of them, not yet freed */
static atomic_long refuse_at = -1;  /* this one and all after it fail; -1: none */
static atomic_int watching;         /* for blocks that are freed with a secret in them */
static atomic_int unerased;         /* such blocks */
static atomic_int fail_update = -1; /* so many updates of a cipher from now on fails one */

static const uint8_t some_key[KEY_MAX] = { 0xd5, 0x1e, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
					   0xa7, 0x5c };
static const uint8_t some_iv[12] = { 0xc0, 0xff, 0xee, 0x11, 0, 0, 0, 0, 0, 0, 0x01, 0xfe };

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
 * they are asked for. In test_seal_evp (seal_evp.c) they seal wrongly, or there are none. */
__attribute__((weak)) bool seal_by_evp;

#define DIRECT_CIPHERS 3
#define DISPATCH_MAX 32

static const char *const direct_names[DIRECT_CIPHERS] = { "AES-128-GCM:", "AES-256-GCM:",
							  "ChaCha20-Poly1305" };
static OSSL_FUNC_cipher_update_fn *direct_update[DIRECT_CIPHERS];

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

/* ---- Keys -------------------------------------------------------------- */

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

#define SUITE(cipher, suite_name, ver, id, of, over, expl)                                         \
	{                                                                                          \
		.name = cipher, .ssl = suite_name, .version = TLS_1_##ver##_VERSION,               \
		.type = TLS_CIPHER_##id, .key_len = TLS_CIPHER_##id##_KEY_SIZE,                    \
		.salt_len = TLS_CIPHER_##id##_SALT_SIZE,                                           \
		.info_len = sizeof(struct tls12_crypto_info_##of), .overhead = over,               \
		.is_explicit = expl                                                                \
	}

enum suite_index {
	GCM128_13,
	GCM256_13,
	CCM_13,
	CHACHA_13,
	GCM128_12,
	GCM256_12,
	CCM_12,
	CHACHA_12,
};

static const struct suite suites[] = {
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

static void put_seq(uint8_t *to, uint64_t seq)
{
	for (int i = 7; i >= 0; i--, seq >>= 8)
		to[i] = (uint8_t)seq;
}

/* The kernel's structure: version, type, then iv, key, salt, rec_seq without gaps. */
static void fill_info(uint8_t *info, const struct suite *suite, const uint8_t *key,
		      const uint8_t *iv12, uint64_t seq)
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

static void make_key(struct ringtls__key *ret_key, const struct suite *suite, const uint8_t *key,
		     const uint8_t *iv12, uint64_t seq)
{
	uint8_t info[sizeof(ret_key->u)];

	fill_info(info, suite, key, iv12, seq);
	assert_int_equal(ringtls__key_parse(ret_key, info), 0);
}

static struct ringtls__sealer *make_sealer(const struct suite *suite, const uint8_t *key,
					   const uint8_t *iv12, uint64_t seq)
{
	struct ringtls__sealer *sealer;
	struct ringtls__key parsed;

	make_key(&parsed, suite, key, iv12, seq);
	assert_int_equal(ringtls__sealer_new(&sealer, &parsed), 0);
	ringtls__key_wipe(&parsed);
	return sealer;
}

static uint8_t *pattern(size_t len)
{
	uint8_t *bytes = malloc(len + 1);

	assert_non_null(bytes);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * 31 + (i >> 8));
	return bytes;
}

static const struct suite *suite_of(void **state)
{
	return *state;
}

/* ---- Opening a record by the RFCs' words, one number at a time ---------- */

struct wire {
	uint8_t nonce[12];
	uint8_t aad[13];
	size_t aad_len;
	const uint8_t *body;
	size_t body_len; /* without the tag */
};

static void read_record(struct wire *wire, const struct suite *suite, const uint8_t *iv12,
			uint64_t seq, const uint8_t *record, size_t len)
{
	size_t skip = 5 + (suite->is_explicit ? 8 : 0);
	uint8_t number[8];

	put_seq(number, seq);
	assert_int_equal(len - 5, record[3] << 8 | record[4]);
	assert_memory_equal(record + 1, "\x03\x03", 2);
	memcpy(wire->nonce, iv12, 12);
	wire->body = record + skip;
	wire->body_len = len - skip - 16;
	if (suite->is_explicit)
		memcpy(wire->nonce + 4, record + 5, 8);
	else
		for (size_t i = 0; i < 8; i++)
			wire->nonce[4 + i] ^= number[i];
	if (suite->version == TLS_1_3_VERSION) {
		assert_int_equal(record[0], 23);
		memcpy(wire->aad, record, 5);
		wire->aad_len = 5;
		return;
	}
	memcpy(wire->aad, number, 8);
	memcpy(wire->aad + 8, record, 3);
	wire->aad[11] = (uint8_t)(wire->body_len >> 8);
	wire->aad[12] = (uint8_t)wire->body_len;
	wire->aad_len = 13;
}

/* Returns the length of the plaintext, or -1 when the tag is wrong. */
static int open_record(const struct suite *suite, const uint8_t *key, const uint8_t *iv12,
		       uint64_t seq, uint8_t *record, size_t len, uint8_t *ret_plain)
{
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, suite->name, NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	bool is_ccm = suite->type == TLS_CIPHER_AES_CCM_128;
	struct wire wire;
	int n = 0, ok;

	read_record(&wire, suite, iv12, seq, record, len);
	ok = EVP_DecryptInit_ex2(ctx, cipher, NULL, NULL, NULL) &&
	     EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, 12, NULL) &&
	     EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, record + len - 16) &&
	     EVP_DecryptInit_ex2(ctx, NULL, key, wire.nonce, NULL) &&
	     (!is_ccm || EVP_DecryptUpdate(ctx, NULL, &n, NULL, (int)wire.body_len)) &&
	     EVP_DecryptUpdate(ctx, NULL, &n, wire.aad, (int)wire.aad_len) &&
	     EVP_DecryptUpdate(ctx, ret_plain, &n, wire.body, (int)wire.body_len) &&
	     (is_ccm || EVP_DecryptFinal_ex(ctx, ret_plain + wire.body_len, &n));
	EVP_CIPHER_CTX_free(ctx);
	EVP_CIPHER_free(cipher);
	return ok ? (int)wire.body_len : -1;
}

/* Seals one record and opens it; leaves it in record for a closer look. */
static void seal_and_open(struct ringtls__sealer *sealer, const struct suite *suite,
			  const uint8_t *iv12, size_t len, uint8_t *record)
{
	uint8_t *in = pattern(len), *plain = malloc(WIRE_MAX);
	uint64_t seq = ringtls__sealer_seq(sealer);
	size_t inner = suite->version == TLS_1_3_VERSION ? len + 1 : len;
	size_t total = len + suite->overhead;

	assert_int_equal(ringtls__seal(sealer, 22, len ? in : NULL, len, record), total);
	assert_int_equal(ringtls__sealer_seq(sealer), seq + 1);
	assert_int_equal(open_record(suite, some_key, iv12, seq, record, total, plain), inner);
	assert_memory_equal(plain, in, len);
	assert_int_equal(suite->version == TLS_1_3_VERSION ? plain[len] : record[0], 22);
	free(plain);
	free(in);
}

/* ---- Keys: tests ------------------------------------------------------- */

static void a_key_is_copied_and_its_length_follows_from_its_cipher(void **state)
{
	const struct suite *suite = suite_of(state);
	struct ringtls__key key;
	uint8_t info[sizeof(key.u)];

	fill_info(info, suite, some_key, some_iv, 0x0102030405060708);
	assert_int_equal(ringtls__key_parse(&key, info), 0);

	assert_int_equal(key.len, suite->info_len);
	assert_memory_equal(&key.u, info, suite->info_len);
	assert_int_equal(ringtls__key_seq(&key), 0x0102030405060708);
	assert_int_equal(ringtls__key_len(&key.u.info), suite->info_len);
	assert_int_equal(ringtls__key_overhead(&key.u.info), suite->overhead);
}

/* The structure ends where the next page can't be read; so does a bare head. */
static void nothing_behind_the_structure_is_read(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uint8_t *area =
		mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct tls_crypto_info unknown = { TLS_1_3_VERSION, TLS_CIPHER_SM4_GCM };
	struct ringtls__key key;

	(void)state;
	assert_ptr_not_equal(area, MAP_FAILED);
	assert_int_equal(mprotect(area + page, page, PROT_NONE), 0);
	for (size_t i = 0; i < COUNT(suites); i++) {
		uint8_t *at = area + page - suites[i].info_len;

		fill_info(at, &suites[i], some_key, some_iv, 0);
		assert_int_equal(ringtls__key_parse(&key, at), 0);
	}
	memcpy(area + page - sizeof(unknown), &unknown, sizeof(unknown));
	assert_int_equal(ringtls__key_parse(&key, area + page - sizeof(unknown)), -EINVAL);
	munmap(area, 2 * page);
}

static void every_other_cipher_and_version_is_refused(void **state)
{
	static const uint8_t untouched[sizeof(struct ringtls__key)];
	static const uint16_t versions[] = { 0, 0x0300, 0x0301, 0x0302, 0x0305, 0x7f1c, 0xfefd };
	struct ringtls__key key;
	uint8_t raw[sizeof(key.u)] = { 0 };

	(void)state;
	memset(&key, 0, sizeof(key));
	for (unsigned type = 0; type <= UINT16_MAX; type++) {
		bool is_ours =
			type >= TLS_CIPHER_AES_GCM_128 && type <= TLS_CIPHER_CHACHA20_POLY1305;
		struct tls_crypto_info info = { TLS_1_3_VERSION, (uint16_t)type };

		for (size_t i = 0; is_ours && i < COUNT(versions); i++) {
			info.version = versions[i];
			memcpy(raw, &info, sizeof(info));
			assert_int_equal(ringtls__key_parse(&key, raw), -EINVAL);
		}
		for (info.version = TLS_1_2_VERSION; !is_ours && info.version <= TLS_1_3_VERSION;
		     info.version++) {
			memcpy(raw, &info, sizeof(info));
			assert_int_equal(ringtls__key_parse(&key, raw), -EINVAL);
		}
	}
	assert_memory_equal(&key, untouched, sizeof(key));
}

static void a_wiped_key_is_zero_and_makes_no_sealer(void **state)
{
	static const uint8_t zero[sizeof(struct ringtls__key)];
	struct ringtls__sealer *sealer = NULL;
	struct ringtls__key key;

	(void)state;
	make_key(&key, &suites[GCM256_13], some_key, some_iv, 7);
	ringtls__key_wipe(&key);

	assert_memory_equal(&key, zero, sizeof(key));
	assert_int_equal(ringtls__key_seq(&key), 0);
	assert_int_equal(ringtls__key_len(&key.u.info), 0);
	assert_int_equal(ringtls__key_overhead(&key.u.info), 0);
	assert_int_equal(ringtls__sealer_new(&sealer, &key), -EINVAL);
	assert_null(sealer);
}

/* ---- Records: tests ---------------------------------------------------- */

/* RFC 8448, section 3: traffic keys, and records sent after the handshake. */
static const uint8_t client_key[16] = { 0x17, 0x42, 0x2d, 0xda, 0x59, 0x6e, 0xd5, 0xd9,
					0xac, 0xd8, 0x90, 0xe3, 0xc6, 0x3f, 0x50, 0x51 };
static const uint8_t client_iv[12] = { 0x5b, 0x78, 0x92, 0x3d, 0xee, 0x08,
				       0x57, 0x90, 0x33, 0xe5, 0x23, 0xd9 };
static const uint8_t server_key[16] = { 0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef,
					0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3, 0x56 };
static const uint8_t server_iv[12] = { 0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83,
				       0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84 };
static const uint8_t client_data[] = {
	0x17, 0x03, 0x03, 0x00, 0x43, 0xa2, 0x3f, 0x70, 0x54, 0xb6, 0x2c, 0x94, 0xd0, 0xaf, 0xfa,
	0xfe, 0x82, 0x28, 0xba, 0x55, 0xcb, 0xef, 0xac, 0xea, 0x42, 0xf9, 0x14, 0xaa, 0x66, 0xbc,
	0xab, 0x3f, 0x2b, 0x98, 0x19, 0xa8, 0xa5, 0xb4, 0x6b, 0x39, 0x5b, 0xd5, 0x4a, 0x9a, 0x20,
	0x44, 0x1e, 0x2b, 0x62, 0x97, 0x4e, 0x1f, 0x5a, 0x62, 0x92, 0xa2, 0x97, 0x70, 0x14, 0xbd,
	0x1e, 0x3d, 0xea, 0xe6, 0x3a, 0xee, 0xbb, 0x21, 0x69, 0x49, 0x15, 0xe4,
};
static const uint8_t client_alert[] = {
	0x17, 0x03, 0x03, 0x00, 0x13, 0xc9, 0x87, 0x27, 0x60, 0x65, 0x56, 0x66,
	0xb7, 0x4d, 0x7f, 0xf1, 0x15, 0x3e, 0xfd, 0x6d, 0xb6, 0xd0, 0xb0, 0xe3,
};
static const uint8_t server_data[] = {
	0x17, 0x03, 0x03, 0x00, 0x43, 0x2e, 0x93, 0x7e, 0x11, 0xef, 0x4a, 0xc7, 0x40, 0xe5, 0x38,
	0xad, 0x36, 0x00, 0x5f, 0xc4, 0xa4, 0x69, 0x32, 0xfc, 0x32, 0x25, 0xd0, 0x5f, 0x82, 0xaa,
	0x1b, 0x36, 0xe3, 0x0e, 0xfa, 0xf9, 0x7d, 0x90, 0xe6, 0xdf, 0xfc, 0x60, 0x2d, 0xcb, 0x50,
	0x1a, 0x59, 0xa8, 0xfc, 0xc4, 0x9c, 0x4b, 0xf2, 0xe5, 0xf0, 0xa2, 0x1c, 0x00, 0x47, 0xc2,
	0xab, 0xf3, 0x32, 0x54, 0x0d, 0xd0, 0x32, 0xe1, 0x67, 0xc2, 0x95, 0x5d,
};
static const uint8_t server_alert[] = {
	0x17, 0x03, 0x03, 0x00, 0x13, 0xb5, 0x8f, 0xd6, 0x71, 0x66, 0xeb, 0xf5,
	0x99, 0xd2, 0x47, 0x20, 0xcf, 0xbe, 0x7e, 0xfa, 0x7a, 0x88, 0x64, 0xa9,
};
static const uint8_t close_notify[] = { 1, 0 };

static void check_rfc8448(struct ringtls__sealer *sealer, const uint8_t *data, const uint8_t *alert)
{
	uint8_t payload[50], out[72];

	for (uint8_t i = 0; i < sizeof(payload); i++)
		payload[i] = i;
	assert_int_equal(ringtls__seal(sealer, 23, payload, sizeof(payload), out), 72);
	assert_memory_equal(out, data, 72);
	assert_int_equal(ringtls__seal(sealer, 21, close_notify, 2, out), 24);
	assert_memory_equal(out, alert, 24);
	ringtls__sealer_free(sealer);
}

/* The server's record 0 is a ticket: its data starts at 1. */
static void the_records_of_rfc_8448_come_out(void **state)
{
	const struct suite *suite = &suites[GCM128_13];

	(void)state;
	check_rfc8448(make_sealer(suite, client_key, client_iv, 0), client_data, client_alert);
	check_rfc8448(make_sealer(suite, server_key, server_iv, 1), server_data, server_alert);
}

static void records_of_any_size_open_by_the_rfcs(void **state)
{
	static const size_t sizes[] = { 0, 1, 15, 16, 17, 255, 256, 257, 1400, 16383, 16384 };
	const struct suite *suite = suite_of(state);
	struct ringtls__sealer *sealer = make_sealer(suite, some_key, some_iv, 0);
	uint8_t *record = malloc(WIRE_MAX);

	assert_int_equal(ringtls__sealer_overhead(sealer), suite->overhead);
	for (size_t i = 0; i < COUNT(sizes); i++)
		seal_and_open(sealer, suite, some_iv, sizes[i], record);
	free(record);
	ringtls__sealer_free(sealer);
}

static void any_record_number_may_be_the_first(void **state)
{
	static const uint64_t starts[] = { 1,          255,        256,           UINT32_MAX,
					   1ull << 32, 1ull << 63, UINT64_MAX - 3 };
	const struct suite *suite = suite_of(state);
	uint8_t record[WIRE_MAX];

	for (size_t i = 0; i < COUNT(starts); i++) {
		struct ringtls__sealer *sealer = make_sealer(suite, some_key, some_iv, starts[i]);

		assert_int_equal(ringtls__sealer_seq(sealer), starts[i]);
		seal_and_open(sealer, suite, some_iv, 100, record);
		seal_and_open(sealer, suite, some_iv, 100, record);
		ringtls__sealer_free(sealer);
	}
}

/* As in the kernel, whose increment of it wraps without a word. */
static void an_explicit_nonce_starts_at_the_iv_and_counts_up(void **state)
{
	static const uint8_t iv[12] = { 1, 2, 3, 4, 255, 255, 255, 255, 255, 255, 255, 254 };
	static const char *const nonces[] = { "\xff\xff\xff\xff\xff\xff\xff\xfe",
					      "\xff\xff\xff\xff\xff\xff\xff\xff",
					      "\0\0\0\0\0\0\0\0", "\0\0\0\0\0\0\0\1" };
	const struct suite *suite = suite_of(state);
	struct ringtls__sealer *sealer = make_sealer(suite, some_key, iv, 1000);
	uint8_t record[WIRE_MAX];

	for (size_t i = 0; i < COUNT(nonces); i++) {
		seal_and_open(sealer, suite, iv, 10, record);
		assert_memory_equal(record + 5, nonces[i], 8);
	}
	ringtls__sealer_free(sealer);
}

static void the_last_record_number_is_refused_and_so_is_all_after_it(void **state)
{
	const struct suite *suite = suite_of(state);
	struct ringtls__sealer *sealer = make_sealer(suite, some_key, some_iv, UINT64_MAX - 1);
	uint8_t record[100] = { 0 }, before[100];

	seal_and_open(sealer, suite, some_iv, 5, record);
	memcpy(before, record, sizeof(record));
	for (int i = 0; i < 3; i++) {
		ERR_clear_error();
		assert_int_equal(ringtls__seal(sealer, 23, some_key, 5, record), RINGTLS_E_TLS);
		assert_int_not_equal(ERR_peek_error(), 0);
		assert_memory_equal(record, before, sizeof(record));
	}
	ERR_clear_error();
	ringtls__sealer_free(sealer);
}

static void a_record_that_is_too_long_is_refused_and_spends_no_number(void **state)
{
	const struct suite *suite = suite_of(state);
	struct ringtls__sealer *sealer = make_sealer(suite, some_key, some_iv, 9);
	uint8_t *in = pattern(RINGTLS__RECORD_MAX + 1), *record = malloc(WIRE_MAX);

	assert_int_equal(ringtls__seal(sealer, 23, in, RINGTLS__RECORD_MAX + 1, record), -EINVAL);
	assert_int_equal(ringtls__seal(sealer, 23, in, SIZE_MAX, record), -EINVAL);
	assert_int_equal(ringtls__sealer_seq(sealer), 9);
	seal_and_open(sealer, suite, some_iv, 20, record);
	free(record);
	free(in);
	ringtls__sealer_free(sealer);
}

/* ---- What fails, what is left behind ----------------------------------- */

/* Each of a record's three updates is seen: the provider's own, or EVP's where those lie. */
static void the_providers_own_functions_are_called_unless_they_lie(void **state)
{
	struct ringtls__sealer *sealer;
	uint8_t record[200];

	(void)state;
	for (int i = 0; i < DIRECT_CIPHERS; i++)
		assert_non_null(direct_update[i]);
	sealer = make_sealer(&suites[GCM128_13], some_key, some_iv, 0);
	atomic_store(&fail_update, 100);
	assert_true(ringtls__seal(sealer, 23, some_iv, 12, record) > 0);
	assert_int_equal(atomic_load(&fail_update), 97);
	atomic_store(&fail_update, -1);
	ringtls__sealer_free(sealer);
}

/* How many updates of the cipher one record takes. */
static int updates_of(const struct suite *suite)
{
	if (suite->type == TLS_CIPHER_AES_CCM_128)
		return 3; /* length, AAD, all at once */
	return suite->version == TLS_1_3_VERSION ? 3 : 2;
}

static void a_sealer_whose_cipher_failed_erases_the_record_and_stays_failed(void **state)
{
	const struct suite *suite = suite_of(state);
	uint8_t in[100], record[200], zero[200] = { 0 };

	memset(in, 0x55, sizeof(in));
	for (int call = 0; call < updates_of(suite); call++) {
		struct ringtls__sealer *sealer = make_sealer(suite, some_key, some_iv, 4);

		memset(record, 0, sizeof(record));
		atomic_store(&fail_update, call);
		assert_int_equal(ringtls__seal(sealer, 23, in, 100, record), RINGTLS_E_TLS);
		assert_int_equal(atomic_load(&fail_update), -1);
		assert_memory_equal(record, zero, sizeof(record));
		assert_int_equal(ringtls__seal(sealer, 23, in, 100, record), RINGTLS_E_TLS);
		assert_int_equal(ringtls__sealer_seq(sealer), 4);
		ringtls__sealer_free(sealer);
	}
	ERR_clear_error();
}

static void sealing_allocates_nothing(void **state)
{
	struct ringtls__sealer *sealer = make_sealer(suite_of(state), some_key, some_iv, 0);
	uint8_t *in = pattern(5000), *record = malloc(WIRE_MAX);
	long before = atomic_load(&allocations);

	for (size_t len = 0; len < 5000; len += 100)
		assert_true(ringtls__seal(sealer, 23, in, len, record) > 0);
	assert_int_equal(atomic_load(&allocations), before);
	free(record);
	free(in);
	ringtls__sealer_free(sealer);
}

static void out_of_memory_is_an_error(void **state)
{
	struct ringtls__sealer *sealer = NULL;
	struct ringtls__key key;
	int err = -1;
	long before;

	make_key(&key, suite_of(state), some_key, some_iv, 0);
	assert_int_equal(ringtls__sealer_new(&sealer, &key), 0); /* fetches the cipher */
	ringtls__sealer_free(sealer);
	sealer = NULL;
	before = atomic_load(&live);
	for (int spared = 0; err; spared++) {
		atomic_store(&refuse_at, atomic_load(&allocations) + spared);
		err = ringtls__sealer_new(&sealer, &key);
		atomic_store(&refuse_at, -1);
		ERR_clear_error();
		assert_true(spared < 20);
		if (spared < 2)
			assert_int_equal(err, -ENOMEM);
		if (err)
			assert_null(sealer);
		else
			ringtls__sealer_free(sealer);
		assert_int_equal(atomic_load(&live), before);
	}
}

static void a_freed_sealer_leaves_neither_key_nor_iv_behind(void **state)
{
	struct ringtls__sealer *sealer = make_sealer(suite_of(state), some_key, some_iv, 0);
	uint8_t record[100];

	assert_int_not_equal(ringtls__seal(sealer, 23, some_iv, 12, record), 0);
	atomic_store(&unerased, 0);
	atomic_store(&watching, 1);
	ringtls__sealer_free(sealer);
	atomic_store(&watching, 0);
	assert_int_equal(atomic_load(&unerased), 0);
}

static void freeing_no_sealer_is_fine(void **state)
{
	(void)state;
	ringtls__sealer_free(NULL);
}

static pthread_barrier_t start_line;

static void *seal_in_a_thread(void *arg)
{
	uint8_t record[100];
	bool *ret_ok = arg;

	*ret_ok = true;
	pthread_barrier_wait(&start_line);
	for (size_t i = 0; i < COUNT(suites); i++) {
		struct ringtls__sealer *sealer = NULL;
		struct ringtls__key key;
		uint8_t info[sizeof(key.u)];

		fill_info(info, &suites[i], some_key, some_iv, 0);
		*ret_ok &= ringtls__key_parse(&key, info) == 0 &&
			   ringtls__sealer_new(&sealer, &key) == 0 &&
			   ringtls__seal(sealer, 23, some_iv, 12, record) > 0;
		ringtls__sealer_free(sealer);
	}
	return NULL;
}

/* Runs first: the ciphers are fetched by all of them at once. */
static void threads_may_make_their_first_sealers_at_once(void **state)
{
	pthread_t threads[8];
	bool ok[COUNT(threads)];

	(void)state;
	pthread_barrier_init(&start_line, NULL, COUNT(threads));
	for (size_t i = 0; i < COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, seal_in_a_thread, &ok[i]), 0);
	for (size_t i = 0; i < COUNT(threads); i++) {
		pthread_join(threads[i], NULL);
		assert_true(ok[i]);
	}
	pthread_barrier_destroy(&start_line);
}

/* ---- A stock peer ------------------------------------------------------ */

/* A finished handshake in memory, and the key of what the server sends. */
struct peer {
	const struct suite *suite;
	SSL *client, *server;
	BIO *to_client;
	uint8_t key[KEY_MAX];
	uint8_t iv[12]; /* in TLS 1.2 GCM and CCM only its salt is known */
	uint64_t seq;   /* of the server's next record */
};

static char secret_line[512]; /* SERVER_TRAFFIC_SECRET_0 of the latest handshake */

static void keep_secret(const SSL *ssl, const char *line)
{
	(void)ssl;
	if (!strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24))
		snprintf(secret_line, sizeof(secret_line), "%s", line);
}

static void add_certificate(SSL_CTX *ctx)
{
	EVP_PKEY *pkey = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name;

	assert_non_null(pkey);
	assert_non_null(cert);
	name = X509_get_subject_name(cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1,
				   0);
	X509_set_version(cert, X509_VERSION_3);
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, pkey);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	assert_true(X509_sign(cert, pkey, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, pkey), 1);
	X509_free(cert);
	EVP_PKEY_free(pkey);
}

static SSL *make_ssl(const struct suite *suite, bool is_server, BIO *in, BIO *out)
{
	SSL_CTX *ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	SSL *ssl;

	assert_non_null(ctx);
	SSL_CTX_set_min_proto_version(ctx, suite->version);
	SSL_CTX_set_max_proto_version(ctx, suite->version);
	if (suite->version == TLS_1_3_VERSION)
		assert_int_equal(SSL_CTX_set_ciphersuites(ctx, suite->ssl), 1);
	else
		assert_int_equal(SSL_CTX_set_cipher_list(ctx, suite->ssl), 1);
	if (is_server) {
		add_certificate(ctx);
		SSL_CTX_set_num_tickets(ctx, 0); /* they would use up record numbers */
		SSL_CTX_set_keylog_callback(ctx, keep_secret);
	}
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	assert_non_null(ssl);
	SSL_set_bio(ssl, in, out);
	if (is_server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

static void derive(const char *kdf_name, OSSL_PARAM *params, uint8_t *out, size_t len)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, kdf_name, NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);

	assert_int_equal(EVP_KDF_derive(ctx, out, len, params), 1);
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

/* HKDF-Expand-Label(secret, label, "", len), RFC 8446 7.1. */
static void expand_label(const struct peer *peer, uint8_t *secret, size_t secret_len,
			 const char *label, uint8_t *out, size_t len)
{
	const EVP_MD *md = SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(peer->server));
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	uint8_t info[64] = { (uint8_t)(len >> 8), (uint8_t)len, (uint8_t)(6 + strlen(label)) };
	size_t info_len = 3 + (size_t)sprintf((char *)info + 3, "tls13 %s", label) + 1;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
						 (char *)(uintptr_t)EVP_MD_get0_name(md), 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret, secret_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, info_len),
		OSSL_PARAM_construct_end(),
	};

	derive("HKDF", params, out, len);
}

static void derive_tls13(struct peer *peer)
{
	const char *hex = strrchr(secret_line, ' ');
	uint8_t secret[64];
	size_t len;

	assert_non_null(hex);
	assert_int_equal(OPENSSL_hexstr2buf_ex(secret, sizeof(secret), &len, hex + 1, '\0'), 1);
	expand_label(peer, secret, len, "key", peer->key, peer->suite->key_len);
	expand_label(peer, secret, len, "iv", peer->iv, 12);
}

/* The key block of RFC 5246 6.3: both keys, then both ivs, client's first. */
static void derive_tls12(struct peer *peer)
{
	const EVP_MD *md = SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(peer->server));
	size_t key_len = peer->suite->key_len;
	size_t iv_len = peer->suite->is_explicit ? peer->suite->salt_len : 12;
	uint8_t master[64], seed[13 + 64] = "key expansion", block[2 * (KEY_MAX + 12)];
	size_t master_len = SSL_SESSION_get_master_key(SSL_get_session(peer->server), master,
						       sizeof(master));
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
						 (char *)(uintptr_t)EVP_MD_get0_name(md), 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, master_len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof(seed)),
		OSSL_PARAM_construct_end(),
	};

	SSL_get_server_random(peer->server, seed + 13, 32);
	SSL_get_client_random(peer->server, seed + 13 + 32, 32);
	derive("TLS1-PRF", params, block, 2 * (key_len + iv_len));
	memcpy(peer->key, block + key_len, key_len);
	memcpy(peer->iv, block + 2 * key_len + iv_len, iv_len);
	peer->seq = 1; /* 0 was its Finished */
}

static void peer_start(struct peer *peer, const struct suite *suite)
{
	BIO *to_server = BIO_new(BIO_s_mem());
	bool done = false;

	memset(peer, 0, sizeof(*peer));
	peer->suite = suite;
	peer->to_client = BIO_new(BIO_s_mem());
	BIO_up_ref(peer->to_client);
	BIO_up_ref(to_server);
	peer->client = make_ssl(suite, false, peer->to_client, to_server);
	peer->server = make_ssl(suite, true, to_server, peer->to_client);
	for (int turns = 0; !done && turns < 10; turns++) {
		int client_is_done = SSL_do_handshake(peer->client) == 1;

		done = SSL_do_handshake(peer->server) == 1 && client_is_done;
	}
	assert_true(done);
	assert_int_equal(BIO_ctrl_pending(peer->to_client), 0);
	if (suite->version == TLS_1_3_VERSION)
		derive_tls13(peer);
	else
		derive_tls12(peer);
}

static void peer_end(struct peer *peer)
{
	SSL_free(peer->client);
	SSL_free(peer->server);
}

/* One record that the stock server makes itself; returns its length. */
static size_t stock_record(struct peer *peer, const uint8_t *in, size_t len, uint8_t *record)
{
	int wire;

	assert_int_equal(SSL_write(peer->server, in, (int)len), len);
	wire = BIO_read(peer->to_client, record, WIRE_MAX);
	assert_true(wire > 0);
	assert_int_equal(BIO_ctrl_pending(peer->to_client), 0);
	peer->seq++;
	return (size_t)wire;
}

static void a_record_is_the_one_that_stock_openssl_makes(void **state)
{
	static const size_t sizes[] = { 1, 100, 16383, 16384 };
	const struct suite *suite = suite_of(state);
	uint8_t *in = pattern(16384), *stock = malloc(WIRE_MAX), *ours = malloc(WIRE_MAX);
	struct ringtls__sealer *sealer = NULL;
	struct peer peer;

	peer_start(&peer, suite);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		uint64_t seq = peer.seq;
		size_t len = stock_record(&peer, in, sizes[i], stock);

		if (!sealer) { /* OpenSSL chose the first explicit nonce, and counts up too */
			if (suite->is_explicit)
				memcpy(peer.iv + 4, stock + 5, 8);
			sealer = make_sealer(suite, peer.key, peer.iv, seq);
		}
		assert_int_equal(ringtls__seal(sealer, 23, in, sizes[i], ours), len);
		assert_memory_equal(ours, stock, len);
	}
	ringtls__sealer_free(sealer);
	peer_end(&peer);
	free(ours);
	free(stock);
	free(in);
}

static void deliver(struct peer *peer, const uint8_t *record, size_t len)
{
	assert_int_equal(BIO_write(peer->to_client, record, (int)len), len);
}

static void client_reads(struct peer *peer, const uint8_t *expected, size_t len)
{
	uint8_t *got = malloc(WIRE_MAX);
	int n = SSL_read(peer->client, got, WIRE_MAX);

	if (len) {
		assert_int_equal(n, len);
		assert_memory_equal(got, expected, len);
	} else {
		assert_int_equal(SSL_get_error(peer->client, n), SSL_ERROR_WANT_READ);
	}
	free(got);
}

/* The server has sent some itself, as before a take-over in mid-connection. */
static void a_stock_client_reads_what_is_sealed_up_to_close_notify(void **state)
{
	static const size_t sizes[] = { 0, 1, 16383, 16384, 0, 517 };
	const struct suite *suite = suite_of(state);
	uint8_t *in = pattern(16384), *record = malloc(WIRE_MAX);
	struct ringtls__sealer *sealer;
	struct peer peer;
	int n;

	peer_start(&peer, suite);
	for (size_t i = 1; i < 4; i++) {
		deliver(&peer, record, stock_record(&peer, in, i, record));
		client_reads(&peer, in, i);
	}
	sealer = make_sealer(suite, peer.key, peer.iv, peer.seq);
	for (size_t i = 0; i < COUNT(sizes); i++) {
		deliver(&peer, record, (size_t)ringtls__seal(sealer, 23, in, sizes[i], record));
		client_reads(&peer, in, sizes[i]);
	}
	deliver(&peer, record, (size_t)ringtls__seal(sealer, 21, close_notify, 2, record));
	n = SSL_read(peer.client, record, WIRE_MAX);
	assert_int_equal(SSL_get_error(peer.client, n), SSL_ERROR_ZERO_RETURN);

	ringtls__sealer_free(sealer);
	peer_end(&peer);
	free(record);
	free(in);
}

/* ---- The list ---------------------------------------------------------- */

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

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(threads_may_make_their_first_sealers_at_once),
	EACH(a_key_is_copied_and_its_length_follows_from_its_cipher),
	cmocka_unit_test(the_providers_own_functions_are_called_unless_they_lie),
	cmocka_unit_test(nothing_behind_the_structure_is_read),
	cmocka_unit_test(every_other_cipher_and_version_is_refused),
	cmocka_unit_test(a_wiped_key_is_zero_and_makes_no_sealer),
	cmocka_unit_test(the_records_of_rfc_8448_come_out),
	EACH(records_of_any_size_open_by_the_rfcs),
	EACH(any_record_number_may_be_the_first),
	TLS12_EXPLICIT(an_explicit_nonce_starts_at_the_iv_and_counts_up),
	EACH(the_last_record_number_is_refused_and_so_is_all_after_it),
	EACH(a_record_that_is_too_long_is_refused_and_spends_no_number),
	EACH(a_sealer_whose_cipher_failed_erases_the_record_and_stays_failed),
	EACH(sealing_allocates_nothing),
	EACH(out_of_memory_is_an_error),
	EACH(a_freed_sealer_leaves_neither_key_nor_iv_behind),
	cmocka_unit_test(freeing_no_sealer_is_fine),
	EACH(a_record_is_the_one_that_stock_openssl_makes),
	EACH(a_stock_client_reads_what_is_sealed_up_to_close_notify),
};

int main(void)
{
	/* Before OpenSSL's first allocation, or it is refused. */
	if (CRYPTO_set_mem_functions(watch_malloc, watch_realloc, watch_free) != 1)
		return 99;
	return cmocka_run_group_tests_name(seal_by_evp ? "seal_evp" : "seal", tests, NULL, NULL);
}
