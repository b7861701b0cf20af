/*
 * walk.c - see walk.h. Whatever the chance: the bytes come out in order, each once, none
 * in plaintext before an install was confirmed, one op at a time.
 */
#include "walk.h"
#include "machine.h"

#define ITEMS 256 /* in the model at most */

uint32_t (*walk_any)(uint32_t below);
bool walk_is_wild;

static uint32_t any(uint32_t below)
{
	return walk_any(below);
}

static bool once_in(uint32_t n)
{
	return any(n) == 0;
}

/* ---- The model --------------------------------------------------------- */

/* A run of bytes, or a key, in the order in which it must come out. */
struct run {
	enum ringtls__item_kind kind;
	bool is_lent;
	uint8_t type; /* RECORD */
	uint32_t id;  /* names its bytes */
	size_t from, to;
	struct ringtls__key key; /* KEYS */
};

static struct {
	struct run runs[ITEMS];
	size_t count;
	uint32_t ids;
	bool is_installed;			/* TLS_TX was answered with 0 */
	bool has_key;				/* the user lane's, in the peer's hands */
	uint64_t plain, records, epoch_records; /* the kernel's */
	uint64_t base, first_record;
	bool is_lent;	/* item is in the queue */
	bool is_closed; /* the machine has acted on a CLOSE */
	int broken;	/* the error that we answered */
	bool is_starved; /* memory was refused */
} m;

/* Every byte of every item is known, and differs from its neighbours. */
static uint8_t byte_of(uint32_t id, size_t at)
{
	return (uint8_t)(id * 131 + at * 7 + (at >> 8));
}

static void fill(uint8_t *bytes, uint32_t id, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = byte_of(id, i);
}

static void insert(size_t at, struct run run)
{
	assert_true(m.count < ITEMS);
	memmove(&m.runs[at + 1], &m.runs[at], (m.count - at) * sizeof(m.runs[0]));
	m.runs[at] = run;
	m.count++;
}

static void drop(size_t at)
{
	m.count--;
	memmove(&m.runs[at], &m.runs[at + 1], (m.count - at) * sizeof(m.runs[0]));
}

/* Where OpenSSL's records go: before what is lent and not taken by the lane yet. */
static size_t before_lent(void)
{
	for (size_t i = 0; i < m.count; i++) {
		struct run *run = &m.runs[i];

		if (!run->is_lent || item.done >= run->to)
			continue;
		if (item.done > run->from) { /* that part is sealed: it stays in front */
			struct run rest = *run;

			run->to = rest.from = item.done;
			run->is_lent = false;
			insert(i + 1, rest);
			return i + 1;
		}
		return i;
	}
	return m.count;
}

/* One byte came out, as the next of that kind. */
static void expect_byte(bool wire, uint8_t type, uint8_t byte)
{
	struct run *run = &m.runs[0];

	assert_true(m.count > 0);
	if (wire)
		assert_int_equal(run->kind, RINGTLS__ITEM_WIRE);
	else if (type == 23)
		assert_true(run->kind == RINGTLS__ITEM_DATA || run->kind == RINGTLS__ITEM_FILE);
	else
		assert_true(run->kind == RINGTLS__ITEM_RECORD && run->type == type);
	assert_int_equal(byte, byte_of(run->id, run->from));
	if (++run->from == run->to)
		drop(0);
}

static void expect_bytes_out(bool wire, uint8_t type, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		expect_byte(wire, type, bytes[i]);
}

/* ---- Putting in -------------------------------------------------------- */

static void add_copy(enum ringtls__item_kind kind, bool by_inbox)
{
	static uint8_t bytes[RINGTLS__RECORD_MAX];
	size_t len = once_in(10) ? 1 + any(RINGTLS__RECORD_MAX) : 1 + any(300);
	struct run run = {.kind = kind, .type = (uint8_t)(21 + any(2)), .id = m.ids++, .to = len};
	struct ringtls__txq *q = by_inbox ? &inbox : &tx.q;

	fill(bytes, run.id, len);
	assert_int_equal(ringtls__txq_copy(q, kind, run.type, bytes, len, once_in(2) ? 0 : 9000),
			 0);
	insert(by_inbox ? before_lent() : m.count, run);
	if (by_inbox)
		ringtls__txq_take(&tx.q, &inbox);
}

/* With the KeyUpdate that it belongs to, as OpenSSL writes them. */
static void add_key(void)
{
	uint16_t version = TLS_1_3_VERSION, cipher = test_ciphers[any(4)];
	struct run run = {.kind = RINGTLS__ITEM_KEYS};
	bool is_first = !m.is_installed && !m.has_key;

	if (!is_first)
		add_copy(RINGTLS__ITEM_RECORD, true);
	run.key = test_key(version, cipher, is_first && once_in(2) ? any(1000) : 0);
	((uint8_t *)&run.key.u)[run.key.len - 9] = (uint8_t)m.ids++; /* of the salt, or the key */
	assert_int_equal(ringtls__txq_key(&inbox, &run.key), 0);
	insert(before_lent(), run);
	ringtls__txq_take(&tx.q, &inbox);
}

