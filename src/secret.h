/* secret.h - leaf: the next traffic key of RFC 8446 7.2 and 7.3. */
#ifndef RINGTLS_SECRET_H
#define RINGTLS_SECRET_H

#include <stddef.h>
#include <stdint.h>
#include "seal.h"

struct ringtls__secret {
	uint8_t bytes[48];
	size_t len; /* 32: SHA-256; 48: SHA-384; 0: not known */
};

/*
 * Replaces the traffic secret by the one behind the next KeyUpdate, and makes its
 * key, for record number 0. RINGTLS_E_TLS; then the secret is as it was.
 */
int ringtls__secret_next(struct ringtls__secret *secret, uint16_t cipher_type,
			 struct ringtls__key *ret_key);

/* Erases one that is in memory of its own. NULL is fine. */
void ringtls__secret_free(struct ringtls__secret *secret);

/* HKDF-Expand-Label of RFC 8446 7.1, without context. 0 or RINGTLS_E_TLS. */
int ringtls__expand_label(const uint8_t *secret, size_t len, const char *label, uint8_t *ret_out,
			  size_t out_len);

#endif
