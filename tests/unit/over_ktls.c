/*
 * over_ktls.c - runs another program's list over the emulated kernel TLS: the tests
 * of the kernel lane, with the sockets that pair.c opens on fake_ktls.h. Linked in
 * with $(OVER_KTLS); the other lanes have run in that program itself.
 */
#include "support.h"
#include "pair.h"

#include <poll.h>
#include <ringtls/ringtls.h>
#include "fake_ktls.h"
#include "fake_probe.h"
#include "over_ktls.h"

void __real_pair_open(struct pair *p, const struct pair_opts *opts);
void __wrap_pair_open(struct pair *p, const struct pair_opts *opts);
void __real_pair_close(struct pair *p);
void __wrap_pair_close(struct pair *p);
void __wrap_pair_wait(struct pair *p);
void __wrap_pair_write_all(struct pair *p, const void *bytes, size_t len);

/* A kernel that holds back what TCP does not take, and breaks off sends, too. */
void __wrap_pair_open(struct pair *p, const struct pair_opts *opts)
{
	struct pair_opts o = *opts;
	static bool is_working;

	fake_ktls_reset();
	fake_ktls_knobs.rekey = over_ktls_rekey;
	if (!over_ktls_is_calm) {
		fake_ktls_knobs.list_room = 40000;
		fake_ktls_knobs.eagain_every = 7;
		fake_ktls_knobs.eintr_every = 11;
	}
	if (!is_working)
		fake_ktls_start_worker();
	is_working = true;
	o.backend = RINGTLS_BACKEND_SYSCALLS;
	o.ring = NULL;
	o.sys = &fake_ktls;
	__real_pair_open(p, &o);
}

void __wrap_pair_close(struct pair *p)
{
	/* No test of those may do what a real kernel refuses, or sleep inside it. */
	assert_int_equal(fake_ktls_seen.refused_flags, 0);
	assert_int_equal(fake_ktls_seen.waits, 0);
	__real_pair_close(p);
}

/* Behind one read of the peer's, what was held back fills TCP again: so the peer goes
 * on reading while we wait. */
void __wrap_pair_wait(struct pair *p)
{
	struct pollfd pfd = {.fd = ringtls_engine_fd(p->engine), .events = POLLIN};
	struct ringtls_event ev;

	for (int tries = 0; tries < 1000; tries++) {
		if (ringtls_engine_wait(p->engine, &ev, 1, 0) == 1) {
			assert_ptr_equal(ev.conn, p->conn);
			return;
		}
		if (poll(&pfd, 1, 10) == 0 && p->peer_fd >= 0)
			pair_peer_reads(p);
	}
	fail_msg("nothing wakes the connection");
}

void __wrap_pair_write_all(struct pair *p, const void *bytes, size_t len)
{
	size_t written = 0;
	int r;

	while ((r = ringtls_write_ex(p->conn, bytes, len, &written)) != 1) {
		assert_int_equal(ringtls_get_error(p->conn, r), SSL_ERROR_WANT_WRITE);
		pair_peer_reads(p);
		pair_wait(p);
	}
	assert_int_equal(written, len);
}

/* What a program that links an old kernel in (old_ktls.c) has otherwise. */
__attribute__((weak)) int over_ktls_rekey;
__attribute__((weak)) bool over_ktls_is_calm;
__attribute__((weak)) const char *over_ktls_tests = "kernel*";
__attribute__((weak)) const char *over_ktls_skips = "*cannot*";

__attribute__((constructor)) static void kernel_lane_only(void)
{
	fake_probe_reset();
	fake_probe.rekey = -over_ktls_rekey;
	cmocka_set_test_filter(over_ktls_tests);
	cmocka_set_skip_filter(over_ktls_skips);
}
