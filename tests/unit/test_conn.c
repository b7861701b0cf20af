/* test_conn.c - the state machine of the transmit side, driven by hand. */
#include "machine.h"

/* ---- The table --------------------------------------------------------- */

static void done(void)
{
	op.tcp_bytes = 1000; /* DRAIN: nothing was sent, and nothing is missing */
	op.records = 0;
	answer(0);
}

static void refused(void)
{
	answer(-ENOENT);
}

static void not_yet(void)
{
	op.tcp_bytes = 1000;
	op.records = 1;
	answer(0);
}

static void key_for_the_kernel(void)
{
	put_key();
	assert_int_equal(ringtls__tx_next(&tx, &op), 1);
}

static void key_for_us(void)
{
	tx.want_kernel = false;
	put_key();
	expect_idle();
}

static void promoted(void)
{
	tx.keeps_key = true; /* as from the start */
	tx.kept = ringtls__key_copy(&last_key);
	assert_non_null(tx.kept);
	assert_int_equal(ringtls__tx_promote(&tx), 0);
	assert_int_equal(ringtls__tx_next(&tx, &op), 1);
}

static void close_it(void)
{
	put_close();
	ringtls__tx_next(&tx, &op);
}

static void near_the_limit(void)
{
	tx.record_limit = 1;
	send_one();
	lend("data", 4);
	assert_int_equal(ringtls__tx_next(&tx, &op), 1);
}

struct edge {
	const char *text; /* as ringtls__tx_print_graph has it */
	enum ringtls__tx_state from;
	void (*walk)(void);
	enum ringtls__tx_state to;
};

static const struct edge edges[] = {
#define E(f, t, label, walk)                                                                       \
	{                                                                                          \
#f " -> " #t " [label=\"" label "\"]", RINGTLS__TX_##f, walk, RINGTLS__TX_##t      \
	}
	E(CLEAR, ULP, "key for the kernel", key_for_the_kernel),
	E(CLEAR, USER, "key for us", key_for_us),
	E(CLEAR, CLOSED, "close", close_it),
	E(ULP, KEY, "done", done),
	E(ULP, USER, "refused", refused),
	E(KEY, KERNEL, "done", done),
	E(KEY, USER, "refused", refused),
	E(KERNEL, REKEY, "next key", key_for_the_kernel),
	E(KERNEL, COUNT, "near the limit", near_the_limit),
	E(COUNT, KERNEL, "done", done),
	E(KERNEL, DRAIN, "close", close_it),
	E(REKEY, KERNEL, "done", done),
	E(REKEY, FAILED, "refused", refused),
	E(USER, USER, "next key", key_for_us),
	E(USER, ULP, "promoted", promoted),
	E(USER, CLOSED, "close", close_it),
	E(DRAIN, CLOSED, "all in TCP", done),
	E(DRAIN, DRAIN_WAIT, "not yet", not_yet),
	E(DRAIN_WAIT, DRAIN, "done", done),
#undef E
};

static void edge_is_walked(void **state)
{
	const struct edge *edge = *state;

	machine_setup(NULL);
	reach(edge->from);
	edge->walk();
	assert_int_equal(tx.state, edge->to);
	machine_teardown(NULL);
}

/* A new edge needs a walk here; one that is gone must go here, too. */
static void every_edge_of_the_table_is_walked(void **state)
{
	char graph[8192] = "";
	FILE *to = fmemopen(graph, sizeof(graph) - 1, "w");
	size_t lines = 0;

	(void)state;
	assert_non_null(to);
	ringtls__tx_print_graph(to);
	fclose(to);
	for (size_t i = 0; i < COUNT(edges); i++)
		if (!strstr(graph, edges[i].text))
			fail_msg("the table has no %s", edges[i].text);
	for (const char *at = graph; (at = strstr(at, " -> ")); at++)
		lines++;
	/* And one to FAILED from every state but that. */
	assert_int_equal(lines, COUNT(edges) + RINGTLS__TX_FAILED);
}