/* Some of the pieces are empty. */
static void cut(size_t len)
{
	static struct iovec pieces[8];
	size_t at = 0, n = 0;

	while (at < len) {
		size_t part = n == COUNT(pieces) - 1 ? len - at : any((uint32_t)(len - at) + 1);

		pieces[n++] = (struct iovec){big + at, part};
		at += part;
	}
	item.iov = pieces;
	item.iov_done = 0;
}

static void add_lent(void)
{
	struct run run = {.kind = RINGTLS__ITEM_DATA, .is_lent = true, .id = m.ids++};
	size_t len = once_in(20) ? 1 + any(sizeof(big)) : 1 + any(40000);

	if (tx.state == RINGTLS__TX_KERNEL && once_in(2)) {
		run.kind = RINGTLS__ITEM_FILE;
		item.iov = NULL;
		lend_file((off_t)run.id, len);
	} else {
		fill(big, run.id, len);
		lend(big, len);
		item.iov = NULL;
		if (walk_is_wild && once_in(2))
			cut(len);
	}
	run.to = len;
	insert(m.count, run);
	m.is_lent = true;
}

/* As every call does when it ends: what the lane did not take is the caller's. */
static void take_back(void)
{
	ringtls__txq_withdraw(&tx.q, &item);
	m.is_lent = false;
	for (size_t i = 0; i < m.count; i++) {
		if (!m.runs[i].is_lent)
			continue;
		m.runs[i].is_lent = false;
		m.runs[i].to = item.done;
		if (m.runs[i].from >= item.done)
			drop(i);
		return;
	}
}

static void add_close(void)
{
	struct run run = {.kind = RINGTLS__ITEM_CLOSE};

	put_close();
	insert(m.count, run);
}

static bool holds(enum ringtls__item_kind kind)
{
	for (size_t i = 0; i < m.count; i++)
		if (m.runs[i].kind == kind)
			return true;
	return false;
}

static void add_something(void)
{
	bool keyed = m.is_installed || m.has_key || holds(RINGTLS__ITEM_KEYS);

	if (m.count > ITEMS / 2 || m.is_closed)
		return;
	switch (any(8)) {
	case 0:
		add_key();
		break;
	case 1:
	case 2:
	case 3:
		if (keyed && !m.is_lent)
			add_lent();
		break;
	case 4:
		if (m.is_lent && !tx.in_flight)
			take_back();
		break;
	default:
		add_copy(!keyed	      ? RINGTLS__ITEM_WIRE
			 : once_in(3) ? RINGTLS__ITEM_DATA
				      : RINGTLS__ITEM_RECORD,
			 true);
	}
	if (once_in(500)) /* what must never come: it fails, and is not sent */
		add_copy(keyed ? RINGTLS__ITEM_WIRE : RINGTLS__ITEM_DATA, false);
	if (once_in(200))
		add_close();
}

/* ---- Coming out -------------------------------------------------------- */

/* The keys at the head that the machine has acted on without an op: ours. */
static void follow_keys(void)
{
	while ((tx.state == RINGTLS__TX_USER || tx.state == RINGTLS__TX_CLOSED) && m.count &&
	       m.runs[0].kind == RINGTLS__ITEM_KEYS && !peer.len) {
		opener_set_key(&peer, &m.runs[0].key);
		m.has_key = true;
		drop(0);
	}
}

/* Whatever is behind a close is dropped. */
static void follow_close(void)
{
	if (tx.state != RINGTLS__TX_DRAIN && tx.state != RINGTLS__TX_CLOSED)
		return;
	if (!m.is_closed) {
		assert_true(m.count > 0);
		assert_int_equal(m.runs[0].kind, RINGTLS__ITEM_CLOSE);
		assert_int_equal(peer.len, 0);
	}
	m.is_closed = true;
	m.count = 0;
}

static void open_records(void)
{
	follow_keys();
	while (m.has_key && opener_next(&peer)) {
		expect_bytes_out(false, peer.type, peer.text, peer.text_len);
		follow_keys();
	}
}

