/*
 * probe.c - see probe.h.
 *
 * Each question gets a fresh connection to a listener of ours, since TLS_TX can't
 * be undone. The connections are never accepted and carry no byte: being
 * established is all that TCP_ULP asks for.
 */
#include "config.h"
#include "probe.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <ringtls/ringtls.h>

#define CONNECT_MS 500 /* loopback takes microseconds, unless a filter drops it */
#define BACKLOG    16  /* more than we open: nobody may wait for an accept */

/* The key that is installed. Nothing is ever sent under it, so zeros do. */
union key {
	struct tls_crypto_info info;
	struct tls12_crypto_info_aes_gcm_128 gcm128;
	struct tls12_crypto_info_aes_gcm_256 gcm256;
	struct tls12_crypto_info_aes_ccm_128 ccm128;
	struct tls12_crypto_info_chacha20_poly1305 chacha;
};

static const struct {
	uint16_t cipher;
	socklen_t len;
	const char *name;
} ciphers[] = {
	{ TLS_CIPHER_AES_GCM_128, sizeof(struct tls12_crypto_info_aes_gcm_128), "AES-128-GCM" },
	{ TLS_CIPHER_AES_GCM_256, sizeof(struct tls12_crypto_info_aes_gcm_256), "AES-256-GCM" },
	{ TLS_CIPHER_CHACHA20_POLY1305, sizeof(struct tls12_crypto_info_chacha20_poly1305),
	  "CHACHA20-POLY1305" },
	{ TLS_CIPHER_AES_CCM_128, sizeof(struct tls12_crypto_info_aes_ccm_128), "AES-128-CCM" },
};

static const uint16_t versions[] = { TLS_1_3_VERSION, TLS_1_2_VERSION };

#define CIPHERS  (sizeof(ciphers) / sizeof(ciphers[0]))
#define VERSIONS (sizeof(versions) / sizeof(versions[0]))

