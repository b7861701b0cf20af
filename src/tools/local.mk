# ringtls-probe. It looks at the internals, so that it says what the library does.
bin_PROGRAMS += ringtls-probe
ringtls_probe_SOURCES = \
	src/tools/probe.c src/tools/probe_checks.h \
	src/tools/probe_ktls.c \
	src/tools/probe_module.c src/tools/probe_module.h \
	src/tools/probe_openssl.c \
	src/tools/probe_report.c src/tools/probe_report.h \
	src/tools/probe_uring.c \
	src/tools/probe_verdict.c
ringtls_probe_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
ringtls_probe_LDADD = libringtls-core.la $(DEPS_LIBS) $(JANSSON_LIBS) -lpthread

# ringtls-serve. All but main() is a library, so that tests can link its parts.
noinst_LTLIBRARIES += libserve.la
libserve_la_SOURCES = \
	src/tools/serve.h \
	src/tools/serve_answer.c src/tools/serve_answer.h \
	src/tools/serve_bounds.c src/tools/serve_bounds.h \
	src/tools/serve_cache.c src/tools/serve_cache.h \
	src/tools/serve_cert.c src/tools/serve_cert.h \
	src/tools/serve_cond.c src/tools/serve_cond.h \
	src/tools/serve_conn.c src/tools/serve_conn.h \
	src/tools/serve_file.c src/tools/serve_file.h \
	src/tools/serve_http.c src/tools/serve_http.h \
	src/tools/serve_jail.c src/tools/serve_jail.h \
	src/tools/serve_log.c src/tools/serve_log.h \
	src/tools/serve_loop.c src/tools/serve_loop.h \
	src/tools/serve_server.c src/tools/serve_server.h \
	src/tools/serve_text.c src/tools/serve_text.h \
	src/tools/serve_types.c src/tools/serve_types.h

bin_PROGRAMS += ringtls-serve
ringtls_serve_SOURCES = src/tools/serve.c
ringtls_serve_LDADD = libserve.la libringtls.la $(DEPS_LIBS) $(HTTP_LIBS) $(SECCOMP_LIBS)

# ringtls-bench. It sees the public header only, as the programs that it stands for.
bin_PROGRAMS += ringtls-bench
ringtls_bench_SOURCES = \
	src/tools/bench.c src/tools/bench.h \
	src/tools/bench_case.c \
	src/tools/bench_count.c \
	src/tools/bench_epoll.c \
	src/tools/bench_latency.c \
	src/tools/bench_openssl.c \
	src/tools/bench_plain.c \
	src/tools/bench_receiver.c \
	src/tools/bench_report.c \
	src/tools/bench_ring.c \
	src/tools/bench_ringtls.c \
	src/tools/bench_run.c \
	src/tools/bench_sample.c \
	src/tools/bench_side.c \
	src/tools/bench_source.c \
	src/tools/bench_stats.c \
	src/tools/bench_tls.c
ringtls_bench_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
ringtls_bench_LDADD = libringtls.la $(DEPS_LIBS) $(JANSSON_LIBS)
