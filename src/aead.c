/*
 * aead.c - see aead.h.
 *
 * EVP looks the nonce's length up by name for each nonce, and finds its way to the tag
 * through a ctrl: some 1,060 instructions a record, a fifth of what sealing 1 KiB takes. So
 * the provider's functions are called directly, which provider-cipher(7) describes and
 * OSSL_PROVIDER_query_operation(3) gives to everybody. They are those that EVP itself would
 * call: of the provider that EVP_CIPHER_fetch chose, FIPS or not. When a provider doesn't
 * have them all, has two ciphers of one name, or they don't seal what EVP seals, it is EVP.
 */
#include "config.h"
#include "aead.h"

#include <errno.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <ringtls/ringtls.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#define KEY_MAX 32

static const struct {
	const char *name; /* OpenSSL's */
	size_t key_len;
	bool is_ccm;
} ciphers[RINGTLS__AEAD_CIPHERS] = {
	[RINGTLS__AES_128_GCM] = {"AES-128-GCM", 16, false},
	[RINGTLS__AES_256_GCM] = {"AES-256-GCM", 32, false},
	[RINGTLS__AES_128_CCM] = {"AES-128-CCM", 16, true},
	[RINGTLS__CHACHA20_POLY1305] = {"ChaCha20-Poly1305", 32, false},
};

/* How a cipher is called; the provider's own functions where evp_only is false. */
struct method {
	EVP_CIPHER *evp; /* keeps the provider */
	bool evp_only;
	void *provider;
	OSSL_FUNC_cipher_newctx_fn *new;
	OSSL_FUNC_cipher_freectx_fn *free;
	OSSL_FUNC_cipher_encrypt_init_fn *init;
	OSSL_FUNC_cipher_update_fn *update;
	OSSL_FUNC_cipher_final_fn *final;
	OSSL_FUNC_cipher_get_ctx_params_fn *get;
};

/* Made once per process and kept: a fetch takes locks and allocates. */
static _Atomic(struct method *) methods[RINGTLS__AEAD_CIPHERS];

struct ringtls__aead {
	const struct method *method;
	void *direct;	     /* the provider's context, or */
	EVP_CIPHER_CTX *ctx; /* EVP's */
	bool is_ccm;
};

/* ---- By EVP ------------------------------------------------------------ */

static bool evp_update(EVP_CIPHER_CTX *ctx, uint8_t *out, const uint8_t *in, size_t len)
{
	int written;

	return EVP_EncryptUpdate(ctx, out, &written, in, (int)len) == 1;
}

/* CCM wants the lengths of nonce and tag before its key. */
static bool evp_set_key(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *evp, bool is_ccm, const uint8_t *key)
{
	if (EVP_EncryptInit_ex2(ctx, evp, NULL, NULL, NULL) != 1)
		return false;
	if (EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, RINGTLS__NONCE_LEN, NULL) != 1)
		return false;
	if (is_ccm && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, RINGTLS__TAG_LEN, NULL) != 1)
		return false;
	return EVP_EncryptInit_ex2(ctx, NULL, key, NULL, NULL) == 1;
}

/*
 * A last byte is a call of its own, which costs less than a copy of even small
 * plaintexts; but CCM takes everything in one call.
 */
static bool evp_payload(const struct ringtls__aead *aead, const struct ringtls__aead_text *t)
{
	if (t->last && aead->is_ccm) {
		if (t->len && t->in != t->out)
			memcpy(t->out, t->in, t->len);
		t->out[t->len] = *t->last;
		return evp_update(aead->ctx, t->out, t->out, t->len + 1);
	}
	/* To a provider a null input means "final", and CCM needs its one call. */
	if (!evp_update(aead->ctx, t->out, t->len ? t->in : t->out, t->len))
		return false;
	return !t->last || evp_update(aead->ctx, t->out + t->len, t->last, 1);
}

