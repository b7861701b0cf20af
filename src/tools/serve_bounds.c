/* serve_bounds.c - see serve_bounds.h. */
#include "config.h"
#include "serve_bounds.h"

#include <stddef.h>
#include <stdlib.h>

#include "serve_http.h"

#define DAY_S 86400

enum bound_key {
	BOUND_FIRST = 512,
	BOUND_CONNECTIONS = BOUND_FIRST,
	BOUND_THREAD_CONNECTIONS,
	BOUND_REQUESTS,
	BOUND_HEADER_BYTES,
	BOUND_HEADER_FIELDS,
	BOUND_UPDATES,
	BOUND_HANDSHAKE,
	BOUND_HEADER,
	BOUND_IDLE,
	BOUND_SEND,
	BOUND_END,
};

static const struct argp_option option_list[] = {
	{ NULL, 0, NULL, 0, "What a client may have (see the manual for what happens beyond):", 0 },
	{ "max-connections", BOUND_CONNECTIONS, "N", 0,
	  "open connections in all (default: 16384, or half of the descriptors)", 0 },
	{ "max-thread-connections", BOUND_THREAD_CONNECTIONS, "N", 0,
	  "of them, those of one thread; 0: all (default: 0)", 0 },
	{ "max-requests", BOUND_REQUESTS, "N", 0,
	  "requests on one connection; 0: any number (default: 1000)", 0 },
	{ "max-header-bytes", BOUND_HEADER_BYTES, "N", 0,
	  "bytes of a request's header (default: 16384)", 0 },
	{ "max-headers", BOUND_HEADER_FIELDS, "N", 0, "its fields (default: 100)", 0 },
	{ "max-key-updates", BOUND_UPDATES, "N", 0,
	  "KeyUpdates and renegotiations of one connection in a minute (default: 120)", 0 },
	{ "handshake-timeout", BOUND_HANDSHAKE, "SECONDS", 0, "for a handshake (default: 10)", 0 },
	{ "header-timeout", BOUND_HEADER, "SECONDS", 0,
	  "for a request, from its first byte to its last (default: 15)", 0 },
	{ "idle-timeout", BOUND_IDLE, "SECONDS", 0,
	  "between two requests of one connection (default: 60)", 0 },
	{ "send-timeout", BOUND_SEND, "SECONDS", 0,
	  "for a client that takes nothing of its answer (default: 120)", 0 },
	{ 0 },
};

static const struct {
	size_t offset;
	const char *what;
	unsigned usual, least, most;
} bounds_list[] = {
#define B(key, field, what, usual, least, most) \
	[(key) - BOUND_FIRST] = { offsetof(struct serve_bounds, field), what, usual, least, most }
	B(BOUND_CONNECTIONS, connections, "the number of connections", 0, 1, 1u << 24),
	B(BOUND_THREAD_CONNECTIONS, thread_connections, "their number in a thread", 0, 0, 1u << 24),
	B(BOUND_REQUESTS, requests, "the number of requests", 1000, 0, 1000000000),
	B(BOUND_HEADER_BYTES, header_bytes, "the size of a header", SERVE_HEADER_MAX, 256, 65536),
	B(BOUND_HEADER_FIELDS, header_fields, "the number of fields", SERVE_FIELDS_MAX, 1, 1000),
	B(BOUND_UPDATES, updates, "the number of key updates", 120, 0, 1000000),
	B(BOUND_HANDSHAKE, handshake_s, "the time for a handshake", 10, 1, DAY_S),
	B(BOUND_HEADER, header_s, "the time for a request", 15, 1, DAY_S),
	B(BOUND_IDLE, idle_s, "the time between requests", 60, 1, DAY_S),
	B(BOUND_SEND, send_s, "the time for an answer", 120, 1, DAY_S),
#undef B
};

#define BOUNDS (sizeof(bounds_list) / sizeof(bounds_list[0]))

static unsigned *bound_of(struct serve_bounds *bounds, size_t i)
{
	return (unsigned *)(void *)((char *)bounds + bounds_list[i].offset);
}

void serve_bounds_init(struct serve_bounds *bounds)
{
	for (size_t i = 0; i < BOUNDS; i++)
		*bound_of(bounds, i) = bounds_list[i].usual;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	unsigned long n;
	char *end;
	size_t i;

	if (key < BOUND_FIRST || key >= BOUND_END)
		return ARGP_ERR_UNKNOWN;
	i = (size_t)(key - BOUND_FIRST);
	n = strtoul(arg, &end, 10);
	if (*arg < '0' || *arg > '9' || *end || n < bounds_list[i].least || n > bounds_list[i].most)
		argp_error(state, "%s must be a number from %u to %u, not %s", bounds_list[i].what,
			   bounds_list[i].least, bounds_list[i].most, arg);
	*bound_of(state->input, i) = (unsigned)n;
	return 0;
}

const struct argp serve_bounds_argp = { .options = option_list, .parser = parse };
