/* fault_run.c - see fault_run.h. */
#define _GNU_SOURCE
#include "support.h"
#include "fault_run.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <openssl/err.h>
#include "fake_ktls.h"

#define PATIENCE_MS 5000
#define MOMENT_MS   2
#define TAG	    0x52544c53u
#define MARKER	    "-in-the-clear-"

uint8_t fault_bytes[FAULT_BYTES];
int fault_file;

static SSL_CTX *ours_ctx, *peer_ctx;

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

void run_setup(void)
{
	const struct pair_opts o = { .version = TLS1_3_VERSION };

	pair_fill(fault_bytes, FAULT_BYTES);
	for (size_t i = 16; i + 64 <= FAULT_BYTES; i += 64)
		memcpy(fault_bytes + i, MARKER, sizeof(MARKER) - 1);
	fault_file = memfd_create("faults", MFD_CLOEXEC);
	assert_true(fault_file >= 0);
	assert_int_equal(write(fault_file, fault_bytes, FAULT_BYTES), FAULT_BYTES);
	ours_ctx = pair_ctx(&o);
	peer_ctx = pair_ctx(&o);
	/* Sessions that are kept would be memory that a run has left. */
	SSL_CTX_set_session_cache_mode(ours_ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_session_cache_mode(peer_ctx, SSL_SESS_CACHE_OFF);
	assert_int_equal(ringtls_ctx_prepare(ours_ctx), 0);
}

void run_wrong(struct fault_run *r, const char *format, ...)
{
	va_list args;

	if (r->why[0])
		return;
	va_start(args, format);
	vsnprintf(r->why, sizeof(r->why), format, args);
	va_end(args);
}

bool run_lives(const struct fault_run *r)
{
	return !r->failed && !r->why[0];
}

/* ---- What errors may be ------------------------------------------------ */

static bool is_of_fault(const struct fault_run *r, int err_no)
{
	const struct fault *f = r->fault;

	if (!f || !faults_hit())
		return false;
	if (err_no == f->error || (f->error == 512 && err_no == EINTR))
		return true;
	/* What a limit of memory or descriptors becomes, and an early end of the stream. OpenSSL
	 * from 3.5 on says SSL_ERROR_SYSCALL with an errno of 0 where it had no memory to answer
	 * a KeyUpdate, and we say what it says. */
	return f->kind == FAULT_OPENSSL_MALLOC && (err_no == ENOMEM || !err_no);
}

bool run_check(struct fault_run *r, int answer)
{
	if (answer >= 0)
		return true;
	if (answer < -4095 && (answer > RINGTLS_E_STATE || answer < RINGTLS_E_DETACH))
		run_wrong(r, "%d is no documented error", answer);
	if (!faults_hit())
		run_wrong(r, "%s, and nothing failed", ringtls_strerror(answer));
	else if (answer >= -4095 && !is_of_fault(r, -answer))
		run_wrong(r, "answers %s", ringtls_strerror(answer));
	r->failed = true;
	r->error = answer;
	return false;
}

/* An SSL_ERROR_* of a call that failed, with what belongs to it. */
static void check_ssl_error(struct fault_run *r, int error, int err_no, bool again)
{
	const struct fault *f = r->fault;

	/* OpenSSL, asked again after it has failed, has nothing more to say. */
	if (again && error == SSL_ERROR_SYSCALL && !err_no)
		return;

	r->error = error;
	if (!faults_hit())
		run_wrong(r, "SSL_ERROR %d, errno %d, %s, and nothing failed", error, err_no,
			  ERR_reason_error_string(ERR_peek_last_error()));
	else if (error == SSL_ERROR_SYSCALL && !is_of_fault(r, err_no))
		run_wrong(r, "SSL_ERROR_SYSCALL with errno %d", err_no);
	else if (error == SSL_ERROR_SSL && !ERR_peek_error())
		run_wrong(r, "SSL_ERROR_SSL and an empty queue");
	else if (error == SSL_ERROR_ZERO_RETURN && f->how != FAULT_END)
		run_wrong(r, "the end of a stream that did not end");
	else if (error != SSL_ERROR_SYSCALL && error != SSL_ERROR_SSL &&
		 error != SSL_ERROR_ZERO_RETURN)
		run_wrong(r, "SSL_ERROR %d", error);
}

/* ---- The peer ---------------------------------------------------------- */

void run_peer(struct fault_run *r)
{
	bool before = faults_on(false);

	if (faults_base == &fake_ktls)
		fake_ktls_work();
	if (!r->has_thread) {
		ERR_set_mark(); /* what ours said is not the peer's, and stays */
		if (SSL_is_init_finished(r->p.peer) || SSL_do_handshake(r->p.peer) == 1)
			pair_peer_reads(&r->p);
		else
			r->p.peer_error = SSL_get_error(r->p.peer, -1);
		if (r->p.peer_error == SSL_ERROR_SSL && !r->peer_said)
			r->peer_said = ERR_peek_last_error();
		ERR_pop_to_mark();
	}
	faults_on(before);
}

static void *peer_reads(void *arg)
{
	struct fault_run *r = arg;
	struct pollfd pfd = { .fd = r->p.peer_fd, .events = POLLIN };

	do {
		ERR_clear_error();
		pair_peer_reads(&r->p);
	} while (r->p.peer_error == SSL_ERROR_WANT_READ && poll(&pfd, 1, -1) == 1 &&
		 !__atomic_load_n(&r->is_over, __ATOMIC_ACQUIRE));
	if (r->p.peer_error == SSL_ERROR_SSL)
		r->peer_said = ERR_peek_last_error();
	return NULL;
}

static void start_peer(struct fault_run *r)
{
	pair_set_blocking(r->p.fd);
	assert_int_equal(pthread_create(&r->thread, NULL, peer_reads, r), 0);
	r->has_thread = true;
}

/* ---- Waiting ----------------------------------------------------------- */

/*
 * Until there is something on the descriptor, or for the peer to read. What can only be told by
 * time, as a lost wake-up would be, is a finding; but for the emulated kernel, which works when
 * it is asked to.
 */
static void sleep_on(struct fault_run *r, int fd, int ms)
{
	struct pollfd pfd[] = { { .fd = fd, .events = POLLIN },
				{ .fd = r->p.peer_fd, .events = POLLIN } };
	bool is_over = ms < PATIENCE_MS || faults_base == &fake_ktls;

	/* A thread reads from the peer, and may have done so already. */
	if (poll(pfd, 1 + !r->has_thread, is_over ? MOMENT_MS : ms) == 0 && !is_over)
		run_wrong(r, "asleep, and nothing would wake it");
}

/* On a ring of the caller's: what its loop does. 1 when there was an event. */
static int turn(struct fault_run *r, int ms)
{
	struct ringtls_event ev;
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;
	int res = -EBUSY;
	bool before;

	for (int tries = 0; tries < 100 && res == -EBUSY; tries++) {
		res = ringtls_engine_submit(r->p.engine);
		before = faults_on(false);
		io_uring_submit(&r->ring);
		faults_on(before);
	}
	run_check(r, res);
	sleep_on(r, r->ring.ring_fd, ms);
	io_uring_for_each_cqe(&r->ring, head, cqe) {
		n++;
		if (ringtls_engine_feed(r->p.engine, cqe) != 1)
			run_wrong(r, "an entry that it does not know");
	}
	io_uring_cq_advance(&r->ring, n);
	return ringtls_engine_wait(r->p.engine, &ev, 1, 0);
}

static int one_wait(struct fault_run *r, int ms)
{
	struct ringtls_event ev;
	int n;

	if (r->way.backend == RINGTLS_BACKEND_CALLER)
		return turn(r, ms);
	n = ringtls_engine_wait(r->p.engine, &ev, 1, 0);
	if (n == 0)
		sleep_on(r, ringtls_engine_fd(r->p.engine), ms);
	return n;
}

/* An error of the ring's is told once, and the next call goes on. */
static int wait_once(struct fault_run *r, int ms)
{
	int n;

	run_peer(r);
	n = one_wait(r, ms);
	if (n < 0 && (n < -4095 || !is_of_fault(r, -n)))
		run_wrong(r, "ringtls_engine_wait answers %s", ringtls_strerror(n));
	return n;
}

void run_turn(struct fault_run *r)
{
	wait_once(r, MOMENT_MS);
}

void run_wait(struct fault_run *r)
{
	int64_t until = now_ms() + PATIENCE_MS;
	int n;

	do {
		n = wait_once(r, PATIENCE_MS);
	} while (n <= 0 && !r->why[0] && now_ms() < until);
	if (n <= 0)
		run_wrong(r, "stuck: no event");
	/* Events are hints; but not for ever. */
	if (++r->rounds > 20000)
		run_wrong(r, "stuck: nothing but events");
}

/* Does the transmit side, or OpenSSL, fail for good? */
static bool sticks(const struct fault_run *r)
{
	struct ringtls_conn_info info = { .size = sizeof(info) };
	bool before = faults_on(false);

	ringtls_conn_get_info(r->p.conn, &info);
	faults_on(before);
	return info.error != 0;
}

long run_until_done(struct fault_run *r, run_call *call, void *arg, long least)
{
	bool again = false;
	int error, err_no;
	long ret;

	while (run_lives(r)) {
		ret = call(r, arg);
		err_no = errno;
		error = ringtls_get_error(r->p.conn, (int)(ret > 0 ? 1 : ret));
		if (ret >= least)
			return ret;
		if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
			run_wait(r);
			continue;
		}
		check_ssl_error(r, error, err_no, again);
		if (again || sticks(r))
			r->failed = true;
		again = true;
	}
	return -1;
}

