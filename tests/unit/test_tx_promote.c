/* test_tx_promote.c - the machine's way from the user lane into the kernel, by hand. */
#include "machine.h"

/* A key of that kind, which the sealer has, and which is kept. */
static void reach_user_with(uint16_t version, uint16_t cipher, uint64_t seq)
{
	tx.want_kernel = false;
	tx.keeps_key = true;
	put_key_of(version, cipher, seq);
	expect_idle();
	assert_int_equal(tx.state, RINGTLS__TX_USER);
	opener_set_key(&peer, &last_key);
}

static void reach_user_keeping(void)
{
	reach_user_with(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 0);
}

static bool is_kept(void)
{
	return tx.kept;
}

static void send_records(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		lend("data", 4);
		expect_op(RINGTLS__OP_SEND);
		take(op.len);
		expect_record(RINGTLS__RECORD_DATA, "data");
	}
}

/* The key that the kernel is handed opens, at the peer, what the sealer's opened so far. */
static void kernel_is_given_the_very_next_number_and_nonce(void **state)
{
	(void)state;
	for (size_t i = 0; i < 8; i++) {
		struct ringtls__sealer *kernel;
		uint8_t record[64];
		ssize_t n;

		reach_user_with(test_versions[i / 4], test_ciphers[i % 4], 41);
		send_records(3);
		assert_true(ringtls__tx_may_promote(&tx));
		assert_int_equal(ringtls__tx_promote(&tx), 0);
		expect_op(RINGTLS__OP_ULP);
		answer(0);
		expect_op(RINGTLS__OP_KEY);
		assert_false(op.rekey);
		assert_int_equal(ringtls__key_seq(op.key), 44);
		assert_int_equal(ringtls__sealer_new(&kernel, op.key), 0);
		n = ringtls__seal(kernel, RINGTLS__RECORD_DATA, (const uint8_t *)"more", 4, record);
		assert_true(n > 0);
		ringtls__sealer_free(kernel);
		opener_feed(&peer, record, (size_t)n); /* which counts on from the last */
		expect_record(RINGTLS__RECORD_DATA, "more");
		op.tcp_bytes = 1000;
		answer(0);
		assert_int_equal(tx.state, RINGTLS__TX_KERNEL);
		assert_int_equal(tx.first_record, 44);
		assert_int_equal(ringtls__tx_records(&tx, 44), 3);
		assert_int_equal(ringtls__tx_records(&tx, 46), 5);
		assert_int_equal(tx.epochs, 1);
		assert_null(tx.sealer);
		machine_teardown(NULL);
		machine_setup(NULL);
	}
}

static void next_key_is_the_kernels(void **state)
{
	(void)state;
	reach_user_keeping();
	assert_int_equal(ringtls__tx_promote(&tx), 0);
	expect_op(RINGTLS__OP_ULP);
	answer(0);
	expect_op(RINGTLS__OP_KEY);
	answer(0);
	put_key();
	expect_op(RINGTLS__OP_KEY);
	assert_true(op.rekey);
	answer(0);
	assert_int_equal(tx.state, RINGTLS__TX_KERNEL);
	assert_int_equal(tx.epochs, 2);
}

/* What waits in the queue is sealed by whoever has the key then, and only once. */
static void what_waits_goes_behind_it(void **state)
{
	(void)state;
	reach_user_keeping();
	send_records(1);
	lend("later", 5);
	assert_int_equal(ringtls__tx_promote(&tx), 0);
	expect_op(RINGTLS__OP_ULP);
	answer(0);
	expect_op(RINGTLS__OP_KEY);
	answer(0);
	expect_bytes(RINGTLS__OP_SEND, "later");
	assert_false(op.plain);
	answer(5);
	expect_idle();
}

static void refused_at(enum ringtls__op_kind kind)
{
	reach_user_keeping();
	send_records(2);
	lend("after", 5);
	assert_int_equal(ringtls__tx_promote(&tx), 0);
	expect_op(RINGTLS__OP_ULP);
	if (kind == RINGTLS__OP_KEY) {
		answer(0);
		expect_op(RINGTLS__OP_KEY);
	}
	answer(-EBUSY);
	assert_int_equal(tx.state, RINGTLS__TX_USER);
	assert_int_equal(tx.install_error, -EBUSY);
	assert_false(is_kept());
	assert_false(ringtls__tx_may_promote(&tx)); /* there is no second time */
	expect_op(RINGTLS__OP_SEND);
	take(op.len);
	expect_record(RINGTLS__RECORD_DATA, "after");
	put_key_of(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 0);
	expect_idle(); /* nor is the kernel asked for the next key */
	assert_int_equal(tx.state, RINGTLS__TX_USER);
	assert_int_equal(tx.epochs, 2);
	assert_int_equal(ringtls__tx_records(&tx, 0), 3);
	machine_teardown(NULL);
	machine_setup(NULL);
}

