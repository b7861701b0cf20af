/* kernel.c - see kernel.h. */
#include "config.h"
#include "support.h"
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include "keys.h"
#include "op.h"
#include "opener.h"
#include "sys.h"

#define SMALL_BUFFER   8192
#define DELAYED_ACK_MS 250

uint8_t kernel_bytes[KERNEL_BYTES];

/* ---- Small things ------------------------------------------------------ */

void nap(unsigned ms)
{
	const struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

int64_t clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

void set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	assert_int_equal(
		fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK), 0);
}

int temp_file(size_t len)
{
	char name[] = "/tmp/ringtls-test-XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	for (size_t n; len; len -= n) {
		n = len < KERNEL_BYTES ? len : KERNEL_BYTES;
		assert_int_equal(write(fd, kernel_bytes, n), n);
	}
	return fd;
}

const char *outcome(ssize_t res)
{
	static char number[32];
	const char *name = res < 0 ? strerrorname_np((int)-res) : "taken";

	if (name)
		return name;
	snprintf(number, sizeof(number), "error %d", (int)-res);
	return number;
}

static void add(struct bytes *b, const void *at, size_t len)
{
	if (b->room - b->len < len) {
		b->room = b->room * 2 + len;
		b->at = realloc(b->at, b->room);
		assert_non_null(b->at);
	}
	if (len)
		memcpy(b->at + b->len, at, len);
	b->len += len;
}

/* ---- Connections ------------------------------------------------------- */

void line_open(struct line *l, enum line_size size)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = SMALL_BUFFER;
	const int one = 1;
	socklen_t len = sizeof(to);

	memset(l, 0, sizeof(*l));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (size == SMALL) { /* before the connection is made */
		setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		setsockopt(l->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	}
	assert_int_equal(bind(listener, (struct sockaddr *)&to, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&to, &len), 0);
	assert_int_equal(connect(l->fd, (struct sockaddr *)&to, len), 0);
	l->peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(l->peer >= 0);
	close(listener);
	setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	set_blocking(l->fd, false);
}

void line_close(struct line *l)
{
	if (l->fd >= 0)
		close(l->fd);
	if (l->peer >= 0)
		close(l->peer);
	free(l->given.at);
	free(l->wire.at);
	free(l->plain.at);
}

