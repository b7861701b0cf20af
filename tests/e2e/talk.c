/*
 * talk.c - a TLS peer on ringtls, as client or server, for other TLS libraries to
 * talk with.
 *
 *	talk [OPTION]... ADDRESS:PORT
 *
 * As a server it listens there, prints {"event":"listening","port":N}, and takes one
 * connection after the other; as a client it makes one. On each it sends a file and
 * reads what comes, both at the same time, and prints one JSON object: what the
 * connection was, what came and its SHA-256, and how it ended.
 *
 * Exit status: 0, 1 a client's connection did not end with close_notify from the
 * peer, 2 usage or no connection.
 */
#include "config.h"
#include "say.h"
#include "talk.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <ringtls/ringtls.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK	 65536u
#define EARLY	 16384u
#define HEAD_MAX 16384u

enum end { GOING_ON, CLOSE_NOTIFY, END_OF_FILE, RESET, TIMED_OUT, FAILED };

static const char *const end_names[] = {"none", "close_notify", "eof", "reset", "timeout", "error"};

/* What there is of each connection. */
struct line {
	struct talk *talk;
	struct ringtls_conn *conn;
	SSL *ssl;
	FILE *output;
	EVP_MD_CTX *hash;

	uint64_t sent, heard, want;
	uint64_t early_heard;
	uint64_t next_update, next_renegotiation;
	bool is_asked; /* for its certificate, behind the handshake */
	bool peer_closed;
	char head[HEAD_MAX]; /* of the request */
	size_t head_len;
	bool head_done;

	unsigned updates_sent, updates_heard, updates_refused;
	unsigned hellos_heard, renegotiations;
	int alert_sent, alert_heard; /* the last but close_notify; -1: none */
	enum end end;
	char error[256];
};

void die(const char *what)
{
	fprintf(stderr, "talk: %s: %s\n", what, strerror(errno));
	ERR_print_errors_fp(stderr);
	exit(2);
}

/* ---- How a call ended -------------------------------------------------- */

static void ended(struct line *l, enum end how, const char *why)
{
	if (l->end != GOING_ON)
		return;
	l->end = how;
	if (why)
		snprintf(l->error, sizeof(l->error), "%s", why);
}

/* Right after a call that failed. True: it has to be repeated later. */
static bool wants(struct line *l, int ret)
{
	int saved_errno = errno, code = ringtls_get_error(l->conn, ret);
	unsigned long error = ERR_peek_error();
	char text[256];

	if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE)
		return true;
	ERR_error_string_n(error, text, sizeof(text));
	if (code == SSL_ERROR_ZERO_RETURN)
		ended(l, CLOSE_NOTIFY, NULL);
	else if (code == SSL_ERROR_SSL &&
		 ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		ended(l, END_OF_FILE, NULL);
	else if (code == SSL_ERROR_SYSCALL && (saved_errno == ECONNRESET || saved_errno == EPIPE))
		ended(l, RESET, strerror(saved_errno));
	else
		ended(l, FAILED, code == SSL_ERROR_SYSCALL ? strerror(saved_errno) : text);
	return false;
}

static void wait_for_it(struct line *l)
{
	struct ringtls_event event;
	int n = ringtls_engine_wait(l->talk->engine, &event, 1, l->talk->opts.timeout_ms);

	if (n <= 0)
		ended(l, n < 0 ? FAILED : TIMED_OUT, n < 0 ? ringtls_strerror(n) : NULL);
}

/* Sees what OpenSSL deals with by itself. */
static void on_message(int is_write, int version, int type, const void *buf, size_t len, SSL *ssl,
		       void *arg)
{
	struct line *l = arg;
	const unsigned char *bytes = buf;

	(void)version;
	(void)ssl;
	if (type == SSL3_RT_HANDSHAKE && len > 0 && bytes[0] == SSL3_MT_KEY_UPDATE)
		*(is_write ? &l->updates_sent : &l->updates_heard) += 1;
	if (type == SSL3_RT_HANDSHAKE && len > 0 && !is_write &&
	    (bytes[0] == SSL3_MT_CLIENT_HELLO || bytes[0] == SSL3_MT_SERVER_HELLO))
		l->hellos_heard++;
	if (type == SSL3_RT_ALERT && len == 2 && bytes[1] != SSL3_AD_CLOSE_NOTIFY)
		*(is_write ? &l->alert_sent : &l->alert_heard) = bytes[1];
}

