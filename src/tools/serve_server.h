/* serve_server.h - the threads of ringtls-serve, from the listening sockets to the last signal. */
#ifndef RINGTLS_SERVE_SERVER_H
#define RINGTLS_SERVE_SERVER_H

#include "serve.h"

/* Serves until a signal ends it; returns the program's exit status. */
int serve_run(const struct serve_options *options);

#endif
