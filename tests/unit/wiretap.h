/*
 * wiretap.h - keeps every byte that the peer's SSL reads from its socket, as it came
 * over the wire: to see that no plaintext is among them, and only whole records.
 */
#ifndef WIRETAP_H
#define WIRETAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <openssl/ssl.h>

struct wiretap {
	uint8_t *bytes;
	size_t len, room;
};

/* From now on; the tap stays where it is until wiretap_close. */
void wiretap_open(struct wiretap *w, SSL *peer);
void wiretap_close(struct wiretap *w);

/* What the peer did not read, from the socket itself. */
void wiretap_rest(struct wiretap *w, int peer_fd);

bool wiretap_has(const struct wiretap *w, const void *bytes, size_t len);

/* Asserts that it is TLS records and nothing else; the last may be cut off. Answers
 * their number. */
size_t wiretap_records(const struct wiretap *w);

#endif
