/*
 * ringtls.h - the TLS write path of an OpenSSL 3 connection. See ringtls(7).
 *
 * Limits first:
 *   - Linux, OpenSSL 3.0 or later, a connected TCP socket, TLS 1.2 or 1.3.
 *   - Reading stays in OpenSSL: only the transmit side is handed to the kernel by ringtls.
 *   - While a connection is attached, read and write through ringtls only.
 *
 * Rules of use, for every call below:
 *   - An engine, its connections and their SSLs belong to the thread that made
 *     the engine. Two engines share no state.
 *   - The caller owns the SSL and the socket, and frees both after the
 *     connection. ringtls owns the two BIOs that it sets, and takes them out.
 *   - Nothing calls back into the caller from inside a call, except OpenSSL's
 *     own callbacks; those must not call ringtls.
 *   - No call raises SIGPIPE.
 *   - After fork() the child may only free.
 *
 * Errors: the SSL_write family (ringtls_write and those documented with it)
 * answers as its OpenSSL namesake does; ringtls_get_error() has the code.
 * Everything else returns 0 or more, a negated errno (-1 to -4095), or one of
 * RINGTLS_E_*. What is named ret_* changes on success only.
 */
#ifndef RINGTLS_RINGTLS_H
#define RINGTLS_RINGTLS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <ringtls/version.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ssl_st;     /* OpenSSL's SSL */
struct ssl_ctx_st; /* OpenSSL's SSL_CTX */
struct io_uring;     /* liburing's */
struct io_uring_cqe;

struct ringtls_engine; /* submits operations and collects results; one per thread */
struct ringtls_conn;   /* one SSL and its socket, bound to one engine */

/* ---- Errors ------------------------------------------------------------ */

#define RINGTLS_E_STATE  (-10001) /* not allowed in the present state */
#define RINGTLS_E_TLS    (-10002) /* OpenSSL failed: see its error queue */
#define RINGTLS_E_LANE   (-10003) /* the lane that was named can't be had: see the reason */
#define RINGTLS_E_REKEY  (-10004) /* a key update was due where the kernel can't rekey */
#define RINGTLS_E_KERNEL (-10005) /* the kernel's TLS broke a promise, such as the order of records */
#define RINGTLS_E_DETACH (-10006) /* the connection's lane does not let it be given back */

/* A sentence for a negated errno or a RINGTLS_E_*. Never NULL; static storage. */
RINGTLS_API const char *ringtls_strerror(int error);

/* The version of the library that runs, such as "0.1.0". */
RINGTLS_API const char *ringtls_version(void);

/* ---- Lanes, engines and reasons ---------------------------------------- */

/* Who protects the records. A lane that was named never becomes another. */
enum ringtls_lane {
	RINGTLS_LANE_AUTO,    /* the one that costs least, of those that can be had: the user
			       * lane, else openssl; see RINGTLS_ENGINE_PREFER_KERNEL, and
			       * promote_after */
	RINGTLS_LANE_KERNEL,  /* the kernel's TLS */
	RINGTLS_LANE_USER,    /* ringtls, with libcrypto's AEAD */
	RINGTLS_LANE_OPENSSL, /* SSL_write; ringtls gathers its records */
};

/* How operations reach the kernel. */
enum ringtls_backend {
	RINGTLS_BACKEND_AUTO,     /* uring where it may be used */
	RINGTLS_BACKEND_URING,    /* a ring of ringtls' own */
	RINGTLS_BACKEND_SYSCALLS, /* plain system calls and epoll */
	RINGTLS_BACKEND_CALLER,   /* a ring that the caller owns: see ringtls_engine_feed */
};

/* What becomes of a renegotiation (TLS 1.2) that the peer asks for. */
enum ringtls_reneg {
	RINGTLS_RENEG_DEFAULT, /* the engine's policy; for an engine: refuse */
	RINGTLS_RENEG_REFUSE,  /* the peer gets no_renegotiation; the connection goes on */
	RINGTLS_RENEG_SERVE,   /* OpenSSL serves it, in the openssl lane; also needs
				* SSL_OP_ALLOW_CLIENT_RENEGOTIATION, as with OpenSSL alone */
};

