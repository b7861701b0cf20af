/* attach.c - a connection's life: which lanes it may have, its BIOs, and its end. */
#include "config.h"
#include "keylog.h"
#include "opts.h"
#include "probe.h"
#include "session.h"
#include "wipe.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

/* ---- Which lanes there are --------------------------------------------- */

/* 1: a TCP socket, 0: another stream, or a negated errno. */
static int is_tcp(struct ringtls_engine *e, int fd)
{
	int type = 0, protocol = 0, r;
	socklen_t len = sizeof(type);

	r = e->sys->getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
	if (r < 0)
		return r;
	if (type != SOCK_STREAM)
		return -EPROTOTYPE;
	len = sizeof(protocol);
	r = e->sys->getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
	return r < 0 ? r : protocol == IPPROTO_TCP;
}

/* What stands in the way of taking keys at all, or NONE. */
static uint32_t no_keys(struct ringtls_conn *c, uint32_t reneg)
{
	if (c->asked == RINGTLS_LANE_OPENSSL)
		return RINGTLS_REASON_ASKED;
	if (reneg == RINGTLS_RENEG_SERVE)
		return RINGTLS_REASON_RENEGOTIATION;
	/* A KeyUpdate makes OpenSSL offer a key, where it offers the next ones at all. */
	c->is_late = SSL_is_init_finished(c->ssl);
	if (c->is_late &&
	    (SSL_version(c->ssl) != TLS1_3_VERSION || !ringtls__ossl_offers_next_keys()))
		return RINGTLS_REASON_ATTACHED_LATE;
	return ringtls__ossl_selftest();
}

/* What stands in the way of the kernel lane for every cipher, or NONE. */
static uint32_t no_kernel(struct ringtls_conn *c, int tcp)
{
	const struct ringtls__probe *probe = ringtls__probe_get();
	uint32_t reason = RINGTLS_REASON_NONE;

	if (!tcp)
		return RINGTLS_REASON_NOT_A_SOCKET;
	if (c->asked == RINGTLS_LANE_AUTO && EVP_default_properties_is_fips_enabled(NULL))
		return RINGTLS_REASON_FIPS;
	if (probe->pair || probe->ulp)
		c->reason_errno = -ringtls__probe_tx(probe, probe->tx[0].version,
						     probe->tx[0].cipher, &reason);
	return reason;
}

static ringtls__key_mask kernel_mask(void)
{
	const struct ringtls__probe *probe = ringtls__probe_get();
	ringtls__key_mask mask = RINGTLS__KEYS_NONE;

	for (size_t i = 0; i < RINGTLS__PROBE_TX; i++)
		if (!probe->tx[i].result)
			mask |= ringtls__key_bit(probe->tx[i].version, probe->tx[i].cipher);
	return mask;
}

static void seal_ourselves(struct ringtls_conn *c)
{
	c->bios.mask = RINGTLS__KEYS_ALL;
	c->bios.may_rekey = true;
}

static void let_the_kernel_seal(struct ringtls_conn *c)
{
	c->bios.mask = kernel_mask();
	c->bios.may_rekey = !ringtls__probe_get()->rekey;
	c->tx.want_kernel = true;
	c->tx.may_fall_back = c->asked == RINGTLS_LANE_AUTO;
}

/* What stands in the way of the kernel lane of a connection that may have keys. */
static uint32_t why_not_kernel(struct ringtls_conn *c, int tcp)
{
	uint32_t reason;

	if (c->asked == RINGTLS_LANE_USER)
		return RINGTLS_REASON_ASKED;
	reason = no_kernel(c, tcp);
	if (reason || c->asked == RINGTLS_LANE_KERNEL)
		return reason;
	if (c->promote_after)
		return RINGTLS_REASON_PROMOTION;
	/* Measured: doc/performance.md. */
	if (!(c->engine->opts.flags & RINGTLS_ENGINE_PREFER_KERNEL))
		return RINGTLS_REASON_CHEAPER;
	return RINGTLS_REASON_NONE;
}

