/* fake_ktls.c - see fake_ktls.h. */
#define _GNU_SOURCE /* a mutex that a failed assertion may leave locked */
#include "support.h"
#include "fake_ktls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <linux/tcp.h>
#include <ringtls/ringtls.h>
#include "keys.h"
#include "seal.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define FDS	  4096
#define RECORD	  RINGTLS__RECORD_MAX
#define SEALED	  (RECORD + 64)
#define PIPE	  65536 /* sendfile(2) goes through a pipe of 16 pages */
#define PAGE	  4096
#define LIST_MOST (64 * SEALED)

struct fake_ktls_knobs fake_ktls_knobs;
struct fake_ktls_seen fake_ktls_seen;

struct sock {
	ino_t ino; /* which socket the number means; 0: none with TCP_ULP */
	struct ringtls__key key;
	struct ringtls__sealer *sealer;
	uint8_t open[RECORD];
	size_t open_len;
	uint8_t *list; /* sealed, start to end not in TCP yet */
	size_t start, end;
};

static struct sock *socks[FDS];
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static unsigned calls, questions;

/* ---- Sockets ----------------------------------------------------------- */

static ino_t ino_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

static void forget(int fd)
{
	struct sock *s = socks[fd];

	if (!s)
		return;
	ringtls__sealer_free(s->sealer);
	free(s->list);
	free(s);
	socks[fd] = NULL;
}

/* The socket, if it was given TCP_ULP. Its number may be another's by now. */
static struct sock *find(int fd)
{
	if (fd < 0 || fd >= FDS || !socks[fd])
		return NULL;
	if (socks[fd]->ino != ino_of(fd))
		forget(fd);
	return socks[fd];
}

static struct sock *find_keyed(int fd)
{
	struct sock *s = find(fd);

	return s && s->sealer ? s : NULL;
}

/* ---- From the open record to TCP --------------------------------------- */

static int push(int fd, struct sock *s)
{
	while (s->start < s->end) {
		ssize_t n = send(fd, s->list + s->start, s->end - s->start,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return -errno;
		s->start += (size_t)n;
	}
	s->start = s->end = 0;
	return 0;
}

static void seal(struct sock *s, uint8_t type)
{
	ssize_t n;

	if (!s->open_len)
		return;
	memmove(s->list, s->list + s->start, s->end - s->start);
	s->end -= s->start;
	s->start = 0;
	assert_true(s->end + SEALED <= LIST_MOST);
	n = ringtls__seal(s->sealer, type, s->open, s->open_len, s->list + s->end);
	assert_true(n > 0);
	s->end += (size_t)n;
	fake_ktls_seen.records++;
	fake_ktls_seen.plain += s->open_len;
	s->open_len = 0;
	if (s->end > fake_ktls_seen.held_most)
		fake_ktls_seen.held_most = s->end;
}

/* Whether another record may be begun: 0, -EAGAIN, or what broke. */
static int room(int fd, struct sock *s)
{
	int r = push(fd, s);

	if (r < 0 && r != -EAGAIN)
		return r;
	return s->end - s->start > fake_ktls_knobs.list_room ? -EAGAIN : 0;
}

/*
 * Takes bytes as records of a type. The last is sealed although it is short, unless
 * more is said to follow. Answers the bytes taken, or an error if there are none.
 */
static ssize_t take(int fd, struct sock *s, uint8_t type, const uint8_t *bytes, size_t len,
		    bool more)
{
	size_t done = 0, n;
	int r = 0;

	while (done < len) {
		r = room(fd, s);
		if (r < 0)
			break;
		n = len - done < RECORD - s->open_len ? len - done : RECORD - s->open_len;
		memcpy(s->open + s->open_len, bytes + done, n);
		s->open_len += n;
		done += n;
		if (s->open_len == RECORD || (done == len && !more))
			seal(s, type);
	}
	/* What TCP does not take now counts as sent all the same. */
	(void)push(fd, s);
	return done ? (ssize_t)done : r;
}

/* ---- The calls --------------------------------------------------------- */

/* 0, or the errno with which this call is disturbed. */
static int disturbed(void)
{
	const struct fake_ktls_knobs *k = &fake_ktls_knobs;

	fake_ktls_seen.sends++;
	calls++;
	if (k->broken)
		return -k->broken;
	if (k->eintr_every && calls % k->eintr_every == 0)
		return -EINTR;
	return k->eagain_every && calls % k->eagain_every == 0 ? -EAGAIN : 0;
}

static size_t at_most(size_t len)
{
	size_t most = fake_ktls_knobs.send_max;

	return most && len > most ? most : len;
}

/* The record type that the control message names, or 0 for none, or -EINVAL. */
static int record_type(const struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);

	if (!msg->msg_controllen)
		return 0;
	if (!c || c->cmsg_level != SOL_TLS || c->cmsg_type != TLS_SET_RECORD_TYPE ||
	    c->cmsg_len != CMSG_LEN(1) || CMSG_NXTHDR((struct msghdr *)(uintptr_t)msg, c))
		return -EINVAL;
	return *CMSG_DATA(c);
}

