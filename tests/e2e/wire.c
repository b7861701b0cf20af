/* wire.c - see wire.h. */
#include "config.h"
#include "wire.h"

#include <string.h>

#define RECORD_MAX (16384 + 256)

enum { CHANGE_CIPHER_SPEC = 20, ALERT, HANDSHAKE, APPLICATION_DATA, HEARTBEAT };
enum { SERVER_HELLO = 2 };
enum { EXT_ENCRYPT_THEN_MAC = 22, EXT_SUPPORTED_VERSIONS = 43 };
enum { TLS12 = 0x0303, TLS13 = 0x0304 };

/* A ServerHello with this random is a HelloRetryRequest (RFC 8446, 4.1.3). */
static const uint8_t retry_random[32] = {
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
	0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
	0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
};

/* How a cipher suite of TLS 1.2 frames its records. */
enum framing { UNKNOWN, AEAD, AEAD_8, CHACHA, CBC_SHA1, CBC_SHA256, CBC_SHA384 };

static const struct {
	uint16_t first, last;
	enum framing framing;
} suites[] = {
	{ 0x002f, 0x002f, CBC_SHA1 },	{ 0x0033, 0x0033, CBC_SHA1 },
	{ 0x0035, 0x0035, CBC_SHA1 },	{ 0x0039, 0x0039, CBC_SHA1 },
	{ 0x003c, 0x003d, CBC_SHA256 }, { 0x0067, 0x0067, CBC_SHA256 },
	{ 0x006b, 0x006b, CBC_SHA256 }, { 0x009c, 0x00a9, AEAD },
	{ 0xc009, 0xc00a, CBC_SHA1 },	{ 0xc013, 0xc014, CBC_SHA1 },
	{ 0xc023, 0xc023, CBC_SHA256 }, { 0xc024, 0xc024, CBC_SHA384 },
	{ 0xc027, 0xc027, CBC_SHA256 }, { 0xc028, 0xc028, CBC_SHA384 },
	{ 0xc02b, 0xc032, AEAD },	{ 0xc050, 0xc063, AEAD },
	{ 0xc09c, 0xc09f, AEAD },	{ 0xc0a0, 0xc0a3, AEAD_8 },
	{ 0xc0ac, 0xc0ad, AEAD },	{ 0xc0ae, 0xc0af, AEAD_8 },
	{ 0xcca8, 0xccaa, CHACHA },
};

static enum framing framing_of(uint16_t cipher)
{
	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		if (suites[i].first <= cipher && cipher <= suites[i].last)
			return suites[i].framing;
	return UNKNOWN;
}

/* An explicit IV, the padded rest, and the MAC in front of or behind the padding. */
static size_t cbc_record(size_t plain, size_t mac, bool encrypt_then_mac)
{
	size_t padded = encrypt_then_mac ? plain : plain + mac;

	padded += 16 - padded % 16;
	return 16 + padded + (encrypt_then_mac ? mac : 0);
}

/* The length of an encrypted record of that many bytes; 0: not known. */
static size_t record_len(const struct wire *wire, size_t plain)
{
	if (wire->version == TLS13)
		return plain + 1 + (wire->cipher == 0x1305 ? 8 : 16);
	switch (framing_of(wire->cipher)) {
	case AEAD:
		return 8 + plain + 16;
	case AEAD_8:
		return 8 + plain + 8;
	case CHACHA:
		return plain + 16;
	case CBC_SHA1:
		return cbc_record(plain, 20, wire->encrypt_then_mac);
	case CBC_SHA256:
		return cbc_record(plain, 32, wire->encrypt_then_mac);
	case CBC_SHA384:
		return cbc_record(plain, 48, wire->encrypt_then_mac);
	case UNKNOWN:
		break;
	}
	return 0;
}

static void violate(struct wire_direction *dir, enum wire_violation what, uint64_t offset)
{
	if (dir->violations < WIRE_NOTES_MAX) {
		dir->notes[dir->violations].what = what;
		dir->notes[dir->violations].offset = offset;
	}
	dir->violations++;
}

/* ---- Markers ----------------------------------------------------------- */

bool wire_add_marker(struct wire_markers *markers, const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > WIRE_MARKER_LEN_MAX || markers->count == WIRE_MARKERS_MAX)
		return false;
	memcpy(markers->at[markers->count].bytes, text, len);
	markers->at[markers->count].len = len;
	markers->count++;
	if (len > markers->longest)
		markers->longest = len;
	return true;
}

