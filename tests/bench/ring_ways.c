/*
 * ring_ways.c - what the ways of io_uring that the engine could take cost, beside the one that
 * it takes: registered rings, files and buffers, zero-copy sends, receives into a shared ring of
 * buffers. The processor's time of the thread that asks, for each operation; the ways of a
 * group take turns, so that what the machine does meanwhile meets all of them. "make bench-ring"
 * prints it; doc/performance.md says what followed.
 */
#define _GNU_SOURCE /* preadv2, accept4 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <liburing.h>

#define ROUNDS 21
#define SOCKETS 64
#define SEND_LEN 16406u /* a sealed record */
#define FILE_LEN (256u * 1024)
#define ASK_LEN 64u
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BUFFERS 128u
#define BUFFER_LEN 4096u
#define GROUP 7

struct way;

/* What a way needs, made anew for each. */
struct stage {
	const struct way *way;
	struct io_uring ring;
	int ours[SOCKETS], peers[SOCKETS];
	int file;
	uint8_t *memory;
	struct io_uring_buf_ring *buffers;
	uint8_t *map; /* of the file */
	int pipe[2];
	ssize_t piped; /* what is in the pipe */
	pthread_t reader;
	unsigned copied, not_copied; /* what zero-copy sends report */
	double ns[ROUNDS];
	char why[100];
};

struct way {
	const char *group, *name;
	unsigned ops; /* of a round */
	bool reads_peers; /* somebody throws away what the peers get */
	bool (*prepare)(struct stage *s);
	bool (*run)(struct stage *s);
	bool (*before)(struct stage *s); /* each round, not timed; or NULL */
};

static bool cannot(struct stage *s, const char *what, int error)
{
	if (!*s->why)
		snprintf(s->why, sizeof(s->why), "%s: %s", what, strerror(error < 0 ? -error : error));
	return false;
}

/* ---- The stage ----------------------------------------------------------------- */

static bool pair_sockets(struct stage *s, int i, int listener)
{
	struct sockaddr_in in;
	socklen_t len = sizeof(in);
	int on = 1;

	s->peers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (getsockname(listener, (struct sockaddr *)&in, &len) ||
	    connect(s->peers[i], (struct sockaddr *)&in, len))
		return cannot(s, "connect", errno);
	s->ours[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s->ours[i] < 0)
		return cannot(s, "accept", errno);
	setsockopt(s->ours[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(s->peers[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return true;
}

static bool open_sockets(struct stage *s)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = !bind(listener, (struct sockaddr *)&in, sizeof(in)) && !listen(listener, SOCKETS);

	for (int i = 0; ok && i < SOCKETS; i++)
		ok = pair_sockets(s, i, listener);
	close(listener);
	return ok || cannot(s, "sockets", errno);
}

/* Throws away what the peers get, until all are closed. */
static void *read_peers(void *arg)
{
	struct stage *s = arg;
	struct pollfd fds[SOCKETS];
	static uint8_t nothing[1 << 20];
	int left = SOCKETS;

	for (int i = 0; i < SOCKETS; i++)
		fds[i] = (struct pollfd){.fd = s->peers[i], .events = POLLIN};
	while (left > 0 && poll(fds, SOCKETS, -1) > 0)
		for (int i = 0; i < SOCKETS; i++)
			if (fds[i].revents &&
			    recv(fds[i].fd, nothing, sizeof(nothing), MSG_TRUNC | MSG_DONTWAIT) == 0) {
				fds[i].fd = -1;
				left--;
			}
	return NULL;
}

static bool open_file(struct stage *s)
{
	char name[] = "/tmp/ringtls-ways-XXXXXX";

	s->file = mkstemp(name);
	if (s->file < 0)
		return cannot(s, "file", errno);
	unlink(name);
	return write(s->file, s->memory, FILE_LEN) == FILE_LEN || cannot(s, "file", errno);
}

static bool open_stage(struct stage *s, const struct way *way)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
						  IORING_SETUP_DEFER_TASKRUN |
						  IORING_SETUP_SUBMIT_ALL};
	int r;

	s->way = way;
	s->memory = aligned_alloc(4096, FILE_LEN);
	if (!s->memory)
		return cannot(s, "memory", ENOMEM);
	memset(s->memory, 0x5a, FILE_LEN);
	r = io_uring_queue_init_params(256, &s->ring, &params);
	if (r < 0)
		return cannot(s, "io_uring", r);
	if (!open_sockets(s) || !open_file(s))
		return false;
	if (way->reads_peers && pthread_create(&s->reader, NULL, read_peers, s))
		return cannot(s, "thread", errno);
	return !way->prepare || way->prepare(s);
}

static void close_stage(struct stage *s)
{
	io_uring_queue_exit(&s->ring);
	for (int i = 0; i < SOCKETS; i++)
		close(s->ours[i]);
	if (s->way->reads_peers)
		pthread_join(s->reader, NULL);
	for (int i = 0; i < SOCKETS; i++)
		close(s->peers[i]);
	close(s->file);
	free(s->memory);
}

/* ---- What can be registered ------------------------------------------------------ */

static bool register_ring(struct stage *s)
{
	int r = io_uring_register_ring_fd(&s->ring);

	return r == 1 || cannot(s, "registering the ring", r);
}

static bool register_files(struct stage *s)
{
	int r = io_uring_register_files(&s->ring, s->ours, SOCKETS);

	return r == 0 || cannot(s, "registering files", r);
}

static bool register_memory(struct stage *s)
{
	const struct iovec iov = {s->memory, FILE_LEN};
	int r = io_uring_register_buffers(&s->ring, &iov, 1);

	return r == 0 || cannot(s, "registering buffers", r);
}

static struct io_uring_sqe *get_sqe(struct stage *s)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&s->ring);

	if (!sqe)
		abort(); /* no way fills more entries than there are */
	return sqe;
}

