/*
 * peer.c - an HTTPS client on OpenSSL alone, to see ringtls from the other side.
 *
 *	peer [OPTION]... ADDRESS:PORT PATH...
 *
 * Fetches the paths on one connection and prints one JSON object: what came, its
 * SHA-256, and how the stream ended, as OpenSSL saw it. Options make it a
 * difficult peer: slow, updating keys, closing early.
 *
 * Exit status: 0 every response was complete and close_notify came (or the end
 * was asked for), 1 not so, 2 usage or no connection.
 */
#include "config.h"
#include "ctx.h"
#include "say.h"
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX    16384
#define HEADERS_MAX 16
#define NO_LENGTH   UINT64_MAX

/* How reading ended. */
enum end { GOING_ON, CLOSE_NOTIFY, END_OF_FILE, RESET, TIMED_OUT, FAILED, STOPPED };

static const char *const end_names[] = { "none",    "close_notify", "eof",    "reset",
					 "timeout", "error",	    "stopped" };

struct options {
	const char *host;
	const char *port;
	const char *tls;    /* "1.2", "1.3", or NULL for either */
	const char *cipher; /* one name of a suite, or a list of TLS 1.2 */
	const char *ca;	    /* verify against these; NULL: don't verify */
	const char *method;
	const char *output; /* bodies go there; NULL: nowhere */
	const char *headers[HEADERS_MAX];
	unsigned header_count;
	int rcvbuf;
	int timeout_s;
	bool raw;	     /* no HTTP: send nothing, read to the end */
	bool half_close;     /* close_notify behind the last request */
	bool shut_wr;	     /* and a FIN behind that */
	bool keep_open;	     /* don't ask the server to close after the last response */
	bool reset;	     /* leave by a reset */
	uint64_t stop_after; /* leave after so many bytes of bodies; 0: at the end */
	uint64_t slow;	     /* bytes a second, for slow_ms from the first body byte on */
	int64_t slow_ms;
	uint64_t update_every; /* a KeyUpdate each time so many bytes came */
	int update_type;
};

struct peer {
	struct options opts;
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;
	FILE *output;
	enum end end;
	char error[256];

	unsigned char buf[HEAD_MAX];
	size_t off, len; /* what was read and not used */

	uint64_t body_bytes; /* of all responses */
	int64_t slow_since;
	uint64_t next_update;
	unsigned updates_sent, updates_received;
	int alert; /* the last one received: level << 8 | description; -1: none */
};

struct response {
	unsigned status;
	uint64_t length; /* as announced, or NO_LENGTH */
	uint64_t bytes;
	unsigned char sha256[32];
	bool complete;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void sleep_ms(int64_t ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

/* ---- The connection ---------------------------------------------------- */

static void ended(struct peer *p, enum end how, const char *why)
{
	if (p->end != GOING_ON)
		return;
	p->end = how;
	if (why)
		snprintf(p->error, sizeof(p->error), "%s", why);
}

/* Right after a call of OpenSSL that failed. */
static void ended_by_openssl(struct peer *p, int ret)
{
	int saved_errno = errno;
	int code = SSL_get_error(p->ssl, ret);
	unsigned long error = ERR_peek_last_error();
	char text[256];

	ERR_error_string_n(error, text, sizeof(text));
	if (code == SSL_ERROR_ZERO_RETURN)
		ended(p, CLOSE_NOTIFY, NULL);
	else if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE)
		ended(p, TIMED_OUT, NULL); /* the socket blocks, so its timeout struck */
	else if (code == SSL_ERROR_SSL &&
		 ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		ended(p, END_OF_FILE, NULL);
	else if (code == SSL_ERROR_SYSCALL && saved_errno == ECONNRESET)
		ended(p, RESET, NULL);
	else if (code == SSL_ERROR_SYSCALL)
		ended(p, FAILED, strerror(saved_errno));
	else
		ended(p, FAILED, text);
}

/* Sees what OpenSSL deals with by itself. */
static void on_message(int is_write, int version, int type, const void *buf, size_t len, SSL *ssl,
		       void *arg)
{
	struct peer *p = arg;
	const unsigned char *bytes = buf;

	(void)version;
	(void)ssl;
	if (is_write || len == 0)
		return;
	if (type == SSL3_RT_HANDSHAKE && bytes[0] == SSL3_MT_KEY_UPDATE)
		p->updates_received++;
	if (type == SSL3_RT_ALERT && len == 2)
		p->alert = bytes[0] << 8 | bytes[1];
}

static bool make_context(struct peer *p)
{
	const struct options *o = &p->opts;

	p->ctx = SSL_CTX_new(TLS_client_method());
	if (!p->ctx)
		return false;
	/* A configuration file must not make this a peer that needs the kernel. */
	SSL_CTX_clear_options(p->ctx, SSL_OP_ENABLE_KTLS);
	SSL_CTX_set_msg_callback(p->ctx, on_message);
	SSL_CTX_set_msg_callback_arg(p->ctx, p);
	if (o->ca) {
		SSL_CTX_set_verify(p->ctx, SSL_VERIFY_PEER, NULL);
		if (!SSL_CTX_load_verify_file(p->ctx, o->ca))
			return false;
	}
	return ctx_speaks(p->ctx, o->tls, o->cipher);
}

static int dial(const struct options *o)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	struct timeval timeout = { .tv_sec = o->timeout_s };
	int fd = -1;

	if (getaddrinfo(o->host, o->port, &hints, &list))
		return -1;
	for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		if (o->rcvbuf) /* before connect, so that the window never gets larger */
			setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &o->rcvbuf, sizeof(o->rcvbuf));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
		if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd;
}