/* The stream offset of data[0] is at. One hit per marker and call is enough. */
static void search(struct wire_direction *dir, const struct wire_markers *markers, uint64_t at,
		   const uint8_t *data, size_t len)
{
	for (unsigned i = 0; i < markers->count; i++) {
		const uint8_t *hit = memmem(data, len, markers->at[i].bytes, markers->at[i].len);

		if (hit)
			violate(dir, WIRE_VIOLATION_MARKER, at + (uint64_t)(hit - data));
	}
}

/* Where the calls meet: the tail of what was, and as much of what comes. A marker
 * within either alone is found there, so a hit must lie across. */
static void search_seam(struct wire_direction *dir, const struct wire_markers *markers,
			const uint8_t *data, size_t len)
{
	uint8_t seam[2 * WIRE_MARKER_LEN_MAX];

	for (unsigned i = 0; i < markers->count; i++) {
		size_t reach = markers->at[i].len - 1;
		size_t before = dir->tail_len < reach ? dir->tail_len : reach;
		size_t after = len < reach ? len : reach;
		const uint8_t *hit;

		memcpy(seam, dir->tail + dir->tail_len - before, before);
		memcpy(seam + before, data, after);
		hit = memmem(seam, before + after, markers->at[i].bytes, markers->at[i].len);
		if (hit)
			violate(dir, WIRE_VIOLATION_MARKER,
				dir->bytes - before + (uint64_t)(hit - seam));
	}
}

static void keep_tail(struct wire_direction *dir, size_t want, const uint8_t *data, size_t len)
{
	if (len >= want) {
		memcpy(dir->tail, data + len - want, want);
		dir->tail_len = want;
		return;
	}
	if (dir->tail_len + len > want) {
		size_t drop = dir->tail_len + len - want;

		memmove(dir->tail, dir->tail + drop, dir->tail_len - drop);
		dir->tail_len -= drop;
	}
	memcpy(dir->tail + dir->tail_len, data, len);
	dir->tail_len += len;
}

/* ---- The server's hello ------------------------------------------------ */

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static void read_extensions(struct wire *wire, const uint8_t *p, const uint8_t *end)
{
	while (end - p >= 4) {
		unsigned type = get16(p), len = get16(p + 2);

		p += 4;
		if (len > (size_t)(end - p))
			return;
		if (type == EXT_SUPPORTED_VERSIONS && len == 2)
			wire->version = (uint16_t)get16(p);
		else if (type == EXT_ENCRYPT_THEN_MAC)
			wire->encrypt_then_mac = true;
		p += len;
	}
}

/* The body of a handshake record whose first message is a whole ServerHello. */
static void read_hello(struct wire *wire)
{
	const uint8_t *p = wire->hello, *end = p + wire->hello_len;
	size_t session;

	if (end - p < 4 + 2 + 32 + 1 || p[0] != SERVER_HELLO)
		return;
	p += 4;
	if (memcmp(p + 2, retry_random, sizeof(retry_random)) == 0)
		return; /* the real one is still to come */
	wire->version = (uint16_t)get16(p);
	p += 2 + 32;
	session = *p++;
	if ((size_t)(end - p) < session + 3)
		return;
	p += session;
	wire->cipher = (uint16_t)get16(p);
	p += 3;
	if (end - p >= 2)
		read_extensions(wire, p + 2, end);
}

/* ---- Records ----------------------------------------------------------- */

/* What has to be encrypted from this record on, and is not, by its form alone. */
static bool in_clear(const struct wire *wire, enum wire_side side, unsigned type, size_t len)
{
	size_t least = record_len(wire, 0);

	if (!wire->dir[side].encrypted)
		return false;
	if (wire->version == TLS13) {
		if (type == CHANGE_CIPHER_SPEC)
			return len != 1; /* the one for middleboxes */
		if (type == ALERT && side == WIRE_CLIENT)
			return len != 2; /* it may dislike the hello, and so have no key */
		return type != APPLICATION_DATA || len < least;
	}
	return len < least;
}

static void header_done(struct wire *wire, enum wire_side side)
{
	struct wire_direction *dir = &wire->dir[side];
	unsigned type = dir->header[0], version = get16(dir->header + 1);
	size_t len = get16(dir->header + 3);
	uint64_t offset = dir->bytes - 5;

	if (type < CHANGE_CIPHER_SPEC || type > HEARTBEAT) {
		violate(dir, WIRE_VIOLATION_TYPE, offset);
		dir->lost = true;
	} else if (version != 0x0303 && version != 0x0301) {
		violate(dir, WIRE_VIOLATION_VERSION, offset);
		dir->lost = true;
	} else if (len > RECORD_MAX) {
		violate(dir, WIRE_VIOLATION_LENGTH, offset);
		dir->lost = true;
	} else if (in_clear(wire, side, type, len)) {
		violate(dir, WIRE_VIOLATION_IN_CLEAR, offset);
	}
	dir->body_left = len;
}