/* ---- What is heard ----------------------------------------------------- */

static void take_body(struct line *l, const char *buf, size_t n)
{
	if (!EVP_DigestUpdate(l->hash, buf, n))
		die("EVP_DigestUpdate");
	if (l->output && fwrite(buf, 1, n, l->output) != n)
		die("writing the output");
	l->heard += n;
}

/* The body's length is what is wanted then. */
static void read_head(struct line *l, const char *end)
{
	const char *line = l->head;

	l->head_done = true;
	l->want = 0;
	for (; line < end && (line = strcasestr(line, "\r\ncontent-length:")); line += 2)
		l->want = strtoull(line + 17, NULL, 10);
}

static void take(struct line *l, const char *buf, size_t n)
{
	size_t old = l->head_len, room = sizeof(l->head) - 1 - old, used;
	const char *end;

	if (!l->talk->opts.http || l->head_done) {
		take_body(l, buf, n);
		return;
	}
	l->head_len += n < room ? n : room;
	memcpy(l->head + old, buf, l->head_len - old);
	l->head[l->head_len] = '\0';
	end = strstr(l->head, "\r\n\r\n");
	if (end) {
		read_head(l, end);
		used = (size_t)(end + 4 - l->head) - old;
		take_body(l, buf + used, n - used);
	} else if (n >= room) {
		ended(l, FAILED, "the head of the request is too long");
	}
}

/* True: something came. */
static bool hear(struct line *l)
{
	static char buf[CHUNK];
	size_t n = 0;
	int r;

	if (l->peer_closed || l->end != GOING_ON)
		return false;
	r = ringtls_read_ex(l->conn, buf, sizeof(buf), &n);
	if (r == 1) {
		take(l, buf, n);
		return true;
	}
	if (ringtls_get_error(l->conn, r) == SSL_ERROR_ZERO_RETURN)
		return l->peer_closed = true;
	wants(l, r);
	return false;
}

/* ---- What is said ------------------------------------------------------ */

static bool has_heard_all(const struct line *l)
{
	return l->heard >= l->want || l->peer_closed;
}

/* The client left without a request. */
static bool was_not_asked(const struct line *l)
{
	return l->talk->opts.http && l->peer_closed && !l->head_done;
}

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void shake_hands(struct line *l)
{
	int r = 0;

	while (l->end == GOING_ON && (r = ringtls_handshake(l->conn)) != 1)
		if (wants(l, r))
			wait_for_it(l);
}

/* Before the next byte. */
static void renew(struct line *l)
{
	const struct options *o = &l->talk->opts;
	int r;

	if (o->update_every && l->sent >= l->next_update) {
		l->next_update += o->update_every;
		r = ringtls_conn_key_update(l->conn, o->update_type);
		if (r == RINGTLS_E_REKEY)
			l->updates_refused++; /* and the connection goes on */
		else if (r < 0)
			ended(l, FAILED, ringtls_strerror(r));
	}
	if (o->renegotiate_every && l->sent >= l->next_renegotiation) {
		l->next_renegotiation += o->renegotiate_every;
		l->renegotiations++;
		if (SSL_renegotiate(l->ssl) != 1)
			ended(l, FAILED, "SSL_renegotiate");
		else if (o->silent)
			shake_hands(l); /* sends a server's request */
	}
}

/* One renegotiation at a time; and some peers can't bear data meanwhile. */
static bool must_renegotiate_first(const struct line *l)
{
	const struct options *o = &l->talk->opts;

	return o->renegotiate_every && l->hellos_heard <= l->renegotiations &&
	       (o->silent || l->sent >= l->next_renegotiation);
}

