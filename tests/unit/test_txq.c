/* test_txq.c - the ordered transmit queue. */
#include "support.h"
#include "txq.h"

#include <errno.h>
#include "fake_malloc.h"
#include "keys.h"

static struct ringtls__pool pool;
static struct ringtls__txq q, from;
static struct ringtls__item borrowed[4];

static int setup(void **state)
{
	(void)state;
	memset(&pool, 0, sizeof(pool));
	memset(borrowed, 0, sizeof(borrowed));
	ringtls__txq_init(&q, &pool);
	ringtls__txq_init(&from, &pool);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_malloc_fail_at(0);
	ringtls__txq_fini(&q);
	ringtls__txq_fini(&from);
	fake_malloc_watch(NULL, 0);
	assert_int_equal(pool.in_use, 0);
	ringtls__pool_fini(&pool);
	return 0;
}

static void copy(struct ringtls__txq *to, enum ringtls__item_kind kind, const char *text)
{
	assert_int_equal(ringtls__txq_copy(to, kind, 22, text, strlen(text), 0), 0);
}

static struct ringtls__item *borrow(int i, enum ringtls__item_kind kind, const char *text)
{
	borrowed[i].kind = kind;
	borrowed[i].bytes = (const uint8_t *)text;
	borrowed[i].len = strlen(text);
	ringtls__txq_push(&q, &borrowed[i]);
	return &borrowed[i];
}

static void put_key(struct ringtls__txq *to)
{
	struct ringtls__key key = test_key(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 0);

	assert_int_equal(ringtls__txq_key(to, &key), 0);
}

/* "D:abc|R:x|K|C": the items and what is left of their bytes. Also that the tail
 * is where the next one belongs. */
static const char *look(void)
{
	static const char letters[] = "DFRWKC";
	static char text[512];
	struct ringtls__item *const *at = &q.head;
	size_t n = 0;

	for (; *at; at = &(*at)->next) {
		const struct ringtls__item *i = *at;

		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%c", n ? "|" : "",
				      letters[i->kind]);
		if (i->len && i->kind != RINGTLS__ITEM_FILE)
			n += (size_t)snprintf(text + n, sizeof(text) - n, ":%.*s",
					      (int)(i->len - i->done),
					      (const char *)i->bytes + i->done);
	}
	text[n] = '\0';
	assert_ptr_equal(q.tail, at);
	return text;
}

/* ---- Putting in, taking out -------------------------------------------- */

static void items_come_out_in_the_order_they_went_in(void **state)
{
	(void)state;
	copy(&q, RINGTLS__ITEM_WIRE, "hello");
	put_key(&q);
	copy(&q, RINGTLS__ITEM_RECORD, "ticket");
	copy(&q, RINGTLS__ITEM_DATA, "early");
	borrow(0, RINGTLS__ITEM_DATA, "late");
	assert_int_equal(ringtls__txq_close(&q), 0);
	assert_string_equal(look(), "W:hello|K|R:ticket|D:early|D:late|C");
	for (int i = 0; i < 3; i++)
		ringtls__txq_pop(&q);
	assert_string_equal(look(), "D:early|D:late|C");
	for (int i = 0; i < 3; i++)
		ringtls__txq_pop(&q);
	assert_string_equal(look(), "");
}

static void what_is_copied_is_the_queues_own(void **state)
{
	char text[] = "before";

	(void)state;
	copy(&q, RINGTLS__ITEM_RECORD, text);
	memcpy(text, "AFTER!", 6);
	assert_string_equal(look(), "R:before");
	assert_int_equal(q.head->record_type, 22);
}

static void copied_item_is_given_back_and_borrowed_one_is_left_alone(void **state)
{
	(void)state;
	copy(&q, RINGTLS__ITEM_RECORD, "ours");
	borrow(0, RINGTLS__ITEM_DATA, "theirs");
	assert_int_equal(pool.in_use, 1);
	ringtls__txq_pop(&q);
	assert_int_equal(pool.in_use, 0);
	ringtls__txq_pop(&q);
	assert_int_equal(pool.in_use, 0);
	assert_string_equal((const char *)borrowed[0].bytes, "theirs");
}

