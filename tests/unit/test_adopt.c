/*
 * test_adopt.c - a connection whose sending OpenSSL has handed to the kernel before we
 * had it. Those named kernel also run over the emulated kernel TLS: there the kernel's
 * key is one that we gave back, which a stock BIO does not know from its own.
 */
#include "support.h"
#include "pair.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include "probe.h"

#define LEN 400000

static uint8_t bytes[LEN];

static int adopt_as(struct pair *p, uint32_t lane)
{
	struct ringtls_conn_opts co = { .size = sizeof(co), .lane = lane, .user = p };

	return ringtls_conn_new(&p->conn, p->engine, p->ours, p->fd, &co);
}

static void adopt(struct pair *p)
{
	struct ringtls_conn_info info;

	assert_int_equal(BIO_get_ktls_send(SSL_get_wbio(p->ours)), 1);
	assert_int_equal(adopt_as(p, RINGTLS_LANE_AUTO), 0);
	info = pair_info(p);
	assert_int_equal(info.lane, RINGTLS_LANE_KERNEL);
	assert_int_equal(info.reason, RINGTLS_REASON_NONE);
}

static void give_back(struct pair *p)
{
	int r;

	while ((r = ringtls_conn_detach(p->conn)) == -EAGAIN)
		pair_wait(p);
	assert_int_equal(r, 0);
	p->conn = NULL;
}

static void open_given_back(struct pair *p, const struct pair_opts *o)
{
	pair_need(o);
	pair_open(p, o);
	pair_handshake(p);
	pair_write_all(p, bytes, 1000);
	give_back(p);
}

/* ---- What the kernel was given before ---------------------------------- */

static void the_next_byte_follows(void **state)
{
	struct ringtls_conn_info info;
	struct pair p;

	open_given_back(&p, *state);
	adopt(&p);
	pair_write_all(&p, bytes + 1000, LEN - 1000);
	pair_peer_expects(&p, bytes, LEN);
	pair_peer_sends_a_byte(&p);
	info = pair_info(&p);
	assert_int_equal(info.bytes, LEN - 1000);
	assert_in_bounds(info.records, (LEN - 1000) / 16384 + 1, 200);
	assert_int_equal(info.epochs, 0);
	pair_close(&p);
}

static void it_goes_to_and_fro(void **state)
{
	struct pair p;

	open_given_back(&p, *state);
	for (size_t at = 1000; at < 6000; at += 1000) {
		adopt(&p);
		pair_write_all(&p, bytes + at, 1000);
		give_back(&p);
	}
	pair_peer_expects(&p, bytes, 6000);
	pair_close(&p);
}

static void no_other_lane_can_be_had(void **state)
{
	struct pair p;

	open_given_back(&p, *state);
	assert_int_equal(adopt_as(&p, RINGTLS_LANE_USER), RINGTLS_E_LANE);
	assert_int_equal(adopt_as(&p, RINGTLS_LANE_OPENSSL), RINGTLS_E_LANE);
	assert_int_equal(ringtls_conn_new(&p.conn, p.engine, p.ours, -1, NULL), RINGTLS_E_STATE);
	assert_int_equal(adopt_as(&p, RINGTLS_LANE_KERNEL), 0);
	pair_write_all(&p, bytes + 1000, 1000);
	pair_peer_expects(&p, bytes, 2000);
	pair_close(&p);
}

static void file_goes_on_where_the_bytes_ended(void **state)
{
	FILE *file = tmpfile();
	struct pair p;
	size_t done = 1000;

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, LEN, file), LEN);
	fflush(file);
	open_given_back(&p, *state);
	adopt(&p);
	while (done < LEN) {
		ssize_t n = ringtls_sendfile(p.conn, fileno(file), (off_t)done, LEN - done, 0);

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		assert_int_equal(ringtls_get_error(p.conn, -1), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(&p);
		pair_wait(&p);
	}
	pair_peer_expects(&p, bytes, LEN);
	fclose(file);
	pair_close(&p);
}

