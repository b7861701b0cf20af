/* faults.c - see faults.h. */
#include "support.h"
#include "faults.h"

#include <errno.h>
#include <liburing.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <openssl/crypto.h>
#include "engine.h"
#include "keys.h"
#include "ring.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TLS_TX
#define TLS_TX 1
#endif

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const struct fault faults[] = {
#define E(kind, number) { FAULT_##kind, FAULT_ERROR, number, false }
#define LATE(kind, number) { FAULT_##kind, FAULT_LATE, number, false }
#define HOW(kind, how) { FAULT_##kind, FAULT_##how, 0, false }
#define TOO(kind, number) { FAULT_##kind, FAULT_ERROR, number, true }
	E(SENDMSG, EAGAIN), E(SENDMSG, EINTR), E(SENDMSG, ECONNRESET), TOO(SENDMSG, EPIPE),
	TOO(SENDMSG, ENOBUFS), E(SENDMSG, ENOMEM), TOO(SENDMSG, ETIMEDOUT), HOW(SENDMSG, HALF),
	HOW(SENDMSG, ONE),
	E(RECORD, EAGAIN), TOO(RECORD, EINTR), E(RECORD, ECONNRESET), TOO(RECORD, EPIPE),
	E(RECORD, ENOMEM),
	E(SENDFILE, EAGAIN), E(SENDFILE, EINTR), E(SENDFILE, ECONNRESET), TOO(SENDFILE, EPIPE),
	TOO(SENDFILE, ENOMEM), E(SENDFILE, EIO), TOO(SENDFILE, EINVAL), HOW(SENDFILE, HALF),
	HOW(SENDFILE, ONE),
	E(RECV, EAGAIN), E(RECV, EINTR), E(RECV, ECONNRESET), TOO(RECV, ENOMEM), TOO(RECV, ETIMEDOUT),
	HOW(RECV, HALF), HOW(RECV, ONE), HOW(RECV, END),
	E(PREAD, EIO), E(PREAD, EINTR), HOW(PREAD, HALF), HOW(PREAD, ONE), HOW(PREAD, END),
	E(PREAD_CACHED, EAGAIN), E(PREAD_CACHED, EOPNOTSUPP), TOO(PREAD_CACHED, EIO),
	HOW(PREAD_CACHED, HALF), HOW(PREAD_CACHED, ONE), HOW(PREAD_CACHED, END),
	E(ULP, ENOENT), TOO(ULP, ENOMEM), TOO(ULP, ENOTCONN),
	E(KEY, EINVAL), TOO(KEY, ENOMEM), TOO(KEY, EBUSY),
	E(SETSOCKOPT, ENOMEM),
	E(GETSOCKOPT, ENOMEM), TOO(GETSOCKOPT, EINVAL),
	TOO(OUTQ, EINVAL), E(OUTQ, ENOMEM),
	E(GETFL, EBADF),
	E(URING_INIT, EPERM), TOO(URING_INIT, ENOMEM), TOO(URING_INIT, EMFILE), E(URING_INIT, EINVAL),
	E(RING_SEND, ECONNRESET), TOO(RING_SEND, EPIPE), E(RING_SEND, EINTR), TOO(RING_SEND, EAGAIN),
	E(RING_SEND, ECANCELED), TOO(RING_SEND, ENOMEM), E(RING_SEND, 512), HOW(RING_SEND, HALF),
	HOW(RING_SEND, ONE), LATE(RING_SEND, ECONNRESET), LATE(RING_SEND, ECANCELED),
	E(RING_RECORD, ECONNRESET), TOO(RING_RECORD, EPIPE), E(RING_RECORD, EINTR),
	E(RING_RECORD, EAGAIN), E(RING_RECORD, ECANCELED), TOO(RING_RECORD, ENOMEM),
	LATE(RING_RECORD, EINTR),
	E(RING_READ, EIO), E(RING_READ, EINTR), E(RING_READ, ECANCELED), TOO(RING_READ, ENOMEM),
	HOW(RING_READ, HALF), HOW(RING_READ, ONE), HOW(RING_READ, END), LATE(RING_READ, EIO),
	HOW(RING_WAIT, SOON), HOW(RING_WAIT, LATE),
	E(ENTER, EINTR), E(ENTER, EAGAIN), E(ENTER, EBUSY), E(ENTER, ENOMEM),
	HOW(ENTER, HALF),
	E(REGISTER, ENOMEM), TOO(REGISTER, EINVAL),
	E(EPOLL_CREATE, EMFILE), E(EPOLL_CTL, ENOMEM), TOO(EPOLL_CTL, ENOSPC), E(EPOLL_WAIT, EINTR),
	E(DESCRIPTOR, EMFILE),
	E(MALLOC, ENOMEM), E(OPENSSL_MALLOC, ENOMEM),
#undef E
#undef LATE
#undef HOW
#undef TOO
};

