/* say.c - see say.h. */
#include "config.h"
#include "say.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void say_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			printf("\\u%04x", (unsigned)*s);
		else
			putchar(*s);
	}
	putchar('"');
}

uint64_t say_number(const char *text, void (*usage)(void))
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end)
		usage();
	return value;
}
