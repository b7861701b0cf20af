/* api.c - the calls on a connection that are not writes. */
#include "config.h"
#include "keylog.h"
#include "opts.h"
#include "probe.h"
#include "session.h"

#include <errno.h>
#include <string.h>
#include <openssl/err.h>

/* ---- Keys --------------------------------------------------------------- */

int ringtls_ctx_prepare(struct ssl_ctx_st *ctx)
{
	return ringtls__ctx_prepare(ctx, ringtls__bios_secret);
}

int ringtls_conn_key_update(struct ringtls_conn *c, int type)
{
	int r;

	if (!c->is_settled || c->closing != OPEN || c->tx.state == RINGTLS__TX_FAILED ||
	    SSL_version(c->ssl) != TLS1_3_VERSION)
		return RINGTLS_E_STATE;
	if (c->bios.keyed && ringtls__bios_rekey(&c->bios) == RINGTLS__REKEY_NO)
		return RINGTLS_E_REKEY;
	r = ringtls__push_key_update(c, type);
	if (r >= 0)
		r = ringtls__drive(c);
	return r < 0 && r != -EAGAIN ? r : 0;
}

/* ---- Information ------------------------------------------------------- */

/* Why OpenSSL did not offer a key, now that the cipher is known. */
static uint32_t why_not_offered(const struct ringtls_conn *c)
{
	static const char *const aeads[] = { "AESGCM", "CHACHA20/POLY1305", "AESCCM" };
	int version = SSL_version(c->ssl);
	char text[256];
	bool aead = false;

	if (version != TLS1_2_VERSION && version != TLS1_3_VERSION)
		return RINGTLS_REASON_VERSION;
	SSL_CIPHER_description(SSL_get_current_cipher(c->ssl), text, sizeof(text));
	for (size_t i = 0; i < sizeof(aeads) / sizeof(aeads[0]); i++)
		aead |= strstr(text, aeads[i]) != NULL;
	/* CCM-8, 256-bit CCM, and CCM in TLS 1.3 before OpenSSL 3.2 are never offered. */
	if (!aead || strstr(text, "AESCCM"))
		return RINGTLS_REASON_CIPHER;
	return RINGTLS_REASON_RECORDS;
}

static uint32_t why(const struct ringtls_conn *c, int *ret_errno)
{
	uint32_t reason = c->reason;

	*ret_errno = c->reason_errno;
	if (!SSL_is_init_finished(c->ssl) && !c->is_settled)
		return RINGTLS_REASON_HANDSHAKE;
	if (c->tx.install_error) {
		*ret_errno = -c->tx.install_error;
		return RINGTLS_REASON_INSTALL;
	}
	/* Where the kernel lane was not wanted, nothing but the key stands in the way. */
	if (c->bios.keyed || (reason && reason != RINGTLS_REASON_CHEAPER &&
			      reason != RINGTLS_REASON_PROMOTION))
		return reason;
	if (!c->bios.refused)
		return why_not_offered(c);
	*ret_errno = -ringtls__probe_tx(ringtls__probe_get(), c->bios.version, c->bios.cipher,
					&reason);
	return reason;
}

static uint64_t count_records(const struct ringtls_conn *c)
{
	struct ringtls__op op = { .kind = RINGTLS__OP_OUTPUT,
				  .fd = c->fd,
				  .has = &c->tx.info };

	/* The kernel's own count: it may close a record early. */
	if (c->tx.info.version)
		ringtls__control_run(&op, c->engine->sys);
	return c->bios.records + ringtls__tx_records(&c->tx, op.records);
}

int ringtls_conn_get_info(const struct ringtls_conn *c, struct ringtls_conn_info *ret_info)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
	struct ringtls_conn_info info = {
		.size = sizeof(info),
		.lane = c->lane,
		.error = c->tx.error,
		.bytes = c->tx.app_bytes,
		.records = count_records(c),
		.ops = c->tx.ops,
		.short_sends = c->tx.short_sends,
		.waits = c->waits,
		.epochs = c->tx.epochs,
	};

	info.reason = why(c, &info.reason_errno);
	if (cipher && SSL_is_init_finished(c->ssl)) {
		info.version = (uint16_t)SSL_version(c->ssl);
		info.cipher = SSL_CIPHER_get_protocol_id(cipher);
	}
	return ringtls__info_give(ret_info, &ret_info->size, &info, sizeof(info));
}

/* ---- The rest of the family -------------------------------------------- */

int ringtls_get_error(const struct ringtls_conn *c, int ret)
{
	return ret > 0 ? SSL_ERROR_NONE : c->error;
}

