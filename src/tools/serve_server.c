/* serve_server.c - see serve_server.h. */
#include "config.h"
#include "serve_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve_cert.h"
#include "serve_file.h"
#include "serve_log.h"
#include "serve_loop.h"

#define CONNECTIONS_MAX	 16384
#define DESCRIPTORS_REST 64 /* that are not for connections */

struct threads {
	struct serve_loop *loops;
	unsigned count; /* that have a socket and an eventfd */
	unsigned running;
	int done, signals;
	sem_t started;
};

/* ---- Listening ---------------------------------------------------------------------- */

static socklen_t parse_address(const char *text, uint16_t port, union serve_address *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &ret->in.sin_addr) == 1) {
		ret->in.sin_family = AF_INET;
		ret->in.sin_port = htons(port);
		return sizeof(ret->in);
	}
	if (inet_pton(AF_INET6, text, &ret->in6.sin6_addr) == 1) {
		ret->in6.sin6_family = AF_INET6;
		ret->in6.sin6_port = htons(port);
		return sizeof(ret->in6);
	}
	return 0;
}

static bool set_option(int fd, int level, int option)
{
	int on = 1;

	return setsockopt(fd, level, option, &on, sizeof(on)) == 0;
}

/*
 * Each thread has a socket on the same port. The first one is bound without
 * SO_REUSEPORT, so a port that another server uses is refused instead of shared.
 */
