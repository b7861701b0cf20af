/*
 * conn.c - the state machine of a connection's transmit side, sans I/O.
 *
 * The head of the queue is turned into the next op; the op's answer comes back
 * and moves the machine on. doc/states.dot is this picture, and a test compares
 * it with the table below.
 *
 *                      key, user lane
 *            CLEAR ------------------------> USER <-----+ next key
 *              |               promoted   / ^ ^ | \_____|
 *              | key, kernel lane  ______/  | | |
 *              v                  v refused | | |
 *             ULP --------------------------+ | |
 *              | done                         | |
 *              v                      refused | |
 *             KEY ----------------------------+ | close
 *              | done  (point of no return)     |
 *              v           done                 |
 *            KERNEL <--------------- REKEY      |
 *            ^ |  \_____ next key ____^         |
 *      done  | |                                |
 *          COUNT (near the key's limit)         |
 *              | close                          |
 *              v       not yet                  |
 *            DRAIN ---------------> DRAIN_WAIT  |
 *              |  <---------------- done        |
 *              | all in TCP                     |
 *              v                                |
 *            CLOSED <---------------------------+--- close, from CLEAR
 *
 *            any ---- broken ----> FAILED, with the error, for good
 *
 * What holds in each state:
 *   CLEAR        the socket is plain; only WIRE leaves.
 *   ULP, KEY     the head is the KEYS that are being installed; everything
 *                before it was taken by TCP, nothing behind it has left. Where
 *                is_promoting, the sealer has the key as well, and seals nothing.
 *   KERNEL       TLS_TX was confirmed in this epoch; nothing but plaintext ops
 *                (SEND, RECORD, SENDFILE) leaves; the key is erased from here.
 *   COUNT        as KERNEL; the number of records is asked for.
 *   REKEY        the head is KEYS; the KeyUpdate was taken by the kernel. A
 *                refusal can't be mended: the peer expects the new key.
 *   USER         the sealer owns the sequence number; the kernel has no key. A copy of
 *                the sealer's key is kept where the connection may be promoted.
 *   DRAIN*       the queue is empty, and stays so.
 *   CLOSED       as DRAIN, and TCP has every record.
 *   FAILED       error says why; what is queued is never sent.
 *
 * A pair of state and event that is not in the table is an error, and fails the
 * connection: so a rekey that failed is never taken for one that was not sent.
 */
#include "config.h"
#include "conn.h"
#include "lane.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <openssl/crypto.h>
#include <ringtls/ringtls.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum event {
	EV_KEY_KERNEL, /* KEYS reached the head: for the kernel */
	EV_KEY_USER,   /* KEYS reached the head: for the sealer */
	EV_PROMOTE,    /* KEYS reached the head: the sealer's own, for the kernel */
	EV_CLOSE,      /* CLOSE reached the head */
	EV_DONE,
	EV_REFUSED, /* DRAIN: not yet */
	EV_COUNT,   /* the lane must know how many records there were */
};

static int asked_flow(struct ringtls__tx *tx, struct ringtls__op *op);
static int asked_ulp(struct ringtls__tx *tx, struct ringtls__op *op);
static int asked_key(struct ringtls__tx *tx, struct ringtls__op *op);
static int asked_output(struct ringtls__tx *tx, struct ringtls__op *op);
static int asked_drain_wait(struct ringtls__tx *tx, struct ringtls__op *op);
static int asked_end(struct ringtls__tx *tx, struct ringtls__op *op);

/* asked: 1 and an op, 0 and nothing to do, MOVED, or an error. */
#define MOVED 2

