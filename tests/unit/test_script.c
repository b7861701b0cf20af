/*
 * test_script.c - random scripts of writes, files, key updates, reads and closes, run
 * through ringtls and through OpenSSL alone against the same scripted peer: the bytes
 * that each side got, the answer of each operation, and the order of the records by
 * type are the same. RINGTLS_SEED=n in the environment replays one script in all lanes;
 * RINGTLS_SCRIPTS is how many there are over all.
 */
#include "support.h"
#include "list.h"
#include "script.h"

#include <signal.h>
#include <unistd.h>
#include "probe.h"

#define SCRIPTS	       2000
#define SCRIPTS_IN_LAB 96 /* its guests are slow */
#define LIMIT_S	       120

static struct script running;

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
	bool can_update = o->version == TLS1_3_VERSION &&
			  (o->lane != RINGTLS_LANE_KERNEL || !ringtls__probe_get()->rekey);
	struct pair_opts without = *o;

	without.is_stock = true;
	script_make(&running, seed, can_update);
	alarm(LIMIT_S);
	script_run(&running, &without, &stock);
	/* The record of a run is kept; its connection is not needed any more. */
	script_run(&running, o, &ours);
	alarm(0);
	if (runs_differ(&ours, &stock))
		fail_msg("it is not the same");
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
	const struct pair_opts *o = *state;
	uint32_t one = number("RINGTLS_SEED", 0);
	uint32_t all = number("RINGTLS_SCRIPTS", getenv("RINGTLS_MUST") ? SCRIPTS_IN_LAB : SCRIPTS);

	pair_need(o);
	if (one) {
		run_both(one, o);
		return;
	}
	for (uint32_t seed = 1 + (uint32_t)(o - every_lane); seed <= all;
	     seed += EVERY_LANE)
		run_both(seed, o);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN); /* OpenSSL alone raises it */
	signal(SIGALRM, too_long);
	script_setup();
	for (size_t i = 0; i < EVERY_LANE; i++)
		list_add(&every_lane[i], same_script_same_result_as_openssl,
			 "%s: same_script_same_result_as_openssl", list_place(&every_lane[i]))
			->teardown_func = say_which;
	return list_run("script", argc, argv);
}