/* Sets what the BIO may take and what becomes of it, before OpenSSL offers a key. */
static int choose(struct ringtls_conn *c, uint32_t reneg, int tcp)
{
	bool named = c->asked == RINGTLS_LANE_KERNEL || c->asked == RINGTLS_LANE_USER;

	c->reason = no_keys(c, reneg);
	if (c->reason)
		return named ? RINGTLS_E_LANE : 0;
	c->reason = why_not_kernel(c, tcp);
	if (c->reason && c->asked == RINGTLS_LANE_KERNEL)
		return RINGTLS_E_LANE;
	c->tx.keeps_key = c->reason == RINGTLS_REASON_PROMOTION;
	if (c->reason)
		seal_ourselves(c);
	else
		let_the_kernel_seal(c);
	return 0;
}

/* ---- Connection -------------------------------------------------------- */

/* The SSL keeps its BIOs. One of them may be anything: only OpenSSL can seal for it. */
static int attach_own(struct ringtls_conn *c)
{
	if (!SSL_get_rbio(c->ssl) || !SSL_get_wbio(c->ssl))
		return -EINVAL;
	if (c->asked == RINGTLS_LANE_KERNEL || c->asked == RINGTLS_LANE_USER)
		return RINGTLS_E_LANE;
	c->reason = c->asked == RINGTLS_LANE_OPENSSL ? RINGTLS_REASON_ASKED
						     : RINGTLS_REASON_NOT_A_SOCKET;
	ringtls__tx_init(&c->tx, -1, &c->engine->pool);
	return ringtls__bios_attach_own(&c->bios, c->ssl, &c->engine->pool);
}

/* Bytes that wait in a BIO which goes (BIO_f_buffer has such) would be lost; and one on
 * another descriptor is a mistake: what it is for would be done on ours. */
static int check_bio(BIO *bio, int fd)
{
	int its = -1;

	if (!bio)
		return 0;
	if (BIO_get_fd(bio, &its) >= 0 && its != fd)
		return -EINVAL;
	return BIO_pending(bio) > 0 || BIO_wpending(bio) > 0 ? RINGTLS_E_STATE : 0;
}

/* OpenSSL gave its key to the kernel, for good: so there is one lane. */
static int adopt(struct ringtls_conn *c, uint32_t reneg)
{
	const struct ringtls__probe *probe = ringtls__probe_get();
	struct ringtls__op op = {.fd = c->fd};
	struct tls_crypto_info info;
	int version = SSL_version(c->ssl), r;

	if (!SSL_is_init_finished(c->ssl) || SSL_want_write(c->ssl))
		return RINGTLS_E_STATE;
	if (c->asked == RINGTLS_LANE_USER || c->asked == RINGTLS_LANE_OPENSSL ||
	    (reneg == RINGTLS_RENEG_SERVE && version != TLS1_3_VERSION) ||
	    ringtls__ossl_selftest() != RINGTLS_REASON_NONE)
		return RINGTLS_E_LANE;
	r = ringtls__control_adopt(&op, &info, c->engine->sys);
	if (r < 0)
		return r;
	c->bios.version = info.version;
	c->bios.cipher = info.cipher_type;
	c->bios.mask = ringtls__key_bit(c->bios.version, c->bios.cipher);
	c->bios.may_rekey = !probe->rekey && version == TLS1_3_VERSION;
	c->bios.keyed = true;
	c->tx.want_kernel = true;
	ringtls__tx_adopt(&c->tx, &info, &op);
	c->is_settled = true;
	c->lane = RINGTLS_LANE_KERNEL;
	return 0;
}

static bool sends_over_ktls(const SSL *ssl)
{
	return SSL_get_wbio(ssl) && BIO_get_ktls_send(SSL_get_wbio(ssl));
}

static bool receives_over_ktls(const SSL *ssl)
{
	return SSL_get_rbio(ssl) && BIO_get_ktls_recv(SSL_get_rbio(ssl));
}