static const struct {
	const char *name;
	int (*asked)(struct ringtls__tx *tx, struct ringtls__op *op);
	const struct ringtls__lane *lane;
} states[RINGTLS__TX_STATES] = {
	[RINGTLS__TX_CLEAR] = { "CLEAR", asked_flow, &ringtls__lane_openssl },
	[RINGTLS__TX_ULP] = { "ULP", asked_ulp, &ringtls__lane_openssl },
	[RINGTLS__TX_KEY] = { "KEY", asked_key, &ringtls__lane_openssl },
	[RINGTLS__TX_KERNEL] = { "KERNEL", asked_flow, &ringtls__lane_kernel },
	[RINGTLS__TX_COUNT] = { "COUNT", asked_output, &ringtls__lane_kernel },
	[RINGTLS__TX_REKEY] = { "REKEY", asked_key, &ringtls__lane_kernel },
	[RINGTLS__TX_USER] = { "USER", asked_flow, &ringtls__lane_user },
	[RINGTLS__TX_DRAIN] = { "DRAIN", asked_output, &ringtls__lane_kernel },
	[RINGTLS__TX_DRAIN_WAIT] = { "DRAIN_WAIT", asked_drain_wait, &ringtls__lane_kernel },
	[RINGTLS__TX_CLOSED] = { "CLOSED", asked_end, NULL },
	[RINGTLS__TX_FAILED] = { "FAILED", asked_end, NULL },
};

/* Actions: 0, or the error that the connection fails with. */
typedef int action(struct ringtls__tx *tx, const struct ringtls__op *op);
static action start_sealer, fall_back, installed, rekeyed, rekey_refused, counted, finish;

static const struct transition {
	enum ringtls__tx_state from;
	enum event event;
	enum ringtls__tx_state to;
	action *act;
	const char *label;
} transitions[] = {
#define S(name) RINGTLS__TX_##name
	{ S(CLEAR), EV_KEY_KERNEL, S(ULP), NULL, "key for the kernel" },
	{ S(CLEAR), EV_KEY_USER, S(USER), start_sealer, "key for us" },
	{ S(CLEAR), EV_CLOSE, S(CLOSED), finish, "close" },
	{ S(ULP), EV_DONE, S(KEY), NULL, "done" },
	{ S(ULP), EV_REFUSED, S(USER), fall_back, "refused" },
	{ S(KEY), EV_DONE, S(KERNEL), installed, "done" },
	{ S(KEY), EV_REFUSED, S(USER), fall_back, "refused" },
	{ S(KERNEL), EV_KEY_KERNEL, S(REKEY), NULL, "next key" },
	{ S(KERNEL), EV_COUNT, S(COUNT), NULL, "near the limit" },
	{ S(COUNT), EV_DONE, S(KERNEL), counted, "done" },
	{ S(KERNEL), EV_CLOSE, S(DRAIN), NULL, "close" },
	{ S(REKEY), EV_DONE, S(KERNEL), rekeyed, "done" },
	{ S(REKEY), EV_REFUSED, S(FAILED), rekey_refused, "refused" },
	{ S(USER), EV_KEY_USER, S(USER), start_sealer, "next key" },
	{ S(USER), EV_PROMOTE, S(ULP), NULL, "promoted" },
	{ S(USER), EV_CLOSE, S(CLOSED), finish, "close" },
	{ S(DRAIN), EV_DONE, S(CLOSED), finish, "all in TCP" },
	{ S(DRAIN), EV_REFUSED, S(DRAIN_WAIT), NULL, "not yet" },
	{ S(DRAIN_WAIT), EV_DONE, S(DRAIN), NULL, "done" },
#undef S
};

static void enter(struct ringtls__tx *tx, enum ringtls__tx_state state)
{
	tx->state = state;
}

static void event(struct ringtls__tx *tx, enum event ev, const struct ringtls__op *op)
{
	for (size_t i = 0; i < COUNT(transitions); i++) {
		const struct transition *t = &transitions[i];
		int r;

		if (t->from != tx->state || t->event != ev)
			continue;
		r = t->act ? t->act(tx, op) : 0;
		if (r < 0)
			ringtls__tx_fail(tx, r);
		else
			enter(tx, t->to);
		return;
	}
	ringtls__tx_fail(tx, RINGTLS_E_STATE);
}

/* ---- What each state asks for ------------------------------------------ */

static enum event event_of_key(const struct ringtls__tx *tx)
{
	if (tx->is_promoting)
		return EV_PROMOTE;
	return tx->want_kernel ? EV_KEY_KERNEL : EV_KEY_USER;
}

