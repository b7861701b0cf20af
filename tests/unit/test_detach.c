/*
 * test_detach.c - giving a connection back to OpenSSL in mid-stream: what it can do
 * then, and where it can't be. The kernel lane runs in the lab.
 */
#include "support.h"
#include "list.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include "probe.h"

#define LEN 300000

static uint8_t bytes[LEN];

static void open_shaken(struct pair *p, const struct pair_opts *o)
{
	pair_need(o);
	pair_open(p, o);
	pair_handshake(p);
}

static void detach(struct pair *p)
{
	assert_int_equal(ringtls_conn_detach(p->conn), 0);
	p->conn = NULL;
}

/* As a caller of OpenSSL's does. */
static void ssl_write_all(struct pair *p, const uint8_t *from, size_t len)
{
	struct pollfd pfd = {.fd = p->fd, .events = POLLOUT};
	size_t written = 0;

	while (SSL_write_ex(p->ours, from, len, &written) != 1) {
		assert_int_equal(SSL_get_error(p->ours, 0), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(p);
		poll(&pfd, 1, 10);
	}
	assert_int_equal(written, len);
}

static void ssl_reads(struct pair *p, const char *text)
{
	struct pollfd pfd = {.fd = p->fd, .events = POLLIN};
	char got[64];
	size_t n = 0;

	for (int i = 0; i < 1000 && n < strlen(text); i++) {
		int r = SSL_read(p->ours, got + n, (int)(sizeof(got) - n));

		if (r > 0) {
			n += (size_t)r;
			continue;
		}
		assert_int_equal(SSL_get_error(p->ours, r), SSL_ERROR_WANT_READ);
		poll(&pfd, 1, 10);
	}
	assert_int_equal(n, strlen(text));
	assert_memory_equal(got, text, n);
}

/* ---- Where it can be --------------------------------------------------- */

static void ssl_goes_on_in_both_directions(void **state)
{
	struct pair p;

	open_shaken(&p, *state);
	pair_write_all(&p, bytes, LEN / 2);
	assert_int_equal(SSL_write(p.peer, "before", 6), 6);
	pair_rest(&p);
	detach(&p);
	ssl_write_all(&p, bytes + LEN / 2, LEN - LEN / 2);
	pair_peer_expects(&p, bytes, LEN);
	assert_int_equal(SSL_write(p.peer, " after", 6), 6);
	ssl_reads(&p, "before after");
	pair_close(&p);
}

static void its_bio_is_a_socket_bio_that_does_not_close(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;
	BIO *bio;

	open_shaken(&p, o);
	pair_write_all(&p, bytes, 100);
	detach(&p);
	bio = SSL_get_wbio(p.ours);
	assert_ptr_equal(bio, SSL_get_rbio(p.ours));
	assert_int_equal(BIO_method_type(bio), BIO_TYPE_SOCKET);
	assert_int_equal(BIO_get_close(bio), BIO_NOCLOSE);
	assert_int_equal(SSL_get_wfd(p.ours), p.fd);
	assert_int_equal(BIO_get_ktls_send(bio), o->lane == RINGTLS_LANE_KERNEL);
	pair_close(&p);
}

static void what_was_read_ahead_is_not_lost(void **state)
{
	char c = 0;
	struct pair p;

	open_shaken(&p, *state);
	SSL_set_read_ahead(p.ours, 1);
	assert_int_equal(SSL_write(p.peer, "one", 3), 3);
	assert_int_equal(SSL_write(p.peer, "two", 3), 3);
	assert_int_equal(SSL_write(p.peer, "three", 5), 5);
	for (int i = 0; i < 1000 && ringtls_read(p.conn, &c, 1) != 1; i++)
		pair_rest(&p);
	assert_int_equal(c, 'o');
	detach(&p);
	ssl_reads(&p, "netwothree");
	pair_close(&p);
}

static void close_notify_of_openssl_arrives(void **state)
{
	struct pair p;

	open_shaken(&p, *state);
	pair_write_all(&p, bytes, 1000);
	detach(&p);
	ssl_write_all(&p, bytes + 1000, 1000);
	assert_int_equal(SSL_shutdown(p.ours), 0);
	for (int i = 0; i < 1000 && p.peer_error != SSL_ERROR_ZERO_RETURN; i++) {
		pair_peer_reads(&p);
		pair_rest(&p);
	}
	assert_int_equal(p.peer_error, SSL_ERROR_ZERO_RETURN);
	assert_int_equal(p.got_len, 2000);
	assert_memory_equal(p.got, bytes, 2000);
	pair_close(&p);
}

static bool openssl_renews_keys(const struct pair_opts *o)
{
	return o->lane == RINGTLS_LANE_OPENSSL ||
	       (OpenSSL_version_num() >= 0x30200000 && !ringtls__probe_get()->rekey);
}

static void keys_are_renewed_by_openssl(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;

	pair_need(o);
	if (!openssl_renews_keys(o)) {
		print_message("# needs OpenSSL 3.2, and a kernel that takes a second key\n");
		skip();
	}
	open_shaken(&p, o);
	pair_write_all(&p, bytes, 1000);
	assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_NOT_REQUESTED), 0);
	pair_write_all(&p, bytes + 1000, 1000);
	detach(&p);
	for (size_t at = 2000; at < 10000; at += 1000) {
		assert_int_equal(SSL_key_update(p.ours, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		ssl_write_all(&p, bytes + at, 1000);
	}
	pair_peer_expects(&p, bytes, 10000);
	pair_close(&p);
}

static void file_is_sent_by_openssl(void **state)
{
	const struct pair_opts *o = *state;
	FILE *file;
	struct pair p;
	size_t done = 0;

	pair_need(o);
	file = tmpfile();
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, LEN, file), LEN);
	fflush(file);
	open_shaken(&p, o);
	pair_write_all(&p, bytes, 1000);
	detach(&p);
	while (done < LEN - 1000) {
		ssize_t n = SSL_sendfile(p.ours, fileno(file), (off_t)(1000 + done),
					 LEN - 1000 - done, 0);

		if (n > 0)
			done += (size_t)n;
		else
			assert_int_equal(SSL_get_error(p.ours, (int)n), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(&p);
	}
	pair_peer_expects(&p, bytes, LEN);
	fclose(file);
	pair_close(&p);
}

