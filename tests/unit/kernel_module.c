/*
 * kernel_module.c - where the tls module comes from, and who may bring it
 * (kmod-notes/module.md). Most of it unloads modules, which is done only on a
 * kernel that is there for nothing else: a guest of the lab.
 */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "refuse.h"

#define NOBODY 65534
#define CONF   "/run/modprobe.d/ringtls-test.conf"

static struct line one; /* the children's, too */

static bool is_our_own_kernel(void)
{
	char name[64] = "";

	gethostname(name, sizeof(name) - 1);
	return geteuid() == 0 && !strcmp(name, "ringtls-lab");
}

/* Its users may take a moment to go. */
static void unload(const char *module)
{
	int64_t end = clock_ms() + 2000;
	long r;

	do {
		r = syscall(SYS_delete_module, module, O_NONBLOCK);
	} while (r < 0 && errno != ENOENT && clock_ms() < end && (nap(10), true));
	assert_true(r == 0 || errno == ENOENT);
}

/* What modprobe does for this module from now on: fail. */
static void forbid(const char *module)
{
	FILE *conf;

	mkdir("/run/modprobe.d", 0755);
	conf = fopen(CONF, "w");
	assert_non_null(conf);
	fprintf(conf, "install %s /bin/false\n", module);
	fclose(conf);
}

static void drop_privileges(void)
{
	if (geteuid() != 0)
		return;
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) < 0)
		_exit(CHILD_CANNOT);
}

static int ask_ulp_unprivileged(void)
{
	drop_privileges();
	return -line_ulp(&one);
}

static int ask_ccm_unprivileged(void)
{
	struct ringtls__key key = make_key(TLS_1_3_VERSION, TLS_CIPHER_AES_CCM_128, 1);
	int r;

	drop_privileges();
	r = line_ulp(&one);
	return -(r < 0 ? r : line_key(&one, &key));
}

static int ulp_on_a_new_line(void)
{
	int r;

	line_open(&one, LARGE);
	r = line_ulp(&one);
	line_close(&one);
	return r;
}

static int ask_unprivileged(int (*what)(void))
{
	int r;

	line_open(&one, LARGE);
	r = in_child(what);
	line_close(&one);
	assert_int_not_equal(r, CHILD_CANNOT);
	return -r;
}

static void unprivileged_process_cannot_load_the_module(void **state)
{
	int r;

	(void)state;
	need("a kernel of our own", is_our_own_kernel());
	need("ktls", has_ktls());
	unload("tls");
	r = ask_unprivileged(ask_ulp_unprivileged);
	behaviour("module/TCP_ULP by an unprivileged process, module not loaded", "%s",
		  outcome(r));
	assert_int_equal(r, -ENOENT);
}

static void root_loads_the_module_by_asking_for_it(void **state)
{
	int r;

	(void)state;
	need("a kernel of our own", is_our_own_kernel());
	need("ktls", has_ktls());
	unload("tls");
	r = ulp_on_a_new_line();
	behaviour("module/TCP_ULP by root, module not loaded", "%s", outcome(r));
	assert_int_equal(r, 0);
	assert_int_equal(access("/proc/net/tls_stat", R_OK), 0);
}

static void not_even_root_loads_what_modprobe_refuses(void **state)
{
	int r;

	(void)state;
	need("a kernel of our own", is_our_own_kernel());
	need("ktls", has_ktls());
	unload("tls");
	forbid("tls");
	r = ulp_on_a_new_line();
	unlink(CONF);
	assert_int_equal(r, -ENOENT);
	behaviour("module/TCP_ULP by root, module refused by modprobe", "ENOENT");
	assert_int_equal(ulp_on_a_new_line(), 0); /* and the next one finds it again */
}

static void unprivileged_process_uses_the_module_that_is_there(void **state)
{
	(void)state;
	need("ktls", has_ktls());
	assert_int_equal(ask_unprivileged(ask_ulp_unprivileged), 0);
	behaviour("module/TCP_ULP by an unprivileged process, module loaded", "taken");
}

/* The late failure: the socket has its ULP, the key is refused, plain bytes pass. */
static void missing_cipher_module_is_enoent_and_the_socket_stays_plain(void **state)
{
	struct ringtls__key ccm = make_key(TLS_1_3_VERSION, TLS_CIPHER_AES_CCM_128, 1);
	struct ringtls__key gcm = make_key(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 1);
	char text[5] = "";
	int r;

	(void)state;
	need("a kernel of our own", is_our_own_kernel());
	need("ktls", has_ktls());
	unload("ccm");
	forbid("ccm");
	line_open(&one, LARGE);
	assert_int_equal(line_ulp(&one), 0);
	r = line_key(&one, &ccm);
	unlink(CONF);
	assert_int_equal(r, -ENOENT);
	behaviour("module/TLS_TX, cipher module missing", "ENOENT");
	assert_int_equal(send(one.fd, "plain", 5, MSG_NOSIGNAL), 5);
	assert_int_equal(recv(one.peer, text, 5, MSG_WAITALL), 5);
	assert_memory_equal(text, "plain", 5);
	assert_int_equal(line_key(&one, &gcm), 0); /* another cipher is still welcome */
	assert_int_equal(line_send(&one, kernel_bytes, 100, 0), 100);
	line_finish(&one);
	line_close(&one);
}

static void cipher_module_is_loaded_for_an_unprivileged_process(void **state)
{
	int r;

	(void)state;
	need("a kernel of our own", is_our_own_kernel());
	need("ktls", has_ktls());
	unload("ccm");
	r = ask_unprivileged(ask_ccm_unprivileged);
	behaviour("module/TLS_TX by an unprivileged process, cipher module not loaded", "%s",
		  outcome(r));
	assert_int_equal(r, 0);
}

static void kernel_that_lacks_tls_says_enoent(void **state)
{
	(void)state;
	if (has_ktls())
		assert_int_equal(ulp_on_a_new_line(), 0);
	else
		assert_int_equal(ulp_on_a_new_line(), -ENOENT);
}

static const struct CMUnitTest tests[] = {
	T(unprivileged_process_cannot_load_the_module),
	T(root_loads_the_module_by_asking_for_it),
	T(not_even_root_loads_what_modprobe_refuses),
	T(unprivileged_process_uses_the_module_that_is_there),
	T(missing_cipher_module_is_enoent_and_the_socket_stays_plain),
	T(cipher_module_is_loaded_for_an_unprivileged_process),
	T(kernel_that_lacks_tls_says_enoent),
};

const struct kernel_tests kernel_module = KERNEL_TESTS(tests);
