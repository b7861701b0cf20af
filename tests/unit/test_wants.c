/*
 * test_wants.c - the same situation through ringtls and through OpenSSL alone, side by
 * side: each call gives the same result, the same SSL_get_error(3), and the same errno
 * or reason. What is different on purpose is listed at the end, with its paragraph in
 * ringtls(7); nothing else may be.
 */
#define _GNU_SOURCE
#include "support.h"
#include "list.h"
#include "side.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/async.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#define BIG (512 * 1024)

static uint8_t big[BIG];

/* What was seen of one way. */
struct seen {
	struct {
		const char *step;
		struct answer answer;
	} list[24];
	size_t n;
};

static void see(struct seen *s, const char *step, struct answer a)
{
	assert_true(s->n < 24);
	s->list[s->n].step = step;
	s->list[s->n++].answer = a;
}

/* Callbacks ask to be called again as long as this is on. */
static bool is_held;

/* ---- Steps ------------------------------------------------------------- */

static void shake_hands(struct pair *p)
{
	struct answer a;

	while (a = side_handshake(p), answer_is_want(&a)) {
		ERR_clear_error();
		SSL_do_handshake(p->peer);
		pair_rest(p);
	}
	assert_int_equal(a.ret, 1);
	for (int i = 0; i < 100 && SSL_do_handshake(p->peer) != 1; i++)
		pair_rest(p);
}

static void open_shaken(struct pair *p, const struct pair_opts *o)
{
	pair_open(p, o);
	shake_hands(p);
}

/* A read that is not to be taken for one that came before the bytes did. */
static struct answer read_what_came(struct pair *p, int num)
{
	struct pollfd pfd = { .fd = p->fd, .events = POLLIN };
	char buf[64];

	if (!SSL_pending(p->ours))
		assert_int_equal(poll(&pfd, 1, 10000), 1);
	return side_read(p, buf, num);
}

/* Handshake steps up to an answer that is neither WANT_READ nor WANT_WRITE. */
static struct answer up_to_something(struct pair *p, struct answer (*call)(struct pair *))
{
	struct answer a;

	for (;;) {
		ERR_clear_error();
		SSL_do_handshake(p->peer);
		pair_rest(p);
		a = call(p);
		if (!answer_is_want(&a))
			return a;
	}
}

static struct answer call_write(struct pair *p)
{
	return side_write(p, big, 10);
}

static struct answer call_read(struct pair *p)
{
	char c;

	return side_read(p, &c, 1);
}

/* A callback holds up the handshake, whoever started it; then it does not. */
static void held_up(struct pair *p, struct seen *s)
{
	is_held = true;
	see(s, "handshake", up_to_something(p, side_handshake));
	see(s, "write", call_write(p));
	see(s, "read", call_read(p));
	is_held = false;
	see(s, "write, let go", up_to_something(p, call_write));
	ERR_clear_error();
	pair_peer_expects(p, big, 10);
	pair_close(p);
}

/* ---- Wants ------------------------------------------------------------- */

static void nothing_has_come_yet(const struct pair_opts *o, struct seen *s)
{
	struct pair p;

	pair_open(&p, o);
	see(s, "write", call_write(&p));
	see(s, "read", call_read(&p));
	see(s, "handshake", side_handshake(&p));
	see(s, "shutdown", side_shutdown(&p));
	see(s, "negative num", side_write(&p, big, -1));
	pair_close(&p);
}

