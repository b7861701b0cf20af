/*
 * tx.h - the transmit side of a connection: what the state machine (conn.c) and
 * the lanes share. No ring, socket or clock is used by either: they fill ops and
 * take answers back.
 */
#ifndef RINGTLS_TX_H
#define RINGTLS_TX_H

#include <stdbool.h>
#include <stdint.h>
#include "op.h"
#include "seal.h"
#include "txq.h"

enum ringtls__tx_state {
	RINGTLS__TX_CLEAR,      /* no key of ours: only OpenSSL's own bytes go out */
	RINGTLS__TX_ULP,        /* a key is at the head: asking for the kernel's TLS */
	RINGTLS__TX_KEY,        /* handing it the key: behind this there is no way back */
	RINGTLS__TX_KERNEL,     /* the kernel seals: only now may plaintext go out */
	RINGTLS__TX_COUNT,      /* near the key's limit: asking how many records it sealed */
	RINGTLS__TX_REKEY,      /* handing it the next key */
	RINGTLS__TX_USER,       /* we seal */
	RINGTLS__TX_DRAIN,      /* closing: asking whether TCP has every record */
	RINGTLS__TX_DRAIN_WAIT, /* closing: not yet, so wait a little */
	RINGTLS__TX_CLOSED,     /* all is out, nothing may follow */
	RINGTLS__TX_FAILED,     /* see error; nothing may follow */
	RINGTLS__TX_STATES
};

/* Sealed records that are not sent yet (user lane). */
struct ringtls__out {
	uint8_t *bytes; /* pool memory, or NULL while there are none */
	size_t start, end;
};

/* Every connection has one, busy or idle: so what is small stands together. */
struct ringtls__tx {
	enum ringtls__tx_state state;
	int fd;
	struct ringtls__txq q;
	bool in_flight; /* one op at a time */
	bool rekey_due; /* application bytes wait for the next key */

	/* Policy, set before the first key. */
	bool want_kernel;   /* try the kernel with a key; else seal it ourselves */
	bool may_fall_back; /* a late refusal goes on in the user lane; else it is an error */
	bool keeps_key;	    /* it may be promoted: the kernel may get the sealer's key */

	bool is_promoting; /* that key is at the head of the queue */
	bool is_adopted;   /* what the kernel held back at tcp_base is not known */
	bool is_counted;   /* records_bound is the exact number */

	/* The kernel's epoch. */
	struct tls_crypto_info info; /* of its key, which is not here any more; 0: none yet */
	uint16_t drain_tries;
	uint16_t drain_still;	 /* of those, how many in a row saw nothing move */
	uint64_t drain_given;	 /* what the last try saw */
	uint64_t tcp_base;	 /* TCP's bytes when the first key was installed */
	uint64_t plain;		 /* bytes given to the kernel's TLS since then */
	uint64_t first_record;	 /* number of the epoch's first record */
	uint64_t records_before; /* records of earlier epochs, all lanes */
	uint64_t kernel_records; /* of those, the kernel's */
	uint64_t sealed_before;	 /* records that its key had sealed when it became ours */

	/* How many records a key may seal (RFC 8446 5.5). */
	uint64_t max_records;	/* the caller's wish, or 0 */
	uint64_t record_limit;	/* of this epoch; 0: none but the sequence number's */
	uint64_t records_bound; /* KERNEL: no more were sealed in this epoch */

	/* The user lane's. */
	struct ringtls__sealer *sealer;
	uint64_t first_sealed;	   /* number of the sealer's first record */
	struct ringtls__key *kept; /* its key, where keeps_key says so */
	struct ringtls__out out;

	int close_error;   /* what a clean close is reported as: 0, or RINGTLS_E_REKEY */
	int error;	   /* FAILED: why */
	int install_error; /* what refused the kernel lane, or 0 */
	int file_error;	   /* what ended a FILE early, until it is asked for, or 0 */

	uint64_t app_bytes; /* application bytes the kernel has */
	uint64_t app_held;  /* application bytes sealed and not all sent */
	uint64_t ops;
	uint64_t short_sends;
	uint64_t moved; /* bytes that ops moved */
	uint64_t epochs;
};

#endif
