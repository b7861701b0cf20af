/*
 * test_erase.c - keys are erased when their epoch ends, and with their connection.
 *
 * A child process makes one connection through ringtls, in a lane, or through OpenSSL alone;
 * this process is its peer, knows all its secrets, and searches the child's memory for them
 * at three points: while the connection lives, behind a KeyUpdate, and when it was freed. In
 * the end the child dumps core, and that is searched, too. OpenSSL leaves copies of its own:
 * ringtls may not add to them.
 */
#include "config.h"
#include "support.h"
#include "memory.h"
#include "side.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include "probe.h"
#include "secret.h"

#define BYTES	  200000 /* the child's, in each epoch */
#define PATIENCE_S 60
#define NEEDLES	  16

enum phase { ALIVE, UPDATED, FREED, CORE, PHASES };
static const char *const phase_names[] = { "alive", "updated", "freed", "core" };

/* A run: who the child is, and what was found of it. */
struct subject {
	struct pair_opts opts;
	bool has_core; /* it can be had here */
	struct needle needles[NEEDLES];
	size_t count;
	size_t first_old, first_new; /* of the epoch that ends, and of the one behind it */
	struct found found[PHASES][NEEDLES];
	bool was_searched[PHASES];
};

/* ---- The child --------------------------------------------------------- */

static void tell(int control)
{
	char c = 'r';

	if (write(control, &c, 1) != 1 || read(control, &c, 1) != 1)
		_exit(9);
}

static void child_opens(struct pair *p, const struct pair_opts *opts, int fd)
{
	struct ringtls_engine_opts eo = { .size = sizeof(eo), .backend = opts->backend };
	struct ringtls_conn_opts co = { .size = sizeof(co), .lane = opts->lane,
					.promote_after = opts->promote_after };

	p->opts = *opts;
	p->fd = fd;
	p->ours_ctx = pair_ctx(opts);
	if (!opts->is_stock && ringtls_ctx_prepare(p->ours_ctx) != 0)
		_exit(2);
	p->ours = SSL_new(p->ours_ctx);
	if (opts->is_client)
		SSL_set_connect_state(p->ours);
	else
		SSL_set_accept_state(p->ours);
	if (opts->is_stock ? SSL_set_fd(p->ours, fd) != 1 :
			     ringtls_engine_new(&p->engine, &eo) != 0 ||
				     ringtls_conn_new(&p->conn, p->engine, p->ours, fd, &co) != 0)
		_exit(3);
}

static void child_writes(struct pair *p)
{
	static uint8_t bytes[BYTES];
	char c;

	if (side_write(p, bytes, sizeof(bytes)).ret != sizeof(bytes))
		_exit(4);
	if (side_read(p, &c, 1).ret != 1)
		_exit(5);
}

static void child_dies(const char *folder)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_CORE, &all) != 0 || chdir(folder) != 0)
		_exit(8);
	abort();
}

/* The engine and the SSL_CTX live on: a server's do. */
static void child_runs(const struct subject *s, int fd, int control, const char *folder)
{
	struct pair p = { .conn = NULL };

	alarm(PATIENCE_S);
	child_opens(&p, &s->opts, fd);
	if (side_handshake(&p).ret != 1)
		_exit(6);
	child_writes(&p);
	tell(control);
	if (s->was_searched[UPDATED]) {
		if (side_key_update(&p, SSL_KEY_UPDATE_NOT_REQUESTED).ret != 1)
			_exit(7);
		child_writes(&p);
		tell(control);
	}
	if (ringtls_conn_free(p.conn) != 0)
		_exit(8);
	SSL_free(p.ours);
	tell(control);
	if (s->has_core)
		child_dies(folder);
	_exit(0);
}

/* ---- What there is to look for ----------------------------------------- */

static struct subject *current; /* OpenSSL's callback has no other way to find it */

static struct needle *add_needle(struct subject *s, const char *name, const uint8_t *bytes,
				 size_t len)
{
	assert_true(s->count < NEEDLES);
	needle_set(&s->needles[s->count], name, bytes, len);
	return &s->needles[s->count++];
}

