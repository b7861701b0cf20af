/*
 * serve_loop.h - one thread of ringtls-serve: its engine, its listening socket,
 * its connections and their time limits. Nothing of it is shared.
 */
#ifndef RINGTLS_SERVE_LOOP_H
#define RINGTLS_SERVE_LOOP_H

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <sys/queue.h>

#include "serve.h"

struct serve_conn;
TAILQ_HEAD(serve_conns, serve_conn);

/* What a connection has to do in time. */
enum serve_limit {
	SERVE_LIMIT_HANDSHAKE,
	SERVE_LIMIT_REQUEST, /* the whole header */
	SERVE_LIMIT_IDLE,    /* the next request's first byte */
	SERVE_LIMIT_SEND,    /* look whether the peer took anything */
	SERVE_LIMIT_LINGER,  /* close, after we did */
	SERVE_LIMITS,
};

struct serve_loop {
	struct serve_server *server;
	struct serve_site site; /* the server's, with our cache */
	struct serve_cache cache;
	unsigned index;
	int listener; /* -1 once it is closed */
	int stop;     /* an eventfd: written once, it ends the loop in order */
	int done;     /* an eventfd: the loop writes it when it has ended */
	sem_t *started;
	pthread_t thread;
	int refused; /* why it could not start: an error of ringtls, or 0; set before started */
	int broken;  /* why it broke off, or 0; set before its thread ends */

	struct ringtls_engine *engine;
	int epoll;
	bool stopping;
	uint64_t accept_again_ms; /* when to accept again after a shortage; 0: now */
	uint64_t now_ms;
	struct serve_conns limits[SERVE_LIMITS]; /* each in the order of its times */
	unsigned limit_ms[SERVE_LIMITS];
	struct serve_conns runnable;             /* gave way to others */
	unsigned connections;
	uint64_t accepted, requests;
	char scratch[16384]; /* what is read goes here first: a record's worth */
};

/* A thread's main function; arg is its struct serve_loop. */
void *serve_loop_main(void *arg);

/*
 * Has the library ask now what it asks once in a process: it opens sockets for that, and
 * a kernel loads its TLS for root only.
 */
void serve_loop_warm_up(struct serve_server *server);

/* ---- For serve_conn.c ------------------------------------------------------ */

/* Starts a time limit in place of the one that ran. */
void serve_loop_limit(struct serve_conn *conn, enum serve_limit limit);

/* Takes the connection's turn again, behind all others. */
void serve_loop_yield(struct serve_conn *conn);

/* The connection leaves all lists. */
void serve_loop_forget(struct serve_conn *conn);

#endif
