/*
 * test_script.c - random scripts of writes, files, key updates, reads and closes, run
 * through ringtls and through OpenSSL alone against the same scripted peer: the bytes
 * that each side got, the answer of each operation, and the order of the records by
 * type are the same. In TLS 1.2 of the openssl lane there are renegotiations, too, and some
 * go from the user lane into the kernel's on the way. RINGTLS_SEED=n in the environment replays one script in all lanes;
 * RINGTLS_SCRIPTS is how many there are over all.
 */
#include "support.h"
#include "list.h"
#include "script.h"

#include <signal.h>
#include <unistd.h>
#include "probe.h"

#define SCRIPTS	       2000
#define SCRIPTS_IN_LAB 128 /* its guests are slow */
#define LIMIT_S	       120

static struct script running;
static unsigned promoted, ran;

/* From the user lane into the kernel, after at most so many bytes. */
static const struct pair_opts later[] = {
#define L(b, v)                                                                                    \
	{                                                                                          \
		.backend = RINGTLS_BACKEND_##b, .version = TLS1_##v##_VERSION,                     \
		.promote_after = 200000                                                            \
	}
	L(URING, 3), L(URING, 2), L(SYSCALLS, 3), L(SYSCALLS, 2),
#undef L
};

#define PLACES (EVERY_LANE + COUNT(later))

static const struct pair_opts *place(size_t i)
{
	return i < EVERY_LANE ? &every_lane[i] : &later[i - EVERY_LANE];
}

static void too_long(int sig)
{
	static char text[] = "# script          : not done in time\n";

	(void)sig;
	for (uint32_t i = 17, n = running.seed; n; n /= 10)
		text[i--] = (char)('0' + n % 10);
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

static bool answers_differ(const struct script_run *a, const struct script_run *b)
{
	for (size_t i = 0; i < a->n && i < b->n; i++) {
		const struct answer *x = &a->answers[i], *y = &b->answers[i];

		if (a->op_of[i] != b->op_of[i] || x->ret != y->ret || x->error != y->error ||
		    x->err_no != y->err_no || x->reason != y->reason) {
			print_message("# operation %zu: %s; OpenSSL: %s\n", a->op_of[i], answer_text(x),
				      answer_text(y));
			return true;
		}
	}
	return a->n != b->n;
}

static bool bytes_differ(const char *who, const uint8_t *x, size_t xn, const uint8_t *y, size_t yn)
{
	size_t i = 0;

	if (xn == yn && (!xn || memcmp(x, y, xn) == 0))
		return false;
	while (i < xn && i < yn && x[i] == y[i])
		i++;
	print_message("# %s got %zu bytes; OpenSSL's: %zu; the same up to %zu\n", who, xn, yn, i);
	return true;
}

static bool runs_differ(const struct script_run *a, const struct script_run *b)
{
	bool differ = answers_differ(a, b);

	differ |= bytes_differ("the peer", a->p.got, a->p.got_len, b->p.got, b->p.got_len);
	differ |= bytes_differ("our side", a->got, a->got_len, b->got, b->got_len);
	if (strcmp(a->order, b->order) != 0) {
		print_message("# records %s\n# OpenSSL %s\n", a->order, b->order);
		differ = true;
	}
	if (a->p.peer_error != b->p.peer_error) {
		print_message("# the peer's end: %s; OpenSSL's: %s\n",
			      side_error_name(a->p.peer_error), side_error_name(b->p.peer_error));
		differ = true;
	}
	return differ;
}

static void run_both(uint32_t seed, const struct pair_opts *o)
{
	static struct script_run ours, stock;
	bool is_kernels = o->lane == RINGTLS_LANE_KERNEL || o->promote_after;
	bool may_update = o->version == TLS1_3_VERSION &&
			  (!is_kernels || !ringtls__probe_get()->rekey);
	bool may_renegotiate = o->version == TLS1_2_VERSION && o->lane == RINGTLS_LANE_OPENSSL;
	struct pair_opts without = *o;

	without.is_stock = true;
	script_make(&running, seed, may_update, may_renegotiate);
	alarm(LIMIT_S);
	script_run(&running, &without, &stock);
	/* The record of a run is kept; its connection is not needed any more. */
	script_run(&running, o, &ours);
	alarm(0);
	if (runs_differ(&ours, &stock))
		fail_msg("it is not the same");
	ran++;
	promoted += o->promote_after && pair_info(&ours.p).lane == RINGTLS_LANE_KERNEL;
	script_free(&ours);
	script_free(&stock);
	running.seed = 0;
}

/* After a failure, whichever it was. */
static int say_which(void **state)
{
	(void)state;
	alarm(0);
	if (running.seed) {
		script_print(&running);
		print_message("# RINGTLS_SEED=%u replays it\n", running.seed);
	}
	running.seed = 0;
	return 0;
}

static uint32_t number(const char *name, uint32_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

/* Each combination has its share of the seeds. */
static void same_script_same_result_as_openssl(void **state)
{
	size_t at = (size_t)(uintptr_t)*state;
	const struct pair_opts *o = place(at);
	uint32_t one = number("RINGTLS_SEED", 0);
	uint32_t all = number("RINGTLS_SCRIPTS", getenv("RINGTLS_MUST") ? SCRIPTS_IN_LAB : SCRIPTS);

	pair_need(o);
	if (o->promote_after)
		need("ktls", !ringtls__probe_get()->ulp);
	promoted = 0;
	if (one) {
		run_both(one, o);
		return;
	}
	for (uint32_t seed = 1 + (uint32_t)at; seed <= all; seed += PLACES)
		run_both(seed, o);
	assert_true(!o->promote_after || promoted || all < 4 * PLACES);
}

int main(int argc, char **argv)
{
	int r;

	signal(SIGPIPE, SIG_IGN); /* OpenSSL alone raises it */
	signal(SIGALRM, too_long);
	script_setup();
	for (size_t i = 0; i < PLACES; i++)
		list_add((void *)(uintptr_t)i, same_script_same_result_as_openssl,
			 "%s%s: same_script_same_result_as_openssl",
			 place(i)->promote_after ? "kernel later, " : "", list_place(place(i)))
			->teardown_func = say_which;
	r = list_run("script", argc, argv);
	print_message("# %u sequences\n", ran);
	return r;
}
