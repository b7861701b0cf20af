/* say.h - what peer, talk and tap have in common: reports in JSON, and numbers of options. */
#ifndef SAY_H
#define SAY_H

#include <stdint.h>

/* As a string of JSON, on stdout. */
void say_string(const char *s);

/* usage() does not come back. */
uint64_t say_number(const char *text, void (*usage)(void));

#endif
