/* serve_types.h - the media type of a file, by its name. */
#ifndef RINGTLS_SERVE_TYPES_H
#define RINGTLS_SERVE_TYPES_H

struct serve_types;

/* Reads a mime.types file; where there is none, a small table of our own serves.
 * NULL: no memory. */
struct serve_types *serve_types_new(const char *file);

/* NULL is fine. */
void serve_types_free(struct serve_types *types);

/* Never NULL: what is not known is application/octet-stream. */
const char *serve_types_find(const struct serve_types *types, const char *name);

#endif
