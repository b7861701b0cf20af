/* serve_answer.h - what to send for a request: a head, perhaps a body, perhaps a file. */
#ifndef RINGTLS_SERVE_ANSWER_H
#define RINGTLS_SERVE_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "serve_cache.h"
#include "serve_http.h"
#include "serve_types.h"

/* What is served. */
struct serve_site {
	int root;		   /* shared by all threads, as are the types */
	struct serve_types *types; /* never changed */
	struct serve_cache *cache; /* the thread's own, or NULL */
};

struct serve_answer {
	int status;
	bool close;     /* the connection's last */
	char *text;     /* the head, and a short body behind it */
	size_t len;     /* of text */
	uint64_t body;  /* bytes of the body that are part of text */
	struct serve_file file; /* where the rest comes from; its fd may be -1 */
	off_t offset;   /* next byte of the file to send */
	uint64_t left;  /* bytes of it still to send */
};

/*
 * Answers a request, with an error page if need be. last: say that the
 * connection ends with this answer. Without memory there is no answer: false.
 */
bool serve_answer_make(const struct serve_site *site, const struct serve_request *req, bool last,
		       time_t now, struct serve_answer *ret_answer);

/* An error page without a request to it, such as 408. */
bool serve_answer_error(const struct serve_request *req, int status, time_t now,
			struct serve_answer *ret_answer);

/* Frees what is left of it; {.file.fd = -1} is fine. */
void serve_answer_fini(struct serve_answer *answer);

#endif
