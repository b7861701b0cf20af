/*
 * wire.h - what a TLS connection looks like from outside.
 *
 * Fed with the bytes of both directions, as they pass, it checks what anybody on
 * the wire can check without a key: well-formed records, nothing in the clear
 * after the handshake turned encryption on, a proper end, and that no marker of
 * the plaintext is ever seen. It does no I/O.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MARKERS_MAX    8
#define WIRE_MARKER_LEN_MAX 64
#define WIRE_NOTES_MAX	    4
#define WIRE_HELLO_MAX	    4096

enum wire_side { WIRE_CLIENT, WIRE_SERVER }; /* who sent the bytes */

/* How a direction ended. */
enum wire_end {
	WIRE_OPEN,  /* not yet */
	WIRE_FIN,   /* orderly at the level of TCP */
	WIRE_RESET, /* by a reset from its sender */
	WIRE_CUT,   /* by the observer itself, so that nothing can be asked of it */
};

#define WIRE_VIOLATION_MAP(X)                                                                      \
	X(MARKER, "plaintext-marker")  /* a marker was seen */                                     \
	X(TYPE, "bad-type")	       /* no TLS record type: the stream is not followed on */     \
	X(VERSION, "bad-version")      /* same, no TLS version */                                  \
	X(LENGTH, "bad-length")	       /* longer than TLS allows */                                \
	X(IN_CLEAR, "record-in-clear") /* not encrypted where it must be */                        \
	X(PARTIAL, "partial-record")   /* the stream ends within a record */                       \
	X(NO_CLOSE, "no-close-notify") /* the server's stream ends without one */                  \
	X(WAS_RESET, "reset")	       /* the server reset the connection */

enum wire_violation {
#define WIRE_VIOLATION_ENUM(name, text) WIRE_VIOLATION_##name,
	WIRE_VIOLATION_MAP(WIRE_VIOLATION_ENUM)
#undef WIRE_VIOLATION_ENUM
};

struct wire_markers {
	unsigned count;
	size_t longest;
	struct {
		size_t len;
		uint8_t bytes[WIRE_MARKER_LEN_MAX];
	} at[WIRE_MARKERS_MAX];
};

struct wire_note {
	enum wire_violation what;
	uint64_t offset; /* in this direction's stream */
};

struct wire_direction {
	uint64_t bytes;
	uint64_t records[5]; /* by type, from 20 (change_cipher_spec) to 24 (heartbeat) */
	uint8_t last_type;   /* of the last whole record; 0: there was none */
	uint16_t last_len;
	enum wire_end end;
	bool encrypted; /* from here on every record must be */
	bool lost;	/* the record structure was lost: only markers are looked for */

	uint64_t violations;
	struct wire_note notes[WIRE_NOTES_MAX]; /* the first ones */

	/* The record at hand. */
	uint8_t header[5];
	unsigned header_len;
	size_t body_left;

	/* The end of what was searched, so that a marker is seen across calls. */
	uint8_t tail[WIRE_MARKER_LEN_MAX];
	size_t tail_len;
};

struct wire {
	const struct wire_markers *markers;
	struct wire_direction dir[2]; /* by enum wire_side */

	/* From the server's hello; 0 until it was seen. */
	uint16_t version;
	uint16_t cipher;
	bool encrypt_then_mac;
	uint8_t hello[WIRE_HELLO_MAX];
	size_t hello_len;
};

/* False: no room, empty, or longer than WIRE_MARKER_LEN_MAX. */
bool wire_add_marker(struct wire_markers *markers, const char *text);

/* Borrows markers. */
void wire_init(struct wire *wire, const struct wire_markers *markers);

void wire_feed(struct wire *wire, enum wire_side side, const uint8_t *data, size_t len);

/* No more bytes will come from side. Only the first call counts. */
void wire_ended(struct wire *wire, enum wire_side side, enum wire_end how);

/* The last record is, by type and length, the close_notify of this cipher. */
bool wire_closed_properly(const struct wire *wire, enum wire_side side);

const char *wire_violation_name(enum wire_violation what);
const char *wire_end_name(enum wire_end how);

#endif
