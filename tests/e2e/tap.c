/*
 * tap.c - the wire tap: a TCP proxy that watches what two TLS peers say.
 *
 * It forwards every byte and checks it (wire.h). Standard output gets a JSON
 * object a line: {"event":"listening",...} once, {"event":"connection",...} for
 * each connection that ended, {"event":"end",...} at the end, which comes with
 * SIGTERM, with SIGINT, or after --connections N.
 *
 * Exit status: 0 all well, 1 a violation was seen, 2 it could not do its work.
 *
 * Beyond watching it can be a bad reader towards the server: slow, stalled, or
 * gone. Slow and stalled end with SIGUSR1, too. Gone: the server's direction is
 * then called "cut" and nothing is asked of its end. A client that vanishes is no reason to reset
 * the server: its side is closed in order and the server's stream is watched to the end.
 */
#include "config.h"
#include "say.h"
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER		(256 * 1024)
#define CONNECTIONS_MAX 1024
#define NEVER		INT64_MAX

/* How the tap treats the server's stream. */
struct manners {
	uint64_t slow;	      /* bytes a second; 0: as fast as it comes */
	int64_t slow_ms;      /* for that long; NEVER: to the end */
	uint64_t slow_after;  /* from this byte on */
	int rcvbuf;	      /* SO_RCVBUF towards the server; 0: the system's */
	uint64_t reset_after; /* reset the server's connection then; 0: never */
	uint64_t stop_after;  /* read no more then; 0: never */
	int64_t resume_ms;    /* but go on that much later */
};

/* One direction: from a socket, through buf, to the other. */
struct flow {
	enum wire_side from; /* who speaks */
	uint8_t *buf;
	size_t off, len; /* what is left to be written */
	bool ended;	 /* nothing more to read */
	bool deaf;	 /* the receiver is gone: read on, and drop */
};

struct connection {
	int fd[2]; /* by enum wire_side */
	struct flow flow[2];
	struct wire wire;
	unsigned number;

	int64_t slow_since, stop_since; /* 0: not yet */
	uint64_t slow_taken;		/* since slow_since */
	bool reset;
};

struct tap {
	struct manners manners;
	struct wire_markers markers;
	struct sockaddr_storage upstream;
	socklen_t upstream_len;
	int listener;
	int signals;

	struct connection *at[CONNECTIONS_MAX];
	unsigned open, accepted, ended, wanted; /* wanted: 0 means any number */
	uint64_t violations;
	struct pollfd polls[2 + 2 * CONNECTIONS_MAX];
};

static void die(const char *what)
{
	fprintf(stderr, "tap: %s: %s\n", what, strerror(errno));
	exit(2);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- Report ------------------------------------------------------------ */

static void print_direction(const struct connection *c, enum wire_side side)
{
	static const char *const names[2] = { "client_to_server", "server_to_client" };
	const struct wire_direction *dir = &c->wire.dir[side];
	uint64_t notes = dir->violations < WIRE_NOTES_MAX ? dir->violations : WIRE_NOTES_MAX;

	printf(",\"%s\":{\"bytes\":%" PRIu64 ",\"records\":{", names[side], dir->bytes);
	for (unsigned i = 0; i < 5; i++)
		printf("%s\"%u\":%" PRIu64, i ? "," : "", 20 + i, dir->records[i]);
	printf("},\"last\":[%u,%u],\"end\":\"%s\",\"close_notify\":%s,\"violations\":[",
	       dir->last_type, dir->last_len, wire_end_name(dir->end),
	       wire_closed_properly(&c->wire, side) ? "true" : "false");
	for (uint64_t i = 0; i < notes; i++)
		printf("%s{\"what\":\"%s\",\"offset\":%" PRIu64 "}", i ? "," : "",
		       wire_violation_name(dir->notes[i].what), dir->notes[i].offset);
	printf("]}");
}

static void print_connection(const struct connection *c)
{
	printf("{\"event\":\"connection\",\"number\":%u,\"version\":%u,\"cipher\":%u,"
	       "\"reset_by_tap\":%s,\"violations\":%" PRIu64,
	       c->number, c->wire.version, c->wire.cipher, c->reset ? "true" : "false",
	       c->wire.dir[0].violations + c->wire.dir[1].violations);
	print_direction(c, WIRE_CLIENT);
	print_direction(c, WIRE_SERVER);
	printf("}\n");
	fflush(stdout);
}

/* ---- Connections ------------------------------------------------------- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void connection_free(struct connection *c)
{
	close_fd(&c->fd[WIRE_CLIENT]);
	close_fd(&c->fd[WIRE_SERVER]);
	free(c->flow[WIRE_CLIENT].buf);
	free(c->flow[WIRE_SERVER].buf);
	free(c);
}

/* Only now, not before connect: the window's scale was agreed on by then, so that
 * the connection can become fast again. */
static void set_rcvbuf(int fd, int bytes)
{
	if (bytes > 0 && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)) < 0)
		die("SO_RCVBUF");
}

