/*
 * serve_http.h - one HTTP/1.x request, read piece by piece. The packaged parser
 * says what a request means; a check of our own in front of it refuses every
 * byte on which two readers of the same request could disagree.
 */
#ifndef RINGTLS_SERVE_HTTP_H
#define RINGTLS_SERVE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#ifdef HAVE_LLHTTP
#include <llhttp.h>
typedef llhttp_t serve_http_parser;
#else
#include <http_parser.h>
typedef http_parser serve_http_parser;
#endif

#define SERVE_HEADER_MAX 16384 /* bytes, request line included, unless told otherwise */
#define SERVE_TARGET_MAX 8192  /* bytes: more is 414 */
#define SERVE_FIELDS_MAX 100   /* header fields, unless told otherwise */
#define SERVE_BODY_MAX	 65536 /* bytes of body read and thrown away: more is 413 */

/* The header fields that we look at. */
enum serve_field {
	SERVE_HOST,
	SERVE_EXPECT,
	SERVE_TRANSFER_ENCODING,
	SERVE_RANGE,
	SERVE_IF_RANGE,
	SERVE_IF_MATCH,
	SERVE_IF_NONE_MATCH,
	SERVE_IF_MODIFIED_SINCE,
	SERVE_IF_UNMODIFIED_SINCE,
	SERVE_FIELDS,
};

enum serve_method {
	SERVE_GET,
	SERVE_HEAD,
	SERVE_OTHER,
};

/* Where the check of the header's bytes stands. */
enum serve_lines {
	SERVE_LINES_BEFORE, /* empty lines in front of a request are allowed */
	SERVE_LINES_BEFORE_LF,
	SERVE_LINES_REQUEST,
	SERVE_LINES_REQUEST_LF,
	SERVE_LINES_START, /* at the start of a header line */
	SERVE_LINES_NAME,
	SERVE_LINES_VALUE,
	SERVE_LINES_VALUE_LF,
	SERVE_LINES_END_LF,
	SERVE_LINES_END,
};

struct serve_request {
	int refused;     /* the status to answer instead of serving it, or 0 */
	bool keep_alive; /* another request may follow this one */
	unsigned major, minor;
	enum serve_method method;
	const char *method_name; /* NULL while unknown; static storage */

	/* Private: ask serve_request_target and serve_request_field. */
	serve_http_parser parser;
	enum serve_lines lines;
	unsigned spaces, version_len; /* seen of the request line */
	unsigned fields;              /* lines of header fields */
	size_t header_bytes, header_max;
	unsigned fields_max;
	uint64_t body_left;
	bool has_length, headers_done, in_value;
	unsigned name_len;
	char name[24];   /* of the field being read; longer ones are none of ours */
	int current;     /* enum serve_field of the value being read, or -1 */
	size_t value_at; /* where that value starts in text */
	char *text;      /* the target and the values kept, each ended by a NUL */
	size_t text_len, text_size;
	size_t target_at, field_at[SERVE_FIELDS]; /* offsets in text; 0: absent */
};

void serve_request_init(struct serve_request *req);

/* Other limits than the usual ones, before the first byte: more than that is 431. */
void serve_request_limit(struct serve_request *req, size_t header_bytes, unsigned fields);

void serve_request_fini(struct serve_request *req);

/*
 * Takes bytes of the connection; *ret_used says how many belong to this request.
 * True: the request is complete, its body thrown away, or it is refused.
 */
bool serve_request_feed(struct serve_request *req, const char *data, size_t len, size_t *ret_used);

/* The request's target as sent, "" while there is none. */
const char *serve_request_target(const struct serve_request *req);

/* A header field's value, NULL where it is absent; several are joined by ", ". */
const char *serve_request_field(const struct serve_request *req, enum serve_field field);

#endif