const size_t faults_count = COUNT(faults);

static const char *const kinds[FAULT_KINDS] = {
	[FAULT_SENDMSG] = "sendmsg",
	[FAULT_RECORD] = "sendmsg of a record",
	[FAULT_SENDFILE] = "sendfile",
	[FAULT_RECV] = "recv",
	[FAULT_PREAD] = "pread",
	[FAULT_PREAD_CACHED] = "preadv2",
	[FAULT_ULP] = "setsockopt TCP_ULP",
	[FAULT_KEY] = "setsockopt TLS_TX",
	[FAULT_SETSOCKOPT] = "setsockopt",
	[FAULT_GETSOCKOPT] = "getsockopt",
	[FAULT_OUTQ] = "SIOCOUTQ",
	[FAULT_GETFL] = "F_GETFL",
	[FAULT_URING_INIT] = "io_uring_setup",
	[FAULT_RING_SEND] = "send on the ring",
	[FAULT_RING_RECORD] = "send of a record on the ring",
	[FAULT_RING_READ] = "read on the ring",
	[FAULT_RING_WAIT] = "wait on the ring",
	[FAULT_ENTER] = "io_uring_enter",
	[FAULT_REGISTER] = "io_uring_register",
	[FAULT_EPOLL_CREATE] = "epoll_create",
	[FAULT_EPOLL_CTL] = "epoll_ctl",
	[FAULT_EPOLL_WAIT] = "epoll_wait",
	[FAULT_DESCRIPTOR] = "a descriptor",
	[FAULT_MALLOC] = "malloc",
	[FAULT_OPENSSL_MALLOC] = "OpenSSL's malloc",
};

unsigned faults_seen[FAULT_KINDS];
unsigned faults_nonces_twice;
const struct ringtls__sys *faults_base = &ringtls__sys_real;

static struct {
	const struct fault *fault;
	unsigned nth;
	bool hit;
	struct ringtls__op *op; /* whose answer is put in */
} armed;

static atomic_long blocks;
static _Thread_local bool is_on;

bool faults_on(bool on)
{
	bool before = is_on;

	is_on = on;
	return before;
}

bool faults_hit(void)
{
	return armed.hit;
}

const char *fault_text(const struct fault *f)
{
	static const char *const hows[] = {
		[FAULT_ERROR] = "", [FAULT_LATE] = "late ",	 [FAULT_HALF] = "half of it",
		[FAULT_ONE] = "a byte of it", [FAULT_END] = "the end", [FAULT_SOON] = "too early",
	};
	static char text[96];

	snprintf(text, sizeof(text), "%s: %s%s", kinds[f->kind], hows[f->how],
		 f->error ? strerror(f->error) : "");
	return text;
}

/* What is to fail here, or NULL. */
static const struct fault *meet(enum fault_kind kind)
{
	const struct fault *f = armed.fault;

	if (!is_on)
		return NULL;
	faults_seen[kind]++;
	if (!f || f->kind != kind || armed.hit || faults_seen[kind] != armed.nth)
		return NULL;
	armed.hit = true;
	return f;
}

/* What has only errors: the negated errno, or 0. */
static int refuse(enum fault_kind kind)
{
	const struct fault *f = meet(kind);

	return f ? -f->error : 0;
}

