/*
 * kernel.h - asking the kernel itself: loopback connections whose sending side the
 * kernel seals, and whose other end opens every record by hand. Nothing of the
 * library sits in between but its questions about sockets (op.h), so what a test
 * finds here the library may rely on.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <liburing.h>
#include "seal.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define PATIENCE_MS 10000 /* for what must come */
#define MOMENT_MS   300   /* for what must not */

#define KERNEL_EPOCHS  8
#define KERNEL_RECORDS 2048
#define KERNEL_BYTES   (1 << 20)

/* A megabyte that differs everywhere. */
extern uint8_t kernel_bytes[KERNEL_BYTES];

struct bytes {
	uint8_t *at;
	size_t len, room;
};

struct opened_record {
	uint8_t type;
	unsigned epoch;
	size_t len; /* of its plaintext */
};

/* fd sends and does not block, peer receives and does. */
struct line {
	int fd, peer;
	struct ringtls__key keys[KERNEL_EPOCHS];
	unsigned epochs;
	uint64_t tcp_base; /* bytes given to TCP before the first key */
	uint64_t first;    /* number of this epoch's first record */
	uint64_t before;   /* records of the epochs before it */
	uint64_t starts[KERNEL_EPOCHS]; /* records before each of the epochs */
	struct bytes given; /* plaintext that the kernel said it took, in order */
	struct bytes wire;  /* what the peer has read */
	struct bytes plain; /* what the peer has opened of it */
	struct opened_record records[KERNEL_RECORDS];
	size_t record_count;
	size_t cut; /* bytes at the end of wire that are no whole record */
	bool ended; /* the peer has read the end of the stream */
};

enum line_size { LARGE, SMALL };

/* All of these assert on what must not fail. A plain connection: */
void line_open(struct line *l, enum line_size size);
void line_close(struct line *l);

/* Answers 0 or the negated errno. */
int line_ulp(struct line *l);
int line_key(struct line *l, const struct ringtls__key *key);

/* Both, with a key of its own for every epoch. */
void line_install(struct line *l, uint16_t version, uint16_t cipher);
/* A plain connection, then AES-128-GCM in TLS 1.3. Skips where there is no kTLS. */
void line_sealed(struct line *l, enum line_size size);

struct ringtls__key make_key(uint16_t version, uint16_t cipher, uint8_t seed);

/* Answer the bytes taken, or the negated errno; what was taken is added to given. */
ssize_t line_send(struct line *l, const void *bytes, size_t len, int flags);
ssize_t line_record(struct line *l, uint8_t type, const void *bytes, size_t len, int flags);
void line_gave(struct line *l, const void *bytes, size_t len);
void fill_record(struct msghdr *msg, struct iovec *iov, void *control, uint8_t type);
#define RECORD_CONTROL CMSG_SPACE(sizeof(uint8_t))

/* All of it, with the peer reading where that is needed. */
void line_send_whole(struct line *l, const uint8_t *bytes, size_t len);
void line_alert(struct line *l);

/* Sends until EAGAIN that stays, len bytes a time. */
void line_fill(struct line *l, size_t len);

uint64_t line_seq(const struct line *l); /* the kernel's number for the next record */
uint64_t line_in_tcp(const struct line *l); /* bytes given to TCP since the first key */
/* The drain formula's other side: plaintext taken, and each record's overhead. */
uint64_t line_sealed_bytes(const struct line *l);
/* What the library's question is answered with when it fails. */
int line_output_error(const struct line *l);
/* Both sides are the same now; asserts that TCP was never given more. */
bool line_is_drained(const struct line *l);

/* Reads what the peer has now, or up to the end of the stream. */
size_t line_peer_reads(struct line *l);
void line_peer_reads_to_end(struct line *l);
/* Reads until TCP was given all. */
void line_drain(struct line *l);

/* Opens what the peer has read: fills plain, records and cut. */
void line_open_records(struct line *l);
/* Drains, ends the stream, opens all: what was given arrived, and nothing else. */
void line_finish(struct line *l);
void line_expect(const struct line *l, size_t i, uint8_t type, size_t len);

void set_blocking(int fd, bool blocking);
void nap(unsigned ms);
int64_t clock_ms(void);
int temp_file(size_t len); /* the first of kernel_bytes, over and over */

/* What the kernel answers on this machine. */
bool has_ktls(void);
bool has_rekey(void);
bool has_uring(void);

/* "taken", or the name of the negated errno; the next call overwrites an unknown one. */
const char *outcome(ssize_t res);

/*
 * A finding for kmod-notes/table.md, "note/what". Where that table has a column
 * for this very kernel and says something else, the test fails.
 */
void behaviour(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct kernel_tests {
	const struct CMUnitTest *list;
	size_t count;
};

#define KERNEL_TESTS(tests) { (tests), sizeof(tests) / sizeof((tests)[0]) }

extern const struct kernel_tests kernel_module, kernel_install, kernel_flags, kernel_short,
	kernel_records, kernel_drain, kernel_rekey, kernel_file, kernel_push, kernel_ring, kernel_errors;

#define T(name) cmocka_unit_test(name)

#endif