/*
 * Why a connection is not in the kernel lane, or an engine not on a ring.
 * Columns: name, code in logs and JSON, sentence. New ones are only appended.
 */
#define RINGTLS_REASON_MAP(X)                                                                     \
	X(NONE, "none", "nothing stands in the way")                                              \
	X(HANDSHAKE, "handshake", "the handshake is not done yet")                                \
	X(ASKED, "asked", "the caller named another lane or engine")                              \
	X(NO_ULP, "no-tls-module",                                                                \
	  "the kernel has no TLS, or its module \"tls\" is not loaded (modprobe tls)")            \
	X(NO_CIPHER, "no-kernel-cipher",                                                          \
	  "the kernel's TLS has no such cipher, or its module is not loaded")                     \
	X(PROBE, "probe-failed", "the probe of the kernel's TLS on a loopback pair failed")       \
	X(BUILD, "openssl-without-ktls", "this OpenSSL was built without kernel TLS")             \
	X(SELFTEST, "selftest-failed",                                                            \
	  "the start-up check of how OpenSSL hands over its keys failed")                         \
	X(CIPHER, "cipher", "OpenSSL does not offer the keys of this cipher")                     \
	X(VERSION, "version", "the protocol version is neither TLS 1.2 nor TLS 1.3")              \
	X(RECORDS, "record-options",                                                              \
	  "a record size limit, record padding or compression keeps the keys in OpenSSL")         \
	X(RENEGOTIATION, "renegotiation", "the policy is to serve renegotiations")                \
	X(FIPS, "fips", "the kernel's ciphers are outside OpenSSL's FIPS provider")               \
	X(INSTALL, "install-failed", "the kernel refused the key when it was installed")          \
	X(NOT_A_SOCKET, "not-a-socket", "the connection's BIO is not a TCP socket")               \
	X(ATTACHED_LATE, "attached-late", "the connection was attached after its handshake")      \
	X(URING_DENIED, "io_uring-denied",                                                        \
	  "io_uring is forbidden here (seccomp, or the sysctl kernel.io_uring_disabled)")         \
	X(URING_ABSENT, "io_uring-absent", "the kernel has no io_uring")                          \
	X(URING_LIMIT, "io_uring-limit", "io_uring met a limit on memory or descriptors")         \
	X(URING_OLD, "io_uring-old", "the kernel's io_uring lacks an operation ringtls needs")    \
	X(CHEAPER, "user-lane-cheaper",                                                           \
	  "the kernel lane can be had, and costs more; name it, or prefer it, to have it")         \
	X(PROMOTION, "promotion",                                                                 \
	  "the connection has not sent the bytes yet after which it goes into the kernel")        \
	X(NO_REKEY, "no-kernel-rekey",                                                            \
	  "the kernel can't renew keys, and this connection has renewed one")

enum ringtls_reason {
#define RINGTLS_REASON_ENUM(name, code, text) RINGTLS_REASON_##name,
	RINGTLS_REASON_MAP(RINGTLS_REASON_ENUM)
#undef RINGTLS_REASON_ENUM
};

/* Names for logs: "kernel", "uring", "no-tls-module", and a reason's sentence.
 * A value out of range gives "unknown". Static storage. */
RINGTLS_API const char *ringtls_lane_name(uint32_t lane);
RINGTLS_API const char *ringtls_backend_name(uint32_t backend);
RINGTLS_API const char *ringtls_reason_name(uint32_t reason);
RINGTLS_API const char *ringtls_reason_text(uint32_t reason);

/* ---- Engine ------------------------------------------------------------ */

#define RINGTLS_ENGINE_LAZY_WAITS    1u /* see ringtls_engine_wait */
#define RINGTLS_ENGINE_PREFER_KERNEL 2u /* AUTO takes the kernel lane where that can be had; a
					 * key that the kernel refuses goes on in the user lane */

