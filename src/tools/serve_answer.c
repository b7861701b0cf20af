/* serve_answer.c - see serve_answer.h. */
#include "config.h"
#include "serve_answer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "serve_cond.h"
#include "serve_text.h"

#define HEAD_MAX  1024  /* without a Location; types come from the administrator's file */
#define SHORT_MAX 32768 /* head and body that fit two TLS records go out together */

static const char *reason_phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
		{ 200, "OK" },
		{ 206, "Partial Content" },
		{ 301, "Moved Permanently" },
		{ 304, "Not Modified" },
		{ 400, "Bad Request" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 408, "Request Timeout" },
		{ 412, "Precondition Failed" },
		{ 413, "Content Too Large" },
		{ 414, "URI Too Long" },
		{ 416, "Range Not Satisfiable" },
		{ 417, "Expectation Failed" },
		{ 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 503, "Service Unavailable" },
		{ 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Error";
}

static bool text_new(struct serve_text *text, size_t size)
{
	*text = (struct serve_text){ .at = malloc(size), .size = size };
	if (text->at)
		*text->at = '\0';
	return text->at;
}

/* The status line and the fields that every answer has. */
static void begin_head(struct serve_text *text, const struct serve_request *req, time_t now,
		       const struct serve_answer *answer)
{
	char date[SERVE_DATE_SIZE];

	serve_date_format(now, date);
	serve_text_add(text, "HTTP/1.1 %d %s\r\nDate: %s\r\n", answer->status,
		       reason_phrase(answer->status), date);
	if (answer->close)
		serve_text_add(text, "Connection: close\r\n");
	else if (req->minor == 0)
		serve_text_add(text, "Connection: keep-alive\r\n");
}

/* The head of an error, or of a redirection, and its small page. fields: lines of its own. */
static bool make_page(const struct serve_request *req, time_t now, const char *fields,
		      struct serve_answer *answer)
{
	const char *phrase = reason_phrase(answer->status);
	size_t body = strlen(phrase) + sizeof("404 \n") - 1;
	struct serve_text text;

	if (!text_new(&text, HEAD_MAX + strlen(fields) + body))
		return false;
	begin_head(&text, req, now, answer);
	serve_text_add(&text,
		       "%sContent-Type: text/plain\r\n"
		       "Content-Length: %zu\r\n\r\n",
		       fields, body);
	if (req->method != SERVE_HEAD) {
		serve_text_add(&text, "%d %s\n", answer->status, phrase);
		answer->body = body;
	}
	answer->text = text.at;
	answer->len = text.len;
	return true;
}

static bool make_error(const struct serve_request *req, int status, time_t now,
		       struct serve_answer *answer)
{
	const char *fields = "";

	answer->status = status;
	if (status == 405)
		fields = "Allow: GET, HEAD\r\n";
	else if (status == 503)
		fields = "Retry-After: 1\r\n";
	return make_page(req, now, fields, answer);
}

/* A folder was named like a file: its address has a slash at the end. */
static bool make_redirect(const struct serve_request *req, const struct serve_path *path,
			  time_t now, struct serve_answer *answer)
{
	size_t size = sizeof("Location: //\r\n") + 3 * path->len + strlen(path->query);
	char *encoded = malloc(3 * path->len + 2);
	struct serve_text fields;
	bool ok = false;

	if (text_new(&fields, size) && encoded) {
		serve_path_encode(path, encoded);
		serve_text_add(&fields, "Location: %s/%s\r\n", encoded, path->query);
		answer->status = 301;
		ok = make_page(req, now, fields.at, answer);
	}
	free(fields.at);
	free(encoded);
	return ok;
}

static void add_file_fields(struct serve_text *text, const struct serve_file *file,
			    const struct serve_part *part, const char *type, time_t now)
{
	char modified[SERVE_DATE_SIZE];

	/* A date in the future would be a promise: RFC 9110 8.8.2.1. */
	serve_date_format(file->modified < now ? file->modified : now, modified);
	serve_text_add(text, "ETag: %s\r\nLast-Modified: %s\r\nAccept-Ranges: bytes\r\n",
		       file->etag, modified);
	if (part->status == 206)
		serve_text_add(text, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n",
			       part->offset, part->offset + part->len - 1, file->size);
	if (part->status != 304)
		serve_text_add(text, "Content-Type: %s\r\nContent-Length: %" PRIu64 "\r\n", type,
			       part->len);
	serve_text_add(text, "\r\n");
}

