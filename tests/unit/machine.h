/*
 * machine.h - the state machine of the transmit side on a bench: no kernel, no
 * ring, no OpenSSL connection. What it asks for is looked at, what it is answered
 * is made up. There is one, which machine_setup makes anew.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include "support.h"
#include "conn.h"
#include "lane.h"

#include <errno.h>
#include <poll.h>
#include <ringtls/ringtls.h>
#include "fake_malloc.h"
#include "keys.h"
#include "opener.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

extern struct ringtls__pool pool;
extern struct ringtls__tx tx;
extern struct ringtls__txq inbox;
extern struct ringtls__op op;	     /* the last that was asked for */
extern struct ringtls__item item;    /* a caller's, borrowed */
extern struct ringtls__key last_key; /* that was queued */
extern struct opener peer;
extern uint8_t big[1 << 20];

/* It tries the kernel, and may fall back. The teardown also sees that nothing was
 * freed with a key in it (invariant 8). */
int machine_setup(void **state);
int machine_teardown(void **state);

/* What is queued. */
void put(enum ringtls__item_kind kind, uint8_t type, const char *text);
void put_wire(const char *text);
void put_record(uint8_t type, const char *text);
void put_key_of(uint16_t version, uint16_t cipher, uint64_t seq);
void put_key(void); /* TLS 1.3, AES-128-GCM, number 0 */
void put_close(void);
void lend(const void *bytes, size_t len);
void lend_file(off_t offset, size_t len);

/* What is asked, and answered. */
void expect_op(enum ringtls__op_kind kind);
void expect_bytes(enum ringtls__op_kind kind, const char *text);
void expect_idle(void);
void expect_failed(int error); /* for good, and nothing is left */
void answer(ssize_t res);
void send_one(void); /* a byte of application data */

/* The peer's side of the user lane: it takes n bytes of the op, and opens records. */
void take(size_t n);
void expect_record(uint8_t type, const char *text);

/* Into a state by the shortest way, with the op of that state in flight. */
void reach(enum ringtls__tx_state state);
void reach_kernel_with(uint16_t version, uint16_t cipher, uint64_t seq);
void reach_kernel(void);
void reach_user(void);

#endif
