# One program per module; each prints TAP through cmocka. A new test is one line here.
unit_tests = \
	tests/unit/test_adopt \
	tests/unit/test_adopt_ktls \
	tests/unit/test_bio \
	tests/unit/test_cold \
	tests/unit/test_conn \
	tests/unit/test_contract \
	tests/unit/test_contract_ktls \
	tests/unit/test_detach \
	tests/unit/test_early \
	tests/unit/test_early_ktls \
	tests/unit/test_erase \
	tests/unit/test_error \
	tests/unit/test_faults \
	tests/unit/test_faults_ktls \
	tests/unit/test_idle \
	tests/unit/test_install \
	tests/unit/test_ktls \
	tests/unit/test_keylog \
	tests/unit/test_kernel \
	tests/unit/test_lanes \
	tests/unit/test_many \
	tests/unit/test_many_ktls \
	tests/unit/test_opts \
	tests/unit/test_pool \
	tests/unit/test_probe \
	tests/unit/test_probe_tool \
	tests/unit/test_promote \
	tests/unit/test_promote_ktls \
	tests/unit/test_promote_old_ktls \
	tests/unit/test_queue \
	tests/unit/test_queue_ktls \
	tests/unit/test_reasons \
	tests/unit/test_rekey \
	tests/unit/test_rekey_ktls \
	tests/unit/test_rekey_old_ktls \
	tests/unit/test_refused \
	tests/unit/test_reneg \
	tests/unit/test_ring \
	tests/unit/test_round \
	tests/unit/test_round_ktls \
	tests/unit/test_reneg_ktls \
	tests/unit/test_script \
	tests/unit/test_script_ktls \
	tests/unit/test_seal \
	tests/unit/test_seal_evp \
	tests/unit/test_seal_peer \
	tests/unit/test_seal_peer_evp \
	tests/unit/test_serve_cache \
	tests/unit/test_serve_file \
	tests/unit/test_serve_http \
	tests/unit/test_serve_jail \
	tests/unit/test_serve_target \
	tests/unit/test_stall \
	tests/unit/test_states \
	tests/unit/test_stream \
	tests/unit/test_stream_ktls \
	tests/unit/test_sys \
	tests/unit/test_threads \
	tests/unit/test_tx_promote \
	tests/unit/test_txq \
	tests/unit/test_uring \
	tests/unit/test_walk \
	tests/unit/test_wants \
	tests/unit/test_wants_ktls \
	tests/unit/test_writev \
	tests/unit/test_writev_ktls

# These ask nothing of the kernel, or have one of their own to ask: in the lab they run
# with each release's libraries, but outside of the guest.
lab_outside = \
	tests/unit/test_adopt_ktls \
	tests/unit/test_conn \
	tests/unit/test_contract_ktls \
	tests/unit/test_early_ktls \
	tests/unit/test_error \
	tests/unit/test_faults_ktls \
	tests/unit/test_install \
	tests/unit/test_ktls \
	tests/unit/test_lanes \
	tests/unit/test_many_ktls \
	tests/unit/test_opts \
	tests/unit/test_pool \
	tests/unit/test_promote_ktls \
	tests/unit/test_promote_old_ktls \
	tests/unit/test_queue_ktls \
	tests/unit/test_rekey_ktls \
	tests/unit/test_rekey_old_ktls \
	tests/unit/test_reneg_ktls \
	tests/unit/test_round_ktls \
	tests/unit/test_script_ktls \
	tests/unit/test_seal \
	tests/unit/test_seal_evp \
	tests/unit/test_seal_peer \
	tests/unit/test_seal_peer_evp \
	tests/unit/test_serve_http \
	tests/unit/test_states \
	tests/unit/test_stream_ktls \
	tests/unit/test_tx_promote \
	tests/unit/test_txq \
	tests/unit/test_walk \
	tests/unit/test_wants_ktls \
	tests/unit/test_writev_ktls