int ringtls_handshake(struct ringtls_conn *c)
{
	if (c->tx.state == RINGTLS__TX_FAILED)
		return ringtls__failed(c, c->tx.error);
	return ringtls__handshake(c);
}

struct read_args {
	void *buf;
	size_t num;
	size_t got;
};

static int do_read_early(struct ringtls_conn *c, void *arg)
{
	struct read_args *a = arg;

	return SSL_read_early_data(c->ssl, a->buf, a->num, &a->got);
}

static int do_read_ex(struct ringtls_conn *c, void *arg)
{
	struct read_args *a = arg;

	return SSL_read_ex(c->ssl, a->buf, a->num, &a->got);
}

/* Its 0 is more than an orderly end: it is OpenSSL's to give. */
static int do_read(struct ringtls_conn *c, void *arg)
{
	const struct read_args *a = arg;

	return SSL_read(c->ssl, a->buf, (int)a->num);
}

/* A named lane that was not had fails here too: a read may finish the handshake. */
static int read_call(struct ringtls_conn *c, ringtls__ssl_call *call, struct read_args *a)
{
	int r;

	if (!c->is_settled && !c->is_dead) {
		r = ringtls_handshake(c);
		if (r <= 0)
			return r;
	}
	return ringtls__pump_read(c, call, a);
}

int ringtls_read_early_data(struct ringtls_conn *c, void *buf, size_t num, size_t *ret_read)
{
	struct read_args a = { buf, num, 0 };
	int r = ringtls__pump_read(c, do_read_early, &a);

	if (r <= 0)
		return SSL_READ_EARLY_DATA_ERROR;
	*ret_read = a.got;
	return r;
}

int ringtls_read_ex(struct ringtls_conn *c, void *buf, size_t num, size_t *ret_read)
{
	struct read_args a = { buf, num, 0 };

	if (read_call(c, do_read_ex, &a) <= 0)
		return 0;
	*ret_read = a.got;
	return 1;
}

int ringtls_read(struct ringtls_conn *c, void *buf, int num)
{
	struct read_args a = { buf, (size_t)num, 0 };

	if (num < 0)
		return ringtls__refused(c, SSL_R_BAD_LENGTH);
	return read_call(c, do_read, &a);
}

/* SSL_shutdown's 0 is a success, that SSL_get_error would take for a failure. */
static int do_shutdown(struct ringtls_conn *c, void *arg)
{
	int *ret_answer = arg;

	*ret_answer = SSL_shutdown(c->ssl);
	return *ret_answer < 0 ? -1 : 1;
}

static int pump_shutdown(struct ringtls_conn *c, int *ret_answer)
{
	int r = ringtls__pump(c, do_shutdown, ret_answer);

	/* What SSL_get_error(3) says of 0. */
	if (r > 0 && *ret_answer == 0)
		c->error = SSL_ERROR_SYSCALL;
	return r;
}

static int start_close(struct ringtls_conn *c)
{
	int r;

	/* As OpenSSL, before it sees it: the handshake can go on. */
	if (SSL_in_init(c->ssl))
		return ringtls__refused(c, SSL_R_SHUTDOWN_WHILE_IN_INIT);
	r = pump_shutdown(c, &c->close_answer);
	if (r < 0)
		return r;
	c->closing = CLOSING;
	r = ringtls__txq_close(&c->tx.q);
	if (r < 0)
		ringtls__tx_fail(&c->tx, r);
	return 1;
}

/* close_notify is queued: told once it, and all before it, is in TCP. */
static int finish_close(struct ringtls_conn *c)
{
	int r = ringtls__drive(c);

	if (r == 0 && c->bios.own) {
		c->bios.is_behind = false;
		r = ringtls__own_flush(&c->bios);
	}
	if (r == -EAGAIN)
		return ringtls__want(c, SSL_ERROR_WANT_WRITE);
	if (r < 0)
		return ringtls__failed(c, r);
	c->closing = CLOSED;
	c->error = c->close_answer ? SSL_ERROR_NONE : SSL_ERROR_SYSCALL; /* as SSL_get_error */
	return c->close_answer;
}

int ringtls_shutdown(struct ringtls_conn *c)
{
	int answer, r;

	if (c->tx.state == RINGTLS__TX_FAILED)
		return ringtls__failed(c, c->tx.error);
	if (c->closing == CLOSED) {
		r = pump_shutdown(c, &answer);
		return r < 0 ? r : answer;
	}
	if (c->closing == OPEN) {
		r = c->requests.head ? ringtls__may_call(c) : 1;
		if (r > 0)
			r = start_close(c);
		if (r <= 0)
			return r;
	}
	return finish_close(c);
}