int line_ulp(struct line *l)
{
	return setsockopt(l->fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0 ? -errno : 0;
}

/* ---- Keys -------------------------------------------------------------- */

/* Every seed another key, so that no epoch is taken for another. */
struct ringtls__key make_key(uint16_t version, uint16_t cipher, uint8_t seed)
{
	struct ringtls__key key = test_key(version, cipher, 0);
	uint8_t *at = (uint8_t *)&key.u + sizeof(key.u.info);

	while (at < key_seq_bytes(&key))
		*at++ ^= seed;
	return key;
}

static struct ringtls__op run_control(const struct line *l, enum ringtls__op_kind kind,
				      const struct ringtls__key *key)
{
	struct ringtls__op op;

	memset(&op, 0, sizeof(op));
	op.kind = kind;
	op.fd = l->fd;
	op.key = key;
	op.has = &l->keys[0].u.info;
	op.rekey = l->epochs > 0;
	ringtls__control_run(&op, &ringtls__sys_real);
	return op;
}

static struct ringtls__op output(const struct line *l)
{
	struct ringtls__op op = run_control(l, RINGTLS__OP_OUTPUT, &l->keys[l->epochs - 1]);

	assert_int_equal(op.res, 0);
	return op;
}

int line_output_error(const struct line *l)
{
	return (int)run_control(l, RINGTLS__OP_OUTPUT, &l->keys[l->epochs - 1]).res;
}

int line_key(struct line *l, const struct ringtls__key *key)
{
	struct ringtls__op op = run_control(l, RINGTLS__OP_KEY, key);

	if (op.res < 0)
		return (int)op.res;
	assert_true(l->epochs < KERNEL_EPOCHS);
	if (l->epochs)
		l->before += op.records - l->first;
	else
		l->tcp_base = op.tcp_bytes;
	l->starts[l->epochs] = l->before;
	l->keys[l->epochs++] = *key;
	l->first = ringtls__key_seq(key);
	return 0;
}

void line_install(struct line *l, uint16_t version, uint16_t cipher)
{
	struct ringtls__key key = make_key(version, cipher, (uint8_t)(l->epochs + 1));

	if (!l->epochs)
		assert_int_equal(line_ulp(l), 0);
	assert_int_equal(line_key(l, &key), 0);
}

void line_sealed(struct line *l, enum line_size size)
{
	need("ktls", has_ktls());
	line_open(l, size);
	line_install(l, TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128);
}

/* ---- Sending ----------------------------------------------------------- */

void line_gave(struct line *l, const void *bytes, size_t len)
{
	add(&l->given, bytes, len);
}

ssize_t line_send(struct line *l, const void *bytes, size_t len, int flags)
{
	ssize_t n = send(l->fd, bytes, len, flags | MSG_NOSIGNAL);

	if (n < 0)
		return -errno;
	line_gave(l, bytes, (size_t)n);
	return n;
}

void fill_record(struct msghdr *msg, struct iovec *iov, void *control, uint8_t type)
{
	struct cmsghdr *cmsg;

	memset(msg, 0, sizeof(*msg));
	memset(control, 0, RECORD_CONTROL);
	msg->msg_iov = iov;
	msg->msg_iovlen = 1;
	msg->msg_control = control;
	msg->msg_controllen = RECORD_CONTROL;
	cmsg = CMSG_FIRSTHDR(msg);
	cmsg->cmsg_level = SOL_TLS;
	cmsg->cmsg_type = TLS_SET_RECORD_TYPE;
	cmsg->cmsg_len = CMSG_LEN(sizeof(uint8_t));
	*CMSG_DATA(cmsg) = type;
}

ssize_t line_record(struct line *l, uint8_t type, const void *bytes, size_t len, int flags)
{
	_Alignas(struct cmsghdr) uint8_t control[RECORD_CONTROL];
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr msg;
	ssize_t n;

	fill_record(&msg, &iov, control, type);
	n = sendmsg(l->fd, &msg, flags | MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	line_gave(l, bytes, (size_t)n);
	return n;
}

void line_send_whole(struct line *l, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t n = line_send(l, bytes, len, 0);

		if (n < 0) {
			assert_int_equal(n, -EAGAIN);
			line_peer_reads(l);
			continue;
		}
		bytes += n;
		len -= (size_t)n;
	}
}

void line_alert(struct line *l)
{
	static const uint8_t close_notify[] = { 1, 0 };
	ssize_t n;

	while ((n = line_record(l, RINGTLS__RECORD_ALERT, close_notify, 2, 0)) == -EAGAIN)
		line_peer_reads(l);
	assert_int_equal(n, 2);
}

void line_fill(struct line *l, size_t len)
{
	size_t before;
	ssize_t n;

	do { /* there is a little more room until the last delayed acknowledgement */
		before = l->given.len;
		while ((n = line_send(l, kernel_bytes, len, 0)) > 0)
			;
		assert_int_equal(n, -EAGAIN);
		nap(DELAYED_ACK_MS);
	} while (l->given.len != before);
}

uint64_t line_seq(const struct line *l)
{
	return output(l).records;
}

uint64_t line_in_tcp(const struct line *l)
{
	return output(l).tcp_bytes - l->tcp_base;
}

uint64_t line_sealed_bytes(const struct line *l)
{
	uint64_t records = l->before + line_seq(l) - l->first;

	return l->given.len + records * ringtls__key_overhead(&l->keys[0].u.info);
}

/* ---- Receiving --------------------------------------------------------- */

size_t line_peer_reads(struct line *l)
{
	static uint8_t buf[65536];
	size_t before = l->wire.len;
	ssize_t n;

	while ((n = recv(l->peer, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		add(&l->wire, buf, (size_t)n);
	l->ended = l->ended || n == 0 || errno != EAGAIN;
	return l->wire.len - before;
}

void line_peer_reads_to_end(struct line *l)
{
	struct pollfd pfd = { .fd = l->peer, .events = POLLIN };

	while (!l->ended) {
		assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
		line_peer_reads(l);
	}
}

/* A byte that is acknowledged between the two questions is missed: errs low. */
bool line_is_drained(const struct line *l)
{
	uint64_t given = line_in_tcp(l), sealed = line_sealed_bytes(l);

	assert_true(given <= sealed);
	return given == sealed;
}

void line_drain(struct line *l)
{
	int64_t end = clock_ms() + PATIENCE_MS;

	while (!line_is_drained(l)) {
		struct pollfd pfd = { .fd = l->peer, .events = POLLIN };

		assert_true(clock_ms() < end);
		poll(&pfd, 1, 5);
		line_peer_reads(l);
	}
}

void line_finish(struct line *l)
{
	uint64_t sealed = line_sealed_bytes(l);

	line_drain(l);
	assert_int_equal(shutdown(l->fd, SHUT_WR), 0);
	line_peer_reads_to_end(l);
	line_open_records(l);
	assert_int_equal(l->wire.len, sealed);
	assert_int_equal(l->cut, 0);
	assert_int_equal(l->plain.len, l->given.len);
	if (l->given.len)
		assert_memory_equal(l->plain.at, l->given.at, l->given.len);
}

/* The record and what follows it up to its length; the rest stays. */
static size_t feed_record(struct opener *o, const struct bytes *wire, size_t at)
{
	size_t len = RINGTLS__HEADER_LEN;

	if (wire->len - at < len)
		return 0;
	len += (size_t)wire->at[at + 3] << 8 | wire->at[at + 4];
	if (wire->len - at < len)
		return 0;
	opener_feed(o, wire->at + at, len);
	return len;
}

void line_open_records(struct line *l)
{
	struct opener o = { .ctx = NULL };
	unsigned epoch = 0;
	size_t at = 0, len;

	l->record_count = l->plain.len = 0;
	opener_set_key(&o, &l->keys[0]);
	while ((len = feed_record(&o, &l->wire, at)) > 0) {
		while (epoch + 1 < l->epochs && l->record_count == l->starts[epoch + 1])
			opener_set_key(&o, &l->keys[++epoch]);
		assert_true(opener_next(&o));
		assert_true(l->record_count < KERNEL_RECORDS);
		l->records[l->record_count++] =
			(struct opened_record){ .type = o.type, .epoch = epoch, .len = o.text_len };
		add(&l->plain, o.text, o.text_len);
		at += len;
	}
	l->cut = l->wire.len - at;
	opener_fini(&o);
}

void line_expect(const struct line *l, size_t i, uint8_t type, size_t len)
{
	assert_true(i < l->record_count);
	assert_int_equal(l->records[i].type, type);
	assert_int_equal(l->records[i].len, len);
}

/* ---- What there is ----------------------------------------------------- */

/* 1 when times keys in a row are taken. */
static bool takes_keys(int times)
{
	struct ringtls__key key = make_key(TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, 1);
	struct line l;
	int r;

	line_open(&l, LARGE);
	r = line_ulp(&l);
	while (!r && times-- > 0)
		r = line_key(&l, &key);
	line_close(&l);
	return r == 0;
}

bool has_ktls(void)
{
	static int known = -1;

	if (known < 0)
		known = takes_keys(1);
	return known;
}

bool has_rekey(void)
{
	static int known = -1;

	if (known < 0)
		known = takes_keys(2);
	return known;
}

bool has_uring(void)
{
	static int known = -1;
	struct io_uring ring;

	if (known < 0) {
		known = io_uring_queue_init(2, &ring, 0) == 0;
		if (known)
			io_uring_queue_exit(&ring);
	}
	return known;
}

/* ---- The table --------------------------------------------------------- */

/* The cell of a line of the table, without the blanks around it; "" when there is
 * none. Cell 0 is left of the first bar. */
static void get_cell(const char *line, int cell, char *ret, size_t room)
{
	size_t len;

	while (cell-- > 0 && line)
		line = strchr(line + 1, '|');
	ret[0] = '\0';
	if (!line || *line != '|')
		return;
	line += 1 + strspn(line + 1, " ");
	len = strcspn(line, "|\n");
	while (len && line[len - 1] == ' ')
		len--;
	if (len < room) {
		memcpy(ret, line, len);
		ret[len] = '\0';
	}
}

/* The cell for this kernel and name, "" when there is none. */
static void look_up(FILE *table, const char *name, char *ret, size_t room)
{
	char line[1024], cell[256] = "";
	struct utsname host;
	int column = 0;

	ret[0] = '\0';
	uname(&host);
	while (fgets(line, sizeof(line), table)) {
		get_cell(line, 0, cell, sizeof(cell));
		for (int i = 1; !strcmp(cell, "behaviour") && i < 16; i++) {
			get_cell(line, i, ret, room);
			if (!strcmp(ret, host.release))
				column = i;
		}
		ret[0] = '\0';
		if (column && !strcmp(cell, name)) {
			get_cell(line, column, ret, room);
			return;
		}
	}
}

static void compare(const char *name, const char *value)
{
	const char *top = getenv("abs_top_srcdir");
	char path[1024], told[256];
	FILE *table;

	if (!top || getenv("RINGTLS_NEW_TABLE"))
		return;
	snprintf(path, sizeof(path), "%s/kmod-notes/table.md", top);
	table = fopen(path, "r");
	if (!table)
		return;
	look_up(table, name, told, sizeof(told));
	fclose(table);
	if (told[0] && strcmp(told, value))
		fail_msg("%s: this kernel: %s, kmod-notes/table.md: %s", name, value, told);
}

void behaviour(const char *name, const char *format, ...)
{
	char value[256];
	va_list args;

	va_start(args, format);
	vsnprintf(value, sizeof(value), format, args);
	va_end(args);
	print_message("# behaviour: %s: %s\n", name, value);
	compare(name, value);
}