static void queue_can_be_filled_again_after_it_was_empty(void **state)
{
	(void)state;
	copy(&q, RINGTLS__ITEM_WIRE, "one");
	ringtls__txq_pop(&q);
	copy(&q, RINGTLS__ITEM_WIRE, "two");
	put_key(&q);
	assert_string_equal(look(), "W:two|K");
}

/* ---- Joining ----------------------------------------------------------- */

static void wire_is_joined_to_wire(void **state)
{
	(void)state;
	copy(&q, RINGTLS__ITEM_WIRE, "one");
	copy(&q, RINGTLS__ITEM_WIRE, "two");
	copy(&q, RINGTLS__ITEM_WIRE, "three");
	assert_string_equal(look(), "W:onetwothree");
	assert_int_equal(pool.in_use, 1);
}

static void wire_is_joined_to_an_item_that_is_partly_sent(void **state)
{
	(void)state;
	copy(&q, RINGTLS__ITEM_WIRE, "one");
	ringtls__txq_advance(&q, 2);
	copy(&q, RINGTLS__ITEM_WIRE, "two");
	assert_string_equal(look(), "W:etwo");
}

/* What they are is lost when they touch: a record is a record. */
static void other_kinds_are_never_joined(void **state)
{
	(void)state;
	copy(&q, RINGTLS__ITEM_RECORD, "a");
	copy(&q, RINGTLS__ITEM_RECORD, "b");
	copy(&q, RINGTLS__ITEM_DATA, "c");
	copy(&q, RINGTLS__ITEM_DATA, "d");
	copy(&q, RINGTLS__ITEM_WIRE, "e");
	assert_string_equal(look(), "R:a|R:b|D:c|D:d|W:e");
}

static void wire_behind_a_key_is_not_joined_to_wire_before_it(void **state)
{
	(void)state;
	copy(&q, RINGTLS__ITEM_WIRE, "old");
	put_key(&q);
	copy(&q, RINGTLS__ITEM_WIRE, "new");
	assert_string_equal(look(), "W:old|K|W:new");
}

static void wire_is_not_joined_to_what_is_borrowed(void **state)
{
	static char theirs[64] = "theirs";
	struct ringtls__item *item = borrow(0, RINGTLS__ITEM_WIRE, theirs);

	(void)state;
	item->room = sizeof(theirs);
	copy(&q, RINGTLS__ITEM_WIRE, "ours");
	assert_string_equal(look(), "W:theirs|W:ours");
	assert_string_equal(theirs, "theirs");
}

/* Whatever the pieces, the bytes are the same. */
static void wire_that_does_not_fit_goes_on_in_the_next_item(void **state)
{
	static uint8_t bytes[300000], got[sizeof(bytes)];
	size_t n = 0, len;
	uint32_t x = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i ^ i >> 8);
	while (n < sizeof(bytes)) {
		x = x * 1664525u + 1013904223u;
		len = 1 + (x >> 8) % 5000;
		len = len < sizeof(bytes) - n ? len : sizeof(bytes) - n;
		assert_int_equal(ringtls__txq_copy(&q, RINGTLS__ITEM_WIRE, 0, bytes + n, len,
						   x % 3 ? 0 : len * 2),
				 0);
		n += len;
	}
	for (n = 0; q.head; ringtls__txq_pop(&q)) {
		assert_true(q.head->len <= q.head->room);
		memcpy(got + n, q.head->bytes, q.head->len);
		n += q.head->len;
	}
	assert_int_equal(n, sizeof(bytes));
	assert_memory_equal(got, bytes, n);
}

static void what_is_expected_finds_room_in_one_item(void **state)
{
	static const uint8_t piece[1000];

	(void)state;
	for (int i = 0; i < 200; i++)
		assert_int_equal(ringtls__txq_copy(&q, RINGTLS__ITEM_WIRE, 0, piece, sizeof(piece),
						   200000 - (size_t)i * 1000),
				 0);
	assert_int_equal(pool.in_use, 1);
	assert_int_equal(q.head->len, 200000);
}