/* False: the handshake failed, and p->end says how. */
static bool start_tls(struct peer *p)
{
	int ret;

	p->ssl = SSL_new(p->ctx);
	if (!p->ssl || !SSL_set_fd(p->ssl, p->fd)) {
		ended(p, FAILED, "no memory for the connection");
		return false;
	}
	errno = 0;
	ret = SSL_connect(p->ssl);
	if (ret != 1)
		ended_by_openssl(p, ret);
	return ret == 1;
}

/* ---- Difficult manners ------------------------------------------------- */

/* How much may be read now; waits for its turn first. */
static size_t paced(struct peer *p, size_t want)
{
	const struct options *o = &p->opts;
	uint64_t chunk = o->slow / 20 + 1;

	if (o->slow == 0 || p->body_bytes == 0)
		return want;
	if (p->slow_since == 0)
		p->slow_since = now_ms();
	if (now_ms() - p->slow_since >= o->slow_ms)
		return want;
	sleep_ms(50);
	return want < chunk ? want : (size_t)chunk;
}

/* Queues a KeyUpdate, and sends it: reading alone would not. */
static void update_key(struct peer *p)
{
	int ret;

	p->next_update += p->opts.update_every;
	if (!SSL_key_update(p->ssl, p->opts.update_type)) {
		ended(p, FAILED, "SSL_key_update");
		return;
	}
	errno = 0;
	ret = SSL_do_handshake(p->ssl);
	if (ret != 1)
		ended_by_openssl(p, ret);
	else
		p->updates_sent++;
}

static void after_body_bytes(struct peer *p, size_t n)
{
	const struct options *o = &p->opts;

	p->body_bytes += n;
	if (o->stop_after && p->body_bytes >= o->stop_after)
		ended(p, STOPPED, NULL);
	else if (o->update_every && p->body_bytes >= p->next_update)
		update_key(p);
}

/* ---- Reading ----------------------------------------------------------- */

/* More bytes into buf. False: there are none, and p->end says why. */
static bool fill(struct peer *p)
{
	size_t room = sizeof(p->buf) - p->len;
	int n;

	if (p->end != GOING_ON || room == 0)
		return false;
	ERR_clear_error();
	errno = 0;
	n = SSL_read(p->ssl, p->buf + p->len, (int)paced(p, room));
	if (n <= 0) {
		ended_by_openssl(p, n);
		return false;
	}
	p->len += (size_t)n;
	return true;
}

