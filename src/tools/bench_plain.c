/* bench_plain.c - floors: TCP without TLS, and AEAD without TCP. */
#include "config.h"
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <openssl/evp.h>

/* ---- TCP -------------------------------------------------------------------- */

static int failed(struct bench_conn *c)
{
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	bench_cannot(c->side, "sending: %s", strerror(errno));
	return -1;
}

static int send_bytes(struct bench_conn *c, const uint8_t *bytes, size_t len)
{
	ssize_t n = send(c->fd, bytes + c->at, len - c->at, MSG_NOSIGNAL);

	if (n < 0)
		return failed(c);
	c->at += (size_t)n;
	if (c->at < len)
		return 0;
	c->at = 0;
	return 1;
}

static int send_memory(struct bench_conn *c, const struct bench_unit *unit)
{
	return send_bytes(c, unit->bytes, unit->len);
}

static int send_sealed(struct bench_conn *c, const struct bench_unit *unit)
{
	size_t records = (unit->len + BENCH_RECORD - 1) / BENCH_RECORD;

	return send_bytes(c, unit->bytes, unit->len + records * BENCH_OVERHEAD);
}

static int send_file(struct bench_conn *c, const struct bench_unit *unit)
{
	while (c->at < unit->len) {
		off_t offset = (off_t)c->at;
		ssize_t n = sendfile(c->fd, unit->file, &offset, unit->len - c->at);

		if (n < 0)
			return failed(c);
		c->at += (size_t)n;
	}
	c->at = 0;
	return 1;
}

const struct bench_method bench_tcp_send = {
	.name = "tcp-send",
	.text = "plain TCP, send(2)",
	.kinds = BENCH_WRITES | BENCH_LATENCY,
	.ready = bench_epoll_add,
	.send = send_memory,
	BENCH_ON_EPOLL,
};

const struct bench_method bench_tcp_sealed = {
	.name = "tcp-sealed",
	.text = "the same, as many bytes as the records of TLS 1.3 have",
	.kinds = BENCH_WRITES,
	.ready = bench_epoll_add,
	.send = send_sealed,
	BENCH_ON_EPOLL,
};

const struct bench_method bench_tcp_sendfile = {
	.name = "tcp-sendfile",
	.text = "plain TCP, sendfile(2)",
	.kinds = BENCH_FILES,
	.holds_file = true,
	.ready = bench_epoll_add,
	.send = send_file,
	BENCH_ON_EPOLL,
};

/* ---- AEAD ------------------------------------------------------------------- */

#define TAG 16
#define AAD 5

struct bench_own {
	EVP_CIPHER_CTX *ctx;
	uint8_t *out;
	uint64_t nonce;
};

static const char *cipher_name(const char *suite)
{
	static const char *const known[][2] = {
		{ "AES_128_GCM", "AES-128-GCM" },	   { "AES_256_GCM", "AES-256-GCM" },
		{ "AES128-GCM", "AES-128-GCM" },	   { "AES256-GCM", "AES-256-GCM" },
		{ "CHACHA20", "ChaCha20-Poly1305" },
	};

	for (size_t i = 0; i < BENCH_COUNT(known); i++)
		if (strstr(suite, known[i][0]))
			return known[i][1];
	return NULL;
}

static bool key(struct bench_side *side, struct bench_own *own)
{
	const char *name = cipher_name(side->options->cipher);
	EVP_CIPHER *cipher = name ? EVP_CIPHER_fetch(NULL, name, NULL) : NULL;
	static const uint8_t zeros[32];
	bool ok = cipher && EVP_EncryptInit_ex2(own->ctx, cipher, zeros, NULL, NULL) == 1;

	EVP_CIPHER_free(cipher);
	return ok || bench_cannot(side, "no bare AEAD is known for %s", side->options->cipher);
}

static bool open_aead(struct bench_side *side)
{
	struct bench_own *own = calloc(1, sizeof(*own));

	side->own = own;
	if (!own)
		return bench_cannot(side, "no memory");
	own->ctx = EVP_CIPHER_CTX_new();
	own->out = aligned_alloc(BENCH_PAGE, 2 * BENCH_RECORD);
	if (!own->ctx || !own->out)
		return bench_cannot(side, "no memory");
	return key(side, own);
}

static void close_aead(struct bench_side *side)
{
	struct bench_own *own = side->own;

	if (!own)
		return;
	EVP_CIPHER_CTX_free(own->ctx);
	free(own->out);
	free(own);
	side->own = NULL;
}

/* As little as a record can take: a nonce, the header as AAD, the bytes, the tag. */
static bool seal(struct bench_own *own, const uint8_t *bytes, size_t len)
{
	uint8_t nonce[12] = "", aad[AAD] = { 23, 3, 3, (uint8_t)(len >> 8), (uint8_t)len };
	int n;

	own->nonce++;
	memcpy(nonce + 4, &own->nonce, sizeof(own->nonce));
	return EVP_EncryptInit_ex2(own->ctx, NULL, NULL, nonce, NULL) == 1 &&
	       EVP_EncryptUpdate(own->ctx, NULL, &n, aad, AAD) == 1 &&
	       EVP_EncryptUpdate(own->ctx, own->out, &n, bytes, (int)len) == 1 &&
	       EVP_EncryptFinal_ex(own->ctx, own->out + n, &n) == 1 &&
	       EVP_CIPHER_CTX_ctrl(own->ctx, EVP_CTRL_AEAD_GET_TAG, TAG, own->out + len) == 1;
}

static int send_aead(struct bench_conn *c, const struct bench_unit *unit)
{
	for (size_t at = 0; at < unit->len; at += BENCH_RECORD) {
		size_t len = unit->len - at < BENCH_RECORD ? unit->len - at : BENCH_RECORD;

		if (!seal(c->side->own, unit->bytes + at, len)) {
			bench_cannot(c->side, "sealing failed");
			return -1;
		}
	}
	return 1;
}

static bool never_waits(struct bench_side *side, int timeout_ms)
{
	(void)side, (void)timeout_ms;
	return true;
}

const struct bench_method bench_aead = {
	.name = "aead",
	.text = "libcrypto's AEAD in records of 16 KiB, nothing is sent",
	.kinds = BENCH_WRITES,
	.no_network = true,
	.open = open_aead,
	.close = close_aead,
	.send = send_aead,
	.wait = never_waits,
};
