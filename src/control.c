/*
 * control.c - operations that set up or ask about a kTLS socket. None of them
 * waits, and there are a handful in a connection's life, so they are plain
 * system calls on every engine.
 */
#include "config.h"
#include "op.h"
#include "sys.h"

#include <errno.h>
#include <string.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <openssl/crypto.h>

/* The kernel's number; the name is in netinet/tcp.h, which linux/tcp.h excludes. */
#define TCP_STATE_CLOSE 7

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

void ringtls__op_msg(struct ringtls__op *op)
{
	struct cmsghdr *cmsg;

	memset(&op->msg, 0, sizeof(op->msg));
	op->msg.msg_iov = op->iov;
	op->msg.msg_iovlen = op->iovcnt;
	if (op->kind != RINGTLS__OP_RECORD)
		return;
	op->msg.msg_control = op->cmsg;
	op->msg.msg_controllen = sizeof(op->cmsg);
	cmsg = CMSG_FIRSTHDR(&op->msg);
	cmsg->cmsg_level = SOL_TLS;
	cmsg->cmsg_type = TLS_SET_RECORD_TYPE;
	cmsg->cmsg_len = CMSG_LEN(sizeof(uint8_t));
	*CMSG_DATA(cmsg) = op->record_type;
}

/* A reset leaves no error that these calls would show. */
static int tcp_info(int fd, const struct ringtls__sys *sys, uint64_t *ret_acked)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);
	int r;

	memset(&info, 0, sizeof(info));
	r = sys->getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	if (r < 0)
		return r;
	if (info.tcpi_state == TCP_STATE_CLOSE)
		return -ECONNRESET;
	*ret_acked = info.tcpi_bytes_acked;
	return 0;
}

/*
 * Acknowledged bytes leave the queue between the two questions: the sum is exact
 * when nothing was acknowledged meanwhile. An error of the base, which is taken
 * when the handshake's acknowledgements are due, would never be mended.
 */
static int tcp_bytes(struct ringtls__op *op, const struct ringtls__sys *sys)
{
	uint64_t before, after;
	int queued = 0, r;

	r = tcp_info(op->fd, sys, &after);
	for (int tries = 0; r >= 0 && tries < 1000; tries++) {
		before = after;
		r = sys->outq(op->fd, &queued);
		if (r >= 0)
			r = tcp_info(op->fd, sys, &after);
		if (r >= 0 && before == after) {
			op->queued = (uint32_t)queued;
			op->tcp_bytes = after + (uint64_t)queued;
			return 0;
		}
	}
	return r < 0 ? r : -EAGAIN;
}

/* The kernel answers with the whole structure, key included: it is erased here. */
static int records(struct ringtls__op *op, const struct ringtls__sys *sys)
{
	struct ringtls__key key = { .u.info = *op->has };
	socklen_t len = ringtls__key_len(op->has);
	int r = sys->getsockopt(op->fd, SOL_TLS, TLS_TX, &key.u, &len);

	if (r >= 0)
		op->records = ringtls__key_seq(&key);
	OPENSSL_cleanse(&key, sizeof(key));
	return r < 0 ? r : 0;
}

static int output(struct ringtls__op *op, const struct ringtls__sys *sys)
{
	int r = records(op, sys);

	return r < 0 ? r : tcp_bytes(op, sys);
}

int ringtls__control_adopt(struct ringtls__op *op, struct tls_crypto_info *ret_info,
			   const struct ringtls__sys *sys)
{
	struct tls_crypto_info info = { 0 };
	socklen_t len = sizeof(info); /* then the key is not told */
	int r = sys->getsockopt(op->fd, SOL_TLS, TLS_TX, &info, &len);

	if (r < 0)
		return r;
	if (!ringtls__key_len(&info))
		return -EINVAL;
	op->has = &info;
	r = output(op, sys);
	op->has = NULL;
	if (r >= 0)
		*ret_info = info;
	return r;
}

/* It may be there already: it is attached early, too (ringtls__attach_ulp). */
static int attach(struct ringtls__op *op, const struct ringtls__sys *sys)
{
	int r = ringtls__attach_ulp(op->fd, sys);

	return r == -EEXIST ? 0 : r;
}

int ringtls__attach_ulp(int fd, const struct ringtls__sys *sys)
{
	return sys->setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls"));
}

bool ringtls__cork(int fd, const struct ringtls__sys *sys)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (sys->getsockopt(fd, IPPROTO_TCP, TCP_CORK, &value, &len) < 0 || value)
		return false;
	value = 1;
	return sys->setsockopt(fd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value)) >= 0;
}

/* Once more if it fails, since a cork that is left passes for the caller's own for ever after,
 * and holds back the end of each write for 200 ms (tests/unit/fault_run.c: check_cork). */
void ringtls__uncork(int fd, const struct ringtls__sys *sys)
{
	const int value = 0;

	if (sys->setsockopt(fd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value)) < 0)
		sys->setsockopt(fd, IPPROTO_TCP, TCP_CORK, &value, sizeof(value));
}

static int install(struct ringtls__op *op, const struct ringtls__sys *sys)
{
	/* What can fail is asked for first: behind TLS_TX there is no way back. */
	int r = op->rekey ? output(op, sys) : tcp_bytes(op, sys);

	if (r < 0)
		return r;
	return sys->setsockopt(op->fd, SOL_TLS, TLS_TX, &op->key->u, op->key->len);
}

void ringtls__control_run(struct ringtls__op *op, const struct ringtls__sys *sys)
{
	int r = -EINVAL;

	if (op->kind == RINGTLS__OP_ULP)
		r = attach(op, sys);
	else if (op->kind == RINGTLS__OP_KEY)
		r = install(op, sys);
	else if (op->kind == RINGTLS__OP_OUTPUT)
		r = output(op, sys);
	op->res = r < 0 ? r : 0;
	op->done = true;
}
