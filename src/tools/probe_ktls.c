/* probe_ktls.c - will the kernel seal records, and with which keys? */
#include "config.h"
#include "probe_checks.h"

#include <ctype.h>
#include <errno.h>
#include <linux/tls.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include <ringtls/ringtls.h>
#include "probe.h"
#include "probe_module.h"

#define AT_BOOT "echo tls >/etc/modules-load.d/tls.conf"

static void say_pair(struct probe_report *report, const struct ringtls__probe *probe)
{
	struct probe_check *check = probe_add(report, probe->pair ? PROBE_NO : PROBE_OK,
					      "ktls.loopback", "loopback connection");

	if (!probe->pair) {
		probe_say(check, "made, to ask on");
		return;
	}
	probe_blame(check, RINGTLS_REASON_PROBE, probe->pair);
	probe_say(check, "no TCP connection to 127.0.0.1 or ::1 can be made, so kernel TLS can't "
			 "be asked for");
	switch (probe->pair) {
	case -ENETUNREACH:
	case -EADDRNOTAVAIL:
		probe_mend(check, "ip link set lo up (in this network namespace)");
		break;
	case -EMFILE:
	case -ENFILE:
		probe_mend(check, "raise the limit on open files: ulimit -n, LimitNOFILE=, "
				  "sysctl fs.file-max");
		break;
	case -ETIMEDOUT:
		probe_mend(check, "ip link set lo up; where it is up, a packet filter drops its "
				  "packets: let them pass");
		break;
	default:
		probe_mend(check, "allow this process TCP sockets over loopback");
	}
}

static void mend_ulp(struct probe_check *check, const struct probe_module *module)
{
	if (module->place == PROBE_MODULE_NOWHERE)
		probe_mend(check, "a kernel, or its package of modules, that has CONFIG_TLS");
	else if (module->place != PROBE_MODULE_FILE)
		probe_mend(check,
			   "as root, on the host: modprobe tls; for every start: " AT_BOOT
			   ". Where modprobe doesn't find it, a kernel that has CONFIG_TLS");
	else if (module->may_load == PROBE_ANSWER_YES)
		probe_mend(check, "the kernel was asked to load it, and could not: modprobe -v tls "
				  "says why; modprobe.d(5) may forbid it");
	else
		probe_mend(check, "as root: modprobe tls; for every start: " AT_BOOT);
}

static void say_ulp(struct probe_report *report, const struct ringtls__probe *probe,
		    const struct probe_module *module)
{
	uint32_t reason;
	int error = ringtls__probe_ulp(probe, &reason);
	struct probe_check *check = probe_add(report,
					      probe->pair ? PROBE_UNKNOWN :
					      error	  ? PROBE_NO :
							    PROBE_OK,
					      "ktls.ulp", "TCP_ULP \"tls\"");

	if (!error) {
		probe_say(check, "the kernel has TLS for TCP sockets");
	} else if (probe->pair) {
		probe_say(check, "there is no connection to ask on");
	} else {
		probe_blame(check, reason, error);
		probe_say(check, "%s", ringtls_reason_text(reason));
		if (reason == RINGTLS_REASON_NO_ULP)
			mend_ulp(check, module);
		else
			probe_mend(check, "a security module or a BPF program forbids the option "
					  "TCP_ULP: allow it");
	}
}

static void say_module(struct probe_report *report, const struct probe_module *module,
		       const char *release, bool works)
{
	bool nowhere = module->place == PROBE_MODULE_NOWHERE;
	bool unloaded = module->place == PROBE_MODULE_FILE;
	struct probe_check *check =
		probe_add(report, PROBE_OK, "ktls.module", "module \"tls\"");

	if (module->place == PROBE_MODULE_BUILTIN) {
		probe_say(check, "built into the kernel");
	} else if (module->loaded == PROBE_ANSWER_YES) {
		probe_say(check, "was loaded before this program asked");
	} else if (works) {
		probe_say(check, module->loaded == PROBE_ANSWER_NO ?
					 "was loaded by the asking of this program" :
					 "is loaded");
	} else {
		check->status = nowhere || unloaded ? PROBE_NO : PROBE_UNKNOWN;
		probe_say(check,
			  unloaded ? "is in /lib/modules/%.64s, and not loaded" :
			  nowhere  ? "is not in /lib/modules/%.64s" :
				     "is not loaded; /lib/modules/%.64s can't be read here, so nobody "
				     "knows whether the kernel has it",
			  release);
	}
}

static void say_autoload(struct probe_report *report, const struct probe_module *module)
{
	struct probe_check *check =
		probe_add(report, PROBE_OK, "ktls.autoload", "loaded on demand");

	if (module->place == PROBE_MODULE_BUILTIN) {
		probe_say(check, "there is no need to load it");
	} else if (module->may_load == PROBE_ANSWER_YES) {
		probe_say(check, "this process may (CAP_NET_ADMIN), an unprivileged server may not");
	} else if (module->may_load == PROBE_ANSWER_NO) {
		check->status = PROBE_NO;
		probe_say(check, "only the machine's root may (CAP_NET_ADMIN): this process finds "
				 "kernel TLS only where the module is loaded already");
		probe_mend(check, "load it at every start, as root: " AT_BOOT);
	} else {
		check->status = PROBE_UNKNOWN;
		probe_say(check, "only the machine's root may (CAP_NET_ADMIN); without /proc nobody "
				 "knows whether this process is");
	}
}