static bool read_body(struct peer *p, struct response *r)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();
	bool ok = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL);

	while (ok && r->bytes < r->length) {
		uint64_t left = r->length - r->bytes;
		size_t n;

		if (p->off == p->len) {
			p->off = p->len = 0;
			if (!fill(p))
				break;
		}
		n = p->len - p->off;
		if (n > left)
			n = (size_t)left;
		ok = EVP_DigestUpdate(hash, p->buf + p->off, n);
		if (p->output && fwrite(p->buf + p->off, 1, n, p->output) != n)
			ok = false;
		p->off += n;
		r->bytes += n;
		after_body_bytes(p, n);
	}
	ok = ok && EVP_DigestFinal_ex(hash, r->sha256, NULL);
	EVP_MD_CTX_free(hash);
	if (!ok)
		ended(p, FAILED, "hashing or writing the body");
	if (r->length == NO_LENGTH)
		return ok && p->end == CLOSE_NOTIFY;
	return ok && r->bytes == r->length;
}

/* The whole head of a response at the start of buf, ended by a NUL in place of its
 * last newline; NULL: it did not come. */
static char *read_head(struct peer *p)
{
	char *end;

	memmove(p->buf, p->buf + p->off, p->len - p->off);
	p->len -= p->off;
	p->off = 0;
	while (!(end = memmem(p->buf, p->len, "\r\n\r\n", 4)))
		if (!fill(p))
			return NULL;
	end[3] = '\0';
	p->off = (size_t)(end + 4 - (char *)p->buf);
	return (char *)p->buf;
}

static bool parse_head(const struct peer *p, const char *head, struct response *r)
{
	const char *line;

	if (sscanf(head, "HTTP/1.%*1[01] %3u", &r->status) != 1)
		return false;
	r->length = NO_LENGTH;
	for (line = head; (line = strstr(line, "\r\n"));) {
		line += 2;
		if (strncasecmp(line, "Content-Length:", 15) == 0)
			r->length = strtoull(line + 15, NULL, 10);
	}
	if (strcmp(p->opts.method, "HEAD") == 0 || r->status == 204 || r->status == 304)
		r->length = 0;
	return true;
}

static bool read_response(struct peer *p, struct response *r)
{
	const char *head = read_head(p);

	if (!head)
		return false;
	if (!parse_head(p, head, r)) {
		ended(p, FAILED, "not an HTTP response");
		return false;
	}
	r->complete = read_body(p, r);
	return r->complete;
}

/* ---- Requests ---------------------------------------------------------- */

static bool send_request(struct peer *p, const char *path, bool last)
{
	const struct options *o = &p->opts;
	char text[HEAD_MAX];
	int n, ret;

	n = snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: %s\r\n%s", o->method, path,
		     o->host, last && !o->keep_open ? "Connection: close\r\n" : "");
	for (unsigned i = 0; i < o->header_count && n < HEAD_MAX; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s\r\n", o->headers[i]);
	if (n + 2 >= HEAD_MAX) {
		ended(p, FAILED, "the request is too long");
		return false;
	}
	memcpy(text + n, "\r\n", 2);
	errno = 0;
	ret = SSL_write(p->ssl, text, n + 2);
	if (ret <= 0)
		ended_by_openssl(p, ret);
	return ret > 0;
}

static void close_half(struct peer *p)
{
	int ret;

	errno = 0;
	ret = SSL_shutdown(p->ssl);
	if (ret < 0)
		ended_by_openssl(p, ret);
	if (p->opts.shut_wr)
		shutdown(p->fd, SHUT_WR);
}

/* Whatever comes behind the last response is read too: only its end is expected. */
static uint64_t read_to_end(struct peer *p)
{
	uint64_t surplus = p->len - p->off;

	do {
		p->off = p->len = 0;
		if (!fill(p))
			break;
		surplus += p->len;
	} while (true);
	return surplus;
}

static void leave(struct peer *p)
{
	struct linger hard = { .l_onoff = 1, .l_linger = 0 };

	if (p->opts.reset)
		setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	else if (p->end == CLOSE_NOTIFY || p->end == STOPPED)
		SSL_shutdown(p->ssl);
	close(p->fd);
}

