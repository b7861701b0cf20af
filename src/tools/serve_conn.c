/* serve_conn.c - see serve_conn.h. */
#include "config.h"
#include "serve_conn.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

#include "serve_cert.h"

#define TURN_BYTES    ((uint64_t)1 << 20) /* then it is the others' turn */
#define TURN_REQUESTS 16

#define MINUTE_MS	  60000
#define STALL_STOPPING_MS 30000

/* What a state's function says. */
enum step {
	STEP_ON,    /* the next state, now */
	STEP_WAIT,  /* an event of the engine brings us back */
	STEP_YIELD, /* others first */
	STEP_END,   /* nothing more can be done */
};

/* How much of its turn a connection has used. */
struct turn {
	uint64_t bytes;
	unsigned requests;
	bool looked;
};

static uint64_t clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static enum step go(struct serve_conn *conn, enum serve_state state, enum serve_limit limit)
{
	conn->state = state;
	conn->stalled_ms = 0;
	serve_loop_limit(conn, limit);
	return STEP_ON;
}

/*
 * All is sent. Closing with bytes unread would reset the connection, and so would bytes that
 * come later; the peer would lose what it has not got yet. So tell it first, and hear it out:
 * as long as it takes what is on its way, and then a little.
 */
static enum step hang_up(struct serve_conn *conn)
{
	shutdown(conn->fd, SHUT_WR);
	return go(conn, SERVE_STATE_LINGER, SERVE_LIMIT_SEND);
}

/* ---- Failures ------------------------------------------------------------------ */

/* How the other end, or the way to it, goes. 0: the end of the stream. */
static bool is_gone(int err_no)
{
	static const int gone[] = { 0,		 ECONNRESET,  EPIPE,	   ECONNABORTED, ETIMEDOUT,
				    EHOSTUNREACH, ENETUNREACH, ENETDOWN, EHOSTDOWN };

	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
		if (err_no == gone[i])
			return true;
	return false;
}

/* Peers leave in many ways; what is worth a line is what the administrator can mend. */
static void report(struct serve_conn *conn, int error, int err_no, int transmit_error)
{
	char peer[SERVE_ADDRESS_SIZE];

	serve_address_format(&conn->peer, peer);
	if (transmit_error < -4095 && transmit_error != RINGTLS_E_TLS)
		serve_log("%s: %s", peer, ringtls_strerror(transmit_error));
	else if (error == SSL_ERROR_SSL &&
		 ERR_GET_REASON(ERR_peek_error()) != SSL_R_UNEXPECTED_EOF_WHILE_READING)
		serve_log_openssl("%s: %s", peer,
				  conn->state == SERVE_STATE_HANDSHAKE ? "handshake" : "TLS");
	else if (error == SSL_ERROR_SYSCALL && !is_gone(err_no))
		serve_log("%s: %s", peer, ringtls_strerror(-err_no));
}

/* A call answered ret, which is no success: wait for its turn, or end. */
static enum step wait_or_end(struct serve_conn *conn, int ret)
{
	struct ringtls_conn_info info = { .size = sizeof(info) };
	int err_no = errno, error = ringtls_get_error(conn->tls, ret);

	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		return STEP_WAIT;
	ringtls_conn_get_info(conn->tls, &info);
	report(conn, error, err_no, info.error);
	if (info.error != RINGTLS_E_REKEY)
		return STEP_END;
	/* This one ends in order, with a close_notify that must not be overtaken. */
	return hang_up(conn);
}

/* ---- Requests -------------------------------------------------------------------- */

/*
 * A KeyUpdate, and a renegotiation even when it is refused, costs the client a few bytes
 * and us a calculation. They show nowhere else: no call returns for them alone.
 */
static void count_update(int write, int version, int type, const void *data, size_t len, SSL *ssl,
			 void *arg)
{
	struct serve_conn *conn = arg;
	const unsigned char *message = data;

	(void)version, (void)ssl;
	if (write || type != SSL3_RT_HANDSHAKE || !len || conn->state == SERVE_STATE_HANDSHAKE)
		return;
	if (*message == SSL3_MT_KEY_UPDATE || *message == SSL3_MT_CLIENT_HELLO)
		conn->updates++;
}

/* A storm is cut off: who keeps to the limit has its count begin anew each minute. */
static bool is_storm(struct serve_conn *conn)
{
	char peer[SERVE_ADDRESS_SIZE];

	if (conn->updates <= conn->loop->server->options->bounds.updates) {
		if (conn->loop->now_ms - conn->updates_since_ms < MINUTE_MS)
			return false;
		conn->updates_since_ms = conn->loop->now_ms;
		conn->updates = 0;
		return false;
	}
	serve_address_format(&conn->peer, peer);
	serve_log("%s: too many key updates or renegotiations", peer);
	return true;
}

