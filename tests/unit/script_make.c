/* script_make.c - a script out of a number: see script.h. */
#include "support.h"
#include "script.h"

uint32_t script_random(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

static uint32_t some_length(uint32_t *x)
{
	static const uint32_t most[] = { 1, 100, 16383, 16384, 16385, 32768, 50000, 100000 };
	uint32_t m = most[script_random(x) % 8];

	switch (script_random(x) % 8) {
	case 0:
		return 0;
	case 1:
	case 2:
		return m;
	default:
		return 1 + script_random(x) % m;
	}
}

/* What there can be, beside what there always can. */
struct allowed {
	bool updates, renegotiations, stalls;
};

static bool is_allowed(enum script_kind k, struct allowed may)
{
	switch (k) {
	case OP_UPDATE:
	case OP_PEER_UPDATE:
		return may.updates;
	case OP_RENEGOTIATE:
		return may.renegotiations;
	case OP_STALL:
		return may.stalls;
	default:
		return true;
	}
}

static enum script_kind some_kind(uint32_t *x, struct allowed may)
{
	static const uint8_t kinds[] = {
		OP_WRITE, OP_WRITE,     OP_WRITE,       OP_WRITE_EX,  OP_STALL,        OP_FILE,
		OP_FILE,  OP_BAD_FILE,  OP_NEGATIVE,    OP_UPDATE,    OP_PEER_UPDATE,  OP_PEER_UPDATE,
		OP_UPDATE, OP_PEER_SAYS, OP_PEER_SAYS, OP_READ_NOTHING, OP_PARTIAL, OP_AUTO_RETRY,
		OP_QUEUE, OP_QUEUE,     OP_BUFFERS,     OP_RENEGOTIATE, OP_RENEGOTIATE,
	};
	enum script_kind k;

	do
		k = kinds[script_random(x) % sizeof(kinds)];
	while (!is_allowed(k, may));
	return k;
}

void script_make(struct script *s, uint32_t seed, bool may_update, bool may_renegotiate)
{
	struct allowed may = { .updates = may_update, .renegotiations = may_renegotiate };
	uint32_t x = seed * 2654435761u + 1;
	bool is_partial = false;

	memset(s, 0, sizeof(*s));
	s->seed = seed;
	s->may_renegotiate = may_renegotiate;
	for (int i = 0; i < 8; i++)
		script_random(&x);
	s->is_client = script_random(&x) % 2;
	s->is_small = script_random(&x) % 4;
	s->is_moving = script_random(&x) % 3 == 0;
	s->is_explicit = script_random(&x) % 2;
	s->ending = (enum script_ending)(script_random(&x) % 5);
	s->n = 3 + script_random(&x) % (SCRIPT_OPS - 2);
	for (size_t i = 0; i < s->n; i++) {
		struct script_op *op = &s->ops[i];

		may.stalls = s->is_small && !is_partial;
		op->kind = some_kind(&x, may);
		op->len = some_length(&x);
		op->from = script_random(&x) % (SCRIPT_PATTERN - SCRIPT_STALL - SCRIPT_STALL_MORE);
		op->how = script_random(&x);
		if (op->kind == OP_PARTIAL)
			is_partial = op->how & 1;
	}
	if (!s->is_explicit) { /* a write does it */
		s->ops[0].kind = OP_WRITE;
		s->ops[0].len += !s->ops[0].len;
	}
}

void script_print(const struct script *s)
{
	static const char *const kinds[] = { "write",	 "write_ex",  "stall",	       "file",
					     "queue",	 "buffers",   "bad file",      "negative",
					     "update",	 "peer's update", "renegotiate", "peer says", "read nothing",
					     "partial mode", "auto retry" };
	static const char *const endings[] = { "we close", "peer closes", "peer cuts", "peer resets",
					       "nobody closes" };

	print_message("# script %u: %s, %s buffers%s%s, %s\n", s->seed,
		      s->is_client ? "client" : "server", s->is_small ? "small" : "large",
		      s->is_moving ? ", moving" : "", s->is_explicit ? "" : ", handshake by a write",
		      endings[s->ending]);
	for (size_t i = 0; i < s->n; i++)
		print_message("#  %zu: %s from %u len %u how %x\n", i, kinds[s->ops[i].kind],
			      s->ops[i].from, s->ops[i].len, s->ops[i].how);
}
