/*
 * probe_module.h - the kernel module "tls": whether it is there, who may load it,
 * and whether it comes back after a restart. For advice only: the library asks
 * nothing of this. Without /proc or /lib/modules it is simply not known.
 */
#ifndef RINGTLS_PROBE_MODULE_H
#define RINGTLS_PROBE_MODULE_H

#include <stdbool.h>
#include <stddef.h>

enum probe_module_place {
	PROBE_MODULE_UNKNOWN,
	PROBE_MODULE_BUILTIN, /* in the kernel itself */
	PROBE_MODULE_FILE,    /* in /lib/modules, to be loaded */
	PROBE_MODULE_NOWHERE, /* the list of modules is there, and does not have it */
};

enum probe_answer {
	PROBE_ANSWER_UNKNOWN,
	PROBE_ANSWER_NO,
	PROBE_ANSWER_YES,
};

struct probe_module {
	enum probe_module_place place;
	enum probe_answer loaded;   /* now */
	enum probe_answer may_load; /* whether this process's asking loads it */
	bool boot_known;            /* there is a place to name modules for start-up */
	char boot_file[96];         /* the file there that names it, or empty */
};

void probe_module_look(struct probe_module *ret_module, const char *release);

#endif