static enum step handshake(struct serve_conn *conn, struct turn *turn)
{
	int ret = ringtls_handshake(conn->tls);

	(void)turn;
	if (ret <= 0)
		return wait_or_end(conn, ret);
	return go(conn, SERVE_STATE_REQUEST, SERVE_LIMIT_REQUEST);
}

/* Keeps bytes that come before their time. */
static bool keep_ahead(struct serve_conn *conn, const char *data, size_t len)
{
	char *ahead = NULL;

	if (len) {
		ahead = malloc(len);
		if (!ahead)
			return false;
		memcpy(ahead, data, len);
	}
	free(conn->ahead); /* data may point into it */
	conn->ahead = ahead;
	conn->ahead_len = len;
	return true;
}

static bool begin_request(struct serve_conn *conn)
{
	const struct serve_bounds *bounds = &conn->loop->server->options->bounds;

	conn->request = malloc(sizeof(*conn->request));
	if (!conn->request)
		return false;
	serve_request_init(conn->request);
	serve_request_limit(conn->request, bounds->header_bytes, bounds->header_fields);
	conn->requests++;
	conn->started_ms = clock_ms();
	conn->sent = 0;
	serve_loop_limit(conn, SERVE_LIMIT_REQUEST);
	return true;
}

static enum step answer(struct serve_conn *conn, bool made)
{
	if (!made)
		return STEP_END;
	conn->loop->requests++;
	return go(conn, SERVE_STATE_HEAD, SERVE_LIMIT_SEND);
}

/* The request that just came is the connection's last one. */
static bool is_last(const struct serve_conn *conn)
{
	unsigned most = conn->loop->server->options->bounds.requests;

	return conn->loop->stopping || conn->peer_done || (most && conn->requests >= most);
}

static enum step take_request(struct serve_conn *conn, const char *data, size_t len)
{
	size_t used;
	bool ready;

	if (!conn->request && !begin_request(conn))
		return STEP_END;
	ready = serve_request_feed(conn->request, data, len, &used);
	if (!keep_ahead(conn, data + used, ready ? len - used : 0))
		return STEP_END;
	if (!ready)
		return STEP_ON;
	return answer(conn, serve_answer_make(&conn->loop->site, conn->request,
					      is_last(conn), time(NULL), &conn->answer));
}

bool serve_conn_is_idle(const struct serve_conn *conn)
{
	return conn->state == SERVE_STATE_REQUEST && !conn->request && !conn->ahead;
}

static enum step request(struct serve_conn *conn, struct turn *turn)
{
	int ret;

	if (turn->requests >= TURN_REQUESTS)
		return STEP_YIELD;
	if (conn->ahead)
		return take_request(conn, conn->ahead, conn->ahead_len);
	if (conn->peer_done || (conn->loop->stopping && serve_conn_is_idle(conn)))
		return go(conn, SERVE_STATE_SHUTDOWN, SERVE_LIMIT_SEND);
	ret = ringtls_read(conn->tls, conn->loop->scratch, sizeof(conn->loop->scratch));
	if (ret > 0)
		return take_request(conn, conn->loop->scratch, (size_t)ret);
	if (ringtls_get_error(conn->tls, ret) != SSL_ERROR_ZERO_RETURN)
		return wait_or_end(conn, ret);
	conn->peer_done = true;
	return STEP_ON;
}

/* ---- Answers ---------------------------------------------------------------------- */

static void log_access(struct serve_conn *conn)
{
	struct serve_access access = {
		.peer = &conn->peer,
		.request = conn->request,
		.now = time(NULL),
		.status = conn->answer.status,
		.bytes = conn->sent,
		.duration_ms = clock_ms() - conn->started_ms,
		.ssl = conn->ssl,
		.conn = conn->tls,
	};

	serve_log_access(&access);
}

static void drop_request(struct serve_conn *conn)
{
	if (conn->request)
		serve_request_fini(conn->request);
	free(conn->request);
	conn->request = NULL;
	serve_answer_fini(&conn->answer);
}

static enum step answered(struct serve_conn *conn, struct turn *turn)
{
	bool close = conn->answer.close;