/* What may be said by now. */
static uint64_t allowance(const struct line *l)
{
	const struct options *o = &l->talk->opts;

	if ((o->answer && !has_heard_all(l)) || was_not_asked(l))
		return 0;
	return o->per_byte ? min64(l->talk->size, l->heard * o->per_byte) : l->talk->size;
}

/* The same arguments each time until it is through. True: something went. */
static bool say(struct line *l)
{
	const struct talk *t = l->talk;
	const struct options *o = &t->opts;
	size_t n = 0;
	int r;

	if (l->sent >= allowance(l) || must_renegotiate_first(l))
		return false;
	if (o->update_every || o->renegotiate_every)
		renew(l);
	if (l->end != GOING_ON || must_renegotiate_first(l))
		return false;
	n = min64(CHUNK, allowance(l) - l->sent);
	if (o->update_every)
		n = min64(n, l->next_update - l->sent);
	if (o->renegotiate_every)
		n = min64(n, l->next_renegotiation - l->sent);
	r = ringtls_write_ex(l->conn, t->text + l->sent, n, &n);
	if (r == 1)
		l->sent += n;
	else
		wants(l, r);
	return r == 1;
}

/* ---- The course of a connection ---------------------------------------- */

static void hear_early(struct line *l)
{
	static char buf[EARLY];
	size_t n;
	int r;

	do {
		n = 0;
		r = ringtls_read_early_data(l->conn, buf, sizeof(buf), &n);
		if (r == SSL_READ_EARLY_DATA_ERROR && wants(l, 0)) {
			wait_for_it(l);
		} else if (n > 0) {
			take(l, buf, n);
			l->early_heard += n;
		}
	} while (r != SSL_READ_EARLY_DATA_FINISH && l->end == GOING_ON);
}

static void say_early(struct line *l)
{
	const struct talk *t = l->talk;
	uint64_t most = t->session ? SSL_SESSION_get_max_early_data(t->session) : 0, left;
	size_t n;
	int r;

	left = min64(min64(most, t->opts.early), t->size);
	while (left > 0 && l->end == GOING_ON) {
		n = min64(left, EARLY);
		r = ringtls_write_early_data(l->conn, t->text + l->sent, n, &n);
		if (r == 1) {
			l->sent += n;
			left -= n;
		} else if (wants(l, r)) {
			wait_for_it(l);
		}
	}
	shake_hands(l);
	if (SSL_get_early_data_status(l->ssl) != SSL_EARLY_DATA_ACCEPTED)
		l->sent = 0;
}