static int asked_flow(struct ringtls__tx *tx, struct ringtls__op *op)
{
	const struct ringtls__item *head = tx->q.head;
	/* What is sealed goes out before a key or a close is looked at. */
	bool sealed = tx->out.bytes != NULL;
	int r;

	if (head && !sealed && head->kind == RINGTLS__ITEM_KEYS) {
		event(tx, event_of_key(tx), NULL);
		return MOVED;
	}
	if (head && !sealed && head->kind == RINGTLS__ITEM_CLOSE) {
		ringtls__txq_pop(&tx->q);
		event(tx, EV_CLOSE, NULL);
		return MOVED;
	}
	r = states[tx->state].lane->next(tx, op);
	if (r != RINGTLS__LANE_COUNT)
		return r;
	event(tx, EV_COUNT, NULL);
	return MOVED;
}

static int asked_ulp(struct ringtls__tx *tx, struct ringtls__op *op)
{
	(void)tx;
	op->kind = RINGTLS__OP_ULP;
	return 1;
}

static int asked_key(struct ringtls__tx *tx, struct ringtls__op *op)
{
	op->kind = RINGTLS__OP_KEY;
	op->key = ringtls__item_key(tx->q.head);
	op->has = &tx->info;
	op->rekey = tx->state == RINGTLS__TX_REKEY;
	return 1;
}

static int asked_output(struct ringtls__tx *tx, struct ringtls__op *op)
{
	op->kind = RINGTLS__OP_OUTPUT;
	op->has = &tx->info;
	return 1;
}

/*
 * The kernel's list of sealed records moves on when TCP has room, but POLLOUT may
 * come before that work ran, and then stays on: so poll and timer take turns.
 */
static int asked_drain_wait(struct ringtls__tx *tx, struct ringtls__op *op)
{
	unsigned turn = tx->drain_tries++;

	op->kind = turn % 2 ? RINGTLS__OP_TIMER : RINGTLS__OP_POLL;
	op->events = POLLOUT;
	op->ms = turn / 2 < 7 ? 1u << (turn / 2) : 100;
	return 1;
}

static int asked_end(struct ringtls__tx *tx, struct ringtls__op *op)
{
	(void)op;
	if (tx->state == RINGTLS__TX_FAILED)
		return tx->error;
	/* Nothing may follow close_notify. */
	ringtls__txq_fini(&tx->q);
	return 0;
}

/* ---- Actions ----------------------------------------------------------- */

/* RFC 8446 5.5 for GCM; RFC 9147 4.5.3 for CCM, of which the former says nothing.
 * ChaCha20-Poly1305 outlives its sequence number. */
static uint64_t default_limit(uint16_t cipher_type)
{
	switch (cipher_type) {
	case TLS_CIPHER_AES_GCM_128:
	case TLS_CIPHER_AES_GCM_256:
		return 23726566; /* 2^24.5 */
	case TLS_CIPHER_AES_CCM_128:
		return 1u << 23;
	default:
		return 0;
	}
}

uint64_t ringtls__record_limit(uint16_t cipher_type, uint64_t max_records)
{
	uint64_t limit = default_limit(cipher_type);

	return max_records && (!limit || max_records < limit) ? max_records : limit;
}

static void start_count(struct ringtls__tx *tx, const struct tls_crypto_info *info)
{
	/* TLS 1.2 has no KeyUpdate, and its RFC sets no limit: there it is the caller's. */
	tx->record_limit = info->version == TLS_1_3_VERSION ?
				   ringtls__record_limit(info->cipher_type, tx->max_records) :
				   tx->max_records;
	tx->records_bound = 0;
	tx->is_counted = true;
	tx->epochs++;
}

/* Without memory it stays where it is. */
static void keep(struct ringtls__tx *tx, const struct ringtls__key *key)
{
	ringtls__key_free(tx->kept);
	tx->kept = ringtls__key_copy(key);
	if (tx->kept)
		return;
	tx->keeps_key = false;
	tx->install_error = -ENOMEM;
}