if HAVE_CMOCKA
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
LOG_COMPILER = $(top_srcdir)/tests/unit/run
LDADD = libringtls-core.la $(DEPS_LIBS) $(CMOCKA_LIBS) -lpthread
endif

EXTRA_DIST += tests/contract/rows tests/contract/table.py
EXTRA_DIST += tests/unit/run tests/unit/refuse.h tests/unit/support.h

pair = tests/unit/pair.c tests/unit/pair.h tests/unit/list.c tests/unit/list.h

# Fakes by the linker: what the library calls, and every object of the test.
fake_malloc = tests/unit/fake_malloc.c tests/unit/fake_malloc.h
FAKE_MALLOC = -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=aligned_alloc -Wl,--wrap=free
fake_ktls = tests/unit/fake_ktls.c tests/unit/fake_ktls.h tests/unit/keys.h \
	tests/unit/fake_probe.c tests/unit/fake_probe.h
FAKE_PROBE = -Wl,--wrap=ringtls__probe_get
over_ktls = tests/unit/over_ktls.c tests/unit/over_ktls.h $(pair) $(fake_ktls)
OVER_KTLS = $(FAKE_PROBE) -Wl,--wrap=pair_open -Wl,--wrap=pair_close \
	-Wl,--wrap=pair_wait -Wl,--wrap=pair_write_all

many = tests/unit/many.c tests/unit/many.h
wiretap = tests/unit/wiretap.c tests/unit/wiretap.h
faults = tests/unit/faults.c tests/unit/faults.h tests/unit/fault_run.c tests/unit/fault_run.h \
	tests/unit/fault_scenarios.c tests/unit/fault_scenarios.h \
	tests/unit/pair.c tests/unit/pair.h $(fake_ktls) $(wiretap)
# What is made to fail, and where what it did is noted.
FAULTS = $(FAKE_MALLOC) -Wl,--wrap=realloc -Wl,--wrap=io_uring_submit \
	-Wl,--wrap=io_uring_submit_and_wait -Wl,--wrap=io_uring_submit_and_get_events \
	-Wl,--wrap=io_uring_submit_and_wait_timeout -Wl,--wrap=io_uring_register_eventfd \
	-Wl,--wrap=io_uring_register_probe -Wl,--wrap=epoll_create1 -Wl,--wrap=epoll_ctl \
	-Wl,--wrap=epoll_wait -Wl,--wrap=timerfd_create -Wl,--wrap=eventfd -Wl,--wrap=socket \
	-Wl,--wrap=ringtls__ring_prep_op -Wl,--wrap=ringtls__ring_prep_wait \
	-Wl,--wrap=ringtls__op_done -Wl,--wrap=ringtls__sealer_new -Wl,--wrap=ringtls__seal \
	-Wl,--wrap=ringtls__sealv

tests_unit_test_faults_SOURCES = tests/unit/test_faults.c $(faults)
tests_unit_test_faults_LDFLAGS = $(FAULTS)
tests_unit_test_faults_ktls_SOURCES = tests/unit/test_faults.c tests/unit/faults_ktls.c $(faults)
tests_unit_test_faults_ktls_LDFLAGS = $(FAULTS) $(FAKE_PROBE)

tests_unit_test_idle_SOURCES = tests/unit/test_idle.c $(many) $(pair)
tests_unit_test_install_SOURCES = tests/unit/test_install.c $(pair) \
	$(fake_ktls) $(wiretap)
tests_unit_test_install_LDFLAGS = $(FAKE_PROBE)
tests_unit_test_ktls_SOURCES = tests/unit/test_ktls.c $(pair) \
	$(fake_ktls) $(wiretap)
