/* machine.c - see machine.h. */
#include "machine.h"

#define FD 1234

struct ringtls__pool pool;
struct ringtls__tx tx;
struct ringtls__txq inbox;
struct ringtls__op op;
struct ringtls__item item;
struct ringtls__key last_key;
struct opener peer;
uint8_t big[1 << 20];

int machine_setup(void **state)
{
	(void)state;
	memset(&pool, 0, sizeof(pool));
	memset(&item, 0, sizeof(item));
	memset(&op, 0x5a, sizeof(op)); /* what the machine does not fill shows */
	memset(&peer, 0, sizeof(peer));
	fake_malloc_watch(key_pattern, sizeof(key_pattern));
	ringtls__txq_init(&inbox, &pool);
	ringtls__tx_init(&tx, FD, &pool);
	tx.want_kernel = true;
	tx.may_fall_back = true;
	return 0;
}

int machine_teardown(void **state)
{
	(void)state;
	fake_malloc_fail_at(0);
	tx.in_flight = false;
	ringtls__txq_fini(&inbox);
	ringtls__tx_fini(&tx);
	opener_fini(&peer);
	assert_int_equal(pool.in_use, 0);
	ringtls__pool_fini(&pool);
	/* Invariant 8, in every test of this file. */
	assert_int_equal(fake_malloc_leaks, 0);
	fake_malloc_watch(NULL, 0);
	return 0;
}

/* ---- What is queued ---------------------------------------------------- */

void put(enum ringtls__item_kind kind, uint8_t type, const char *text)
{
	assert_int_equal(ringtls__txq_copy(&tx.q, kind, type, text, strlen(text), 0), 0);
}

void put_wire(const char *text)
{
	put(RINGTLS__ITEM_WIRE, 0, text);
}

void put_record(uint8_t type, const char *text)
{
	put(RINGTLS__ITEM_RECORD, type, text);
}

void put_key_of(uint16_t version, uint16_t cipher, uint64_t seq)
{
	last_key = test_key(version, cipher, seq);
	assert_int_equal(ringtls__txq_key(&tx.q, &last_key), 0);
}

void put_key(void)
{
	put_key_of(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 0);
}

void put_close(void)
{
	assert_int_equal(ringtls__txq_close(&tx.q), 0);
}

void lend(const void *bytes, size_t len)
{
	item.kind = RINGTLS__ITEM_DATA;
	item.owned = false;
	item.bytes = bytes;
	item.len = len;
	item.done = 0;
	ringtls__txq_push(&tx.q, &item);
}

void lend_file(off_t offset, size_t len)
{
	item.kind = RINGTLS__ITEM_FILE;
	item.owned = false;
	item.file = 77;
	item.offset = offset;
	item.len = len;
	item.done = 0;
	ringtls__txq_push(&tx.q, &item);
}

/* ---- What is asked, and answered --------------------------------------- */

void expect_op(enum ringtls__op_kind kind)
{
	assert_int_equal(ringtls__tx_next(&tx, &op), 1);
	assert_int_equal(op.kind, kind);
	assert_int_equal(op.fd, FD);
	assert_false(op.done);
}

void answer(ssize_t res)
{
	op.res = res;
	op.done = true;
	ringtls__tx_complete(&tx, &op);
}

/* The bytes that a transmit op asks for, and that its sum is right. */
static const char *asked(void)
{
	static char text[4096];
	size_t n = 0;

	for (unsigned i = 0; i < op.iovcnt; i++) {
		assert_true(op.iov[i].iov_len > 0 && n + op.iov[i].iov_len < sizeof(text));
		memcpy(text + n, op.iov[i].iov_base, op.iov[i].iov_len);
		n += op.iov[i].iov_len;
	}
	text[n] = '\0';
	assert_int_equal(op.len, n);
	return text;
}

void expect_bytes(enum ringtls__op_kind kind, const char *text)
{
	expect_op(kind);
	assert_string_equal(asked(), text);
}