/* The events that reach the machine by completing an op that is no transmit. */
static void pair_that_is_not_in_the_table_fails(enum ringtls__tx_state state, bool is_done)
{
	/* What the table has; DRAIN and COUNT judge by other things than the result. */
	if (state == RINGTLS__TX_ULP || state == RINGTLS__TX_KEY || state == RINGTLS__TX_REKEY ||
	    state == RINGTLS__TX_DRAIN || state == RINGTLS__TX_FAILED ||
	    (is_done && (state == RINGTLS__TX_COUNT || state == RINGTLS__TX_DRAIN_WAIT)))
		return;
	machine_setup(NULL);
	reach(state);
	tx.in_flight = true;
	op.kind = RINGTLS__OP_TIMER;
	answer(is_done ? 0 : -EIO);
	expect_failed(RINGTLS_E_STATE);
	machine_teardown(NULL);
}

static void no_state_takes_an_event_that_is_not_its_own(void **state)
{
	(void)state;
	for (int s = 0; s < RINGTLS__TX_STATES; s++) {
		pair_that_is_not_in_the_table_fails((enum ringtls__tx_state)s, true);
		pair_that_is_not_in_the_table_fails((enum ringtls__tx_state)s, false);
	}
}

/* Once the kernel has a key there is no key for us, and the other way round. */
static void next_key_never_changes_the_lane(void **state)
{
	(void)state;
	machine_setup(NULL);
	reach_kernel();
	tx.want_kernel = false;
	put_key();
	assert_int_equal(ringtls__tx_next(&tx, &op), RINGTLS_E_STATE);
	expect_failed(RINGTLS_E_STATE);
	machine_teardown(NULL);
	machine_setup(NULL);
	reach_user();
	tx.want_kernel = true;
	put_key();
	assert_int_equal(ringtls__tx_next(&tx, &op), RINGTLS_E_STATE);
	expect_failed(RINGTLS_E_STATE);
	machine_teardown(NULL);
}

/* ---- Before the key ---------------------------------------------------- */

static void clear_sends_openssls_own_bytes(void **state)
{
	(void)state;
	put_wire("hello");
	expect_bytes(RINGTLS__OP_SEND, "hello");
	assert_true(op.plain);
	answer(5);
	expect_idle();
	assert_true(ringtls__tx_is_idle(&tx));
	assert_int_equal(tx.ops, 1);
	assert_int_equal(tx.moved, 5);
	assert_int_equal(tx.short_sends, 0);
}

/* Invariant 1. */
static void plaintext_before_a_key_fails_and_is_not_sent(void **state)
{
	(void)state;
	for (int kind = 0; kind < 3; kind++) {
		machine_setup(NULL);
		if (kind == 0)
			lend("secret", 6);
		else if (kind == 1)
			put_record(22, "secret");
		else
			lend_file(0, 6);
		assert_int_equal(ringtls__tx_next(&tx, &op), RINGTLS_E_STATE);
		expect_failed(RINGTLS_E_STATE);
		machine_teardown(NULL);
	}
}

static void plaintext_behind_wire_is_not_gathered_with_it(void **state)
{
	(void)state;
	put_wire("hello");
	lend("secret", 6);
	expect_bytes(RINGTLS__OP_SEND, "hello");
	answer(5);
	assert_int_equal(ringtls__tx_next(&tx, &op), RINGTLS_E_STATE);
}

static void key_waits_until_all_before_it_is_taken(void **state)
{
	(void)state;
	put_wire("hello");
	put_key();
	put_record(22, "ticket");
	expect_bytes(RINGTLS__OP_SEND, "hello");
	answer(4);
	expect_bytes(RINGTLS__OP_SEND, "o");
	answer(-EAGAIN);
	expect_bytes(RINGTLS__OP_SEND, "o");
	answer(1);
	expect_op(RINGTLS__OP_ULP);
}

static void nothing_but_the_install_is_asked_for_until_it_is_done(void **state)
{
	(void)state;
	put_key();
	put_record(22, "ticket");
	lend("secret", 6);
	expect_op(RINGTLS__OP_ULP);
	answer(0);
	expect_op(RINGTLS__OP_KEY);
	assert_false(op.rekey);
	assert_memory_equal(op.key, &last_key, sizeof(last_key));
	answer(0);
	expect_bytes(RINGTLS__OP_RECORD, "ticket");
}

static void key_is_erased_once_the_kernel_has_it(void **state)
{
	(void)state;
	reach_kernel();
	assert_int_equal(pool.in_use, 0);
	/* What went back to the pool is looked at when it is freed: see teardown. */
}