tests_unit_test_ktls_LDFLAGS = $(FAKE_PROBE)
tests_unit_test_stream_ktls_SOURCES = tests/unit/test_stream.c $(over_ktls)
tests_unit_test_stream_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_many_ktls_SOURCES = tests/unit/test_many.c $(many) $(over_ktls)
tests_unit_test_many_ktls_LDFLAGS = $(OVER_KTLS) -Wl,--wrap=io_uring_submit
tests_unit_test_queue_ktls_SOURCES = tests/unit/test_queue.c $(over_ktls)
tests_unit_test_queue_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_adopt_ktls_SOURCES = tests/unit/test_adopt.c $(over_ktls)
tests_unit_test_adopt_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_rekey_ktls_SOURCES = tests/unit/test_rekey.c $(over_ktls)
tests_unit_test_rekey_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_rekey_old_ktls_SOURCES = tests/unit/test_rekey.c tests/unit/old_ktls.c $(over_ktls)
tests_unit_test_rekey_old_ktls_LDFLAGS = $(OVER_KTLS)

machine = tests/unit/machine.c tests/unit/machine.h tests/unit/keys.h \
	tests/unit/opener.c tests/unit/opener.h $(fake_malloc)

tests_unit_test_conn_SOURCES = tests/unit/test_conn.c $(machine)
tests_unit_test_conn_LDFLAGS = $(FAKE_MALLOC)
tests_unit_test_kernel_SOURCES = tests/unit/test_kernel.c \
	tests/unit/kernel.c tests/unit/kernel.h tests/unit/keys.h \
	tests/unit/kernel_drain.c tests/unit/kernel_errors.c tests/unit/kernel_file.c tests/unit/kernel_push.c \
	tests/unit/kernel_flags.c tests/unit/kernel_install.c tests/unit/kernel_module.c \
	tests/unit/kernel_records.c tests/unit/kernel_rekey.c tests/unit/kernel_ring.c \
	tests/unit/kernel_short.c tests/unit/opener.c tests/unit/opener.h
tests_unit_test_tx_promote_SOURCES = tests/unit/test_tx_promote.c $(machine)
tests_unit_test_tx_promote_LDFLAGS = $(FAKE_MALLOC)
tests_unit_test_lanes_SOURCES = tests/unit/test_lanes.c $(machine)
tests_unit_test_lanes_LDFLAGS = $(FAKE_MALLOC)
walk = tests/unit/walk.c tests/unit/walk.h $(machine)
tests_unit_test_walk_SOURCES = tests/unit/test_walk.c $(walk)
tests_unit_test_walk_LDFLAGS = $(FAKE_MALLOC)
tests_unit_test_pool_SOURCES = tests/unit/test_pool.c $(fake_malloc)
tests_unit_test_pool_LDFLAGS = $(FAKE_MALLOC)
tests_unit_test_txq_SOURCES = tests/unit/test_txq.c tests/unit/keys.h $(fake_malloc)
tests_unit_test_txq_LDFLAGS = $(FAKE_MALLOC)

sealing = tests/unit/suites.c tests/unit/suites.h \
	tests/unit/libcrypto_watch.c tests/unit/libcrypto_watch.h
tests_unit_test_seal_SOURCES = tests/unit/test_seal.c $(sealing)
tests_unit_test_seal_evp_SOURCES = $(tests_unit_test_seal_SOURCES) tests/unit/seal_evp.c
tests_unit_test_seal_peer_SOURCES = tests/unit/test_seal_peer.c $(sealing)
tests_unit_test_seal_peer_evp_SOURCES = $(tests_unit_test_seal_peer_SOURCES) tests/unit/seal_evp.c
tests_unit_test_adopt_SOURCES = tests/unit/test_adopt.c $(pair)
tests_unit_test_bio_SOURCES = tests/unit/test_bio.c $(pair)
tests_unit_test_cold_SOURCES = tests/unit/test_cold.c $(pair) $(fake_malloc)
tests_unit_test_cold_LDFLAGS = $(FAKE_MALLOC)
tests_unit_test_detach_SOURCES = tests/unit/test_detach.c $(pair)
tests_unit_test_promote_SOURCES = tests/unit/test_promote.c $(pair)
tests_unit_test_promote_ktls_SOURCES = tests/unit/test_promote.c $(over_ktls)
tests_unit_test_promote_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_promote_old_ktls_SOURCES = tests/unit/test_promote.c tests/unit/old_ktls.c $(over_ktls)
tests_unit_test_promote_old_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_early_SOURCES = tests/unit/test_early.c $(pair)
tests_unit_test_erase_SOURCES = tests/unit/test_erase.c tests/unit/memory.c tests/unit/memory.h \
	tests/unit/side.c tests/unit/side.h $(pair)
