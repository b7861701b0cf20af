/*
 * serve.c - the request handling of ringtls-serve: the bytes of a connection become
 * requests, paths, files and answers, as src/tools/serve_conn.c puts them together. The
 * first byte says how the bytes are cut; the rest is what a client sends.
 *
 * No path and no file leaves the root, each answer is well formed, and neither how the bytes were
 * cut nor that files are kept open from one answer to another changes anything.
 */
#include "fuzz.h"

#include <ctype.h>
#include <ftw.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/serve_answer.h"
#include "tools/serve_cache.h"
#include "tools/serve_file.h"
#include "tools/serve_types.h"

#define NOW	1700000000
#define ANSWERS 32 /* of one input */
#define SECRET	"outside of the root"

const char fuzz_target[] = "serve";

static struct serve_site site;
static struct serve_cache cache;
static char home[4096]; /* of the root, and of what is outside of it */

/* ---- The folder ------------------------------------------------------------- */

static void write_file(const char *name, const char *text, size_t pad)
{
	char path[sizeof(home) + 64];
	struct timespec times[2] = {{NOW - 1000, 0}, {NOW - 1000, 0}};
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", home, name);
	file = fopen(path, "w");
	fuzz_check(file && fputs(text, file) >= 0);
	for (size_t i = 0; i < pad; i++)
		fputc('a' + (int)(i % 26), file);
	fuzz_check(fclose(file) == 0);
	fuzz_check(utimensat(AT_FDCWD, path, times, 0) == 0);
}

static void make_folder(const char *name)
{
	char path[sizeof(home) + 64];

	snprintf(path, sizeof(path), "%s/%s", home, name);
	fuzz_check(mkdir(path, 0755) == 0);
}