void expect_idle(void)
{
	assert_int_equal(ringtls__tx_next(&tx, &op), 0);
	assert_false(tx.in_flight);
}

void expect_failed(int error)
{
	assert_int_equal(tx.state, RINGTLS__TX_FAILED);
	assert_int_equal(tx.error, error);
	assert_int_equal(ringtls__tx_next(&tx, &op), error);
	assert_null(tx.q.head);
	assert_null(tx.out.bytes);
	assert_null(tx.sealer);
	assert_int_equal(pool.in_use, 0);
}

/* Takes n bytes of the op, as the peer's socket would. */
void take(size_t n)
{
	size_t left = n;

	for (unsigned i = 0; i < op.iovcnt && left; i++) {
		size_t part = op.iov[i].iov_len < left ? op.iov[i].iov_len : left;

		opener_feed(&peer, op.iov[i].iov_base, part);
		left -= part;
	}
	answer((ssize_t)n);
}

void expect_record(uint8_t type, const char *text)
{
	assert_true(opener_next(&peer));
	assert_int_equal(peer.type, type);
	assert_int_equal(peer.text_len, strlen(text));
	assert_memory_equal(peer.text, text, peer.text_len);
}

/* ---- Into each state, by the shortest way ------------------------------ */

void reach_kernel_with(uint16_t version, uint16_t cipher, uint64_t seq)
{
	put_key_of(version, cipher, seq);
	expect_op(RINGTLS__OP_ULP);
	answer(0);
	expect_op(RINGTLS__OP_KEY);
	op.tcp_bytes = 1000;
	answer(0);
	assert_int_equal(tx.state, RINGTLS__TX_KERNEL);
}

void reach_kernel(void)
{
	reach_kernel_with(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 0);
}

void reach_user(void)
{
	tx.want_kernel = false;
	put_key();
	expect_idle();
	assert_int_equal(tx.state, RINGTLS__TX_USER);
	opener_set_key(&peer, &last_key);
}

void send_one(void)
{
	lend("x", 1);
	expect_op(RINGTLS__OP_SEND);
	answer(1);
}

/* With the op of that state in flight, where it has one. */
void reach(enum ringtls__tx_state state)
{
	switch (state) {
	case RINGTLS__TX_CLEAR:
	case RINGTLS__TX_STATES:
		break;
	case RINGTLS__TX_ULP:
		put_key();
		expect_op(RINGTLS__OP_ULP);
		break;
	case RINGTLS__TX_KEY:
		reach(RINGTLS__TX_ULP);
		answer(0);
		expect_op(RINGTLS__OP_KEY);
		break;
	case RINGTLS__TX_KERNEL:
		reach_kernel();
		break;
	case RINGTLS__TX_COUNT:
		tx.max_records = 1;
		reach_kernel();
		send_one();
		lend("data", 4);
		expect_op(RINGTLS__OP_OUTPUT);
		break;
	case RINGTLS__TX_REKEY:
		reach_kernel();
		put_key();
		expect_op(RINGTLS__OP_KEY);
		break;
	case RINGTLS__TX_USER:
		reach_user();
		break;
	case RINGTLS__TX_DRAIN:
		reach_kernel();
		put_close();
		expect_op(RINGTLS__OP_OUTPUT);
		break;
	case RINGTLS__TX_DRAIN_WAIT:
		reach(RINGTLS__TX_DRAIN);
		op.tcp_bytes = 999 + 22;
		op.records = 1; /* of which TCP has not all */
		answer(0);
		expect_op(RINGTLS__OP_POLL);
		break;
	case RINGTLS__TX_CLOSED:
		put_close();
		expect_idle();
		break;
	case RINGTLS__TX_FAILED:
		ringtls__tx_fail(&tx, -EIO);
		break;
	}
	assert_int_equal(tx.state, state);
}