tests_unit_test_many_SOURCES = tests/unit/test_many.c $(many) $(pair)
tests_unit_test_many_LDFLAGS = -Wl,--wrap=io_uring_submit
tests_unit_test_queue_SOURCES = tests/unit/test_queue.c $(pair)
tests_unit_test_contract_SOURCES = tests/unit/test_contract.c $(pair)
tests_unit_test_contract_ktls_SOURCES = tests/unit/test_contract.c $(over_ktls)
tests_unit_test_contract_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_early_ktls_SOURCES = tests/unit/test_early.c $(over_ktls)
tests_unit_test_early_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_reneg_ktls_SOURCES = tests/unit/test_reneg.c $(over_ktls)
tests_unit_test_reneg_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_reasons_SOURCES = tests/unit/test_reasons.c $(pair)
tests_unit_test_refused_SOURCES = tests/unit/test_refused.c $(pair)
tests_unit_test_reneg_SOURCES = tests/unit/test_reneg.c $(pair)
tests_unit_test_rekey_SOURCES = tests/unit/test_rekey.c $(pair)
tests_unit_test_ring_SOURCES = tests/unit/test_ring.c $(pair)
script = tests/unit/script.c tests/unit/script_make.c tests/unit/script.h tests/unit/side.c tests/unit/side.h
tests_unit_test_script_SOURCES = tests/unit/test_script.c $(script) $(pair)
tests_unit_test_script_ktls_SOURCES = tests/unit/test_script.c $(script) $(over_ktls)
tests_unit_test_script_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_round_SOURCES = tests/unit/test_round.c $(many) $(pair)
tests_unit_test_round_ktls_SOURCES = tests/unit/test_round.c tests/unit/calm_ktls.c $(many) $(over_ktls)
tests_unit_test_round_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_stall_SOURCES = tests/unit/test_stall.c $(pair)
tests_unit_test_stream_SOURCES = tests/unit/test_stream.c $(pair)
tests_unit_test_threads_SOURCES = tests/unit/test_threads.c $(pair)

side = tests/unit/side.c tests/unit/side.h
tests_unit_test_wants_SOURCES = tests/unit/test_wants.c $(side) $(pair)
tests_unit_test_wants_ktls_SOURCES = tests/unit/test_wants.c $(side) $(over_ktls)
tests_unit_test_wants_ktls_LDFLAGS = $(OVER_KTLS)
tests_unit_test_writev_SOURCES = tests/unit/test_writev.c $(pair)
tests_unit_test_writev_ktls_SOURCES = tests/unit/test_writev.c $(over_ktls)
tests_unit_test_writev_ktls_LDFLAGS = $(OVER_KTLS)

tests_unit_test_probe_tool_SOURCES = tests/unit/test_probe_tool.c $(pair)
tests_unit_test_probe_tool_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
tests_unit_test_probe_tool_LDADD = $(LDADD) $(JANSSON_LIBS)

tests_unit_test_serve_cache_LDADD = libserve.la $(HTTP_LIBS) $(SECCOMP_LIBS) $(CMOCKA_LIBS)
tests_unit_test_serve_file_LDADD = libserve.la $(HTTP_LIBS) $(SECCOMP_LIBS) $(CMOCKA_LIBS)
tests_unit_test_serve_target_LDADD = libserve.la $(HTTP_LIBS) $(SECCOMP_LIBS) $(CMOCKA_LIBS)
tests_unit_test_serve_http_LDADD = libserve.la $(HTTP_LIBS) $(SECCOMP_LIBS) $(CMOCKA_LIBS)
tests_unit_test_serve_jail_LDADD = libserve.la $(HTTP_LIBS) $(SECCOMP_LIBS) $(CMOCKA_LIBS)
