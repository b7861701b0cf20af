/*
 * test_idle.c - what an established connection that does nothing has of memory beyond OpenSSL's
 * own, in every lane and engine, TLS 1.2 and 1.3: what each of many more costs.
 */
#include "support.h"
#include "list.h"
#include "many.h"

#include <malloc.h>
#include <signal.h>

#define FIRST 20

/* A promise (doc/performance.md): in the user lane, which has a cipher's context with its key,
 * and in the others. */
#define SEALING_MAX 2560
#define OTHER_MAX   1024

static void release_buffers(SSL_CTX *ours, SSL_CTX *peer)
{
	SSL_CTX_set_mode(ours, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_mode(peer, SSL_MODE_RELEASE_BUFFERS);
}

/* Both ends, with n connections. */
static size_t memory_of(const struct pair_opts *o, int n)
{
	size_t before = mallinfo2().uordblks, bytes;
	struct pair p;

	many_open(&p, o, n, 0);
	for (int i = 0; i < n; i++)
		many_peer_reads(&ones[i]); /* session tickets */
	bytes = mallinfo2().uordblks - before;
	many_close(&p, n);
	return bytes;
}

static long for_each(const struct pair_opts *o)
{
	return ((long)memory_of(o, MANY) - (long)memory_of(o, FIRST)) / (MANY - FIRST);
}

/* What is made once, or grows with the first ones; and the heap takes its shape, which makes a
 * difference of up to 90 bytes a connection in the first five looks. */
static void warm_up(const struct pair_opts *ours, const struct pair_opts *stock)
{
	static bool is_warm;

	for (int i = 0; i < (is_warm ? 0 : 5); i++) {
		for_each(ours);
		for_each(stock);
	}
	is_warm = true;
}

static void an_idle_connection_has_little(void **state)
{
	struct pair_opts ours = *(const struct pair_opts *)*state, stock;
	bool seals = ours.lane == RINGTLS_LANE_USER;
	long more;

	if (!mallinfo2().uordblks) /* an allocator of a checker's */
		skip();
	ours.prepare = release_buffers;
	stock = ours;
	stock.is_stock = true;
	warm_up(&ours, &stock);
	more = for_each(&ours) - for_each(&stock);
	print_message("# %s: %ld bytes beyond OpenSSL's\n", list_place(&ours), more);
	assert_true(more <= (seals ? SEALING_MAX : OTHER_MAX));
}

static const struct list_test tests[] = {
	{"an_idle_connection_has_little", an_idle_connection_has_little},
};

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_DFL); /* none may come */
	many_fill();
	list_add_all(tests, COUNT(tests), every_lane, EVERY_LANE);
	return list_run("idle", argc, argv);
}