/* A wrong guess costs nothing but the guess. */
static void expecting_too_much_is_no_error(void **state)
{
	(void)state;
	assert_int_equal(ringtls__txq_copy(&q, RINGTLS__ITEM_WIRE, 0, "x", 1, SIZE_MAX), 0);
	assert_string_equal(look(), "W:x");
}

/* ---- No memory --------------------------------------------------------- */

static void without_memory_the_queue_stays_as_it_was(void **state)
{
	struct ringtls__key key = test_key(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 0);

	(void)state;
	copy(&q, RINGTLS__ITEM_RECORD, "a");
	fake_malloc_fail_at(1);
	assert_int_equal(ringtls__txq_copy(&q, RINGTLS__ITEM_WIRE, 0, "b", 1, 0), -ENOMEM);
	fake_malloc_fail_at(1);
	assert_int_equal(ringtls__txq_key(&q, &key), -ENOMEM);
	fake_malloc_fail_at(1);
	assert_int_equal(ringtls__txq_close(&q), -ENOMEM);
	assert_string_equal(look(), "R:a");
	copy(&q, RINGTLS__ITEM_RECORD, "c");
	assert_string_equal(look(), "R:a|R:c");
}

/* The first part would fit, the rest has no memory: neither goes in. */
static void without_memory_nothing_is_joined_either(void **state)
{
	static uint8_t bytes[5000];
	size_t room;

	(void)state;
	copy(&q, RINGTLS__ITEM_WIRE, "a");
	room = q.head->room;
	assert_true(room < sizeof(bytes));
	fake_malloc_fail_at(1);
	assert_int_equal(ringtls__txq_copy(&q, RINGTLS__ITEM_WIRE, 0, bytes, sizeof(bytes), 0),
			 -ENOMEM);
	assert_string_equal(look(), "W:a");
	/* What fits needs no memory. */
	fake_malloc_fail_at(1);
	assert_int_equal(ringtls__txq_copy(&q, RINGTLS__ITEM_WIRE, 0, bytes, room - 1, 0), 0);
	assert_int_equal(q.head->len, room);
}

/* ---- Moving from the inbox --------------------------------------------- */

static void take_appends_to_what_is_not_application_data(void **state)
{
	(void)state;
	copy(&q, RINGTLS__ITEM_WIRE, "a");
	copy(&from, RINGTLS__ITEM_RECORD, "b");
	put_key(&from);
	ringtls__txq_take(&q, &from);
	assert_string_equal(look(), "W:a|R:b|K");
	assert_null(from.head);
}

static void take_into_an_empty_queue(void **state)
{
	(void)state;
	copy(&from, RINGTLS__ITEM_RECORD, "a");
	ringtls__txq_take(&q, &from);
	copy(&q, RINGTLS__ITEM_RECORD, "b");
	assert_string_equal(look(), "R:a|R:b");
}

static void take_of_nothing_changes_nothing(void **state)
{
	(void)state;
	ringtls__txq_take(&q, &from);
	assert_string_equal(look(), "");
	borrow(0, RINGTLS__ITEM_DATA, "a");
	ringtls__txq_take(&q, &from);
	assert_string_equal(look(), "D:a");
}

/* RFC 8446 4.6.3: no application data between a request and its KeyUpdate. */
static void take_goes_before_application_bytes_that_are_not_sealed(void **state)
{
	(void)state;
	copy(&q, RINGTLS__ITEM_RECORD, "a");
	borrow(0, RINGTLS__ITEM_DATA, "data");
	borrow(1, RINGTLS__ITEM_FILE, "file");
	ringtls__txq_advance(&q, 3); /* a, and two bytes of data: a record boundary */
	copy(&from, RINGTLS__ITEM_RECORD, "update");
	put_key(&from);
	ringtls__txq_take(&q, &from);
	assert_string_equal(look(), "R:update|K|D:ta|F");
	copy(&q, RINGTLS__ITEM_RECORD, "z");
	assert_string_equal(look(), "R:update|K|D:ta|F|R:z");
}

