/* memory.c - see memory.h. */
#include "config.h"
#include "support.h"
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PIECE	(1u << 20)
#define OVERLAP (2 * NEEDLE_MAX) /* of two pieces: nothing is cut in two */

enum where { HEAP, STACK, OTHER };

void needle_set(struct needle *n, const char *name, const uint8_t *bytes, size_t len)
{
	assert_true(len > 0 && len <= NEEDLE_MAX);
	memset(n, 0, sizeof(*n));
	snprintf(n->name, sizeof(n->name), "%s", name);
	memcpy(n->bytes, bytes, len);
	n->len = len;
	for (size_t i = 0; i < len; i++)
		snprintf(n->hex + 2 * i, 3, "%02x", bytes[i]);
}

unsigned found_sum(const struct found *f)
{
	return f->heap + f->stack + f->other;
}

static void add(struct found *f, enum where where, unsigned n)
{
	*(where == HEAP ? &f->heap : where == STACK ? &f->stack : &f->other) += n;
}

/* What begins within the first "own" bytes is counted; the next piece has the rest. */
static unsigned count(const uint8_t *in, size_t len, size_t own, const void *what, size_t what_len)
{
	const uint8_t *at = in;
	unsigned n = 0;

	while ((at = memmem(at, len - (size_t)(at - in), what, what_len))) {
		if ((size_t)(at - in) >= own)
			break;
		n++;
		at++;
	}
	return n;
}

static void search(const uint8_t *in, size_t len, size_t own, enum where where,
		   const struct needle *needles, size_t needle_count, struct found *found)
{
	char upper[sizeof(needles->hex)];

	for (size_t i = 0; i < needle_count; i++) {
		const struct needle *n = &needles[i];
		unsigned texts;

		for (size_t j = 0; j < sizeof(upper); j++)
			upper[j] = n->hex[j] >= 'a' ? (char)(n->hex[j] - 32) : n->hex[j];
		texts = count(in, len, own, n->hex, 2 * n->len) +
			count(in, len, own, upper, 2 * n->len);
		found[i].text += texts;
		add(&found[i], where, texts + count(in, len, own, n->bytes, n->len));
	}
}

/* Pages that can't be read so (a device's, or a ring's on some kernels) hold no memory of
 * the process's own: they are passed over. */
static void search_range(int fd, off_t start, off_t end, enum where where,
			 const struct needle *needles, size_t needle_count, struct found *found)
{
	static uint8_t piece[PIECE + OVERLAP];

	for (off_t at = start; at < end; at += PIECE) {
		size_t own = end - at < (off_t)PIECE ? (size_t)(end - at) : PIECE;
		size_t want = end - at < (off_t)sizeof(piece) ? (size_t)(end - at) : sizeof(piece);
		ssize_t n = pread(fd, piece, want, at);

		if (n > 0)
			search(piece, (size_t)n, own, where, needles, needle_count, found);
	}
}

static enum where where_is(const char *line)
{
	if (strstr(line, "[heap]"))
		return HEAP;
	return strstr(line, "[stack") ? STACK : OTHER;
}

int memory_search(pid_t pid, const struct needle *needles, size_t needle_count,
		  struct found *ret_found)
{
	char path[64], line[512], perms[8];
	unsigned long start, end;
	FILE *maps;
	int mem;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = mem < 0 ? NULL : fopen(path, "re");
	if (!maps) {
		int error = errno;

		if (mem >= 0)
			close(mem);
		return -error;
	}
	memset(ret_found, 0, needle_count * sizeof(*ret_found));
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) == 3 && perms[0] == 'r' &&
		    perms[1] == 'w')
			search_range(mem, (off_t)start, (off_t)end, where_is(line), needles,
				     needle_count, ret_found);
	fclose(maps);
	close(mem);
	return 0;
}

int file_search(const char *path, const struct needle *needles, size_t needle_count,
		struct found *ret_found)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t end;

	if (fd < 0)
		return -errno;
	memset(ret_found, 0, needle_count * sizeof(*ret_found));
	end = lseek(fd, 0, SEEK_END);
	search_range(fd, 0, end, OTHER, needles, needle_count, ret_found);
	close(fd);
	return 0;
}
