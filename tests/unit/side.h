/*
 * side.h - our side of a pair, either way: through ringtls, or, where pair_opts say
 * is_stock, through OpenSSL alone. A test that is written with these drives both, and
 * compares. What stock OpenSSL has no call for is done as its users do it.
 */
#ifndef SIDE_H
#define SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include "pair.h"

/* What a caller sees of a call. */
struct answer {
	long ret;
	int error;  /* SSL_ERROR_* */
	int err_no; /* with SSL_ERROR_SYSCALL; else 0 */
	int reason; /* with SSL_ERROR_SSL: of the last entry in the queue; else 0 */
};

struct answer side_handshake(struct pair *p);
struct answer side_write(struct pair *p, const void *buf, int num);
struct answer side_write_ex(struct pair *p, const void *buf, size_t num, size_t *ret_written);
struct answer side_read(struct pair *p, void *buf, int num);
struct answer side_shutdown(struct pair *p);

/* Stock: pread(2), and a write of what it gave. Only repeated with the same arguments
 * until it is done, and for no more than SIDE_FILE_MAX. */
#define SIDE_FILE_MAX 300000
struct answer side_sendfile(struct pair *p, int file, off_t offset, size_t size);

/* Stock: SSL_key_update, and SSL_do_handshake until it is sent. ret is 1 or -1. */
struct answer side_key_update(struct pair *p, int type);

bool answer_is_want(const struct answer *a);

/* "-1 SSL_ERROR_SSL bad write retry", in static storage, for messages. */
const char *answer_text(const struct answer *a);
const char *side_error_name(int error);

#endif