/* Asks for the certificate once the peer has said something; true: it has come. */
static bool knows_the_peer(struct line *l)
{
	const struct options *o = &l->talk->opts;

	if (!o->serve || !o->post || l->end != GOING_ON)
		return true;
	if (!l->is_asked && l->heard > 0) {
		l->is_asked = true;
		SSL_set_verify(l->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
		if (SSL_verify_client_post_handshake(l->ssl) != 1)
			ended(l, FAILED, "SSL_verify_client_post_handshake");
		shake_hands(l); /* sends the request; the answer comes with a read */
	}
	/* The proof that it is the peer's comes behind it. */
	return SSL_get0_peer_certificate(l->ssl) && !SSL_in_init(l->ssl);
}

static bool is_done(struct line *l)
{
	return knows_the_peer(l) && has_heard_all(l) &&
	       (l->sent == l->talk->size || was_not_asked(l));
}

static void converse(struct line *l)
{
	bool moved;

	while (l->end == GOING_ON && !is_done(l)) {
		moved = say(l);
		if (l->end == GOING_ON && hear(l))
			moved = true;
		if (l->peer_closed && !knows_the_peer(l))
			ended(l, FAILED, "closed without a certificate");
		/* What was read may have been no data: then it may be all there is. */
		if (!moved && l->end == GOING_ON && !is_done(l))
			wait_for_it(l);
	}
}

static void say_goodbye(struct line *l)
{
	int r = -1;

	while (l->end == GOING_ON && (r = ringtls_shutdown(l->conn)) < 0)
		if (wants(l, r))
			wait_for_it(l);
	while (l->end == GOING_ON && !l->peer_closed)
		if (!hear(l) && l->end == GOING_ON)
			wait_for_it(l);
	ended(l, CLOSE_NOTIFY, NULL);
}

/* Sending failed; what the peer sent before, such as an alert, can still be read. */
static void hear_the_rest(struct line *l)
{
	char buf[EARLY];
	size_t n;

	while (ringtls_read_ex(l->conn, buf, sizeof(buf), &n) == 1)
		take(l, buf, n);
}

/* ---- Report ------------------------------------------------------------ */

static void print_hash(struct line *l)
{
	unsigned char sha256[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (!EVP_DigestFinal_ex(l->hash, sha256, &len))
		die("EVP_DigestFinal_ex");
	printf(",\"sha256\":\"");
	for (unsigned i = 0; i < len; i++)
		printf("%02x", sha256[i]);
	putchar('"');
}

static void print_peer(const struct line *l)
{
	static const char *const early[] = {"not_sent", "rejected", "accepted"};
	X509 *cert = SSL_get0_peer_certificate(l->ssl);
	char subject[256] = "";

	if (cert)
		X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof(subject));
	printf(",\"version\":\"%s\",\"cipher\":\"%s\",\"reused\":%s,\"early\":\"%s\",\"subject\":",
	       SSL_get_version(l->ssl), SSL_get_cipher_name(l->ssl),
	       SSL_session_reused(l->ssl) ? "true" : "false",
	       early[SSL_get_early_data_status(l->ssl)]);
	say_string(subject);
}

static void print_line(struct line *l)
{
	struct ringtls_engine_info engine = {.size = sizeof(engine)};
	struct ringtls_conn_info info = {.size = sizeof(info)};

	ringtls_conn_get_info(l->conn, &info);
	ringtls_engine_get_info(l->talk->engine, &engine);
	printf("{\"event\":\"connection\",\"lane\":\"%s\",\"reason\":\"%s\",\"engine\":\"%s\"",
	       ringtls_lane_name(info.lane), ringtls_reason_name(info.reason),
	       ringtls_backend_name(engine.backend));
	print_peer(l);
	printf(",\"sent\":%" PRIu64 ",\"heard\":%" PRIu64 ",\"early_heard\":%" PRIu64, l->sent,
	       l->heard, l->early_heard);
	print_hash(l);
	printf(",\"taken\":%" PRIu64 ",\"records\":%" PRIu64 ",\"epochs\":%" PRIu64
	       ",\"key_updates_sent\":%u,\"key_updates_heard\":%u,\"key_updates_refused\":%u,"
	       "\"hellos_heard\":%u"
	       ",\"alert_sent\":%d,\"alert_heard\":%d,\"conn_error\":\"%s\",\"end\":\"%s\","
	       "\"error\":",
	       info.bytes, info.records, info.epochs, l->updates_sent, l->updates_heard,
	       l->updates_refused, l->hellos_heard, l->alert_sent, l->alert_heard,
	       info.error ? ringtls_strerror(info.error) : "", end_names[l->end]);
	say_string(l->error);
	printf("}\n");
	fflush(stdout);
}

/* ---- One connection ---------------------------------------------------- */

static void attach(struct line *l, int fd)
{
	const struct options *o = &l->talk->opts;
	struct ringtls_conn_opts opts = {.size = sizeof(opts), .lane = lane_of(o->lane)};
	int r;

	if (o->renegotiate) {
		opts.renegotiation = RINGTLS_RENEG_SERVE;
		SSL_set_options(l->ssl, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
	}
	SSL_set_msg_callback(l->ssl, on_message);
	SSL_set_msg_callback_arg(l->ssl, l);
	if (o->serve)
		SSL_set_accept_state(l->ssl);
	else
		SSL_set_connect_state(l->ssl);
	r = ringtls_conn_new(&l->conn, l->talk->engine, l->ssl, fd, &opts);
	if (r < 0) {
		fprintf(stderr, "talk: ringtls_conn_new: %s\n", ringtls_strerror(r));
		exit(2);
	}
}

static void open_line(struct line *l, struct talk *t, int fd)
{
	static char name[] = "localhost"; /* the macro casts a const away */
	const struct options *o = &t->opts;

	l->talk = t;
	l->want = o->http ? NO_LIMIT : o->receive;
	l->alert_sent = l->alert_heard = -1;
	l->next_update = o->update_every;
	l->next_renegotiation = o->renegotiate_every;
	l->output = o->output ? fopen(o->output, "w") : NULL;
	l->hash = EVP_MD_CTX_new();
	l->ssl = SSL_new(t->ctx);
	if ((o->output && !l->output) || !l->hash || !l->ssl ||
	    !EVP_DigestInit_ex(l->hash, EVP_sha256(), NULL))
		die("a connection");
	if (!o->serve && (!SSL_set_tlsext_host_name(l->ssl, name) ||
			  (t->session && !SSL_set_session(l->ssl, t->session))))
		die("a session");
	attach(l, fd);
}

/*
 * Closing with bytes unread is a reset, and may overtake what went before, such as an
 * alert: when we are the one who gives up, the peer is heard to its end.
 */
static void leave(const struct talk *t, int fd, enum end end)
{
	struct pollfd there = {.fd = fd, .events = POLLIN};
	char buf[EARLY];

	if (end == FAILED && shutdown(fd, SHUT_WR) == 0)
		while (poll(&there, 1, t->opts.timeout_ms) > 0 && read(fd, buf, sizeof(buf)) > 0)
			;
	close(fd);
}

/* Closes fd. How it ended. */
static enum end talk_on(struct talk *t, int fd)
{
	struct line *l = calloc(1, sizeof(*l));
	enum end end;

	if (!l || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		die("a connection");
	open_line(l, t, fd);
	if (t->opts.early && t->opts.serve)
		hear_early(l);
	else if (t->opts.early)
		say_early(l);
	shake_hands(l);
	converse(l);
	say_goodbye(l);
	if (l->end == RESET)
		hear_the_rest(l);
	if (l->output && fclose(l->output))
		die("writing the output");
	print_line(l);
	end = l->end;
	ringtls_conn_free(l->conn);
	leave(t, fd, end);
	SSL_free(l->ssl);
	EVP_MD_CTX_free(l->hash);
	free(l);
	return end;
}

/* ---- Sockets ----------------------------------------------------------- */

static struct addrinfo *look_up(char *text)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *list;
	char *colon = strrchr(text, ':');

	if (!colon)
		return NULL;
	*colon = '\0';
	if (*text == '[' && colon > text && colon[-1] == ']') {
		colon[-1] = '\0';
		text++;
	}
	return getaddrinfo(text, colon + 1, &hints, &list) ? NULL : list;
}

static int open_socket(const struct addrinfo *at, bool serve)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (!serve) {
		if (connect(fd, at->ai_addr, at->ai_addrlen) < 0)
			die("connect");
		return fd;
	}
	if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, 16) < 0 ||
	    getsockname(fd, (struct sockaddr *)&name, &len) < 0)
		die("listen");
	printf("{\"event\":\"listening\",\"port\":%d}\n",
	       ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port
						: ((struct sockaddr_in *)&name)->sin_port));
	fflush(stdout);
	return fd;
}

static void serve(struct talk *t, int listener)
{
	uint64_t left = t->opts.connections;
	int fd;

	do {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			die("accept");
		talk_on(t, fd);
	} while (left == 0 || --left > 0);
	close(listener);
}

int main(int argc, char **argv)
{
	static struct talk talk;
	struct addrinfo *at;
	enum end end = CLOSE_NOTIFY;
	char *address;
	int fd;

	take_options(&talk.opts, argc, argv, &address);
	at = look_up(address);
	if (!at) {
		errno = EINVAL;
		die(address);
	}
	set_up(&talk);
	fd = open_socket(at, talk.opts.serve);
	freeaddrinfo(at);
	if (talk.opts.serve) {
		serve(&talk, fd);
	} else {
		end = talk_on(&talk, fd);
		save_session(&talk);
	}
	tear_down(&talk);
	return end == CLOSE_NOTIFY ? 0 : 1;
}
