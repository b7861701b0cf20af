/*
 * ossl.h - leaf: our two BIOs, and how OpenSSL hands its keys to them.
 *
 * With SSL_OP_ENABLE_KTLS, OpenSSL offers each transmit key to its write BIO; a
 * BIO that takes it is from then on given plaintext records. Ours takes it when
 * it was told to beforehand. It never calls into the connection: all that OpenSSL
 * sends is appended to an inbox, which the connection empties after every call
 * into OpenSSL.
 */
#ifndef RINGTLS_OSSL_H
#define RINGTLS_OSSL_H

#include <stdbool.h>
#include <stdint.h>
#include <openssl/ssl.h>
#include "pool.h"
#include "seal.h"
#include "secret.h"
#include "sys.h"
#include "txq.h"

/* The keys that may be taken: a bit for each version and cipher. */
typedef uint32_t ringtls__key_mask;
#define RINGTLS__KEYS_NONE 0u
#define RINGTLS__KEYS_ALL  0xffu
ringtls__key_mask ringtls__key_bit(uint16_t version, uint16_t cipher); /* 0: none */

/* What becomes of a KeyUpdate of ours. */
enum ringtls__rekey {
	RINGTLS__REKEY_NO,     /* it is withheld, and the connection ends in order */
	RINGTLS__REKEY_OFFER,  /* OpenSSL offers the next key as it did the first: 3.2 and later */
	RINGTLS__REKEY_DERIVE, /* it tells nobody: we derive it from the traffic secret */
};


struct ringtls__bios {
	int fd;		/* -1: there is no socket */
	int own_want;	/* SSL_ERROR_WANT_* of its last refusal */
	BIO *own;	/* without a socket: the caller's BIO, which takes what is sent */
	const struct ringtls__sys *sys;
	struct ringtls__txq inbox;
	size_t expect; /* bytes that the running call is likely to write */

	/* The transmit traffic secret (RFC 8446 7.1), where we derive the next keys; or NULL. */
	struct ringtls__secret *secret;

	/* Set by the connection. */
	ringtls__key_mask mask;
	bool may_rekey; /* whoever seals can take a next key */
	bool receives;	/* the kernel opens what comes: OpenSSL installed that */
	bool is_behind; /* the queue has bytes that go before the inbox */

	/* What happened. */
	bool keyed;	   /* a key was taken: what comes now is plaintext */
	bool refused;	   /* a key was offered, and is not in the mask */
	bool ending;	   /* a KeyUpdate was withheld: nothing more may be written */
	bool is_starved;   /* the running call met an empty socket, or that end */
	uint8_t next_type; /* of the next record, or 0: application data */
	uint16_t version;  /* of the key that was offered last */
	uint16_t cipher;   /* TLS_CIPHER_* of it */
	int error;	   /* no memory, or OpenSSL broke the protocol of the keys: nothing
			    * in the inbox may be sent */
	int read_errno;	   /* of the last failed read */
	size_t read_left;  /* bytes that the running call may still read */

	/* Records that OpenSSL wrote: finished ones, and the one it is at. */
	uint64_t records;
	uint16_t record_left; /* bytes of it that are still to come */
	uint8_t header_len;
	uint8_t header[RINGTLS__HEADER_LEN];
};

/* Replaces the SSL's BIOs by ours. 0, or -ENOMEM. The struct was zeroed, except for
 * what the connection sets, and stays where it is. */
int ringtls__bios_attach(struct ringtls__bios *b, SSL *ssl, int fd, struct ringtls__pool *pool,
			 const struct ringtls__sys *sys);

/* The same without a socket: the SSL keeps the BIO that it reads from, and what is sent
 * goes to the one that it writes to. */
int ringtls__bios_attach_own(struct ringtls__bios *b, SSL *ssl, struct ringtls__pool *pool);

/* There will be no next key: erases the traffic secret. */
void ringtls__bios_forget(struct ringtls__bios *b);

/* Leaves the SSL without BIOs, or with its own, and drops the inbox. */
void ringtls__bios_detach(struct ringtls__bios *b, SSL *ssl);

/* Makes the socket BIO of OpenSSL's that can take the place of ours; NULL where the SSL has
 * a BIO of its own. 0, or -ENOMEM. */
int ringtls__bios_make_openssls(const struct ringtls__bios *b, BIO **ret_bio);

/* Gives the SSL that BIO, or its own, in the place of ours. Nothing is in the inbox. */
void ringtls__bios_give_back(struct ringtls__bios *b, SSL *ssl, BIO *bio);

/* Bytes that the caller's BIO took, or -EAGAIN, or an error. */
ssize_t ringtls__own_send(struct ringtls__bios *b, const struct iovec *iov, unsigned count);

/* Hands it the inbox, and flushes it. 0, -EAGAIN, or an error. */
int ringtls__own_flush(struct ringtls__bios *b);

/*
 * How the next key can be had on this connection: OpenSSL 3.0 and 3.1 don't offer it,
 * and then the traffic secret must be known: the SSL_CTX was prepared in time.
 */
enum ringtls__rekey ringtls__bios_rekey(const struct ringtls__bios *b);


bool ringtls__bios_are_of(const SSL *ssl); /* the SSL has BIOs of ours */

/* Where its traffic secret is kept; NULL: it has none, or no key may be taken. */
struct ringtls__secret **ringtls__bios_secret(const SSL *ssl);

/*
 * An in-memory handshake, once per process: whether this OpenSSL hands over its
 * keys the way we think. RINGTLS_REASON_NONE, _BUILD or _SELFTEST. Thread safe.
 */
uint32_t ringtls__ossl_selftest(void);

/*
 * OpenSSL's socket BIO knows by its flags that the kernel seals, or opens; no call sets
 * them without handing over a key. Whether the two are what we think: 0, RINGTLS_E_DETACH
 * if not, or -ENOMEM.
 */
#define RINGTLS__BIO_KTLS_RX 0x2000
#define RINGTLS__BIO_KTLS_TX 0x4000
int ringtls__ossl_selftest_flags(void);

#endif