/* ---- The beginning ----------------------------------------------------- */

static int count_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 64; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static long shake_hands(struct fault_run *r, void *arg)
{
	(void)arg;
	return ringtls_handshake(r->p.conn);
}

void run_attach(struct fault_run *r)
{
	struct ringtls_conn_opts co = {
		.size = sizeof(co),
		.lane = r->way.lane,
		.promote_after = r->flags & FAULT_PROMOTES ? FAULT_PROMOTE_AFTER : 0,
		.user = &r->p,
	};
	struct ringtls_conn *conn = NULL;
	int res = ringtls_conn_new(&conn, r->p.engine, r->p.ours, r->p.fd, &co);

	if (res < 0 && conn)
		run_wrong(r, "a connection, and an error");
	if (run_check(r, res))
		r->p.conn = conn;
}

static void open_engine(struct fault_run *r)
{
	bool tiny = r->flags & FAULT_TINY_RING;
	struct ringtls_engine_opts eo = { .size = sizeof(eo),
					  .backend = r->way.backend,
					  .flags = r->way.flags,
					  .entries = tiny ? 2 : 64 };
	struct ringtls_engine *engine = NULL;
	int res;

	if (eo.backend == RINGTLS_BACKEND_CALLER) {
		eo.ring = &r->ring;
		eo.tag = TAG;
	}
	res = ringtls__engine_new_on(&engine, &eo, &faults_sys);
	if (res < 0 && engine)
		run_wrong(r, "an engine, and an error");
	if (run_check(r, res))
		r->p.engine = engine;
}

