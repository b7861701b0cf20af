/* test_probe.c - what the probe makes of each refusal, and what the kernel here says. */
#include "config.h"
#include "support.h"

#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>

#include "probe.h"
#include "refuse.h"

#include <ringtls/ringtls.h>

/* A kernel with TLS that refuses what it is told to. */
static struct {
	int ulp;          /* answer to TCP_ULP */
	int tx;           /* answer to TLS_TX ... */
	uint16_t version; /* ... of this version, 0 is any ... */
	uint16_t cipher;  /* ... and this cipher, 0 is any */
	int again;        /* answer to a second TLS_TX on the same connection */

	int ulps, txs;  /* questions asked */
	int last_port;  /* connection of the last question */
	int keys;       /* TLS_TX that succeeded on that connection */
	int fresh;      /* connections seen */
	int loose_ends; /* sockets that are no established loopback connection */
} kernel;

static void look_at(int fd)
{
	struct sockaddr_in peer = { .sin_family = AF_UNSPEC }, own = peer;
	struct tcp_info info;
	socklen_t len = sizeof(peer), own_len = sizeof(own), info_len = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 ||
	    getsockname(fd, (struct sockaddr *)&own, &own_len) < 0 ||
	    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_len) < 0 ||
	    info.tcpi_state != TCP_ESTABLISHED ||
	    (peer.sin_family == AF_INET && peer.sin_addr.s_addr != htonl(INADDR_LOOPBACK)))
		kernel.loose_ends++;
	if (ntohs(own.sin_port) != kernel.last_port) {
		kernel.last_port = ntohs(own.sin_port);
		kernel.keys = 0;
		kernel.fresh++;
	}
}

static int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct tls_crypto_info info;

	look_at(fd);
	if (level == IPPROTO_TCP && name == TCP_ULP) {
		assert_int_equal(len, sizeof("tls"));
		assert_string_equal(value, "tls");
		kernel.ulps++;
		return kernel.ulp;
	}
	assert_int_equal(level, SOL_TLS);
	assert_int_equal(name, TLS_TX);
	kernel.txs++;
	memcpy(&info, value, sizeof(info));
	if (kernel.keys && kernel.again)
		return kernel.again;
	if (kernel.tx && (!kernel.version || kernel.version == info.version) &&
	    (!kernel.cipher || kernel.cipher == info.cipher_type))
		return kernel.tx;
	kernel.keys++;
	return 0;
}

static struct ringtls__probe probe_it(void)
{
	struct ringtls__sys sys = ringtls__sys_real;
	struct ringtls__probe probe;

	sys.setsockopt = fake_setsockopt;
	ringtls__probe_run(&probe, &sys);
	assert_int_equal(kernel.loose_ends, 0);
	return probe;
}

static int setup(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	return 0;
}

