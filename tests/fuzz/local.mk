# Fuzz targets. "make check" replays their corpus; tests/fuzz/fuzz builds the same
# programs without the replayer (FUZZ_DRIVER=) and with libFuzzer (FUZZ_FLAGS).
fuzz_targets = \
	tests/fuzz/test_bio \
	tests/fuzz/test_conn \
	tests/fuzz/test_seal \
	tests/fuzz/test_serve

FUZZ_DRIVER = tests/fuzz/libreplay.la
FUZZ_FLAGS =
fuzz_common = tests/fuzz/fuzz.c tests/fuzz/fuzz.h

if HAVE_CMOCKA
check_PROGRAMS += $(fuzz_targets)
check_LTLIBRARIES += tests/fuzz/libreplay.la
TESTS += $(fuzz_targets)
endif
lab_outside += $(fuzz_targets)

tests_fuzz_libreplay_la_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz.h

tests_fuzz_test_conn_SOURCES = tests/fuzz/conn.c $(fuzz_common) $(walk)
tests_fuzz_test_conn_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/tests/unit
tests_fuzz_test_conn_LDFLAGS = $(FUZZ_FLAGS) $(FAKE_MALLOC)
tests_fuzz_test_conn_LDADD = $(FUZZ_DRIVER) $(LDADD)

tests_fuzz_test_bio_SOURCES = tests/fuzz/bio.c $(fuzz_common) tests/unit/keys.h $(fake_malloc)
tests_fuzz_test_bio_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/tests/unit
tests_fuzz_test_bio_LDFLAGS = $(FUZZ_FLAGS) $(FAKE_MALLOC)
tests_fuzz_test_bio_LDADD = $(FUZZ_DRIVER) $(LDADD)

tests_fuzz_test_seal_SOURCES = tests/fuzz/seal.c $(fuzz_common) \
	tests/unit/opener.c tests/unit/opener.h
tests_fuzz_test_seal_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/tests/unit
tests_fuzz_test_seal_LDFLAGS = $(FUZZ_FLAGS)
tests_fuzz_test_seal_LDADD = $(FUZZ_DRIVER) $(LDADD)

tests_fuzz_test_serve_SOURCES = tests/fuzz/serve.c $(fuzz_common)
tests_fuzz_test_serve_LDFLAGS = $(FUZZ_FLAGS)
tests_fuzz_test_serve_LDADD = $(FUZZ_DRIVER) libserve.la $(HTTP_LIBS)

EXTRA_DIST += tests/fuzz/fuzz tests/fuzz/serve.dict tests/fuzz/corpus

# A script: by its own rules make would compile fuzz.c for it, where a checkout happened to
# write that one later.
tests/fuzz/fuzz: ;