static size_t less(const struct fault *f, size_t len)
{
	if (f->how == FAULT_ONE && len)
		return 1;
	return f->how == FAULT_HALF && len > 1 ? len / 2 : len;
}

/* ---- The table --------------------------------------------------------- */

static unsigned shorten(struct iovec *iov, unsigned count, size_t len)
{
	unsigned n = 0;

	while (n < count && iov[n].iov_len < len)
		len -= iov[n++].iov_len;
	if (n < count)
		iov[n].iov_len = len;
	return n + 1 < count ? n + 1 : count;
}

static size_t total(const struct msghdr *msg)
{
	size_t len = 0;

	for (size_t i = 0; i < msg->msg_iovlen; i++)
		len += msg->msg_iov[i].iov_len;
	return len;
}

static ssize_t do_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	const struct fault *f = meet(msg->msg_control ? FAULT_RECORD : FAULT_SENDMSG);
	struct iovec iov[RINGTLS__OP_IOV];
	struct msghdr m = *msg;
	bool before;
	ssize_t r;

	if (f && f->error)
		return -f->error;
	if (f) {
		memcpy(iov, msg->msg_iov, msg->msg_iovlen * sizeof(*iov));
		m.msg_iov = iov;
		m.msg_iovlen = shorten(iov, (unsigned)msg->msg_iovlen, less(f, total(msg)));
	}
	before = faults_on(false);
	r = faults_base->sendmsg(fd, &m, flags);
	faults_on(before);
	return r;
}

static ssize_t do_sendfile(int fd, int file, off_t *offset, size_t len)
{
	const struct fault *f = meet(FAULT_SENDFILE);
	bool before;
	ssize_t r;

	if (f && f->error)
		return -f->error;
	before = faults_on(false);
	r = faults_base->sendfile(fd, file, offset, f ? less(f, len) : len);
	faults_on(before);
	return r;
}

static ssize_t do_recv(int fd, void *buf, size_t len, int flags)
{
	const struct fault *f = meet(FAULT_RECV);

	if (f && (f->error || f->how == FAULT_END))
		return -f->error;
	return faults_base->recv(fd, buf, f ? less(f, len) : len, flags);
}

static ssize_t do_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return ringtls__sys_real.recvmsg(fd, msg, flags);
}

static ssize_t do_pread(int file, void *buf, size_t len, off_t offset)
{
	const struct fault *f = meet(FAULT_PREAD);

	if (f && (f->error || f->how == FAULT_END))
		return -f->error;
	return faults_base->pread(file, buf, f ? less(f, len) : len, offset);
}

bool faults_cold;
static bool was_cold;

static ssize_t do_pread_cached(int file, void *buf, size_t len, off_t offset)
{
	const struct fault *f = meet(FAULT_PREAD_CACHED);

	if (f && (f->error || f->how == FAULT_END))
		return -f->error;
	was_cold = faults_cold && !was_cold;
	if (was_cold)
		return -EAGAIN;
	return faults_base->pread_cached(file, buf, f ? less(f, len) : len, offset);
}

static int do_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int r = refuse(level == SOL_TLS			       ? FAULT_KEY :
		       level == IPPROTO_TCP && name == TCP_ULP ? FAULT_ULP :
								 FAULT_SETSOCKOPT);
	bool before;

	if (r)
		return r;
	before = faults_on(false);
	r = faults_base->setsockopt(fd, level, name, value, len);
	faults_on(before);
	return r;
}

static int do_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	int r = refuse(FAULT_GETSOCKOPT);
	bool before;

	if (r)
		return r;
	before = faults_on(false);
	r = faults_base->getsockopt(fd, level, name, value, len);
	faults_on(before);
	return r;
}

static int do_outq(int fd, int *ret_bytes)
{
	int r = refuse(FAULT_OUTQ);

	return r ? r : faults_base->outq(fd, ret_bytes);
}

static int do_getfl(int fd)
{
	int r = refuse(FAULT_GETFL);

	return r ? r : faults_base->getfl(fd);
}