static bool evp_seal(const struct ringtls__aead *aead, const struct ringtls__aead_text *t)
{
	size_t len = t->len + (t->last ? 1 : 0);
	EVP_CIPHER_CTX *ctx = aead->ctx;
	uint8_t *tag = t->out + len;
	int written;

	if (EVP_EncryptInit_ex2(ctx, NULL, NULL, t->nonce, NULL) != 1)
		return false;
	if (aead->is_ccm && !evp_update(ctx, NULL, NULL, len))
		return false;
	if (!evp_update(ctx, NULL, t->aad, t->aad_len) || !evp_payload(aead, t))
		return false;
	if (EVP_EncryptFinal_ex(ctx, tag, &written) != 1)
		return false;
	return EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, RINGTLS__TAG_LEN, tag) == 1;
}

/* ---- By the provider's own functions ------------------------------------ */

/* The sizes behind each out are what EVP gives: a stream cipher writes what it reads. */
static bool direct_seal(const struct ringtls__aead *aead, const struct ringtls__aead_text *t)
{
	const struct method *m = aead->method;
	uint8_t *end = t->out + t->len;
	void *ctx = aead->direct;
	OSSL_PARAM params[2];
	size_t written;

	if (!m->init(ctx, NULL, 0, t->nonce, RINGTLS__NONCE_LEN, NULL) ||
	    !m->update(ctx, NULL, &written, t->aad_len, t->aad, t->aad_len))
		return false;
	if (t->len && !m->update(ctx, t->out, &written, t->len, t->in, t->len))
		return false;
	if (t->last && !m->update(ctx, end++, &written, 1, t->last, 1))
		return false;
	params[0] = OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, end,
						      RINGTLS__TAG_LEN);
	params[1] = OSSL_PARAM_construct_end();
	return m->final(ctx, end, &written, 0) && m->get(ctx, params);
}

/* ---- Which of them ------------------------------------------------------ */

static bool has_name(const char *names, const char *name)
{
	size_t len = strlen(name);

	for (; names; names = strchr(names, ':')) {
		names += *names == ':';
		if (strncasecmp(names, name, len) == 0 && (!names[len] || names[len] == ':'))
			return true;
	}
	return false;
}

static void take_functions(struct method *m, const OSSL_DISPATCH *d)
{
	for (; d->function_id; d++) {
		switch (d->function_id) {
		case OSSL_FUNC_CIPHER_NEWCTX:
			m->new = OSSL_FUNC_cipher_newctx(d);
			break;
		case OSSL_FUNC_CIPHER_FREECTX:
			m->free = OSSL_FUNC_cipher_freectx(d);
			break;
		case OSSL_FUNC_CIPHER_ENCRYPT_INIT:
			m->init = OSSL_FUNC_cipher_encrypt_init(d);
			break;
		case OSSL_FUNC_CIPHER_UPDATE:
			m->update = OSSL_FUNC_cipher_update(d);
			break;
		case OSSL_FUNC_CIPHER_FINAL:
			m->final = OSSL_FUNC_cipher_final(d);
			break;
		case OSSL_FUNC_CIPHER_GET_CTX_PARAMS:
			m->get = OSSL_FUNC_cipher_get_ctx_params(d);
			break;
		default:
			break;
		}
	}
}

static bool has_functions(const struct method *m)
{
	return m->new && m->free && m->init && m->update && m->final && m->get;
}

/* The one implementation of that name in the provider of m->evp. */
static bool find_functions(struct method *m, const char *name)
{
	const OSSL_PROVIDER *provider = EVP_CIPHER_get0_provider(m->evp);
	const OSSL_ALGORITHM *all, *alg;
	int no_cache, found = 0;

	all = OSSL_PROVIDER_query_operation(provider, OSSL_OP_CIPHER, &no_cache);
	for (alg = all; alg && alg->algorithm_names; alg++) {
		if (!has_name(alg->algorithm_names, name))
			continue;
		take_functions(m, alg->implementation);
		found++;
	}
	if (all)
		OSSL_PROVIDER_unquery_operation(provider, OSSL_OP_CIPHER, all);
	m->provider = OSSL_PROVIDER_get0_provider_ctx(provider);
	return found == 1 && has_functions(m);
}

static int open_aead(struct ringtls__aead *aead, bool by_evp, const uint8_t *key, size_t key_len)
{
	const struct method *m = aead->method;

	if (!by_evp) {
		aead->direct = m->new (m->provider);
		if (!aead->direct)
			return -ENOMEM;
		return m->init(aead->direct, key, key_len, NULL, 0, NULL) ? 0 : RINGTLS_E_TLS;
	}
	aead->ctx = EVP_CIPHER_CTX_new();
	if (!aead->ctx)
		return -ENOMEM;
	return evp_set_key(aead->ctx, m->evp, aead->is_ccm, key) ? 0 : RINGTLS_E_TLS;
}