static void keys_are_renewed_or_refused(void **state)
{
	const struct pair_opts *o = *state;
	int want = o->version != TLS1_3_VERSION		       ? RINGTLS_E_STATE :
		   OpenSSL_version_num() < 0x30200000	       ? RINGTLS_E_REKEY :
		   ringtls__probe_get()->rekey		       ? RINGTLS_E_REKEY :
								 0;
	struct pair p;

	open_given_back(&p, o);
	adopt(&p);
	assert_int_equal(ringtls_conn_key_update(p.conn, SSL_KEY_UPDATE_NOT_REQUESTED), want);
	pair_write_all(&p, bytes + 1000, LEN - 1000);
	pair_peer_expects(&p, bytes, LEN);
	assert_int_equal(pair_info(&p).epochs, want == 0);
	pair_close(&p);
}

/* What was written when nobody read: TCP is full, and the kernel holds the rest back. */
static size_t fill(struct pair *p)
{
	size_t at = 1000, n, written;

	for (;; at += n) {
		assert_true(at < LEN);
		n = LEN - at < 3000 ? LEN - at : 3000;
		if (ringtls_write_ex(p->conn, bytes + at, n, &written) != 1)
			break;
	}
	/* A write that is under way would forbid to give it back. */
	pair_write_all(p, bytes + at, n);
	return at + n;
}

static void close_cuts_nothing_off_that_was_held_back_before(void **state)
{
	struct pair_opts o = *(const struct pair_opts *)*state;
	struct pair p;
	size_t len;
	int r;

	o.small_buffers = true;
	open_given_back(&p, &o);
	adopt(&p);
	len = fill(&p);
	give_back(&p);
	adopt(&p);
	while ((r = ringtls_shutdown(p.conn)) < 0) {
		assert_int_equal(ringtls_get_error(p.conn, r), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(&p);
		pair_wait(&p);
	}
	assert_int_equal(r, 0);
	assert_int_equal(ringtls_conn_free(p.conn), 0);
	p.conn = NULL;
	assert_int_equal(shutdown(p.fd, SHUT_WR), 0);
	pair_peer_expects(&p, bytes, len);
	for (int i = 0; i < 1000 && p.peer_error == SSL_ERROR_WANT_READ; i++) {
		pair_peer_reads(&p);
		pair_rest(&p);
	}
	assert_int_equal(p.peer_error, SSL_ERROR_ZERO_RETURN);
	pair_close(&p);
}

/* ---- OpenSSL's own doing ----------------------------------------------- */

/* Handshakes with stock BIOs on both sides; the kernel seals, and may open, too. */
static void open_stock(struct pair *p, const struct pair_opts *o)
{
	int ours = 0, peer = 0;

	pair_need(o);
	pair_open(p, o);
	assert_int_equal(ringtls_conn_free(p->conn), 0);
	p->conn = NULL;
	assert_int_equal(SSL_set_fd(p->ours, p->fd), 1);
	SSL_set_options(p->ours, SSL_OP_ENABLE_KTLS);
	for (int i = 0; i < 1000 && (ours != 1 || peer != 1); i++) {
		ours = ours == 1 ? 1 : SSL_do_handshake(p->ours);
		peer = peer == 1 ? 1 : SSL_do_handshake(p->peer);
		pair_rest(p);
	}
	assert_true(ours == 1 && peer == 1);
	assert_int_equal(SSL_write(p->ours, bytes, 1000), 1000);
	print_message("# the kernel opens what comes: %s\n",
		      BIO_get_ktls_recv(SSL_get_rbio(p->ours)) ? "yes" : "no");
}

static void stock_connection_is_adopted_and_given_back(void **state)
{
	struct pair p;

	open_stock(&p, *state);
	adopt(&p);
	pair_write_all(&p, bytes + 1000, 100000);
	pair_peer_sends_a_byte(&p);
	pair_peer_sends_a_byte(&p);
	give_back(&p);
	assert_int_equal(SSL_write(p.ours, bytes + 101000, 1000), 1000);
	pair_peer_expects(&p, bytes, 102000);
	adopt(&p);
	pair_peer_sends_a_byte(&p);
	pair_close(&p);
}

static void stock_connection_is_read_to_its_end(void **state)
{
	size_t done = 0, sent = 0, n;
	struct pair p;
	uint8_t *got;
	int r = 1;

	open_stock(&p, *state); /* which skips, where there is no kernel TLS */
	got = malloc(LEN);
	assert_non_null(got);
	adopt(&p);
	SSL_set_mode(p.peer, SSL_MODE_ENABLE_PARTIAL_WRITE);
	while (done < LEN) {
		if (sent < LEN && SSL_write_ex(p.peer, bytes + sent, LEN - sent, &n) == 1)
			sent += n;
		if (ringtls_read_ex(p.conn, got + done, LEN - done, &n) == 1)
			done += n;
		else
			assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_WANT_READ);
	}
	assert_memory_equal(got, bytes, LEN);
	assert_int_equal(SSL_shutdown(p.peer), 0);
	for (int i = 0; i < 1000 && r != 0; i++) {
		r = ringtls_read(p.conn, got, 1);
		pair_rest(&p);
	}
	assert_int_equal(ringtls_get_error(p.conn, 0), SSL_ERROR_ZERO_RETURN);
	pair_close(&p);
	free(got);
}

