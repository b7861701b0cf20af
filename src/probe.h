/*
 * probe.h - leaf: what this machine's kernel can do for TLS. It asks once per
 * process, by doing it on loopback connections of its own, never by kernel
 * version, and answers from the table ever after.
 */
#ifndef RINGTLS_PROBE_H
#define RINGTLS_PROBE_H

#include <stdint.h>
#include "sys.h"

struct ringtls__probe_tx {
	uint16_t version; /* TLS_1_2_VERSION or TLS_1_3_VERSION */
	uint16_t cipher;  /* TLS_CIPHER_* of linux/tls.h */
	const char *name; /* "AES-128-GCM" */
	int result;       /* 0, or the negated errno that TLS_TX gave */
};

#define RINGTLS__PROBE_TX 8 /* four ciphers, two versions */

/*
 * A question that could not be asked has the errno of the one before it: ulp that
 * of pair, tx that of ulp, rekey that of the last TLS 1.3 entry of tx.
 */
struct ringtls__probe {
	int pair;  /* 0, or the negated errno that kept us from a loopback connection */
	int ulp;   /* 0, or the negated errno of TCP_ULP "tls" */
	int rekey; /* 0, or the negated errno of a second TLS_TX in TLS 1.3 */
	struct ringtls__probe_tx tx[RINGTLS__PROBE_TX];
};

/* Asks now. Takes a second where the packets of the loopback are dropped. */
void ringtls__probe_run(struct ringtls__probe *ret_probe, const struct ringtls__sys *sys);

/* The answer of the first call in this process; thread safe. */
const struct ringtls__probe *ringtls__probe_get(void);

/* 0 when the kernel has TLS at all, else the negated errno; *ret_reason (enum
 * ringtls_reason) says what that means. */
int ringtls__probe_ulp(const struct ringtls__probe *probe, uint32_t *ret_reason);

/* The same for keys of this cipher and version. */
int ringtls__probe_tx(const struct ringtls__probe *probe, uint16_t version, uint16_t cipher,
		      uint32_t *ret_reason);

#endif