static ssize_t take_msg(int fd, struct sock *s, const struct msghdr *msg, int type)
{
	size_t left = 0, done = 0;
	ssize_t n = 0;

	for (size_t i = 0; i < msg->msg_iovlen; i++)
		left += msg->msg_iov[i].iov_len;
	if (type)
		seal(s, RINGTLS__RECORD_DATA); /* what a file left open is of another type */
	else
		left = at_most(left); /* a record of another type is taken whole */
	for (size_t i = 0; i < msg->msg_iovlen && left; i++) {
		size_t len = msg->msg_iov[i].iov_len < left ? msg->msg_iov[i].iov_len : left;

		n = take(fd, s, type ? (uint8_t)type : RINGTLS__RECORD_DATA,
			 msg->msg_iov[i].iov_base, len, left > len);
		if (n > 0)
			done += (size_t)n;
		if (n < (ssize_t)len)
			break;
		left -= len;
	}
	if (done && n < 0) /* the iovecs before it were said to have more behind them */
		seal(s, type ? (uint8_t)type : RINGTLS__RECORD_DATA);
	return done ? (ssize_t)done : n;
}

static ssize_t fake_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct sock *s;
	ssize_t r;

	pthread_mutex_lock(&lock);
	s = find_keyed(fd);
	if (!s) {
		pthread_mutex_unlock(&lock);
		return ringtls__sys_real.sendmsg(fd, msg, flags);
	}
	r = disturbed();
	fake_ktls_seen.waits += !(flags & MSG_DONTWAIT);
	if (flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL)) {
		fake_ktls_seen.refused_flags++;
		r = -EOPNOTSUPP;
	}
	if (r == 0)
		r = record_type(msg);
	if (r >= 0)
		r = take_msg(fd, s, msg, (int)r);
	pthread_mutex_unlock(&lock);
	return r;
}

/* As through the pipe: page by page, and a piece that does not get in is read again. */
static ssize_t take_file(int fd, struct sock *s, int file, off_t *offset, size_t len)
{
	static uint8_t bytes[PIPE];
	size_t done = 0;

	len = at_most(len);
	while (done < len) {
		size_t want = PIPE - (size_t)(*offset % PAGE);
		ssize_t n, taken;

		if (want > len - done)
			want = len - done;
		n = pread(file, bytes, want, *offset);
		if (n < 0)
			return done ? (ssize_t)done : -errno;
		if (n == 0) {
			seal(s, RINGTLS__RECORD_DATA);
			(void)push(fd, s);
			break;
		}
		taken = take(fd, s, RINGTLS__RECORD_DATA, bytes, (size_t)n, done + (size_t)n < len);
		if (taken < 0)
			return done ? (ssize_t)done : taken;
		*offset += taken;
		done += (size_t)taken;
		if (taken < n)
			break;
	}
	return (ssize_t)done;
}

