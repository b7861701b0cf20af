/*
 * fake_ktls.h - the kernel's TLS, transmit side, in a table of system calls: so
 * that the kernel lane runs on a machine without it, against a stock peer over real
 * TCP, and can be disturbed at will. What it does, and where it refuses, is what
 * net/tls of Linux 6.1 to 7.2 does (kmod-notes/).
 *
 *      sendmsg, sendfile
 *            |  plaintext, 16 KiB to a record
 *            v
 *      open record --- sealed ---> list ---- as TCP takes it ----> the real socket
 *      (a file that was cut short     (tx_list: SIOCOUTQ does not see it,
 *       stays here, unsealed)          close(2) throws it away)
 *
 * Give it to pair_opts.sys with the syscalls backend: a ring's sends don't pass
 * through a table. Sockets that were not given TCP_ULP go to the real calls.
 */
#ifndef FAKE_KTLS_H
#define FAKE_KTLS_H

#include <stdbool.h>
#include <stddef.h>
#include "sys.h"

extern const struct ringtls__sys fake_ktls;

/* Changed by the test at any time; fake_ktls_reset makes all of them 0. */
extern struct fake_ktls_knobs {
	/* What is refused: an errno, or 0. */
	int ulp;      /* TCP_ULP */
	int tx;	      /* the first TLS_TX of a socket */
	int rekey;    /* a later one (before Linux 6.14: EBUSY) */
	int tcp_info; /* TCP_INFO */
	int outq;     /* SIOCOUTQ */
	int get_tx;   /* asking for TLS_TX */

	/* How sends are disturbed. */
	size_t list_room;      /* sealed bytes that are taken beyond what TCP takes */
	size_t send_max;       /* a call takes no more data than this; 0: any number */
	unsigned eagain_every; /* every so manyth call takes nothing: EAGAIN */
	unsigned eintr_every;  /* the same: EINTR */
	int broken;	       /* sends fail with this */

	/* When the list goes on without a send (the kernel's tx_work): when it is asked
	 * for by fake_ktls_work(), and at every so manyth getsockopt of TLS_TX. */
	unsigned work_every;
} fake_ktls_knobs;

/* What happened since the last reset. */
extern struct fake_ktls_seen {
	unsigned ulps, installs, rekeys;
	unsigned long sends; /* calls that reached a socket with a key */
	unsigned long records;
	unsigned long plain;	/* bytes in them */
	unsigned refused_flags; /* calls that the kernel answers with EOPNOTSUPP */
	unsigned waits;		/* calls that could have slept with the kernel's lock held */
	size_t held_most;	/* the longest list */
} fake_ktls_seen;

/* Between two tests. */
void fake_ktls_reset(void);

/* Lets the lists go on as far as TCP takes them. */
void fake_ktls_work(void);

/* A thread that does so all the time, for tests in which nobody asks. */
void fake_ktls_start_worker(void);
void fake_ktls_stop_worker(void);

/* Bytes that close(2) would throw away now: the open record, and the list. */
size_t fake_ktls_held(int fd);

#endif