static void open_ssl(struct fault_run *r)
{
	struct pair *p = &r->p;

	pair_sockets(AF_INET, r->flags & FAULT_IS_SMALL, &p->fd, &p->peer_fd);
	p->ours = SSL_new(ours_ctx);
	p->peer = SSL_new(peer_ctx);
	assert_non_null(p->ours);
	assert_non_null(p->peer);
	assert_int_equal(SSL_set_fd(p->peer, p->peer_fd), 1);
	if (r->flags & FAULT_IS_CLIENT) {
		SSL_set_connect_state(p->ours);
		SSL_set_accept_state(p->peer);
	} else {
		SSL_set_accept_state(p->ours);
		SSL_set_connect_state(p->peer);
	}
	wiretap_open(&r->tap, p->peer);
}

static void shake_hands_by_openssl(struct fault_run *r)
{
	int ours = 0;

	assert_int_equal(SSL_set_fd(r->p.ours, r->p.fd), 1);
	if (r->way.lane == RINGTLS_LANE_KERNEL)
		SSL_set_options(r->p.ours, SSL_OP_ENABLE_KTLS);
	for (int i = 0; i < 1000 && (ours != 1 || !SSL_is_init_finished(r->p.peer)); i++) {
		ours = SSL_do_handshake(r->p.ours);
		run_peer(r);
		if (ours != 1)
			pair_rest(&r->p);
	}
	assert_int_equal(ours, 1);
}