static ssize_t fake_sendfile(int fd, int file, off_t *offset, size_t len)
{
	struct sock *s;
	ssize_t r;

	pthread_mutex_lock(&lock);
	s = find_keyed(fd);
	if (!s) {
		pthread_mutex_unlock(&lock);
		return ringtls__sys_real.sendfile(fd, file, offset, len);
	}
	fake_ktls_seen.waits += !(fcntl(fd, F_GETFL) & O_NONBLOCK);
	r = disturbed();
	if (r == 0)
		r = take_file(fd, s, file, offset, len);
	pthread_mutex_unlock(&lock);
	return r;
}

static int set_ulp(int fd, const void *value, socklen_t len)
{
	if (len < 3 || memcmp(value, "tls", 3) != 0)
		return -ENOENT;
	if (fake_ktls_knobs.ulp)
		return -fake_ktls_knobs.ulp;
	if (find(fd))
		return -EEXIST;
	assert_true(fd < FDS);
	socks[fd] = calloc(1, sizeof(*socks[fd]));
	assert_non_null(socks[fd]);
	socks[fd]->ino = ino_of(fd);
	socks[fd]->list = malloc(LIST_MOST);
	assert_non_null(socks[fd]->list);
	fake_ktls_seen.ulps++;
	return 0;
}

static int set_tx(int fd, const void *value, socklen_t len)
{
	const struct fake_ktls_knobs *k = &fake_ktls_knobs;
	struct sock *s = find(fd);
	struct ringtls__key key;

	if (!s)
		return -ENOPROTOOPT;
	if (s->sealer ? k->rekey : k->tx)
		return s->sealer ? -k->rekey : -k->tx;
	if (ringtls__key_parse(&key, value) < 0 || len != key.len)
		return -EINVAL;
	if (s->sealer && key.u.info.version != TLS_1_3_VERSION)
		return -EBUSY;
	if (s->sealer && memcmp(&key.u.info, &s->key.u.info, sizeof(key.u.info)) != 0)
		return -EINVAL;
	*(s->sealer ? &fake_ktls_seen.rekeys : &fake_ktls_seen.installs) += 1;
	ringtls__sealer_free(s->sealer);
	assert_int_equal(ringtls__sealer_new(&s->sealer, &key), 0);
	s->key = key;
	return 0;
}

static int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int r;

	if ((level != IPPROTO_TCP || name != TCP_ULP) && level != SOL_TLS)
		return ringtls__sys_real.setsockopt(fd, level, name, value, len);
	pthread_mutex_lock(&lock);
	if (level == IPPROTO_TCP)
		r = set_ulp(fd, value, len);
	else
		r = name == TLS_TX ? set_tx(fd, value, len) : -ENOPROTOOPT;
	pthread_mutex_unlock(&lock);
	return r;
}

/* As the kernel: the key as it is, and the number of the next record. */
static int get_tx(int fd, void *value, socklen_t *len)
{
	const struct fake_ktls_knobs *k = &fake_ktls_knobs;
	struct sock *s = find_keyed(fd);
	struct ringtls__key key;

	if (!s)
		return -ENOPROTOOPT;
	if (k->get_tx)
		return -k->get_tx;
	if (*len == sizeof(s->key.u.info)) { /* version and cipher only */
		memcpy(value, &s->key.u.info, *len);
		return 0;
	}
	if (*len != s->key.len)
		return -EINVAL;
	if (k->work_every && ++questions % k->work_every == 0)
		(void)push(fd, s);
	key = s->key;
	key_set_seq(&key, ringtls__sealer_seq(s->sealer));
	memcpy(value, &key.u, *len);
	return 0;
}

