dist_man_MANS += doc/man/ringtls-bench.1
dist_man_MANS += doc/man/ringtls-probe.1
dist_man_MANS += doc/man/ringtls-serve.1

# Each function has its name in section 3; families share a page.
dist_man_MANS += doc/man/ringtls.7
dist_man_MANS += \
	doc/man/ringtls_backend_name.3 \
	doc/man/ringtls_conn_cancel.3 \
	doc/man/ringtls_conn_detach.3 \
	doc/man/ringtls_conn_free.3 \
	doc/man/ringtls_conn_get_info.3 \
	doc/man/ringtls_conn_key_update.3 \
	doc/man/ringtls_conn_new.3 \
	doc/man/ringtls_ctx_prepare.3 \
	doc/man/ringtls_engine_completions.3 \
	doc/man/ringtls_engine_fd.3 \
	doc/man/ringtls_engine_feed.3 \
	doc/man/ringtls_engine_free.3 \
	doc/man/ringtls_engine_get_info.3 \
	doc/man/ringtls_engine_new.3 \
	doc/man/ringtls_engine_submit.3 \
	doc/man/ringtls_engine_wait.3 \
	doc/man/ringtls_get_error.3 \
	doc/man/ringtls_handshake.3 \
	doc/man/ringtls_lane_name.3 \
	doc/man/ringtls_queue_sendfile.3 \
	doc/man/ringtls_queue_writev.3 \
	doc/man/ringtls_read.3 \
	doc/man/ringtls_read_early_data.3 \
	doc/man/ringtls_read_ex.3 \
	doc/man/ringtls_reason_name.3 \
	doc/man/ringtls_reason_text.3 \
	doc/man/ringtls_sendfile.3 \
	doc/man/ringtls_shutdown.3 \
	doc/man/ringtls_strerror.3 \
	doc/man/ringtls_version.3 \
	doc/man/ringtls_write.3 \
	doc/man/ringtls_write_early_data.3 \
	doc/man/ringtls_write_ex.3 \
	doc/man/ringtls_writev.3

# Whole programs, that see no more than the public header.
doc_examples = doc/examples/epoll_echo doc/examples/get doc/examples/send_file \
	doc/examples/shared_ring
check_PROGRAMS += $(doc_examples)
doc_examples_cppflags = -I$(top_srcdir)/include -I$(top_builddir)/include
doc_examples_epoll_echo_CPPFLAGS = $(doc_examples_cppflags)
doc_examples_epoll_echo_LDADD = libringtls.la $(DEPS_LIBS)
doc_examples_get_CPPFLAGS = $(doc_examples_cppflags)
doc_examples_get_LDADD = libringtls.la $(DEPS_LIBS)
doc_examples_send_file_CPPFLAGS = $(doc_examples_cppflags)
doc_examples_send_file_LDADD = libringtls.la $(DEPS_LIBS)
doc_examples_shared_ring_CPPFLAGS = $(doc_examples_cppflags)
doc_examples_shared_ring_LDADD = libringtls.la $(DEPS_LIBS)

# The tests of what is written: pages, examples, the header, the source's layers.
# TAP and the driver are those of tests/e2e.
doc_tests = \
	doc/examples/test_examples.py \
	tests/docs/test_functions.py \
	tests/docs/test_header.py \
	tests/docs/test_install.py \
	tests/docs/test_layers.py \
	tests/docs/test_man.py \
	tests/docs/test_texts.py

TESTS += $(doc_tests)
EXTRA_DIST += $(doc_tests) tests/docs/docs.py doc/DESIGN.md doc/states.dot
AM_TESTS_ENVIRONMENT += \
	CC='$(CC)'; export CC; \
	CFLAGS='$(CFLAGS)'; export CFLAGS; \
	LDFLAGS='$(LDFLAGS)'; export LDFLAGS; \
	DEPS_CFLAGS='$(DEPS_CFLAGS)'; export DEPS_CFLAGS; \
	NM='$(NM)'; export NM; \
	PKG_CONFIG='$(PKG_CONFIG)'; export PKG_CONFIG;

include kmod-notes/local.mk
