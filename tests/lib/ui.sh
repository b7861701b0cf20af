# shellcheck shell=bash
# ui.sh - how quickstart, check and the lab speak. Set UI_NAME before use.

ui_say() {
	printf '%s: %s\n' "$UI_NAME" "$*"
}

ui_die() {
	ui_say "$*" >&2
	exit 1
}

# A step runs in a process group of its own, so that it can be ended whole, by
# number, when this script is interrupted: call ui_end_step from an EXIT trap.
UI_STEP=

ui_end_step() {
	[[ -z "$UI_STEP" ]] || kill -TERM -- "-$UI_STEP" 2>/dev/null || true
	UI_STEP=
}

# ui_start COMMAND...: starts COMMAND in a process group of its own; its number
# is in UI_STEP.
ui_start() {
	set -m
	"$@" &
	set +m
	UI_STEP=$!
}

# ui_wait SECONDS PID: waits until the process ends (0) or the time is over (1).
# Waiting in the background lets a trapped signal through at once.
ui_wait() {
	timeout "$1" tail -s 0.1 -f --pid="$2" /dev/null &
	wait "$!"
}

# ui_step WHAT LOG COMMAND...: runs COMMAND into LOG, says so, and says every
# 20 seconds that it is still at work. On failure shows the log's end.
ui_step() {
	local what=$1 log=$2 start=$SECONDS status=0
	shift 2
	ui_say "$what ..."
	ui_start "$@" </dev/null >>"$log" 2>&1
	while ! ui_wait 20 "$UI_STEP"; do
		ui_say "$what: still at work after $((SECONDS - start)) s (log: $log)"
	done
	wait "$UI_STEP" || status=$?
	UI_STEP=
	if [[ "$status" == 0 ]]; then
		ui_say "$what: done in $((SECONDS - start)) s"
	else
		ui_say "$what: FAILED with status $status after $((SECONDS - start)) s; the end of $log:"
		tail -n 40 "$log" | sed 's/^/    /'
	fi
	return "$status"
}