struct ringtls_engine_opts {
	size_t   size;          /* sizeof(struct ringtls_engine_opts): fields get appended */
	uint32_t backend;       /* enum ringtls_backend; a named one fails rather than change */
	uint32_t lane;          /* enum ringtls_lane, for connections that say AUTO */
	uint32_t renegotiation; /* enum ringtls_reneg, for connections that say DEFAULT */
	uint32_t flags;         /* RINGTLS_ENGINE_* */
	uint32_t entries;       /* submission queue entries; 0 means 256 */
	uint32_t tag;           /* CALLER: the upper half of user_data of all our entries */
	struct io_uring *ring;  /* CALLER: the ring, borrowed until ringtls_engine_free */
	uint64_t promote_after; /* for connections that don't say: see ringtls_conn_opts */
};

struct ringtls_engine_info {
	size_t   size;           /* set by the caller to sizeof(struct ringtls_engine_info) */
	uint32_t backend;        /* URING or SYSCALLS */
	uint32_t reason;         /* why it is not URING; NONE where it is */
	int      reason_errno;   /* the errno behind the reason, or 0 */
	uint32_t connections;    /* attached now */
	uint64_t ops;            /* transmit operations started */
	uint64_t bytes;          /* bytes that those moved: plaintext in the kernel lane, records else */
	uint64_t short_sends;    /* operations that moved less than they were given */
	uint64_t transmit_calls; /* system calls made to transmit (io_uring_enter, sendmsg, sendfile) */
	uint64_t waits;          /* polls and timers left behind */
	uint64_t enters;         /* io_uring_enter, for whatever purpose */
};

/*
 * Makes an engine for the calling thread; opts may be NULL.
 * -EINVAL: opts; RINGTLS_E_LANE: the named lane can't be had here (ringtls-probe(1)
 * says why); another negated errno: no memory, no descriptors, or what forbids the
 * named backend, such as -EPERM or -ENOSYS for a ring.
 */
RINGTLS_API int ringtls_engine_new(struct ringtls_engine **ret_engine,
				   const struct ringtls_engine_opts *opts);

/* NULL is fine. -EBUSY while connections are attached: free those first; or, on a ring
 * of the caller's, while completions of cancellations, or of what wakes its loop, were not
 * fed yet: go round the loop, and call it again. */
RINGTLS_API int ringtls_engine_free(struct ringtls_engine *engine);

/*
 * One descriptor for the whole engine, readable (POLLIN) when a connection
 * whose last call answered WANT_READ or WANT_WRITE may go on (one that has no socket is
 * not reported), when ringtls_engine_submit or ringtls_engine_wait left work for the next
 * call, and while completions can be collected; of what is only queued it shows nothing. Only
 * poll it: reading from it, or closing it, is the engine's own. Who sleeps in ringtls_engine_wait
 * alone should not ask for it: it is kept up to date, by system calls, from then on.
 * -EINVAL on a ring of the caller's.
 */
RINGTLS_API int ringtls_engine_fd(const struct ringtls_engine *engine);

struct ringtls_event {
	struct ringtls_conn *conn; /* repeat the call that answered WANT_* */
	void *user;                /* the connection's, see ringtls_conn_opts */
};

/*
 * Collects the connections that may go on, each once, at most max of them, and lets
 * what was queued go on. timeout_ms: 0 returns at once, -1 waits until there is one.
 * Returns their number, 0 when the time is over, a signal came, or a request was
 * released or sent (ringtls_engine_completions), or a negated errno.
 * An event is a hint: the repeated call may answer WANT_* again.
 *
 * Waits are handed to the kernel when a call answers WANT_*, so a loop of any
 * shape may sleep on ringtls_engine_fd(). With RINGTLS_ENGINE_LAZY_WAITS they
 * are handed over together by this function: call it before every sleep.
 */
RINGTLS_API int ringtls_engine_wait(struct ringtls_engine *engine,
				    struct ringtls_event *ret_events, unsigned max,
				    int timeout_ms);

/*
 * On a ring of the caller's (RINGTLS_BACKEND_CALLER) ringtls fills entries, and the
 * caller submits them and waits: it never enters the ring, and never waits, whether
 * a socket blocks or not. Give it every completion, or at least those with the
 * tag in the upper half of user_data, before the completion is marked as seen. 1: it was
 * ours; 0: it is the caller's; -EINVAL: it has our tag, and is not known.
 * A turn of the loop: feed what has completed; ringtls_engine_wait with a timeout of 0, and
 * what it tells; ringtls_engine_submit; then submit and wait. When that answers -EBUSY
 * the submission queue was full: submit, and call it again. The ring's thread and flags
 * (SINGLE_ISSUER, DEFER_TASKRUN, SQPOLL) are the caller's; an overflown completion queue
 * loses nothing. What is not queued goes out by sendmsg(2), beside the ring.
 */
