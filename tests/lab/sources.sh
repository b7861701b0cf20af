# shellcheck shell=bash
# sources.sh - brings the checkout into a tree and builds it there. Sourced by lab.

# What belongs to the source, NUL-separated: what git knows or would add, or,
# without git, everything but what autotools and a build leave behind.
sources_list() {
	if sources_are_git; then
		git -c "safe.directory=$TOP" -C "$TOP" ls-files -z --cached --others --exclude-standard
	else
		(cd "$TOP" && find . -mindepth 1 \
			\( -name .git -o -path './build*' -o -name autom4te.cache \
			-o -name .libs -o -name .deps -o -name __pycache__ \) -prune -o \
			\( -type f -o -type l \) ! -name '*.o' ! -name '*.lo' ! -name '*.la' \
			! -name configure ! -name 'config.*' ! -name stamp-h1 ! -name Makefile ! -name Makefile.in \
			! -name aclocal.m4 ! -path './m4/l*' -printf '%P\0')
	fi
}

sources_are_git() {
	[[ -e "$TOP/.git" ]] && command -v git >/dev/null
}

# A file that did not change keeps its time in the tree, so that make has nothing
# to do for it, and one that did is newer than what was made from it.
sources_copy() {
	local work=$1 list=$1/sources.new
	mkdir -p "$work/src" "$work/build"
	sources_list | sources_existing | sort -z >"$list"
	rsync -rlpc --omit-dir-times --from0 "--files-from=$list" "$TOP/" "$work/src/"
	if [[ -e "$work/sources" ]]; then
		comm -z -13 "$list" "$work/sources" | (cd "$work/src" && xargs -0r rm -f --)
	fi
	mv "$list" "$work/sources"
}

# git also lists files that were deleted but not yet committed so.
sources_existing() {
	local name
	while IFS= read -r -d '' name; do
		[[ ! -e "$TOP/$name" && ! -L "$TOP/$name" ]] || printf '%s\0' "$name"
	done
}

# sources_make RELEASE WHAT. Mounts vanish with the namespace, whatever happens.
sources_make() {
	local tree what=$2
	tree=$(tree_path "$1")
	# shellcheck disable=SC2016 # expanded by the inner shell
	setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child sh -c '
		mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" &&
		exec chroot "$1" /bin/sh "$2/src/tests/lab/inside" "$2" "$3"' \
		sh "$tree" "/lab/$LAB_KEY" "$what"
}

# sources_build RELEASE WHAT: WHAT is programs, or tests for those as well.
sources_build() {
	local release=$1 what=$2 log
	log=$(lab_log "$release" build)
	command -v rsync >/dev/null || { ui_say "rsync is not installed" >&2; return 125; }
	sources_copy "$(lab_work "$release")" || return 125
	ui_step "$release: building" "$log" sources_make "$release" "$what" || return 1
	if grep -i 'warning:' "$log" >&2; then
		ui_say "$release: the build warned (above; $log)" >&2
		return 1
	fi
}
