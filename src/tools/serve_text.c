/* serve_text.c - see serve_text.h. */
#include "config.h"
#include "serve_text.h"

#include <stdarg.h>
#include <stdio.h>

void serve_text_add(struct serve_text *text, const char *format, ...)
{
	size_t room = text->size - text->len;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text->at + text->len, room, format, args);
	va_end(args);
	if (n >= 0 && (size_t)n < room) {
		text->len += (size_t)n;
	} else {
		text->at[text->len] = '\0';
		text->cut = true;
	}
}