	log_access(conn);
	drop_request(conn);
	turn->requests++;
	if (close)
		return go(conn, SERVE_STATE_SHUTDOWN, SERVE_LIMIT_SEND);
	return go(conn, SERVE_STATE_REQUEST, SERVE_LIMIT_IDLE);
}

/* The head, and with it a body that is short. */
static enum step head(struct serve_conn *conn, struct turn *turn)
{
	struct serve_answer *answer = &conn->answer;
	size_t written;
	int ret = ringtls_write_ex(conn->tls, answer->text, answer->len, &written);

	if (ret <= 0)
		return wait_or_end(conn, ret);
	turn->bytes += answer->len;
	conn->sent = answer->body;
	free(answer->text);
	answer->text = NULL;
	if (!answer->left)
		return answered(conn, turn);
	return go(conn, SERVE_STATE_BODY, SERVE_LIMIT_SEND);
}

/*
 * A read between two sends: only OpenSSL's reading notices a key update, a
 * renegotiation or the peer's end, and a long answer must not keep them waiting.
 * STEP_ON: go on sending.
 */
static enum step look(struct serve_conn *conn)
{
	int error, ret = ringtls_read(conn->tls, conn->loop->scratch, sizeof(conn->loop->scratch));

	conn->looking = false;
	if (ret > 0)
		return keep_ahead(conn, conn->loop->scratch, (size_t)ret) ? STEP_ON : STEP_END;
	error = ringtls_get_error(conn->tls, ret);
	if (error == SSL_ERROR_WANT_READ)
		return STEP_ON;
	if (error == SSL_ERROR_ZERO_RETURN) {
		conn->peer_done = true;
		return STEP_ON;
	}
	conn->looking = error == SSL_ERROR_WANT_WRITE;
	return wait_or_end(conn, ret);
}

static enum step body(struct serve_conn *conn, struct turn *turn)
{
	struct serve_answer *answer = &conn->answer;
	uint64_t size = answer->left < TURN_BYTES ? answer->left : TURN_BYTES;
	enum step step = conn->looking ? look(conn) : STEP_ON;
	ssize_t n;

	if (step != STEP_ON)
		return step;
	/* The same size each time, as a repeated call must have. */
	n = ringtls_sendfile(conn->tls, answer->file.fd, answer->offset, (size_t)size, 0);
	if (n < 0)
		return wait_or_end(conn, -1);
	if (n == 0) {
		/* It shrank: breaking off tells the client that its copy is not whole. */
		serve_log("a file became shorter while it was sent");
		return STEP_END;
	}
	answer->offset += n;
	answer->left -= (uint64_t)n;
	conn->sent += (uint64_t)n;
	turn->bytes += (uint64_t)n;
	if (!answer->left)
		return answered(conn, turn);
	go(conn, SERVE_STATE_BODY, SERVE_LIMIT_SEND);
	if (!turn->looked && !conn->ahead && !conn->peer_done)
		conn->looking = turn->looked = true;
	return turn->bytes >= TURN_BYTES ? STEP_YIELD : STEP_ON;
}

/* ---- The end ------------------------------------------------------------------------ */

static enum step shut_down(struct serve_conn *conn, struct turn *turn)
{
	int ret = ringtls_shutdown(conn->tls);

	(void)turn;
	if (ret < 0)
		return wait_or_end(conn, ret);
	return ret ? STEP_END : hang_up(conn);
}

static enum step linger(struct serve_conn *conn, struct turn *turn)
{
	int ret = ringtls_read(conn->tls, conn->loop->scratch, sizeof(conn->loop->scratch));

	if (ret > 0) {
		turn->bytes += (uint64_t)ret;
		return turn->bytes < TURN_BYTES ? STEP_ON : STEP_YIELD;
	}
	switch (ringtls_get_error(conn->tls, ret)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return STEP_WAIT;
	default:
		return STEP_END;
	}
}

void serve_conn_end(struct serve_conn *conn)
{
	struct serve_loop *loop = conn->loop;

	if (conn->answer.status)
		log_access(conn);
	drop_request(conn);
	free(conn->ahead);
	serve_loop_forget(conn);
	ringtls_conn_free(conn->tls);
	SSL_free(conn->ssl);
	/* What is left unread would turn close() into a reset. */
	for (int i = 0; i < 4; i++)
		if (recv(conn->fd, loop->scratch, sizeof(loop->scratch), MSG_DONTWAIT) <= 0)
			break;
	close(conn->fd);
	ERR_clear_error();
	free(conn);
}

/* ---- The machine ---------------------------------------------------------------------- */