/* ---- What was taken ---------------------------------------------------- */

/* Brings the machine to where text is asked for, in a few items. */
static void prepare(const struct ringtls__lane *lane)
{
	machine_setup(NULL);
	if (lane == &ringtls__lane_openssl) {
		put_wire("abcdefgh");
		put_key();
	} else {
		reach_kernel();
		put(RINGTLS__ITEM_DATA, 0, "abc");
		lend("defg", 4);
		put(RINGTLS__ITEM_DATA, 0, "h");
	}
}

static void short_send_goes_on_at_the_first_byte_not_taken(void **state)
{
	static const char text[] = "abcdefgh";
	const struct ringtls__lane *lanes[] = {&ringtls__lane_openssl, &ringtls__lane_kernel};

	(void)state;
	for (size_t l = 0; l < 2; l++) {
		for (size_t n = 1; n < 8; n++) {
			for (size_t m = 1; n + m < 8; m++) {
				prepare(lanes[l]);
				expect_bytes(RINGTLS__OP_SEND, text);
				answer((ssize_t)n);
				expect_bytes(RINGTLS__OP_SEND, text + n);
				answer((ssize_t)m);
				expect_bytes(RINGTLS__OP_SEND, text + n + m);
				assert_int_equal(tx.short_sends, 2);
				assert_int_equal(tx.moved, n + m);
				machine_teardown(NULL);
			}
		}
	}
}

static void short_send_of_sealed_bytes_goes_on_there_too(void **state)
{
	(void)state;
	for (size_t n = 1; n < 8 + 22; n++) {
		machine_setup(NULL);
		reach_user();
		lend("abcdefgh", 8);
		expect_op(RINGTLS__OP_SEND);
		take(n);
		assert_int_equal(tx.app_bytes, 0); /* not before the record is out */
		expect_op(RINGTLS__OP_SEND);
		take(op.len);
		assert_int_equal(tx.app_bytes, 8);
		expect_record(23, "abcdefgh");
		machine_teardown(NULL);
	}
}

static void nothing_taken_is_asked_for_again(void **state)
{
	static const ssize_t nothing[] = {-EAGAIN, -EINTR, -ECANCELED};

	(void)state;
	for (size_t i = 0; i < COUNT(nothing); i++) {
		machine_setup(NULL);
		put_wire("wire");
		expect_bytes(RINGTLS__OP_SEND, "wire");
		answer(nothing[i]);
		expect_bytes(RINGTLS__OP_SEND, "wire");
		answer(4);
		reach_kernel();
		put_record(22, "record");
		expect_bytes(RINGTLS__OP_RECORD, "record");
		answer(nothing[i]);
		expect_bytes(RINGTLS__OP_RECORD, "record");
		assert_int_equal(op.record_type, 22);
		answer(6);
		lend_file(10, 100);
		expect_op(RINGTLS__OP_SENDFILE);
		answer(nothing[i]);
		expect_op(RINGTLS__OP_SENDFILE);
		assert_int_equal(op.offset, 10);
		assert_int_equal(op.len, 100);
		assert_int_equal(tx.ops, 2);
		assert_int_equal(tx.short_sends, 0);
		answer(100);
		machine_teardown(NULL);
	}
}

/* ---- What fails -------------------------------------------------------- */

static const int errors[] = {
	EPIPE,	  ECONNRESET, ETIMEDOUT, EBADMSG,      ENOTCONN, EFAULT,     ENOBUFS, ENOMEM,
	EMSGSIZE, EPERM,      EIO,	 EHOSTUNREACH, ENETDOWN, EOPNOTSUPP, EINVAL,  EBADF,
};

static void every_error_fails_the_connection_and_sticks(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(errors); i++) {
		for (int lane = 0; lane < 3; lane++) {
			machine_setup(NULL);
			if (lane == 0)
				put_wire("wire");
			else if (lane == 1)
				reach_kernel();
			else
				reach_user();
			if (lane)
				lend("data", 4);
			put_record(22, "never");
			put_key();
			put_close();
			expect_op(RINGTLS__OP_SEND);
			answer(-errors[i]);
			expect_failed(-errors[i]);
			/* Whatever comes later. */
			put_wire("later");
			assert_int_equal(ringtls__tx_next(&tx, &op), -errors[i]);
			ringtls__tx_fail(&tx, -EIO);
			assert_int_equal(tx.error, -errors[i]);
			machine_teardown(NULL);
		}
	}
}

