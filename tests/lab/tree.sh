# shellcheck shell=bash
# tree.sh - makes the root tree of one lab machine. Sourced by lab.
#
# A tree is a minimal Debian of that release with its User-Mode Linux kernel and
# what is needed to build and test. Its name ends in a hash of its packages and of
# what else makes it, so that checkouts which want different trees do not take them
# from each other.

# The keyring to verify a release with, and where to look next when it turns out
# too old: the release before it ships the keys of its successor.
tree_predecessor() {
	case "$1" in
	trixie) echo bookworm ;;
	forky) echo trixie ;;
	esac
}

tree_keyring() {
	local root=$1 name
	for name in debian-archive-keyring.gpg debian-archive-keyring.pgp; do
		if [[ -r "$root/usr/share/keyrings/$name" ]]; then
			echo "$root/usr/share/keyrings/$name"
			return
		fi
	done
}

tree_packages() {
	packages_list "$1" build demo test guest
}

tree_stamp() {
	{
		tree_packages "$1" && declare -f tree_bootstrap tree_finish && cat "$LAB_SRC/xstate.c"
	} | sha256sum | cut -c1-8
}

# tree_path RELEASE
tree_path() {
	echo "$LAB_DIR/$1-$(tree_stamp "$1")"
}

tree_indextargets() {
	# shellcheck disable=SC2016 # apt expands these
	apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)' \
		'Created-By: Packages' 2>/dev/null |
		awk -F'|' '$1 == "Debian" && $2 == "Debian" && $3 == "main" { print $4; exit }'
}

# The mirror that this machine's own apt uses. Empty: leave it to mmdebstrap.
tree_mirror() {
	local uri
	if [[ -n "${RINGTLS_LAB_MIRROR:-}" ]]; then
		echo "$RINGTLS_LAB_MIRROR"
		return
	fi
	packages_on_debian || return 0
	uri=$(tree_indextargets)
	if [[ -z "$uri" ]]; then
		packages_apt update >&2 # no lists yet: apt cannot tell what is what
		uri=$(tree_indextargets)
	fi
	if [[ -z "$uri" ]]; then
		ui_say "no Debian mirror in apt's configuration: set RINGTLS_LAB_MIRROR" >&2
		return 1
	fi
	echo "$uri"
}

# How this machine's apt reaches its mirror, and whether it puts up with one that
# stands still, goes for the tree's apt too. Signatures are always checked.
tree_apt_options() {
	apt-config dump --no-empty --format '%f "%v";%n' Acquire 2>/dev/null |
		grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Retries)' || true
	echo 'Acquire::Languages "none";'
	echo 'APT::Install-Recommends "false";'
}

# tree_remove DIRECTORY: never through a mount, should one have been left there.
tree_remove() {
	if grep -qF " $1/" /proc/self/mountinfo; then
		ui_say "something is mounted below $1: unmount it first" >&2
		return 1
	fi
	rm -rf --one-file-system "$1"
}

# Nobody reads manuals in the lab. dpkg must not wait for the disk: a tree that
# was interrupted is thrown away.
tree_bootstrap() {
	local release=$1 target=$2 keyring=$3 mirror=$4 what source
	local -a options=(--variant=minbase --format=directory
		"--include=$(tree_packages "$release" | paste -sd,)"
		"--aptopt=$target.apt" "--keyring=$keyring"
		--dpkgopt=force-unsafe-io --skip=check/qemu)
	for what in man info locale doc lintian; do
		options+=("--dpkgopt=path-exclude=/usr/share/$what/*")
	done
	tree_apt_options >"$target.apt"
	source=${mirror:+deb [signed-by=$keyring] $mirror $release main}
	mmdebstrap "${options[@]}" "$release" "$target" ${source:+"$source"}
}

# What only a lab machine needs: its modules where modprobe looks for them (the kernel
# loads ciphers that way when a key is installed), what its own kernel needs on newer
# processors, and mount points.
tree_finish() {
	local root=$1 version
	version=$(basename "$(echo "$root"/usr/lib/uml/modules/*)")
	mkdir -p "$root/lib/modules" "$root/lab"
	ln -sfn "/usr/lib/uml/modules/$version" "$root/lib/modules/$version"
	chroot "$root" depmod "$version" || return 1
	cp "$LAB_SRC/xstate.c" "$root/lab/" || return 1
	chroot "$root" gcc -O2 -Wall -Wextra -Werror -fPIC -shared \
		-o /lab/xstate.so /lab/xstate.c || return 1
	printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
	echo "$version" >"$root/lab/kernel"
}

# Made under another name, so that a tree that exists is whole.
tree_make() {
	local release=$1 keyring=$2 mirror tree new
	command -v mmdebstrap >/dev/null || { ui_say "mmdebstrap is not installed" >&2; return 1; }
	mirror=$(tree_mirror) || return 1
	tree=$(tree_path "$release")
	new=$LAB_DIR/tmp/$(basename "$tree")
	mkdir -p "$LAB_DIR/tmp"
	tree_remove "$new" || return 1
	tree_bootstrap "$release" "$new" "$keyring" "$mirror" || return 1
	tree_finish "$new" || return 1
	mv "$new" "$tree"
}

# With the keys of this machine, or else with those of the release before.
tree_make_somehow() {
	local release=$1 log=$2 before keyring
	keyring=${RINGTLS_LAB_KEYRING:-$(tree_keyring "")}
	[[ -n "$keyring" ]] || { ui_say "no Debian keyring here: install debian-archive-keyring" >&2; return 1; }
	ui_step "$release: making its tree" "$log" tree_make "$release" "$keyring" && return
	before=$(tree_predecessor "$release")
	[[ -n "$before" ]] || return 1
	grep -qE 'NO_PUBKEY|Missing key' "$log" || return 1
	ui_say "$release: signed with keys that are unknown here; taking those of $before"
	tree_ensure "$before" || return 1
	ui_step "$release: making its tree" "$log" tree_make "$release" "$(tree_keyring "$(tree_path "$before")")"
}

# tree_ensure RELEASE: the tree is there. Two at once: the second waits.
tree_ensure() {
	local release=$1 tree log lock
	tree=$(tree_path "$release")
	[[ ! -d "$tree" ]] || return 0
	log=$(lab_log "$release" tree)
	mkdir -p "$LAB_DIR"
	exec {lock}>"$tree.lock"
	lab_lock "$lock" -x "$release: waiting for who else makes its tree"
	if [[ ! -d "$tree" ]]; then
		tree_make_somehow "$release" "$log" || { exec {lock}>&-; return 1; }
		tree_prune "$release" "$tree"
	fi
	exec {lock}>&-
}

# tree_prune RELEASE TREE: a new tree comes with a new recipe; older trees go
# once nobody has used them for a week.
tree_prune() {
	local old lock
	for old in "$LAB_DIR/$1"-????????; do
		[[ "$old" != "$2" && -n "$(find "$old.lock" -mtime +6 2>/dev/null)" ]] || continue
		exec {lock}>"$old.lock"
		! flock -n -x "$lock" || tree_remove "$old"
		exec {lock}>&-
	done
}