/* "LABEL <client random> <secret>" */
static void on_keylog(const SSL *ssl, const char *line)
{
	static const struct {
		const char *label, *name;
	} wanted[] = {
		{ "CLIENT_RANDOM ", "master secret" },
		{ "CLIENT_HANDSHAKE_TRAFFIC_SECRET ", "client handshake secret" },
		{ "SERVER_HANDSHAKE_TRAFFIC_SECRET ", "server handshake secret" },
		{ "CLIENT_TRAFFIC_SECRET_0 ", "client traffic secret" },
		{ "SERVER_TRAFFIC_SECRET_0 ", "server traffic secret" },
	};
	const char *hex = strrchr(line, ' ') + 1;
	uint8_t bytes[NEEDLE_MAX];
	size_t len = strlen(hex) / 2;

	(void)ssl;
	assert_true(len <= sizeof(bytes));
	for (size_t i = 0; i < len; i++) {
		unsigned byte = 0;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		bytes[i] = (uint8_t)byte;
	}
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (!strncmp(line, wanted[i].label, strlen(wanted[i].label)))
			add_needle(current, wanted[i].name, bytes, len);
}

static const struct needle *find_needle(const struct subject *s, const char *name)
{
	size_t i = 0;

	while (i < s->count && strcmp(s->needles[i].name, name) != 0)
		i++;
	if (i == s->count)
		fail_msg("OpenSSL did not tell the %s", name);
	return &s->needles[i];
}

static size_t key_len(const SSL *ssl)
{
	return (size_t)SSL_CIPHER_get_bits(SSL_get_current_cipher(ssl), NULL) / 8;
}

/* RFC 8446 7.3 and, for what follows a KeyUpdate, 7.2. */
static void add_tls13(struct subject *s, const SSL *ssl, const uint8_t *secret, size_t len,
		      const char *epoch)
{
	uint8_t bytes[NEEDLE_MAX];
	char name[40];

	snprintf(name, sizeof(name), "%s key", epoch);
	assert_int_equal(ringtls__expand_label(secret, len, "key", bytes, key_len(ssl)), 0);
	add_needle(s, name, bytes, key_len(ssl));
	snprintf(name, sizeof(name), "%s iv", epoch);
	assert_int_equal(ringtls__expand_label(secret, len, "iv", bytes, 12), 0);
	add_needle(s, name, bytes, 12);
}

static void add_tls13_all(struct subject *s, const SSL *ssl)
{
	const struct needle *ours = find_needle(s, s->opts.is_client ? "client traffic secret" :
								       "server traffic secret");
	uint8_t next[NEEDLE_MAX];

	s->first_old = (size_t)(ours - s->needles);
	add_tls13(s, ssl, ours->bytes, ours->len, "write");
	assert_int_equal(
		ringtls__expand_label(ours->bytes, ours->len, "traffic upd", next, ours->len), 0);
	s->first_new = s->count;
	add_needle(s, "next traffic secret", next, ours->len);
	add_tls13(s, ssl, next, ours->len, "next write");
}

/* RFC 5246 6.3, for ciphers without a MAC of their own. */
static void make_key_block(const struct needle *master, const SSL *ssl, uint8_t *block, size_t len)
{
	const EVP_MD *md = SSL_CIPHER_get_handshake_digest(SSL_get_current_cipher(ssl));
	uint8_t seed[13 + 64] = "key expansion";
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
						 (char *)(uintptr_t)EVP_MD_get0_name(md), 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET,
						  (void *)(uintptr_t)master->bytes, master->len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof(seed)),
		OSSL_PARAM_construct_end(),
	};

	assert_int_equal(SSL_get_server_random(ssl, seed + 13, 32), 32);
	assert_int_equal(SSL_get_client_random(ssl, seed + 45, 32), 32);
	assert_int_equal(EVP_KDF_derive(ctx, block, len, params), 1);
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