static void it_can_be_attached_again(void **state)
{
	const struct pair_opts *o = *state;
	struct ringtls_conn_opts co = {.size = sizeof(co), .lane = o->lane};
	struct pair p;

	open_shaken(&p, o);
	pair_write_all(&p, bytes, 1000);
	for (size_t at = 1000; at < 5000; at += 1000) {
		detach(&p);
		co.user = &p;
		assert_int_equal(ringtls_conn_new(&p.conn, p.engine, p.ours, p.fd, &co), 0);
		pair_write_all(&p, bytes + at, 1000);
	}
	pair_peer_expects(&p, bytes, 5000);
	pair_close(&p);
}

static void before_its_handshake_it_is_openssls_again(void **state)
{
	struct pair p;
	int ours = 0, peer = 0;

	pair_need((const struct pair_opts *)*state);
	pair_open(&p, *state);
	detach(&p);
	for (int i = 0; i < 1000 && (ours != 1 || peer != 1); i++) {
		ours = ours == 1 ? 1 : SSL_do_handshake(p.ours);
		peer = peer == 1 ? 1 : SSL_do_handshake(p.peer);
		pair_rest(&p);
	}
	assert_true(ours == 1 && peer == 1);
	ssl_write_all(&p, bytes, 5000);
	pair_peer_expects(&p, bytes, 5000);
	pair_close(&p);
}

static void its_options_are_as_they_were(void **state)
{
	const struct pair_opts *o = *state;
	struct pair p;
	uint64_t options;

	pair_need(o);
	pair_open(&p, o);
	options = SSL_get_options(p.ours) & (SSL_OP_ENABLE_KTLS | SSL_OP_NO_RENEGOTIATION);
	assert_true(options & SSL_OP_NO_RENEGOTIATION);
	pair_handshake(&p);
	detach(&p);
	/* What the kernel has a key for stays kernel TLS, and can't be renegotiated. */
	if (o->lane != RINGTLS_LANE_KERNEL)
		options = 0;
	assert_int_equal(SSL_get_options(p.ours) & (SSL_OP_ENABLE_KTLS | SSL_OP_NO_RENEGOTIATION),
			 options);
	pair_close(&p);
}

/* ---- Where it can't be ------------------------------------------------- */

static void write_under_way_must_end_first(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	uint8_t *many;
	struct pair p;
	size_t written;

	pair_need(&o); /* a test that is skipped frees nothing */
	many = malloc(20 * LEN);
	assert_non_null(many);
	pair_fill(many, 20 * LEN);
	o.small_buffers = true;
	open_shaken(&p, &o);
	assert_int_equal(ringtls_write_ex(p.conn, many, 20 * LEN, &written), 0);
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_WANT_WRITE);
	do {
		pair_peer_reads(&p);
		assert_int_equal(ringtls_conn_detach(p.conn), RINGTLS_E_STATE);
	} while (ringtls_write_ex(p.conn, many, 20 * LEN, &written) != 1);
	detach(&p);
	pair_peer_expects(&p, many, 20 * LEN);
	pair_close(&p);
	free(many);
}