static void broken_control_record_fails_too(void **state)
{
	(void)state;
	reach_kernel();
	put_record(22, "record");
	expect_op(RINGTLS__OP_RECORD);
	answer(-EINVAL); /* of a file it would be the file's */
	expect_failed(-EINVAL);
}

static void broken_connection_fails_a_file_too(void **state)
{
	(void)state;
	reach_kernel();
	lend_file(0, 100);
	expect_op(RINGTLS__OP_SENDFILE);
	answer(-EPIPE);
	expect_failed(-EPIPE);
	assert_int_equal(tx.file_error, 0);
}

static void key_that_no_sealer_takes_fails(void **state)
{
	(void)state;
	tx.want_kernel = false;
	put_key();
	((struct ringtls__key *)(uintptr_t)ringtls__item_key(tx.q.head))->u.info.cipher_type = 99;
	assert_int_equal(ringtls__tx_next(&tx, &op), -EINVAL);
	expect_failed(-EINVAL);
}

static void answer_after_a_failure_is_ignored(void **state)
{
	(void)state;
	put_wire("wire");
	expect_op(RINGTLS__OP_SEND);
	tx.in_flight = false; /* as a caller who failed it must have waited for the op */
	ringtls__tx_fail(&tx, -EIO);
	tx.in_flight = true;
	answer(4);
	expect_failed(-EIO);
}

/* ---- Late refusals ----------------------------------------------------- */

static const int refusals[] = {ENOENT, EOPNOTSUPP, ENOTCONN, EINVAL, ENOMEM, EPERM};

/* Invariant 4: the number goes on where OpenSSL's key was. */
static void late_refusal_hands_the_key_to_the_user_lane(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(refusals); i++) {
		for (int at_key = 0; at_key < 2; at_key++) {
			machine_setup(NULL);
			put_key_of(TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_256, 1234567);
			put_record(22, "finished");
			expect_op(RINGTLS__OP_ULP);
			if (at_key) {
				answer(0);
				expect_op(RINGTLS__OP_KEY);
			}
			answer(-refusals[i]);
			assert_int_equal(tx.install_error, -refusals[i]);
			assert_int_equal(tx.state, RINGTLS__TX_USER);
			assert_false(tx.want_kernel); /* the next key is ours as well */
			expect_op(RINGTLS__OP_SEND);
			opener_set_key(&peer, &last_key);
			assert_int_equal(peer.seq, 1234567);
			take(op.len);
			expect_record(22, "finished");
			assert_int_equal(ringtls__tx_records(&tx, 0), 1);
			assert_int_equal(tx.epochs, 1);
			machine_teardown(NULL);
		}
	}
}

static void late_refusal_of_a_named_lane_is_an_error(void **state)
{
	(void)state;
	for (int at_key = 0; at_key < 2; at_key++) {
		machine_setup(NULL);
		tx.may_fall_back = false;
		put_key();
		put_record(22, "finished");
		expect_op(RINGTLS__OP_ULP);
		if (at_key) {
			answer(0);
			expect_op(RINGTLS__OP_KEY);
		}
		answer(-ENOENT);
		assert_int_equal(tx.install_error, -ENOENT);
		expect_failed(RINGTLS_E_LANE);
		machine_teardown(NULL);
	}
}

static void refused_rekey_is_an_error_even_where_one_may_fall_back(void **state)
{
	(void)state;
	reach(RINGTLS__TX_REKEY);
	assert_true(op.rekey);
	answer(-EBUSY);
	assert_int_equal(tx.install_error, -EBUSY);
	expect_failed(RINGTLS_E_REKEY);
}

/* ---- Renewing the key -------------------------------------------------- */

static void rekey_goes_behind_the_keyupdate_and_before_data(void **state)
{
	(void)state;
	reach_kernel();
	lend("data", 4);
	assert_int_equal(ringtls__txq_copy(&inbox, RINGTLS__ITEM_RECORD, 22, "update", 6, 0), 0);
	last_key = test_key(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 0);
	assert_int_equal(ringtls__txq_key(&inbox, &last_key), 0);
	ringtls__txq_take(&tx.q, &inbox);
	expect_bytes(RINGTLS__OP_RECORD, "update");
	answer(6);
	expect_op(RINGTLS__OP_KEY);
	assert_true(op.rekey);
	op.records = 1;
	answer(0);
	expect_bytes(RINGTLS__OP_SEND, "data");
	assert_int_equal(tx.epochs, 2);
}