static int start_sealer(struct ringtls__tx *tx, const struct ringtls__op *op)
{
	const struct ringtls__key *key = ringtls__item_key(tx->q.head);
	struct ringtls__sealer *sealer;
	int r;

	(void)op;
	r = ringtls__sealer_new(&sealer, key);
	if (r < 0)
		return r;
	if (tx->sealer)
		tx->records_before += ringtls__sealer_seq(tx->sealer) - tx->first_sealed;
	ringtls__sealer_free(tx->sealer);
	tx->sealer = sealer;
	tx->first_sealed = ringtls__key_seq(key);
	start_count(tx, &key->u.info);
	if (tx->keeps_key)
		keep(tx, key);
	ringtls__txq_pop(&tx->q); /* the key has one owner now, or the two that tx.h names */
	return 0;
}

/* The kernel took nothing yet: the key goes on here, from the same number. */
static int fall_back(struct ringtls__tx *tx, const struct ringtls__op *op)
{
	tx->install_error = (int)op->res;
	if (tx->is_promoting) { /* the sealer has it still */
		tx->is_promoting = false;
		ringtls__txq_pop(&tx->q);
		return 0;
	}
	if (!tx->may_fall_back)
		return RINGTLS_E_LANE;
	tx->want_kernel = false;
	return start_sealer(tx, op);
}

/* Behind TLS_TX: nothing here can fail. */
static void new_epoch(struct ringtls__tx *tx)
{
	const struct ringtls__key *key = ringtls__item_key(tx->q.head);

	tx->info = key->u.info;
	tx->first_record = ringtls__key_seq(key);
	tx->sealed_before = 0;
	start_count(tx, &tx->info);
	ringtls__txq_pop(&tx->q);
}

/* The epoch is the sealer's: it goes on, and what was sealed with its key counts. */
static void take_from_sealer(struct ringtls__tx *tx)
{
	uint64_t sealed = ringtls__sealer_seq(tx->sealer) - tx->first_sealed;

	assert(ringtls__sealer_seq(tx->sealer) == tx->first_record); /* invariant 4 */
	tx->records_before += sealed;
	tx->sealed_before = tx->records_bound = sealed;
	tx->epochs--;
	ringtls__sealer_free(tx->sealer);
	tx->sealer = NULL;
	tx->is_promoting = false;
	tx->want_kernel = true; /* the next key, too */
}

static int installed(struct ringtls__tx *tx, const struct ringtls__op *op)
{
	tx->tcp_base = op->tcp_bytes;
	new_epoch(tx);
	if (tx->is_promoting)
		take_from_sealer(tx);
	return 0;
}

static int rekeyed(struct ringtls__tx *tx, const struct ringtls__op *op)
{
	tx->kernel_records += op->records - tx->first_record;
	new_epoch(tx);
	return 0;
}

static int counted(struct ringtls__tx *tx, const struct ringtls__op *op)
{
	tx->records_bound = op->records - tx->first_record + tx->sealed_before;
	tx->is_counted = true;
	return 0;
}

static int rekey_refused(struct ringtls__tx *tx, const struct ringtls__op *op)
{
	tx->install_error = (int)op->res;
	return RINGTLS_E_REKEY;
}

static int finish(struct ringtls__tx *tx, const struct ringtls__op *op)
{
	(void)op;
	return tx->close_error;
}

/* ---- The calls --------------------------------------------------------- */

void ringtls__tx_init(struct ringtls__tx *tx, int fd, struct ringtls__pool *pool)
{
	memset(tx, 0, sizeof(*tx));
	ringtls__txq_init(&tx->q, pool);
	tx->fd = fd;
	enter(tx, RINGTLS__TX_CLEAR);
}

void ringtls__tx_adopt(struct ringtls__tx *tx, const struct tls_crypto_info *info,
		       const struct ringtls__op *op)
{
	assert(tx->state == RINGTLS__TX_CLEAR && !tx->q.head);
	tx->info = *info;
	tx->tcp_base = op->tcp_bytes;
	tx->first_record = tx->sealed_before = op->records;
	tx->is_adopted = true;
	start_count(tx, info);
	tx->epochs = 0; /* that key is not of our using */
	tx->records_bound = op->records;
	enter(tx, RINGTLS__TX_KERNEL);
}

