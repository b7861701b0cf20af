/* serve_file.c - see serve_file.h. */
#include "config.h"
#include "serve_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- Paths ----------------------------------------------------------------- */

static int hex_value(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	if (ch >= 'a' && ch <= 'f')
		return ch - 'a' + 10;
	if (ch >= 'A' && ch <= 'F')
		return ch - 'A' + 10;
	return -1;
}

/* One character of a segment, decoded; moves *at on. Less than 0: a negated status. */
static int next_char(const char **at)
{
	const char *p = *at;
	int high, low;

	if (*p != '%') {
		*at = p + 1;
		return (unsigned char)*p > ' ' && *p != 0x7f ? (unsigned char)*p : -400;
	}
	high = hex_value(p[1]);
	low = high < 0 ? -1 : hex_value(p[2]);
	if (low < 0 || (high == 0 && low == 0))
		return -400;
	*at = p + 3;
	/* No file's name has a slash in it, and this one does not divide segments. */
	return high * 16 + low == '/' ? -404 : high * 16 + low;
}

/* Decodes one segment behind path->name; returns its length or a negated status. */
static int decode_segment(struct serve_path *path, const char **at)
{
	size_t start = path->len ? path->len + 1 : 0;
	size_t end = start;

	while (**at && !strchr("/?", **at)) {
		int ch = next_char(at);

		if (ch < 0)
			return ch;
		if (end + 1 >= sizeof(path->name))
			return -414;
		path->name[end++] = (char)ch;
	}
	path->name[end] = '\0';
	return (int)(end - start);
}

static void drop_last_segment(struct serve_path *path)
{
	const char *slash = memrchr(path->name, '/', path->len);

	path->len = slash ? (size_t)(slash - path->name) : 0;
}

/* Takes in the segment of len bytes that stands behind path->name. */
static int add_segment(struct serve_path *path, size_t len)
{
	size_t start = path->len ? path->len + 1 : 0;
	const char *segment = path->name + start;

	path->folder = true;
	if (len == 0 || !strcmp(segment, "."))
		return 0;
	if (!strcmp(segment, "..")) {
		if (!path->len)
			return 400;
		drop_last_segment(path);
		return 0;
	}
	if (path->len)
		path->name[path->len] = '/';
	path->len = start + len;
	path->folder = false;
	return 0;
}

/* Where the path starts: the absolute form has a scheme and an authority in front
 * of it. NULL: neither form. */
static const char *find_path(const char *target)
{
	size_t scheme, authority;

	if (*target == '/')
		return target;
	if (!strncasecmp(target, "https://", 8))
		scheme = 8;
	else if (!strncasecmp(target, "http://", 7))
		scheme = 7;
	else
		return NULL;
	authority = strcspn(target + scheme, "/?");
	return authority ? target + scheme + authority : NULL;
}

int serve_path_parse(const char *target, struct serve_path *ret_path)
{
	const char *at = find_path(target);
	int status, len;

	ret_path->len = 0;
	ret_path->folder = true;
	ret_path->query = "";
	/* A fragment never leaves the client. */
	if (!at || strchr(at, '#'))
		return 400;
	while (*at == '/') {
		at++;
		len = decode_segment(ret_path, &at);
		if (len < 0)
			return -len;
		status = add_segment(ret_path, (size_t)len);
		if (status)
			return status;
	}
	ret_path->name[ret_path->len] = '\0';
	ret_path->query = at;
	return 0;
}

void serve_path_encode(const struct serve_path *path, char *ret)
{
	static const char plain[] = "/-._~!$&'()*+,;=:@";
	static const char hex[] = "0123456789ABCDEF";

	*ret++ = '/';
	for (size_t i = 0; i < path->len; i++) {
		unsigned char ch = (unsigned char)path->name[i];
		bool alnum = (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z');

		if (alnum || strchr(plain, ch)) {
			*ret++ = (char)ch;
		} else {
			*ret++ = '%';
			*ret++ = hex[ch >> 4];
			*ret++ = hex[ch & 15];
		}
	}
	*ret = '\0';
}

/* ---- Files ------------------------------------------------------------------- */

static int open_beneath(int root, const char *name)
{
	/* O_NONBLOCK: opening a FIFO must not wait for its writer. */
	struct open_how how = {
		.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	int fd, tries = 0;

	do {
		fd = (int)syscall(SYS_openat2, root, *name ? name : ".", &how, sizeof(how));
		/* EAGAIN: something was renamed while a ".." of a link was followed. */
	} while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < 16)));
	return fd < 0 ? -errno : fd;
}

int serve_root_open(const char *name)
{
	int fd = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int probe;

	if (fd < 0)
		return -errno;
	/* Without openat2 (Linux before 5.6, or a seccomp filter) nothing holds the root. */
	probe = open_beneath(fd, "");
	if (probe < 0) {
		close(fd);
		return probe;
	}
	close(probe);
	return fd;
}

static int status_of_errno(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
	case ENAMETOOLONG:
		return 404;
	case EACCES:
	case EPERM:
	case EXDEV: /* a link out of the root */
	case ELOOP:
	case ENXIO: /* a socket */
	case ENODEV:
		return 403;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EAGAIN:
		return 503;
	default:
		return 500;
	}
}

int serve_file_open(int root, const char *name, struct serve_file *ret_file)
{
	struct stat st;
	int fd = open_beneath(root, name);

	if (fd < 0)
		return status_of_errno(-fd);
	if (fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
		close(fd);
		return 403;
	}
	ret_file->fd = fd;
	ret_file->cached = NULL;
	if (S_ISDIR(st.st_mode)) {
		close(fd);
		ret_file->fd = -1;
		return 0;
	}
	/* On a ring, O_NONBLOCK on the file would turn waiting for the disk into EAGAIN. */
	fcntl(fd, F_SETFL, 0);
	ret_file->size = (uint64_t)st.st_size;
	ret_file->modified = st.st_mtim.tv_sec;
	snprintf(ret_file->etag, sizeof(ret_file->etag), "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "\"",
		 (uint64_t)st.st_size,
		 (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec,
		 (uint64_t)st.st_ino);
	return 0;
}
