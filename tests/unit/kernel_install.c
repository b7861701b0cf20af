/* kernel_install.c - up to TLS_TX there is a way back (kmod-notes/point-of-no-return.md). */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>
#include "keys.h"

/* Bytes go through as they are, from fd to peer. */
static void is_plain(struct line *l)
{
	char text[5] = "";

	assert_int_equal(send(l->fd, "plain", 5, MSG_NOSIGNAL), 5);
	assert_int_equal(recv(l->peer, text, 5, MSG_WAITALL), 5);
	assert_memory_equal(text, "plain", 5);
}

static void seals(struct line *l)
{
	assert_int_equal(line_send(l, kernel_bytes, 1000, 0), 1000);
	line_finish(l);
}

static struct ringtls__key good_key(void)
{
	return make_key(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 1);
}

static void ulp_alone_leaves_the_socket_plain(void **state)
{
	struct ringtls__key key = good_key();
	char text[5] = "";
	struct line l;

	(void)state;
	need("ktls", has_ktls());
	line_open(&l, LARGE);
	assert_int_equal(line_ulp(&l), 0);
	is_plain(&l);
	assert_int_equal(send(l.peer, "plain", 5, MSG_NOSIGNAL), 5);
	set_blocking(l.fd, true);
	assert_int_equal(recv(l.fd, text, 5, MSG_WAITALL), 5);
	assert_memory_equal(text, "plain", 5);
	set_blocking(l.fd, false);
	behaviour("point-of-no-return/bytes between TCP_ULP and TLS_TX", "plain");
	assert_int_equal(line_key(&l, &key), 0);
	seals(&l);
	line_close(&l);
}

static void ulp_twice_is_eexist(void **state)
{
	struct line l;

	(void)state;
	need("ktls", has_ktls());
	line_open(&l, LARGE);
	assert_int_equal(line_ulp(&l), 0);
	assert_int_equal(line_ulp(&l), -EEXIST);
	behaviour("point-of-no-return/TCP_ULP twice", "EEXIST");
	is_plain(&l);
	line_close(&l);
}

static int ulp_of(int fd)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0 ? -errno : 0;
}

static void ulp_is_refused_before_the_connection_is_made(void **state)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	need("ktls", has_ktls());
	assert_int_equal(ulp_of(fd), -ENOTCONN);
	behaviour("point-of-no-return/TCP_ULP, not connected", "ENOTCONN");
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(ulp_of(fd), -ENOTCONN);
	behaviour("point-of-no-return/TCP_ULP, listening", "ENOTCONN");
	close(fd);
}

/* A peer that has said all it will say is served without kTLS. */
static void ulp_is_refused_when_the_peer_has_half_closed(void **state)
{
	char byte;
	struct line l;

	(void)state;
	need("ktls", has_ktls());
	line_open(&l, LARGE);
	assert_int_equal(shutdown(l.peer, SHUT_WR), 0);
	set_blocking(l.fd, true);
	assert_int_equal(recv(l.fd, &byte, 1, 0), 0);
	assert_int_equal(line_ulp(&l), -ENOTCONN);
	behaviour("point-of-no-return/TCP_ULP, half closed by the peer", "ENOTCONN");
	is_plain(&l);
	line_close(&l);
}

static void key_is_taken_when_the_peer_half_closes_behind_the_ulp(void **state)
{
	struct ringtls__key key = good_key();
	char byte;
	struct line l;
	int r;

	(void)state;
	need("ktls", has_ktls());
	line_open(&l, LARGE);
	assert_int_equal(line_ulp(&l), 0);
	assert_int_equal(shutdown(l.peer, SHUT_WR), 0);
	set_blocking(l.fd, true);
	assert_int_equal(recv(l.fd, &byte, 1, 0), 0);
	set_blocking(l.fd, false);
	r = line_key(&l, &key);
	assert_int_equal(r, 0);
	behaviour("point-of-no-return/TLS_TX, half closed by the peer", "%s", outcome(r));
	seals(&l);
	line_close(&l);
}