static int do_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	return faults_base->poll(fds, n, timeout_ms);
}

static int do_uring_init(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
	int r = refuse(FAULT_URING_INIT);

	return r ? r : faults_base->uring_init(entries, ring, params);
}

const struct ringtls__sys faults_sys = {
	.sendmsg = do_sendmsg,
	.sendfile = do_sendfile,
	.recv = do_recv,
	.recvmsg = do_recvmsg,
	.pread = do_pread,
	.pread_cached = do_pread_cached,
	.setsockopt = do_setsockopt,
	.getsockopt = do_getsockopt,
	.outq = do_outq,
	.getfl = do_getfl,
	.poll = do_poll,
	.uring_init = do_uring_init,
};

/* ---- The ring's entries ------------------------------------------------ */

void __real_ringtls__ring_prep_op(struct io_uring_sqe *sqe, struct ringtls__op *op);
void __wrap_ringtls__ring_prep_op(struct io_uring_sqe *sqe, struct ringtls__op *op);
void __real_ringtls__ring_prep_wait(struct io_uring_sqe *sqe, struct ringtls__wait *wait);
void __wrap_ringtls__ring_prep_wait(struct io_uring_sqe *sqe, struct ringtls__wait *wait);
void __real_ringtls__op_done(struct ringtls_engine *e, struct ringtls__op *op, ssize_t res);
void __wrap_ringtls__op_done(struct ringtls_engine *e, struct ringtls__op *op, ssize_t res);

static struct __kernel_timespec late = { .tv_nsec = 5000000 };

void __wrap_ringtls__ring_prep_op(struct io_uring_sqe *sqe, struct ringtls__op *op)
{
	const struct fault *f = meet(op->kind == RINGTLS__OP_READ   ? FAULT_RING_READ :
				     op->kind == RINGTLS__OP_RECORD ? FAULT_RING_RECORD :
								      FAULT_RING_SEND);

	if (f && (f->error || f->how == FAULT_END)) {
		armed.op = op;
		if (f->how == FAULT_LATE)
			io_uring_prep_timeout(sqe, &late, 0, 0);
		else
			io_uring_prep_nop(sqe);
		return;
	}
	if (f) {
		op->iovcnt = shorten(op->iov, op->iovcnt, less(f, op->len));
		op->msg.msg_iovlen = op->iovcnt;
	}
	__real_ringtls__ring_prep_op(sqe, op);
}

void __wrap_ringtls__ring_prep_wait(struct io_uring_sqe *sqe, struct ringtls__wait *wait)
{
	const struct fault *f = meet(FAULT_RING_WAIT);

	if (!f)
		__real_ringtls__ring_prep_wait(sqe, wait);
	else if (f->how == FAULT_LATE)
		io_uring_prep_timeout(sqe, &late, 0, 0);
	else
		io_uring_prep_nop(sqe);
}

void __wrap_ringtls__op_done(struct ringtls_engine *e, struct ringtls__op *op, ssize_t res)
{
	if (armed.op == op) {
		armed.op = NULL;
		if (res == 0 || res == -ETIME)
			res = ringtls__ring_result(-armed.fault->error);
	}
	__real_ringtls__op_done(e, op, res);
}

/* ---- The ring and epoll ------------------------------------------------ */