static void refused_it_goes_on_in_the_user_lane(void **state)
{
	(void)state;
	refused_at(RINGTLS__OP_ULP);
	refused_at(RINGTLS__OP_KEY);
}

static void not_before_all_that_was_sealed_is_sent(void **state)
{
	(void)state;
	reach_user_keeping();
	lend("data", 4);
	expect_op(RINGTLS__OP_SEND);
	assert_false(ringtls__tx_may_promote(&tx)); /* in flight */
	take(3);
	assert_false(ringtls__tx_may_promote(&tx)); /* of a record */
	expect_op(RINGTLS__OP_SEND);
	take(op.len);
	assert_true(ringtls__tx_may_promote(&tx));
}

static void not_while_a_next_key_waits(void **state)
{
	(void)state;
	reach_user_keeping();
	put_record(RINGTLS__RECORD_HANDSHAKE, "update");
	put_key();
	assert_false(ringtls__tx_may_promote(&tx));
	expect_op(RINGTLS__OP_SEND);
	take(op.len);
	assert_false(ringtls__tx_may_promote(&tx));
	expect_idle(); /* it is put to use */
	assert_true(ringtls__tx_may_promote(&tx));
	assert_memory_equal(tx.kept, &last_key, sizeof(last_key));
}

static void key_is_not_kept_without_need(void **state)
{
	(void)state;
	reach_user();
	assert_false(is_kept());
	assert_false(ringtls__tx_may_promote(&tx));
}

static void kept_key_is_erased_once_it_is_no_use(void **state)
{
	(void)state;
	reach_user_keeping();
	assert_true(is_kept());
	assert_int_equal(ringtls__tx_promote(&tx), 0);
	assert_false(is_kept());
	machine_teardown(NULL);
	machine_setup(NULL);

	reach_user_keeping();
	ringtls__tx_stay(&tx);
	assert_false(is_kept());
	machine_teardown(NULL);
	machine_setup(NULL);

	reach_user_keeping();
	ringtls__tx_fail(&tx, -EIO);
	assert_false(is_kept());
	machine_teardown(NULL);
	machine_setup(NULL);

	reach_user_keeping();
	ringtls__tx_fini(&tx);
	assert_false(is_kept());
}

static void without_memory_no_key_is_kept(void **state)
{
	(void)state;
	tx.want_kernel = false;
	tx.keeps_key = true;
	put_key();
	fake_malloc_fail_at(1); /* the sealer's are libcrypto's */
	expect_idle();
	assert_int_equal(fake_malloc_failures, 1);
	assert_int_equal(tx.state, RINGTLS__TX_USER);
	assert_int_equal(tx.install_error, -ENOMEM);
	assert_false(is_kept());
	assert_false(ringtls__tx_may_promote(&tx));
}

static void without_memory_it_stays(void **state)
{
	(void)state;
	reach_user_keeping();
	ringtls__pool_fini(&pool); /* so that it has to ask */
	fake_malloc_fail_at(1);
	assert_int_equal(ringtls__tx_promote(&tx), -ENOMEM);
	fake_malloc_fail_at(0);
	assert_false(is_kept());
	assert_false(ringtls__tx_may_promote(&tx));
	send_records(1);
	assert_int_equal(tx.state, RINGTLS__TX_USER);
}

/* RFC 8446 5.5 is about the key, whoever seals with it. */
static void what_the_sealer_sealed_counts_for_the_limit(void **state)
{
	(void)state;
	tx.max_records = 5;
	reach_user_keeping();
	send_records(4);
	assert_int_equal(ringtls__tx_promote(&tx), 0);
	expect_op(RINGTLS__OP_ULP);
	answer(0);
	expect_op(RINGTLS__OP_KEY);
	answer(0);
	lend("fifth", 5);
	expect_op(RINGTLS__OP_SEND);
	answer(5);
	lend("sixth", 5);
	expect_op(RINGTLS__OP_OUTPUT); /* how many did it make? */
	op.records = 5;
	answer(0);
	expect_idle();
	assert_true(tx.rekey_due);
}

#define T(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(kernel_is_given_the_very_next_number_and_nonce),
		T(next_key_is_the_kernels),
		T(what_waits_goes_behind_it),
		T(refused_it_goes_on_in_the_user_lane),
		T(not_before_all_that_was_sealed_is_sent),
		T(not_while_a_next_key_waits),
		T(key_is_not_kept_without_need),
		T(kept_key_is_erased_once_it_is_no_use),
		T(without_memory_no_key_is_kept),
		T(without_memory_it_stays),
		T(what_the_sealer_sealed_counts_for_the_limit),
	};

	return cmocka_run_group_tests_name("tx_promote", tests, NULL, NULL);
}
