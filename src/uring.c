/* uring.c - see uring.h. */
#include "config.h"
#include "uring.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <ringtls/ringtls.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Completions outnumber submissions: parked polls and timers complete in bursts. */
#define CQ_FACTOR 4

/* CLAMP: a size that is too large is no reason to have no ring. */
#define SIZES (IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP)

/*
 * From best to least. SUBMIT_ALL: a bad entry doesn't hold up those behind it.
 * DEFER_TASKRUN: work runs where we wait, not between our instructions.
 * TASKRUN_FLAG: liburing sees work that waits for us, and enters to fetch it.
 * COOP_TASKRUN: at least no interrupts between processors.
 */
static const unsigned ladder[] = {
	SIZES | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
		IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	SIZES | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	SIZES,
};

const struct ringtls__uring_op ringtls__uring_ops[RINGTLS__URING_OPS] = {
	{ IORING_OP_SEND, "SEND" },
	{ IORING_OP_SENDMSG, "SENDMSG" },
	{ IORING_OP_POLL_ADD, "POLL_ADD" },
	{ IORING_OP_TIMEOUT, "TIMEOUT" },
	{ IORING_OP_ASYNC_CANCEL, "ASYNC_CANCEL" },
};

uint32_t ringtls__uring_reason(int error)
{
	switch (error) {
	case 0:
		return RINGTLS_REASON_NONE;
	case -EPERM:
	case -EACCES:
		return RINGTLS_REASON_URING_DENIED;
	case -ENOSYS:
		return RINGTLS_REASON_URING_ABSENT;
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
	case -EAGAIN: /* no memory for a request */
		return RINGTLS_REASON_URING_LIMIT;
	default:
		return RINGTLS_REASON_URING_OLD;
	}
}

const char *ringtls__uring_missing(const struct io_uring_probe *probe)
{
	for (size_t i = 0; i < RINGTLS__URING_OPS; i++)
		if (!io_uring_opcode_supported(probe, ringtls__uring_ops[i].opcode))
			return ringtls__uring_ops[i].name;
	return NULL;
}

/* Goes down the ladder while the kernel doesn't know a flag. */
static int set_up(struct io_uring *ret_ring, unsigned entries, struct ringtls__uring_caps *caps,
		  const struct ringtls__sys *sys)
{
	struct io_uring_params params;
	int error = -EINVAL;

	for (size_t i = 0; i < COUNT(ladder) && error == -EINVAL; i++) {
		memset(&params, 0, sizeof(params));
		params.flags = ladder[i];
		params.cq_entries = entries <= UINT32_MAX / CQ_FACTOR ? entries * CQ_FACTOR :
									UINT32_MAX;
		error = sys->uring_init(entries, ret_ring, &params);
	}
	if (error)
		return error;
	caps->setup_flags = params.flags;
	caps->features = params.features;
	return 0;
}

static int check_opcodes(struct io_uring *ring, struct ringtls__uring_caps *caps)
{
	union {
		struct io_uring_probe probe;
		uint8_t room[sizeof(struct io_uring_probe) +
			     UINT8_MAX * sizeof(struct io_uring_probe_op)];
	} u;
	int error;

	memset(&u, 0, sizeof(u));
	error = io_uring_register_probe(ring, &u.probe, UINT8_MAX);
	if (error < 0)
		return error;
	caps->missing = ringtls__uring_missing(&u.probe);
	if (caps->missing)
		return -EOPNOTSUPP;
	caps->send_zc = io_uring_opcode_supported(&u.probe, IORING_OP_SEND_ZC);
	return 0;
}

/* Submits the one operation that is queued and gives its result, or the ring's own
 * failure: then the entry may still be in the queue, and the ring is no good. */
static int run_one(struct io_uring *ring, int *ret_res)
{
	struct io_uring_cqe *cqe;
	int res;

	do {
		res = io_uring_submit_and_wait(ring, 1);
	} while (res == -EINTR);
	if (res < 0)
		return res;
	do {
		res = io_uring_wait_cqe(ring, &cqe);
	} while (res == -EINTR);
	if (res < 0)
		return res;
	*ret_res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return 0;
}

/* A filter may allow the set-up and refuse io_uring_enter: one no-op tells. */
static int check_enter(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	int error, res = 0;

	if (!sqe)
		return -ENOMEM;
	io_uring_prep_nop(sqe);
	error = run_one(ring, &res);
	return error ? error : res;
}

/*
 * Sets an option that is set already, on a socket of ours. The fields of the entry
 * are those of Linux 6.7, under the names that liburing 2.3 had for their places.
 */
static int check_socket_cmd(struct io_uring *ring, struct ringtls__uring_caps *caps)
{
	enum { CMD_SETSOCKOPT = 3 }; /* SOCKET_URING_OP_SETSOCKOPT, not in liburing 2.3 */
	const uint32_t level_and_name[] = { SOL_SOCKET, SO_KEEPALIVE };
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	int error, value = 0, res = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	error = -ENOMEM;
	if (sqe) {
		io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
		sqe->cmd_op = CMD_SETSOCKOPT;
		memcpy(&sqe->addr, level_and_name, sizeof(sqe->addr));
		sqe->file_index = sizeof(value); /* optlen */
		sqe->addr3 = (uintptr_t)&value;  /* optval */
		error = run_one(ring, &res);
	}
	close(fd);
	caps->socket_cmd = !error && res == 0;
	return error;
}

int ringtls__uring_open(struct io_uring *ret_ring, unsigned entries,
			struct ringtls__uring_caps *ret_caps, const struct ringtls__sys *sys)
{
	struct ringtls__uring_caps caps = { .error = 0 };

	caps.error = set_up(ret_ring, entries, &caps, sys);
	if (!caps.error) {
		caps.error = check_opcodes(ret_ring, &caps);
		if (!caps.error)
			caps.error = check_enter(ret_ring);
		if (!caps.error)
			caps.error = check_socket_cmd(ret_ring, &caps);
		if (caps.error)
			io_uring_queue_exit(ret_ring);
	}
	caps.reason = ringtls__uring_reason(caps.error);
	*ret_caps = caps;
	return caps.error;
}
