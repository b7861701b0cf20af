# shellcheck shell=bash
# guest.sh - boots one User-Mode Linux guest. Sourced by lab.
#
# The guest's console 0 carries the command's output, its serial line the
# kernel's own messages, so that neither is taken for the other. The command's
# status comes back in a file, since UML has no other way to hand it out.

# What the kernel says when something is wrong with it.
GUEST_COMPLAINTS='WARNING:|BUG:|BUG at|Oops|Kernel panic|Kernel mode |general protection|UBSAN|KASAN|KFENCE'
GUEST_COMPLAINTS+='|INFO: task .* blocked|self-detected stall|detected stalls|soft lockup|Call Trace'
GUEST_COMPLAINTS+='|refcount_t:|list_(add|del) corruption|Bad page|Out of memory|invoked oom-killer'
GUEST_COMPLAINTS+='|possible recursive locking|circular locking|nobody cared|scheduling while atomic'

GUEST_PID=

# Its parent's death kills the namespace's first process, and that all others.
guest_end() {
	[[ -z "$GUEST_PID" ]] || kill -KILL "$GUEST_PID" 2>/dev/null || true
	GUEST_PID=
}

# guest_prepare FOLDER TLS COMMAND...: what the guest's init finds at its start.
guest_prepare() {
	local run=$1/run tls=$2 name
	shift 2
	rm -rf "$run"
	mkdir -p "$run" "$(dirname "$run")/build"
	cp "$LAB_SRC/guest-init" "$run/init"
	chmod +x "$run/init"
	echo "$tls" >"$run/tls"
	printf '%q ' exec "$@" >"$run/command"
	for name in "${!RINGTLS_@}" "${!ASAN_@}" "${!UBSAN_@}"; do
		[[ "$name" == RINGTLS_LAB_* ]] || printf 'export %s=%q\n' "$name" "${!name}"
	done >"$run/env"
}

# guest_boot TREE MEM CONSOLE_LOG KERNEL_ARGUMENTS: runs in its own namespaces;
# descriptor 3 takes the command's output. The kernel's memory is a file in /tmp.
guest_boot() {
	local tree=$1 mem=$2 log=$3 arguments=$4
	# shellcheck disable=SC2016 # expanded by the inner shell
	exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child sh -c '
		tree=$1 mem=$2 arguments=$3
		mount -t proc proc "$tree/proc" &&
		mount --rbind /dev "$tree/dev" &&
		mount -t tmpfs -o "size=$((mem + 512))m" tmpfs "$tree/tmp" || exit 125
		ulimit -c 0
		# Not exec: the first process of a namespace ignores most signals.
		env -i HOME=/tmp TMPDIR=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin \
			chroot "$tree" env LD_PRELOAD=/lab/xstate.so linux.uml "mem=${mem}M" $arguments
		exit $?' \
		sh "$tree" "$mem" "$arguments" </dev/null 4>>"$log" >&4 2>&4
}

# Where the kernel knows it, seccomp instead of ptrace: system calls take a third of the
# time. The older ones hand what they don't know to init, which does not mind.
guest_arguments() {
	echo "seccomp=auto" "root=/dev/root rootfstype=hostfs rootflags=/ rw init=$1/run/init" \
		"con=null con0=null,fd:3 ssl=null ssl0=null,fd:4 console=ttyS0 stderr=1"
}

# guest_wait RELEASE PID SECONDS: 1 when the time is over.
guest_wait() {
	local release=$1 pid=$2 left=$3 slice
	while ((left > 0)); do
		slice=$((left < 60 ? left : 60))
		ui_wait "$slice" "$pid" && return
		left=$((left - slice))
		((left == 0)) || ui_say "$release: the guest is at work, $left s left" >&2
	done
	return 1
}

# guest_run RELEASE TIMEOUT MEM APPEND TLS COMMAND...
guest_run() {
	local release=$1 timeout=$2 mem=$3 append=$4 tls=$5 work log pump start=$SECONDS timed_out=no
	shift 5
	work=$(lab_work "$release")
	log=$(lab_log "$release" console)
	guest_prepare "$work" "$tls" "$@"
	# UML makes its output descriptor non-blocking: never hand it ours. Whole lines
	# only, since our own messages come between.
	exec 3> >(exec grep --line-buffered -a '')
	pump=$!
	guest_boot "$(tree_path "$release")" "$mem" "$log" "$(guest_arguments "/lab/$LAB_KEY") $append" &
	GUEST_PID=$!
	exec 3>&-
	guest_wait "$release" "$GUEST_PID" "$timeout" || timed_out=yes
	guest_reap
	wait "$pump" || true
	guest_verdict "$release" "$work/run/result" "$log" "$timed_out" $((SECONDS - start))
}

guest_reap() {
	local pid=$GUEST_PID
	guest_end
	wait "$pid" 2>/dev/null || true
}

# guest_result FILE KEY
guest_result() {
	[[ ! -r "$1" ]] || sed -n "s/^$2 //p" "$1"
}

guest_verdict() {
	local release=$1 result=$2 log=$3 timed_out=$4 seconds=$5 status
	status=$(guest_result "$result" status)
	if [[ "$timed_out" == yes ]]; then
		ui_say "$release: TIMED OUT after $seconds s, killed; the end of its console ($log):" >&2
		tail -n 15 "$log" | sed 's/^/    /' >&2
		return 124
	fi
	if guest_complained "$log"; then
		ui_say "$release: the guest's kernel complained; lines of $log:" >&2
		grep -nE -A 12 "$GUEST_COMPLAINTS" "$log" | head -n 60 | sed 's/^/    /' >&2
		return 125
	fi
	if [[ -z "$status" ]]; then
		ui_say "$release: the guest died without a result; the end of its console ($log):" >&2
		tail -n 15 "$log" | sed 's/^/    /' >&2
		return 125
	fi
	ui_say "$release: kernel $(guest_result "$result" kernel)," \
		"TlsTxSw $(guest_result "$result" tx-before) -> $(guest_result "$result" tx-after)," \
		"status $status, $seconds s" >&2
	return "$status"
}

guest_complained() {
	grep -qE "$GUEST_COMPLAINTS" "$1"
}