/* n bytes of the op went out: where to, and are they what was due? */
static void go_out(size_t n)
{
	size_t left = n;

	if (op.kind == RINGTLS__OP_SENDFILE) {
		assert_int_equal(m.runs[0].kind, RINGTLS__ITEM_FILE);
		assert_int_equal(op.offset, m.runs[0].id + m.runs[0].from);
		m.runs[0].from += n;
		if (m.runs[0].from == m.runs[0].to)
			drop(0);
		return;
	}
	for (unsigned i = 0; i < op.iovcnt && left; i++) {
		const uint8_t *bytes = op.iov[i].iov_base;
		size_t len = op.iov[i].iov_len < left ? op.iov[i].iov_len : left;

		left -= len;
		if (m.is_installed) {
			expect_bytes_out(false, op.kind == RINGTLS__OP_RECORD ? op.record_type : 23,
					 bytes, len);
			continue;
		}
		if (tx.state != RINGTLS__TX_USER) {
			expect_bytes_out(true, 0, bytes, len);
			continue;
		}
		for (size_t at = 0; at < len; at += 20000) {
			opener_feed(&peer, bytes + at, len - at < 20000 ? len - at : 20000);
			open_records();
		}
	}
}

static const int nothing[] = {EAGAIN, EINTR, ECANCELED}; /* was taken */

/* What became of a transmit op. */
static ssize_t some_result(void)
{
	static const int errors[] = {EPIPE, ECONNRESET, EBADMSG, ENOBUFS};

	if (once_in(1000))
		return -(m.broken = errors[any(4)]);
	if (once_in(5))
		return -nothing[any(3)];
	if (once_in(3))
		return 1 + any((uint32_t)op.len);
	return (ssize_t)op.len;
}

static bool is_one_of(int error, const int *errors, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (errors[i] == error)
			return true;
	return false;
}

static int any_errno(void)
{
	return 1 + (int)any(EHWPOISON);
}

static void answer_any_error(void)
{
	static const int of_file[] = {EBADF, EINVAL, EIO, EISDIR, EOVERFLOW, ESPIPE, EACCES};
	int error = any_errno();

	if (op.kind == RINGTLS__OP_SENDFILE && is_one_of(error, of_file, COUNT(of_file)))
		drop(0);
	else if (!is_one_of(error, nothing, COUNT(nothing)))
		m.broken = error;
	op.res = -error;
	ringtls__tx_complete(&tx, &op);
}

static void answer_transmit(void)
{
	ssize_t res;

	if (walk_is_wild && once_in(20)) {
		answer_any_error();
		return;
	}
	res = some_result();
	if (op.kind == RINGTLS__OP_SENDFILE && once_in(10)) { /* the file is shorter, or bad */
		size_t at = item.done;

		op.res = once_in(2) ? 0 : -EIO;
		ringtls__tx_complete(&tx, &op);
		assert_int_equal(item.done, at);
		drop(0);
		return;
	}
	op.res = res;
	if (res > 0) {
		/* Before the machine forgets where they are. */
		go_out((size_t)res);
		if (m.is_installed) {
			m.plain += (size_t)res;
			m.epoch_records += ((size_t)res + 16383) / 16384;
			m.records += ((size_t)res + 16383) / 16384;
		}
	}
	ringtls__tx_complete(&tx, &op);
}

static void new_epoch(void)
{
	assert_int_equal(m.runs[0].kind, RINGTLS__ITEM_KEYS);
	assert_memory_equal(op.key, &m.runs[0].key, sizeof(*op.key));
	op.records = m.first_record + m.epoch_records;
	op.tcp_bytes = m.base;
	m.first_record = ringtls__key_seq(&m.runs[0].key);
	m.epoch_records = 0;
	m.is_installed = true;
	drop(0);
}

/* What the machine must make of a refused op that sends nothing. */
static int due_error(void)
{
	if (op.kind == RINGTLS__OP_OUTPUT)
		return -(int)op.res;
	if (op.kind != RINGTLS__OP_ULP && op.kind != RINGTLS__OP_KEY)
		return -RINGTLS_E_STATE;
	if (op.rekey)
		return -RINGTLS_E_REKEY;
	return tx.may_fall_back ? 0 : -RINGTLS_E_LANE;
}

static uint64_t any_number(void)
{
	return (uint64_t)any(UINT32_MAX) << any(33);
}

/* A kernel that errs, or that lies. */
static void answer_anything(void)
{
	op.res = once_in(2) ? -any_errno() : 0;
	if (op.res)
		m.broken = due_error();
	else if (op.kind == RINGTLS__OP_KEY)
		new_epoch();
	op.records = any_number();
	op.tcp_bytes = any_number();
	op.queued = any(UINT32_MAX);
	ringtls__tx_complete(&tx, &op);
}