static void say_boot(struct probe_report *report, const struct probe_module *module)
{
	bool builtin = module->place == PROBE_MODULE_BUILTIN;
	struct probe_check *check = probe_add(report,
					      builtin || *module->boot_file ? PROBE_OK :
					      module->boot_known	    ? PROBE_NO :
									      PROBE_UNKNOWN,
					      "ktls.boot", "loaded at start-up");

	if (builtin) {
		probe_say(check, "there is no need to load it");
	} else if (*module->boot_file) {
		probe_say(check, "%s names it", module->boot_file);
	} else if (module->boot_known) {
		probe_say(check, "no file in /etc/modules-load.d names it");
		probe_mend(check, "as root: " AT_BOOT);
	} else {
		probe_say(check, "there is no /etc/modules-load.d here");
	}
}

/* What the kernel's crypto calls the parts of a cipher. */
static const char *crypto_modules(uint16_t cipher)
{
	switch (cipher) {
	case TLS_CIPHER_CHACHA20_POLY1305:
		return "chacha20poly1305";
	case TLS_CIPHER_AES_CCM_128:
		return "ccm";
	default:
		return "gcm";
	}
}

static void explain_tx(struct probe_check *check, const struct ringtls__probe_tx *tx,
		       uint32_t reason)
{
	probe_blame(check, reason, tx->result);
	switch (tx->result) {
	case -ENOENT:
		probe_say(check, "the kernel's TLS knows this cipher, but its crypto does not "
				 "have it, or could not load it");
		probe_mend(check,
			   "as root: modprobe %s; where it is not found, the kernel's full package "
			   "of modules, with its list up to date (depmod)",
			   crypto_modules(tx->cipher));
		break;
	case -EINVAL:
		probe_say(check, "the kernel's TLS does not know this cipher in this version");
		probe_mend(check, "a newer kernel: Linux 5.11 or later");
		break;
	default:
		probe_say(check, "%s", ringtls_reason_text(reason));
	}
}

static void say_tx(struct probe_report *report, const struct ringtls__probe *probe,
		   const struct ringtls__probe_tx *tx)
{
	const char *version = tx->version == TLS_1_3_VERSION ? "1.3" : "1.2";
	struct probe_check *check;
	char id[48], label[32];
	uint32_t reason;
	int error = ringtls__probe_tx(probe, tx->version, tx->cipher, &reason);

	snprintf(id, sizeof(id), "ktls.tls%s.%s", version, tx->name);
	for (char *c = id; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	snprintf(label, sizeof(label), "TLS %s %s", version, tx->name);
	check = probe_add(report,
			  probe->ulp ? PROBE_UNKNOWN :
			  error	     ? PROBE_NO :
				       PROBE_OK,
			  id, label);
	if (probe->ulp)
		probe_say(check, "not asked: there is no TCP_ULP \"tls\"");
	else if (error)
		explain_tx(check, tx, reason);
	else
		probe_say(check, "the kernel took a key");
}

static bool takes_tls13(const struct ringtls__probe *probe)
{
	for (size_t i = 0; i < RINGTLS__PROBE_TX; i++)
		if (probe->tx[i].version == TLS_1_3_VERSION && !probe->tx[i].result)
			return true;
	return false;
}

static void say_rekey(struct probe_report *report, const struct ringtls__probe *probe)
{
	bool asked = takes_tls13(probe);
	struct probe_check *check = probe_add(report,
					      !asked	   ? PROBE_UNKNOWN :
					      probe->rekey ? PROBE_NO :
							     PROBE_OK,
					      "ktls.rekey", "TLS 1.3 second key (rekey)");

	if (!asked) {
		probe_say(check, "not asked: the kernel took no first key");
		return;
	}
	if (!probe->rekey) {
		probe_say(check, "the kernel took it: the kernel lane can serve a KeyUpdate");
		return;
	}
	probe_blame(check, RINGTLS_REASON_NONE, probe->rekey);
	probe_say(check, "the kernel refused it: when a KeyUpdate is due, the kernel lane ends "
			 "the connection in good order");
	if (probe->rekey == -EBUSY)
		probe_mend(check, "a newer kernel: Linux 6.14 or later");
}

void probe_check_ktls(struct probe_report *report)
{
	const struct ringtls__probe *probe;
	struct probe_module module;
	struct utsname name;

	uname(&name);
	/* Before the probe: asking as root loads the module. */
	probe_module_look(&module, name.release);
	probe = ringtls__probe_get();

	say_pair(report, probe);
	say_ulp(report, probe, &module);
	say_module(report, &module, name.release, probe->ulp == 0);
	say_autoload(report, &module);
	say_boot(report, &module);
	for (size_t i = 0; i < RINGTLS__PROBE_TX; i++)
		say_tx(report, probe, &probe->tx[i]);
	say_rekey(report, probe);
}