static void make_link(const char *to, const char *name)
{
	char path[sizeof(home) + 64];

	snprintf(path, sizeof(path), "%s/%s", home, name);
	fuzz_check(symlink(to, path) == 0);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

static void remove_home(void)
{
	nftw(home, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void fuzz_prepare(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[sizeof(home) + 64];

	snprintf(path, sizeof(path), "%s/ringtls-fuzz-XXXXXX", tmp ? tmp : "/tmp");
	fuzz_check(mkdtemp(path) && realpath(path, home));
	atexit(remove_home);
	make_folder("root");
	make_folder("root/d");
	make_folder("root/e");
	make_folder("root/x y");
	write_file("secret", SECRET, 0);
	write_file("root/index.html", "<p>index", 0);
	write_file("root/a", "", 10);
	write_file("root/b.txt", "", 20000); /* more than goes out with its head */
	write_file("root/empty", "", 0);
	write_file("root/d/index.html", "<p>d", 0);
	write_file("root/x y/%41", "", 3);
	write_file("root/...", "", 5);
	make_link("a", "root/in");
	make_link("../a", "root/d/in");
	make_link("../secret", "root/out");
	make_link("/etc/passwd", "root/abs");
	make_link("..", "root/up");
	make_link("/proc/self/root", "root/magic");
	make_link("loop", "root/loop");
	snprintf(path, sizeof(path), "%s/root/fifo", home);
	fuzz_check(mkfifo(path, 0644) == 0);
	snprintf(path, sizeof(path), "%s/root", home);
	site.root = serve_root_open(path);
	site.types = serve_types_new("/nowhere");
	fuzz_check(site.root >= 0 && site.types);
}

/* ---- Paths --------------------------------------------------------------------- */

static void judge_segments(const char *name)
{
	while (*name) {
		size_t n = strcspn(name, "/");

		fuzz_check(n > 0);
		fuzz_check(n != 1 || name[0] != '.');
		fuzz_check(n != 2 || name[0] != '.' || name[1] != '.');
		name += n;
		fuzz_check(!*name || name[1]);
		name += *name == '/';
	}
}

/* It stays inside, and what a redirection would name is the same path. */
static void judge_path(const char *target)
{
	static char encoded[3 * PATH_MAX + 2];
	struct serve_path path, again;

	if (serve_path_parse(target, &path))
		return;
	fuzz_check(strlen(path.name) == path.len && path.len < sizeof(path.name));
	judge_segments(path.name);
	serve_path_encode(&path, encoded);
	for (const char *at = encoded; *at; at++)
		fuzz_check(isalnum((unsigned char)*at) || strchr("/-._~!$&'()*+,;=:@%", *at));
	fuzz_check(serve_path_parse(encoded, &again) == 0);
	fuzz_check(!strcmp(path.name, again.name));
}

static void judge_file(int fd)
{
	char name[64], path[4096], root[sizeof(home) + 8];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	n = readlink(name, path, sizeof(path) - 1);
	fuzz_check(n > 0);
	path[n] = '\0';
	snprintf(root, sizeof(root), "%s/root/", home);
	fuzz_check(!strncmp(path, root, strlen(root)));
}

/* ---- Answers --------------------------------------------------------------------- */

struct head {
	int status;
	size_t len; /* with the empty line */
	bool has_length, has_range, has_date, has_location;
	uint64_t length;
	unsigned connections; /* fields of that name */
	bool says_close;
};

static bool is_field(const char *line, const char *name)
{
	return !strncmp(line, name, strlen(name)) && !strncmp(line + strlen(name), ": ", 2);
}

static void read_field(struct head *head, const char *line)
{
	const char *value = line + strcspn(line, ":");

	fuzz_check(value > line && value[0] == ':' && value[1] == ' ' && value[2]);
	for (const char *at = line; at < value; at++)
		fuzz_check(isalpha((unsigned char)*at) || *at == '-');
	value += 2;
	if (is_field(line, "Content-Length")) {
		fuzz_check(!head->has_length);
		head->has_length = true;
		head->length = strtoull(value, NULL, 10);
	}
	head->has_range |= is_field(line, "Content-Range");
	head->has_date |= is_field(line, "Date");
	head->has_location |= is_field(line, "Location");
	if (is_field(line, "Connection")) {
		head->connections++;
		head->says_close = !strcmp(value, "close");
	}
}

/* A line without its end: printable, and no NUL, CR or LF in it. */
static size_t read_line(const char *text, size_t len, char *line, size_t size)
{
	size_t n = 0;

	while (n < len && text[n] != '\r') {
		unsigned char ch = (unsigned char)text[n];

		fuzz_check(ch >= ' ' && ch != 0x7f && n + 1 < size);
		line[n++] = (char)ch;
	}
	line[n] = '\0';
	fuzz_check(n + 2 <= len && text[n + 1] == '\n');
	return n + 2;
}

static void read_head(const struct serve_answer *answer, struct head *head)
{
	static char line[4 * PATH_MAX + 2 * SERVE_TARGET_MAX];
	size_t at = read_line(answer->text, answer->len, line, sizeof(line));

	memset(head, 0, sizeof(*head));
	fuzz_check(!strncmp(line, "HTTP/1.1 ", 9) && strlen(line) > 13 && line[12] == ' ');
	head->status = atoi(line + 9);
	for (;;) {
		at += read_line(answer->text + at, answer->len - at, line, sizeof(line));
		if (!*line)
			break;
		read_field(head, line);
	}
	head->len = at;
}

static void judge_body(const struct serve_request *req, const struct serve_answer *answer,
		       const struct head *head)
{
	uint64_t body = answer->len - head->len;

	fuzz_check(body == answer->body);
	if (req->method == SERVE_HEAD || head->status == 304)
		fuzz_check(body == 0 && answer->left == 0);
	else
		fuzz_check(head->length == body + answer->left);
	fuzz_check(head->has_length == (head->status != 304));
	fuzz_check(head->has_range == (head->status == 206 || head->status == 416));
	fuzz_check(!body || !memmem(answer->text + head->len, body, SECRET, strlen(SECRET)));
	fuzz_check(!answer->left || answer->file.fd >= 0);
	if (answer->file.fd >= 0) {
		struct stat st;

		judge_file(answer->file.fd);
		fuzz_check(fstat(answer->file.fd, &st) == 0 && S_ISREG(st.st_mode));
		fuzz_check(answer->offset >= 0 &&
			   (uint64_t)answer->offset + answer->left <= (uint64_t)st.st_size);
	}
}

static void judge_answer(const struct serve_request *req, const struct serve_answer *answer)
{
	struct head head;

	read_head(answer, &head);
	fuzz_check(head.status == answer->status && head.status >= 200 && head.status < 600);
	fuzz_check(head.has_date && head.has_location == (head.status == 301));
	fuzz_check(head.connections <= 1 && head.says_close == answer->close);
	fuzz_check(answer->close || req->minor == 1 || head.connections == 1);
	/* Where one answer follows another, both sides agree where a request ends. */
	if (req->refused)
		fuzz_check(answer->close && head.status == req->refused);
	if (serve_request_field(req, SERVE_TRANSFER_ENCODING))
		fuzz_check(answer->close);
	if (!answer->close)
		fuzz_check(req->major == 1 && req->minor <= 1);
	judge_body(req, answer, &head);
}

/* ---- A connection ------------------------------------------------------------------ */

/* What the client gets: a hash of each answer's head and short body, and what follows. */
struct trace {
	unsigned count;
	uint64_t hashes[ANSWERS];
	bool is_open;
};

static uint64_t hash(const char *bytes, size_t len, uint64_t h)
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)bytes[i]) * 1099511628211u;
	return h;
}

