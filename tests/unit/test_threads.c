/*
 * test_threads.c - an engine per thread: nothing is shared that threads could fight over.
 * What they do share is made once, so all of them begin at the same time. The race itself is
 * for ThreadSanitizer to see (tests/analyse/analyse threads).
 */
#include "support.h"
#include "pair.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#define THREADS 4
#define BYTES	70000

static uint8_t bytes[BYTES];
static pthread_barrier_t start;

struct worker {
	pthread_t thread;
	unsigned number;
	SSL *ssl;
	int fds[2];
	bool attached;
	size_t arrived;
};

/* The first that a thread does: its SSL has BIOs, which ringtls must know from its own. */
static void attach_what_has_bios(struct worker *w)
{
	struct ringtls_engine_opts eo = {.size = sizeof(eo), .backend = RINGTLS_BACKEND_SYSCALLS};
	struct ringtls_conn *conn;
	struct ringtls_engine *e;

	if (ringtls_engine_new(&e, &eo) != 0)
		return;
	if (w->number % 2) /* who looks at them later must not be told by who made ours */
		poll(NULL, 0, 50);
	w->attached = ringtls_conn_new(&conn, e, w->ssl, w->fds[0], NULL) == 0 &&
		      ringtls_conn_free(conn) == 0;
	ringtls_engine_free(e);
}

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
	attach_what_has_bios(w);
	write_in_every_lane(w, RINGTLS_BACKEND_SYSCALLS);
	write_in_every_lane(w, RINGTLS_BACKEND_AUTO);
	return NULL;
}

static void prepare_worker(struct worker *w, unsigned number, SSL_CTX *ctx)
{
	w->number = number;
	w->ssl = SSL_new(ctx);
	pair_sockets(AF_INET, false, &w->fds[0], &w->fds[1]);
	SSL_set_accept_state(w->ssl);
	assert_int_equal(SSL_set_fd(w->ssl, w->fds[0]), 1);
}

static void end_worker(struct worker *w)
{
	assert_true(w->attached);
	assert_int_equal(w->arrived, 8 * BYTES);
	SSL_free(w->ssl);
	close(w->fds[0]);
	close(w->fds[1]);
}

static void an_engine_in_each_thread_works_on_its_own(void **state)
{
	static struct worker workers[THREADS];
	SSL_CTX *ctx = pair_ctx(&(struct pair_opts){.version = TLS1_3_VERSION});

	(void)state;
	pair_fill(bytes, sizeof(bytes));
	assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
	/* All that they have is made before any of them begins. */
	for (unsigned i = 0; i < THREADS; i++)
		prepare_worker(&workers[i], i, ctx);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		end_worker(&workers[i]);
	SSL_CTX_free(ctx);
	pthread_barrier_destroy(&start);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_engine_in_each_thread_works_on_its_own),
	};

	return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
