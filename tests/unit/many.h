/*
 * many.h - many connections of one engine, each with a stock OpenSSL peer, in one thread.
 * On a ring of the caller's this is the caller.
 */
#ifndef MANY_H
#define MANY_H

#include "pair.h"

#define FEW  16  /* they are started at once */
#define MANY 160 /* more than one round starts: see engine.c */

#define RECORD 16384

/* Each is told of with the address of its own. */
struct one {
	int fd, peer_fd;
	SSL *ssl, *peer;
	struct ringtls_conn *conn;
	unsigned sent;
	size_t queued, got;
	bool has_event;
};

extern struct one ones[MANY];
extern uint8_t many_bytes[RECORD];

/* Before the first test. */
void many_fill(void);

/* The pair's own connection is shaken and not used. entries: of the caller's ring. Those of a
 * stock pair are OpenSSL's alone. */
void many_open(struct pair *p, const struct pair_opts *o, int n, uint32_t max_requests);
void many_open_small(struct pair *p, const struct pair_opts *o, int n, unsigned entries);
void many_close(struct pair *p, int n);

/* A request of len bytes, by pieces of many_bytes. */
int many_queue(struct one *m, size_t len);
/* More than several operations move, and than a socket's buffer holds. */
void many_queue_much(struct one *m);

/* As ringtls_engine_submit and ringtls_engine_wait, and what a caller with a ring does. */
void many_submit(struct pair *p);
int many_wait(struct pair *p, struct ringtls_event *events, unsigned max, int timeout_ms);

/* Until the descriptor, or the ring, shows that there is something to do; or asks whether. */
void many_sleep(struct pair *p);
bool many_is_woken(struct pair *p);

/* Of the caller's ring: submits what is in it, and takes as many answers; fills it with what
 * never ends, but for one entry. */
void many_take_ring(struct pair *p);
void many_fill_ring(int fd);

/* What is told; each request of it without an error. Their number. */
unsigned many_collect(struct pair *p);

/* Until n requests are sent, and so many connections had an event, asleep on nothing but the
 * descriptor, or the ring: a lost wake-up fails. The first few's peers read meanwhile. */
void many_go_on(struct pair *p, unsigned n, unsigned n_events);

/* What was sent is many_bytes again and again. 0: nothing more is there yet. */
size_t many_peer_reads(struct one *m);
/* So many bytes since the last time, or since it was opened, and no more: all that was queued. */
void many_peer_gets(struct one *m, size_t len);

uint64_t many_transmit_calls(const struct pair *p);
uint64_t many_enters(const struct pair *p);

#endif
