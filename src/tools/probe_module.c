/* probe_module.c - see probe_module.h. */
#include "config.h"
#include "probe_module.h"

#include <glob.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Whether a line of the file is wanted. */
static enum probe_answer any_line(const char *path, bool (*wanted)(const char *line))
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	if (!file)
		return PROBE_ANSWER_UNKNOWN;
	while (!found && getline(&line, &size, file) >= 0)
		found = wanted(line);
	free(line);
	fclose(file);
	return found ? PROBE_ANSWER_YES : PROBE_ANSWER_NO;
}

/* "kernel/net/tls/tls.ko.xz: ..." of modules.dep, the same of modules.builtin. */
static bool is_the_module(const char *line)
{
	const char *at = strstr(line, "/net/tls/tls.ko");
	const char *dependencies = strchr(line, ':');

	return at && (!dependencies || at < dependencies);
}

/* One name among others, between blanks. */
static bool has_word_tls(const char *line)
{
	const char *blanks = " \t\r\n";

	while (*line) {
		size_t len;

		line += strspn(line, blanks);
		len = strcspn(line, blanks);
		if (len == 3 && !memcmp(line, "tls", 3))
			return true;
		line += len;
	}
	return false;
}

/* A line of modules-load.d(5) is a name or a comment. */
static bool names_tls(const char *line)
{
	return *line != '#' && *line != ';' && has_word_tls(line);
}

static enum probe_module_place find_module(const char *release)
{
	char path[256];

	snprintf(path, sizeof(path), "/lib/modules/%s/modules.builtin", release);
	if (any_line(path, is_the_module) == PROBE_ANSWER_YES)
		return PROBE_MODULE_BUILTIN;
	snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", release);
	switch (any_line(path, is_the_module)) {
	case PROBE_ANSWER_YES:
		return PROBE_MODULE_FILE;
	case PROBE_ANSWER_NO:
		return PROBE_MODULE_NOWHERE;
	default:
		return PROBE_MODULE_UNKNOWN;
	}
}

static bool has_net_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	memset(data, 0, sizeof(data));
	if (syscall(SYS_capget, &header, data) < 0)
		return false;
	return data[CAP_TO_INDEX(CAP_NET_ADMIN)].effective & CAP_TO_MASK(CAP_NET_ADMIN);
}

static bool maps_all_users(const char *line)
{
	unsigned long inside, outside, count;

	return sscanf(line, "%lu %lu %lu", &inside, &outside, &count) == 3 && inside == 0 &&
	       outside == 0 && count == UINT32_MAX;
}

/* The kernel asks for the capability over the machine, not over a user namespace. */
static enum probe_answer may_load(void)
{
	return has_net_admin() ? any_line("/proc/self/uid_map", maps_all_users) : PROBE_ANSWER_NO;
}

static void find_boot_file(struct probe_module *module)
{
	static const char *const patterns[] = {
		"/etc/modules-load.d/*.conf",
		"/run/modules-load.d/*.conf",
		"/usr/lib/modules-load.d/*.conf",
		"/etc/modules",
	};
	struct stat st;
	glob_t files;

	module->boot_known = !stat("/etc/modules-load.d", &st) || !stat("/etc/modules", &st);
	for (size_t i = 0; i < COUNT(patterns) && !*module->boot_file; i++) {
		if (glob(patterns[i], 0, NULL, &files))
			continue;
		for (size_t j = 0; j < files.gl_pathc && !*module->boot_file; j++)
			if (any_line(files.gl_pathv[j], names_tls) == PROBE_ANSWER_YES)
				snprintf(module->boot_file, sizeof(module->boot_file), "%s",
					 files.gl_pathv[j]);
		globfree(&files);
	}
}

void probe_module_look(struct probe_module *ret_module, const char *release)
{
	memset(ret_module, 0, sizeof(*ret_module));
	ret_module->place = find_module(release);
	ret_module->loaded = any_line("/proc/sys/net/ipv4/tcp_available_ulp", has_word_tls);
	ret_module->may_load = may_load();
	find_boot_file(ret_module);
}
