/*
 * fake_probe.h - what the probe of the kernel's TLS found, as the test wishes: a
 * kernel that has everything, until it is changed. For programs linked with
 * $(FAKE_PROBE); the real one asks this machine, once for all.
 */
#ifndef FAKE_PROBE_H
#define FAKE_PROBE_H

#include "probe.h"

extern struct ringtls__probe fake_probe;

void fake_probe_reset(void);

#endif
