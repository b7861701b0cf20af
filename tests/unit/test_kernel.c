/*
 * test_kernel.c - what the library relies on of the kernel, asked of the kernel.
 * Each note in kmod-notes names the tests here that hold it up. Where kernels
 * differ, a test asks what this one does and holds it to what follows from that.
 */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <sys/utsname.h>

/* The tests of the module come first: they unload it, and with it its counters. */
static const struct kernel_tests *const groups[] = {
	&kernel_module, &kernel_install, &kernel_flags, &kernel_short, &kernel_records,
	&kernel_drain,	&kernel_rekey,	 &kernel_file,	&kernel_push,  &kernel_ring,  &kernel_errors,
};

#define GROUPS (sizeof(groups) / sizeof(groups[0]))

/* cmocka takes an array whose length it can see, and passes over what is empty. */
static struct CMUnitTest list[256];

static void fill_bytes(void)
{
	uint32_t x = 1;

	for (size_t i = 0; i < KERNEL_BYTES; i++) {
		x = x * 1664525u + 1013904223u;
		kernel_bytes[i] = (uint8_t)(x >> 24);
	}
}

int main(void)
{
	struct utsname host;
	size_t count = 0;

	fill_bytes();
	uname(&host);
	setvbuf(stdout, NULL, _IOLBF, 0); /* what was found is told, even if we hang */
	printf("# kernel: %s\n", host.release);
	for (size_t i = 0; i < GROUPS; i++) {
		if (count + groups[i]->count > sizeof(list) / sizeof(list[0]))
			return 1;
		memcpy(list + count, groups[i]->list, groups[i]->count * sizeof(list[0]));
		count += groups[i]->count;
	}
	return cmocka_run_group_tests_name("kernel", list, NULL, NULL);
}