/* ---- Report ------------------------------------------------------------ */

static void print_response(const char *path, const struct response *r)
{
	printf("{\"path\":");
	say_string(path);
	printf(",\"status\":%u,\"bytes\":%" PRIu64 ",\"complete\":%s,\"sha256\":\"", r->status,
	       r->bytes, r->complete ? "true" : "false");
	for (size_t i = 0; i < sizeof(r->sha256); i++)
		printf("%02x", r->sha256[i]);
	printf("\"}");
}

static void print_end(const struct peer *p, uint64_t surplus)
{
	printf("],\"version\":");
	say_string(p->ssl ? SSL_get_version(p->ssl) : "");
	printf(",\"cipher\":");
	say_string(p->ssl ? SSL_get_cipher_name(p->ssl) : "");
	printf(",\"end\":\"%s\",\"close_notify\":%s,\"surplus\":%" PRIu64
	       ",\"key_updates_sent\":%u,"
	       "\"key_updates_received\":%u,\"alert\":%d,\"error\":",
	       end_names[p->end], p->end == CLOSE_NOTIFY ? "true" : "false", surplus,
	       p->updates_sent, p->updates_received, p->alert);
	say_string(p->error);
	printf("}\n");
}

/* True: all came, and in order. */
static bool converse(struct peer *p, char **paths, int count)
{
	uint64_t surplus = 0;
	bool good = true;

	for (int i = 0; i < count; i++) {
		struct response r = { .length = NO_LENGTH };

		if (p->opts.raw)
			r.complete = read_body(p, &r);
		else if (p->end == GOING_ON && send_request(p, paths[i], i == count - 1)) {
			if (p->opts.half_close && i == count - 1)
				close_half(p);
			read_response(p, &r);
		}
		printf(i ? "," : "");
		print_response(paths[i], &r);
		good = good && (r.complete || p->end == STOPPED);
	}
	if (p->end == GOING_ON && !p->opts.keep_open)
		surplus = read_to_end(p);
	else if (p->end == GOING_ON)
		ended(p, STOPPED, NULL);
	print_end(p, surplus);
	return good && surplus == 0 && (p->end == CLOSE_NOTIFY || p->end == STOPPED);
}

/* ---- Options ----------------------------------------------------------- */

static void usage(void)
{
	fprintf(stderr, "usage: peer [OPTION]... ADDRESS:PORT PATH...\n"
			"  --tls 1.2|1.3  --cipher NAME  --ca FILE\n"
			"  --method METHOD  --header 'NAME: VALUE'  --output FILE  --raw\n"
			"  --timeout SECONDS         of silence (10)\n"
			"  --rcvbuf BYTES            SO_RCVBUF\n"
			"  --slow BYTES              read bodies at so many a second ...\n"
			"  --slow-for MS             ... for that long, then at full speed\n"
			"  --key-update-every BYTES  send a KeyUpdate each time so many came\n"
			"  --key-update-request      and ask for the server's in each\n"
			"  --half-close              close_notify behind the last request\n"
			"  --shut-wr                 and a FIN behind that\n"
			"  --keep-open               don't ask the server to close\n"
			"  --stop-after BYTES        leave then ...\n"
			"  --reset                   ... by a reset\n");
	exit(2);
}

enum option_id {
	TLS,
	CIPHER,
	CA,
	METHOD,
	HEADER,
	OUTPUT,
	RAW,
	TIMEOUT,
	RCVBUF,
	SLOW,
	SLOW_FOR,
	UPDATE_EVERY,
	UPDATE_REQUEST,
	HALF_CLOSE,
	FIN,
	KEEP_OPEN,
	STOP_AFTER,
	RESET_END
};

