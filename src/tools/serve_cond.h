/* serve_cond.h - preconditions and ranges of RFC 9110, chapters 13 and 14. No I/O. */
#ifndef RINGTLS_SERVE_COND_H
#define RINGTLS_SERVE_COND_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "serve_file.h"
#include "serve_http.h"

#define SERVE_DATE_SIZE 32

/* What of the file the answer carries. */
struct serve_part {
	int status; /* 200, 206, 304, 412 or 416 */
	uint64_t offset, len;
};

/* Decides by the request's fields; now is the time of the answer. */
void serve_part_choose(const struct serve_request *req, const struct serve_file *file, time_t now,
		       struct serve_part *ret_part);

/* Is the tag in an If-Match (strong) or If-None-Match (weak comparison) list? */
bool serve_etag_listed(const char *list, const char *etag, bool weak);

enum serve_range {
	SERVE_RANGE_WHOLE, /* none, not understood, or more than one */
	SERVE_RANGE_PART,
	SERVE_RANGE_OUTSIDE,
};

enum serve_range serve_range_parse(const char *value, uint64_t size, uint64_t *ret_offset,
				   uint64_t *ret_len);

/* HTTP's three forms of a date; false where it is none of them. */
bool serve_date_parse(const char *value, time_t *ret_date);

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
void serve_date_format(time_t date, char ret[SERVE_DATE_SIZE]);

#endif
