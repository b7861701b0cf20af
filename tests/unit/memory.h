/*
 * memory.h - where known bytes lie in the memory of another process, or in its core file.
 * The searching process may hold them as it likes: it never looks at itself.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NEEDLE_MAX 48

struct needle {
	char name[48];
	uint8_t bytes[NEEDLE_MAX];
	size_t len;
	char hex[2 * NEEDLE_MAX + 1]; /* a log would hold them like this */
};

/* Copies of a needle, as bytes or as text in either case. */
struct found {
	unsigned heap, stack, other;
	unsigned text; /* of these, in hexadecimal */
};

void needle_set(struct needle *n, const char *name, const uint8_t *bytes, size_t len);
unsigned found_sum(const struct found *f);

/*
 * Adds up the copies in what the process may write, which is stopped or waits: its heap
 * and stacks, and what is mapped of files and rings. 0, or a negated errno.
 */
int memory_search(pid_t pid, const struct needle *needles, size_t count, struct found *ret_found);

/* The same in a file, all of it under "other". */
int file_search(const char *path, const struct needle *needles, size_t count,
		struct found *ret_found);

#endif
