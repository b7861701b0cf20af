/* ring.c - see ring.h. */
#include "config.h"
#include "ring.h"

#include <errno.h>

/* MSG_WAITALL is refused on a kTLS socket (kmod-notes/flags.md). */
static int send_flags(const struct ringtls__op *op)
{
	return MSG_NOSIGNAL | (op->more ? MSG_MORE : 0) |
	       (op->nowait ? MSG_DONTWAIT : op->plain ? MSG_WAITALL : 0);
}

void ringtls__ring_prep_op(struct io_uring_sqe *sqe, struct ringtls__op *op)
{
	struct iovec *iov = op->iov;

	if (op->kind == RINGTLS__OP_READ)
		io_uring_prep_read(sqe, op->file, iov->iov_base, (unsigned)iov->iov_len,
				   (uint64_t)op->offset);
	else if (op->kind == RINGTLS__OP_SEND && op->iovcnt == 1)
		io_uring_prep_send(sqe, op->fd, iov->iov_base, iov->iov_len, send_flags(op));
	else
		io_uring_prep_sendmsg(sqe, op->fd, &op->msg, (unsigned)send_flags(op));
}

void ringtls__ring_prep_wait(struct io_uring_sqe *sqe, struct ringtls__wait *wait)
{
	if (wait->events)
		io_uring_prep_poll_add(sqe, ringtls__waiter_of(wait)->fd, (unsigned)wait->events);
	else
		io_uring_prep_timeout(sqe, (void *)&wait->u.time.ts, 0, 0);
}

/* Before 6.1.191, 6.12.115 and 7.3.2 the kernel's own codes for "interrupted, try
 * again" could come through. */
int ringtls__ring_result(int res)
{
	return res <= -512 && res >= -516 ? -EINTR : res;
}

ssize_t ringtls__ring_try(struct ringtls_engine *e, struct ringtls__op *op)
{
	off_t offset = op->offset;

	e->transmit_calls++;
	if (op->kind == RINGTLS__OP_SENDFILE)
		return e->sys->sendfile(op->fd, op->file, &offset, op->len);
	return e->sys->sendmsg(op->fd, &op->msg, MSG_DONTWAIT | (op->more ? MSG_MORE : 0));
}

void ringtls__ring_call(struct ringtls_engine *e, struct ringtls__op *op)
{
	ringtls__op_done(e, op, ringtls__ring_try(e, op));
}