void serve_conn_run(struct serve_conn *conn)
{
	static enum step (*const states[SERVE_STATES])(struct serve_conn *, struct turn *) = {
		[SERVE_STATE_HANDSHAKE] = handshake, [SERVE_STATE_REQUEST] = request,
		[SERVE_STATE_HEAD] = head,           [SERVE_STATE_BODY] = body,
		[SERVE_STATE_SHUTDOWN] = shut_down,  [SERVE_STATE_LINGER] = linger,
	};
	struct turn turn = { 0 };
	enum step step;

	do {
		step = states[conn->state](conn, &turn);
		if (conn->updates && is_storm(conn))
			step = STEP_END;
	} while (step == STEP_ON);
	if (step == STEP_YIELD)
		serve_loop_yield(conn);
	else if (step == STEP_END)
		serve_conn_end(conn);
}

/* Counts what the peer's TCP has acknowledged: a slow reader is not a stalled one,
 * even when our own buffer is so large that nothing is written for minutes. */
static bool is_moving(struct serve_conn *conn, int queued)
{
	struct ringtls_conn_info info = { .size = sizeof(info) };
	uint64_t drained;

	ringtls_conn_get_info(conn->tls, &info);
	drained = info.bytes - (uint64_t)queued;
	if (drained == conn->drained)
		return false;
	conn->drained = drained;
	return true;
}

static void check_stall(struct serve_conn *conn)
{
	unsigned limit = conn->loop->server->options->bounds.send_s * 1000;
	uint64_t waited = conn->loop->now_ms - conn->limit_since_ms;
	int queued = 0;

	ioctl(conn->fd, SIOCOUTQ, &queued);
	if (conn->state == SERVE_STATE_LINGER && !queued) {
		serve_loop_limit(conn, SERVE_LIMIT_LINGER);
		return;
	}
	if (conn->loop->stopping && limit > STALL_STOPPING_MS)
		limit = STALL_STOPPING_MS;
	conn->stalled_ms = is_moving(conn, queued) ? 0 : conn->stalled_ms + (unsigned)waited;
	if (conn->stalled_ms >= limit)
		serve_conn_end(conn);
	else
		serve_loop_limit(conn, SERVE_LIMIT_SEND);
}

void serve_conn_expire(struct serve_conn *conn)
{
	if (conn->limit == SERVE_LIMIT_SEND) {
		check_stall(conn);
		return;
	}
	if (conn->state != SERVE_STATE_REQUEST) {
		serve_conn_end(conn);
		return;
	}
	if (!conn->request) {
		go(conn, SERVE_STATE_SHUTDOWN, SERVE_LIMIT_SEND);
	} else if (answer(conn, serve_answer_error(conn->request, 408, time(NULL),
						   &conn->answer)) == STEP_END) {
		serve_conn_end(conn);
		return;
	}
	serve_conn_run(conn);
}

void serve_conn_stop(struct serve_conn *conn)
{
	if (conn->state == SERVE_STATE_HANDSHAKE)
		serve_conn_end(conn);
	else if (serve_conn_is_idle(conn))
		serve_conn_run(conn);
}

static bool attach(struct serve_conn *conn)
{
	struct ringtls_conn_opts opts = { .size = sizeof(opts), .user = conn };
	int ret;

	conn->ssl = serve_ssl_new(conn->loop->server);
	if (!conn->ssl) {
		serve_log_openssl("no connection");
		return false;
	}
	SSL_set_msg_callback(conn->ssl, count_update);
	SSL_set_msg_callback_arg(conn->ssl, conn);
	SSL_set_accept_state(conn->ssl);
	ret = ringtls_conn_new(&conn->tls, conn->loop->engine, conn->ssl, conn->fd, &opts);
	if (ret < 0)
		serve_log("no connection: %s", ringtls_strerror(ret));
	return ret >= 0;
}

void serve_conn_start(struct serve_loop *loop, int fd, const union serve_address *peer)
{
	struct serve_conn *conn = calloc(1, sizeof(*conn));

	if (!conn) {
		close(fd);
		return;
	}
	conn->loop = loop;
	conn->fd = fd;
	conn->peer = *peer;
	conn->answer.file.fd = -1;
	conn->updates_since_ms = loop->now_ms;
	loop->connections++;
	loop->accepted++;
	atomic_fetch_add(&loop->server->connections, 1);
	serve_loop_limit(conn, SERVE_LIMIT_HANDSHAKE);
	if (attach(conn))
		serve_conn_run(conn);
	else
		serve_conn_end(conn);
}