static const struct option option_table[] = {
	{ "tls", 1, NULL, TLS },
	{ "cipher", 1, NULL, CIPHER },
	{ "ca", 1, NULL, CA },
	{ "method", 1, NULL, METHOD },
	{ "header", 1, NULL, HEADER },
	{ "output", 1, NULL, OUTPUT },
	{ "raw", 0, NULL, RAW },
	{ "timeout", 1, NULL, TIMEOUT },
	{ "rcvbuf", 1, NULL, RCVBUF },
	{ "slow", 1, NULL, SLOW },
	{ "slow-for", 1, NULL, SLOW_FOR },
	{ "key-update-every", 1, NULL, UPDATE_EVERY },
	{ "key-update-request", 0, NULL, UPDATE_REQUEST },
	{ "half-close", 0, NULL, HALF_CLOSE },
	{ "shut-wr", 0, NULL, FIN },
	{ "keep-open", 0, NULL, KEEP_OPEN },
	{ "stop-after", 1, NULL, STOP_AFTER },
	{ "reset", 0, NULL, RESET_END },
	{ NULL, 0, NULL, 0 },
};

static void read_options(struct options *o, int argc, char **argv)
{
	const char *texts[RESET_END + 1] = { [METHOD] = "GET" };
	uint64_t numbers[RESET_END + 1] = { [TIMEOUT] = 10, [SLOW_FOR] = INT64_MAX };
	bool flags[RESET_END + 1] = { false };
	int c;

	while ((c = getopt_long(argc, argv, "", option_table, NULL)) != -1) {
		if (c == '?' || (c == HEADER && o->header_count == HEADERS_MAX))
			usage();
		if (c == HEADER)
			o->headers[o->header_count++] = optarg;
		else if (c <= OUTPUT)
			texts[c] = optarg;
		else if (optarg)
			numbers[c] = say_number(optarg, usage);
		else
			flags[c] = true;
	}
	o->tls = texts[TLS];
	o->cipher = texts[CIPHER];
	o->ca = texts[CA];
	o->method = texts[METHOD];
	o->output = texts[OUTPUT];
	o->timeout_s = (int)numbers[TIMEOUT];
	o->rcvbuf = (int)numbers[RCVBUF];
	o->slow = numbers[SLOW];
	o->slow_ms = (int64_t)numbers[SLOW_FOR];
	o->update_every = numbers[UPDATE_EVERY];
	o->stop_after = numbers[STOP_AFTER];
	o->update_type =
		flags[UPDATE_REQUEST] ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
	o->raw = flags[RAW];
	o->shut_wr = flags[FIN];
	o->half_close = flags[HALF_CLOSE] || flags[FIN];
	o->keep_open = flags[KEEP_OPEN];
	o->reset = flags[RESET_END];
}

/* ADDRESS:PORT or [ADDRESS]:PORT; changes text. */
static void read_target(struct options *o, char *text)
{
	char *colon = strrchr(text, ':');

	if (!colon || colon == text)
		usage();
	*colon = '\0';
	if (*text == '[' && colon[-1] == ']') {
		colon[-1] = '\0';
		text++;
	}
	o->host = text;
	o->port = colon + 1;
}

int main(int argc, char **argv)
{
	static struct peer peer = { .fd = -1, .alert = -1 };
	struct peer *p = &peer;
	bool good = false;

	read_options(&p->opts, argc, argv);
	if (argc - optind < 2 ||
	    (p->opts.tls && strcmp(p->opts.tls, "1.2") && strcmp(p->opts.tls, "1.3")))
		usage();
	read_target(&p->opts, argv[optind]);
	p->next_update = p->opts.update_every;
	signal(SIGPIPE, SIG_IGN);
	if (!make_context(p)) {
		ERR_print_errors_fp(stderr);
		return 2;
	}
	p->output = p->opts.output ? fopen(p->opts.output, "w") : NULL;
	p->fd = dial(&p->opts);
	if (p->fd < 0 || (p->opts.output && !p->output)) {
		fprintf(stderr, "peer: %s\n", strerror(errno));
		return 2;
	}
	printf("{\"responses\":[");
	if (start_tls(p))
		good = converse(p, argv + optind + 1, argc - optind - 1);
	else
		print_end(p, 0);
	leave(p);
	if (p->output && fclose(p->output))
		good = false;
	SSL_free(p->ssl);
	SSL_CTX_free(p->ctx);
	return good ? 0 : 1;
}
