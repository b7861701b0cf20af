/* test_lanes.c - what each lane makes of the queue, and how far a key goes. */
#include "machine.h"

/* ---- The kernel lane --------------------------------------------------- */

static void kernel_is_given_plaintext(void **state)
{
	(void)state;
	reach_kernel();
	put(RINGTLS__ITEM_DATA, 0, "early ");
	lend("late", 4);
	put_record(21, "alert");
	expect_bytes(RINGTLS__OP_SEND, "early late");
	assert_false(op.plain); /* no MSG_WAITALL on a kTLS socket */
	answer(10);
	expect_bytes(RINGTLS__OP_RECORD, "alert");
	assert_int_equal(op.record_type, 21);
	assert_false(op.plain);
	answer(5);
	expect_idle();
	assert_int_equal(tx.app_bytes, 10);
	assert_int_equal(tx.plain, 15);
}

static void records_of_different_types_are_ops_of_their_own(void **state)
{
	(void)state;
	reach_kernel();
	put_record(22, "a");
	put_record(22, "b");
	put_record(21, "c");
	expect_bytes(RINGTLS__OP_RECORD, "a");
	answer(1);
	expect_bytes(RINGTLS__OP_RECORD, "b");
	answer(1);
	expect_bytes(RINGTLS__OP_RECORD, "c");
	assert_int_equal(op.record_type, 21);
}

/* It would be sealed a second time. */
static void finished_records_in_the_kernel_lane_fail(void **state)
{
	(void)state;
	reach_kernel();
	put_wire("sealed");
	assert_int_equal(ringtls__tx_next(&tx, &op), RINGTLS_E_STATE);
	expect_failed(RINGTLS_E_STATE);
}

static void send_op_is_bounded(void **state)
{
	(void)state;
	reach_kernel();
	lend(big, sizeof(big));
	expect_op(RINGTLS__OP_SEND);
	assert_int_equal(op.len, RINGTLS__OP_BYTES);
	assert_int_equal(op.iov[0].iov_len, RINGTLS__OP_BYTES);
	answer(RINGTLS__OP_BYTES);
	expect_op(RINGTLS__OP_SEND);
	assert_ptr_equal(op.iov[0].iov_base, big + RINGTLS__OP_BYTES);
}

static void file_is_sent_from_where_it_is(void **state)
{
	(void)state;
	reach_kernel();
	lend_file(5000, 300);
	expect_op(RINGTLS__OP_SENDFILE);
	assert_int_equal(op.file, 77);
	assert_int_equal(op.offset, 5000);
	assert_int_equal(op.len, 300);
	answer(100);
	expect_op(RINGTLS__OP_SENDFILE);
	assert_int_equal(op.offset, 5100);
	assert_int_equal(op.len, 200);
	answer(200);
	expect_idle();
	assert_int_equal(tx.app_bytes, 300);
	assert_int_equal(tx.short_sends, 1);
}

static void file_op_is_bounded(void **state)
{
	(void)state;
	reach_kernel();
	lend_file(0, (size_t)1 << 40);
	expect_op(RINGTLS__OP_SENDFILE);
	assert_int_equal(op.len, 4 * RINGTLS__OP_BYTES);
}

static void file_that_became_shorter_ends_where_it_ends(void **state)
{
	(void)state;
	reach_kernel();
	lend_file(0, 300);
	put_record(21, "alert");
	expect_op(RINGTLS__OP_SENDFILE);
	answer(100);
	expect_op(RINGTLS__OP_SENDFILE);
	answer(0);
	assert_int_equal(item.done, 100);
	expect_bytes(RINGTLS__OP_RECORD, "alert");
}

static void error_of_the_file_ends_the_file_only(void **state)
{
	static const int errors[] = {EBADF, EINVAL, EIO, EISDIR, EOVERFLOW, ESPIPE, EACCES};

	(void)state;
	for (size_t i = 0; i < COUNT(errors); i++) {
		machine_setup(NULL);
		reach_kernel();
		lend_file(0, 300);
		put_record(21, "alert");
		expect_op(RINGTLS__OP_SENDFILE);
		answer(-errors[i]);
		assert_int_equal(tx.file_error, -errors[i]);
		assert_int_equal(tx.state, RINGTLS__TX_KERNEL);
		expect_bytes(RINGTLS__OP_RECORD, "alert");
		machine_teardown(NULL);
	}
}

