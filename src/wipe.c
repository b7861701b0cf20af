/* wipe.c - see wipe.h. */
#include "config.h"
#include "wipe.h"

#include <openssl/crypto.h>

/* SSL_write of OpenSSL 3.6 needs some 8 KiB, and we call it 1 KiB deeper than we are here. */
#define DEPTH 16384

__attribute__((noinline)) void ringtls__wipe_stack(void)
{
	unsigned char below[DEPTH];

	OPENSSL_cleanse(below, sizeof(below));
}
