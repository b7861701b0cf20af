/* pair.c - see pair.h. */
#include "support.h"
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include "probe.h"

#define SMALL_BUFFER 8192
#define SEGMENT      1400
#define PATIENCE_MS  10000

void pair_set_blocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
}

static void set_nonblocking(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

static socklen_t loopback(int family, struct sockaddr_storage *ss)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	struct sockaddr_in *in = (struct sockaddr_in *)ss;

	memset(ss, 0, sizeof(*ss));
	ss->ss_family = (sa_family_t)family;
	if (family == AF_INET6) {
		in6->sin6_addr = in6addr_loopback;
		return sizeof(*in6);
	}
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof(*in);
}

void pair_sockets(int family, bool small_buffers, int *ret_a, int *ret_b)
{
	int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	int size = SMALL_BUFFER, segment = SEGMENT;
	struct sockaddr_storage ss;
	socklen_t len = loopback(family, &ss);

	assert_true(listener >= 0);
	/* Before the connection is made. Loopback's segments are larger than such a
	 * window: TCP would send them by its probe timer only, some seconds apart. */
	if (small_buffers) {
		setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment));
	}
	assert_int_equal(bind(listener, (struct sockaddr *)&ss, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&ss, &len), 0);
	*ret_a = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(*ret_a >= 0);
	if (small_buffers)
		setsockopt(*ret_a, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	assert_int_equal(connect(*ret_a, (struct sockaddr *)&ss, len), 0);
	*ret_b = accept(listener, NULL, NULL);
	assert_true(*ret_b >= 0);
	close(listener);
	setsockopt(*ret_a, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(*ret_b, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	set_nonblocking(*ret_a);
	set_nonblocking(*ret_b);
}

static void make_certificate(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	assert_non_null(key);
	assert_non_null(cert);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
	X509_free(cert);
	EVP_PKEY_free(key);
}

SSL_CTX *pair_ctx(const struct pair_opts *o)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	int version = o->version ? o->version : TLS1_3_VERSION;

	assert_non_null(ctx);
	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	if (version == TLS1_3_VERSION)
		assert_int_equal(SSL_CTX_set_ciphersuites(ctx, o->cipher ? o->cipher :
									   "TLS_AES_128_GCM_SHA256"),
				 1);
	else
		assert_int_equal(SSL_CTX_set_cipher_list(
					 ctx, o->cipher ? o->cipher : "ECDHE-ECDSA-AES128-GCM-SHA256"),
				 1);
	make_certificate(ctx);
	SSL_CTX_set_max_early_data(ctx, 1 << 20);
	SSL_CTX_set_recv_max_early_data(ctx, 1 << 20);
	return ctx;
}

static void open_conn(struct pair *p)
{
	struct ringtls_engine_opts eo = { .size = sizeof(eo),
					  .backend = p->opts.backend,
					  .ring = p->opts.ring,
					  .tag = p->opts.tag,
					  .flags = p->opts.flags };
	struct ringtls_conn_opts co = { .size = sizeof(co),
					.lane = p->opts.lane,
					.renegotiation = p->opts.renegotiation,
					.max_records = p->opts.max_records,
					.promote_after = p->opts.promote_after,
					.fixed_file = p->opts.fixed_file,
					.user = p };

	assert_int_equal(ringtls__engine_new_on(&p->engine, &eo,
						p->opts.sys ? p->opts.sys : &ringtls__sys_real),
			 0);
	assert_int_equal(ringtls_conn_new(&p->conn, p->engine, p->ours, p->fd, &co), 0);
}

static void connect_both(struct pair *p)
{
	const struct pair_opts *o = &p->opts;

	pair_sockets(o->family ? o->family : AF_INET, o->small_buffers, &p->fd, &p->peer_fd);
	p->ours = SSL_new(p->ours_ctx);
	p->peer = SSL_new(p->peer_ctx);
	assert_int_equal(SSL_set_fd(p->peer, p->peer_fd), 1);
	if (o->is_client) {
		SSL_set_connect_state(p->ours);
		SSL_set_accept_state(p->peer);
	} else {
		SSL_set_accept_state(p->ours);
		SSL_set_connect_state(p->peer);
	}
	if (o->is_stock)
		assert_int_equal(SSL_set_fd(p->ours, p->fd), 1);
	else
		open_conn(p);
}

void pair_open(struct pair *p, const struct pair_opts *opts)
{
	memset(p, 0, sizeof(*p));
	p->opts = *opts;
	p->ours_ctx = pair_ctx(opts);
	p->peer_ctx = pair_ctx(opts);
	if (!opts->is_unprepared)
		assert_int_equal(ringtls_ctx_prepare(p->ours_ctx), 0);
	if (opts->prepare)
		opts->prepare(p->ours_ctx, p->peer_ctx);
	connect_both(p);
}

static void disconnect(struct pair *p)
{
	ringtls_conn_free(p->conn);
	assert_int_equal(ringtls_engine_free(p->engine), 0);
	SSL_free(p->ours);
	SSL_free(p->peer);
	close(p->fd);
	if (p->peer_fd >= 0)
		close(p->peer_fd);
	free(p->got);
	p->got = NULL;
	p->got_len = p->got_room = 0;
	ERR_clear_error();
}

void pair_reconnect(struct pair *p, SSL_SESSION *session)
{
	disconnect(p);
	connect_both(p);
	if (session)
		assert_int_equal(SSL_set_session(p->opts.is_client ? p->ours : p->peer, session),
				 1);
}

void pair_close(struct pair *p)
{
	disconnect(p);
	SSL_CTX_free(p->ours_ctx);
	SSL_CTX_free(p->peer_ctx);
}

void pair_rest(const struct pair *p)
{
	struct pollfd fds[] = { { .fd = p->fd, .events = POLLIN },
				{ .fd = p->peer_fd, .events = POLLIN } };

	poll(fds, 2, 20);
}

void pair_await(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
}

void pair_peer_resets(struct pair *p)
{
	struct pollfd pfd = { .fd = p->fd }; /* asked for nothing, it tells of errors */
	struct linger hard = { .l_onoff = 1 };

	assert_int_equal(setsockopt(p->peer_fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	close(p->peer_fd);
	p->peer_fd = -1;
	assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
}

void pair_handshake(struct pair *p)
{
	int ours = 0, peer = 0;

	for (int i = 0; i < 500 && (ours != 1 || peer != 1); i++) {
		if (ours != 1) {
			ours = ringtls_handshake(p->conn);
			if (ours != 1) {
				int e = ringtls_get_error(p->conn, ours);

				if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
					ERR_print_errors_fp(stderr);
				assert_true(e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE);
			}
		}
		if (peer != 1)
			peer = SSL_do_handshake(p->peer);
		if (ours != 1 || peer != 1)
			pair_rest(p);
	}
	assert_int_equal(ours, 1);
	assert_int_equal(peer, 1);
}

size_t pair_peer_reads(struct pair *p)
{
	size_t before = p->got_len;
	int n;

	do {
		if (p->got_room - p->got_len < 16384) {
			p->got_room = p->got_room * 2 + 65536;
			p->got = realloc(p->got, p->got_room);
			assert_non_null(p->got);
		}
		n = SSL_read(p->peer, p->got + p->got_len, (int)(p->got_room - p->got_len));
		if (n > 0)
			p->got_len += (size_t)n;
	} while (n > 0);
	p->peer_error = SSL_get_error(p->peer, n);
	return p->got_len - before;
}

void pair_peer_sends_a_byte(struct pair *p)
{
	struct pollfd pfd = { .fd = p->fd, .events = POLLIN };
	char c;
	int r = 0;

	assert_int_equal(SSL_write(p->peer, "x", 1), 1);
	for (int i = 0; i < 500 && r != 1; i++) {
		r = ringtls_read(p->conn, &c, 1);
		if (r != 1) {
			assert_int_equal(ringtls_get_error(p->conn, r), SSL_ERROR_WANT_READ);
			/* Not for the peer, which may leave unread what it has. */
			poll(&pfd, 1, 20);
		}
	}
	assert_int_equal(r, 1);
	assert_int_equal(c, 'x');
}

/* A wait that does not end is TCP's doing or ours: its state tells. */
static void explain(const struct pair *p)
{
	struct tcp_info ours, theirs;
	socklen_t len = sizeof(ours);
	struct pollfd pfd = { .fd = p->fd, .events = POLLIN | POLLOUT };
	int queued = -1;

	getsockopt(p->fd, IPPROTO_TCP, TCP_INFO, &ours, &len);
	len = sizeof(theirs);
	getsockopt(p->peer_fd, IPPROTO_TCP, TCP_INFO, &theirs, &len);
	ioctl(p->fd, SIOCOUTQ, &queued);
	poll(&pfd, 1, 0);
	print_message("# poll %x, queued %d, unacked %u, probes %u, backoff %u, rto %u ms, "
		      "retransmits %u, lost %u, peer's space %u\n",
		      (unsigned)pfd.revents, queued, ours.tcpi_unacked, ours.tcpi_probes,
		      ours.tcpi_backoff, ours.tcpi_rto / 1000, ours.tcpi_total_retrans,
		      ours.tcpi_lost, theirs.tcpi_rcv_space);
}

bool pair_is_full(const struct pair *p)
{
	struct pollfd pfd = { .fd = p->fd, .events = POLLIN | POLLOUT };

	return poll(&pfd, 1, 0) == 0;
}

/* Through the descriptor, as a caller with an epoll loop would. What the peer read before may
 * have been too early: on a busy machine TCP delivers what is queued only after that, and
 * fills the peer's window again, so nothing would ever wake us. A peer that lives reads on;
 * but not where the socket is ready and only the event is missing: that must fail. */
void pair_wait(struct pair *p)
{
	struct pollfd pfd = { .fd = ringtls_engine_fd(p->engine), .events = POLLIN };
	struct ringtls_event ev;
	int n = 0;

	for (int tries = 1; n == 0 && tries <= 400; tries++) {
		if (poll(&pfd, 1, PATIENCE_MS / 100) != 1) {
			if (tries % 100 == 0)
				explain(p);
			if (p->peer_fd >= 0 && pair_is_full(p))
				pair_peer_reads(p);
		}
		n = ringtls_engine_wait(p->engine, &ev, 1, 0);
	}
	assert_int_equal(n, 1);
	assert_ptr_equal(ev.conn, p->conn);
	assert_ptr_equal(ev.user, p);
}

void pair_sleep(const struct pair *p)
{
	struct pollfd fds[] = { { .fd = ringtls_engine_fd(p->engine), .events = POLLIN },
				{ .fd = p->peer_fd, .events = POLLIN } };

	/* The engine's own look for stalls, after ten seconds, must not be what wakes. */
	assert_true(poll(fds, 2, PATIENCE_MS / 2) > 0);
}

void pair_write_all(struct pair *p, const void *bytes, size_t len)
{
	size_t written = 0;
	int r;

	while ((r = ringtls_write_ex(p->conn, bytes, len, &written)) != 1) {
		assert_int_equal(ringtls_get_error(p->conn, r), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(p);
		pair_wait(p);
	}
	assert_int_equal(written, len);
}

static void peer_waits(const struct pair *p)
{
	assert_int_equal(p->peer_error, SSL_ERROR_WANT_READ);
	pair_await(p->peer_fd);
}

void pair_peer_gets(struct pair *p, size_t len)
{
	while (p->got_len < len)
		if (!pair_peer_reads(p))
			peer_waits(p);
	assert_int_equal(p->got_len, len);
}

void pair_peer_reads_to_the_end(struct pair *p)
{
	while (pair_peer_reads(p), p->peer_error == SSL_ERROR_WANT_READ)
		peer_waits(p);
}

void pair_peer_expects(struct pair *p, const void *bytes, size_t len)
{
	pair_peer_gets(p, len);
	assert_memory_equal(p->got, bytes, len);
}

void pair_need(const struct pair_opts *opts)
{
	if (opts->lane == RINGTLS_LANE_KERNEL)
		need("ktls", !ringtls__probe_get()->ulp);
}

void pair_fill(uint8_t *bytes, size_t len)
{
	uint32_t x = 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		bytes[i] = (uint8_t)(x >> 24);
	}
}

struct ringtls_conn_info pair_info(const struct pair *p)
{
	struct ringtls_conn_info info = { .size = sizeof(info) };

	assert_int_equal(ringtls_conn_get_info(p->conn, &info), 0);
	return info;
}