/* What the probe says, with the reason where it says no. */
#define assert_tx(probe, version, cipher, result, why)                                             \
	do {                                                                                       \
		uint32_t reason_ = 99;                                                             \
		assert_int_equal(ringtls__probe_tx(probe, version, cipher, &reason_), result);     \
		assert_int_equal(reason_, RINGTLS_REASON_##why);                                   \
	} while (0)

#define assert_every_tx(probe, result, why)                                                        \
	do {                                                                                       \
		for (int i_ = 0; i_ < RINGTLS__PROBE_TX; i_++)                                     \
			assert_tx(probe, (probe)->tx[i_].version, (probe)->tx[i_].cipher, result,  \
				  why);                                                            \
	} while (0)

static void a_kernel_that_takes_everything_has_everything(void **state)
{
	struct ringtls__probe probe = probe_it();

	(void)state;
	assert_int_equal(probe.pair, 0);
	assert_int_equal(probe.ulp, 0);
	assert_int_equal(probe.rekey, 0);
	assert_every_tx(&probe, 0, NONE);
}

static void four_ciphers_in_two_versions_are_asked_for(void **state)
{
	const uint16_t ciphers[] = { TLS_CIPHER_AES_GCM_128, TLS_CIPHER_AES_GCM_256,
				     TLS_CIPHER_AES_CCM_128, TLS_CIPHER_CHACHA20_POLY1305 };
	struct ringtls__probe probe = probe_it();

	(void)state;
	for (int i = 0; i < 4; i++) {
		assert_tx(&probe, TLS_1_2_VERSION, ciphers[i], 0, NONE);
		assert_tx(&probe, TLS_1_3_VERSION, ciphers[i], 0, NONE);
	}
	assert_int_equal(kernel.txs, 8 + 2); /* and the rekey's two */
}

static void every_question_gets_a_connection_of_its_own(void **state)
{
	(void)state;
	probe_it();
	assert_int_equal(kernel.fresh, 1 + 8 + 1);
	assert_int_equal(kernel.ulps, 1 + 8 + 1);
}

static void without_the_module_nothing_more_is_asked(void **state)
{
	struct ringtls__probe probe;

	(void)state;
	kernel.ulp = -ENOENT;
	probe = probe_it();
	assert_int_equal(probe.pair, 0);
	assert_int_equal(probe.ulp, -ENOENT);
	assert_int_equal(probe.rekey, -ENOENT);
	assert_int_equal(kernel.ulps, 1);
	assert_int_equal(kernel.txs, 0);
	assert_every_tx(&probe, -ENOENT, NO_ULP);
}

static void a_tcp_without_protocols_above_it_has_no_tls(void **state)
{
	struct ringtls__probe probe;

	(void)state;
	kernel.ulp = -ENOPROTOOPT;
	probe = probe_it();
	assert_every_tx(&probe, -ENOPROTOOPT, NO_ULP);
}

static void another_refusal_of_tls_is_a_failed_probe(void **state)
{
	struct ringtls__probe probe;

	(void)state;
	kernel.ulp = -EPERM;
	probe = probe_it();
	assert_every_tx(&probe, -EPERM, PROBE);
}

static void a_cipher_without_crypto_module_is_missing_alone(void **state)
{
	struct ringtls__probe probe;

	(void)state;
	kernel.tx = -ENOENT;
	kernel.cipher = TLS_CIPHER_CHACHA20_POLY1305;
	probe = probe_it();
	assert_tx(&probe, TLS_1_2_VERSION, TLS_CIPHER_CHACHA20_POLY1305, -ENOENT, NO_CIPHER);
	assert_tx(&probe, TLS_1_3_VERSION, TLS_CIPHER_CHACHA20_POLY1305, -ENOENT, NO_CIPHER);
	assert_tx(&probe, TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 0, NONE);
	assert_int_equal(probe.rekey, 0);
}

static void a_version_that_is_unknown_is_missing_alone(void **state)
{
	struct ringtls__probe probe;

	(void)state;
	kernel.tx = -EINVAL;
	kernel.version = TLS_1_3_VERSION;
	probe = probe_it();
	assert_tx(&probe, TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, -EINVAL, NO_CIPHER);
	assert_tx(&probe, TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128, 0, NONE);
	assert_int_equal(probe.rekey, -EINVAL);
}

static void a_key_refused_for_want_of_memory_is_a_failed_probe(void **state)
{
	struct ringtls__probe probe;

	(void)state;
	kernel.tx = -ENOMEM;
	probe = probe_it();
	assert_every_tx(&probe, -ENOMEM, PROBE);
}

static void a_second_key_that_is_refused_means_no_rekey(void **state)
{
	struct ringtls__probe probe;

	(void)state;
	kernel.again = -EBUSY;
	probe = probe_it();
	assert_int_equal(probe.rekey, -EBUSY);
	assert_every_tx(&probe, 0, NONE);
}

static void rekey_is_asked_with_a_cipher_that_works(void **state)
{
	struct ringtls__probe probe;

	(void)state;
	kernel.tx = -ENOENT;
	kernel.cipher = TLS_CIPHER_AES_GCM_128;
	probe = probe_it();
	assert_int_equal(probe.rekey, 0);
}

static void what_was_never_asked_is_not_there(void **state)
{
	struct ringtls__probe probe = probe_it();

	(void)state;
	assert_tx(&probe, TLS_1_2_VERSION, TLS_CIPHER_SM4_GCM, -EINVAL, NO_CIPHER);
	assert_tx(&probe, 0x0302, TLS_CIPHER_AES_GCM_128, -EINVAL, VERSION);
}

static void nothing_stays_open(void **state)
{
	int before = open_descriptors();

	(void)state;
	probe_it();
	kernel.ulp = -ENOENT;
	probe_it();
	assert_int_equal(open_descriptors(), before);
}

/* poll as the probe sees it: interrupted at first, or never done. */
static int interruptions;

static int interrupted_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	return interruptions-- > 0 ? -EINTR : ringtls__sys_real.poll(fds, n, timeout_ms);
}

static int endless_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	(void)fds;
	(void)n;
	(void)timeout_ms;
	return 0;
}

static void a_signal_does_not_disturb(void **state)
{
	struct ringtls__sys sys = ringtls__sys_real;
	struct ringtls__probe probe;

	(void)state;
	interruptions = 3;
	sys.poll = interrupted_poll;
	sys.setsockopt = fake_setsockopt;
	ringtls__probe_run(&probe, &sys);
	assert_int_equal(probe.pair, 0);
	assert_every_tx(&probe, 0, NONE);
}