static int listen_on(union serve_address *address, socklen_t len, bool first)
{
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	/* Accepted sockets inherit TCP_NODELAY. */
	if (!set_option(fd, SOL_SOCKET, SO_REUSEADDR) ||
	    (!first && !set_option(fd, SOL_SOCKET, SO_REUSEPORT)) ||
	    !set_option(fd, IPPROTO_TCP, TCP_NODELAY) || bind(fd, &address->any, len) < 0 ||
	    (first && !set_option(fd, SOL_SOCKET, SO_REUSEPORT)) || listen(fd, SOMAXCONN) < 0 ||
	    getsockname(fd, &address->any, &len) < 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

static uint16_t port_of(const union serve_address *address)
{
	return ntohs(address->any.sa_family == AF_INET ? address->in.sin_port
						       : address->in6.sin6_port);
}

static void announce(const union serve_address *address)
{
	char text[SERVE_ADDRESS_SIZE];
	bool v6 = address->any.sa_family == AF_INET6;

	serve_address_format(address, text);
	printf("listening on https://%s%s%s:%u\n", v6 ? "[" : "", text, v6 ? "]" : "",
	       port_of(address));
	fflush(stdout);
}

/* ---- Threads --------------------------------------------------------------------------- */

static int loop_init(struct serve_loop *loop, struct serve_server *server,
		     union serve_address *address, socklen_t len)
{
	loop->server = server;
	loop->epoll = -1;
	loop->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->stop < 0)
		return -errno;
	loop->listener = listen_on(address, len, loop->index == 0);
	if (loop->listener < 0) {
		close(loop->stop);
		return loop->listener;
	}
	return 0;
}

static bool make_loops(struct threads *threads, struct serve_server *server,
		       union serve_address *address, socklen_t len)
{
	const struct serve_options *options = server->options;

	for (; threads->count < options->threads; threads->count++) {
		struct serve_loop *loop = &threads->loops[threads->count];
		int ret;

		loop->index = threads->count;
		loop->done = threads->done;
		loop->started = &threads->started;
		ret = loop_init(loop, server, address, len);
		if (ret < 0) {
			serve_log("can't listen on %s port %u: %s", options->address,
				  port_of(address), ringtls_strerror(ret));
			return false;
		}
	}
	return true;
}

static void close_loops(struct threads *threads)
{
	for (unsigned i = 0; i < threads->count; i++) {
		if (threads->loops[i].listener >= 0)
			close(threads->loops[i].listener);
		close(threads->loops[i].stop);
	}
}

/* What the errno of a ring that was named means; the rest speaks for itself. */
static void say_refused(const struct serve_options *options, int error)
{
	const char *cause = "";

	if (options->backend == RINGTLS_BACKEND_URING && (error == -EPERM || error == -EACCES))
		cause = ringtls_reason_text(RINGTLS_REASON_URING_DENIED);
	else if (options->backend == RINGTLS_BACKEND_URING && error == -ENOSYS)
		cause = ringtls_reason_text(RINGTLS_REASON_URING_ABSENT);
	serve_log("can't start engine %s, lane %s: %s%s%s (ringtls-probe says more)",
		  ringtls_backend_name(options->backend), ringtls_lane_name(options->lane), cause,
		  *cause ? ": " : "", ringtls_strerror(error));
}

static bool start_threads(struct threads *threads)
{
	for (; threads->running < threads->count; threads->running++) {
		struct serve_loop *loop = &threads->loops[threads->running];
		int error = pthread_create(&loop->thread, NULL, serve_loop_main, loop);

		if (error) {
			serve_log("can't start a thread: %s", ringtls_strerror(-error));
			return false;
		}
		while (sem_wait(&threads->started) < 0)
			;
		if (loop->refused) {
			threads->running++;
			say_refused(loop->server->options, loop->refused);
			return false;
		}
	}
	return true;
}

static void tell_to_stop(struct threads *threads)
{
	uint64_t one = 1;

	for (unsigned i = 0; i < threads->running; i++) {
		ssize_t n = write(threads->loops[i].stop, &one, sizeof(one));

		(void)n; /* an eventfd takes it */
	}
}

/* SIGHUP renews the certificate; any other signal stops the threads, and the second
 * one does not wait for them. */
static void take_signals(struct threads *threads, struct serve_server *server, bool *stopping)
{
	struct signalfd_siginfo info;

	while (read(threads->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGHUP) {
			if (!*stopping)
				serve_ctx_renew(server);
			continue;
		}
		if (*stopping)
			_exit(EXIT_FAILURE);
		*stopping = true;
		tell_to_stop(threads);
	}
}

/* Waits for the threads. A signal, or one that broke off, stops them all. */
static void supervise(struct threads *threads, struct serve_server *server, bool stopping)
{
	struct pollfd fds[] = {
		{ .fd = threads->signals, .events = POLLIN },
		{ .fd = threads->done, .events = POLLIN },
	};
	uint64_t ended, left = threads->running;

	if (stopping)
		tell_to_stop(threads);
	while (left) {
		if (poll(fds, 2, -1) < 0)
			continue;
		take_signals(threads, server, &stopping);
		if (read(threads->done, &ended, sizeof(ended)) == sizeof(ended)) {
			left -= ended;
			if (!stopping)
				tell_to_stop(threads);
			stopping = true;
		}
	}
}

/* Returns the exit status. */
static int join_threads(struct threads *threads)
{
	int status = EXIT_SUCCESS;

	for (unsigned i = 0; i < threads->running; i++) {
		struct serve_loop *loop = &threads->loops[i];

		pthread_join(loop->thread, NULL);
		if (!loop->broken)
			continue;
		serve_log("thread %u broke off: %s", i, ringtls_strerror(loop->broken));
		status = EXIT_FAILURE;
	}
	return status;
}

/* ---- Less and less is allowed ----------------------------------------------------------- */

/* False: it was demanded, and can't be had. */
static bool say_jailed(const struct serve_options *options, const char *what, int error)
{
	if (!error)
		return true;
	serve_log("no sandbox by %s: %s", what, ringtls_strerror(error));
	return options->sandbox != SERVE_SANDBOX_REQUIRE;
}

/* While there is one thread. */
static bool give_up_privileges(struct serve_server *server)
{
	const struct serve_options *options = server->options;

	int ret;

	serve_loop_warm_up(server);
	ret = options->change_user ? serve_user_become(options->uid, options->gid) : 0;
	if (ret < 0) {
		serve_log("can't give up the privileges of root: %s", ringtls_strerror(ret));
		return false;
	}
	return options->sandbox == SERVE_SANDBOX_OFF ||
	       say_jailed(options, "Landlock", serve_jail_files());
}

/* When all threads are there. */
static bool give_up_calls(const struct serve_options *options)
{
	return options->sandbox == SERVE_SANDBOX_OFF ||
	       say_jailed(options, "seccomp", serve_jail_calls());
}

static int run_threads(struct threads *threads, struct serve_server *server,
		       const union serve_address *address)
{
	bool ok = start_threads(threads) && give_up_calls(server->options);
	int status;

	if (ok)
		announce(address);
	supervise(threads, server, !ok);
	status = join_threads(threads);
	return ok ? status : EXIT_FAILURE;
}

static int run_loops(struct threads *threads, struct serve_server *server,
		     union serve_address *address, socklen_t len)
{
	int status = EXIT_FAILURE;

	if (make_loops(threads, server, address, len) && give_up_privileges(server))
		status = run_threads(threads, server, address);
	close_loops(threads);
	return status;
}

/* ---- The process ---------------------------------------------------------------------------- */

/* Signals become readable, in this thread only; nothing else ends a wait. */
static int catch_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* As many descriptors as the hard limit allows, less those that are not for connections. */
static rlim_t raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 256;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur < DESCRIPTORS_REST + 32 ? 32 : limit.rlim_cur - DESCRIPTORS_REST;
}