const struct ringtls__lane *ringtls__tx_lane(const struct ringtls__tx *tx)
{
	return states[tx->state].lane;
}

bool ringtls__tx_may_promote(const struct ringtls__tx *tx)
{
	return tx->keeps_key && tx->state == RINGTLS__TX_USER && !tx->in_flight && !tx->out.bytes &&
	       !ringtls__txq_has_key(&tx->q);
}

int ringtls__tx_promote(struct ringtls__tx *tx)
{
	int r;

	assert(ringtls__tx_may_promote(tx));
	assert(tx->kept); /* keeps_key is taken back where there is no memory for it */
	ringtls__key_move_on(tx->kept, ringtls__sealer_seq(tx->sealer));
	r = ringtls__txq_key_first(&tx->q, tx->kept);
	ringtls__tx_stay(tx);
	tx->is_promoting = r >= 0;
	return r;
}

void ringtls__tx_stay(struct ringtls__tx *tx)
{
	tx->keeps_key = false;
	ringtls__key_free(tx->kept);
	tx->kept = NULL;
}

void ringtls__tx_fini(struct ringtls__tx *tx)
{
	assert(!tx->in_flight);
	ringtls__tx_stay(tx);
	ringtls__txq_fini(&tx->q);
	ringtls__pool_put(tx->q.pool, tx->out.bytes);
	tx->out.bytes = NULL;
	ringtls__sealer_free(tx->sealer);
	tx->sealer = NULL;
}

void ringtls__tx_fail(struct ringtls__tx *tx, int error)
{
	assert(!tx->in_flight); /* an op that runs still reads what is freed here */
	if (tx->state == RINGTLS__TX_FAILED)
		return;
	tx->error = error;
	enter(tx, RINGTLS__TX_FAILED);
	/* Nothing more is sent, so nothing need be kept: keys least of all. */
	ringtls__tx_stay(tx);
	ringtls__txq_fini(&tx->q);
	ringtls__sealer_free(tx->sealer);
	tx->sealer = NULL;
	ringtls__pool_put(tx->q.pool, tx->out.bytes);
	tx->out.bytes = NULL;
}

int ringtls__tx_next(struct ringtls__tx *tx, struct ringtls__op *op)
{
	int r;

	assert(!tx->in_flight); /* invariant 3 */
	memset(op, 0, offsetof(struct ringtls__op, iov));
	op->fd = tx->fd;
	op->done = false;
	tx->rekey_due = false; /* the lane says it anew, if it is what holds things up */
	do {
		r = states[tx->state].asked(tx, op);
	} while (r == MOVED);
	if (r < 0) {
		ringtls__tx_fail(tx, r);
		return tx->error;
	}
	tx->in_flight = r == 1;
	return r;
}

/* Errors that are the file's: nothing went out, and the connection lives. */
static bool is_file_error(const struct ringtls__op *op)
{
	static const int errors[] = { EBADF, EINVAL, EIO, EISDIR, EOVERFLOW, ESPIPE, EACCES };

	if (op->kind != RINGTLS__OP_SENDFILE)
		return false;
	for (size_t i = 0; i < COUNT(errors); i++)
		if (op->res == -errors[i])
			return true;
	return false;
}

int ringtls__tx_file_error(struct ringtls__tx *tx)
{
	int error = tx->file_error;

	tx->file_error = 0;
	return error;
}

static void complete_transmit(struct ringtls__tx *tx, const struct ringtls__op *op)
{
	/* Nothing was taken: the same bytes are asked for again. */
	if (op->res == -EAGAIN || op->res == -EINTR || op->res == -ECANCELED)
		return;
	if (is_file_error(op)) {
		tx->file_error = (int)op->res;
		ringtls__txq_pop(&tx->q);
		return;
	}
	if (op->res < 0) {
		ringtls__tx_fail(tx, (int)op->res);
		return;
	}
	assert((size_t)op->res <= op->len);
	tx->ops++;
	tx->moved += (size_t)op->res;
	tx->short_sends += (size_t)op->res < op->len;
	states[tx->state].lane->took(tx, op, (size_t)op->res);
}