static void a_loopback_that_drops_packets_is_given_up(void **state)
{
	struct ringtls__sys sys = ringtls__sys_real;
	struct ringtls__probe probe;
	int before = open_descriptors();

	(void)state;
	sys.poll = endless_poll;
	sys.setsockopt = fake_setsockopt;
	ringtls__probe_run(&probe, &sys);
	assert_int_equal(probe.pair, -ETIMEDOUT);
	assert_every_tx(&probe, -ETIMEDOUT, PROBE);
	assert_int_equal(kernel.ulps, 0);
	assert_int_equal(open_descriptors(), before);
}

/* In a child: the errno that kept us from a pair, or 127 when that is told wrongly. */
static int error_of_pair(void)
{
	struct ringtls__sys sys = ringtls__sys_real;
	struct ringtls__probe probe;
	uint32_t reason;

	sys.setsockopt = fake_setsockopt;
	ringtls__probe_run(&probe, &sys);
	if (probe.pair && (probe.ulp != probe.pair || kernel.ulps ||
			   ringtls__probe_ulp(&probe, &reason) != probe.pair ||
			   reason != RINGTLS_REASON_PROBE))
		return 127;
	return -probe.pair;
}

/* A process must be allowed namespaces of users, or be root. */
static int pair_without_loopback(void)
{
	if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
		return 0;
	return error_of_pair();
}

static int pair_without_descriptors(void)
{
	return refuse_descriptors() ? 0 : error_of_pair();
}

static int pair_without_ipv4(void)
{
	return refuse_syscall_with(SYS_socket, AF_INET, EAFNOSUPPORT) ? 0 : error_of_pair();
}

static void a_namespace_without_loopback_is_a_failed_probe(void **state)
{
	int error = in_child(pair_without_loopback);

	(void)state;
	need("namespaces", error != 0);
	assert_true(error == ENETUNREACH || error == EADDRNOTAVAIL);
}

static void without_descriptors_the_probe_has_failed(void **state)
{
	int error = in_child(pair_without_descriptors);

	(void)state;
	need("rlimit", error != 0);
	assert_int_equal(error, EMFILE);
}

static void without_ipv4_it_is_asked_over_ipv6(void **state)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	const struct sockaddr_in6 to = { .sin6_family = AF_INET6,
					 .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int present = fd >= 0 && !bind(fd, (const struct sockaddr *)&to, sizeof(to));

	(void)state;
	if (fd >= 0)
		close(fd);
	need("ipv6", present);
	assert_int_equal(in_child(pair_without_ipv4), 0);
}

static void *get(void *unused)
{
	(void)unused;
	return (void *)(uintptr_t)ringtls__probe_get();
}

static void all_threads_get_one_answer(void **state)
{
	pthread_t threads[8];
	void *answer, *first = get(NULL);

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, get, NULL), 0);
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], &answer);
		assert_ptr_equal(answer, first);
	}
}

static void this_kernel_seals_records(void **state)
{
	const struct ringtls__probe *probe = ringtls__probe_get();

	(void)state;
	need("ktls", probe->ulp == 0);
	assert_every_tx(probe, 0, NONE);
}

static void this_kernel_takes_a_second_key(void **state)
{
	const struct ringtls__probe *probe = ringtls__probe_get();

	(void)state;
	need("rekey", probe->rekey == 0);
	assert_tx(probe, TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 0, NONE);
}

static void a_kernel_without_rekey_says_busy(void **state)
{
	const struct ringtls__probe *probe = ringtls__probe_get();

	(void)state;
	need("ktls", probe->ulp == 0);
	assert_true(probe->rekey == 0 || probe->rekey == -EBUSY);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_kernel_that_takes_everything_has_everything),
		T(four_ciphers_in_two_versions_are_asked_for),
		T(every_question_gets_a_connection_of_its_own),
		T(without_the_module_nothing_more_is_asked),
		T(a_tcp_without_protocols_above_it_has_no_tls),
		T(another_refusal_of_tls_is_a_failed_probe),
		T(a_cipher_without_crypto_module_is_missing_alone),
		T(a_version_that_is_unknown_is_missing_alone),
		T(a_key_refused_for_want_of_memory_is_a_failed_probe),
		T(a_second_key_that_is_refused_means_no_rekey),
		T(rekey_is_asked_with_a_cipher_that_works),
		T(what_was_never_asked_is_not_there),
		T(nothing_stays_open),
		T(a_signal_does_not_disturb),
		T(a_loopback_that_drops_packets_is_given_up),
		T(a_namespace_without_loopback_is_a_failed_probe),
		T(without_descriptors_the_probe_has_failed),
		T(without_ipv4_it_is_asked_over_ipv6),
		T(all_threads_get_one_answer),
		T(this_kernel_seals_records),
		T(this_kernel_takes_a_second_key),
		T(a_kernel_without_rekey_says_busy),
	};

	return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
