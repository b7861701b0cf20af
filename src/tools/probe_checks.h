/* probe_checks.h - the questions of ringtls-probe, one file for each section. */
#ifndef RINGTLS_PROBE_CHECKS_H
#define RINGTLS_PROBE_CHECKS_H

#include "probe_report.h"

void probe_check_machine(struct probe_report *report);
void probe_check_uring(struct probe_report *report);
void probe_check_ktls(struct probe_report *report);
void probe_check_openssl(struct probe_report *report);

/* Last: what follows from the rest for a connection and an engine. */
void probe_judge(struct probe_report *report);

#endif