/* How often in a row TCP's queue was empty, and nothing had come to it. */
static unsigned count_still(struct ringtls__tx *tx, uint64_t given, uint32_t queued)
{
	if (queued || given != tx->drain_given)
		tx->drain_still = 0;
	tx->drain_given = given;
	return ++tx->drain_still;
}

/* Some 5 s of waiting: the kernel holds bytes that it will not send, such as the open end
 * of a file that was never finished, when no close_notify followed it
 * (SSL_set_quiet_shutdown). */
#define STUCK 100

/* 60 ms: the kernel's list goes on at once when TCP has room, only not at every time. */
#define SETTLED 13

/*
 * Exact on every kernel that was tried (kmod-notes/drain.md): TCP was given what we gave
 * the kernel's TLS, and each record's overhead. What the kernel held back when it was
 * adopted comes on top, and nobody can say how much that was: so there TCP must have sent
 * all, and get nothing more while it has room.
 */
static void complete_drain(struct ringtls__tx *tx, const struct ringtls__op *op)
{
	uint64_t records, expected, given;
	unsigned still;

	if (op->res < 0) {
		ringtls__tx_fail(tx, (int)op->res);
		return;
	}
	records = tx->kernel_records + op->records - tx->first_record;
	expected = tx->plain + records * ringtls__key_overhead(&tx->info);
	given = op->tcp_bytes - tx->tcp_base;
	still = count_still(tx, given, op->queued);
	if (given > expected && !tx->is_adopted) /* somebody else sends on the socket */
		ringtls__tx_fail(tx, RINGTLS_E_KERNEL);
	else if (given < expected && still > STUCK)
		ringtls__tx_fail(tx, RINGTLS_E_KERNEL);
	else if (given < expected || (tx->is_adopted && still < SETTLED))
		event(tx, EV_REFUSED, op);
	else
		event(tx, EV_DONE, op);
}

void ringtls__tx_complete(struct ringtls__tx *tx, const struct ringtls__op *op)
{
	assert(tx->in_flight);
	tx->in_flight = false;
	if (tx->state == RINGTLS__TX_FAILED)
		return;
	if (ringtls__op_transmits(op))
		complete_transmit(tx, op);
	else if (tx->state == RINGTLS__TX_DRAIN)
		complete_drain(tx, op);
	else if (op->kind == RINGTLS__OP_OUTPUT && op->res < 0)
		ringtls__tx_fail(tx, (int)op->res);
	else
		event(tx, op->res < 0 ? EV_REFUSED : EV_DONE, op);
}

bool ringtls__tx_is_idle(const struct ringtls__tx *tx)
{
	return !tx->q.head && !tx->out.bytes && tx->state != RINGTLS__TX_DRAIN &&
	       tx->state != RINGTLS__TX_DRAIN_WAIT;
}

uint64_t ringtls__tx_records(const struct ringtls__tx *tx, uint64_t kernel_next)
{
	uint64_t n = tx->records_before + tx->kernel_records;

	if (tx->sealer)
		n += ringtls__sealer_seq(tx->sealer) - tx->first_sealed;
	if (kernel_next)
		n += kernel_next - tx->first_record;
	return n;
}

void ringtls__tx_print_graph(FILE *to)
{
	fprintf(to, "digraph tx {\n");
	for (size_t i = 0; i < COUNT(transitions); i++)
		fprintf(to, "\t%s -> %s [label=\"%s\"];\n", states[transitions[i].from].name,
			states[transitions[i].to].name, transitions[i].label);
	for (unsigned i = 0; i < RINGTLS__TX_FAILED; i++)
		fprintf(to, "\t%s -> FAILED [label=\"broken\"];\n", states[i].name);
	fprintf(to, "}\n");
}
