/*
 * promote.c - from the user lane into the kernel, on the way: the kernel goes on with the
 * sealer's key, at its next record. Nothing on the wire shows it.
 */
#include "config.h"
#include "probe.h"
#include "session.h"

#include <errno.h>

static bool is_due(const struct ringtls_conn *c)
{
	return c->is_settled && c->tx.app_bytes >= c->promote_after &&
	       ringtls__tx_may_promote(&c->tx) && !ringtls__txq_has_key(&c->bios.inbox) &&
	       !c->bios.ending && !c->bios.error && c->closing == OPEN &&
	       !(SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN);
}

/* What stands in the way, now that the cipher is known. */
static uint32_t why_not(struct ringtls_conn *c)
{
	const struct ringtls__probe *probe = ringtls__probe_get();
	uint32_t reason = RINGTLS_REASON_NONE;

	c->reason_errno = -ringtls__probe_tx(probe, c->bios.version, c->bios.cipher, &reason);
	/* Who has updated keys once will do so again, and a kernel that can't ends it then. */
	if (!reason && probe->rekey && c->tx.epochs > 1)
		reason = RINGTLS_REASON_NO_REKEY;
	return reason;
}

/* The two questions to the kernel never wait, so it is over at once. */
static void ask_the_kernel(struct ringtls_conn *c)
{
	do {
		if (ringtls__tx_next(&c->tx, c->op) <= 0)
			return;
		ringtls__engine_run(c->engine, c->op);
		ringtls__tx_complete(&c->tx, c->op);
	} while (c->tx.state == RINGTLS__TX_ULP || c->tx.state == RINGTLS__TX_KEY);
}

void ringtls__promote(struct ringtls_conn *c)
{
	if (!is_due(c))
		return;
	c->reason = why_not(c);
	if (c->reason) {
		ringtls__tx_stay(&c->tx);
		return;
	}
	if (ringtls__tx_promote(&c->tx) < 0) {
		c->tx.install_error = -ENOMEM; /* it goes on where it is */
		return;
	}
	ask_the_kernel(c);
	if (c->tx.state == RINGTLS__TX_KERNEL)
		c->bios.may_rekey = !ringtls__probe_get()->rekey;
}