/* GCM's share of the IV is 4 bytes: too few to look for, as such are met by chance. */
static void add_tls12_all(struct subject *s, const SSL *ssl)
{
	bool has_iv = strstr(SSL_get_cipher_name(ssl), "CHACHA20");
	size_t key = key_len(ssl), iv = has_iv ? 12 : 4, ours = s->opts.is_client ? 0 : 1;
	uint8_t block[2 * (32 + 12)];

	make_key_block(find_needle(s, "master secret"), ssl, block, 2 * (key + iv));
	add_needle(s, "write key", block + ours * key, key);
	add_needle(s, "read key", block + (1 - ours) * key, key);
	if (has_iv)
		add_needle(s, "write iv", block + 2 * key + ours * iv, iv);
}

/* ---- The peer, who looks ----------------------------------------------- */

static void peer_reads(SSL *ssl)
{
	static uint8_t bytes[BYTES];
	size_t n, all = 0;

	while (all < BYTES) {
		assert_int_equal(SSL_read_ex(ssl, bytes, sizeof(bytes), &n), 1);
		all += n;
	}
	assert_int_equal(all, BYTES);
	assert_int_equal(SSL_write(ssl, "x", 1), 1);
}

static void look(struct subject *s, pid_t pid, int control, enum phase phase)
{
	char c;

	assert_int_equal(read(control, &c, 1), 1);
	assert_int_equal(memory_search(pid, s->needles, s->count, s->found[phase]), 0);
	s->was_searched[phase] = true;
	assert_int_equal(write(control, &c, 1), 1);
}

static void look_at_core(struct subject *s, pid_t pid, const char *folder)
{
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/core", folder);
	r = file_search(path, s->needles, s->count, s->found[CORE]);
	if (r == -ENOENT) { /* kernel.core_uses_pid */
		snprintf(path, sizeof(path), "%s/core.%d", folder, (int)pid);
		r = file_search(path, s->needles, s->count, s->found[CORE]);
	}
	assert_int_equal(r, 0);
	s->was_searched[CORE] = true;
	assert_int_equal(unlink(path), 0);
}

static void peer_runs(struct subject *s, int fd, pid_t pid, int control, const char *folder)
{
	SSL_CTX *ctx = pair_ctx(&s->opts);
	SSL *ssl = SSL_new(ctx);
	int status;

	SSL_CTX_set_keylog_callback(ctx, on_keylog);
	assert_int_equal(SSL_set_fd(ssl, fd), 1);
	assert_int_equal(s->opts.is_client ? SSL_accept(ssl) : SSL_connect(ssl), 1);
	if (s->opts.version == TLS1_2_VERSION)
		add_tls12_all(s, ssl);
	else
		add_tls13_all(s, ssl);
	peer_reads(ssl);
	look(s, pid, control, ALIVE);
	if (s->was_searched[UPDATED]) {
		peer_reads(ssl);
		look(s, pid, control, UPDATED);
	}
	look(s, pid, control, FREED);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (s->has_core) {
		assert_true(WIFSIGNALED(status) && WCOREDUMP(status));
		look_at_core(s, pid, folder);
	} else {
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	SSL_free(ssl);
	SSL_CTX_free(ctx);
}

/* The kernel writes a file of that name into the folder, if it does not hand it on. */
static bool core_is_a_file(void)
{
	char pattern[64] = "";
	FILE *file = fopen("/proc/sys/kernel/core_pattern", "re");

	if (!file || !fgets(pattern, sizeof(pattern), file))
		pattern[0] = '\0';
	if (file)
		fclose(file);
	return !strcmp(pattern, "core\n");
}

static bool may_dump(void)
{
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	struct rlimit now;

	return core_is_a_file() && getrlimit(RLIMIT_CORE, &now) == 0 &&
	       (now.rlim_max == RLIM_INFINITY || setrlimit(RLIMIT_CORE, &all) == 0);
}

static void run(struct subject *s)
{
	char folder[] = "/tmp/ringtls-core-XXXXXX";
	int ours, theirs, control[2];
	pid_t pid;

	/* Of one cipher: it takes a second or two in the lab. */
	s->has_core = strstr(s->opts.cipher, "128") && may_dump();
	current = s;
	pair_sockets(AF_INET, false, &ours, &theirs);
	pair_set_blocking(ours);
	pair_set_blocking(theirs);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, control), 0);
	assert_non_null(mkdtemp(folder));
	fflush(stdout);
	pid = fork(); /* before there are any secrets */
	assert_true(pid >= 0);
	if (pid == 0) {
		close(theirs);
		close(control[1]);
		child_runs(s, ours, control[0], folder);
	}
	close(ours);
	close(control[0]);
	alarm(PATIENCE_S);
	peer_runs(s, theirs, pid, control[1], folder);
	alarm(0);
	close(theirs);
	close(control[1]);
	assert_int_equal(rmdir(folder), 0);
}