static void closed_connection_is_not_given_back(void **state)
{
	struct pair p;

	open_shaken(&p, *state);
	while (ringtls_shutdown(p.conn) < 0)
		pair_wait(&p);
	assert_int_equal(ringtls_conn_detach(p.conn), RINGTLS_E_STATE);
	pair_close(&p);
}

static void failed_connection_says_why(void **state)
{
	struct pair p;

	open_shaken(&p, *state);
	ringtls__tx_fail(&p.conn->tx, -EPIPE);
	assert_int_equal(ringtls_conn_detach(p.conn), -EPIPE);
	pair_close(&p);
}

static void user_lane_keeps_it_and_it_lives_on(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;

	o.lane = RINGTLS_LANE_USER;
	open_shaken(&p, &o);
	pair_write_all(&p, bytes, 1000);
	assert_int_equal(ringtls_conn_detach(p.conn), RINGTLS_E_DETACH);
	pair_write_all(&p, bytes + 1000, LEN - 1000);
	pair_peer_expects(&p, bytes, LEN);
	pair_close(&p);
}

static bool is_full;

static ssize_t sendmsg_until_full(int fd, const struct msghdr *msg, int flags)
{
	return is_full ? -EAGAIN : ringtls__sys_real.sendmsg(fd, msg, flags);
}

static void what_is_queued_goes_out_first(void **state)
{
	struct ringtls__sys sys = ringtls__sys_real;
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;

	o.version = TLS1_3_VERSION;
	o.backend = RINGTLS_BACKEND_SYSCALLS;
	o.sys = &sys;
	sys.sendmsg = sendmsg_until_full;
	is_full = false;
	open_shaken(&p, &o);
	pair_write_all(&p, bytes, 1000);
	is_full = true;
	assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_NOT_REQUESTED), 0);
	assert_int_equal(ringtls_conn_detach(p.conn), -EAGAIN);
	assert_int_equal(ringtls_conn_detach(p.conn), -EAGAIN);
	pair_wait(&p);
	is_full = false;
	detach(&p);
	ssl_write_all(&p, bytes + 1000, 1000);
	pair_peer_expects(&p, bytes, 2000);
	pair_close(&p);
}

static unsigned collect(struct pair *p, uint32_t flags)
{
	struct ringtls_completion done;
	unsigned n = 0;

	while (ringtls_engine_completions(p->engine, &done, 1) == 1) {
		assert_ptr_equal(done.conn, p->conn);
		assert_int_equal(done.error, 0);
		n += (done.flags & flags) != 0;
	}
	return n;
}

/* The caller is told of all of them before they have no connection any more. */
static void requests_go_out_first_and_are_told(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	uint8_t *many;
	struct iovec iov[2];
	struct pair p;
	unsigned sent = 0;
	int r;

	pair_need(&o); /* a test that is skipped frees nothing */
	many = malloc(20 * LEN + 1);
	assert_non_null(many);
	pair_fill(many, 20 * LEN + 1);
	iov[0] = (struct iovec){many, 10 * LEN};
	iov[1] = (struct iovec){many + 10 * LEN, 10 * LEN};
	o.small_buffers = true;
	open_shaken(&p, &o);
	for (int i = 0; i < 2; i++)
		assert_int_equal(ringtls_queue_writev(p.conn, &iov[i], 1, 0), 1);
	assert_int_equal(ringtls_conn_detach(p.conn), -EAGAIN);
	while ((r = ringtls_conn_detach(p.conn)) == -EAGAIN) {
		pair_peer_reads(&p);
		sent += collect(&p, RINGTLS_SENT);
	}
	assert_int_equal(r, -EBUSY);
	sent += collect(&p, RINGTLS_SENT);
	assert_int_equal(sent, 2);
	detach(&p);
	ssl_write_all(&p, many + 20 * LEN, 1);
	pair_peer_expects(&p, many, 20 * LEN + 1);
	pair_close(&p);
	free(many);
}

static bool is_out_of_memory;

static void *alloc(size_t len, const char *file, int line)
{
	(void)file, (void)line;
	return is_out_of_memory ? NULL : malloc(len);
}

static void *resize(void *old, size_t len, const char *file, int line)
{
	(void)file, (void)line;
	return is_out_of_memory ? NULL : realloc(old, len);
}

static void release(void *old, const char *file, int line)
{
	(void)file, (void)line;
	free(old);
}

