/*
 * bench.h - what the parts of ringtls-bench share: a table of methods, a table of
 * cases, and what is measured of each pair.
 *
 * A method opened for a case is a side. All sides of a case are open at the same
 * time, and take turns, so that what the machine does meanwhile meets all of them.
 */
#ifndef RINGTLS_BENCH_H
#define RINGTLS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <openssl/ssl.h>
#include <ringtls/ringtls.h>

#define BENCH_PAGE     4096
#define BENCH_RECORD   16384
#define BENCH_OVERHEAD 22 /* of a record in TLS 1.3: header, type, tag */
#define BENCH_COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct bench_counts;

struct bench_options {
	const char *cases, *methods; /* patterns, divided by commas; NULL: all */
	const char *json;	     /* NULL: none */
	const char *folder;	     /* where files are made */
	const char *cipher;
	int tls;
	unsigned rounds;
	unsigned turns; /* that the rounds are divided among */
	size_t bytes; /* of a sample, about */
	unsigned ms;  /* of a latency sample */
	int sndbuf;   /* 0: the system's own */
	bool aligned; /* the source stays where a page begins */
	bool pinned;
	bool nagle; /* TCP_NODELAY is not set */
	bool alone; /* sender and receiver share a processor */
	bool list;
};

/* ---- Cases ------------------------------------------------------------------ */

enum bench_kind {
	BENCH_WRITES = 1,  /* memory to socket, as fast as it goes */
	BENCH_FILES = 2,   /* file to socket, as fast as it goes */
	BENCH_LATENCY = 4, /* writes that are due at times fixed before */
};

struct bench_case {
	const char *name, *text;
	enum bench_kind kind;
	unsigned conns;
	size_t size; /* of a write, or of the file */
	bool cold;   /* the file is not in memory */
	/* BENCH_LATENCY: writes of this size are due rate times a second, over all of
	 * the first rated connections; the others send as fast as it goes. */
	unsigned rate, rated;
	size_t bulk; /* size of the others' writes; cold: of their file */
};

extern const struct bench_case bench_cases[];
extern const size_t bench_case_count;

/* Whether a name fits one of the patterns, divided by commas; NULL fits all. */
bool bench_matches(const char *patterns, const char *name);

/* ---- Methods ---------------------------------------------------------------- */

/* What is to be sent: bytes, or where they are NULL, those of a file. */
struct bench_unit {
	const uint8_t *bytes;
	int file;
	size_t len;
};

struct bench_conn {
	struct bench_side *side;
	int fd;
	SSL *ssl;
	struct ringtls_conn *rt;
	bool busy;	/* send answered "wait", and nothing has happened since */
	size_t at;	/* sent of the unit, where the method goes in steps */
	bool begun;	/* a unit is under way */
	uint64_t units; /* left of the sample; where writes are due: sent */

	/* Of methods that read a file, or seal, before they send. */
	uint8_t *in, *out;
	size_t in_start, in_end, out_len;
	bool in_flight;
};

struct bench_side {
	const struct bench_method *method;
	const struct bench_case *what;
	const struct bench_options *options;
	SSL_CTX *ctx;
	struct bench_conn *conns;
	unsigned count;
	int epoll;
	struct ringtls_engine *engine;
	struct bench_own *own; /* the method's */
	pid_t receiver;
	char why[160]; /* why it can't be measured here; "" where it can */

	struct bench_sample *samples;
	unsigned taken;
};

struct bench_method {
	const char *name, *text;
	unsigned kinds;
	bool tls, ktls;	 /* the sockets speak TLS; by OpenSSL's kernel TLS */
	bool no_network; /* nothing is sent */
	bool holds_file; /* pages that it sent stay in memory until TCP is done with them */
	uint32_t lane, backend;

	/* Before and after the connections are made; NULL: nothing to do. False: why. */
	bool (*open)(struct bench_side *side);
	void (*close)(struct bench_side *side);
	/* What takes the place of SSL_set_fd, and what comes behind the handshake. */
	bool (*attach)(struct bench_conn *conn);
	bool (*ready)(struct bench_conn *conn);
	void (*detach)(struct bench_conn *conn);

	/* 1: the whole unit is sent; 0: wait, then call again; -1: failed. */
	int (*send)(struct bench_conn *conn, const struct bench_unit *unit);
	/* Until something happened, or the time is over (-1: never): what may go on is
	 * not busy any more. False: failed. */
	bool (*wait)(struct bench_side *side, int timeout_ms);
	/* System calls and operations that bench_count.c can't see; NULL: none. */
	void (*count)(struct bench_side *side, struct bench_counts *counts);
};