static void renegotiation(const struct pair_opts *opts, struct seen *s)
{
	struct pair_opts o = *opts;
	struct pair p;

	o.renegotiation = RINGTLS_RENEG_SERVE;
	pair_open(&p, &o);
	SSL_set_options(p.ours, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	SSL_set_options(p.peer, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	shake_hands(&p);
	assert_int_equal(SSL_renegotiate(p.peer), 1);
	SSL_do_handshake(p.peer);
	see(s, "read", read_what_came(&p, 1));
	see(s, "write", call_write(&p));
	for (int i = 0; i < 100 && SSL_renegotiate_pending(p.peer); i++) {
		ERR_clear_error();
		SSL_do_handshake(p.peer);
		pair_rest(&p);
		call_read(&p);
	}
	see(s, "write, after it", up_to_something(&p, call_write));
	assert_int_equal(SSL_num_renegotiations(p.peer), 1);
	pair_close(&p);
}

static void full_socket(const struct pair_opts *opts, struct seen *s)
{
	struct pair_opts o = *opts;
	struct pair p;
	size_t written;

	o.small_buffers = true;
	open_shaken(&p, &o);
	see(s, "write", side_write(&p, big, BIG));
	see(s, "read", call_read(&p));
	see(s, "negative num", side_write(&p, big, -1));
	see(s, "write_ex", side_write_ex(&p, big, BIG, &written));
	pair_close(&p);
}

/* A certificate of 60 KB, four times: a flight that no small socket takes. */
static void with_a_long_chain(SSL_CTX *ours, SSL_CTX *peer)
{
	ASN1_OCTET_STRING *text = ASN1_OCTET_STRING_new();
	X509 *cert = X509_dup(SSL_CTX_get0_certificate(ours));
	X509_EXTENSION *ext;

	assert_int_equal(ASN1_OCTET_STRING_set(text, big, 60000), 1);
	ext = X509_EXTENSION_create_by_NID(NULL, NID_netscape_comment, 0, text);
	assert_int_equal(X509_add_ext(cert, ext, -1), 1);
	assert_true(X509_sign(cert, SSL_CTX_get0_privatekey(ours), EVP_sha256()) > 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(SSL_CTX_add1_chain_cert(ours, cert), 1);
	SSL_CTX_set_max_cert_list(peer, 1 << 20);
	X509_free(cert);
	X509_EXTENSION_free(ext);
	ASN1_OCTET_STRING_free(text);
}

static void read_that_must_send(const struct pair_opts *opts, struct seen *s)
{
	struct pair_opts o = *opts;
	struct pair p;

	o.small_buffers = true;
	o.prepare = with_a_long_chain;
	pair_open(&p, &o);
	SSL_do_handshake(p.peer);
	see(s, "read", read_what_came(&p, 1));
	see(s, "read again", call_read(&p));
	see(s, "handshake", side_handshake(&p));
	see(s, "handshake, when it is read", up_to_something(&p, side_handshake));
	see(s, "write", call_write(&p));
	pair_close(&p);
	pair_open(&p, &o);
	SSL_do_handshake(p.peer);
	see(s, "read", read_what_came(&p, 1));
	see(s, "short write", call_write(&p));
	pair_close(&p);
}

static int choose_certificate(SSL *ssl, void *arg)
{
	(void)ssl;
	(void)arg;
	return is_held ? -1 : 1;
}

static int take_any(int ok, X509_STORE_CTX *store)
{
	(void)ok;
	(void)store;
	return 1;
}

static void certificate_to_be_chosen(const struct pair_opts *o, struct seen *s)
{
	struct pair p;

	pair_open(&p, o);
	SSL_set_cert_cb(p.ours, choose_certificate, NULL);
	if (o->is_client)
		SSL_set_verify(p.peer, SSL_VERIFY_PEER, take_any);
	held_up(&p, s);
}

static int look_at_hello(SSL *ssl, int *al, void *arg)
{
	(void)ssl;
	(void)al;
	(void)arg;
	return is_held ? SSL_CLIENT_HELLO_RETRY : SSL_CLIENT_HELLO_SUCCESS;
}

static void with_hello_callback(SSL_CTX *ours, SSL_CTX *peer)
{
	(void)peer;
	SSL_CTX_set_client_hello_cb(ours, look_at_hello, NULL);
}

static void client_hello_to_be_looked_at(const struct pair_opts *opts, struct seen *s)
{
	struct pair_opts o = *opts;
	struct pair p;

	o.prepare = with_hello_callback;
	pair_open(&p, &o);
	held_up(&p, s);
}

static int verify(X509_STORE_CTX *store, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());

	(void)arg;
	if (is_held)
		SSL_set_retry_verify(ssl);
	return 1;
}

static void with_verification(SSL_CTX *ours, SSL_CTX *peer)
{
	(void)peer;
	SSL_CTX_set_verify(ours, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ours, verify, NULL);
}

static void verification_to_be_repeated(const struct pair_opts *opts, struct seen *s)
{
	struct pair_opts o = *opts;
	struct pair p;

	o.prepare = with_verification;
	pair_open(&p, &o);
	held_up(&p, s);
}

static int pause_for_certificate(SSL *ssl, void *arg)
{
	(void)ssl;
	(void)arg;
	while (is_held && ASYNC_get_current_job())
		ASYNC_pause_job();
	return 1;
}

static void asynchronous(const struct pair_opts *o, struct seen *s,
			 struct answer (*call)(struct pair *))
{
	struct pair p;

	need("async", ASYNC_is_capable());
	pair_open(&p, o);
	SSL_set_mode(p.ours, SSL_MODE_ASYNC);
	SSL_set_cert_cb(p.ours, pause_for_certificate, NULL);
	is_held = true;
	see(s, "call", up_to_something(&p, call));
	see(s, "again", call(&p));
	is_held = false;
	if (call == call_read) { /* it has nothing to give but the handshake */
		see(s, "let go", call(&p));
		call = side_handshake;
	}
	see(s, "let go, to its end", up_to_something(&p, call));
	see(s, "write", call_write(&p));
	pair_close(&p);
}

static void asynchronous_handshake(const struct pair_opts *o, struct seen *s)
{
	asynchronous(o, s, side_handshake);
}

static void asynchronous_write(const struct pair_opts *o, struct seen *s)
{
	asynchronous(o, s, call_write);
}

static void asynchronous_read(const struct pair_opts *o, struct seen *s)
{
	asynchronous(o, s, call_read);
}

/* ---- Ends -------------------------------------------------------------- */

static void peer_has_closed(const struct pair_opts *o, struct seen *s)
{
	struct pair p;

	open_shaken(&p, o);
	SSL_shutdown(p.peer);
	see(s, "read", read_what_came(&p, 1));
	see(s, "read again", call_read(&p));
	see(s, "write", call_write(&p));
	see(s, "shutdown", side_shutdown(&p));
	see(s, "write, closed", call_write(&p));
	see(s, "read, closed", call_read(&p));
	see(s, "shutdown again", side_shutdown(&p));
	pair_close(&p);
}

static struct answer shut_down(struct pair *p)
{
	struct answer a;

	while (a = side_shutdown(p), a.error == SSL_ERROR_WANT_WRITE)
		pair_rest(p); /* it waits until TCP has all */
	if (a.ret == 0)
		a.err_no = 0; /* no failure, whatever SSL_get_error(3) makes of it */
	return a;
}

static void we_have_closed(const struct pair_opts *o, struct seen *s)
{
	struct pair p;

	open_shaken(&p, o);
	see(s, "shutdown", shut_down(&p));
	see(s, "write", call_write(&p));
	see(s, "shutdown again", shut_down(&p));
	ERR_clear_error();
	pair_await(p.peer_fd);
	pair_peer_reads(&p);
	SSL_shutdown(p.peer);
	pair_await(p.fd);
	see(s, "shutdown, answered", shut_down(&p));
	pair_close(&p);
}

static void reset_and_read(const struct pair_opts *o, struct seen *s)
{
	struct pair p;

	open_shaken(&p, o);
	while (o->is_client && side_read(&p, big, 0).ret > 0)
		;
	pair_peer_resets(&p);
	see(s, "read", call_read(&p));
	see(s, "write", call_write(&p));
	pair_close(&p);
}

static void reset_and_write(const struct pair_opts *o, struct seen *s)
{
	struct pair p;

	open_shaken(&p, o);
	pair_peer_resets(&p);
	see(s, "write", call_write(&p));
	see(s, "write again", call_write(&p));
	pair_close(&p);
}

static void broken_pipe(const struct pair_opts *o, struct seen *s)
{
	struct pair p;

	open_shaken(&p, o);
	shutdown(p.fd, SHUT_WR);
	see(s, "write", call_write(&p));
	see(s, "write again", call_write(&p));
	pair_close(&p);
}

static void end_without_close_notify(const struct pair_opts *o, struct seen *s)
{
	struct pair p;

	open_shaken(&p, o);
	shutdown(p.peer_fd, SHUT_WR);
	see(s, "read", read_what_came(&p, 1));
	see(s, "read again", call_read(&p));
	see(s, "write", call_write(&p));
	pair_close(&p);
	open_shaken(&p, o);
	SSL_set_options(p.ours, SSL_OP_IGNORE_UNEXPECTED_EOF);
	shutdown(p.peer_fd, SHUT_WR);
	see(s, "read, ignoring it", read_what_came(&p, 1));
	pair_close(&p);
}

static void record_that_is_wrong(const struct pair_opts *o, struct seen *s)
{
	static const uint8_t record[5 + 64] = { 23, 3, 3, 0, 64 };
	struct pair p;

	open_shaken(&p, o);
	assert_int_equal(send(p.peer_fd, record, sizeof(record), 0), sizeof(record));
	see(s, "read", read_what_came(&p, 1));
	see(s, "read again", call_read(&p));
	see(s, "write", call_write(&p));
	see(s, "shutdown", side_shutdown(&p));
	pair_close(&p);
}

static void no_tls_at_all(const struct pair_opts *o, struct seen *s)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	struct pair p;

	pair_open(&p, o);
	assert_int_equal(send(p.peer_fd, text, sizeof(text) - 1, 0), sizeof(text) - 1);
	see(s, "write", up_to_something(&p, call_write));
	see(s, "write again", call_write(&p));
	pair_close(&p);
}

/* The peer finds nobody that vouches for our certificate, and says so. */
static void alert(const struct pair_opts *o, struct seen *s)
{
	struct pair p;

	pair_open(&p, o);
	SSL_set_verify(p.peer, SSL_VERIFY_PEER, NULL);
	see(s, "handshake", up_to_something(&p, side_handshake));
	see(s, "read", up_to_something(&p, call_read));
	see(s, "write", call_write(&p));
	pair_close(&p);
}

/* ---- Arguments --------------------------------------------------------- */

static void numbers(const struct pair_opts *o, struct seen *s)
{
	size_t written = 1;
	struct pair p;

	open_shaken(&p, o);
	see(s, "write_ex of 0", side_write_ex(&p, big, 0, &written));
	assert_int_equal(written, 0);
	see(s, "write of 0", side_write(&p, big, 0));
	see(s, "write of -1", side_write(&p, big, -1));
	see(s, "read of -1", side_read(&p, big, -1));
	see(s, "write of 10", call_write(&p));
	pair_close(&p);
}

static void other_buffer(const struct pair_opts *opts, struct seen *s)
{
	struct pair_opts o = *opts;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	see(s, "write", side_write(&p, big, BIG - 1));
	see(s, "another buffer", side_write(&p, big + 1, BIG - 1));
	see(s, "the right one", side_write(&p, big, BIG - 1));
	pair_close(&p);
}

static void smaller_num(const struct pair_opts *opts, struct seen *s)
{
	struct pair_opts o = *opts;
	struct pair p;

	o.small_buffers = true;
	open_shaken(&p, &o);
	see(s, "write", side_write(&p, big, BIG));
	see(s, "a smaller num", side_write(&p, big, 100));
	see(s, "the right one", side_write(&p, big, BIG));
	pair_close(&p);
}

/* ---- Records without a byte for the caller ----------------------------- */

static void read_over(const struct pair_opts *o, struct seen *s, bool retries)
{
	struct pair p;

	open_shaken(&p, o);
	if (retries)
		SSL_set_mode(p.ours, SSL_MODE_AUTO_RETRY);
	else
		SSL_clear_mode(p.ours, SSL_MODE_AUTO_RETRY);
	if (SSL_version(p.ours) == TLS1_3_VERSION) /* tickets come before it, to a client */
		assert_int_equal(SSL_key_update(p.peer, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
	assert_int_equal(SSL_write(p.peer, "x", 1), 1);
	for (int i = 0; i < 5; i++) {
		struct answer a = i ? call_read(&p) : read_what_came(&p, 1);

		see(s, "read", a);
		if (a.ret > 0)
			break;
	}
	pair_close(&p);
}

static void no_auto_retry(const struct pair_opts *o, struct seen *s)
{
	read_over(o, s, false);
}

static void auto_retry(const struct pair_opts *o, struct seen *s)
{
	read_over(o, s, true);
}

/* ---- Comparing --------------------------------------------------------- */

enum { SERVER = 1, CLIENT = 2, BOTH = 3, ONLY_1_2 = 4, ONLY_OPENSSL_LANE = 8 };

static const struct situation {
	const char *name;
	void (*run)(const struct pair_opts *o, struct seen *s);
	unsigned where;
} situations[] = {
#define S(f, where) { #f, f, where }
	S(nothing_has_come_yet, BOTH),
	S(renegotiation, SERVER | ONLY_1_2 | ONLY_OPENSSL_LANE),
	S(full_socket, BOTH),
	S(read_that_must_send, SERVER),
	S(certificate_to_be_chosen, BOTH),
	S(client_hello_to_be_looked_at, SERVER),
	S(verification_to_be_repeated, CLIENT),
	S(asynchronous_handshake, SERVER),
	S(asynchronous_write, SERVER),
	S(asynchronous_read, SERVER),
	S(peer_has_closed, BOTH),
	S(we_have_closed, BOTH),
	S(reset_and_read, SERVER),
	S(reset_and_write, SERVER),
	S(broken_pipe, BOTH),
	S(end_without_close_notify, SERVER),
	S(record_that_is_wrong, BOTH),
	S(no_tls_at_all, BOTH),
	S(alert, SERVER),
	S(numbers, BOTH),
	S(other_buffer, SERVER),
	S(smaller_num, SERVER),
	S(no_auto_retry, BOTH),
	S(auto_retry, BOTH),
};

#define AFTER_A_FATAL_ERROR "A write after a fatal error fails with SSL_ERROR_SSL."

#define LATE_IN_THE_KERNEL  "A broken connection may show a few writes later in the kernel lane."

/* What is different on purpose: the step, and the paragraph of ringtls(7) about it. */
static const struct {
	void (*run)(const struct pair_opts *o, struct seen *s);
	const char *step, *paragraph;
	uint32_t lane; /* or all, if 0 */
} differences[] = {
	{ read_that_must_send, "short write",
	  "A write may come while bytes of the handshake wait to be sent.", 0 },
	{ numbers, "write of 0", "A write of no bytes is a success.", 0 },
	{ reset_and_read, "write", AFTER_A_FATAL_ERROR, 0 },
	{ end_without_close_notify, "write", AFTER_A_FATAL_ERROR, 0 },
	{ record_that_is_wrong, "write", AFTER_A_FATAL_ERROR, 0 },
	{ no_tls_at_all, "write again", AFTER_A_FATAL_ERROR, 0 },
	{ alert, "write", AFTER_A_FATAL_ERROR, 0 },
	{ reset_and_write, "write again", "A transmit error sticks.", 0 },
	{ reset_and_write, "write", LATE_IN_THE_KERNEL, RINGTLS_LANE_KERNEL },
	{ broken_pipe, "write", LATE_IN_THE_KERNEL, RINGTLS_LANE_KERNEL },
	{ broken_pipe, "write again", LATE_IN_THE_KERNEL, RINGTLS_LANE_KERNEL },
	{ other_buffer, "the right one", "A wrong retry harms nothing.", 0 },
	{ smaller_num, "the right one", "A wrong retry harms nothing.", 0 },
};

struct way {
	struct pair_opts opts;
	const struct situation *situation;
};

static bool may_differ(const struct way *w, const char *step)
{
	for (size_t i = 0; i < sizeof(differences) / sizeof(differences[0]); i++)
		if (differences[i].run == w->situation->run &&
		    strcmp(differences[i].step, step) == 0 &&
		    (!differences[i].lane || differences[i].lane == w->opts.lane))
			return true;
	return false;
}

static void compare(const struct way *w, const struct seen *ours, const struct seen *stock)
{
	bool differs = false;

	for (size_t i = 0; i < ours->n && i < stock->n; i++) {
		const struct answer *x = &ours->list[i].answer, *y = &stock->list[i].answer;

		assert_string_equal(ours->list[i].step, stock->list[i].step);
		if ((x->ret == y->ret && x->error == y->error && x->err_no == y->err_no &&
		     x->reason == y->reason) ||
		    may_differ(w, ours->list[i].step))
			continue;
		print_message("# %s: %s; OpenSSL: %s\n", ours->list[i].step, answer_text(x),
			      answer_text(y));
		differs = true;
	}
	if (differs || ours->n != stock->n)
		fail_msg("it is not the same");
}

static void side_by_side(void **state)
{
	const struct way *w = *state;
	struct pair_opts o = w->opts;
	struct seen ours = { 0 }, stock = { 0 };

	pair_need(&o);
	if (w->situation->where & ONLY_OPENSSL_LANE)
		o.lane = RINGTLS_LANE_AUTO; /* the policy must choose it */
	w->situation->run(&o, &ours);
	o.is_stock = true;
	w->situation->run(&o, &stock);
	compare(w, &ours, &stock);
}

static void every_difference_is_in_the_manual(void **state)
{
	static char text[128 * 1024], line[256];
	const char *source = getenv("abs_top_srcdir");
	FILE *file;

	(void)state;
	need("source", source);
	snprintf(line, sizeof(line), "%s/doc/man/ringtls.7", source);
	file = fopen(line, "r");
	assert_non_null(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	for (size_t i = 0; i < sizeof(differences) / sizeof(differences[0]); i++) {
		snprintf(line, sizeof(line), ".It %s\n", differences[i].paragraph);
		if (!strstr(text, line))
			fail_msg("ringtls(7) does not say: %s", differences[i].paragraph);
	}
}

/* ---- The list ---------------------------------------------------------- */

static void add(const struct situation *situation, const struct pair_opts *o, bool is_client)
{
	static struct way ways[COUNT(situations) * EVERY_LANE * 2];
	static size_t n;

	if (!(situation->where & (is_client ? CLIENT : SERVER)) ||
	    ((situation->where & ONLY_1_2) && o->version != TLS1_2_VERSION) ||
	    ((situation->where & ONLY_OPENSSL_LANE) && o->lane != RINGTLS_LANE_OPENSSL))
		return;
	ways[n] = (struct way){ *o, situation };
	ways[n].opts.is_client = is_client;
	list_add(&ways[n++], side_by_side, "%s %s: same_as_openssl_%s", list_place(o),
		 is_client ? "client" : "server", situation->name);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN); /* OpenSSL alone raises it */
	pair_fill(big, BIG);
	for (size_t c = 0; c < EVERY_LANE; c++)
		for (size_t i = 0; i < COUNT(situations); i++) {
			add(&situations[i], &every_lane[c], false);
			add(&situations[i], &every_lane[c], true);
		}
	list_add(NULL, every_difference_is_in_the_manual, "every_difference_is_in_the_manual");
	return list_run("wants", argc, argv);
}
