/*
 * opener.h - opens records as a peer would, with nothing of the library's in it:
 * what a test reads back from sealed bytes owes nothing to the code under test.
 */
#ifndef OPENER_H
#define OPENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <openssl/evp.h>
#include "seal.h"

#define OPENER_ROOM (64 * 1024)

struct opener {
	EVP_CIPHER_CTX *ctx;
	uint16_t version, cipher;
	uint8_t key[32], iv[12]; /* salt and iv */
	uint64_t seq;
	uint8_t bytes[OPENER_ROOM]; /* what came and was not opened yet */
	size_t len;

	/* The last record. */
	uint8_t type;
	uint8_t text[RINGTLS__RECORD_MAX + 256];
	size_t text_len;
};

/* Starts from the key's record number; what was fed and not opened stays. */
void opener_set_key(struct opener *o, const struct ringtls__key *key);
void opener_fini(struct opener *o);

/* Asserts that there is room. */
void opener_feed(struct opener *o, const void *bytes, size_t len);

/* Opens the next record. False when it is not complete; asserts that it is well
 * formed and authentic. */
bool opener_next(struct opener *o);

#endif
