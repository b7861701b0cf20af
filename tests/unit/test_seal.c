/*
 * test_seal.c - the records of the user lane: against published vectors, and against a second
 * reading of the RFCs below (struct wire). RFC 8448 has records for TLS 1.3 with AES-128-GCM
 * only; no RFC has any for TLS 1.2 AEADs: there a stock peer is the reference (test_seal_peer.c).
 */
#include "config.h" /* memmem */
#include "support.h"
#include "libcrypto_watch.h"
#include "suites.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <ringtls/ringtls.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

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
};

int main(void)
{
	if (!libcrypto_watch())
		return 99;
	return cmocka_run_group_tests_name(seal_by_evp ? "seal_evp" : "seal", tests, NULL, NULL);
}
