# shellcheck shell=bash
# check.sh - "lab check": the project's tests over real kernel TLS. Sourced by lab.

# What a test may not skip for want of.
check_must() {
	case "$1" in
	forky) echo "ktls uring rekey" ;;
	*) echo "ktls uring" ;;
	esac
}

cmd_check() {
	local tests='' release status=0
	if [[ "${1:-}" == --tests ]]; then
		tests=$2
		shift 2
	fi
	(($# > 0)) || set -- "${LAB_RELEASES[@]}"
	lab_need_releases "$@"
	if (($# == 1)); then
		check_release "$1" "$tests"
		return
	fi
	for release; do
		rm -f "$LAB_DIR/log/$LAB_KEY/$release-summary"
	done
	# shellcheck disable=SC2034 # lab_each, in lab, reads it
	LAB_VERB=(check ${tests:+--tests "$tests"})
	lab_each "$@" || status=$?
	for release; do
		cat "$LAB_DIR/log/$LAB_KEY/$release-summary" 2>/dev/null ||
			ui_say "$release: 0 passed, 1 failed, 0 skipped (it did not get to its tests)"
	done
	return "$status"
}

# The command that the guest runs. Left out is what does not ask this kernel: what
# tests/docs holds is about the source, and what lab_outside (tests/unit/local.mk)
# names has run in the tree, outside of the guest. make alone knows the lists.
check_command() {
	local tests=$1
	if [[ -n "$tests" ]]; then
		printf 'exec make check TESTS=%q' "$tests"
		return
	fi
	cat <<-'EOF'
		printf 'lab-tests:\n\t@echo $(filter-out $(lab_outside) tests/docs/%%,$(TESTS))\n' >/tmp/list.mk
		exec make check TESTS="$(make -s -f Makefile -f /tmp/list.mk lab-tests | tail -n 1)"
	EOF
}

# check_release RELEASE TESTS: TESTS empty means all of them.
check_release() {
	local release=$1 tests=$2 log work outside=0 status=0 start=$SECONDS
	log=$(lab_log "$release" check)
	rm -f "$LAB_DIR/log/$LAB_KEY/$release-summary"
	[[ -z "${RINGTLS_LAB_RESULTS:-}" ]] || rm -f "$RINGTLS_LAB_RESULTS/$release".{results,failed}
	lab_enter "$release" || return 125
	work=$(lab_work "$release")
	sources_build "$release" tests || return
	: >"$work/start"
	[[ -n "$tests" ]] || ui_step "$release: what needs no guest" "$log" \
		sources_make "$release" outside || outside=$?
	ui_say "$release: make check in the guest (log: $log)"
	RINGTLS_MUST=$(check_must "$release") guest_run "$release" "${RINGTLS_LAB_TIMEOUT:-1800}" \
		"${RINGTLS_LAB_MEM:-1024}" '' loaded bash -c "$(check_command "$tests")" 2>&1 |
		tee -a "$log" | tap_show || status=$?
	((status != 0)) || status=$outside
	check_results "$release" "$work" "$log"
	check_summary "$release" "$status" "$tests" $((SECONDS - start))
}

# check_results RELEASE WORK LOG: a line per test, and what the failed ones said.
check_results() {
	local release=$1 work=$2 folder=$LAB_DIR/log/$LAB_KEY
	tap_collect "$work/build" "$work/start" >"$folder/$release-results"
	{
		tap_failed "$work/build" "$work/start"
		# what the lab itself has to say: a kernel that warned, a guest that hung
		sed -n '/^lab: .*\(TIMED OUT\|complained\|without a result\)/,$p' "$3" | head -n 25
	} >"$folder/$release-failed"
	sed 's/^/    /' "$folder/$release-failed"
	if [[ -n "${RINGTLS_LAB_RESULTS:-}" ]]; then
		cp "$folder/$release-results" "$RINGTLS_LAB_RESULTS/$release.results"
		cp "$folder/$release-failed" "$RINGTLS_LAB_RESULTS/$release.failed"
	fi
}

# A run counts as failed, too, when make did not get to its end, when no test
# ran, and when not one connection was sealed by the kernel.
check_summary() {
	local release=$1 status=$2 tests=$3 seconds=$4 result results passed failed skipped before after
	result=$(lab_work "$release")/run/result
	results=$LAB_DIR/log/$LAB_KEY/$release-results
	passed=$(tap_count 'PASS|XFAIL' "$results")
	failed=$(tap_count 'FAIL|ERROR|XPASS' "$results")
	skipped=$(tap_count SKIP "$results")
	before=$(guest_result "$result" tx-before)
	after=$(guest_result "$result" tx-after)
	if ((status != 0 && failed == 0)); then
		ui_say "$release: FAILED with status $status, though no test says so"
		failed=1
	elif ((passed + failed == 0)); then
		ui_say "$release: FAILED: no test ran"
		failed=1
	fi
	if [[ -z "$tests" ]] && ((${after:-0} <= ${before:-0})); then
		ui_say "$release: FAILED: no connection ran over kernel TLS (TlsTxSw ${before:-?} -> ${after:-?})"
		failed=$((failed + 1))
	fi
	ui_say "$release: $passed passed, $failed failed, $skipped skipped, kernel" \
		"$(guest_result "$result" kernel), TlsTxSw ${before:-?} -> ${after:-?}, $seconds s" |
		tee "$LAB_DIR/log/$LAB_KEY/$release-summary"
	((failed == 0))
}
