/* serve_types.c - see serve_types.h. */
#include "config.h"
#include "serve_types.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct entry {
	char *extension; /* without its dot; in one block with the type behind it */
	const char *type;
	size_t order; /* where two lines name an extension, the first one holds */
};

struct serve_types {
	struct entry *entries; /* sorted by extension */
	size_t count, size;
};

/* Used for what the file does not name, so always for what a page needs most. */
static const char *const built_in[] = {
	"text/html html htm",
	"text/css css",
	"text/javascript js mjs",
	"text/plain txt text log",
	"text/csv csv",
	"text/markdown md",
	"text/xml xml",
	"application/json json",
	"application/wasm wasm",
	"application/pdf pdf",
	"application/zip zip",
	"application/gzip gz tgz",
	"application/x-tar tar",
	"application/x-xz xz",
	"application/zstd zst",
	"image/png png",
	"image/jpeg jpg jpeg",
	"image/gif gif",
	"image/svg+xml svg",
	"image/webp webp",
	"image/avif avif",
	"image/vnd.microsoft.icon ico",
	"font/woff woff",
	"font/woff2 woff2",
	"audio/mpeg mp3",
	"audio/ogg ogg",
	"video/mp4 mp4",
	"video/webm webm",
};

/* Room for one more; NULL: no memory. */
static struct entry *new_entry(struct serve_types *types)
{
	if (types->count == types->size) {
		size_t size = types->size ? 2 * types->size : 256;
		struct entry *entries = reallocarray(types->entries, size, sizeof(*entries));

		if (!entries)
			return NULL;
		types->entries = entries;
		types->size = size;
	}
	return &types->entries[types->count];
}

static bool add_entry(struct serve_types *types, const char *extension, const char *type)
{
	struct entry *entry = new_entry(types);
	size_t at = strlen(extension) + 1;

	if (!entry)
		return false;
	entry->extension = malloc(at + strlen(type) + 1);
	if (!entry->extension)
		return false;
	memcpy(entry->extension, extension, at);
	memcpy(entry->extension + at, type, strlen(type) + 1);
	entry->type = entry->extension + at;
	entry->order = types->count++;
	return true;
}

/* "type/subtype  ext ext ..." */
static bool add_line(struct serve_types *types, char *line)
{
	static const char space[] = " \t\r\n";
	char *save, *type, *extension;

	line[strcspn(line, "#")] = '\0';
	type = strtok_r(line, space, &save);
	if (!type)
		return true;
	while ((extension = strtok_r(NULL, space, &save)))
		if (!add_entry(types, extension, type))
			return false;
	return true;
}

static bool add_file(struct serve_types *types, const char *name)
{
	FILE *file = fopen(name, "re");
	char *line = NULL;
	size_t size = 0;
	bool ok = true;

	if (!file)
		return true;
	while (ok && getline(&line, &size, file) >= 0)
		ok = add_line(types, line);
	free(line);
	fclose(file);
	return ok;
}

static bool add_built_in(struct serve_types *types)
{
	char line[80];

	for (size_t i = 0; i < sizeof(built_in) / sizeof(built_in[0]); i++) {
		snprintf(line, sizeof(line), "%s", built_in[i]);
		if (!add_line(types, line))
			return false;
	}
	return true;
}

static int compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int by_name = strcasecmp(x->extension, y->extension);

	return by_name ? by_name : (x->order > y->order) - (x->order < y->order);
}

/* The first of several entries for an extension stays. */
static void drop_doubles(struct serve_types *types)
{
	size_t kept = 0;

	for (size_t i = 0; i < types->count; i++) {
		struct entry *entry = &types->entries[i];

		if (kept && !strcasecmp(types->entries[kept - 1].extension, entry->extension))
			free(entry->extension);
		else
			types->entries[kept++] = *entry;
	}
	types->count = kept;
}

struct serve_types *serve_types_new(const char *file)
{
	struct serve_types *types = calloc(1, sizeof(*types));

	if (!types)
		return NULL;
	if (!add_file(types, file) || !add_built_in(types) || !types->entries) {
		serve_types_free(types);
		return NULL;
	}
	qsort(types->entries, types->count, sizeof(types->entries[0]), compare);
	drop_doubles(types);
	return types;
}

void serve_types_free(struct serve_types *types)
{
	if (!types)
		return;
	for (size_t i = 0; i < types->count; i++)
		free(types->entries[i].extension);
	free(types->entries);
	free(types);
}

static int compare_key(const void *key, const void *entry)
{
	return strcasecmp(key, ((const struct entry *)entry)->extension);
}

const char *serve_types_find(const struct serve_types *types, const char *name)
{
	const char *slash = strrchr(name, '/');
	const char *base = slash ? slash + 1 : name;
	const char *dot = strrchr(base, '.');
	const struct entry *entry;

	/* A name that only starts with a dot has no extension. */
	if (!dot || dot == base)
		return "application/octet-stream";
	entry = bsearch(dot + 1, types->entries, types->count, sizeof(types->entries[0]),
			compare_key);
	return entry ? entry->type : "application/octet-stream";
}