/* ------------------------------------------------------------------------ */

#define LIST(T)                                                                                    \
	T(the_next_byte_follows)                                                                   \
	T(it_goes_to_and_fro)                                                                      \
	T(no_other_lane_can_be_had)                                                                \
	T(file_goes_on_where_the_bytes_ended)                                                      \
	T(keys_are_renewed_or_refused)                                                             \
	T(close_cuts_nothing_off_that_was_held_back_before)

#define STOCK(T)                                                                                   \
	T(stock_connection_is_adopted_and_given_back)                                              \
	T(stock_connection_is_read_to_its_end)

#define TEST(name, who, opts) { who " non-blocking: " #name, name, NULL, NULL, opts }
#define S12(name)	      TEST(name, "kernel syscalls TLSv1.2", &server_12),
#define S13(name)	      TEST(name, "kernel syscalls TLSv1.3", &server_13),
#define C12(name)	      TEST(name, "kernel uring TLSv1.2", &client_12),
#define C13(name)	      TEST(name, "kernel uring TLSv1.3", &client_13),
/* Not over the emulated kernel TLS, of which OpenSSL's own BIOs know nothing. */
#define STOCK_S12(name)	      TEST(name, "stock kernel syscalls TLSv1.2", &server_12),
#define STOCK_S13(name)	      TEST(name, "stock kernel syscalls TLSv1.3", &server_13),
#define STOCK_C12(name)	      TEST(name, "stock kernel uring TLSv1.2", &client_12),
#define STOCK_C13(name)	      TEST(name, "stock kernel uring TLSv1.3", &client_13),

static struct pair_opts server_12 = { .lane = RINGTLS_LANE_KERNEL,
				      .version = TLS1_2_VERSION,
				      .backend = RINGTLS_BACKEND_SYSCALLS };
static struct pair_opts server_13 = { .lane = RINGTLS_LANE_KERNEL,
				      .version = TLS1_3_VERSION,
				      .backend = RINGTLS_BACKEND_SYSCALLS };
static struct pair_opts client_12 = { .lane = RINGTLS_LANE_KERNEL,
				      .version = TLS1_2_VERSION,
				      .is_client = true };
static struct pair_opts client_13 = { .lane = RINGTLS_LANE_KERNEL,
				      .version = TLS1_3_VERSION,
				      .is_client = true };

int main(void)
{
	const struct CMUnitTest tests[] = { LIST(S12) LIST(S13) LIST(C12) LIST(C13)
						    STOCK(STOCK_S12) STOCK(STOCK_S13)
						    STOCK(STOCK_C12) STOCK(STOCK_C13) };

	pair_fill(bytes, LEN);
	return cmocka_run_group_tests_name("adopt", tests, NULL, NULL);
}
