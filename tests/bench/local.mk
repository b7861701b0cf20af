# "make bench" measures on this machine, "make bench-counted" in an emulated one that
# counts instructions; both leave their figures in the build folder.
# "make bench-document" writes them into doc/performance.md.
BENCH_ARGUMENTS =

bench: ringtls-bench ringtls-serve
	./ringtls-bench --json=bench.json $(BENCH_ARGUMENTS) | tee bench.txt
	$(PYTHON3) $(srcdir)/tests/bench/plot bench.json bench
	$(srcdir)/tests/bench/servers . servers.json | tee servers.txt

bench-counted:
	$(srcdir)/tests/counted/counted run --json bench-counted.json
	$(PYTHON3) $(srcdir)/tests/bench/plot bench-counted.json bench-counted

# The ways of io_uring that the engine could take, beside the one that it takes.
EXTRA_PROGRAMS = tests/bench/ring_ways
tests_bench_ring_ways_SOURCES = tests/bench/ring_ways.c
tests_bench_ring_ways_LDADD = $(DEPS_LIBS) -lpthread

bench-ring: tests/bench/ring_ways
	tests/bench/ring_ways | tee ring.txt

# Where the instructions of a write go, in user space; needs valgrind.
bench-profile: ringtls-bench
	$(PYTHON3) -B $(srcdir)/tests/bench/profile . profile.json

# 10,000 connections on one thread, of which 9,900 are idle.
bench-idle: ringtls-serve
	$(MAKE) check TESTS=
	$(PYTHON3) -B $(srcdir)/tests/bench/idle .

bench-document:
	$(PYTHON3) $(srcdir)/tests/bench/report $(srcdir)/doc/performance.md \
		`test ! -e bench.json || echo native=bench.json` \
		`test ! -e bench-counted.json || echo counted=bench-counted.json` \
		`test ! -e servers.json || echo servers=servers.json` \
		`test ! -e ring.txt || echo ring=ring.txt` \
		`test ! -e profile.json || echo profile=profile.json`

.PHONY: bench bench-counted bench-document bench-idle bench-profile bench-ring

CLEANFILES += bench.json bench.txt bench-*.svg bench-counted.json servers.json servers.txt ring.txt profile.json tests/bench/ring_ways

EXTRA_DIST += \
	doc/performance.md \
	tests/bench/idle \
	tests/bench/plot \
	tests/bench/profile \
	tests/bench/report \
	tests/bench/servers \
	tests/counted/compare \
	tests/counted/counted \
	tests/counted/guest-init \
	tests/counted/machine.sh \
	tests/counted/recorded.json
