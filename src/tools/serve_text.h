/* serve_text.h - text put together in a buffer of fixed size. */
#ifndef RINGTLS_SERVE_TEXT_H
#define RINGTLS_SERVE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct serve_text {
	char *at;
	size_t len, size; /* always ended by a NUL, so len < size */
	bool cut;         /* something did not fit */
};

void serve_text_add(struct serve_text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