static void close_aead(struct ringtls__aead *aead)
{
	if (aead->direct)
		aead->method->free(aead->direct);
	EVP_CIPHER_CTX_free(aead->ctx);
}

/* Twice with one key, as in a connection's life. */
static bool try_method(const struct method *m, bool by_evp, size_t key_len, uint8_t *out)
{
	static const uint8_t bytes[KEY_MAX] = "what two ways seal must be same";
	struct ringtls__aead aead = {.method = m};
	struct ringtls__aead_text t = {.nonce = bytes, .aad = bytes, .aad_len = 5, .in = bytes};
	bool done = open_aead(&aead, by_evp, bytes, key_len) == 0;

	for (int i = 0; done && i < 2; i++) {
		t.nonce = bytes + i;
		t.len = sizeof(bytes);
		t.last = i ? bytes : NULL;
		t.out = out + (size_t)i * (KEY_MAX + RINGTLS__TAG_LEN);
		done = ringtls__aead_seal(&aead, &t);
	}
	close_aead(&aead);
	return done;
}

/* Not believed, but tried: a provider may want more of its caller than it says. */
static bool is_equal(const struct method *m, size_t key_len)
{
	uint8_t direct[2 * (KEY_MAX + RINGTLS__TAG_LEN) + 1], evp[sizeof(direct)];
	bool done;

	memset(direct, 0, sizeof(direct));
	memset(evp, 0, sizeof(evp));
	ERR_set_mark();
	done = try_method(m, false, key_len, direct) && try_method(m, true, key_len, evp);
	ERR_pop_to_mark();
	return done && memcmp(direct, evp, sizeof(evp)) == 0;
}

/* CCM's calls are EVP's business: they come in an order of their own. */
static struct method *make_method(enum ringtls__aead_cipher cipher)
{
	struct method *m = OPENSSL_zalloc(sizeof(*m));

	if (!m)
		return NULL;
	m->evp = EVP_CIPHER_fetch(NULL, ciphers[cipher].name, NULL);
	if (!m->evp) {
		OPENSSL_free(m);
		return NULL;
	}
	m->evp_only = ciphers[cipher].is_ccm || !find_functions(m, ciphers[cipher].name) ||
		      !is_equal(m, ciphers[cipher].key_len);
	return m;
}

/* Threads that race here make the same method twice, and keep one of the two. */
static const struct method *method_of(enum ringtls__aead_cipher cipher)
{
	struct method *m = atomic_load(&methods[cipher]), *first = NULL;

	if (m)
		return m;
	m = make_method(cipher);
	if (m && !atomic_compare_exchange_strong(&methods[cipher], &first, m)) {
		EVP_CIPHER_free(m->evp);
		OPENSSL_free(m);
		m = first;
	}
	return m;
}

/* ---- What the sealer sees ------------------------------------------------ */

int ringtls__aead_new(struct ringtls__aead **ret_aead, enum ringtls__aead_cipher cipher,
		      const uint8_t *key)
{
	const struct method *m = method_of(cipher);
	struct ringtls__aead *aead;
	int err;

	if (!m)
		return RINGTLS_E_TLS;
	aead = OPENSSL_zalloc(sizeof(*aead));
	if (!aead)
		return -ENOMEM;
	aead->method = m;
	aead->is_ccm = ciphers[cipher].is_ccm;
	err = open_aead(aead, m->evp_only, key, ciphers[cipher].key_len);
	if (err) {
		ringtls__aead_free(aead);
		return err;
	}
	*ret_aead = aead;
	return 0;
}

void ringtls__aead_free(struct ringtls__aead *aead)
{
	if (!aead)
		return;
	close_aead(aead);
	OPENSSL_free(aead);
}

bool ringtls__aead_seal(struct ringtls__aead *aead, const struct ringtls__aead_text *text)
{
	return aead->direct ? direct_seal(aead, text) : evp_seal(aead, text);
}
