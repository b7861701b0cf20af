/*
 * seal.h - leaf: the traffic key of an epoch, and the record sealer of the user
 * lane: RFC 8446 5.2 and 5.3, RFC 5288, RFC 6655, RFC 7905.
 */
#ifndef RINGTLS_SEAL_H
#define RINGTLS_SEAL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <linux/tls.h>

#define RINGTLS__RECORD_MAX 16384 /* plaintext bytes in a record */
#define RINGTLS__HEADER_LEN 5

enum ringtls__record_type {
	RINGTLS__RECORD_CCS = 20,
	RINGTLS__RECORD_ALERT = 21,
	RINGTLS__RECORD_HANDSHAKE = 22,
	RINGTLS__RECORD_DATA = 23,
};

/* A key as OpenSSL hands it over: the kernel's own structure, of len bytes. */
struct ringtls__key {
	union {
		struct tls_crypto_info info; /* version and cipher_type, in all of them */
		struct tls12_crypto_info_aes_gcm_128 gcm128;
		struct tls12_crypto_info_aes_gcm_256 gcm256;
		struct tls12_crypto_info_aes_ccm_128 ccm128;
		struct tls12_crypto_info_chacha20_poly1305 chacha;
	} u;
	socklen_t len;
};

/* Copies a kernel structure of unknown origin; -EINVAL when it is none of the
 * four ciphers in TLS 1.2 or 1.3. Its length follows from its cipher. */
int ringtls__key_parse(struct ringtls__key *ret_key, const void *crypto_info);
void ringtls__key_wipe(struct ringtls__key *key);

/* A copy in memory of its own, or NULL; and its end, which erases it. NULL is fine. */
struct ringtls__key *ringtls__key_copy(const struct ringtls__key *key);
void ringtls__key_free(struct ringtls__key *key);

/* Number of the next record; 0 for a key that was wiped. */
uint64_t ringtls__key_seq(const struct ringtls__key *key);

/* Sets that number, to what a sealer made of the key would have now: where nonces are carried
 * in records (TLS 1.2 GCM and CCM) the iv counts along. */
void ringtls__key_move_on(struct ringtls__key *key, uint64_t seq);

/* Of a key of that version and cipher, which is enough to know: how long the kernel's
 * structure is, and how many bytes a record is longer than its plaintext, header included.
 * 0: none of the four in TLS 1.2 or 1.3. */
socklen_t ringtls__key_len(const struct tls_crypto_info *info);
size_t ringtls__key_overhead(const struct tls_crypto_info *info);

/* Bytes of the cipher's key; 0: none of the four. */
size_t ringtls__cipher_key_len(uint16_t cipher_type);

/* A TLS 1.3 key of record number 0 from its parts, as RFC 8446 7.3 names them:
 * the cipher's key, and an iv of 12 bytes. -EINVAL: the cipher. */
int ringtls__key_make(struct ringtls__key *ret_key, uint16_t cipher_type, const uint8_t *key,
		      const uint8_t *iv);

struct ringtls__sealer;

/* Takes over the sequence number: the key must not be used elsewhere again.
 * -EINVAL for a key that was wiped, -ENOMEM, or RINGTLS_E_TLS with OpenSSL's error queue. */
int ringtls__sealer_new(struct ringtls__sealer **ret_sealer, const struct ringtls__key *key);
void ringtls__sealer_free(struct ringtls__sealer *sealer); /* NULL is fine; erases */

size_t ringtls__sealer_overhead(const struct ringtls__sealer *sealer);
uint64_t ringtls__sealer_seq(const struct ringtls__sealer *sealer);

/*
 * Seals one record of len (0 to RINGTLS__RECORD_MAX) bytes at in; out has room for
 * len plus the overhead, and does not overlap in. Returns the bytes written.
 * RINGTLS_E_TLS: the cipher failed, or the sequence number is used up; then no
 * nonce was spent on bytes that may be sent, and the sealer stays failed. Out was
 * erased if it was written to. -EINVAL: len; nothing was done.
 */
ssize_t ringtls__seal(struct ringtls__sealer *sealer, uint8_t type, const uint8_t *in, size_t len,
		      uint8_t *out);

/* The same for the bytes of iovcnt pieces, at least one: one record. */
ssize_t ringtls__sealv(struct ringtls__sealer *sealer, uint8_t type, const struct iovec *iov,
		       unsigned iovcnt, uint8_t *out);

#endif