RINGTLS_API int ringtls_engine_feed(struct ringtls_engine *engine,
				    const struct io_uring_cqe *cqe);

/* Fills what fits into ret_info->size. -EINVAL: a size of 0. */
RINGTLS_API int ringtls_engine_get_info(const struct ringtls_engine *engine,
					struct ringtls_engine_info *ret_info);

/* ---- Queued writes: see ringtls_queue_writev --------------------------- */

#define RINGTLS_RELEASED 1u /* its memory, or its file, is not needed any more */
#define RINGTLS_SENT     2u /* it is over: error and bytes say how */

struct ringtls_completion {
	struct ringtls_conn *conn;
	void *user;     /* the connection's, see ringtls_conn_opts */
	uint64_t id;    /* the request's, as it was queued */
	uint32_t flags; /* RINGTLS_RELEASED, RINGTLS_SENT, or both */
	int error;      /* with SENT: 0, or why it was not sent whole: a negated errno, such as
			 * -ECANCELED, or RINGTLS_E_* */
	uint64_t bytes; /* of it, application bytes that are known to be taken by the kernel */
};

/*
 * Starts what was queued on the engine's connections, by one submission where there is a
 * ring; what is alone, and brief, by a system call of its own, which costs less, and where the
 * socket takes a part of it the rest is for the next call. It waits for nothing.
 * ringtls_engine_wait does the same, and goes on with what was started. A call starts so much that no other write waits long for it: first connections
 * with a few requests of together 16 KiB at most, then bulk transfers, 64 KiB of them
 * behind such, else 256 KiB, or 128 operations, and what the last of them has more (it moves
 * 272 KiB at most, or 1 MiB of a file in the kernel lane); the rest is for the next calls,
 * and until then the descriptor is readable, or there is a completion on a ring of the
 * caller's. 0 or a negated errno. On a ring of the caller's it only fills entries; -EBUSY:
 * there was no room for all of them, or to show that there is more.
 */
RINGTLS_API int ringtls_engine_submit(struct ringtls_engine *engine);

/*
 * Gives what became of requests, at most max of them, and their number: each is told
 * once that it is released and once that it is sent, often both at once; those of one
 * connection in the order in which they were queued. While there are some,
 * ringtls_engine_fd() is readable, and ringtls_engine_wait does not sleep.
 */
RINGTLS_API int ringtls_engine_completions(struct ringtls_engine *engine,
					   struct ringtls_completion *ret_completions,
					   unsigned max);

/* ---- Connection -------------------------------------------------------- */

struct ringtls_conn_opts {
	size_t   size;          /* sizeof(struct ringtls_conn_opts): fields get appended */
	uint32_t lane;          /* enum ringtls_lane; AUTO means the engine's */
	uint32_t renegotiation; /* enum ringtls_reneg; DEFAULT means the engine's */
	void    *user;          /* given back with events */
	uint64_t max_records;   /* a key seals at most so many before a KeyUpdate renews it, or,
				 * where that can't be, the connection ends in order; 0, or more
				 * than that: the limit of RFC 8446 5.5, in TLS 1.3 */
	uint32_t max_requests;  /* queued at the same time; 0 means 256 */
	uint32_t fixed_file;    /* on a ring of the caller's: the place of fd among the ring's
				 * registered files, plus 1; 0: it is in none */
	uint64_t promote_after; /* AUTO: in the user lane until so many application bytes are
				 * sent, then in the kernel lane, if it can be had, with the same
				 * key; 0: the engine's, and there: it stays where it began. With a
				 * named lane -EINVAL. A kernel without rekey then ends the
				 * connection at a KeyUpdate, as in the kernel lane */
};

