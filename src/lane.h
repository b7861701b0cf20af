/*
 * lane.h - what a lane must answer: how the head of the queue becomes an op, and
 * what it means that some of its bytes were taken.
 */
#ifndef RINGTLS_LANE_H
#define RINGTLS_LANE_H

#include "tx.h"

#define RINGTLS__LANE_COUNT 3

struct ringtls__lane {
	uint32_t id; /* enum ringtls_lane */

	/* 1: op is filled. 0: nothing to send, or (rekey_due) not with this key.
	 * RINGTLS__LANE_COUNT: first ask how many records there were. Negative: an
	 * error that sticks.
	 * The head is never KEYS or CLOSE: those are the machine's. */
	int (*next)(struct ringtls__tx *tx, struct ringtls__op *op);

	/* n bytes of that op were taken; fewer than asked is usual. */
	void (*took)(struct ringtls__tx *tx, const struct ringtls__op *op, size_t n);
};

extern const struct ringtls__lane ringtls__lane_openssl;
extern const struct ringtls__lane ringtls__lane_kernel;
extern const struct ringtls__lane ringtls__lane_user;

#endif
