/* bench_source.c - what is sent: memory or a file, of bytes that don't repeat. */
#include "config.h"
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WHY  160
#define STEP ((size_t)1 << 20)

static void fill(uint8_t *bytes, size_t len)
{
	uint64_t x = 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		bytes[i] = (uint8_t)x;
	}
}

/* Its name goes at once, so that nothing is left behind. */
static int make_file(const char *folder, uint8_t *bytes, size_t size)
{
	char name[4096];
	int fd;

	if (snprintf(name, sizeof(name), "%s/ringtls-bench-XXXXXX", folder) >= (int)sizeof(name))
		return -1;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return -1;
	unlink(name);
	for (size_t at = 0; at < size;) {
		ssize_t n = write(fd, bytes, size - at < STEP ? size - at : STEP);

		if (n <= 0) {
			close(fd);
			return -1;
		}
		at += (size_t)n;
	}
	return fd;
}

/* Pages of the file that are in memory. */
static size_t resident(int fd, size_t size)
{
	size_t pages = (size + BENCH_PAGE - 1) / BENCH_PAGE, n = 0;
	unsigned char *is = malloc(pages + 1); /* an empty file is a case, too */
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	if (is && map != MAP_FAILED && !mincore(map, size, is))
		for (size_t i = 0; i < pages; i++)
			n += is[i] & 1;
	else
		n = pages;
	if (map != MAP_FAILED)
		munmap(map, size);
	free(is);
	return n;
}

bool bench_source_cool(const struct bench_source *source)
{
	fdatasync(source->file);
	return !posix_fadvise(source->file, 0, 0, POSIX_FADV_DONTNEED) &&
	       resident(source->file, source->size) == 0;
}

/* Who sends it for a while shall never find what an earlier round has read. */
static pid_t start_cooler(const struct bench_source *source, const struct bench_options *options)
{
	const struct timespec nap = {.tv_nsec = 2000000};
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bench_pin(options, 1); /* where the receiver is */
	while (getppid() == parent) {
		posix_fadvise(source->file, 0, 0, POSIX_FADV_DONTNEED);
		nanosleep(&nap, NULL);
	}
	_exit(0);
}

static bool open_file(struct bench_source *source, const struct bench_case *what,
		      const struct bench_options *options, char *ret_why)
{
	source->file = make_file(options->folder, source->memory, source->size);
	if (source->file < 0) {
		snprintf(ret_why, WHY, "can't make a file of %zu bytes in %s: %s", source->size,
			 options->folder, strerror(errno));
		return false;
	}
	if (what->cold && !bench_source_cool(source)) {
		snprintf(ret_why, WHY, "the system does not take a file of %s out of its memory",
			 options->folder);
		return false;
	}
	if (what->cold && what->kind == BENCH_LATENCY)
		source->cooler = start_cooler(source, options);
	return true;
}

bool bench_source_open(struct bench_source *source, const struct bench_case *what,
		       const struct bench_options *options, char *ret_why)
{
	bool is_file = what->kind == BENCH_FILES || what->cold;
	size_t size = is_file ? STEP : what->size;

	if (size < what->bulk && !is_file)
		size = what->bulk;
	size += (size / BENCH_RECORD + 1) * BENCH_OVERHEAD; /* tcp-sealed sends so much more */
	size = (size + 2 * BENCH_PAGE - 1) / BENCH_PAGE * BENCH_PAGE;
	source->file = source->cooler = -1;
	source->size = what->kind == BENCH_FILES ? what->size : what->bulk;
	source->memory = aligned_alloc(BENCH_PAGE, size);
	if (!source->memory) {
		snprintf(ret_why, WHY, "no memory");
		return false;
	}
	fill(source->memory, size);
	return !is_file || open_file(source, what, options, ret_why);
}

void bench_source_close(struct bench_source *source)
{
	free(source->memory);
	if (source->cooler > 0) {
		kill(source->cooler, SIGKILL);
		waitpid(source->cooler, NULL, 0);
	}
	if (source->file >= 0)
		close(source->file);
}
