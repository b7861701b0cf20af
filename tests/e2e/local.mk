# Real peers, a tap on the wire between them, and ringtls-serve (e2e.py says more).
# A new test is one line here.
e2e_tests = \
	tests/e2e/test_tap.py \
	tests/e2e/test_matrix.py \
	tests/e2e/test_behaviour.py \
	tests/e2e/test_http.py \
	tests/e2e/test_secrets.py \
	tests/e2e/test_soak.py \
	tests/e2e/test_denied.py \
	tests/e2e/test_open.py \
	tests/e2e/test_promote.py \
	tests/e2e/test_calls.py \
	tests/e2e/test_peers.py \
	tests/e2e/test_peers_later.py

check_PROGRAMS += tests/e2e/deny tests/e2e/peer tests/e2e/talk tests/e2e/tap
tests_e2e_deny_SOURCES = tests/e2e/deny.c
tests_e2e_deny_LDADD =
say = tests/e2e/say.c tests/e2e/say.h
ctx = tests/e2e/ctx.c tests/e2e/ctx.h
tests_e2e_peer_SOURCES = tests/e2e/peer.c $(ctx) $(say)
tests_e2e_peer_LDADD = $(DEPS_LIBS)
tests_e2e_talk_SOURCES = tests/e2e/talk.c tests/e2e/talk.h tests/e2e/talk_options.c \
	tests/e2e/talk_setup.c $(ctx) $(say)
tests_e2e_talk_LDADD = libringtls.la $(DEPS_LIBS)
tests_e2e_tap_SOURCES = tests/e2e/tap.c tests/e2e/wire.c tests/e2e/wire.h $(say)
tests_e2e_tap_LDADD =

TESTS += $(e2e_tests)
TEST_EXTENSIONS = .py
PY_LOG_DRIVER = $(LOG_DRIVER)
PY_LOG_COMPILER = $(PYTHON3)
AM_PY_LOG_FLAGS = -B
CLEANFILES = e2e-table.txt # what the matrix fetched
EXTRA_DIST += $(e2e_tests) tests/e2e/e2e.py tests/e2e/fetching.py \
	tests/e2e/peering.py tests/e2e/node_peer.js
