/* serve_http.c - see serve_http.h. */
#include "config.h"
#include "serve_http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const field_names[SERVE_FIELDS] = {
	[SERVE_HOST] = "host",
	[SERVE_EXPECT] = "expect",
	[SERVE_TRANSFER_ENCODING] = "transfer-encoding",
	[SERVE_RANGE] = "range",
	[SERVE_IF_RANGE] = "if-range",
	[SERVE_IF_MATCH] = "if-match",
	[SERVE_IF_NONE_MATCH] = "if-none-match",
	[SERVE_IF_MODIFIED_SINCE] = "if-modified-since",
	[SERVE_IF_UNMODIFIED_SINCE] = "if-unmodified-since",
};

/* ---- The bytes of the header, before anybody interprets them ------------- */

/* A token's character, RFC 9110 5.6.2. */
static bool is_tchar(unsigned char ch)
{
	if ((ch >= '0' && ch <= '9') || (ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z'))
		return true;
	return ch && strchr("!#$%&'*+-.^_`|~", ch);
}

/* "METHOD target HTTP/d.d": http-parser, as Debian builds it, takes the last for granted. */
static bool check_version(struct serve_request *req, unsigned char ch)
{
	static const char form[] = "HTTP/0.0";
	unsigned i = req->version_len++;

	if (i >= sizeof(form) - 1)
		return false;
	return form[i] == '0' ? ch >= '0' && ch <= '9' : ch == (unsigned char)form[i];
}

static bool check_request_line(struct serve_request *req, unsigned char ch)
{
	if (ch == '\r') {
		req->lines = SERVE_LINES_REQUEST_LF;
		return req->version_len == strlen("HTTP/0.0");
	}
	if (req->spaces == 2)
		return check_version(req, ch);
	if (ch == ' ')
		return ++req->spaces <= 2;
	return ch > ' ' && ch < 0x7f;
}

/* A line that starts with white space would go on with the one before (obs-fold). */
static bool check_line_start(struct serve_request *req, unsigned char ch)
{
	if (ch == '\r') {
		req->lines = SERVE_LINES_END_LF;
		return true;
	}
	req->lines = SERVE_LINES_NAME;
	req->fields++;
	return is_tchar(ch);
}

static bool check_value(struct serve_request *req, unsigned char ch)
{
	if (ch == '\r')
		req->lines = SERVE_LINES_VALUE_LF;
	return ch == '\r' || ch == '\t' || (ch >= ' ' && ch != 0x7f);
}

static bool check_lf(struct serve_request *req, unsigned char ch, enum serve_lines next)
{
	req->lines = next;
	return ch == '\n';
}

/* False where the byte is one that some readers take and others don't. */
static bool check_byte(struct serve_request *req, unsigned char ch)
{
	switch (req->lines) {
	case SERVE_LINES_BEFORE:
		if (ch == '\r') {
			req->lines = SERVE_LINES_BEFORE_LF;
			return true;
		}
		req->lines = SERVE_LINES_REQUEST;
		return is_tchar(ch);
	case SERVE_LINES_BEFORE_LF:
		return check_lf(req, ch, SERVE_LINES_BEFORE);
	case SERVE_LINES_REQUEST:
		return check_request_line(req, ch);
	case SERVE_LINES_REQUEST_LF:
	case SERVE_LINES_VALUE_LF:
		return check_lf(req, ch, SERVE_LINES_START);
	case SERVE_LINES_START:
		return check_line_start(req, ch);
	case SERVE_LINES_NAME:
		if (ch == ':')
			req->lines = SERVE_LINES_VALUE;
		return ch == ':' || is_tchar(ch);
	case SERVE_LINES_VALUE:
		return check_value(req, ch);
	case SERVE_LINES_END_LF:
		return check_lf(req, ch, SERVE_LINES_END);
	case SERVE_LINES_END:
		break;
	}
	return false;
}

static void refuse(struct serve_request *req, int status)
{
	if (!req->refused)
		req->refused = status;
	req->keep_alive = false;
}

/* Returns how many of the bytes belong to the header and passed; *ret_status is what
 * to answer where one did not, else 0. */
static size_t check_header(struct serve_request *req, const char *data, size_t len,
			   int *ret_status)
{
	size_t n = 0;

	*ret_status = 0;
	while (n < len && req->lines != SERVE_LINES_END && !*ret_status) {
		if (req->header_bytes + n >= req->header_max || req->fields > req->fields_max)
			*ret_status = req->lines <= SERVE_LINES_REQUEST ? 414 : 431;
		else if (!check_byte(req, (unsigned char)data[n]))
			*ret_status = 400;
		else
			n++;
	}
	return n;
}

/* ---- What the parser tells us -------------------------------------------- */

static bool append(struct serve_request *req, const char *data, size_t len)
{
	size_t need = req->text_len + len + 1;

	/* Joining repeated fields copies them. */
	if (need > 2 * req->header_max) {
		refuse(req, 431);
		return false;
	}
	if (need > req->text_size) {
		size_t size = need > 2 * req->text_size ? need + 256 : 2 * req->text_size;
		char *text = realloc(req->text, size);

		if (!text) {
			refuse(req, 503);
			return false;
		}
		req->text = text;
		req->text_size = size;
	}
	memcpy(req->text + req->text_len, data, len);
	req->text_len += len;
	req->text[req->text_len] = '\0';
	return true;
}

/* Starts a string of its own: offset 0 stands for "absent". */
static size_t begin_text(struct serve_request *req)
{
	if (!append(req, "", 1))
		return 0;
	return req->text_len;
}

static int on_url(serve_http_parser *parser, const char *at, size_t len)
{
	struct serve_request *req = parser->data;

	if (!req->target_at)
		req->target_at = begin_text(req);
	if (req->target_at && req->text_len - req->target_at + len > SERVE_TARGET_MAX)
		refuse(req, 414);
	return req->refused || !append(req, at, len) ? -1 : 0;
}

static int find_field(const char *name, size_t len)
{
	for (int i = 0; i < SERVE_FIELDS; i++)
		if (strlen(field_names[i]) == len && !strncasecmp(field_names[i], name, len))
			return i;
	return -1;
}

/* The name is complete: is its value one to keep? */
static int begin_value(struct serve_request *req)
{
	size_t old;

	req->in_value = true;
	req->current = find_field(req->name, req->name_len);
	if (req->current < 0)
		return 0;
	old = req->field_at[req->current];
	if (old && req->current == SERVE_HOST)
		refuse(req, 400);
	req->value_at = begin_text(req);
	if (!old || req->refused)
		return req->refused ? -1 : 0;
	/* append() may move what it copies from: make the room first. */
	char *copy = strdup(req->text + old);
	bool fits = copy && append(req, copy, strlen(copy)) && append(req, ", ", 2);
	free(copy);
	return fits ? 0 : -1;
}

static void end_value(struct serve_request *req)
{
	if (req->in_value && req->current >= 0) {
		while (req->text_len > req->value_at &&
		       strchr(" \t", req->text[req->text_len - 1]))
			req->text[--req->text_len] = '\0';
		req->field_at[req->current] = req->value_at;
	}
	req->in_value = false;
	req->name_len = 0;
}

static int on_header_field(serve_http_parser *parser, const char *at, size_t len)
{
	struct serve_request *req = parser->data;

	if (req->in_value)
		end_value(req);
	/* A name that is too long becomes one that no field of ours has. */
	if (req->name_len + len > sizeof(req->name))
		len = sizeof(req->name) - req->name_len;
	memcpy(req->name + req->name_len, at, len);
	req->name_len += len;
	return 0;
}

static int on_header_value(serve_http_parser *parser, const char *at, size_t len)
{
	struct serve_request *req = parser->data;

	if (!req->in_value && begin_value(req))
		return -1;
	return req->current >= 0 && !append(req, at, len) ? -1 : 0;
}

static bool is_valid_host(const char *host)
{
	for (; *host; host++)
		if (!is_tchar((unsigned char)*host) && !strchr(":[]()=;,", *host))
			return false;
	return true;
}

/*
 * RFC 9112 6.1 and 6.3. A body without a length of its own is not read: the
 * answer is the connection's last, so nothing hidden in it can become a request.
 */
static void judge_body(struct serve_request *req)
{
	const char *coding = serve_request_field(req, SERVE_TRANSFER_ENCODING);

	if (coding) {
		if (req->has_length || req->minor == 0)
			refuse(req, 400);
		else if (strcasecmp(coding, "chunked") != 0)
			refuse(req, 501);
		req->keep_alive = false;
		req->body_left = 0;
	} else if (req->body_left && (serve_request_field(req, SERVE_EXPECT) ||
				      req->method == SERVE_OTHER)) {
		/* The answer is known now, so the client need not send its body. */
		req->keep_alive = false;
		req->body_left = 0;
	} else if (req->body_left > SERVE_BODY_MAX) {
		refuse(req, 413);
	}
}

static void judge(struct serve_request *req)
{
	const char *host = serve_request_field(req, SERVE_HOST);
	const char *expect = serve_request_field(req, SERVE_EXPECT);

	if (req->major != 1 || req->minor > 1)
		refuse(req, 505);
	else if ((!host && req->minor >= 1) || (host && !is_valid_host(host)))
		refuse(req, 400);
	judge_body(req);
	if (expect && strcasecmp(expect, "100-continue") != 0)
		refuse(req, 417);
}

/* ---- The parser's two dialects ------------------------------------------- */

#ifdef HAVE_LLHTTP
#define SHOULD_KEEP_ALIVE(parser) llhttp_should_keep_alive(parser)
#define METHOD_NAME(parser)	  llhttp_method_name((llhttp_method_t)(parser)->method)
#define HAS_LENGTH		  F_CONTENT_LENGTH
#else
#define SHOULD_KEEP_ALIVE(parser) http_should_keep_alive(parser)
#define METHOD_NAME(parser)	  http_method_str((enum http_method)(parser)->method)
#define HAS_LENGTH		  F_CONTENTLENGTH
#endif

static int on_headers_complete(serve_http_parser *parser)
{
	struct serve_request *req = parser->data;

	if (req->in_value)
		end_value(req);
	req->major = parser->http_major;
	req->minor = parser->http_minor;
	req->method_name = METHOD_NAME(parser);
	req->method = parser->method == HTTP_GET    ? SERVE_GET
		      : parser->method == HTTP_HEAD ? SERVE_HEAD
						    : SERVE_OTHER;
	req->has_length = parser->flags & HAS_LENGTH;
	req->body_left = req->has_length ? parser->content_length : 0;
	/* Behind a CONNECT would come another protocol. */
	req->keep_alive = parser->method != HTTP_CONNECT && SHOULD_KEEP_ALIVE(parser);
	req->headers_done = true;
	judge(req);
	return 1; /* it shall not expect a body: counting that is ours */
}

#ifdef HAVE_LLHTTP
static const llhttp_settings_t settings = {
#else
static const http_parser_settings settings = {
#endif
	.on_url = on_url,
	.on_header_field = on_header_field,
	.on_header_value = on_header_value,
	.on_headers_complete = on_headers_complete,
};

#ifdef HAVE_LLHTTP
static void parser_init(serve_http_parser *parser)
{
	llhttp_init(parser, HTTP_REQUEST, &settings);
}

static int parser_execute(serve_http_parser *parser, const char *data, size_t len)
{
	return (int)llhttp_execute(parser, data, len);
}
#else
static void parser_init(serve_http_parser *parser)
{
	http_parser_init(parser, HTTP_REQUEST);
}

static int parser_execute(serve_http_parser *parser, const char *data, size_t len)
{
	http_parser_execute(parser, &settings, data, len);
	return (int)HTTP_PARSER_ERRNO(parser);
}
#endif

/* ---- The request ---------------------------------------------------------- */

void serve_request_init(struct serve_request *req)
{
	memset(req, 0, sizeof(*req));
	parser_init(&req->parser);
	req->parser.data = req;
	serve_request_limit(req, SERVE_HEADER_MAX, SERVE_FIELDS_MAX);
}

void serve_request_limit(struct serve_request *req, size_t header_bytes, unsigned fields)
{
	req->header_max = header_bytes;
	req->fields_max = fields;
}

void serve_request_fini(struct serve_request *req)
{
	free(req->text);
	req->text = NULL;
}

const char *serve_request_target(const struct serve_request *req)
{
	return req->target_at ? req->text + req->target_at : "";
}

const char *serve_request_field(const struct serve_request *req, enum serve_field field)
{
	return req->field_at[field] ? req->text + req->field_at[field] : NULL;
}

static void parse(struct serve_request *req, const char *data, size_t len)
{
	/* http-parser takes no bytes for the end of the connection. */
	int error = len ? parser_execute(&req->parser, data, len) : HPE_OK;

	/* Behind the header there is nothing left that the parser could refuse. */
	if (req->headers_done || error == HPE_OK)
		return;
	if (error == HPE_INVALID_METHOD)
		refuse(req, 501);
	else if (error == HPE_INVALID_VERSION)
		refuse(req, 505);
	else
		refuse(req, 400);
}

bool serve_request_feed(struct serve_request *req, const char *data, size_t len, size_t *ret_used)
{
	size_t used = 0;
	int status;

	if (!req->headers_done) {
		used = check_header(req, data, len, &status);
		req->header_bytes += used;
		/* What passed comes before what did not: so is the parser's verdict on it. */
		parse(req, data, used);
		if (status || (req->lines == SERVE_LINES_END && !req->headers_done))
			refuse(req, status ? status : 400);
	}
	if (req->headers_done && !req->refused) {
		size_t body = len - used < req->body_left ? len - used : (size_t)req->body_left;

		req->body_left -= body;
		used += body;
	}
	*ret_used = used;
	return req->refused || (req->headers_done && !req->body_left);
}