static void records_are_counted_over_all_epochs(void **state)
{
	(void)state;
	reach_kernel_with(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 5);
	assert_int_equal(ringtls__tx_records(&tx, 5), 0);
	assert_int_equal(ringtls__tx_records(&tx, 12), 7);
	for (int i = 0; i < 3; i++) {
		put_key();
		expect_op(RINGTLS__OP_KEY);
		op.records = i ? 10 : 15; /* ten in each */
		answer(0);
	}
	assert_int_equal(ringtls__tx_records(&tx, 4), 34);
	/* Where the kernel could not be asked, what is known. */
	assert_int_equal(ringtls__tx_records(&tx, 0), 30);
}

/* ---- Closing and the drain --------------------------------------------- */

static const struct {
	uint16_t version, cipher;
	size_t overhead; /* RFC 8446 5.2, RFC 5288, RFC 6655, RFC 7905 */
} shapes[] = {
	{TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 22},
	{TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_256, 22},
	{TLS_1_3_VERSION, TLS_CIPHER_AES_CCM_128, 22},
	{TLS_1_3_VERSION, TLS_CIPHER_CHACHA20_POLY1305, 22},
	{TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128, 29},
	{TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_256, 29},
	{TLS_1_2_VERSION, TLS_CIPHER_AES_CCM_128, 29},
	{TLS_1_2_VERSION, TLS_CIPHER_CHACHA20_POLY1305, 21},
};

/* A connection that sent 5 + 100 + 2 bytes in 4 records, and closes. */
static void close_with(uint16_t version, uint16_t cipher)
{
	reach_kernel_with(version, cipher, 7);
	put_record(22, "abcde");
	expect_op(RINGTLS__OP_RECORD);
	answer(5);
	lend(big, 100);
	expect_op(RINGTLS__OP_SEND);
	answer(60);
	expect_op(RINGTLS__OP_SEND);
	answer(40);
	put_record(21, "xx");
	put_close();
	expect_op(RINGTLS__OP_RECORD);
	answer(2);
	expect_op(RINGTLS__OP_OUTPUT);
	assert_memory_equal(op.has, &last_key.u.info, sizeof(last_key.u.info));
	op.records = 7 + 4;
}

static void drain_ends_when_tcp_has_every_byte_of_every_record(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(shapes); i++) {
		uint64_t all = 1000 + 107 + 4 * shapes[i].overhead;

		for (int missing = 0; missing < 3; missing++) {
			machine_setup(NULL);
			close_with(shapes[i].version, shapes[i].cipher);
			op.tcp_bytes = all - (uint64_t)missing;
			answer(0);
			assert_int_equal(tx.state,
					 missing ? RINGTLS__TX_DRAIN_WAIT : RINGTLS__TX_CLOSED);
			assert_int_equal(ringtls__tx_is_idle(&tx), !missing);
			machine_teardown(NULL);
		}
	}
}

static void more_in_tcp_than_we_gave_is_somebody_elses(void **state)
{
	(void)state;
	close_with(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128);
	op.tcp_bytes = 1000 + 107 + 4 * 22 + 1;
	answer(0);
	expect_failed(RINGTLS_E_KERNEL);
}

static void drain_that_cannot_ask_fails(void **state)
{
	(void)state;
	reach(RINGTLS__TX_DRAIN);
	answer(-ENOTCONN);
	expect_failed(-ENOTCONN);
}

static void drain_counts_the_records_of_all_epochs(void **state)
{
	(void)state;
	reach_kernel_with(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 3);
	lend(big, 50);
	expect_op(RINGTLS__OP_SEND);
	answer(50);
	for (int i = 0; i < 2; i++) {
		put_record(22, "12345");
		put_key();
		expect_op(RINGTLS__OP_RECORD);
		answer(5);
		expect_op(RINGTLS__OP_KEY);
		op.records = i ? 1 : 3 + 2;
		op.tcp_bytes = 99; /* a rekey's is not the base */
		answer(0);
	}
	put_record(21, "xx");
	put_close();
	expect_op(RINGTLS__OP_RECORD);
	answer(2);
	expect_op(RINGTLS__OP_OUTPUT);
	op.records = 1;
	op.tcp_bytes = 1000 + 50 + 2 * 5 + 2 + (2 + 1 + 1) * 22;
	answer(0);
	expect_idle();
	assert_int_equal(tx.state, RINGTLS__TX_CLOSED);
}