extern const struct bench_method *const bench_methods[];
extern const size_t bench_method_count;

extern const struct bench_method bench_aead, bench_tcp_send, bench_tcp_ring,
	bench_tcp_sealed, bench_tcp_sendfile, bench_ktls, bench_ssl_write, bench_ssl_ktls,
	bench_ssl_sendfile, bench_membio_ring, bench_auto, bench_kernel_uring,
	bench_kernel_queued, bench_kernel_syscalls, bench_user_uring, bench_user_queued,
	bench_user_syscalls, bench_openssl_uring, bench_openssl_queued, bench_openssl_syscalls;

/* Sets side->why; false, to be returned. */
bool bench_cannot(struct bench_side *side, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* epoll, edge-triggered, for methods that send on non-blocking sockets. */
bool bench_epoll_open(struct bench_side *side);
void bench_epoll_close(struct bench_side *side);
bool bench_epoll_add(struct bench_conn *conn);
bool bench_epoll_wait(struct bench_side *side, int timeout_ms);
#define BENCH_ON_EPOLL                                                                             \
	.open = bench_epoll_open, .close = bench_epoll_close, .wait = bench_epoll_wait

/* ---- Sides ------------------------------------------------------------------ */

/* False: side->why says why; it is closed all the same. */
bool bench_side_open(struct bench_side *side);
void bench_side_close(struct bench_side *side);
/* Until TCP has the acknowledgement of every byte. */
void bench_side_drain(const struct bench_side *side);

SSL_CTX *bench_server_ctx(const struct bench_options *options);
SSL_CTX *bench_client_ctx(const struct bench_options *options);
/* Binds this process to the nth of the processors that it had at its start. */
void bench_pin(const struct bench_options *options, unsigned nth);
bool bench_is_alone(void); /* there is only one */

/* The other end, in a process of its own: see bench_receiver.c. */
pid_t bench_receiver_start(const struct bench_side *side, uint16_t port);
bool bench_receiver_end(pid_t receiver);

/* ---- Measuring -------------------------------------------------------------- */

struct bench_counts {
	uint64_t calls;	      /* system calls that send, wait or read a file */
	uint64_t transmits;   /* those that send */
	uint64_t ops;	      /* entries of a ring, and of a ringtls engine all operations */
	uint64_t shorts;      /* sends that moved less than they were given */
	uint64_t allocations; /* calls to malloc and its family */
};

/* Since the start of the process: of whatever library. */
extern struct bench_counts bench_counted;
/* False where the sanitizers own malloc. */
extern const bool bench_counts_allocations;

struct bench_sample {
	double wall_ns, cpu_ns;
	uint64_t bytes, units;
	struct bench_counts counts;
	double p50_us, p99_us, p999_us; /* BENCH_LATENCY */
};

struct bench_source {
	uint8_t *memory; /* room for a unit behind any place in the first page */
	int file;
	size_t size;
	pid_t cooler; /* takes the file out of memory all the time; or -1 */
};

bool bench_source_open(struct bench_source *source, const struct bench_case *what,
		       const struct bench_options *options, char *ret_why);
void bench_source_close(struct bench_source *source);
bool bench_source_cool(const struct bench_source *source);

/* One sample of one side. False: it failed, and side->why says how. */
bool bench_take(struct bench_side *side, const struct bench_source *source, unsigned round);
bool bench_take_latency(struct bench_side *side, const struct bench_source *source, unsigned round);

/* For both. */
struct bench_unit bench_unit_of(const struct bench_side *side, const struct bench_source *source,
				size_t len, unsigned round);
struct bench_clock {
	uint64_t wall, cpu;
	struct bench_counts counts;
};
void bench_clock_start(struct bench_side *side, struct bench_clock *clock);
void bench_clock_stop(struct bench_side *side, const struct bench_clock *clock,
		      struct bench_sample *sample);
uint64_t bench_now(void);

/* ---- Reporting -------------------------------------------------------------- */

struct bench_figure {
	double median, q1, q3; /* and the quartiles */
};

struct bench_figure bench_figure_of(double *values, unsigned n); /* sorts them */

struct bench_report;
struct bench_report *bench_report_new(const struct bench_options *options);
void bench_report_case(struct bench_report *report, const struct bench_case *what,
		       const struct bench_side *sides, size_t n);
bool bench_report_end(struct bench_report *report, const struct bench_options *options);

/* Everything that was asked for. */
bool bench_run(const struct bench_options *options);

#endif