static void key_without_ulp_is_refused(void **state)
{
	struct ringtls__key key = good_key();
	struct line l;

	(void)state;
	line_open(&l, LARGE);
	assert_int_equal(line_key(&l, &key), -ENOPROTOOPT);
	is_plain(&l);
	line_close(&l);
}

static void refused_key_leaves_a_working_plain_socket(void **state)
{
	struct ringtls__key bad[4], good = good_key();
	struct line l;

	(void)state;
	need("ktls", has_ktls());
	for (size_t i = 0; i < 4; i++)
		bad[i] = good_key();
	bad[0].u.info.version = 0x0302;
	bad[1].u.info.cipher_type = 9999;
	bad[2].len--;
	bad[3].u.info.cipher_type = TLS_CIPHER_AES_GCM_256; /* with too short a key */
	line_open(&l, LARGE);
	assert_int_equal(line_ulp(&l), 0);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(line_key(&l, &bad[i]), -EINVAL);
		is_plain(&l);
	}
	behaviour("point-of-no-return/TLS_TX with a version, cipher or length it does not know",
		  "EINVAL, the socket stays plain");
	assert_int_equal(line_key(&l, &good), 0);
	seals(&l);
	line_close(&l);
}

/* Known to TLS, and not to this kernel's crypto. */
static void cipher_that_no_module_has_leaves_a_working_plain_socket(void **state)
{
	struct tls12_crypto_info_sm4_gcm sm4 = { .info = { TLS_1_3_VERSION,
							   TLS_CIPHER_SM4_GCM } };
	struct line l;
	int r;

	(void)state;
	need("ktls", has_ktls());
	line_open(&l, LARGE);
	assert_int_equal(line_ulp(&l), 0);
	r = setsockopt(l.fd, SOL_TLS, TLS_TX, &sm4, sizeof(sm4)) < 0 ? -errno : 0;
	behaviour("point-of-no-return/TLS_TX with SM4-GCM", "%s", outcome(r));
	assert_true(r == 0 || r == -ENOENT);
	if (r == -ENOENT) {
		struct ringtls__key key = good_key();

		is_plain(&l);
		assert_int_equal(line_key(&l, &key), 0);
		seals(&l);
	}
	line_close(&l);
}

static void behind_the_key_nothing_is_plain_again(void **state)
{
	const struct sockaddr unspecified = { .sa_family = AF_UNSPEC };
	struct ringtls__key bad = good_key();
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	bad.u.info.version = 0x0302;
	assert_true(line_key(&l, &bad) < 0);
	assert_int_equal(line_ulp(&l), -EEXIST);
	assert_true(setsockopt(l.fd, IPPROTO_TCP, TCP_ULP, "", 1) < 0);
	assert_int_equal(connect(l.fd, &unspecified, sizeof(unspecified)), -1);
	behaviour("point-of-no-return/connect(AF_UNSPEC) behind TLS_TX", "%s", outcome(-errno));
	assert_int_equal(write(l.fd, kernel_bytes, 10), 10);
	line_gave(&l, kernel_bytes, 10);
	seals(&l);
	line_close(&l);
}

/* The handshake's last bytes may still be in the queue when the key comes. */
static void plain_bytes_in_the_queue_stay_plain_and_first(void **state)
{
	size_t plain = 0;
	struct line l;
	ssize_t n;

	(void)state;
	need("ktls", has_ktls());
	line_open(&l, SMALL);
	while ((n = send(l.fd, kernel_bytes + plain, 1000, MSG_NOSIGNAL)) > 0)
		plain += (size_t)n;
	line_install(&l, TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128);
	line_send_whole(&l, kernel_bytes, 1000);
	line_drain(&l);
	assert_int_equal(shutdown(l.fd, SHUT_WR), 0);
	line_peer_reads_to_end(&l);
	assert_int_equal(l.wire.len, plain + line_sealed_bytes(&l));
	assert_memory_equal(l.wire.at, kernel_bytes, plain);
	l.wire.len -= plain;
	memmove(l.wire.at, l.wire.at + plain, l.wire.len);
	line_open_records(&l);
	line_expect(&l, 0, RINGTLS__RECORD_DATA, 1000);
	line_close(&l);
}

