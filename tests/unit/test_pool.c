/* test_pool.c - the pool of queue items and send buffers. */
#include "support.h"
#include "pool.h"

#include "fake_malloc.h"

static struct ringtls__pool pool;

static int setup(void **state)
{
	(void)state;
	memset(&pool, 0, sizeof(pool));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_malloc_fail_at(0);
	ringtls__pool_fini(&pool);
	return 0;
}

/* Two of each class. */
static const size_t sizes[] = {1,     256,   257,   1152,  1153,  4352,
			       4353,  20480, 20481, 67584, 67585, RINGTLS__POOL_MAX};

#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void block_is_as_large_as_asked_and_all_of_it_usable(void **state)
{
	(void)state;
	for (size_t i = 0; i < SIZES; i++) {
		size_t size = 0;
		char *block = ringtls__pool_get(&pool, sizes[i], &size);

		assert_non_null(block);
		assert_true(size >= sizes[i]);
		memset(block, 0x5a, size);
		ringtls__pool_put(&pool, block);
	}
}

/* Two of each class at once: the allocator may give the first of a class what fits by chance. */
static void block_begins_where_a_cache_line_does(void **state)
{
	void *blocks[SIZES];

	(void)state;
	for (size_t i = 0; i < SIZES; i++) {
		size_t size;

		blocks[i] = ringtls__pool_get(&pool, sizes[i], &size);
		assert_non_null(blocks[i]);
		assert_int_equal((uintptr_t)blocks[i] % RINGTLS__POOL_ALIGN, 0);
	}
	for (size_t i = 0; i < SIZES; i++)
		ringtls__pool_put(&pool, blocks[i]);
}

static void more_than_the_largest_is_refused(void **state)
{
	size_t size = 7;

	(void)state;
	assert_null(ringtls__pool_get(&pool, RINGTLS__POOL_MAX + 1, &size));
	assert_null(ringtls__pool_get(&pool, SIZE_MAX, &size));
	assert_int_equal(size, 7);
	assert_int_equal(pool.in_use, 0);
	assert_int_equal(pool.allocations, 0);
}

static void block_put_back_is_given_again(void **state)
{
	size_t size;
	void *block = ringtls__pool_get(&pool, 3000, &size);

	(void)state;
	ringtls__pool_put(&pool, block);
	assert_ptr_equal(ringtls__pool_get(&pool, 4000, &size), block);
	assert_int_equal(pool.allocations, 1);
	ringtls__pool_put(&pool, block);
}

static void sizes_do_not_mix(void **state)
{
	size_t size;
	void *small = ringtls__pool_get(&pool, 100, &size), *large;

	(void)state;
	ringtls__pool_put(&pool, small);
	large = ringtls__pool_get(&pool, 20000, &size);
	assert_ptr_not_equal(large, small);
	assert_true(size >= 20000);
	ringtls__pool_put(&pool, large);
}

static void two_blocks_in_use_are_two(void **state)
{
	size_t size;
	char *a = ringtls__pool_get(&pool, 200, &size), *b = ringtls__pool_get(&pool, 200, &size);

	(void)state;
	memset(a, 1, size);
	memset(b, 2, size);
	assert_int_equal(a[size - 1], 1);
	assert_int_equal(pool.in_use, 2);
	ringtls__pool_put(&pool, a);
	ringtls__pool_put(&pool, b);
	assert_int_equal(pool.in_use, 0);
}

enum { MANY = 1100 }; /* more than any class keeps */
static void *blocks[MANY];

static void take_and_put_many(size_t size)
{
	for (size_t i = 0; i < MANY; i++)
		assert_non_null(blocks[i] = ringtls__pool_get(&pool, size, &size));
	for (size_t i = 0; i < MANY; i++)
		ringtls__pool_put(&pool, blocks[i]);
}

/* Invariant 9: an engine that was busy once does not keep what it needed then. */
static void what_is_kept_free_is_bounded(void **state)
{
	unsigned frees = fake_malloc_frees;
	size_t size, kept = 0, bytes = 0;

	(void)state;
	for (size_t s = 0; s < SIZES; s++)
		take_and_put_many(sizes[s]);
	for (int c = 0; c < RINGTLS__POOL_CLASSES; c++) {
		assert_true(pool.count[c] > 0 && pool.count[c] < MANY);
		kept += pool.count[c];
	}
	assert_int_equal(pool.in_use, 0);
	assert_int_equal(fake_malloc_frees - frees, pool.allocations - kept);
	for (size_t s = 0; s < SIZES; s++) {
		uint64_t before = pool.allocations;
		size_t n = 0;

		while (blocks[n++] = ringtls__pool_get(&pool, sizes[s], &size),
		       pool.allocations == before)
			bytes += size;
		while (n > 0)
			ringtls__pool_put(&pool, blocks[--n]);
	}
	assert_true(bytes > 0 && bytes < 2 * 4200 * 1024); /* two of the sizes are of each class */
}

static void no_memory_answers_null_and_changes_nothing(void **state)
{
	size_t size = 7;

	(void)state;
	fake_malloc_fail_at(1);
	assert_null(ringtls__pool_get(&pool, 100, &size));
	assert_int_equal(size, 7);
	assert_int_equal(pool.in_use, 0);
	assert_int_equal(pool.allocations, 0);
	ringtls__pool_put(&pool, ringtls__pool_get(&pool, 100, &size));
	assert_int_equal(pool.allocations, 1);
}

static void warm_pool_allocates_nothing(void **state)
{
	size_t size;

	(void)state;
	for (size_t i = 0; i < SIZES; i++)
		ringtls__pool_put(&pool, ringtls__pool_get(&pool, sizes[i], &size));
	fake_malloc_calls = 0;
	for (size_t i = 0; i < 100 * SIZES; i++)
		ringtls__pool_put(&pool, ringtls__pool_get(&pool, sizes[i % SIZES], &size));
	assert_int_equal(fake_malloc_calls, 0);
}

static void end_frees_all_that_was_kept(void **state)
{
	unsigned frees = fake_malloc_frees;
	size_t size;

	(void)state;
	for (size_t i = 0; i < SIZES; i++)
		ringtls__pool_put(&pool, ringtls__pool_get(&pool, sizes[i], &size));
	ringtls__pool_fini(&pool);
	assert_int_equal(fake_malloc_frees - frees, pool.allocations);
}

static void putting_null_back_is_fine(void **state)
{
	(void)state;
	ringtls__pool_put(&pool, NULL);
	assert_int_equal(pool.in_use, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(block_is_as_large_as_asked_and_all_of_it_usable),
		T(block_begins_where_a_cache_line_does),
		T(more_than_the_largest_is_refused),
		T(block_put_back_is_given_again),
		T(sizes_do_not_mix),
		T(two_blocks_in_use_are_two),
		T(what_is_kept_free_is_bounded),
		T(no_memory_answers_null_and_changes_nothing),
		T(warm_pool_allocates_nothing),
		T(end_frees_all_that_was_kept),
		T(putting_null_back_is_fine),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
