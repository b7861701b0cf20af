/*
 * replay.c - stands in for libFuzzer: each input runs once, and is a test. Inputs are the
 * files and folders named by the arguments; without any, the target's corpus.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define INPUTS 4096

static char *names[INPUTS];
static size_t count;

static void give_up(const char *name)
{
	fprintf(stderr, "%s: %s\n", name, strerror(errno));
	exit(2);
}

static void add(char *name)
{
	if (count == INPUTS) {
		errno = E2BIG;
		give_up(name);
	}
	names[count++] = name;
}

static void add_folder(const char *folder)
{
	struct dirent **entries;
	int n = scandir(folder, &entries, NULL, alphasort);

	if (n < 0)
		give_up(folder);
	for (int i = 0; i < n; i++) {
		char *name;

		if (entries[i]->d_name[0] != '.') {
			if (asprintf(&name, "%s/%s", folder, entries[i]->d_name) < 0)
				give_up(folder);
			add(name);
		}
		free(entries[i]);
	}
	free(entries);
}

static void add_any(const char *name)
{
	struct stat st;

	if (stat(name, &st) < 0)
		give_up(name);
	if (S_ISDIR(st.st_mode))
		add_folder(name);
	else
		add(strdup(name));
}

static void add_corpus(void)
{
	const char *top = getenv("abs_top_srcdir");
	char folder[4096];

	snprintf(folder, sizeof(folder), "%s/tests/fuzz/corpus/%s", top ? top : ".", fuzz_target);
	add_folder(folder);
}

/* In memory of just its size, so that one byte too far is seen. */
static void run(const char *name)
{
	FILE *file = fopen(name, "rb");
	struct stat st;
	uint8_t *data;

	if (!file || fstat(fileno(file), &st) < 0)
		give_up(name);
	data = malloc((size_t)st.st_size + !st.st_size);
	if (!data || fread(data, 1, (size_t)st.st_size, file) != (size_t)st.st_size)
		give_up(name);
	fclose(file);
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	free(data);
}

int main(int argc, char **argv)
{
	LLVMFuzzerInitialize(&argc, &argv);
	for (int i = 1; i < argc; i++)
		add_any(argv[i]);
	if (argc == 1)
		add_corpus();
	if (!count) {
		fprintf(stderr, "there is no input\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0); /* the name of an input that ends us is seen */
	printf("1..%zu\n", count);
	for (size_t i = 0; i < count; i++) {
		printf("# %s\n", names[i]);
		run(names[i]);
		printf("ok %zu - %s %s\n", i + 1, fuzz_target, strrchr(names[i], '/') ?
		       strrchr(names[i], '/') + 1 : names[i]);
		free(names[i]);
	}
	return 0;
}