/* ---- The comparison ---------------------------------------------------- */

/* A secret of the epoch that ended must be gone behind the KeyUpdate, the handshake's are
 * gone already; and all of them with the connection. */
static bool must_be_gone(const struct subject *s, enum phase phase, size_t i)
{
	const char *name = s->needles[i].name;

	/* Promoted, it is the kernel's alone. */
	if (phase == ALIVE && s->opts.promote_after && !s->opts.is_stock && !strcmp(name, "write key"))
		return true;
	if (phase == ALIVE)
		return strstr(name, "handshake") != NULL;
	if (phase == UPDATED)
		return strstr(name, "handshake") || i == s->first_old ||
		       (!strncmp(name, "write ", 6) && i < s->first_new);
	return true;
}

/* What is left of what should be gone. */
static void print_phase(const struct subject *s, enum phase phase)
{
	char text[512] = "";
	size_t len = 0;

	for (size_t i = 0; i < s->count && len < sizeof(text); i++) {
		const struct found *f = &s->found[phase][i];

		if (must_be_gone(s, phase, i) && found_sum(f))
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s %u %s",
						len ? "," : "", found_sum(f), s->needles[i].name);
	}
	print_message("#   %s:%s\n", phase_names[phase], len ? text : " nothing is left");
}

static void print(const struct subject *s)
{
	unsigned alive = 0;

	for (size_t i = 0; i < s->count; i++)
		alive += found_sum(&s->found[ALIVE][i]);
	print_message("# %s as %s: %u copies of %zu secrets while it lives\n",
		      s->opts.is_stock ? "OpenSSL alone" :
		      s->opts.backend == RINGTLS_BACKEND_SYSCALLS ? "ringtls (syscalls)" : "ringtls",
		      s->opts.is_client ? "client" : "server", alive, s->count);
	for (enum phase phase = UPDATED; phase < PHASES; phase++)
		if (s->was_searched[phase])
			print_phase(s, phase);
}

static void must_be_there(const struct subject *s, enum phase phase, const char *name)
{
	if (!found_sum(&s->found[phase][find_needle(s, name) - s->needles]))
		fail_msg("the %s is not in the memory, %s", name, phase_names[phase]);
}

static bool is_kernels(const struct pair_opts *o)
{
	return o->lane == RINGTLS_LANE_KERNEL || o->promote_after;
}

/* What the connection lives on is in its memory: else the search finds nothing. In the kernel
 * lane the key itself is nobody's but the kernel's, from OpenSSL 3.2 on. */
static void check_search(const struct subject *s)
{
	bool has_key = s->opts.is_stock || !is_kernels(&s->opts);

	if (has_key)
		must_be_there(s, ALIVE, "write key");
	if (has_key && s->was_searched[UPDATED])
		must_be_there(s, UPDATED, "next write key");
	if (s->opts.version == TLS1_2_VERSION)
		must_be_there(s, ALIVE, "master secret");
	else
		must_be_there(s, ALIVE, s->needles[s->first_old].name);
	if (s->was_searched[UPDATED])
		must_be_there(s, UPDATED, "next traffic secret");
}

static unsigned compare(const struct subject *stock, const struct subject *ours)
{
	unsigned wrong = 0;

	assert_int_equal(stock->count, ours->count);
	for (enum phase phase = ALIVE; phase < PHASES; phase++) {
		if (!stock->was_searched[phase] || !ours->was_searched[phase])
			continue;
		for (size_t i = 0; i < ours->count; i++) {
			const struct found *a = &stock->found[phase][i], *b = &ours->found[phase][i];

			assert_string_equal(stock->needles[i].name, ours->needles[i].name);
			if (!must_be_gone(ours, phase, i) || found_sum(b) <= found_sum(a))
				continue;
			wrong++;
			print_message("# %s, %s: %u copies (%u in the heap, %u on the stack), "
				      "OpenSSL alone leaves %u\n",
				      ours->needles[i].name, phase_names[phase], found_sum(b),
				      b->heap, b->stack, found_sum(a));
		}
	}
	return wrong;
}

