/* serve_log.c - see serve_log.h. */
#include "config.h"
#include "serve_log.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "serve_text.h"

/* A pipe takes a line whole up to this size, and what follows the request is short. */
#define LINE_SIZE   PIPE_BUF
#define TARGET_SIZE (PIPE_BUF / 2)

void serve_address_format(const union serve_address *address, char ret[SERVE_ADDRESS_SIZE])
{
	const void *bytes = &address->in.sin_addr;

	if (address->any.sa_family == AF_INET6)
		bytes = &address->in6.sin6_addr;
	if (!inet_ntop(address->any.sa_family, bytes, ret, SERVE_ADDRESS_SIZE))
		snprintf(ret, SERVE_ADDRESS_SIZE, "?");
}

static void write_error(struct serve_text *line)
{
	ssize_t n;

	line->at[line->len++] = '\n';
	n = write(STDERR_FILENO, line->at, line->len);
	(void)n; /* nobody is left to be told */
}

__attribute__((format(printf, 2, 0))) static void add_args(struct serve_text *line,
							   const char *format, va_list args)
{
	char message[512];

	vsnprintf(message, sizeof(message), format, args);
	serve_text_add(line, "ringtls-serve: %s", message);
}

void serve_log(const char *format, ...)
{
	char buffer[1024] = "";
	struct serve_text line = { .at = buffer, .size = sizeof(buffer) };
	va_list args;

	va_start(args, format);
	add_args(&line, format, args);
	va_end(args);
	write_error(&line);
}

void serve_log_openssl(const char *format, ...)
{
	char buffer[1024] = "";
	struct serve_text line = { .at = buffer, .size = sizeof(buffer) };
	unsigned long error = ERR_peek_error(); /* the first is the cause */
	const char *reason = ERR_reason_error_string(error);
	va_list args;

	va_start(args, format);
	add_args(&line, format, args);
	va_end(args);
	/* OpenSSL has no text for an errno, which is what a missing file leaves. */
	if (ERR_SYSTEM_ERROR(error))
		reason = strerrordesc_np(ERR_GET_REASON(error));
	serve_text_add(&line, ": %s", reason ? reason : "no reason given");
	ERR_clear_error();
	write_error(&line);
}

/* Everything that could end the quotes, or the line, is written as \xHH. */
static void add_escaped(struct serve_text *line, const char *text)
{
	size_t end = line->len + TARGET_SIZE;

	for (; *text && line->len < end; text++) {
		unsigned char ch = (unsigned char)*text;

		if (ch > ' ' && ch < 0x7f && ch != '"' && ch != '\\')
			serve_text_add(line, "%c", ch);
		else
			serve_text_add(line, "\\x%02x", ch);
	}
	if (*text)
		serve_text_add(line, "...");
}

static void add_request(struct serve_text *line, const struct serve_request *req)
{
	const char *target = serve_request_target(req);

	serve_text_add(line, "%s ", req->method_name ? req->method_name : "-");
	add_escaped(line, *target ? target : "-");
	if (req->method_name)
		serve_text_add(line, " HTTP/%u.%u", req->major, req->minor);
}

static void add_tls(struct serve_text *line, const struct serve_access *access)
{
	struct ringtls_conn_info info = { .size = sizeof(info) };

	ringtls_conn_get_info(access->conn, &info);
	serve_text_add(line, "%s %s lane=%s reason=%s", SSL_get_version(access->ssl),
		       SSL_get_cipher_name(access->ssl), ringtls_lane_name(info.lane),
		       ringtls_reason_name(info.reason));
}

/*
 * Lines of the access log that a thread has not written yet: a system call for what a round of
 * its loop has answered, and not for each answer. A write of up to PIPE_BUF does not mix with
 * those of other threads.
 */
static _Thread_local struct {
	char at[PIPE_BUF];
	size_t len;
} unwritten;

void serve_log_flush(void)
{
	ssize_t n;

	if (!unwritten.len)
		return;
	n = write(STDOUT_FILENO, unwritten.at, unwritten.len);
	(void)n; /* nobody is left to be told */
	unwritten.len = 0;
}

static void keep_line(struct serve_text *line)
{
	line->at[line->len++] = '\n';
	if (line->len > sizeof(unwritten.at) - unwritten.len)
		serve_log_flush();
	memcpy(unwritten.at + unwritten.len, line->at, line->len);
	unwritten.len += line->len;
}

/* A second has many lines. */
static const char *format_time(time_t now)
{
	static _Thread_local struct {
		time_t now;
		char text[40];
	} last;
	struct tm tm;

	if (last.now == now && *last.text)
		return last.text;
	last.now = now;
	strftime(last.text, sizeof(last.text), "%d/%b/%Y:%H:%M:%S +0000", gmtime_r(&now, &tm));
	return last.text;
}

void serve_log_access(const struct serve_access *access)
{
	char buffer[LINE_SIZE], address[SERVE_ADDRESS_SIZE];
	struct serve_text line = { .at = buffer, .size = sizeof(buffer) };

	*buffer = '\0';
	serve_address_format(access->peer, address);
	serve_text_add(&line, "%s - - [%s] \"", address, format_time(access->now));
	add_request(&line, access->request);
	serve_text_add(&line, "\" %d %" PRIu64 " %" PRIu64 " ", access->status, access->bytes,
		       access->duration_ms);
	add_tls(&line, access);
	keep_line(&line);
}