/* What was read ahead would be lost by the next key, see read_no_further in stream.c. */
static int check_read_ahead(const struct ringtls_conn *c)
{
	bool asks_for_keys = c->bios.mask || (SSL_get_options(c->ssl) & SSL_OP_ENABLE_KTLS);

	return asks_for_keys && SSL_get_read_ahead(c->ssl) && SSL_has_pending(c->ssl) ?
		       RINGTLS_E_STATE :
		       0;
}

static int take_lane(struct ringtls_conn *c, uint32_t reneg, int tcp)
{
	int r = sends_over_ktls(c->ssl) ? adopt(c, reneg) : choose(c, reneg, tcp);

	return r < 0 ? r : check_read_ahead(c);
}

static int attach(struct ringtls_conn *c, uint32_t reneg)
{
	struct ringtls_engine *e = c->engine;
	int tcp = c->fd == -1 ? 0 : is_tcp(e, c->fd), r;

	if (tcp < 0)
		return tcp;
	if (ringtls__bios_are_of(c->ssl))
		return RINGTLS_E_STATE;
	/* The kernel seals on a socket, and only there we know how. */
	if (c->fd == -1 && sends_over_ktls(c->ssl))
		return RINGTLS_E_STATE;
	if (c->fd == -1)
		return attach_own(c);
	c->bios.receives = receives_over_ktls(c->ssl);
	if (c->bios.receives && !SSL_is_init_finished(c->ssl))
		return RINGTLS_E_STATE;
	r = check_bio(SSL_get_rbio(c->ssl), c->fd);
	if (r == 0)
		r = check_bio(SSL_get_wbio(c->ssl), c->fd);
	if (r < 0)
		return r;
	ringtls__tx_init(&c->tx, c->fd, &e->pool);
	r = take_lane(c, reneg, tcp);
	if (r < 0)
		return r;
	if (c->tx.want_kernel && !c->bios.keyed)
		ringtls__attach_ulp(c->fd, e->sys);
	return ringtls__bios_attach(&c->bios, c->ssl, c->fd, &e->pool, e->sys);
}

static void set_options(struct ringtls_conn *c, uint32_t reneg)
{
	uint64_t before = SSL_get_options(c->ssl), options = 0;

	if (c->bios.mask)
		options |= SSL_OP_ENABLE_KTLS;
	/* From 3.2 on OpenSSL does not set this for a key that only we have. */
	if (reneg != RINGTLS_RENEG_SERVE)
		options |= SSL_OP_NO_RENEGOTIATION;
	c->added_options = options & ~before;
	SSL_set_options(c->ssl, options);
}

/* With the engine's where the caller leaves the choice. 0 or -EINVAL. */
static int take_opts(struct ringtls_conn_opts *ret, const struct ringtls_conn_opts *opts,
		     const struct ringtls_engine *e, int fd)
{
	int r = ringtls__opts_take(ret, sizeof(*ret), opts, opts ? opts->size : 0);

	if (r < 0)
		return r;
	if (ret->lane > RINGTLS_LANE_OPENSSL || ret->renegotiation > RINGTLS_RENEG_SERVE ||
	    (ret->fixed_file && (!e->opts.ring || fd == -1)))
		return -EINVAL;
	if (!ret->lane)
		ret->lane = e->opts.lane;
	if (!ret->renegotiation)
		ret->renegotiation = e->opts.renegotiation;
	if (ret->lane) /* a named lane becomes no other */
		return ret->promote_after ? -EINVAL : 0;
	if (!ret->promote_after)
		ret->promote_after = e->opts.promote_after;
	return 0;
}

