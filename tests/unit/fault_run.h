/*
 * fault_run.h - a scenario with one fault in it (faults.h): a connection of ours and a
 * stock OpenSSL peer over loopback, what was written on it, and what must be true of the
 * run whatever failed.
 */
#ifndef FAULT_RUN_H
#define FAULT_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <liburing.h>
#include <pthread.h>
#include "faults.h"
#include "pair.h"
#include "wiretap.h"

#define FAULT_BYTES (1 << 20)

/* A lane on an engine. */
struct fault_way {
	uint32_t lane, backend, flags;
};

/* Those that a program runs; one without an engine is behind them. */
extern const struct fault_way faults_ways[];

/* What a scenario begins with. */
#define FAULT_IS_CLIENT	  1u
#define FAULT_IS_SMALL	  2u  /* the sockets' buffers */
#define FAULT_FROM_START  4u  /* making the engine and the connection may fail, too */
#define FAULT_UNSHAKEN	  8u  /* the handshake is the scenario */
#define FAULT_IN_OPENSSL  16u /* its allocations fail, too */
#define FAULT_BLOCKS	  32u /* the socket blocks, and the peer has a thread */
#define FAULT_STOCK	  64u /* it is OpenSSL's own until run_attach */
#define FAULT_TINY_RING	  128u
#define FAULT_WITHOUT_END 256u /* nobody tells how much of a file there seemed to be */
#define FAULT_IS_SLOW	  512u /* of the short set only the waits */
#define FAULT_REKEYS	  1024u /* the kernel lane takes a second key in it */
#define FAULT_PROMOTES	  2048u /* the kernel lane is had on the way: */

#define FAULT_PROMOTE_AFTER 40000

#define FAULT_COLD 4096u /* files are not in memory */

struct fault_run {
	struct pair p;
	struct fault_way way;
	unsigned flags;
	const struct fault *fault; /* or NULL */
	struct wiretap tap;
	struct io_uring ring; /* the caller's */
	pthread_t thread;
	bool has_thread;
	long blocks;
	int descriptors;

	size_t at;  /* of fault_bytes: how much the peer must get */
	size_t may; /* and how much more it may get, of a call that failed */
	bool failed;
	size_t gap_at, gap; /* of fault_bytes, what is left out: a file seemed to end there */
	int error;	 /* SSL_ERROR_*, or a negated errno, or RINGTLS_E_* */
	unsigned rounds; /* without an event */
	bool is_over; /* for the peer's thread */
	unsigned long peer_said; /* OpenSSL's error, of the peer's side */
	char why[200];	 /* what is wrong, or "" */
};

/* All that is written is this, in its order. In it is a marker every 64 bytes, which may
 * not be seen on the wire. */
extern uint8_t fault_bytes[FAULT_BYTES];
extern int fault_file; /* has the same in it */

void run_setup(void); /* once */

void run_open(struct fault_run *r, const struct fault_way *way, unsigned flags,
	      const struct fault *fault);

/* Ends it, and looks at what is left. */
void run_close(struct fault_run *r);

/* Something is wrong: the first such is kept. */
void run_wrong(struct fault_run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Of a run that goes on still. */
bool run_lives(const struct fault_run *r);

/* A call of the library's, until it wants nothing. Its answer is a success from least
 * on; a call that failed and let the connection live is made once more. */
typedef long run_call(struct fault_run *r, void *arg);
long run_until_done(struct fault_run *r, run_call *call, void *arg, long least);

/* Waits until the engine says that ours may go on; the peer goes on meanwhile. */
void run_wait(struct fault_run *r);

/* One turn of a loop, whether there is an event or not. */
void run_turn(struct fault_run *r);

/* What the peer does by itself: its handshake, and reading. */
void run_peer(struct fault_run *r);

/* Answers of calls that are no SSL_ERROR_*: 0 and more, and those that are documented. */
bool run_check(struct fault_run *r, int answer);

/* Makes the connection on the engine. */
void run_attach(struct fault_run *r);

#endif