/* ---- The openssl lane -------------------------------------------------- */

static void flight_that_a_key_splits_leaves_together(void **state)
{
	(void)state;
	put_wire("certificate");
	put_key();
	put_record(22, "finished");
	expect_bytes(RINGTLS__OP_SEND, "certificate");
	assert_true(op.more);
	answer(5);
	expect_bytes(RINGTLS__OP_SEND, "ficate"); /* the rest, too */
	assert_true(op.more);
}

/* Nothing would come to push it out. */
static void flight_with_a_key_behind_it_leaves_at_once(void **state)
{
	(void)state;
	put_wire("finished");
	put_key();
	expect_bytes(RINGTLS__OP_SEND, "finished");
	assert_false(op.more);
}

/* ---- The user lane ----------------------------------------------------- */

static void user_lane_seals_everything(void **state)
{
	(void)state;
	reach_user();
	put_record(22, "ticket");
	put(RINGTLS__ITEM_DATA, 0, "early");
	lend("late", 4);
	put_record(21, "alert");
	expect_op(RINGTLS__OP_SEND);
	assert_true(op.plain);
	take(op.len);
	expect_record(22, "ticket");
	expect_record(23, "earlylate"); /* what is queued together shares a record */
	expect_record(21, "alert");
	expect_idle();
	assert_int_equal(tx.app_bytes, 9);
	assert_int_equal(ringtls__tx_records(&tx, 0), 3);
}

static void one_op_carries_many_full_records(void **state)
{
	(void)state;
	reach_user();
	lend(big, 16 * RINGTLS__RECORD_MAX);
	expect_op(RINGTLS__OP_SEND);
	assert_int_equal(op.len, 16 * (RINGTLS__RECORD_MAX + 22));
	assert_int_equal(item.done, 16 * RINGTLS__RECORD_MAX);
}

/* RFC 8446 5.3: the same number must not seal other bytes. */
static void what_is_sealed_is_not_sealed_again_when_it_was_not_taken(void **state)
{
	static const ssize_t nothing[] = {-EAGAIN, -EINTR, -ECANCELED};
	uint8_t before[256];
	size_t len;

	(void)state;
	reach_user();
	lend("data", 4);
	expect_op(RINGTLS__OP_SEND);
	len = op.len;
	memcpy(before, op.iov[0].iov_base, len);
	for (size_t i = 0; i < COUNT(nothing); i++) {
		answer(nothing[i]);
		expect_op(RINGTLS__OP_SEND);
		assert_int_equal(op.len, len);
		assert_memory_equal(op.iov[0].iov_base, before, len);
	}
	assert_int_equal(ringtls__tx_records(&tx, 0), 1);
}

static void sealed_bytes_are_the_queues_own(void **state)
{
	char text[] = "data";

	(void)state;
	reach_user();
	lend(text, 4);
	expect_op(RINGTLS__OP_SEND);
	answer(-EAGAIN);
	ringtls__txq_withdraw(&tx.q, &item);
	memset(text, 'x', 4);
	expect_op(RINGTLS__OP_SEND);
	take(op.len);
	expect_record(23, "data");
}

static void idle_user_lane_holds_no_buffer(void **state)
{
	(void)state;
	reach_user();
	lend("data", 4);
	expect_op(RINGTLS__OP_SEND);
	answer((ssize_t)op.len);
	assert_null(tx.out.bytes);
	assert_int_equal(pool.in_use, 0);
}

static void next_key_waits_until_all_that_is_sealed_is_taken(void **state)
{
	(void)state;
	reach_user();
	lend("old", 3);
	put_key_of(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_256, 0);
	put_record(22, "new");
	expect_op(RINGTLS__OP_SEND);
	assert_int_equal(op.len, 3 + 22);
	take(7);
	expect_op(RINGTLS__OP_SEND);
	assert_int_equal(tx.epochs, 1);
	take(op.len);
	expect_record(23, "old");
	expect_op(RINGTLS__OP_SEND);
	opener_set_key(&peer, &last_key);
	take(op.len);
	expect_record(22, "new");
	assert_int_equal(tx.epochs, 2);
	assert_int_equal(ringtls__tx_records(&tx, 0), 2);
}