static int dial(const struct tap *tap)
{
	int one = 1;
	int fd = socket(tap->upstream.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (connect(fd, (const struct sockaddr *)&tap->upstream, tap->upstream_len) < 0) {
		fprintf(stderr, "tap: connect: %s\n", strerror(errno));
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	set_rcvbuf(fd, tap->manners.rcvbuf);
	return fd;
}

static struct connection *connection_new(struct tap *tap, int client, int server)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c)
		die("calloc");
	wire_init(&c->wire, &tap->markers);
	c->number = ++tap->accepted;
	c->fd[WIRE_CLIENT] = client;
	c->fd[WIRE_SERVER] = server;
	for (int side = 0; side < 2; side++) {
		c->flow[side].from = (enum wire_side)side;
		c->flow[side].buf = malloc(BUFFER);
		if (!c->flow[side].buf)
			die("malloc");
	}
	return c;
}

static void take_connection(struct tap *tap)
{
	int one = 1, server;
	int client = accept4(tap->listener, NULL, NULL, SOCK_CLOEXEC);

	if (client < 0)
		return;
	server = dial(tap);
	if (server < 0) {
		tap->violations++; /* there is nothing to watch: don't call it well */
		close(client);
		return;
	}
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	tap->at[tap->open++] = connection_new(tap, client, server);
}

static enum wire_side other(enum wire_side side)
{
	return side == WIRE_CLIENT ? WIRE_SERVER : WIRE_CLIENT;
}

/* What c's flow has to say to its receiver at its end. */
static void flow_ended(struct connection *c, struct flow *f, enum wire_end how)
{
	f->ended = true;
	wire_ended(&c->wire, f->from, how);
	if (f->len == 0 && !f->deaf)
		shutdown(c->fd[other(f->from)], SHUT_WR);
}

static void flow_write(struct connection *c, struct flow *f)
{
	while (f->len > 0 && !f->deaf) {
		ssize_t n = send(c->fd[other(f->from)], f->buf + f->off, f->len,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			f->deaf = true;
			break;
		}
		f->off += (size_t)n;
		f->len -= (size_t)n;
	}
	f->len = 0;
	if (f->ended && !f->deaf)
		shutdown(c->fd[other(f->from)], SHUT_WR);
}

static void flow_read(struct connection *c, struct flow *f, size_t max)
{
	ssize_t n = recv(c->fd[f->from], f->buf, max, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		flow_ended(c, f, n == 0 ? WIRE_FIN : WIRE_RESET);
		return;
	}
	wire_feed(&c->wire, f->from, f->buf, (size_t)n);
	f->off = 0;
	f->len = (size_t)n;
	flow_write(c, f);
}