static void without_memory_it_lives_on(void **state)
{
	struct pair p;
	int r;

	open_shaken(&p, *state);
	is_out_of_memory = true;
	r = ringtls_conn_detach(p.conn);
	is_out_of_memory = false;
	assert_int_equal(r, -ENOMEM);
	pair_write_all(&p, bytes, LEN);
	pair_peer_expects(&p, bytes, LEN);
	detach(&p);
	pair_close(&p);
}

/* What it waits for still wakes it. */
static void without_memory_it_still_hears_of_its_peer(void **state)
{
	struct ringtls_event ev;
	struct pair p;
	char c;
	int r;

	open_shaken(&p, *state);
	pair_peer_reads(&p); /* so that only the engine wakes us */
	assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_READ);
	while (ringtls_engine_wait(p.engine, &ev, 1, 20) > 0)
		assert_int_equal(ringtls_read(p.conn, &c, 1), -1);
	is_out_of_memory = true;
	r = ringtls_conn_detach(p.conn);
	is_out_of_memory = false;
	assert_int_equal(r, -ENOMEM);
	assert_int_equal(SSL_write(p.peer, "x", 1), 1);
	do {
		pair_sleep(&p);
		pair_wait(&p);
	} while (ringtls_read(p.conn, &c, 1) != 1);
	assert_int_equal(c, 'x');
	detach(&p);
	pair_close(&p);
}

/* ------------------------------------------------------------------------ */

#define O(l, b, v, c)                                                                              \
	{                                                                                          \
		.lane = RINGTLS_LANE_##l, .backend = RINGTLS_BACKEND_##b,                          \
		.version = TLS1_##v##_VERSION, .is_client = c                                      \
	}

static const struct pair_opts combinations[] = {
	O(OPENSSL, URING, 3, false),	O(OPENSSL, URING, 2, true),
	O(OPENSSL, SYSCALLS, 3, true),	O(OPENSSL, SYSCALLS, 2, false),
	O(KERNEL, URING, 3, false),	O(KERNEL, URING, 2, true),
	O(KERNEL, SYSCALLS, 3, true),	O(KERNEL, SYSCALLS, 2, false),
};

/* What is about one lane, or version, only is in the list for that one only. */
static const struct {
	const char *name;
	CMUnitTestFunction function;
	uint32_t lane;
	int version;
} tests[] = {
#define T(f, ...) { #f, f, __VA_ARGS__ }
	T(ssl_goes_on_in_both_directions, 0, 0),
	T(its_bio_is_a_socket_bio_that_does_not_close, 0, 0),
	T(what_was_read_ahead_is_not_lost, 0, 0),
	T(close_notify_of_openssl_arrives, 0, 0),
	T(before_its_handshake_it_is_openssls_again, 0, 0),
	T(its_options_are_as_they_were, 0, 0),
	T(write_under_way_must_end_first, 0, 0),
	T(requests_go_out_first_and_are_told, 0, 0),
	T(closed_connection_is_not_given_back, 0, 0),
	T(failed_connection_says_why, 0, 0),
	T(without_memory_it_lives_on, 0, 0),
	T(without_memory_it_still_hears_of_its_peer, 0, 0),
	T(keys_are_renewed_by_openssl, 0, TLS1_3_VERSION),
	T(what_is_queued_goes_out_first, RINGTLS_LANE_OPENSSL, TLS1_3_VERSION),
	T(file_is_sent_by_openssl, RINGTLS_LANE_KERNEL, 0),
	T(it_can_be_attached_again, RINGTLS_LANE_OPENSSL, 0),
	T(user_lane_keeps_it_and_it_lives_on, RINGTLS_LANE_OPENSSL, 0),
};

static bool is_about(size_t test, const struct pair_opts *o)
{
	return (!tests[test].lane || tests[test].lane == o->lane) &&
	       (!tests[test].version || tests[test].version == o->version);
}

static void add(size_t test, const struct pair_opts *o)
{
	struct pair_opts place = *o;

	if (tests[test].function == user_lane_keeps_it_and_it_lives_on)
		place.lane = RINGTLS_LANE_USER;
	list_add(o, tests[test].function, "%s non-blocking: %s", list_place(&place),
		 tests[test].name);
}

int main(int argc, char **argv)
{
	if (CRYPTO_set_mem_functions(alloc, resize, release) != 1)
		return 1;
	pair_fill(bytes, LEN);
	for (size_t c = 0; c < COUNT(combinations); c++)
		for (size_t t = 0; t < COUNT(tests); t++)
			if (is_about(t, &combinations[c]))
				add(t, &combinations[c]);
	return list_run("detach", argc, argv);
}
