/* talk.h - what the parts of talk share: its options, and what there is of them. */
#ifndef TALK_H
#define TALK_H

#include <openssl/ssl.h>
#include <ringtls/ringtls.h>
#include <stdbool.h>
#include <stdint.h>

#define NO_LIMIT UINT64_MAX

struct options {
	const char *tls, *lane, *engine, *cipher; /* NULL: either, auto, auto, the usual */
	const char *cert, *key, *ca;
	const char *session; /* a client resumes the one in here, and leaves the next */
	const char *send;    /* what it says; NULL: nothing */
	const char *output;  /* what it hears, of the last connection; NULL: nowhere */
	bool serve;
	bool demand; /* the client's certificate, in the handshake */
	bool post;   /* ... or behind it: demanded when it said something; sent when asked */
	bool no_ticket;
	bool answer; /* says nothing before it has heard all */
	bool http;   /* answers one request */
	bool renegotiate;
	bool silent; /* says nothing while it renegotiates */
	int update_type;
	uint64_t connections; /* a server ends after so many; 0: never */
	uint64_t early;	      /* so much may be early data; 0: nothing */
	uint64_t receive;     /* content with so many bytes; NO_LIMIT: with close_notify */
	uint64_t update_every, renegotiate_every; /* bytes sent; 0: never */
	uint64_t per_byte; /* so many are said for each byte heard; 0: at once */
	int timeout_ms;
};

/* What there is once. */
struct talk {
	struct options opts;
	SSL_CTX *ctx;
	struct ringtls_engine *engine;
	SSL_SESSION *session;
	char *text; /* all that is said */
	uint64_t size;
};

/* Does not come back. */
void die(const char *what);

/* The whole command line, or the program ends. ADDRESS:PORT stays argv's. */
void take_options(struct options *o, int argc, char **argv, char **ret_address);
uint32_t lane_of(const char *name);

/* Context, engine, session and text, as the options say; or the program ends. */
void set_up(struct talk *t);
void save_session(const struct talk *t);
void tear_down(struct talk *t);

#endif