/* ---- Manners: when, and how much, to read from the server --------------- */

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void reset_connection(struct connection *c)
{
	struct linger hard = { .l_onoff = 1, .l_linger = 0 };

	for (int side = 0; side < 2; side++) {
		setsockopt(c->fd[side], SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		close_fd(&c->fd[side]);
		wire_ended(&c->wire, (enum wire_side)side, WIRE_CUT);
		c->flow[side].ended = true;
		c->flow[side].len = 0;
	}
	c->reset = true;
}

/* Bytes that may be read at this moment, while it is slow. */
static uint64_t slow_budget(struct connection *c, const struct manners *m, int64_t now)
{
	uint64_t allowed;

	if (c->slow_since == 0)
		c->slow_since = now;
	if (now - c->slow_since >= m->slow_ms) {
		if (m->rcvbuf > 0)
			set_rcvbuf(c->fd[WIRE_SERVER], 1 << 20);
		c->slow_since = NEVER;
		return BUFFER;
	}
	allowed = m->slow * (uint64_t)(now - c->slow_since) / 1000;
	return allowed > c->slow_taken ? allowed - c->slow_taken : 0;
}

/* The bytes that may be read from the server now; 0: not yet. */
static size_t server_budget(struct connection *c, const struct manners *m, int64_t now)
{
	uint64_t seen = c->wire.dir[WIRE_SERVER].bytes, budget = BUFFER;

	if (m->reset_after > 0)
		budget = min64(budget, m->reset_after - seen);
	if (m->stop_after > seen) {
		budget = min64(budget, m->stop_after - seen);
	} else if (m->stop_after > 0) {
		if (c->stop_since == 0)
			c->stop_since = now;
		if (m->resume_ms == NEVER || now - c->stop_since < m->resume_ms)
			return 0;
	}
	if (m->slow > 0 && seen < m->slow_after)
		budget = min64(budget, m->slow_after - seen);
	else if (m->slow > 0 && c->slow_since != NEVER)
		budget = min64(budget, slow_budget(c, m, now));
	return (size_t)budget;
}

static void server_read(struct connection *c, const struct manners *m, int64_t now)
{
	uint64_t before = c->wire.dir[WIRE_SERVER].bytes;
	size_t budget = server_budget(c, m, now);

	if (budget == 0)
		return;
	flow_read(c, &c->flow[WIRE_SERVER], budget);
	if (c->slow_since > 0 && c->slow_since != NEVER)
		c->slow_taken += c->wire.dir[WIRE_SERVER].bytes - before;
	if (m->reset_after > 0 && c->wire.dir[WIRE_SERVER].bytes >= m->reset_after)
		reset_connection(c);
}

/* ---- The loop ---------------------------------------------------------- */

static void connection_polls(struct tap *tap, struct connection *c, struct pollfd *p, int64_t now,
			     int *timeout)
{
	for (int side = 0; side < 2; side++) {
		struct flow *in = &c->flow[side], *out = &c->flow[other((enum wire_side)side)];
		bool reads = !in->ended && in->len == 0;

		if (reads && side == WIRE_SERVER && server_budget(c, &tap->manners, now) == 0) {
			reads = false;
			*timeout = 20;
		}
		p[side].events = (short)((reads ? POLLIN : 0) | (out->len > 0 ? POLLOUT : 0));
		p[side].revents = 0;
		/* poll reports an error whether asked for or not: look away meanwhile */
		p[side].fd = p[side].events ? c->fd[side] : -1;
	}
}

static void connection_serve(struct tap *tap, struct connection *c, const struct pollfd *p)
{
	const short readable = POLLIN | POLLHUP | POLLERR, writable = POLLOUT | POLLHUP | POLLERR;

	for (int side = 0; side < 2; side++) {
		struct flow *out = &c->flow[other((enum wire_side)side)];

		if (out->len > 0 && (p[side].revents & writable))
			flow_write(c, out);
	}
	if ((p[WIRE_CLIENT].events & POLLIN) && (p[WIRE_CLIENT].revents & readable))
		flow_read(c, &c->flow[WIRE_CLIENT], BUFFER);
	if ((p[WIRE_SERVER].events & POLLIN) && (p[WIRE_SERVER].revents & readable))
		server_read(c, &tap->manners, now_ms());
}

static bool connection_is_over(const struct connection *c)
{
	return c->flow[0].ended && c->flow[1].ended && c->flow[0].len == 0 && c->flow[1].len == 0;
}

static void sweep(struct tap *tap, bool all)
{
	for (unsigned i = 0; i < tap->open;) {
		struct connection *c = tap->at[i];

		if (!all && !connection_is_over(c)) {
			i++;
			continue;
		}
		print_connection(c);
		tap->violations += c->wire.dir[0].violations + c->wire.dir[1].violations;
		tap->ended++;
		connection_free(c);
		tap->at[i] = tap->at[--tap->open];
	}
}

/* False: told to stop. The other signal asks for good manners from now on. */
static bool take_signal(struct tap *tap)
{
	struct signalfd_siginfo info;

	if (read(tap->signals, &info, sizeof(info)) != sizeof(info))
		die("signalfd");
	if (info.ssi_signo != SIGUSR1)
		return false;
	tap->manners.slow_ms = 0;
	tap->manners.resume_ms = 0;
	return true;
}

/* False: told to stop. */
static bool turn(struct tap *tap)
{
	struct pollfd *p = tap->polls;
	unsigned polled = tap->open;
	int timeout = -1;
	int64_t now = now_ms();

	p[0] = (struct pollfd){ .fd = tap->signals, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = polled < CONNECTIONS_MAX ? tap->listener : -1,
				.events = POLLIN };
	for (unsigned i = 0; i < polled; i++)
		connection_polls(tap, tap->at[i], &p[2 + 2 * i], now, &timeout);
	if (poll(p, 2 + 2 * polled, timeout) < 0 && errno != EINTR)
		die("poll");
	if (p[0].revents && !take_signal(tap))
		return false;
	for (unsigned i = 0; i < polled; i++)
		connection_serve(tap, tap->at[i], &p[2 + 2 * i]);
	if (p[1].revents)
		take_connection(tap);
	sweep(tap, false);
	return tap->wanted == 0 || tap->ended < tap->wanted;
}

/* ---- Options ----------------------------------------------------------- */

static void usage(void)
{
	fprintf(stderr,
		"usage: tap --connect ADDRESS:PORT [OPTION]...\n"
		"  --listen ADDRESS        127.0.0.1 unless given; [::1]:443 is an ADDRESS:PORT\n"
		"  --port PORT             0 (the default) picks one\n"
		"  --marker TEXT           must never be seen; may be repeated\n"
		"  --connections N         end after that many\n"
		"towards the server:\n"
		"  --rcvbuf BYTES          SO_RCVBUF\n"
		"  --slow BYTES            read so much a second ...\n"
		"  --slow-after BYTES      ... from this byte on ...\n"
		"  --slow-for MS           ... and that long, then at full speed\n"
		"  --reset-after BYTES     then reset both connections\n"
		"  --stop-reading-after BYTES [--resume-after MS]\n");
	exit(2);
}

static void resolve(const char *host, const char *port, struct sockaddr_storage *ret_address,
		    socklen_t *ret_len)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				  .ai_socktype = SOCK_STREAM };
	struct addrinfo *list;
	int error = getaddrinfo(host, port, &hints, &list);

	if (error) {
		fprintf(stderr, "tap: %s port %s: %s\n", host, port, gai_strerror(error));
		exit(2);
	}
	memcpy(ret_address, list->ai_addr, list->ai_addrlen);
	*ret_len = list->ai_addrlen;
	freeaddrinfo(list);
}