struct ringtls_conn_info {
	size_t   size;         /* set by the caller to sizeof(struct ringtls_conn_info) */
	uint32_t lane;         /* the lane it is in; AUTO until the handshake decides */
	uint32_t reason;       /* why that is not KERNEL; NONE where it is */
	int      reason_errno; /* the errno behind the reason, or 0 */
	int      error;        /* what ended its transmit side (ringtls_strerror), or 0 */
	uint16_t version;      /* 0x0303 or 0x0304; 0 before the handshake */
	uint16_t cipher;       /* the cipher suite's number in the IANA registry */
	uint64_t bytes;        /* application bytes known to be taken by the kernel */
	uint64_t records;      /* TLS records made, of any type */
	uint64_t ops;          /* transmit operations */
	uint64_t short_sends;  /* operations that moved less than they were given */
	uint64_t waits;        /* polls and timers left behind */
	uint64_t epochs;       /* keys put to use by ringtls (kernel and user lane) */
};

/*
 * Optional: lets connections of this SSL_CTX renew their keys (KeyUpdate, RFC 8446
 * 4.6.3) on OpenSSL 3.0 and 3.1, which hand over only the first; later ones don't
 * need it. Call it once for each SSL_CTX, those that a servername callback chooses
 * too, before its handshakes. It sets the key log callback, and hands on to the one
 * that was there; one that is set later must hand on to ours. Again it does nothing.
 * 0 or -ENOMEM.
 */
RINGTLS_API int ringtls_ctx_prepare(struct ssl_ctx_st *ctx);

/*
 * Attaches ssl and its connected TCP socket fd; opts may be NULL. Best before
 * the handshake: set the role first (SSL_set_accept_state or
 * SSL_set_connect_state). After it, the keys are taken over by a KeyUpdate (TLS 1.3
 * on OpenSSL 3.2 and later), or it runs in the openssl lane, and says why; then
 * no SSL_write may be under way. One whose sending OpenSSL has handed to the kernel is
 * adopted: it is in the kernel lane at once (another can't be named), and its closing
 * takes some 60 ms longer, as nobody knows what the kernel held back before.
 * Borrows both until ringtls_conn_free; replaces the
 * SSL's BIOs, sets SSL_OP_ENABLE_KTLS unless the lane is OPENSSL, and
 * SSL_OP_NO_RENEGOTIATION where the policy is to refuse.
 * Whether calls block is the socket's O_NONBLOCK, looked at when it matters.
 * An SSL whose BIO would close its descriptor (BIO_CLOSE) closes it here.
 * A stream socket that is not plain TCP (AF_UNIX, MPTCP) can't have the kernel lane.
 *
 * fd -1: there is no socket, and the SSL keeps its two BIOs, a BIO pair for example. It
 * runs in the openssl lane (NOT_A_SOCKET); a call never waits, unless a BIO does; WANT_*
 * are the BIOs', for the caller to see to, and are no events of the engine.
 * "Taken by the kernel" then means: by the BIO. What is queued goes on whenever
 * ringtls_engine_submit or ringtls_engine_wait is called. ringtls_conn_free gives the BIOs back.
 *
 * -EINVAL: opts, or a BIO of the SSL is on another descriptor, or fd is -1 and it has none;
 * -EBADF, -ENOTSOCK, -EPROTOTYPE: fd is no stream socket; RINGTLS_E_LANE: the named lane
 * can't be had on this machine, or for this connection; RINGTLS_E_STATE: the ssl is attached
 * already, or bytes wait in a BIO that would be replaced, or in OpenSSL, which has read them
 * ahead, or the kernel has a key and the handshake or a write is not done; -ENOMEM,
 * RINGTLS_E_TLS. SSL_set_read_ahead(3) has no effect but in the openssl lane, if that is
 * named: with SSL_OP_ENABLE_KTLS OpenSSL 3.2 and later lose by a KeyUpdate what they have
 * read ahead.
 */
RINGTLS_API int ringtls_conn_new(struct ringtls_conn **ret_conn, struct ringtls_engine *engine,
				 struct ssl_st *ssl, int fd,
				 const struct ringtls_conn_opts *opts);

