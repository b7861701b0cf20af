/* kernel_rekey.c - a second key on the same socket (kmod-notes/rekey.md). */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>

static const uint8_t update[] = { 24, 0, 0, 1, 0 };

static struct ringtls__key next_key(const struct line *l)
{
	return make_key(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, (uint8_t)(l->epochs + 1));
}

static void second_key_is_taken_or_ebusy_and_the_connection_goes_on(void **state)
{
	struct ringtls__key key;
	struct line l;
	int r;

	(void)state;
	line_sealed(&l, LARGE);
	key = next_key(&l);
	assert_int_equal(line_send(&l, kernel_bytes, 1000, 0), 1000);
	r = line_key(&l, &key);
	assert_true(r == 0 || r == -EBUSY);
	behaviour("rekey/a second TLS_TX, TLS 1.3", "%s", outcome(r));
	assert_int_equal(line_send(&l, kernel_bytes, 1000, 0), 1000);
	line_finish(&l);
	assert_int_equal(l.records[1].epoch, r == 0); /* under the new key, or the old */
	line_close(&l);
}

static void second_key_in_tls12_is_ebusy(void **state)
{
	struct ringtls__key key = make_key(TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128, 2);
	struct line l;

	(void)state;
	need("ktls", has_ktls());
	line_open(&l, LARGE);
	line_install(&l, TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128);
	assert_int_equal(line_key(&l, &key), -EBUSY);
	behaviour("rekey/a second TLS_TX, TLS 1.2", "EBUSY");
	assert_int_equal(line_send(&l, kernel_bytes, 1000, 0), 1000);
	line_finish(&l);
	line_close(&l);
}

static void other_cipher_or_version_is_refused_and_the_old_key_goes_on(void **state)
{
	struct ringtls__key cipher = make_key(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_256, 2);
	struct ringtls__key version = make_key(TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128, 2);
	struct line l;
	int r;

	(void)state;
	need("rekey", has_rekey());
	line_sealed(&l, LARGE);
	r = line_key(&l, &cipher);
	behaviour("rekey/a second TLS_TX with another cipher", "%s", outcome(r));
	assert_true(r < 0);
	r = line_key(&l, &version);
	behaviour("rekey/a second TLS_TX with another version", "%s", outcome(r));
	assert_true(r < 0);
	assert_int_equal(line_send(&l, kernel_bytes, 1000, 0), 1000);
	line_finish(&l);
	line_close(&l);
}

static void key_update_goes_under_the_old_key_and_what_follows_under_the_new(void **state)
{
	struct ringtls__key key;
	struct line l;

	(void)state;
	need("rekey", has_rekey());
	line_sealed(&l, LARGE);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(line_send(&l, kernel_bytes, 20000, 0), 20000);
		assert_int_equal(
			line_record(&l, RINGTLS__RECORD_HANDSHAKE, update, sizeof(update), 0), 5);
		key = next_key(&l);
		assert_int_equal(line_key(&l, &key), 0);
		assert_int_equal(line_seq(&l), 0); /* as the key said */
	}
	assert_int_equal(line_send(&l, kernel_bytes, 1, 0), 1);
	line_finish(&l);
	assert_int_equal(l.record_count, 16);
	for (size_t i = 0; i < 15; i++)
		assert_int_equal(l.records[i].epoch, i / 3);
	assert_int_equal(l.records[15].epoch, 5);
	line_close(&l);
}

static void what_is_sealed_keeps_its_key(void **state)
{
	struct ringtls__key key;
	uint64_t sealed;
	struct line l;

	(void)state;
	need("rekey", has_rekey());
	line_sealed(&l, SMALL);
	line_fill(&l, 40000);
	assert_true(line_in_tcp(&l) < line_sealed_bytes(&l)); /* sealed, and not in TCP */
	sealed = line_seq(&l);
	key = next_key(&l);
	assert_int_equal(line_key(&l, &key), 0);
	behaviour("rekey/what is sealed and not yet in TCP", "keeps the old key");
	line_send_whole(&l, kernel_bytes, 1000);
	line_finish(&l); /* each key opens its own */
	assert_int_equal(l.records[sealed - 1].epoch, 0);
	assert_int_equal(l.records[sealed].epoch, 1);
	line_close(&l);
}

/* So a record must never be left open where a key follows. */
static void open_record_is_sealed_with_the_new_key(void **state)
{
	struct ringtls__key key;
	struct line l;

	(void)state;
	need("rekey", has_rekey());
	line_sealed(&l, LARGE);
	key = next_key(&l);
	assert_int_equal(line_send(&l, kernel_bytes, 100, MSG_MORE), 100);
	assert_int_equal(line_key(&l, &key), 0);
	assert_int_equal(line_send(&l, kernel_bytes, 100, 0), 100);
	line_finish(&l);
	assert_int_equal(l.record_count, 1);
	assert_int_equal(l.records[0].epoch, 1); /* its key opened it */
	behaviour("rekey/an open record", "is sealed with the new key");
	line_close(&l);
}

/* Nobody but us looks after nonces. */
static void kernel_takes_the_same_key_and_number_again(void **state)
{
	struct line l;

	(void)state;
	need("rekey", has_rekey());
	line_sealed(&l, LARGE);
	assert_int_equal(line_send(&l, kernel_bytes, 100, 0), 100);
	assert_int_equal(line_key(&l, &l.keys[0]), 0);
	assert_int_equal(line_seq(&l), 0);
	behaviour("rekey/the same key and number again", "taken");
	line_close(&l);
}

static const struct CMUnitTest tests[] = {
	T(second_key_is_taken_or_ebusy_and_the_connection_goes_on),
	T(second_key_in_tls12_is_ebusy),
	T(other_cipher_or_version_is_refused_and_the_old_key_goes_on),
	T(key_update_goes_under_the_old_key_and_what_follows_under_the_new),
	T(what_is_sealed_keeps_its_key),
	T(open_record_is_sealed_with_the_new_key),
	T(kernel_takes_the_same_key_and_number_again),
};

const struct kernel_tests kernel_rekey = KERNEL_TESTS(tests);
