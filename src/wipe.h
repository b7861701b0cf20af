/* wipe.h - leaf: what libcrypto leaves of keys on the stack. */
#ifndef RINGTLS_WIPE_H
#define RINGTLS_WIPE_H

/*
 * Overwrites the stack below the caller's frame, as deep as calls into OpenSSL go. Some of
 * libcrypto's ciphers work on a copy of the key there and leave it (ChaCha20 where the
 * processor has AVX2 and no AVX-512), and what overwrites it in a program that calls OpenSSL
 * itself is chance. So this is called where a key ends: some 2 us. Pinned by test_erase.
 */
void ringtls__wipe_stack(void);

#endif