void run_open(struct fault_run *r, const struct fault_way *way, unsigned flags,
	      const struct fault *fault)
{
	memset(r, 0, sizeof(*r));
	r->way = *way;
	if (flags & FAULT_PROMOTES)
		r->way.lane = RINGTLS_LANE_AUTO;
	r->flags = flags;
	r->fault = fault;
	faults_cold = flags & FAULT_COLD;
	r->p.fd = r->p.peer_fd = -1;
	ERR_clear_error();
	if (faults_base == &fake_ktls) {
		fake_ktls_reset();
		fake_ktls_knobs.list_room = 40000;
		fake_ktls_knobs.work_every = 2;
	}
	r->blocks = faults_blocks();
	r->descriptors = count_descriptors();
	if (way->backend == RINGTLS_BACKEND_CALLER)
		assert_int_equal(io_uring_queue_init(flags & FAULT_TINY_RING ? 2 : 64, &r->ring, 0), 0);
	open_ssl(r);
	if (flags & FAULT_STOCK)
		shake_hands_by_openssl(r);
	faults_on(flags & FAULT_FROM_START);
	open_engine(r);
	if (r->p.engine && !(flags & FAULT_STOCK))
		run_attach(r);
	if (!(flags & (FAULT_UNSHAKEN | FAULT_STOCK))) {
		run_until_done(r, shake_hands, NULL, 1);
		while (!SSL_is_init_finished(r->p.peer) && run_lives(r))
			run_peer(r);
		if (flags & FAULT_BLOCKS)
			start_peer(r);
	}
	faults_on(true);
}

/* ---- The end ----------------------------------------------------------- */

/* In the clean run this is an answer to nothing; later an error must stay. */
static void check_sticky(struct fault_run *r)
{
	bool before = faults_on(false);

	if (r->p.conn && r->failed && sticks(r) &&
	    ringtls_write(r->p.conn, fault_bytes + r->at, 100) > 0)
		run_wrong(r, "a write on a connection that has failed");
	faults_on(before);
}

/* The engine knows nothing more of a connection that was freed, whatever comes. */
static void use_engine(struct fault_run *r)
{
	struct ringtls_event ev;

	shutdown(r->p.fd, SHUT_RD);
	for (int i = 0; i < 3; i++) {
		if (r->way.backend == RINGTLS_BACKEND_CALLER ? turn(r, MOMENT_MS) > 0 :
							       ringtls_engine_wait(r->p.engine, &ev, 1, 0) > 0)
			run_wrong(r, "an event of a connection that was freed");
	}
}

/* What fails while it is freed fails once: asked again it succeeds. */
static void free_all(struct fault_run *r)
{
	int res = -1;

	for (int i = 0; i < 2000 && res < 0; i++) {
		res = ringtls_conn_free(r->p.conn);
		if (res < 0 && res != -EBUSY && !is_of_fault(r, -res))
			run_wrong(r, "ringtls_conn_free answers %s", ringtls_strerror(res));
		if (res == -EBUSY)
			turn(r, MOMENT_MS);
	}
	if (res < 0)
		run_wrong(r, "can't be freed");
	else
		r->p.conn = NULL;
	if (r->p.engine && !r->p.conn)
		use_engine(r);
	res = -1;
	for (int i = 0; i < 2000 && res < 0 && !r->p.conn; i++) {
		res = ringtls_engine_free(r->p.engine);
		if (res == -EBUSY)
			turn(r, MOMENT_MS);
		else if (res < 0)
			run_wrong(r, "ringtls_engine_free answers %s", ringtls_strerror(res));
	}
	if (res < 0)
		run_wrong(r, "the engine can't be freed");
}

/* Everything that was sent arrives. What kernel TLS has sealed and not handed to TCP yet is
 * lost by a shutdown (kmod-notes/drain.md), and a connection that failed drains nothing. */