static void close_in_the_user_lane_waits_until_all_is_taken(void **state)
{
	(void)state;
	reach_user();
	put_record(21, "bye");
	put_close();
	expect_op(RINGTLS__OP_SEND);
	take(3);
	assert_int_equal(tx.state, RINGTLS__TX_USER);
	expect_op(RINGTLS__OP_SEND);
	take(op.len);
	expect_record(21, "bye");
	expect_idle();
	assert_int_equal(tx.state, RINGTLS__TX_CLOSED);
}

static void file_or_finished_records_in_the_user_lane_fail(void **state)
{
	(void)state;
	for (int kind = 0; kind < 2; kind++) {
		machine_setup(NULL);
		reach_user();
		if (kind)
			lend_file(0, 5);
		else
			put_wire("sealed");
		assert_int_equal(ringtls__tx_next(&tx, &op), RINGTLS_E_STATE);
		expect_failed(RINGTLS_E_STATE);
		machine_teardown(NULL);
	}
}

static void without_memory_the_user_lane_fails_and_seals_nothing(void **state)
{
	(void)state;
	reach_user();
	lend("data", 4);
	ringtls__pool_fini(&pool);
	fake_malloc_fail_at(1);
	assert_int_equal(ringtls__tx_next(&tx, &op), -ENOMEM);
	assert_int_equal(item.done, 0);
	expect_failed(-ENOMEM);
}

/* ---- The record limit -------------------------------------------------- */

static void limit_is_that_of_the_cipher_or_the_callers_if_it_is_less(void **state)
{
	(void)state;
	assert_int_equal(ringtls__record_limit(TLS_CIPHER_AES_GCM_128, 0), 23726566);
	assert_int_equal(ringtls__record_limit(TLS_CIPHER_AES_GCM_256, 0), 23726566);
	assert_int_equal(ringtls__record_limit(TLS_CIPHER_AES_CCM_128, 0), 1 << 23);
	assert_int_equal(ringtls__record_limit(TLS_CIPHER_CHACHA20_POLY1305, 0), 0);
	assert_int_equal(ringtls__record_limit(TLS_CIPHER_AES_GCM_128, 10), 10);
	assert_int_equal(ringtls__record_limit(TLS_CIPHER_AES_GCM_128, UINT64_MAX), 23726566);
	assert_int_equal(ringtls__record_limit(TLS_CIPHER_CHACHA20_POLY1305, 10), 10);
}

static void far_from_the_limit_nothing_is_counted(void **state)
{
	(void)state;
	reach_kernel();
	for (int i = 0; i < 1000; i++) {
		lend("data", 4);
		expect_op(RINGTLS__OP_SEND);
		answer(4);
	}
}

static void at_the_limit_data_waits_for_the_next_key(void **state)
{
	(void)state;
	tx.max_records = 3;
	reach_kernel();
	for (int i = 0; i < 3; i++) {
		lend("data", 4);
		assert_int_equal(ringtls__tx_next(&tx, &op), 1);
		if (op.kind == RINGTLS__OP_OUTPUT) {
			op.records = (uint64_t)i;
			answer(0);
			expect_op(RINGTLS__OP_SEND);
		}
		answer(4);
		assert_false(tx.rekey_due);
	}
	lend("data", 4);
	expect_op(RINGTLS__OP_OUTPUT);
	op.records = 3;
	answer(0);
	expect_idle();
	assert_true(tx.rekey_due);
	assert_int_equal(item.done, 0);
	ringtls__txq_withdraw(&tx.q, &item);
	put_record(22, "update"); /* which must get through */
	put_key();
	lend("data", 4);
	expect_bytes(RINGTLS__OP_RECORD, "update");
	answer(6);
	expect_op(RINGTLS__OP_KEY);
	op.records = 4;
	answer(0);
	assert_int_equal(ringtls__tx_next(&tx, &op), 1);
	assert_false(tx.rekey_due);
}

/* One more than the limit, and the limit must hold as before. */
static void record_beyond_the_limit_does_not_lift_it(void **state)
{
	(void)state;
	tx.max_records = 2;
	reach_kernel();
	for (int i = 0; i < 3; i++) {
		put_record(22, "ticket");
		expect_op(RINGTLS__OP_RECORD);
		answer(6);
	}
	lend("data", 4);
	if (ringtls__tx_next(&tx, &op)) { /* it may know, or ask */
		assert_int_equal(op.kind, RINGTLS__OP_OUTPUT);
		op.records = 3;
		answer(0);
		expect_idle();
	}
	assert_true(tx.rekey_due);
}