static void record_done(struct wire *wire, enum wire_side side)
{
	struct wire_direction *dir = &wire->dir[side];

	dir->last_type = dir->header[0];
	dir->last_len = (uint16_t)get16(dir->header + 3);
	dir->records[dir->last_type - CHANGE_CIPHER_SPEC]++;
	dir->header_len = 0;
	if (side == WIRE_SERVER && wire->version == 0 && dir->last_type == HANDSHAKE) {
		read_hello(wire);
		wire->hello_len = 0;
		if (wire->version == TLS13) {
			wire->dir[WIRE_SERVER].encrypted = true;
			wire->dir[WIRE_CLIENT].encrypted = true;
		}
	}
	if (dir->last_type == CHANGE_CIPHER_SPEC && wire->version == TLS12)
		dir->encrypted = true;
}

static size_t take_header(struct wire *wire, enum wire_side side, const uint8_t *data, size_t len)
{
	struct wire_direction *dir = &wire->dir[side];
	size_t n = 5 - dir->header_len;

	if (n > len)
		n = len;
	memcpy(dir->header + dir->header_len, data, n);
	dir->header_len += (unsigned)n;
	dir->bytes += n;
	if (dir->header_len == 5)
		header_done(wire, side);
	return n;
}

static size_t take_body(struct wire *wire, enum wire_side side, const uint8_t *data, size_t len)
{
	struct wire_direction *dir = &wire->dir[side];
	size_t n = dir->body_left < len ? dir->body_left : len;
	size_t room = WIRE_HELLO_MAX - wire->hello_len;

	if (side == WIRE_SERVER && wire->version == 0 && dir->header[0] == HANDSHAKE) {
		if (room > n)
			room = n;
		memcpy(wire->hello + wire->hello_len, data, room);
		wire->hello_len += room;
	}
	dir->body_left -= n;
	dir->bytes += n;
	return n;
}

static void follow(struct wire *wire, enum wire_side side, const uint8_t *data, size_t len)
{
	struct wire_direction *dir = &wire->dir[side];
	size_t n;

	while (len > 0 && !dir->lost) {
		if (dir->header_len < 5)
			n = take_header(wire, side, data, len);
		else
			n = take_body(wire, side, data, len);
		data += n;
		len -= n;
		if (dir->header_len == 5 && dir->body_left == 0 && !dir->lost)
			record_done(wire, side);
	}
	dir->bytes += len;
}

void wire_init(struct wire *wire, const struct wire_markers *markers)
{
	memset(wire, 0, sizeof(*wire));
	wire->markers = markers;
}

void wire_feed(struct wire *wire, enum wire_side side, const uint8_t *data, size_t len)
{
	struct wire_direction *dir = &wire->dir[side];

	if (wire->markers->count > 0) {
		search_seam(dir, wire->markers, data, len);
		search(dir, wire->markers, dir->bytes, data, len);
		keep_tail(dir, wire->markers->longest - 1, data, len);
	}
	follow(wire, side, data, len);
}

bool wire_closed_properly(const struct wire *wire, enum wire_side side)
{
	const struct wire_direction *dir = &wire->dir[side];
	size_t len = record_len(wire, 2);

	if (dir->lost || !dir->encrypted)
		return false;
	if (dir->last_type != (wire->version == TLS13 ? APPLICATION_DATA : ALERT))
		return false;
	return len == 0 || dir->last_len == len;
}

void wire_ended(struct wire *wire, enum wire_side side, enum wire_end how)
{
	struct wire_direction *dir = &wire->dir[side];

	if (dir->end != WIRE_OPEN)
		return;
	dir->end = how;
	if (side == WIRE_CLIENT || how == WIRE_CUT)
		return; /* clients often just leave, in mid-record too */
	if (how == WIRE_RESET)
		violate(dir, WIRE_VIOLATION_WAS_RESET, dir->bytes);
	if (dir->lost)
		return;
	if (dir->header_len > 0)
		violate(dir, WIRE_VIOLATION_PARTIAL, dir->bytes);
	if (!wire_closed_properly(wire, side))
		violate(dir, WIRE_VIOLATION_NO_CLOSE, dir->bytes);
}

const char *wire_violation_name(enum wire_violation what)
{
	static const char *const names[] = {
#define WIRE_VIOLATION_NAME(name, text) text,
		WIRE_VIOLATION_MAP(WIRE_VIOLATION_NAME)
#undef WIRE_VIOLATION_NAME
	};

	return names[what];
}

const char *wire_end_name(enum wire_end how)
{
	static const char *const names[] = { "open", "fin", "reset", "cut" };

	return names[how];
}
