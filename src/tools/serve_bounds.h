/* serve_bounds.h - how much a client may have of ringtls-serve, and the options that say so. */
#ifndef RINGTLS_SERVE_BOUNDS_H
#define RINGTLS_SERVE_BOUNDS_H

#include <argp.h>

struct serve_bounds {
	unsigned connections;        /* in all; 0: as many as the descriptors allow */
	unsigned thread_connections; /* 0: all of them may be one thread's */
	unsigned requests;           /* on one connection; 0: any number */
	unsigned header_bytes, header_fields;
	unsigned updates; /* KeyUpdates and renegotiations of one connection in a minute */
	unsigned handshake_s, header_s, idle_s, send_s;
};

/* Its input is a struct serve_bounds. */
extern const struct argp serve_bounds_argp;

void serve_bounds_init(struct serve_bounds *bounds);

#endif