static void take_goes_before_a_file(void **state)
{
	(void)state;
	borrow(0, RINGTLS__ITEM_FILE, "file");
	copy(&from, RINGTLS__ITEM_RECORD, "update");
	ringtls__txq_take(&q, &from);
	assert_string_equal(look(), "R:update|F");
}

/* OpenSSL wrote those bytes itself, before: its order is kept. */
static void take_does_not_overtake_application_bytes_of_openssls(void **state)
{
	(void)state;
	copy(&q, RINGTLS__ITEM_DATA, "early");
	borrow(0, RINGTLS__ITEM_DATA, "late");
	copy(&from, RINGTLS__ITEM_RECORD, "update");
	ringtls__txq_take(&q, &from);
	assert_string_equal(look(), "D:early|R:update|D:late");
}

static void second_take_goes_behind_the_first(void **state)
{
	(void)state;
	borrow(0, RINGTLS__ITEM_DATA, "data");
	copy(&from, RINGTLS__ITEM_RECORD, "a");
	ringtls__txq_take(&q, &from);
	copy(&from, RINGTLS__ITEM_RECORD, "b");
	copy(&from, RINGTLS__ITEM_RECORD, "c");
	ringtls__txq_take(&q, &from);
	assert_string_equal(look(), "R:a|R:b|R:c|D:data");
}

/* ---- Withdrawing ------------------------------------------------------- */

static void withdraw_of_the_only_item(void **state)
{
	(void)state;
	ringtls__txq_withdraw(&q, borrow(0, RINGTLS__ITEM_DATA, "a"));
	assert_string_equal(look(), "");
	copy(&q, RINGTLS__ITEM_RECORD, "z");
	assert_string_equal(look(), "R:z");
}

static void withdraw_of_the_first_middle_and_last(void **state)
{
	static const char *const left[] = {"D:b|D:c|R:z", "D:a|D:c|R:z", "D:a|D:b|R:z"};
	static const char *const texts[] = {"a", "b", "c"};

	(void)state;
	for (int out = 0; out < 3; out++) {
		for (int i = 0; i < 3; i++)
			borrow(i, RINGTLS__ITEM_DATA, texts[i]);
		ringtls__txq_withdraw(&q, &borrowed[out]);
		copy(&q, RINGTLS__ITEM_RECORD, "z"); /* the tail is right */
		assert_string_equal(look(), left[out]);
		ringtls__txq_fini(&q);
	}
}

static void withdraw_of_what_is_done_already_is_fine(void **state)
{
	struct ringtls__item *item = borrow(0, RINGTLS__ITEM_DATA, "abc");

	(void)state;
	copy(&q, RINGTLS__ITEM_RECORD, "z");
	ringtls__txq_advance(&q, 3);
	ringtls__txq_withdraw(&q, item);
	assert_string_equal(look(), "R:z");
	assert_int_equal(item->done, 3);
}

static void withdrawn_item_knows_what_was_taken(void **state)
{
	struct ringtls__item *item = borrow(0, RINGTLS__ITEM_DATA, "abcdef");

	(void)state;
	ringtls__txq_advance(&q, 4);
	ringtls__txq_withdraw(&q, item);
	assert_int_equal(item->done, 4);
	assert_string_equal(look(), "");
}

/* ---- Gathering and advancing ------------------------------------------- */

static void gather_takes_neighbours_of_one_kind(void **state)
{
	struct iovec iov[8];
	unsigned count;

	(void)state;
	copy(&q, RINGTLS__ITEM_DATA, "ab");
	borrow(0, RINGTLS__ITEM_DATA, "cde");
	copy(&q, RINGTLS__ITEM_RECORD, "x");
	copy(&q, RINGTLS__ITEM_DATA, "f");
	assert_int_equal(ringtls__txq_gather(&q, iov, 8, 100, &count), 5);
	assert_int_equal(count, 2);
	assert_int_equal(iov[0].iov_len, 2);
	assert_ptr_equal(iov[1].iov_base, borrowed[0].bytes);
	assert_int_equal(iov[1].iov_len, 3);
}