/*
 * NULL is fine. Detaches: the SSL is left without BIOs, to be freed. Sends
 * nothing; what was not sent is dropped, and keys are erased. Requests are dropped,
 * and not told: what is in flight is cancelled and waited for, so afterwards their
 * memory is the caller's. Call it before close(fd). To end a connection properly,
 * ringtls_shutdown first. 0, or a negated errno of the ring: it is not freed then. On a
 * ring of the caller's that is -EBUSY while something is in flight: submit, feed what
 * completes, and call it again; all else on conn is over.
 */
RINGTLS_API int ringtls_conn_free(struct ringtls_conn *conn);

/*
 * Gives the connection back: sends what is queued, and leaves the SSL with a socket BIO
 * (BIO_NOCLOSE) of OpenSSL's on its socket, to be used with SSL_write and SSL_read again.
 * Nothing that was read is lost. 0: done, and conn is freed. Else conn lives on as it was:
 * -EAGAIN: on a non-blocking socket something must go out first, wait as for WANT_WRITE;
 * RINGTLS_E_DETACH: the lane is the user lane, where OpenSSL can't go on; RINGTLS_E_STATE:
 * it is closed, or a write that answered WANT_* is not repeated to its end yet; -EBUSY:
 * ringtls_engine_completions has something to tell of it, or on a ring of the caller's
 * something is in flight: take what there is, and call it again; or what ended the
 * connection; -ENOMEM. In the kernel lane OpenSSL goes on over kernel TLS.
 */
RINGTLS_API int ringtls_conn_detach(struct ringtls_conn *conn);

/*
 * SSL_key_update(3): type is SSL_KEY_UPDATE_NOT_REQUESTED, or _REQUESTED to ask the
 * peer for one, too. It goes out at the next record boundary, in the middle of a
 * write or file that is under way as well. 0: it is queued, and sent: by a blocking
 * socket whole, by another as far as it takes it without waiting. RINGTLS_E_REKEY: this kernel, or this OpenSSL
 * (see ringtls_ctx_prepare), can't; nothing was sent, and the connection lives.
 * RINGTLS_E_STATE: not TLS 1.3, or no handshake yet, or closed. RINGTLS_E_TLS.
 */
RINGTLS_API int ringtls_conn_key_update(struct ringtls_conn *conn, int type);

/* Fills what fits into ret_info->size. -EINVAL: a size of 0. */
RINGTLS_API int ringtls_conn_get_info(const struct ringtls_conn *conn,
				      struct ringtls_conn_info *ret_info);

/* ---- The SSL_write family ---------------------------------------------- */

/*
 * Each answers as its OpenSSL namesake: more than 0 is success, else ask
 * ringtls_get_error(). On a blocking socket they return when done or failed. On
 * a non-blocking one WANT_READ or WANT_WRITE says what for, and
 * ringtls_engine_fd() when to repeat the call. With SSL_ERROR_SYSCALL errno is
 * set; with SSL_ERROR_SSL OpenSSL's error queue says why.
 * SO_RCVTIMEO and SO_SNDTIMEO bound a blocking call, which then answers WANT_*.
 * Calls empty OpenSSL's error queue first, so that no old entry passes for theirs.
 * A transmit error sticks: from then on everything but ringtls_read, information
 * and free fails with the same error.
 */

/* SSL_get_error(3): for the call on conn that just returned ret. */
RINGTLS_API int ringtls_get_error(const struct ringtls_conn *conn, int ret);

/* SSL_do_handshake(3). RFC 8446, RFC 5246. */
RINGTLS_API int ringtls_handshake(struct ringtls_conn *conn);

/*
 * SSL_write(3), SSL_write_ex(3). Does the handshake first if need be. After
 * WANT_* repeat it with the same arguments (a larger num is allowed; another
 * address with SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER): another buffer fails with
 * SSL_R_BAD_WRITE_RETRY, a smaller num with SSL_R_BAD_LENGTH, and nothing is lost
 * by that. buf is read during the call only. Success means that the kernel has
 * every byte. SSL_MODE_ENABLE_PARTIAL_WRITE: may return less, in whole records.
 */
RINGTLS_API int ringtls_write(struct ringtls_conn *conn, const void *buf, int num);
RINGTLS_API int ringtls_write_ex(struct ringtls_conn *conn, const void *buf, size_t num,
				 size_t *ret_written);