/* int name(arguments): the errors as liburing gives them, negated. */
#define RING_CALL(kind, name, declared, given)                                                     \
	int __real_##name declared;                                                                \
	int __wrap_##name declared;                                                                \
	int __wrap_##name declared                                                                 \
	{                                                                                          \
		int refused = refuse(FAULT_##kind);                                                \
                                                                                                   \
		return refused ? refused : __real_##name given;                                    \
	}

int __real_io_uring_submit(struct io_uring *ring);

/* What a kernel without memory for the rest does: then it does not wait, nor looks for what
 * has ended. */
static int enter_with_half(struct io_uring *ring)
{
	unsigned n = io_uring_sq_ready(ring), tail = ring->sq.sqe_tail;
	int r;

	ring->sq.sqe_tail -= n - n / 2;
	r = __real_io_uring_submit(ring);
	ring->sq.sqe_tail = tail;
	return r;
}

/* If not, it is the next one's turn to fail. */
static bool has_halves(const struct io_uring *ring)
{
	if (io_uring_sq_ready(ring) > 1)
		return true;
	armed.hit = false;
	armed.nth++;
	return false;
}

#define ENTER_CALL(name, declared, given)                                                          \
	int __real_##name declared;                                                                \
	int __wrap_##name declared;                                                                \
	int __wrap_##name declared                                                                 \
	{                                                                                          \
		const struct fault *f = meet(FAULT_ENTER);                                         \
                                                                                                   \
		if (!f || (!f->error && !has_halves(ring)))                                        \
			return __real_##name given;                                                \
		return f->error ? -f->error : enter_with_half(ring);                               \
	}

ENTER_CALL(io_uring_submit, (struct io_uring * ring), (ring))
ENTER_CALL(io_uring_submit_and_wait, (struct io_uring * ring, unsigned n), (ring, n))
ENTER_CALL(io_uring_submit_and_get_events, (struct io_uring * ring), (ring))
ENTER_CALL(io_uring_submit_and_wait_timeout,
	   (struct io_uring * ring, struct io_uring_cqe **cqe, unsigned n,
	    struct __kernel_timespec *ts, sigset_t *mask),
	   (ring, cqe, n, ts, mask))
RING_CALL(REGISTER, io_uring_register_eventfd, (struct io_uring * ring, int fd), (ring, fd))
RING_CALL(REGISTER, io_uring_register_probe,
	  (struct io_uring * ring, struct io_uring_probe *probe, unsigned n), (ring, probe, n))

/* The same for what sets errno. */
#define LIBC_CALL(kind, name, declared, given)                                                     \
	int __real_##name declared;                                                                \
	int __wrap_##name declared;                                                                \
	int __wrap_##name declared                                                                 \
	{                                                                                          \
		int refused = refuse(FAULT_##kind);                                                \
                                                                                                   \
		if (!refused)                                                                      \
			return __real_##name given;                                                \
		errno = -refused;                                                                  \
		return -1;                                                                         \
	}

LIBC_CALL(EPOLL_CREATE, epoll_create1, (int flags), (flags))
LIBC_CALL(EPOLL_WAIT, epoll_wait, (int epoll, struct epoll_event *evs, int n, int ms),
	  (epoll, evs, n, ms))
LIBC_CALL(DESCRIPTOR, timerfd_create, (int clock, int flags), (clock, flags))
LIBC_CALL(DESCRIPTOR, eventfd, (unsigned count, int flags), (count, flags))
LIBC_CALL(DESCRIPTOR, socket, (int family, int type, int protocol), (family, type, protocol))

int __real_epoll_ctl(int epoll, int op, int fd, struct epoll_event *ev);
int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *ev);

/* Taking one out needs no memory. */
int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *ev)
{
	int refused = op == EPOLL_CTL_DEL ? 0 : refuse(FAULT_EPOLL_CTL);

	if (!refused)
		return __real_epoll_ctl(epoll, op, fd, ev);
	errno = -refused;
	return -1;
}

/* ---- Memory ------------------------------------------------------------ */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);

static bool has_no_memory(enum fault_kind kind)
{
	if (!refuse(kind))
		return false;
	errno = ENOMEM;
	return true;
}

static void *count(void *memory)
{
	blocks += memory != NULL;
	return memory;
}

