/* serve_log.h - the access log on stdout, everything else on stderr. */
#ifndef RINGTLS_SERVE_LOG_H
#define RINGTLS_SERVE_LOG_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <ringtls/ringtls.h>
#include <stdint.h>
#include <time.h>

#include "serve_http.h"

/* An IPv4 or IPv6 address with its port. */
union serve_address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

#define SERVE_ADDRESS_SIZE 64

/* "127.0.0.1", "::1" */
void serve_address_format(const union serve_address *address, char ret[SERVE_ADDRESS_SIZE]);

/* One line on stderr, with the program's name in front; threads don't mix. */
void serve_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, and OpenSSL's reason; empties its error queue. */
void serve_log_openssl(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One request that was answered, or cut off: then bytes are fewer than announced. */
struct serve_access {
	const union serve_address *peer;
	const struct serve_request *request;
	time_t now;
	int status;
	uint64_t bytes; /* of the body, handed to the kernel */
	uint64_t duration_ms;
	const SSL *ssl;
	const struct ringtls_conn *conn;
};

/* It is written by the thread's next serve_log_flush, or when many have come together. */
void serve_log_access(const struct serve_access *access);
void serve_log_flush(void);

#endif