/* ADDRESS:PORT or [ADDRESS]:PORT; changes text. */
static void resolve_pair(char *text, struct sockaddr_storage *ret_address, socklen_t *ret_len)
{
	char *colon = strrchr(text, ':');

	if (!colon || colon == text)
		usage();
	*colon = '\0';
	if (*text == '[' && colon[-1] == ']') {
		colon[-1] = '\0';
		text++;
	}
	resolve(text, colon + 1, ret_address, ret_len);
}

static void start_listening(struct tap *tap, const char *host, const char *port)
{
	struct sockaddr_storage address;
	socklen_t len;
	char text[8];
	int one = 1;

	resolve(host, port, &address, &len);
	tap->listener = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (tap->listener < 0)
		die("socket");
	setsockopt(tap->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(tap->listener, (struct sockaddr *)&address, len) < 0 ||
	    listen(tap->listener, 128) < 0)
		die("listen");
	len = sizeof(address);
	getsockname(tap->listener, (struct sockaddr *)&address, &len);
	getnameinfo((struct sockaddr *)&address, len, NULL, 0, text, sizeof(text), NI_NUMERICSERV);
	printf("{\"event\":\"listening\",\"port\":%s}\n", text);
	fflush(stdout);
}

enum option_id {
	LISTEN,
	PORT,
	CONNECT,
	MARKER,
	CONNECTIONS,
	RCVBUF,
	SLOW,
	SLOW_AFTER,
	SLOW_FOR,
	RESET_AFTER,
	STOP_AFTER,
	RESUME_AFTER
};