/* ---- Sending ---------------------------------------------------------------------- */

/* Waits for n results; notifications of zero-copy sends come behind theirs. */
static bool reap(struct stage *s, unsigned n, int least)
{
	while (n > 0) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		int r = io_uring_submit_and_wait(&s->ring, 1);

		if (r < 0 && r != -EINTR)
			return cannot(s, "io_uring", r);
		io_uring_for_each_cqe(&s->ring, head, cqe) {
			seen++;
			if (cqe->flags & IORING_CQE_F_NOTIF) {
				if ((unsigned)cqe->res & (1u << 31)) /* IORING_NOTIF_USAGE_ZC_COPIED */
					s->copied++;
				else
					s->not_copied++;
			} else if (cqe->res < least) {
				return cannot(s, "an operation", cqe->res < 0 ? cqe->res : -EIO);
			} else {
				n += (cqe->flags & IORING_CQE_F_MORE) != 0;
			}
			n--;
		}
		io_uring_cq_advance(&s->ring, seen);
	}
	return true;
}

static bool drained(struct stage *s)
{
	struct timespec nap = {.tv_nsec = 300000};

	(void)s;
	nanosleep(&nap, NULL);
	return true;
}

static bool by_send(struct stage *s)
{
	for (unsigned i = 0; i < s->way->ops; i++)
		if (send(s->ours[i], s->memory, SEND_LEN, MSG_NOSIGNAL | MSG_DONTWAIT) != SEND_LEN)
			return cannot(s, "send", errno ? errno : EIO);
	return true;
}

static bool by_ring(struct stage *s)
{
	for (unsigned i = 0; i < s->way->ops; i++)
		io_uring_prep_send(get_sqe(s), s->ours[i], s->memory, SEND_LEN,
				   MSG_NOSIGNAL | MSG_WAITALL);
	return reap(s, s->way->ops, SEND_LEN);
}

static bool by_fixed_files(struct stage *s)
{
	for (unsigned i = 0; i < s->way->ops; i++) {
		struct io_uring_sqe *sqe = get_sqe(s);

		io_uring_prep_send(sqe, (int)i, s->memory, SEND_LEN, MSG_NOSIGNAL | MSG_WAITALL);
		sqe->flags |= IOSQE_FIXED_FILE;
	}
	return reap(s, s->way->ops, SEND_LEN);
}

