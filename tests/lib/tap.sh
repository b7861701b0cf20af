# shellcheck shell=bash
# tap.sh - reads what "make check" leaves: beside each test program's .trs file a
# .log with a line per result, such as "PASS: name 1 - text" or
# "SKIP: name 2 - text # SKIP reason". What make prints is for people only: two
# programs at a time print into each other's lines.

# Compiler lines and make's own chatter stay in the log.
tap_show() {
	grep --line-buffered -vE '^(make[ :[]|  (CC|CCLD|GEN|AR)  )' || true
}

# tap_logs BUILD_DIRECTORY STAMP: the logs of the programs that were started since the file
# STAMP was made, but for those of a distcheck in there.
tap_logs() {
	find "$1" -path "$1/ringtls-*" -prune -o -name 'test_*.log' -newer "$2" -print | sort
}

# tap_collect BUILD_DIRECTORY STAMP: every result since then, a line each. A program
# without a .trs file did not come to its end.
tap_collect() {
	local log
	tap_logs "$1" "$2" | while IFS= read -r log; do
		grep -aE '^(PASS|FAIL|SKIP|XFAIL|XPASS|ERROR): ' "$log" || true
		[[ -e "${log%.log}.trs" ]] || tap_unfinished "$1" "$log"
	done
}

tap_unfinished() {
	local name=${2#"$1"/}
	echo "ERROR: ${name%.log} - it did not come to its end"
}

# tap_count KINDS RESULTS: KINDS as in 'FAIL|ERROR'.
tap_count() {
	grep -cE "^($1): " "$2" || true
}

# tap_failed BUILD_DIRECTORY STAMP: each failed test, and below it the first lines of what
# it had to say; of a program that broke off, its last ones.
tap_failed() {
	local log
	tap_logs "$1" "$2" | while IFS= read -r log; do
		tap_failed_in "$log"
		[[ -e "${log%.log}.trs" ]] && continue
		tap_unfinished "$1" "$log"
		tail -n 5 "$log" | sed 's/^/  /'
	done | cut -c 1-200
}

tap_failed_in() {
	awk '
		function tell_last(    i) {
			for (i = NR - 5; i < NR; i++)
				if (last[i % 6] != "")
					print "  " last[i % 6]
		}
		/^(FAIL|XPASS): / { print; left = 6; next }
		/^ERROR: / { print; tell_last() }
		/^(ok|not ok|PASS:|SKIP:|ERROR:)/ { left = 0; last[NR % 6] = ""; next }
		{ last[NR % 6] = $0 }
		left > 0 && NF { print "  " $0; left-- }' "$1"
}

# tap_skipped RESULTS: a line per reason and test program, with the numbers of the
# tests; their names are in the log and were printed as they were skipped.
tap_skipped() {
	sed -n 's/^SKIP: //p' "$1" | awk '
		function flush(key) {
			if (first[key] == "-")
				text[key] = text[key] " as a whole"
			else if (last[key] > first[key])
				text[key] = text[key] " " first[key] "-" last[key]
			else
				text[key] = text[key] " " first[key]
		}
		{
			reason = $0
			if ($2 == "-")
				sub(/^[^ ]+ - /, "", reason)
			else if (!sub(/.*# SKIP */, "", reason))
				reason = ""
			if (reason == "")
				reason = "no reason given"
			key = reason ": " $1
			if (!(key in first)) {
				order[++n] = key
				first[key] = $2
			} else if ($2 != last[key] + 1) {
				flush(key)
				first[key] = $2
			}
			last[key] = $2
			count[key]++
		}
		END {
			for (i = 1; i <= n; i++) {
				flush(order[i])
				printf "%s%s (%d)\n", order[i], text[order[i]], count[order[i]]
			}
		}'
}