static const struct option options[] = {
	{ "listen", 1, NULL, LISTEN },
	{ "port", 1, NULL, PORT },
	{ "connect", 1, NULL, CONNECT },
	{ "marker", 1, NULL, MARKER },
	{ "connections", 1, NULL, CONNECTIONS },
	{ "rcvbuf", 1, NULL, RCVBUF },
	{ "slow", 1, NULL, SLOW },
	{ "slow-after", 1, NULL, SLOW_AFTER },
	{ "slow-for", 1, NULL, SLOW_FOR },
	{ "reset-after", 1, NULL, RESET_AFTER },
	{ "stop-reading-after", 1, NULL, STOP_AFTER },
	{ "resume-after", 1, NULL, RESUME_AFTER },
	{ NULL, 0, NULL, 0 },
};

static void read_options(struct tap *tap, int argc, char **argv)
{
	const char *host = "127.0.0.1", *port = "0";
	struct manners *m = &tap->manners;
	uint64_t values[RESUME_AFTER + 1] = { [SLOW_FOR] = NEVER, [RESUME_AFTER] = NEVER };
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == LISTEN)
			host = optarg;
		else if (o == PORT)
			port = optarg;
		else if (o == CONNECT)
			resolve_pair(optarg, &tap->upstream, &tap->upstream_len);
		else if (o == MARKER && wire_add_marker(&tap->markers, optarg))
			continue;
		else if (o >= CONNECTIONS && o <= RESUME_AFTER)
			values[o] = say_number(optarg, usage);
		else
			usage();
	}
	if (optind < argc || tap->upstream_len == 0)
		usage();
	tap->wanted = (unsigned)values[CONNECTIONS];
	m->rcvbuf = (int)values[RCVBUF];
	m->slow = values[SLOW];
	m->slow_after = values[SLOW_AFTER];
	m->slow_ms = (int64_t)values[SLOW_FOR];
	m->reset_after = values[RESET_AFTER];
	m->stop_after = values[STOP_AFTER];
	m->resume_ms = (int64_t)values[RESUME_AFTER];
	start_listening(tap, host, port);
}

int main(int argc, char **argv)
{
	struct tap *tap = calloc(1, sizeof(*tap));
	sigset_t signals;
	unsigned open;
	int status;

	if (!tap)
		die("calloc");
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	tap->signals = signalfd(-1, &signals, SFD_CLOEXEC);
	if (tap->signals < 0)
		die("signalfd");
	read_options(tap, argc, argv);
	while (turn(tap))
		;
	open = tap->open;
	sweep(tap, true);
	printf("{\"event\":\"end\",\"connections\":%u,\"open\":%u,\"violations\":%" PRIu64 "}\n",
	       tap->ended, open, tap->violations);
	status = tap->violations > 0;
	free(tap);
	return status;
}
