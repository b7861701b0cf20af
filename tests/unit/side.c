/* side.c - see side.h. */
#include "support.h"
#include "side.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>
#include <openssl/err.h>

/* Both ways alike: a caller clears the queue, as SSL_get_error(3) asks for. */
static void before(void)
{
	ERR_clear_error();
	errno = 0;
}

static struct answer answer(struct pair *p, long ret)
{
	struct answer a = { .ret = ret };
	int err_no = errno;

	a.error = p->conn ? ringtls_get_error(p->conn, (int)ret) : SSL_get_error(p->ours, (int)ret);
	if (a.error == SSL_ERROR_SYSCALL)
		a.err_no = err_no;
	if (a.error == SSL_ERROR_SSL)
		a.reason = ERR_GET_REASON(ERR_peek_last_error());
	return a;
}

struct answer side_handshake(struct pair *p)
{
	before();
	return answer(p, p->conn ? ringtls_handshake(p->conn) : SSL_do_handshake(p->ours));
}

struct answer side_write(struct pair *p, const void *buf, int num)
{
	before();
	return answer(p, p->conn ? ringtls_write(p->conn, buf, num) : SSL_write(p->ours, buf, num));
}

struct answer side_write_ex(struct pair *p, const void *buf, size_t num, size_t *ret_written)
{
	before();
	return answer(p, p->conn ? ringtls_write_ex(p->conn, buf, num, ret_written) :
				   SSL_write_ex(p->ours, buf, num, ret_written));
}

struct answer side_read(struct pair *p, void *buf, int num)
{
	before();
	return answer(p, p->conn ? ringtls_read(p->conn, buf, num) : SSL_read(p->ours, buf, num));
}

struct answer side_shutdown(struct pair *p)
{
	before();
	return answer(p, p->conn ? ringtls_shutdown(p->conn) : SSL_shutdown(p->ours));
}

static struct answer stock_sendfile(struct pair *p, int file, off_t offset, size_t size)
{
	static uint8_t bytes[SIDE_FILE_MAX];
	ssize_t n;

	if (size > sizeof(bytes))
		size = sizeof(bytes);
	n = offset < 0 ? -1 : pread(file, bytes, size, offset);
	if (offset < 0)
		errno = EINVAL;
	if (n < 0)
		return (struct answer){ .ret = -1, .error = SSL_ERROR_SYSCALL, .err_no = errno };
	if (n == 0)
		return (struct answer){ .ret = 0, .error = SSL_ERROR_NONE };
	return side_write(p, bytes, (int)n);
}

struct answer side_sendfile(struct pair *p, int file, off_t offset, size_t size)
{
	struct answer a;

	before();
	if (!p->conn)
		return stock_sendfile(p, file, offset, size);
	a = answer(p, ringtls_sendfile(p->conn, file, offset, size, 0));
	if (a.ret == 0) /* the file's end, which ringtls_get_error() has no part in */
		a.error = SSL_ERROR_NONE;
	return a;
}

struct answer side_key_update(struct pair *p, int type)
{
	int r;

	before();
	if (p->conn) {
		r = ringtls_conn_key_update(p->conn, type);
		return (struct answer){ .ret = r < 0 ? -1 : 1,
					.error = r < 0 ? SSL_ERROR_SSL : SSL_ERROR_NONE };
	}
	if (!SSL_in_init(p->ours) && SSL_key_update(p->ours, type) != 1)
		return (struct answer){ .ret = -1, .error = SSL_ERROR_SSL };
	return answer(p, SSL_do_handshake(p->ours));
}

bool answer_is_want(const struct answer *a)
{
	return a->error == SSL_ERROR_WANT_READ || a->error == SSL_ERROR_WANT_WRITE;
}

const char *side_error_name(int error)
{
	static const char *const names[] = {
		"NONE",        "SSL",         "WANT_READ",    "WANT_WRITE", "WANT_X509_LOOKUP",
		"SYSCALL",     "ZERO_RETURN", "WANT_CONNECT", "WANT_ACCEPT", "WANT_ASYNC",
		"WANT_ASYNC_JOB", "WANT_CLIENT_HELLO_CB", "WANT_RETRY_VERIFY",
	};

	return error >= 0 && error <= 12 ? names[error] : "?";
}

const char *answer_text(const struct answer *a)
{
	static char texts[4][160];
	static unsigned next;
	char *text = texts[next++ % 4];
	const char *reason = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, a->reason));

	snprintf(text, sizeof(texts[0]), "%ld SSL_ERROR_%s%s%s", a->ret, side_error_name(a->error),
		 a->err_no || a->reason ? " " : "",
		 a->err_no ? strerror(a->err_no) : !a->reason ? "" : reason ? reason : "?");
	return text;
}
