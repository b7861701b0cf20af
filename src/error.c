/* error.c - leaf: names and sentences. */
#include "config.h"
#include <ringtls/ringtls.h>

#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const reason_names[] = {
#define NAME(name, code, text) [RINGTLS_REASON_##name] = code,
	RINGTLS_REASON_MAP(NAME)
#undef NAME
};

static const char *const reason_texts[] = {
#define TEXT(name, code, text) [RINGTLS_REASON_##name] = text,
	RINGTLS_REASON_MAP(TEXT)
#undef TEXT
};

static const char *const lane_names[] = {
	[RINGTLS_LANE_AUTO] = "auto",
	[RINGTLS_LANE_KERNEL] = "kernel",
	[RINGTLS_LANE_USER] = "user",
	[RINGTLS_LANE_OPENSSL] = "openssl",
};

static const char *const backend_names[] = {
	[RINGTLS_BACKEND_AUTO] = "auto",
	[RINGTLS_BACKEND_URING] = "uring",
	[RINGTLS_BACKEND_SYSCALLS] = "syscalls",
	[RINGTLS_BACKEND_CALLER] = "caller",
};

static const struct {
	int error;
	const char *text;
} our_errors[] = {
	{ RINGTLS_E_STATE, "not allowed in the present state" },
	{ RINGTLS_E_TLS, "OpenSSL failed: see its error queue" },
	{ RINGTLS_E_LANE, "the lane or engine that was named can't be had" },
	{ RINGTLS_E_REKEY, "a key update was due where the kernel can't rekey" },
	{ RINGTLS_E_KERNEL, "the kernel's TLS broke a promise" },
	{ RINGTLS_E_DETACH, "the connection's lane does not let it be given back" },
};

static const char *pick(const char *const *names, size_t count, uint32_t i)
{
	return i < count && names[i] ? names[i] : "unknown";
}

const char *ringtls_lane_name(uint32_t lane)
{
	return pick(lane_names, COUNT(lane_names), lane);
}

const char *ringtls_backend_name(uint32_t backend)
{
	return pick(backend_names, COUNT(backend_names), backend);
}

const char *ringtls_reason_name(uint32_t reason)
{
	return pick(reason_names, COUNT(reason_names), reason);
}

const char *ringtls_reason_text(uint32_t reason)
{
	return pick(reason_texts, COUNT(reason_texts), reason);
}

const char *ringtls_strerror(int error)
{
	const char *text;

	for (size_t i = 0; i < COUNT(our_errors); i++)
		if (our_errors[i].error == error)
			return our_errors[i].text;
	/* strerrordesc_np: static storage and no locale, unlike strerror. */
	text = error <= 0 && error >= -4095 ? strerrordesc_np(-error) : NULL;
	return text ? text : "unknown error";
}

const char *ringtls_version(void)
{
	return RINGTLS_VERSION;
}