static void receiving_stays_plain(void **state)
{
	static const char record[] = "\x17\x03\x03\x00\x02hi";
	char got[7] = "";
	struct line l;

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(send(l.peer, record, 7, MSG_NOSIGNAL), 7);
	set_blocking(l.fd, true);
	assert_int_equal(recv(l.fd, got, 7, MSG_WAITALL), 7);
	assert_memory_equal(got, record, 7);
	behaviour("point-of-no-return/what is received behind TLS_TX", "untouched");
	line_close(&l);
}

static void kernel_counts_on_from_the_number_it_was_given(void **state)
{
	struct ringtls__key key = good_key();
	struct line l;

	(void)state;
	need("ktls", has_ktls());
	line_open(&l, LARGE);
	assert_int_equal(line_ulp(&l), 0);
	key_set_seq(&key, 261);
	assert_int_equal(line_key(&l, &key), 0);
	assert_int_equal(line_seq(&l), 261);
	seals(&l); /* the peer opens it with 261 */
	assert_int_equal(line_seq(&l), 262);
	line_close(&l);
}

static void getsockopt_gives_the_next_number_and_the_key(void **state)
{
	struct tls12_crypto_info_aes_gcm_128 got;
	struct line l;
	socklen_t len = sizeof(got);

	(void)state;
	line_sealed(&l, LARGE);
	assert_int_equal(line_send(&l, kernel_bytes, 40000, 0), 40000);
	assert_int_equal(getsockopt(l.fd, SOL_TLS, TLS_TX, &got, &len), 0);
	assert_int_equal(got.rec_seq[7], 3);
	assert_memory_equal(got.key, l.keys[0].u.gcm128.key, sizeof(got.key));
	assert_memory_equal(got.salt, l.keys[0].u.gcm128.salt, sizeof(got.salt));
	behaviour("point-of-no-return/getsockopt(TLS_TX)", "the next number, and the key");
	line_finish(&l);
	line_close(&l);
}

static long tls_stat(const char *name)
{
	FILE *stat = fopen("/proc/net/tls_stat", "r");
	char word[64];
	long n, found = -1;

	assert_non_null(stat);
	while (fscanf(stat, "%63s %ld", word, &n) == 2)
		if (!strcmp(word, name))
			found = n;
	fclose(stat);
	return found;
}

static void kernel_counts_connections_that_it_seals(void **state)
{
	struct ringtls__key key = good_key();
	long all, now;
	struct line l;

	(void)state;
	need("ktls", has_ktls());
	all = tls_stat("TlsTxSw");
	now = tls_stat("TlsCurrTxSw");
	line_open(&l, LARGE);
	assert_int_equal(line_ulp(&l), 0);
	assert_int_equal(tls_stat("TlsTxSw"), all); /* not for the ULP alone */
	assert_int_equal(line_key(&l, &key), 0);
	assert_int_equal(tls_stat("TlsTxSw"), all + 1);
	assert_int_equal(tls_stat("TlsCurrTxSw"), now + 1);
	line_close(&l);
	assert_int_equal(tls_stat("TlsTxSw"), all + 1);
	assert_int_equal(tls_stat("TlsCurrTxSw"), now);
	behaviour("point-of-no-return/TlsTxSw of /proc/net/tls_stat",
		  "one up for each first TLS_TX");
}

static const struct CMUnitTest tests[] = {
	T(ulp_alone_leaves_the_socket_plain),
	T(ulp_twice_is_eexist),
	T(ulp_is_refused_before_the_connection_is_made),
	T(ulp_is_refused_when_the_peer_has_half_closed),
	T(key_is_taken_when_the_peer_half_closes_behind_the_ulp),
	T(key_without_ulp_is_refused),
	T(refused_key_leaves_a_working_plain_socket),
	T(cipher_that_no_module_has_leaves_a_working_plain_socket),
	T(behind_the_key_nothing_is_plain_again),
	T(plain_bytes_in_the_queue_stay_plain_and_first),
	T(receiving_stays_plain),
	T(kernel_counts_on_from_the_number_it_was_given),
	T(getsockopt_gives_the_next_number_and_the_key),
	T(kernel_counts_connections_that_it_seals),
};

const struct kernel_tests kernel_install = KERNEL_TESTS(tests);