static void end_thread(struct fault_run *r)
{
	int64_t until = now_ms() + PATIENCE_MS;

	while (__atomic_load_n(&r->p.got_len, __ATOMIC_RELAXED) < r->at && now_ms() < until) {
		if (faults_base == &fake_ktls)
			fake_ktls_work();
		poll(NULL, 0, 1);
	}
	while (faults_base == &fake_ktls && fake_ktls_held(r->p.fd) && now_ms() < until)
		fake_ktls_work();
	__atomic_store_n(&r->is_over, true, __ATOMIC_RELEASE);
	shutdown(r->p.fd, SHUT_WR);
	pthread_join(r->thread, NULL);
	r->has_thread = false;
}

static void peer_gets_all(struct fault_run *r)
{
	struct pollfd pfd = { .fd = r->p.peer_fd, .events = POLLIN };
	int64_t until = now_ms() + PATIENCE_MS;

	if (r->has_thread)
		end_thread(r);
	ERR_clear_error();
	do {
		run_peer(r);
		if (r->p.got_len >= r->at || r->p.peer_error == SSL_ERROR_SSL)
			break;
		poll(&pfd, 1, 2);
	} while (now_ms() < until);
	run_peer(r);
}

static bool has_bytes(const uint8_t *got, size_t from, size_t len)
{
	return !len || memcmp(got, fault_bytes + from, len) == 0;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void check_bytes(struct fault_run *r)
{
	const struct pair *p = &r->p;
	size_t until = r->gap ? r->gap_at : p->got_len;

	if (p->got_len < r->at)
		run_wrong(r, "lost: the peer has %zu of %zu bytes", p->got_len, r->at);
	else if (p->got_len > r->at + r->may)
		run_wrong(r, "the peer has %zu bytes, and %zu+%zu were written", p->got_len, r->at,
			  r->may);
	else if (!has_bytes(p->got, 0, least(p->got_len, until)) ||
		 (p->got_len > until && !has_bytes(p->got + until, until + r->gap, p->got_len - until)))
		run_wrong(r, "the peer has other bytes");
	if (wiretap_has(&r->tap, MARKER, sizeof(MARKER) - 1))
		run_wrong(r, "plaintext on the wire");
	wiretap_records(&r->tap);
	if (faults_nonces_twice)
		run_wrong(r, "a record number twice");
}

/* An alert is what ours may say of its failure; nothing else may be wrong for the peer. */
static void check_peer(struct fault_run *r)
{
	unsigned long e = r->peer_said;
	bool alert = ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) >= SSL_AD_REASON_OFFSET;

	if (r->p.peer_error == SSL_ERROR_SSL && !(alert && r->failed) && !SSL_in_init(r->p.peer))
		run_wrong(r, "the peer says %s", ERR_reason_error_string(e));
}

/* What an op was corked for is over; a cork that stayed would hold up all that follows. */
static void check_cork(struct fault_run *r)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (getsockopt(r->p.fd, IPPROTO_TCP, TCP_CORK, &value, &len) == 0 && value)
		run_wrong(r, "the socket is left corked");
}

static void close_all(struct fault_run *r)
{
	struct pair *p = &r->p;

	check_cork(r);
	wiretap_rest(&r->tap, p->peer_fd);
	SSL_free(p->ours);
	SSL_free(p->peer);
	close(p->fd);
	close(p->peer_fd);
	check_bytes(r);
	free(p->got);
	wiretap_close(&r->tap);
	if (r->way.backend == RINGTLS_BACKEND_CALLER)
		io_uring_queue_exit(&r->ring);
	ERR_clear_error();
	if (faults_base == &fake_ktls) {
		if (fake_ktls_seen.refused_flags || fake_ktls_seen.waits)
			run_wrong(r, "the kernel would refuse, or sleep");
		fake_ktls_reset();
	}
}

void run_close(struct fault_run *r)
{
	check_sticky(r);
	free_all(r);
	faults_on(false);
	peer_gets_all(r);
	check_peer(r);
	if (r->p.conn || (r->p.engine && r->why[0]))
		return; /* the test has failed, and what is left may be in use */
	close_all(r);
	if (faults_blocks() != r->blocks)
		run_wrong(r, "%ld blocks of memory are left", faults_blocks() - r->blocks);
	if (count_descriptors() != r->descriptors)
		run_wrong(r, "%d descriptors are left", count_descriptors() - r->descriptors);
}
