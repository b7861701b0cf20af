/* serve_cond.c - see serve_cond.h. */
#include "config.h"
#include "serve_cond.h"

#include <string.h>
#include <strings.h>

/* ---- Dates ------------------------------------------------------------------- */

bool serve_date_parse(const char *value, time_t *ret_date)
{
	static const char *const forms[] = {
		"%a, %d %b %Y %H:%M:%S GMT",
		"%A, %d-%b-%y %H:%M:%S GMT", /* RFC 850 */
		"%a %b %e %H:%M:%S %Y",      /* asctime */
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct tm tm = { 0 };
		const char *end = strptime(value, forms[i], &tm);

		if (end && !*end) {
			*ret_date = timegm(&tm);
			return true;
		}
	}
	return false;
}

/* Of the same second there are many answers, and of a file that is asked for often. */
void serve_date_format(time_t date, char ret[SERVE_DATE_SIZE])
{
	static _Thread_local struct {
		time_t date;
		char text[SERVE_DATE_SIZE];
	} last[2];
	struct tm tm;
	int i;

	for (i = 0; i < 2 && (last[i].date != date || !*last[i].text); i++)
		;
	if (i == 2) {
		i = 0;
		last[1] = last[0];
		last[0].date = date;
		if (!gmtime_r(&date, &tm) ||
		    !strftime(last[0].text, SERVE_DATE_SIZE, "%a, %d %b %Y %H:%M:%S GMT", &tm))
			*last[0].text = '\0';
	}
	memcpy(ret, last[i].text, SERVE_DATE_SIZE);
}

/* ---- Entity tags -------------------------------------------------------------- */

/* The end of the tag ("..." or W/"...") that starts here, NULL where none does. */
static const char *etag_end(const char *at)
{
	if (!strncmp(at, "W/", 2))
		at += 2;
	if (*at != '"')
		return NULL;
	at = strchr(at + 1, '"');
	return at ? at + 1 : NULL;
}

bool serve_etag_listed(const char *list, const char *etag, bool weak)
{
	const char *end;

	if (!strcmp(list, "*"))
		return true;
	for (list += strspn(list, ", \t"); *list; list = end + strspn(end, ", \t")) {
		end = etag_end(list);
		if (!end)
			return false;
		if (weak && *list == 'W')
			list += 2;
		if ((size_t)(end - list) == strlen(etag) && !strncmp(list, etag, strlen(etag)))
			return true;
	}
	return false;
}

/* ---- Ranges -------------------------------------------------------------------- */

/* Digits, at least one; a number too big for us stops at the top. */
static bool parse_number(const char **at, uint64_t *ret)
{
	const char *p = *at;
	uint64_t n = 0;
	bool huge = false;

	for (; *p >= '0' && *p <= '9'; p++)
		huge |= __builtin_mul_overflow(n, 10, &n) ||
			__builtin_add_overflow(n, (uint64_t)(*p - '0'), &n);
	if (p == *at)
		return false;
	*at = p;
	*ret = huge ? UINT64_MAX : n;
	return true;
}

static enum serve_range suffix_range(const char *at, uint64_t size, uint64_t *ret_offset,
				     uint64_t *ret_len)
{
	uint64_t len;

	if (!parse_number(&at, &len) || *at)
		return SERVE_RANGE_WHOLE;
	if (len == 0)
		return SERVE_RANGE_OUTSIDE;
	/* The end of nothing is nothing, which Content-Range can't say. */
	if (size == 0)
		return SERVE_RANGE_WHOLE;
	*ret_len = len < size ? len : size;
	*ret_offset = size - *ret_len;
	return SERVE_RANGE_PART;
}

enum serve_range serve_range_parse(const char *value, uint64_t size, uint64_t *ret_offset,
				   uint64_t *ret_len)
{
	uint64_t first, last = UINT64_MAX;

	if (!value || strncasecmp(value, "bytes=", 6) != 0)
		return SERVE_RANGE_WHOLE;
	value += 6 + strspn(value + 6, " \t");
	if (*value == '-')
		return suffix_range(value + 1, size, ret_offset, ret_len);
	if (!parse_number(&value, &first) || *value++ != '-')
		return SERVE_RANGE_WHOLE;
	if (*value && (!parse_number(&value, &last) || *value || last < first))
		return SERVE_RANGE_WHOLE;
	if (first >= size)
		return SERVE_RANGE_OUTSIDE;
	*ret_offset = first;
	*ret_len = last < size ? last - first + 1 : size - first;
	return SERVE_RANGE_PART;
}

/* ---- The whole decision --------------------------------------------------------- */

/* RFC 9110 13.2.2, steps 1 and 2: is the file still the one that was meant? */
static bool is_expected(const struct serve_request *req, const struct serve_file *file)
{
	const char *match = serve_request_field(req, SERVE_IF_MATCH);
	const char *since = serve_request_field(req, SERVE_IF_UNMODIFIED_SINCE);
	time_t date;

	if (match)
		return serve_etag_listed(match, file->etag, false);
	return !since || !serve_date_parse(since, &date) || file->modified <= date;
}

/* Steps 3 and 4: has the client got it already? */
static bool is_known(const struct serve_request *req, const struct serve_file *file)
{
	const char *none = serve_request_field(req, SERVE_IF_NONE_MATCH);
	const char *since = serve_request_field(req, SERVE_IF_MODIFIED_SINCE);
	time_t date;

	if (none)
		return serve_etag_listed(none, file->etag, true);
	return since && serve_date_parse(since, &date) && file->modified <= date;
}

/* Step 5. A date is good enough only if the file was not written in its last second. */
static bool is_range_wanted(const struct serve_request *req, const struct serve_file *file,
			    time_t now)
{
	const char *if_range = serve_request_field(req, SERVE_IF_RANGE);
	time_t date;

	if (!if_range)
		return true;
	if (serve_date_parse(if_range, &date))
		return date == file->modified && file->modified < now;
	return !strcmp(if_range, file->etag);
}

void serve_part_choose(const struct serve_request *req, const struct serve_file *file, time_t now,
		       struct serve_part *ret_part)
{
	const char *range = serve_request_field(req, SERVE_RANGE);

	*ret_part = (struct serve_part){ .status = 200, .len = file->size };
	if (!is_expected(req, file)) {
		ret_part->status = 412;
	} else if (is_known(req, file)) {
		ret_part->status = 304;
	} else if (req->method == SERVE_GET && is_range_wanted(req, file, now)) {
		switch (serve_range_parse(range, file->size, &ret_part->offset, &ret_part->len)) {
		case SERVE_RANGE_WHOLE:
			break;
		case SERVE_RANGE_PART:
			ret_part->status = 206;
			break;
		case SERVE_RANGE_OUTSIDE:
			ret_part->status = 416;
			break;
		}
	}
}