static void near_the_limit_a_send_is_one_record(void **state)
{
	(void)state;
	tx.max_records = 10;
	reach_kernel();
	put(RINGTLS__ITEM_DATA, 0, "abc");
	lend(big, sizeof(big));
	expect_op(RINGTLS__OP_SEND);
	assert_int_equal(op.len, 3);
	assert_int_equal(op.iovcnt, 1);
	answer(3);
	assert_int_equal(ringtls__tx_next(&tx, &op), 1);
	assert_int_equal(op.kind, RINGTLS__OP_OUTPUT);
	op.records = 1;
	answer(0);
	expect_op(RINGTLS__OP_SEND);
	assert_int_equal(op.len, RINGTLS__RECORD_MAX);
	assert_int_equal(op.iovcnt, 1);
	assert_int_equal(op.iov[0].iov_len, RINGTLS__RECORD_MAX);
}

static void count_that_fails_fails_the_connection(void **state)
{
	(void)state;
	reach(RINGTLS__TX_COUNT);
	answer(-ENOTCONN);
	expect_failed(-ENOTCONN);
}

static void sealer_stops_at_the_limit(void **state)
{
	(void)state;
	tx.max_records = 3;
	reach_user();
	lend(big, 5 * RINGTLS__RECORD_MAX);
	expect_op(RINGTLS__OP_SEND);
	assert_int_equal(op.len, 3 * (RINGTLS__RECORD_MAX + 22));
	take(op.len);
	expect_idle();
	assert_true(tx.rekey_due);
	assert_null(tx.out.bytes);
	/* An alert or a KeyUpdate may still be sealed. */
	assert_int_equal(ringtls__txq_copy(&inbox, RINGTLS__ITEM_RECORD, 22, "u", 1, 0), 0);
	ringtls__txq_fini(&tx.q);
	ringtls__txq_take(&tx.q, &inbox);
	expect_op(RINGTLS__OP_SEND);
}

/* Who never asked for the bytes again must not be renewing keys for ever. */
static void what_was_due_is_forgotten_when_nothing_waits_any_more(void **state)
{
	(void)state;
	tx.max_records = 1;
	reach_user();
	lend("ab", 2);
	expect_op(RINGTLS__OP_SEND);
	answer((ssize_t)op.len);
	lend("cd", 2);
	expect_idle();
	assert_true(tx.rekey_due);
	ringtls__txq_withdraw(&tx.q, &item);
	put_close();
	expect_idle();
	assert_int_equal(tx.state, RINGTLS__TX_CLOSED);
	assert_false(tx.rekey_due);
}

#define T(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(kernel_is_given_plaintext),
		T(records_of_different_types_are_ops_of_their_own),
		T(finished_records_in_the_kernel_lane_fail),
		T(send_op_is_bounded),
		T(file_is_sent_from_where_it_is),
		T(file_op_is_bounded),
		T(file_that_became_shorter_ends_where_it_ends),
		T(error_of_the_file_ends_the_file_only),
		T(flight_that_a_key_splits_leaves_together),
		T(flight_with_a_key_behind_it_leaves_at_once),
		T(user_lane_seals_everything),
		T(one_op_carries_many_full_records),
		T(what_is_sealed_is_not_sealed_again_when_it_was_not_taken),
		T(sealed_bytes_are_the_queues_own),
		T(idle_user_lane_holds_no_buffer),
		T(next_key_waits_until_all_that_is_sealed_is_taken),
		T(close_in_the_user_lane_waits_until_all_is_taken),
		T(file_or_finished_records_in_the_user_lane_fail),
		T(without_memory_the_user_lane_fails_and_seals_nothing),
		T(limit_is_that_of_the_cipher_or_the_callers_if_it_is_less),
		T(far_from_the_limit_nothing_is_counted),
		T(at_the_limit_data_waits_for_the_next_key),
		T(record_beyond_the_limit_does_not_lift_it),
		T(near_the_limit_a_send_is_one_record),
		T(count_that_fails_fails_the_connection),
		T(sealer_stops_at_the_limit),
		T(what_was_due_is_forgotten_when_nothing_waits_any_more),
	};

	return cmocka_run_group_tests_name("lanes", tests, NULL, NULL);
}