static void answer_control(void)
{
	if (walk_is_wild) {
		op.queued = once_in(8);
		if (once_in(10)) {
			answer_anything();
			return;
		}
	}
	op.res = 0;
	if (op.kind == RINGTLS__OP_OUTPUT) {
		op.records = m.first_record + m.epoch_records;
		op.tcp_bytes = m.base + m.plain + m.records * 22;
		if (once_in(2) && m.plain)
			op.tcp_bytes -= 1 + any(20);
	} else if (op.kind == RINGTLS__OP_KEY) {
		if (once_in(op.rekey ? 50 : 4))
			op.res = -ENOENT;
		else
			new_epoch();
	} else if (op.kind == RINGTLS__OP_ULP && once_in(4)) {
		op.res = -ENOENT;
	}
	if (op.res)
		m.broken = due_error();
	ringtls__tx_complete(&tx, &op);
}

/* Invariant 1, op by op. */
static void judge_op(void)
{
	bool ciphertext = op.kind == RINGTLS__OP_SEND && !m.is_installed;

	assert_true(tx.in_flight);
	if (!ringtls__op_transmits(&op))
		return;
	assert_true(op.len > 0);
	assert_true(m.is_installed || ciphertext);
	assert_int_equal(op.plain, ciphertext);
	if (op.kind != RINGTLS__OP_SENDFILE) {
		size_t sum = 0;

		for (unsigned i = 0; i < op.iovcnt; i++)
			sum += op.iov[i].iov_len;
		assert_int_equal(sum, op.len);
	}
}

/* Something that its lane must not be given. */
static bool holds_a_misfit(void)
{
	bool key = m.is_installed || m.has_key;

	for (size_t i = 0; i < m.count; i++) {
		const struct run *run = &m.runs[i];

		key |= run->kind == RINGTLS__ITEM_KEYS;
		if ((run->kind == RINGTLS__ITEM_WIRE) == key && run->kind != RINGTLS__ITEM_KEYS &&
		    run->kind != RINGTLS__ITEM_CLOSE)
			return true;
		if (run->kind == RINGTLS__ITEM_FILE && !m.is_installed)
			return true;
	}
	return false;
}

/* ---- The walk ---------------------------------------------------------- */

/* Errors that are no answer of ours. */
static bool is_due(int error)
{
	if (error == -m.broken || holds_a_misfit())
		return true;
	if (!walk_is_wild)
		return false;
	return error == RINGTLS_E_KERNEL || error == tx.close_error ||
	       (error == -ENOMEM && m.is_starved);
}

/* Somebody else gave the kernel its key. */
static void adopt(void)
{
	struct ringtls__key key = test_key(TLS_1_3_VERSION, test_ciphers[any(4)], 0);

	op.records = m.first_record = any(1000);
	op.tcp_bytes = m.base;
	tx.want_kernel = true; /* as attach.c has it */
	ringtls__tx_adopt(&tx, &key.u.info, &op);
	m.is_installed = true;
}

static int next(void)
{
	int r;

	if (walk_is_wild && once_in(50)) {
		fake_malloc_fail_at(1);
		m.is_starved = true;
	}
	r = ringtls__tx_next(&tx, &op);
	fake_malloc_fail_at(0);
	return r;
}

void walk_start(void)
{
	machine_setup(NULL);
	memset(&m, 0, sizeof(m));
	tx.want_kernel = !once_in(3);
	tx.may_fall_back = !once_in(4);
	tx.max_records = once_in(2) ? 2 + any(40) : 0;
	m.base = any(100000);
	if (walk_is_wild) {
		tx.close_error = once_in(8) ? RINGTLS_E_REKEY : 0;
		if (once_in(4))
			adopt();
	}
}

void walk_end(void)
{
	if (tx.state == RINGTLS__TX_FAILED || tx.state == RINGTLS__TX_CLOSED)
		assert_null(tx.out.bytes);
	machine_teardown(NULL);
}

bool walk_step(void)
{
	int r;

	if (tx.in_flight) {
		if (ringtls__op_transmits(&op))
			answer_transmit();
		else
			answer_control();
		follow_keys();
		return true;
	}
	if (once_in(2)) {
		add_something();
		return true;
	}
	r = next();
	follow_keys();
	follow_close();
	if (r == 1)
		judge_op();
	else
		assert_false(tx.in_flight);
	if (r < 0) {
		assert_int_equal(r, tx.error);
		assert_true(is_due(r));
		return false;
	}
	if (r == 0 && tx.state != RINGTLS__TX_CLOSED && !tx.rekey_due)
		assert_int_equal(m.count, 0);
	if (r == 0)
		assert_int_equal(ringtls__tx_is_idle(&tx), tx.state == RINGTLS__TX_CLOSED || !m.count);
	if (r == 0 && tx.rekey_due) {
		/* OpenSSL's own application bytes are not overtaken by its KeyUpdate. */
		if (!m.runs[0].is_lent)
			return false;
		add_key();
	}
	return tx.state != RINGTLS__TX_CLOSED;
}