/* Reads a body that fits behind its head, if that needs no waiting for a disk; of a file system
 * that can't tell (EOPNOTSUPP), in any case. */
static bool read_short(struct serve_text *text, int file, const struct serve_part *part)
{
	struct iovec iov = {.iov_base = text->at + text->len, .iov_len = (size_t)part->len};
	ssize_t n = preadv2(file, &iov, 1, (off_t)part->offset, RWF_NOWAIT);

	if (n < 0 && errno != EAGAIN)
		n = pread(file, iov.iov_base, iov.iov_len, (off_t)part->offset);
	if (n != (ssize_t)part->len)
		return false;
	text->len += (size_t)part->len;
	return true;
}

/* Takes the file over. Returns 0, or a status. */
static int make_file(const struct serve_site *site, const struct serve_request *req,
		     struct serve_file *file, const char *name, time_t now,
		     const struct serve_part *part, struct serve_answer *answer)
{
	bool body = req->method == SERVE_GET && (part->status == 200 || part->status == 206);
	bool brief = body && part->len <= SHORT_MAX - HEAD_MAX;
	struct serve_text text;

	if (!text_new(&text, HEAD_MAX + (brief ? (size_t)part->len : 0)))
		return 503;
	answer->status = part->status;
	begin_head(&text, req, now, answer);
	add_file_fields(&text, file, part, serve_types_find(site->types, name), now);
	if (text.cut || text.len > HEAD_MAX) {
		free(text.at);
		return 500;
	}
	brief = brief && read_short(&text, file->fd, part);
	answer->text = text.at;
	answer->len = text.len;
	if (brief) {
		answer->body = part->len;
	} else if (body) {
		answer->file = *file;
		answer->offset = (off_t)part->offset;
		answer->left = part->len;
	}
	if (answer->file.fd < 0)
		serve_cache_close(file);
	return 0;
}

/* Finds the file that a path means; a folder's is its index. */
static int open_path(const struct serve_site *site, struct serve_path *path, time_t now,
		     struct serve_file *ret_file)
{
	static const char index[] = "index.html";
	int status;

	if (path->folder) {
		if (path->len + 1 + sizeof(index) > sizeof(path->name))
			return 404;
		if (path->len)
			path->name[path->len++] = '/';
		memcpy(path->name + path->len, index, sizeof(index));
		path->len += sizeof(index) - 1;
	}
	status = serve_cache_open(site->cache, site->root, path->name, now, ret_file);
	/* A folder named index.html is no page. */
	return !status && path->folder && ret_file->fd < 0 ? 404 : status;
}

static bool answer_file(const struct serve_site *site, const struct serve_request *req, time_t now,
			struct serve_path *path, struct serve_answer *answer)
{
	struct serve_file file = { .fd = -1 };
	struct serve_part part;
	char fields[64];
	int status = open_path(site, path, now, &file);

	if (status)
		return make_error(req, status, now, answer);
	if (file.fd < 0)
		return make_redirect(req, path, now, answer);
	serve_part_choose(req, &file, now, &part);
	if (part.status == 416) {
		serve_cache_close(&file);
		answer->status = 416;
		snprintf(fields, sizeof(fields), "Content-Range: bytes */%" PRIu64 "\r\n",
			 file.size);
		return make_page(req, now, fields, answer);
	}
	if (part.status == 412)
		status = 412;
	else
		status = make_file(site, req, &file, path->name, now, &part, answer);
	if (!status)
		return true;
	serve_cache_close(&file);
	return make_error(req, status, now, answer);
}

bool serve_answer_make(const struct serve_site *site, const struct serve_request *req, bool last,
		       time_t now, struct serve_answer *ret_answer)
{
	struct serve_path path;
	int status = req->refused;

	*ret_answer = (struct serve_answer){ .file.fd = -1, .close = last || !req->keep_alive };
	if (!status && req->method == SERVE_OTHER)
		status = 405;
	if (!status)
		status = serve_path_parse(serve_request_target(req), &path);
	if (status)
		return make_error(req, status, now, ret_answer);
	return answer_file(site, req, now, &path, ret_answer);
}

bool serve_answer_error(const struct serve_request *req, int status, time_t now,
			struct serve_answer *ret_answer)
{
	*ret_answer = (struct serve_answer){ .file.fd = -1, .close = true };
	return make_error(req, status, now, ret_answer);
}

void serve_answer_fini(struct serve_answer *answer)
{
	free(answer->text);
	serve_cache_close(&answer->file);
	*answer = (struct serve_answer){ .file.fd = -1 };
}