int ringtls_conn_new(struct ringtls_conn **ret_conn, struct ringtls_engine *e, struct ssl_st *ssl,
		     int fd, const struct ringtls_conn_opts *opts)
{
	struct ringtls_conn_opts o;
	struct ringtls_conn *c;
	int r = take_opts(&o, opts, e, fd);

	if (r < 0)
		return r;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->engine = e;
	c->ssl = ssl;
	c->fd = fd;
	c->asked = (uint8_t)o.lane;
	c->promote_after = o.promote_after;
	r = attach(c, o.renegotiation);
	if (r < 0) {
		free(c);
		return r;
	}
	SSL_up_ref(ssl); /* freed too early by the caller, it would take our BIOs along */
	c->tx.max_records = o.max_records;
	ringtls__requests_init(&c->requests, o.max_requests);
	set_options(c, o.renegotiation);
	ringtls__waiter_init(&c->waiter, fd, o.user);
	c->waiter.fixed_file = o.fixed_file;
	c->fetched = -1;
	e->connections++;
	*ret_conn = c;
	return 0;
}

/* What is in flight reads memory that is the caller's, or is freed here. */
static int end_ops(struct ringtls_conn *c)
{
	int read = ringtls__requests_end_read(c), op = ringtls__end_op(c);
	int waits = ringtls__waiter_disarm(c->engine, &c->waiter);

	return read < 0 ? read : op < 0 ? op : waits;
}

/* Nothing is in flight, and the SSL has its BIOs, or none. */
static void end(struct ringtls_conn *c)
{
	ringtls__requests_fini(c);
	ringtls__waiter_fini(c->engine, &c->waiter);
	ringtls__tx_fini(&c->tx);
	/* A socket with a key keeps OpenSSL to what goes with it. */
	if (!c->bios.keyed) {
		SSL_clear_options(c->ssl, c->added_options);
		if (c->no_read_ahead)
			SSL_set_read_ahead(c->ssl, 1);
	}
	SSL_free(c->ssl);
	ringtls__wipe_stack();
	c->engine->connections--;
	free(c);
}

int ringtls_conn_free(struct ringtls_conn *c)
{
	int r;

	if (!c)
		return 0;
	c->is_ending = true; /* what ends from now on starts nothing new */
	r = end_ops(c);
	if (r < 0)
		return r;
	ringtls__bios_detach(&c->bios, c->ssl);
	end(c);
	return 0;
}

/* ---- Giving it back ---------------------------------------------------- */

/* OpenSSL must have the whole truth: nothing that it, or the caller, will say again. */
static int may_detach(const struct ringtls_conn *c)
{
	if (c->tx.state == RINGTLS__TX_FAILED)
		return c->tx.error;
	if (c->is_dead)
		return RINGTLS_E_TLS;
	if (c->closing != OPEN || c->bios.ending || c->call.kind != RINGTLS__CALL_NONE)
		return RINGTLS_E_STATE;
	return 0;
}

/*
 * In the user lane only we know the number of the next record, and no OpenSSL can be told
 * it; nor does one ever seal again by itself once it has handed over a key: when the next
 * is refused, the connection fails (SSL_R_NO_SUITABLE_RECORD_LAYER).
 */
static int lane_lets_go(const struct ringtls_conn *c)
{
	if (c->tx.state != RINGTLS__TX_CLEAR && c->tx.state != RINGTLS__TX_KERNEL)
		return RINGTLS_E_DETACH;
	return c->bios.keyed || c->bios.receives ? ringtls__ossl_selftest_flags() : 0;
}

/* What may lack memory comes first: who lives on must still hear of what it waits for. */
static int give_back(struct ringtls_conn *c)
{
	BIO *bio;
	int r = ringtls__bios_make_openssls(&c->bios, &bio);

	if (r < 0)
		return r;
	r = end_ops(c);
	if (r < 0) {
		BIO_free(bio);
		return r;
	}
	ringtls__bios_give_back(&c->bios, c->ssl, bio);
	end(c);
	return 0;
}

int ringtls_conn_detach(struct ringtls_conn *c)
{
	int r = may_detach(c);

	if (r < 0)
		return r;
	/* OpenSSL's own answer, over a kernel's key, is not right on every version. */
	ringtls__answer_key_update(c);
	r = ringtls__drive(c);
	if (r == 0)
		r = may_detach(c);
	if (r == 0)
		r = lane_lets_go(c);
	if (r == 0 && ringtls__requests_untold(c))
		r = -EBUSY;
	return r == 0 ? give_back(c) : r;
}