/* Each connection has a socket and perhaps a file, unless somebody knows better. */
static unsigned count_connections(const struct serve_options *options)
{
	rlim_t descriptors = raise_descriptors();
	unsigned wanted = options->bounds.connections;

	if (!wanted)
		return descriptors / 2 < CONNECTIONS_MAX ? (unsigned)(descriptors / 2)
							 : CONNECTIONS_MAX;
	if (wanted <= descriptors)
		return wanted;
	serve_log("the limit on descriptors allows %u connections only", (unsigned)descriptors);
	return (unsigned)descriptors;
}

static int serve_site(struct serve_server *server)
{
	const struct serve_options *options = server->options;
	struct threads threads = {
		.loops = calloc(options->threads, sizeof(*threads.loops)),
		.done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.signals = catch_signals(),
	};
	union serve_address address;
	socklen_t len = parse_address(options->address, options->port, &address);
	int status = EXIT_FAILURE;

	sem_init(&threads.started, 0, 0);
	if (!threads.loops || threads.done < 0 || threads.signals < 0)
		serve_log("can't start: %s", ringtls_strerror(-errno));
	else
		status = run_loops(&threads, server, &address, len);
	close(threads.done);
	close(threads.signals);
	sem_destroy(&threads.started);
	free(threads.loops);
	return status;
}

/* A core file, or another process of the same user, would have the private key and those of
 * all connections. OpenSSL keeps them where it likes, so it must be all of the memory. */
static void keep_memory_to_ourselves(void)
{
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		serve_log("core files would hold keys: %s", ringtls_strerror(-errno));
}

int serve_run(const struct serve_options *options)
{
	struct serve_server server = {
		.options = options,
		.site.root = serve_root_open(options->root),
		.ctx_lock = PTHREAD_MUTEX_INITIALIZER,
		.connections_max = count_connections(options),
	};
	int status = EXIT_FAILURE;

	keep_memory_to_ourselves();
	if (server.site.root < 0) {
		serve_log("can't serve %s: %s", options->root, ringtls_strerror(server.site.root));
		return EXIT_FAILURE;
	}
	server.site.types = serve_types_new("/etc/mime.types");
	if (!server.site.types)
		serve_log("no memory");
	else if ((server.ctx = serve_ctx_new(options)))
		status = serve_site(&server);
	SSL_CTX_free(server.ctx);
	serve_types_free(server.site.types);
	close(server.site.root);
	return status;
}
