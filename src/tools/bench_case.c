/* bench_case.c - the table of cases. */
#include "config.h"
#include "bench.h"

#include <fnmatch.h>
#include <string.h>

#define KIB 1024u
#define MIB (1024u * KIB)

#define WRITES(id, n, bytes, words)                                                                \
	{                                                                                          \
		.name = id, .text = words, .kind = BENCH_WRITES, .conns = n, .size = bytes         \
	}
#define FILES(id, n, bytes, words)                                                                 \
	{                                                                                          \
		.name = id, .text = words, .kind = BENCH_FILES, .conns = n, .size = bytes          \
	}
#define COLD(id, n, bytes, words)                                                                  \
	{                                                                                          \
		.name = id, .text = words, .kind = BENCH_FILES, .conns = n, .size = bytes,         \
		.cold = true                                                                       \
	}

const struct bench_case bench_cases[] = {
	WRITES("write-1k", 1, KIB, "one connection, writes of 1 KiB"),
	WRITES("write-4k", 1, 4 * KIB, "one connection, writes of 4 KiB"),
	WRITES("write-16k", 1, 16 * KIB, "one connection, writes of 16 KiB"),
	WRITES("write-64k", 1, 64 * KIB, "one connection, writes of 64 KiB"),
	WRITES("write-256k", 1, 256 * KIB, "one connection, writes of 256 KiB"),
	WRITES("write-1m", 1, MIB, "one connection, writes of 1 MiB"),
	WRITES("many64-1k", 64, KIB, "64 connections, writes of 1 KiB"),
	WRITES("many64-4k", 64, 4 * KIB, "64 connections, writes of 4 KiB"),
	WRITES("many64-16k", 64, 16 * KIB, "64 connections, writes of 16 KiB"),
	WRITES("many512-1k", 512, KIB, "512 connections, writes of 1 KiB"),
	WRITES("many512-4k", 512, 4 * KIB, "512 connections, writes of 4 KiB"),
	WRITES("many512-16k", 512, 16 * KIB, "512 connections, writes of 16 KiB"),
	FILES("file-4k", 1, 4 * KIB, "one connection, a file of 4 KiB"),
	FILES("file-16k", 1, 16 * KIB, "one connection, a file of 16 KiB"),
	FILES("file-64k", 1, 64 * KIB, "one connection, a file of 64 KiB"),
	FILES("file-256k", 1, 256 * KIB, "one connection, a file of 256 KiB"),
	FILES("file-1m", 1, MIB, "one connection, a file of 1 MiB"),
	FILES("file-16m", 1, 16 * MIB, "one connection, a file of 16 MiB"),
	FILES("file-128m", 1, 128 * MIB, "one connection, a file of 128 MiB"),
	FILES("file-1g", 1, 1024 * MIB, "one connection, a file of 1 GiB"),
	FILES("files64-16k", 64, 16 * KIB, "64 connections, a file of 16 KiB"),
	FILES("files64-1m", 64, MIB, "64 connections, a file of 1 MiB"),
	COLD("cold-1m", 1, MIB, "one connection, a file of 1 MiB that is not in memory"),
	COLD("cold-128m", 1, 128 * MIB, "one connection, a file of 128 MiB that is not in memory"),
	{.name = "rate-16k",
	 .text = "64 connections, 4000 writes of 16 KiB a second in all",
	 .kind = BENCH_LATENCY,
	 .conns = 64,
	 .size = 16 * KIB,
	 .rate = 4000,
	 .rated = 64},
	{.name = "mix-1k",
	 .text = "2000 writes of 1 KiB a second on one connection, while 8 others send in bulk by "
		 "writes of 64 KiB",
	 .kind = BENCH_LATENCY,
	 .conns = 9,
	 .size = KIB,
	 .rate = 2000,
	 .rated = 1,
	 .bulk = 64 * KIB},
	{.name = "mix-cold",
	 .text = "2000 writes of 1 KiB a second on one connection, while another sends a file of "
		 "16 MiB that is not in memory",
	 .kind = BENCH_LATENCY,
	 .conns = 2,
	 .size = KIB,
	 .cold = true,
	 .rate = 2000,
	 .rated = 1,
	 .bulk = 16 * MIB},
};

const size_t bench_case_count = BENCH_COUNT(bench_cases);

bool bench_matches(const char *patterns, const char *name)
{
	char copy[256], *save = NULL;

	if (!patterns)
		return true;
	if (strlen(patterns) >= sizeof(copy))
		return false;
	memcpy(copy, patterns, strlen(patterns) + 1);
	for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save))
		if (!fnmatch(p, name, 0))
			return true;
	return false;
}