static void gather_begins_behind_what_was_taken(void **state)
{
	struct iovec iov[8];
	unsigned count;

	(void)state;
	borrow(0, RINGTLS__ITEM_DATA, "abcdef");
	ringtls__txq_advance(&q, 2);
	assert_int_equal(ringtls__txq_gather(&q, iov, 8, 100, &count), 4);
	assert_ptr_equal(iov[0].iov_base, borrowed[0].bytes + 2);
	assert_int_equal(iov[0].iov_len, 4);
}

static void gather_stops_at_its_limits(void **state)
{
	struct iovec iov[8];
	unsigned count;

	(void)state;
	borrow(0, RINGTLS__ITEM_DATA, "abc");
	borrow(1, RINGTLS__ITEM_DATA, "def");
	borrow(2, RINGTLS__ITEM_DATA, "ghi");
	assert_int_equal(ringtls__txq_gather(&q, iov, 2, 100, &count), 6);
	assert_int_equal(count, 2);
	assert_int_equal(ringtls__txq_gather(&q, iov, 8, 5, &count), 5);
	assert_int_equal(count, 2);
	assert_int_equal(iov[1].iov_len, 2);
	/* Not an empty iovec when the limit falls between two. */
	assert_int_equal(ringtls__txq_gather(&q, iov, 8, 6, &count), 6);
	assert_int_equal(count, 2);
	assert_int_equal(ringtls__txq_gather(&q, iov, 8, 1, &count), 1);
	assert_int_equal(count, 1);
}

/* A partial write is of the first bytes of the caller's pieces, and the array ends behind them. */
static void gather_takes_no_more_of_the_pieces_than_the_item_has(void **state)
{
	static const uint8_t text[] = "abcdefghij";
	const struct iovec pieces[2] = { { (void *)(uintptr_t)text, 4 },
					 { (void *)(uintptr_t)(text + 4), 6 } };
	struct ringtls__item item = { .kind = RINGTLS__ITEM_DATA, .iov = pieces, .len = 7 };
	struct iovec iov[8];
	unsigned count;

	(void)state;
	ringtls__txq_push(&q, &item);
	assert_int_equal(ringtls__txq_gather(&q, iov, 8, 100, &count), 7);
	assert_int_equal(count, 2);
	assert_int_equal(iov[1].iov_len, 3);
	ringtls__txq_advance(&q, 5); /* the socket took a part of it */
	assert_int_equal(ringtls__txq_gather(&q, iov, 8, 7, &count), 2);
	assert_int_equal(count, 1);
	assert_ptr_equal(iov[0].iov_base, text + 5);
	assert_int_equal(iov[0].iov_len, 2);
	ringtls__txq_withdraw(&q, &item);
}

static void gather_of_an_empty_queue_is_nothing(void **state)
{
	struct iovec iov[1];
	unsigned count = 7;

	(void)state;
	assert_int_equal(ringtls__txq_gather(&q, iov, 1, 100, &count), 0);
	assert_int_equal(count, 0);
}

static void advance_at_every_boundary(void **state)
{
	static const char *const left[] = {"D:abc|D:de|R:f", "D:bc|D:de|R:f", "D:c|D:de|R:f",
					   "D:de|R:f",	     "D:e|R:f",	      "R:f"};

	(void)state;
	for (size_t n = 0; n < 6; n++) {
		setup(NULL);
		copy(&q, RINGTLS__ITEM_DATA, "abc");
		borrow(0, RINGTLS__ITEM_DATA, "de");
		copy(&q, RINGTLS__ITEM_RECORD, "f");
		ringtls__txq_advance(&q, n);
		assert_string_equal(look(), left[n]);
		assert_int_equal(pool.in_use, n < 3 ? 2 : 1);
		teardown(NULL);
	}
}

/* ---- Keys -------------------------------------------------------------- */