/* False: it was the last. */
static bool answer_one(const struct serve_request *req, struct trace *trace)
{
	struct serve_answer answer;
	bool goes_on;

	fuzz_check(serve_answer_make(&site, req, false, NOW, &answer));
	if (site.cache && trace->count % 4 == 3) /* while the answer has a file of it */
		serve_cache_expire(&cache, NOW + trace->count % 3);
	judge_path(serve_request_target(req));
	judge_answer(req, &answer);
	trace->hashes[trace->count++] = hash(answer.text, answer.len, answer.left * 31 + 7);
	goes_on = !answer.close && trace->count < ANSWERS;
	serve_answer_fini(&answer);
	return goes_on;
}

static void judge_late(const struct serve_request *req)
{
	struct serve_answer answer;
	struct head head;

	fuzz_check(serve_answer_error(req, 408, NOW, &answer));
	read_head(&answer, &head);
	fuzz_check(head.status == 408 && head.says_close && answer.close);
	serve_answer_fini(&answer);
}

/* In pieces of up to most bytes. */
static void serve(const char *data, size_t size, size_t most, struct trace *trace)
{
	struct serve_request req;

	memset(trace, 0, sizeof(*trace));
	trace->is_open = true;
	serve_request_init(&req);
	while (size && trace->is_open) {
		size_t used, n = size < most ? size : most;
		char *piece = malloc(n);
		bool is_ready;

		fuzz_check(piece);
		memcpy(piece, data, n);
		is_ready = serve_request_feed(&req, piece, n, &used);
		free(piece); /* nothing of it is looked at again */
		fuzz_check(used <= n && (is_ready || used == n));
		data += used;
		size -= used;
		if (!is_ready)
			continue;
		trace->is_open = answer_one(&req, trace);
		serve_request_fini(&req);
		serve_request_init(&req);
	}
	if (trace->is_open)
		judge_late(&req);
	serve_request_fini(&req);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct trace whole, cut;

	if (!size)
		return 0;
	serve((const char *)data + 1, size - 1, size, &whole);
	site.cache = &cache;
	cache.valid_s = data[0] / 64; /* 0: as without it */
	serve((const char *)data + 1, size - 1, 1 + data[0] % 64, &cut);
	serve_cache_clear(&cache);
	site.cache = NULL;
	fuzz_check(!cache.count);
	fuzz_check(whole.count == cut.count && whole.is_open == cut.is_open);
	fuzz_check(!memcmp(whole.hashes, cut.hashes, sizeof(whole.hashes)));
	return 0;
}