/*
 * SSL_write_early_data(3) and SSL_read_early_data(3): 0-RTT, RFC 8446 2.3 and 4.2.10;
 * as a server, the former sends before the client's Finished has come. Early data can
 * be replayed: read the manual's warning. The rules for repeating are ringtls_write's;
 * one call takes at most 256 KiB. ringtls_read_early_data answers
 * SSL_READ_EARLY_DATA_ERROR, _SUCCESS or _FINISH.
 */
RINGTLS_API int ringtls_write_early_data(struct ringtls_conn *conn, const void *buf, size_t num,
					 size_t *ret_written);
RINGTLS_API int ringtls_read_early_data(struct ringtls_conn *conn, void *buf, size_t num,
					size_t *ret_read);

/*
 * SSL_sendfile(3), in every lane: up to size bytes of file from offset, whose
 * own file position stays. Returns the bytes sent, fewer at the end of the file
 * or, on a non-blocking socket, when that is full or what is next is not in memory (go
 * on at offset plus that); 0 at or behind the end; -1 as above. WANT_WRITE is then the
 * answer to a file, too, that the engine's ring reads meanwhile. flags must be 0.
 */
RINGTLS_API ssize_t ringtls_sendfile(struct ringtls_conn *conn, int file, off_t offset,
				     size_t size, int flags);

/*
 * writev(2) with the contract of ringtls_write: the pieces become one stream, and
 * small ones share a record. After WANT_* repeat it with the same pieces: another
 * first address fails as another buffer does, fewer bytes as a smaller num.
 * Returns the bytes written. -1 with EINVAL: iovcnt is negative or above IOV_MAX (1024), or
 * the bytes are more than SSIZE_MAX.
 */
RINGTLS_API ssize_t ringtls_writev(struct ringtls_conn *conn, const struct iovec *iov, int iovcnt);

/*
 * Queue a write, or a range of a file, that goes on after the call: it is started by one of
 * the next calls of ringtls_engine_submit or ringtls_engine_wait, together with those of other
 * connections, and ringtls_engine_completions tells what became of it. The
 * iovecs are copied; their bytes, or the file, are borrowed until it is released: until
 * then they must not change. id is the caller's, and is given back.
 * Returns 1, or as ringtls_write: WANT_WRITE when max_requests are queued (an event
 * comes when there is room), and whatever a handshake wants that is not done yet.
 * The same stream as ringtls_write and ringtls_sendfile, which go behind what
 * is queued, as ringtls_shutdown does. Blocking or not, they never wait for the socket.
 * A file that can't be read, or a connection that fails, ends the requests behind
 * it, too: with -ECANCELED, or the connection's error. A file that is shorter than
 * size is sent as it is.
 */
RINGTLS_API int ringtls_queue_writev(struct ringtls_conn *conn, const struct iovec *iov,
				     int iovcnt, uint64_t id);
RINGTLS_API int ringtls_queue_sendfile(struct ringtls_conn *conn, int file, off_t offset,
				       size_t size, uint64_t id);

/*
 * Ends the first request of that id that is not over: exactly what was sealed, or taken
 * by the kernel, is sent, and told by its completion with -ECANCELED, in its turn.
 * Those behind it go on. 0, or -ENOENT: there is none.
 */
RINGTLS_API int ringtls_conn_cancel(struct ringtls_conn *conn, uint64_t id);

/* SSL_read(3), SSL_read_ex(3). May send: WANT_WRITE is possible. */
RINGTLS_API int ringtls_read(struct ringtls_conn *conn, void *buf, int num);
RINGTLS_API int ringtls_read_ex(struct ringtls_conn *conn, void *buf, size_t num,
				size_t *ret_read);

/*
 * SSL_shutdown(3): 0 when close_notify is sent and the peer's has not come, 1
 * when both have. It goes behind all data, and every record has reached TCP
 * before this returns 0 or 1, so that close() and shutdown(SHUT_WR) cut nothing
 * off; until then a non-blocking call answers WANT_WRITE.
 */
RINGTLS_API int ringtls_shutdown(struct ringtls_conn *conn);

#ifdef __cplusplus
}
#endif
#endif