/* A send buffer is never too small for sendfile(2) here, so that tests meet a full one. */
static int other_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	int r = ringtls__sys_real.getsockopt(fd, level, name, value, len);

	if (r == 0 && level == SOL_SOCKET && name == SO_SNDBUF && find_keyed(fd))
		*(int *)value += 1 << 20;
	return r;
}

static int fake_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	int r;

	if (level == IPPROTO_TCP && name == TCP_INFO && fake_ktls_knobs.tcp_info)
		return -fake_ktls_knobs.tcp_info;
	if (level != SOL_TLS || name != TLS_TX)
		return other_getsockopt(fd, level, name, value, len);
	pthread_mutex_lock(&lock);
	r = get_tx(fd, value, len);
	pthread_mutex_unlock(&lock);
	return r;
}

static int fake_outq(int fd, int *ret_bytes)
{
	return fake_ktls_knobs.outq ? -fake_ktls_knobs.outq : ringtls__sys_real.outq(fd, ret_bytes);
}

/* What it does not change is the real table's, which is no constant to C. */
static ssize_t fake_recv(int fd, void *buf, size_t len, int flags)
{
	return ringtls__sys_real.recv(fd, buf, len, flags);
}

static ssize_t fake_pread(int file, void *buf, size_t len, off_t offset)
{
	return ringtls__sys_real.pread(file, buf, len, offset);
}

static ssize_t fake_pread_cached(int file, void *buf, size_t len, off_t offset)
{
	return ringtls__sys_real.pread_cached(file, buf, len, offset);
}

static int fake_getfl(int fd)
{
	return ringtls__sys_real.getfl(fd);
}

static int fake_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	return ringtls__sys_real.poll(fds, n, timeout_ms);
}

static int fake_uring_init(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
	return ringtls__sys_real.uring_init(entries, ring, params);
}

const struct ringtls__sys fake_ktls = {
	.sendmsg = fake_sendmsg,
	.sendfile = fake_sendfile,
	.recv = fake_recv,
	.pread = fake_pread,
	.pread_cached = fake_pread_cached,
	.setsockopt = fake_setsockopt,
	.getsockopt = fake_getsockopt,
	.outq = fake_outq,
	.getfl = fake_getfl,
	.poll = fake_poll,
	.uring_init = fake_uring_init,
};

/* ---- The test's side --------------------------------------------------- */

void fake_ktls_reset(void)
{
	pthread_mutex_lock(&lock);
	memset(&fake_ktls_knobs, 0, sizeof(fake_ktls_knobs));
	memset(&fake_ktls_seen, 0, sizeof(fake_ktls_seen));
	calls = questions = 0;
	for (int fd = 0; fd < FDS; fd++)
		forget(fd);
	pthread_mutex_unlock(&lock);
}

void fake_ktls_work(void)
{
	pthread_mutex_lock(&lock);
	for (int fd = 0; fd < FDS; fd++)
		if (find_keyed(fd))
			(void)push(fd, socks[fd]);
	pthread_mutex_unlock(&lock);
}

size_t fake_ktls_held(int fd)
{
	struct sock *s;
	size_t held;

	pthread_mutex_lock(&lock);
	s = find(fd);
	held = s ? s->open_len + s->end - s->start : 0;
	pthread_mutex_unlock(&lock);
	return held;
}

static pthread_t worker;
static bool is_working;

static void *work_all_the_time(void *arg)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	(void)arg;
	while (__atomic_load_n(&is_working, __ATOMIC_ACQUIRE)) {
		fake_ktls_work();
		nanosleep(&ms, NULL);
	}
	return NULL;
}

void fake_ktls_start_worker(void)
{
	__atomic_store_n(&is_working, true, __ATOMIC_RELEASE);
	assert_int_equal(pthread_create(&worker, NULL, work_all_the_time, NULL), 0);
}

void fake_ktls_stop_worker(void)
{
	__atomic_store_n(&is_working, false, __ATOMIC_RELEASE);
	pthread_join(worker, NULL);
}
