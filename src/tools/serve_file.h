/* serve_file.h - from a request's target to an open file, never outside the root. */
#ifndef RINGTLS_SERVE_FILE_H
#define RINGTLS_SERVE_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

struct serve_path {
	char name[PATH_MAX]; /* relative to the root, "" for the root itself */
	size_t len;
	bool folder;       /* the target ended in a slash */
	const char *query; /* in the target, with its '?', or "" */
};

struct serve_cached;

struct serve_file {
	int fd; /* -1: it is a folder */
	struct serve_cached *cached; /* serve_cache.c's, or NULL: fd is the holder's alone */
	uint64_t size;
	time_t modified;
	char etag[64]; /* strong, with its quotes */
};

/*
 * Reads the path out of a target (origin or absolute form): decodes it once and
 * takes out "." and "..". Returns 0, or the status that refuses it.
 */
int serve_path_parse(const char *target, struct serve_path *ret_path);

/* Writes the path as a target, '/' first; ret needs 3 * len + 2 bytes. */
void serve_path_encode(const struct serve_path *path, char *ret);

/* Opens a folder to serve from; a descriptor or a negated errno. */
int serve_root_open(const char *name);

/*
 * Opens a regular file beneath the root, or finds a folder (fd is -1 then).
 * Links may be followed, but not out of the root. Returns 0, or the status that
 * says why not.
 */
int serve_file_open(int root, const char *name, struct serve_file *ret_file);

#endif