static bool by_zero_copy(struct stage *s)
{
	for (unsigned i = 0; i < s->way->ops; i++) {
		struct io_uring_sqe *sqe = get_sqe(s);

		io_uring_prep_send(sqe, s->ours[i], s->memory, SEND_LEN, MSG_NOSIGNAL | MSG_WAITALL);
		sqe->opcode = IORING_OP_SEND_ZC;
		/* RECVSEND_FIXED_BUF, SEND_ZC_REPORT_USAGE */
		sqe->ioprio = (1u << 2) | (1u << 3);
		sqe->buf_index = 0;
	}
	return reap(s, s->way->ops, SEND_LEN);
}

/* ---- Reading files ------------------------------------------------------------------ */

static bool by_pread(struct stage *s)
{
	return pread(s->file, s->memory, FILE_LEN, 0) == FILE_LEN || cannot(s, "pread", errno);
}

static bool by_preadv2(struct stage *s)
{
	const struct iovec iov = {s->memory, FILE_LEN};

	return preadv2(s->file, &iov, 1, 0, RWF_NOWAIT) == FILE_LEN || cannot(s, "preadv2", errno);
}

static bool by_ring_read(struct stage *s)
{
	io_uring_prep_read(get_sqe(s), s->file, s->memory, FILE_LEN, 0);
	return reap(s, 1, FILE_LEN);
}

static bool by_fixed_read(struct stage *s)
{
	io_uring_prep_read_fixed(get_sqe(s), s->file, s->memory, FILE_LEN, 0, 0);
	return reap(s, 1, FILE_LEN);
}

/* ---- Files to a socket --------------------------------------------------------------- */

/* One step moves what it can; 0 and less: it can't now. */
static bool to_socket(struct stage *s, ssize_t (*step)(struct stage *s, off_t at))
{
	struct pollfd pfd = {.fd = s->ours[0], .events = POLLOUT};

	for (off_t at = 0; at < FILE_LEN;) {
		ssize_t n = step(s, at);

		if (n > 0)
			at += n;
		else if (errno != EAGAIN || poll(&pfd, 1, 10000) != 1)
			return cannot(s, "sending a file", errno);
	}
	return true;
}

static ssize_t sendfile_step(struct stage *s, off_t at)
{
	return sendfile(s->ours[0], s->file, &at, (size_t)(FILE_LEN - at));
}

static ssize_t read_step(struct stage *s, off_t at)
{
	ssize_t n = pread(s->file, s->memory, (size_t)(FILE_LEN - at), at);

	return n > 0 ? send(s->ours[0], s->memory, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) : n;
}