static void sent_file_counts_for_the_drain(void **state)
{
	(void)state;
	reach_kernel();
	lend_file(0, 1000);
	put_close();
	expect_op(RINGTLS__OP_SENDFILE);
	answer(1000);
	expect_op(RINGTLS__OP_OUTPUT);
	op.records = 1;
	op.tcp_bytes = 1000 + 1000 + 22;
	answer(0);
	expect_idle();
	assert_int_equal(tx.state, RINGTLS__TX_CLOSED);
}

/* POLLOUT may come before the kernel's work ran, and stay: so they take turns, and
 * the timer grows up to 100 ms. */
static void drain_waits_by_poll_and_by_a_growing_timer_in_turn(void **state)
{
	static const unsigned ms[] = {1, 2, 4, 8, 16, 32, 64, 100, 100, 100};

	(void)state;
	reach(RINGTLS__TX_DRAIN);
	for (size_t turn = 0; turn < 2 * COUNT(ms); turn++) {
		op.records = 1;
		op.tcp_bytes = 1000 + 10;
		answer(0);
		assert_int_equal(ringtls__tx_next(&tx, &op), 1);
		assert_int_equal(op.kind, turn % 2 ? RINGTLS__OP_TIMER : RINGTLS__OP_POLL);
		if (turn % 2)
			assert_int_equal(op.ms, ms[turn / 2]);
		else
			assert_int_equal(op.events, POLLOUT);
		answer(0);
		expect_op(RINGTLS__OP_OUTPUT);
	}
}

/* Asks until it fails, or long enough. Answers how often it asked. */
static int drain_on(uint32_t queued, bool moves)
{
	int asked = 0;

	reach(RINGTLS__TX_DRAIN);
	while (asked < 1000) {
		op.records = 1000;
		op.tcp_bytes = 1000 + (moves ? (uint64_t)asked : 10);
		op.queued = queued;
		answer(0);
		asked++;
		if (ringtls__tx_next(&tx, &op) < 0)
			break;
		answer(0);
		expect_op(RINGTLS__OP_OUTPUT);
	}
	return asked;
}

/* An open record that nobody will ever close: no wait would end it. */
static void drain_ends_when_nothing_moves_and_nothing_is_in_tcp(void **state)
{
	(void)state;
	assert_in_bounds((unsigned)drain_on(0, false), 50, 300);
	expect_failed(RINGTLS_E_KERNEL);
}

static void drain_waits_for_a_slow_peer_as_long_as_it_takes(void **state)
{
	(void)state;
	assert_int_equal(drain_on(1, false), 1000);
	machine_teardown(NULL);
	machine_setup(NULL);
	assert_int_equal(drain_on(0, true), 1000);
}

static void what_is_queued_behind_a_close_is_dropped(void **state)
{
	(void)state;
	put_close();
	put_wire("late");
	expect_idle();
	assert_int_equal(tx.state, RINGTLS__TX_CLOSED);
	assert_null(tx.q.head);
	put_wire("later");
	expect_idle();
	assert_null(tx.q.head);
	assert_int_equal(pool.in_use, 0);
}

static void what_is_queued_during_a_drain_is_not_sent(void **state)
{
	(void)state;
	reach(RINGTLS__TX_DRAIN);
	put_record(22, "late");
	op.tcp_bytes = 1000;
	op.records = 0;
	answer(0);
	expect_idle();
	assert_null(tx.q.head);
}

