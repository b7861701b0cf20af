/*
 * test_threads.c - an engine per thread: nothing is shared that threads could fight over.
 * What they do share is made once, so all of them begin at the same time. The race itself is
 * for ThreadSanitizer to see (tests/analyse/analyse threads).
 */
#include "support.h"
#include "pair.h"

#include <pthread.h>

#define THREADS 4
#define BYTES	70000

static uint8_t bytes[BYTES];
static pthread_barrier_t start;

struct worker {
	pthread_t thread;
	unsigned number;
	size_t arrived;
};

static void write_in_every_lane(struct worker *w, uint32_t backend)
{
	static const uint32_t lanes[] = {RINGTLS_LANE_USER, RINGTLS_LANE_OPENSSL};

	for (unsigned i = 0; i < 4; i++) {
		struct pair_opts o = {.lane = lanes[(i + w->number) % 2],
				      .backend = backend,
				      .version = i < 2 ? TLS1_3_VERSION : TLS1_2_VERSION,
				      .is_client = i & 1};
		struct pair p;

		pair_open(&p, &o);
		pair_handshake(&p);
		pair_write_all(&p, bytes, sizeof(bytes));
		pair_peer_expects(&p, bytes, sizeof(bytes));
		if (pair_info(&p).lane == o.lane)
			w->arrived += p.got_len;
		pair_close(&p);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	pthread_barrier_wait(&start);
	write_in_every_lane(w, RINGTLS_BACKEND_SYSCALLS);
	write_in_every_lane(w, RINGTLS_BACKEND_AUTO);
	return NULL;
}

static void an_engine_in_each_thread_works_on_its_own(void **state)
{
	static struct worker workers[THREADS];

	(void)state;
	pair_fill(bytes, sizeof(bytes));
	assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].number = i;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(workers[i].arrived, 8 * BYTES);
	pthread_barrier_destroy(&start);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_engine_in_each_thread_works_on_its_own),
	};

	return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