static ssize_t map_step(struct stage *s, off_t at)
{
	return send(s->ours[0], s->map + at, (size_t)(FILE_LEN - at), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t splice_step(struct stage *s, off_t at)
{
	if (!s->piped)
		s->piped = splice(s->file, &at, s->pipe[1], NULL, (size_t)(FILE_LEN - at),
				  SPLICE_F_NONBLOCK);
	if (s->piped > 0) {
		ssize_t n = splice(s->pipe[0], NULL, s->ours[0], NULL, (size_t)s->piped,
				   SPLICE_F_NONBLOCK);

		s->piped -= n > 0 ? n : 0;
		return n;
	}
	return s->piped;
}

static bool by_sendfile(struct stage *s)
{
	return to_socket(s, sendfile_step);
}

static bool by_read_and_send(struct stage *s)
{
	return to_socket(s, read_step);
}

static bool by_map(struct stage *s)
{
	return to_socket(s, map_step);
}

static bool by_splice(struct stage *s)
{
	return to_socket(s, splice_step);
}

static bool make_map(struct stage *s)
{
	s->map = mmap(NULL, FILE_LEN, PROT_READ, MAP_SHARED, s->file, 0);
	return s->map != MAP_FAILED || cannot(s, "mapping the file", errno);
}

static bool make_pipe(struct stage *s)
{
	return (!pipe2(s->pipe, O_CLOEXEC | O_NONBLOCK) &&
		fcntl(s->pipe[1], F_SETPIPE_SZ, FILE_LEN) >= 0) ||
	       cannot(s, "a pipe", errno);
}

/* ---- Receiving ----------------------------------------------------------------------- */

static bool peers_ask(struct stage *s)
{
	static const uint8_t ask[ASK_LEN];

	for (int i = 0; i < SOCKETS; i++)
		if (send(s->peers[i], ask, ASK_LEN, MSG_NOSIGNAL) != ASK_LEN)
			return cannot(s, "send", errno);
	return true;
}

static void arm_poll(struct stage *s, int i)
{
	struct io_uring_sqe *sqe = get_sqe(s);

	io_uring_prep_poll_add(sqe, s->ours[i], POLLIN);
	sqe->user_data = (uint64_t)i;
}

static bool arm_polls(struct stage *s)
{
	for (int i = 0; i < SOCKETS; i++)
		arm_poll(s, i);
	return io_uring_submit(&s->ring) == SOCKETS || cannot(s, "io_uring", EIO);
}

/* Until each socket's bytes have come. */
static bool take_asks(struct stage *s, bool (*take)(struct stage *s, const struct io_uring_cqe *cqe))
{
	for (unsigned done = 0; done < SOCKETS;) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		int r = io_uring_submit_and_wait(&s->ring, 1);

		if (r < 0)
			return cannot(s, "io_uring", r);
		io_uring_for_each_cqe(&s->ring, head, cqe) {
			seen++;
			if (!take(s, cqe))
				return false;
		}
		io_uring_cq_advance(&s->ring, seen);
		done += seen;
	}
	return true;
}

static bool recv_ask(struct stage *s, const struct io_uring_cqe *cqe)
{
	int i = (int)cqe->user_data;

	if (recv(s->ours[i], s->memory, BUFFER_LEN, MSG_DONTWAIT) != ASK_LEN)
		return cannot(s, "recv", errno);
	arm_poll(s, i);
	return true;
}

static bool by_poll_and_recv(struct stage *s)
{
	return take_asks(s, recv_ask) && io_uring_submit(&s->ring) >= 0;
}

static void give_buffer(struct stage *s, unsigned id)
{
	io_uring_buf_ring_add(s->buffers, s->memory + (size_t)id % 64 * BUFFER_LEN, BUFFER_LEN,
			      (unsigned short)id, io_uring_buf_ring_mask(BUFFERS), 0);
	io_uring_buf_ring_advance(s->buffers, 1);
}

static bool arm_receives(struct stage *s)
{
	struct io_uring_buf_reg reg = {.ring_entries = BUFFERS, .bgid = GROUP};
	int r;

	s->buffers = aligned_alloc(4096, 4096);
	if (!s->buffers)
		return cannot(s, "memory", ENOMEM);
	memset(s->buffers, 0, 4096);
	reg.ring_addr = (uintptr_t)s->buffers;
	r = io_uring_register_buf_ring(&s->ring, &reg, 0);
	if (r < 0)
		return cannot(s, "a ring of buffers", r);
	io_uring_buf_ring_init(s->buffers);
	for (unsigned i = 0; i < BUFFERS; i++)
		give_buffer(s, i);
	for (int i = 0; i < SOCKETS; i++) {
		struct io_uring_sqe *sqe = get_sqe(s);

		io_uring_prep_recv_multishot(sqe, s->ours[i], NULL, 0, 0);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = GROUP;
		sqe->user_data = (uint64_t)i;
	}
	return io_uring_submit(&s->ring) == SOCKETS || cannot(s, "io_uring", EIO);
}

static bool take_received(struct stage *s, const struct io_uring_cqe *cqe)
{
	if (cqe->res != ASK_LEN || !(cqe->flags & IORING_CQE_F_MORE))
		return cannot(s, "receiving", cqe->res < 0 ? cqe->res : -EIO);
	give_buffer(s, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	return true;
}

static bool by_multishot(struct stage *s)
{
	return take_asks(s, take_received);
}

/* ---- The table -------------------------------------------------------------------------- */

static bool ring_and_files(struct stage *s)
{
	return register_ring(s) && register_files(s);
}

static bool ring_and_memory(struct stage *s)
{
	return register_ring(s) && register_memory(s);
}

static bool ring_and_polls(struct stage *s)
{
	return register_ring(s) && arm_polls(s);
}

static bool ring_and_receives(struct stage *s)
{
	return register_ring(s) && arm_receives(s);
}

#define ONE  "a sealed record to one socket"
#define MANY "a sealed record to each of 64 sockets"
#define READ "256 KiB of a file that is in memory"
#define FILE_TO "256 KiB of a file in memory to one socket"
#define ASKS "64 bytes from each of 64 sockets"

static const struct way ways[] = {
	{ONE, "send(2)", 1, true, NULL, by_send, drained},
	{ONE, "ring", 1, true, NULL, by_ring, drained},
	{ONE, "registered ring", 1, true, register_ring, by_ring, drained},
	{ONE, "and fixed files", 1, true, ring_and_files, by_fixed_files, drained},
	{ONE, "zero-copy, registered memory", 1, true, ring_and_memory, by_zero_copy, drained},
	{MANY, "send(2)", SOCKETS, true, NULL, by_send, drained},
	{MANY, "ring", SOCKETS, true, NULL, by_ring, drained},
	{MANY, "registered ring", SOCKETS, true, register_ring, by_ring, drained},
	{MANY, "and fixed files", SOCKETS, true, ring_and_files, by_fixed_files, drained},
	{MANY, "zero-copy, registered memory", SOCKETS, true, ring_and_memory, by_zero_copy, drained},
	{READ, "pread(2)", 1, false, NULL, by_pread, NULL},
	{READ, "preadv2(2) without waiting", 1, false, NULL, by_preadv2, NULL},
	{READ, "ring", 1, false, register_ring, by_ring_read, NULL},
	{READ, "ring, registered memory", 1, false, ring_and_memory, by_fixed_read, NULL},
	{FILE_TO, "sendfile(2)", 1, true, NULL, by_sendfile, drained},
	{FILE_TO, "read and send", 1, true, NULL, by_read_and_send, drained},
	{FILE_TO, "mapped, and sent", 1, true, make_map, by_map, drained},
	{FILE_TO, "splice(2) through a pipe", 1, true, make_pipe, by_splice, drained},
	{ASKS, "poll and recv(2)", SOCKETS, false, ring_and_polls, by_poll_and_recv, peers_ask},
	{ASKS, "multishot receive", SOCKETS, false, ring_and_receives, by_multishot, peers_ask},
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* So often that the clock does not count. */
static bool take(struct stage *s, unsigned round)
{
	unsigned times = s->way->ops == 1 ? 200 : 20;
	uint64_t ns = 0;

	for (unsigned i = 0; i < times; i++) {
		uint64_t start;

		if (s->way->before && !s->way->before(s))
			return false;
		start = now_ns();
		if (!s->way->run(s))
			return false;
		ns += now_ns() - start;
	}
	s->ns[round] = (double)ns / times / s->way->ops;
	return true;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print(struct stage *s, double first)
{
	if (*s->why) {
		printf("  %-32s not measured: %s\n", s->way->name, s->why);
		return;
	}
	printf("  %-32s %9.0f ns  %7.0f-%-7.0f  %.2fx", s->way->name, s->ns[ROUNDS / 2],
	       s->ns[ROUNDS / 4], s->ns[ROUNDS * 3 / 4], s->ns[ROUNDS / 2] / first);
	if (s->copied || s->not_copied)
		printf("  %u copied, %u not", s->copied, s->not_copied);
	printf("\n");
}

/* There and back again, as ringtls-bench does; the first round warms up. */
static void run_group(const struct way *first, size_t n)
{
	static struct stage stages[COUNT(ways)];

	memset(stages, 0, sizeof(stages));
	for (size_t i = 0; i < n; i++)
		open_stage(&stages[i], &first[i]);
	for (unsigned round = 0; round <= ROUNDS; round++)
		for (size_t i = 0; i < n; i++) {
			struct stage *s = &stages[round % 2 ? n - 1 - i : i];

			if (!*s->why)
				take(s, round ? round - 1 : 0);
		}
	printf("%s:\n", first->group);
	for (size_t i = 0; i < n; i++) {
		qsort(stages[i].ns, ROUNDS, sizeof(stages[i].ns[0]), compare);
		print(&stages[i], stages[0].ns[ROUNDS / 2]);
		close_stage(&stages[i]);
	}
	printf("\n");
}

int main(void)
{
	for (size_t i = 0, n; i < COUNT(ways); i += n) {
		for (n = 1; i + n < COUNT(ways) && ways[i + n].group == ways[i].group; n++)
			;
		run_group(&ways[i], n);
	}
	return 0;
}