void *__wrap_malloc(size_t size)
{
	return has_no_memory(FAULT_MALLOC) ? NULL : count(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return has_no_memory(FAULT_MALLOC) ? NULL : count(__real_calloc(n, size));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return has_no_memory(FAULT_MALLOC) ? NULL : count(__real_aligned_alloc(alignment, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
	if (has_no_memory(FAULT_MALLOC))
		return NULL;
	return memory ? __real_realloc(memory, size) : count(__real_realloc(NULL, size));
}

void __wrap_free(void *memory)
{
	size_t size = memory ? malloc_usable_size(memory) : 0;

	if (size) /* so that it shows when it is used all the same */
		memset(memory, 0xdd, size < 4096 ? size : 4096);
	blocks -= memory != NULL;
	__real_free(memory);
}

long faults_blocks(void)
{
	return blocks;
}

static void *openssl_malloc(size_t size, const char *file, int line)
{
	(void)file, (void)line;
	return has_no_memory(FAULT_OPENSSL_MALLOC) ? NULL : __real_malloc(size);
}

static void *openssl_realloc(void *memory, size_t size, const char *file, int line)
{
	(void)file, (void)line;
	return has_no_memory(FAULT_OPENSSL_MALLOC) ? NULL : __real_realloc(memory, size);
}

static void openssl_free(void *memory, const char *file, int line)
{
	(void)file, (void)line;
	__real_free(memory);
}

/* ---- Record numbers ---------------------------------------------------- */

/* Every key that anything here seals with, the emulated kernel too, and the first number
 * that it has not sealed with. */
static struct {
	struct ringtls__key key; /* its number left out */
	const struct ringtls__sealer *sealer;
	uint64_t next;
} keys[64];
static size_t n_keys;

int __real_ringtls__sealer_new(struct ringtls__sealer **ret, const struct ringtls__key *key);
int __wrap_ringtls__sealer_new(struct ringtls__sealer **ret, const struct ringtls__key *key);
ssize_t __real_ringtls__sealv(struct ringtls__sealer *s, uint8_t type, const struct iovec *iov,
			      unsigned n, uint8_t *to);
ssize_t __wrap_ringtls__sealv(struct ringtls__sealer *s, uint8_t type, const struct iovec *iov,
			      unsigned n, uint8_t *to);
ssize_t __real_ringtls__seal(struct ringtls__sealer *s, uint8_t type, const uint8_t *from,
			     size_t len, uint8_t *to);
ssize_t __wrap_ringtls__seal(struct ringtls__sealer *s, uint8_t type, const uint8_t *from,
			     size_t len, uint8_t *to);

/* The same key may come twice, as from one sealer to another. */
int __wrap_ringtls__sealer_new(struct ringtls__sealer **ret, const struct ringtls__key *key)
{
	int r = __real_ringtls__sealer_new(ret, key);
	struct ringtls__key bare = *key;
	size_t i = 0;

	if (r < 0)
		return r;
	key_set_seq(&bare, 0);
	while (i < n_keys && memcmp(&keys[i].key.u, &bare.u, bare.len) != 0)
		i++;
	assert_true(i < COUNT(keys));
	if (i == n_keys)
		keys[n_keys++].key = bare;
	keys[i].sealer = *ret;
	return r;
}

static void note_number(const struct ringtls__sealer *s)
{
	uint64_t seq = ringtls__sealer_seq(s);
	size_t i = n_keys;

	while (i && keys[i - 1].sealer != s)
		i--;
	if (!i)
		return;
	faults_nonces_twice += seq < keys[i - 1].next;
	keys[i - 1].next = seq + 1;
}

ssize_t __wrap_ringtls__sealv(struct ringtls__sealer *s, uint8_t type, const struct iovec *iov,
			      unsigned n, uint8_t *to)
{
	note_number(s);
	return __real_ringtls__sealv(s, type, iov, n, to);
}

ssize_t __wrap_ringtls__seal(struct ringtls__sealer *s, uint8_t type, const uint8_t *from,
			     size_t len, uint8_t *to)
{
	note_number(s);
	return __real_ringtls__seal(s, type, from, len, to);
}

/* ---- The test's side --------------------------------------------------- */

void faults_init(void)
{
	assert_int_equal(CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free), 1);
}

void faults_arm(const struct fault *f, unsigned nth)
{
	memset(&armed, 0, sizeof(armed));
	memset(faults_seen, 0, sizeof(faults_seen));
	memset(keys, 0, sizeof(keys));
	n_keys = 0;
	faults_nonces_twice = 0;
	armed.fault = f;
	armed.nth = nth;
}
