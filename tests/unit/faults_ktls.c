/*
 * faults_ktls.c - test_faults over the emulated kernel TLS: the kernel lane, and one that
 * may still fall back. The ring's own sends would not pass through it (fake_ktls.h).
 */
#include "support.h"
#include "fault_run.h"
#include "fake_ktls.h"
#include "fake_probe.h"

const struct fault_way faults_ways[] = {
	{ RINGTLS_LANE_KERNEL, RINGTLS_BACKEND_SYSCALLS, 0 },
	{ RINGTLS_LANE_AUTO, RINGTLS_BACKEND_SYSCALLS, RINGTLS_ENGINE_PREFER_KERNEL },
	{ 0 },
};

__attribute__((constructor)) static void over_the_emulated_kernel(void)
{
	faults_base = &fake_ktls;
	fake_probe_reset();
}