static void key_is_what_was_put_in(void **state)
{
	struct ringtls__key key = test_key(TLS_1_2_VERSION, TLS_CIPHER_CHACHA20_POLY1305, 77);

	(void)state;
	assert_int_equal(ringtls__txq_key(&q, &key), 0);
	assert_memory_equal(ringtls__item_key(q.head), &key, sizeof(key));
}

/* The block goes back to the pool: whoever gets it next must not find the key. */
static void key_is_erased_when_it_is_popped(void **state)
{
	const struct ringtls__item *item;
	size_t size;
	void *block;

	(void)state;
	put_key(&q);
	item = q.head;
	ringtls__txq_pop(&q);
	block = ringtls__pool_get(&pool, 200, &size);
	assert_ptr_equal(block, item);
	for (size_t i = 0; i + sizeof(key_pattern) <= size; i++)
		assert_memory_not_equal((uint8_t *)block + i, key_pattern, sizeof(key_pattern));
	ringtls__pool_put(&pool, block);
}

static void key_is_erased_when_the_queue_is_dropped(void **state)
{
	(void)state;
	fake_malloc_watch(key_pattern, sizeof(key_pattern));
	/* More than the pool keeps: some blocks go back to malloc at once. */
	for (int i = 0; i < 100; i++) {
		put_key(&q);
		copy(&q, RINGTLS__ITEM_RECORD, "x");
	}
	ringtls__txq_fini(&q);
	ringtls__pool_fini(&pool);
	assert_int_equal(fake_malloc_leaks, 0);
}

/* That the watch above sees what it looks for. */
static void key_that_is_not_erased_would_be_seen(void **state)
{
	volatile uint8_t *block = malloc(64); /* else the compiler sees that nobody looks */

	(void)state;
	fake_malloc_watch(key_pattern, sizeof(key_pattern));
	for (int i = 0; i < 64; i++)
		block[i] = KEY_BYTE;
	free((void *)(uintptr_t)block);
	assert_int_equal(fake_malloc_leaks, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(items_come_out_in_the_order_they_went_in),
		T(what_is_copied_is_the_queues_own),
		T(copied_item_is_given_back_and_borrowed_one_is_left_alone),
		T(queue_can_be_filled_again_after_it_was_empty),
		T(wire_is_joined_to_wire),
		T(wire_is_joined_to_an_item_that_is_partly_sent),
		T(other_kinds_are_never_joined),
		T(wire_behind_a_key_is_not_joined_to_wire_before_it),
		T(wire_is_not_joined_to_what_is_borrowed),
		T(wire_that_does_not_fit_goes_on_in_the_next_item),
		T(what_is_expected_finds_room_in_one_item),
		T(expecting_too_much_is_no_error),
		T(without_memory_the_queue_stays_as_it_was),
		T(without_memory_nothing_is_joined_either),
		T(take_appends_to_what_is_not_application_data),
		T(take_into_an_empty_queue),
		T(take_of_nothing_changes_nothing),
		T(take_goes_before_application_bytes_that_are_not_sealed),
		T(take_goes_before_a_file),
		T(take_does_not_overtake_application_bytes_of_openssls),
		T(second_take_goes_behind_the_first),
		T(withdraw_of_the_only_item),
		T(withdraw_of_the_first_middle_and_last),
		T(withdraw_of_what_is_done_already_is_fine),
		T(withdrawn_item_knows_what_was_taken),
		T(gather_takes_neighbours_of_one_kind),
		T(gather_begins_behind_what_was_taken),
		T(gather_stops_at_its_limits),
		T(gather_takes_no_more_of_the_pieces_than_the_item_has),
		T(gather_of_an_empty_queue_is_nothing),
		T(advance_at_every_boundary),
		T(key_is_what_was_put_in),
		T(key_is_erased_when_it_is_popped),
		T(key_is_erased_when_the_queue_is_dropped),
		T(key_that_is_not_erased_would_be_seen),
	};

	return cmocka_run_group_tests_name("txq", tests, NULL, NULL);
}