static void close_with_an_error_fails_with_it_when_all_is_out(void **state)
{
	(void)state;
	for (int kernel = 0; kernel < 2; kernel++) {
		machine_setup(NULL);
		tx.close_error = RINGTLS_E_REKEY;
		if (kernel) {
			reach_kernel();
		} else {
			reach_user();
		}
		put_record(21, "xx");
		put_close();
		assert_int_equal(ringtls__tx_next(&tx, &op), 1);
		answer((ssize_t)op.len);
		if (kernel) {
			expect_op(RINGTLS__OP_OUTPUT);
			op.records = 1;
			op.tcp_bytes = 1000 + 2 + 22;
			answer(0);
		}
		assert_int_equal(ringtls__tx_next(&tx, &op), RINGTLS_E_REKEY);
		expect_failed(RINGTLS_E_REKEY);
		machine_teardown(NULL);
	}
}

/* ---- Idle or not ------------------------------------------------------- */

static void idle_means_nothing_queued_sealed_or_draining(void **state)
{
	(void)state;
	assert_true(ringtls__tx_is_idle(&tx));
	put_wire("wire");
	assert_false(ringtls__tx_is_idle(&tx));
	expect_op(RINGTLS__OP_SEND);
	answer(4);
	assert_true(ringtls__tx_is_idle(&tx));
	reach_user();
	lend("data", 4);
	expect_op(RINGTLS__OP_SEND);
	ringtls__txq_withdraw(&tx.q, &item);
	assert_false(ringtls__tx_is_idle(&tx));
	answer((ssize_t)op.len);
	assert_true(ringtls__tx_is_idle(&tx));
}

static void end_drops_what_was_not_sent_and_erases_keys(void **state)
{
	(void)state;
	put_wire("wire");
	put_key();
	put_record(22, "ticket");
	ringtls__tx_fini(&tx);
	assert_int_equal(pool.in_use, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, machine_setup, machine_teardown)

static const struct CMUnitTest tests[] = {
	T(every_edge_of_the_table_is_walked),
	T(no_state_takes_an_event_that_is_not_its_own),
	T(next_key_never_changes_the_lane),
	T(clear_sends_openssls_own_bytes),
	T(plaintext_before_a_key_fails_and_is_not_sent),
	T(plaintext_behind_wire_is_not_gathered_with_it),
	T(key_waits_until_all_before_it_is_taken),
	T(nothing_but_the_install_is_asked_for_until_it_is_done),
	T(key_is_erased_once_the_kernel_has_it),
	T(short_send_goes_on_at_the_first_byte_not_taken),
	T(short_send_of_sealed_bytes_goes_on_there_too),
	T(nothing_taken_is_asked_for_again),
	T(every_error_fails_the_connection_and_sticks),
	T(broken_control_record_fails_too),
	T(broken_connection_fails_a_file_too),
	T(key_that_no_sealer_takes_fails),
	T(answer_after_a_failure_is_ignored),
	T(late_refusal_hands_the_key_to_the_user_lane),
	T(late_refusal_of_a_named_lane_is_an_error),
	T(refused_rekey_is_an_error_even_where_one_may_fall_back),
	T(rekey_goes_behind_the_keyupdate_and_before_data),
	T(records_are_counted_over_all_epochs),
	T(drain_ends_when_tcp_has_every_byte_of_every_record),
	T(more_in_tcp_than_we_gave_is_somebody_elses),
	T(drain_that_cannot_ask_fails),
	T(drain_counts_the_records_of_all_epochs),
	T(sent_file_counts_for_the_drain),
	T(drain_waits_by_poll_and_by_a_growing_timer_in_turn),
	T(drain_ends_when_nothing_moves_and_nothing_is_in_tcp),
	T(drain_waits_for_a_slow_peer_as_long_as_it_takes),
	T(what_is_queued_behind_a_close_is_dropped),
	T(what_is_queued_during_a_drain_is_not_sent),
	T(close_with_an_error_fails_with_it_when_all_is_out),
	T(idle_means_nothing_queued_sealed_or_draining),
	T(end_drops_what_was_not_sent_and_erases_keys),
};

int main(void)
{
	static struct CMUnitTest all[COUNT(tests) + COUNT(edges)];

	memcpy(all, tests, sizeof(tests));
	for (size_t i = 0; i < COUNT(edges); i++) {
		all[COUNT(tests) + i].name = edges[i].text;
		all[COUNT(tests) + i].test_func = edge_is_walked;
		all[COUNT(tests) + i].initial_state = (void *)(uintptr_t)&edges[i];
	}
	return cmocka_run_group_tests_name("conn", all, NULL, NULL);
}