_Static_assert(CIPHERS *VERSIONS == RINGTLS__PROBE_TX, "the table holds every pair");

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int open_listener(const union address *loopback, socklen_t len)
{
	int error;
	int fd = socket(loopback->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	/* Not bound to a port: listen picks a free one. */
	if (bind(fd, &loopback->any, len) < 0 || listen(fd, BACKLOG) < 0) {
		error = -errno;
		close(fd);
		return error;
	}
	return fd;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 0 when the connect that is under way has ended well. */
static int await_connect(int fd, const struct ringtls__sys *sys)
{
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	int64_t left, end = now_ms() + CONNECT_MS;
	int res, error = 0;
	socklen_t len = sizeof(error);

	do {
		left = end - now_ms();
		res = sys->poll(&wait, 1, left > 0 ? (int)left : 0);
	} while (res == -EINTR && left > 0);
	if (res < 0)
		return res;
	if (res == 0)
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return -error;
}

/* A connected socket, or a negated errno. */
static int open_connection(int listener, const struct ringtls__sys *sys)
{
	const struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	union address to = { 0 };
	socklen_t len = sizeof(to);
	int fd, error = 0;

	if (getsockname(listener, &to.any, &len) < 0)
		return -errno;
	fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* A reset leaves nothing in TIME_WAIT. Where it can't be had that does no harm. */
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (connect(fd, &to.any, len) < 0)
		error = errno == EINPROGRESS || errno == EINTR ? await_connect(fd, sys) : -errno;
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

/* The listener and a first connection to it, over IPv4 or else IPv6. */
static int open_pair(int *ret_listener, int *ret_fd, const struct ringtls__sys *sys)
{
	const union address loopback[] = {
		{ .v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } },
		{ .v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT } },
	};
	const socklen_t len[] = { sizeof(struct sockaddr_in), sizeof(struct sockaddr_in6) };
	int listener, fd, error = 0;

	for (size_t i = 0; i < 2; i++) {
		fd = listener = open_listener(&loopback[i], len[i]);
		if (listener >= 0) {
			fd = open_connection(listener, sys);
			if (fd >= 0) {
				*ret_listener = listener;
				*ret_fd = fd;
				return 0;
			}
			close(listener);
		}
		/* The failure of IPv4 is the telling one, unless there is no IPv4. */
		if (!error || error == -EAFNOSUPPORT)
			error = fd;
	}
	return error;
}

static int set_ulp(int fd, const struct ringtls__sys *sys)
{
	return sys->setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls"));
}

/* TLS_TX, times times over, on a connection of its own. */
static int ask_tx(int listener, size_t i, uint16_t version, int times,
		  const struct ringtls__sys *sys)
{
	union key key;
	int error, fd = open_connection(listener, sys);

	if (fd < 0)
		return fd;
	memset(&key, 0, sizeof(key));
	key.info.version = version;
	key.info.cipher_type = ciphers[i].cipher;
	error = set_ulp(fd, sys);
	while (!error && times-- > 0)
		error = sys->setsockopt(fd, SOL_TLS, TLS_TX, &key, ciphers[i].len);
	close(fd);
	return error;
}

static void ask_every_tx(struct ringtls__probe *probe, int listener,
			 const struct ringtls__sys *sys)
{
	struct ringtls__probe_tx *tx = probe->tx;
	bool asked = false;

	for (size_t v = 0; v < VERSIONS; v++) {
		for (size_t i = 0; i < CIPHERS; i++, tx++) {
			tx->result = ask_tx(listener, i, versions[v], 1, sys);
			if (versions[v] != TLS_1_3_VERSION || asked)
				continue;
			/* One cipher tells for all: rekeying is a matter of the version. */
			asked = tx->result == 0;
			probe->rekey = asked ? ask_tx(listener, i, versions[v], 2, sys) :
					       tx->result;
		}
	}
}

void ringtls__probe_run(struct ringtls__probe *ret_probe, const struct ringtls__sys *sys)
{
	struct ringtls__probe_tx *tx = ret_probe->tx;
	int fd = -1, error, listener = -1;

	error = open_pair(&listener, &fd, sys);
	ret_probe->pair = error;
	if (!error) {
		error = set_ulp(fd, sys);
		close(fd);
	}
	ret_probe->ulp = error;
	ret_probe->rekey = error;
	for (size_t v = 0; v < VERSIONS; v++)
		for (size_t i = 0; i < CIPHERS; i++)
			*tx++ = (struct ringtls__probe_tx){
				.version = versions[v],
				.cipher = ciphers[i].cipher,
				.name = ciphers[i].name,
				.result = error,
			};
	if (!error)
		ask_every_tx(ret_probe, listener, sys);
	if (listener >= 0)
		close(listener);
}

static struct ringtls__probe cached;

static void fill_cache(void)
{
	ringtls__probe_run(&cached, &ringtls__sys_real);
}

const struct ringtls__probe *ringtls__probe_get(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, fill_cache);
	return &cached;
}

int ringtls__probe_ulp(const struct ringtls__probe *probe, uint32_t *ret_reason)
{
	if (probe->pair) {
		*ret_reason = RINGTLS_REASON_PROBE;
		return probe->pair;
	}
	switch (probe->ulp) {
	case 0:
		*ret_reason = RINGTLS_REASON_NONE;
		break;
	case -ENOENT:      /* no such protocol, or not allowed to load it */
	case -ENOPROTOOPT: /* a TCP without upper layer protocols */
		*ret_reason = RINGTLS_REASON_NO_ULP;
		break;
	default:
		*ret_reason = RINGTLS_REASON_PROBE;
	}
	return probe->ulp;
}

static uint32_t tx_reason(int result)
{
	switch (result) {
	case 0:
		return RINGTLS_REASON_NONE;
	case -ENOENT: /* the kernel's TLS knows the cipher, its crypto does not have it */
	case -EINVAL: /* the kernel's TLS doesn't know the cipher, or not in this version */
		return RINGTLS_REASON_NO_CIPHER;
	default:
		return RINGTLS_REASON_PROBE;
	}
}

int ringtls__probe_tx(const struct ringtls__probe *probe, uint16_t version, uint16_t cipher,
		      uint32_t *ret_reason)
{
	int error = ringtls__probe_ulp(probe, ret_reason);

	if (error)
		return error;
	for (size_t i = 0; i < RINGTLS__PROBE_TX; i++) {
		if (probe->tx[i].version != version || probe->tx[i].cipher != cipher)
			continue;
		*ret_reason = tx_reason(probe->tx[i].result);
		return probe->tx[i].result;
	}
	*ret_reason = version == TLS_1_2_VERSION || version == TLS_1_3_VERSION ?
			      RINGTLS_REASON_NO_CIPHER :
			      RINGTLS_REASON_VERSION;
	return -EINVAL;
}