static void run_as(struct subject *s, const struct pair_opts *opts, bool update)
{
	memset(s, 0, sizeof(*s));
	s->opts = *opts;
	s->was_searched[UPDATED] = update;
	run(s);
	check_search(s);
}

/* They keep what was freed, and a shadow of all memory, which takes minutes to search. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER true
#else
#define HAS_SANITIZER false
#endif

/* Every engine of a lane, in both roles, against the same on OpenSSL alone. */
static void leaves_no_more(struct pair_opts opts, int version, const char *cipher)
{
	static const uint32_t backends[] = { RINGTLS_BACKEND_SYSCALLS, RINGTLS_BACKEND_AUTO };
	static struct subject stock, ours;
	unsigned wrong = 0;

	opts.version = version;
	opts.cipher = cipher;
	need("memory without a sanitizer", !HAS_SANITIZER);
	pair_need(&opts);
	if (is_kernels(&opts))
		need("ktls", !ringtls__probe_get()->ulp);
	for (int client = 0; client < 2; client++) {
		bool update = version != TLS1_2_VERSION &&
			      (!is_kernels(&opts) || !ringtls__probe_get()->rekey);

		opts.is_client = client;
		opts.is_stock = true;
		run_as(&stock, &opts, update);
		print(&stock);
		opts.is_stock = false;
		for (size_t i = 0; i < 2; i++) {
			opts.backend = backends[i];
			run_as(&ours, &opts, update);
			print(&ours);
			wrong += compare(&stock, &ours);
		}
	}
	assert_int_equal(wrong, 0);
}

#define LANE_TESTS(name, how)                                                                      \
	static void name##_lane_tls13_aes128(void **state)                                          \
	{                                                                                           \
		(void)state;                                                                        \
		leaves_no_more((struct pair_opts){ how }, TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"); \
	}                                                                                           \
	static void name##_lane_tls13_aes256(void **state)                                          \
	{                                                                                           \
		(void)state;                                                                        \
		leaves_no_more((struct pair_opts){ how }, TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"); \
	}                                                                                           \
	static void name##_lane_tls13_chacha20(void **state)                                        \
	{                                                                                           \
		(void)state;                                                                        \
		leaves_no_more((struct pair_opts){ how }, TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"); \
	}                                                                                           \
	static void name##_lane_tls12_aes128(void **state)                                          \
	{                                                                                           \
		(void)state;                                                                        \
		leaves_no_more((struct pair_opts){ how }, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"); \
	}                                                                                           \
	static void name##_lane_tls12_chacha20(void **state)                                        \
	{                                                                                           \
		(void)state;                                                                        \
		leaves_no_more((struct pair_opts){ how }, TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305"); \
	}

LANE_TESTS(openssl, .lane = RINGTLS_LANE_OPENSSL)
LANE_TESTS(user, .lane = RINGTLS_LANE_USER)
LANE_TESTS(kernel, .lane = RINGTLS_LANE_KERNEL)
LANE_TESTS(promoted, .promote_after = 1)

#define ALL(name)                                                                                   \
	cmocka_unit_test(name##_lane_tls13_aes128), cmocka_unit_test(name##_lane_tls13_aes256),     \
		cmocka_unit_test(name##_lane_tls13_chacha20),                                       \
		cmocka_unit_test(name##_lane_tls12_aes128),                                         \
		cmocka_unit_test(name##_lane_tls12_chacha20)

int main(void)
{
	const struct CMUnitTest tests[] = { ALL(openssl), ALL(user), ALL(kernel),
					    ALL(promoted) };

	if (!may_dump())
		print_message("# no core files here: kernel.core_pattern is not \"core\", or their "
			      "size is limited\n");
	return cmocka_run_group_tests_name("erase", tests, NULL, NULL);
}
