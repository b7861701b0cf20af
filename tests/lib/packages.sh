# shellcheck shell=bash
# packages.sh - what must be installed, by role (see tests/lab/packages).
# Source it after ui.sh and with TOP set to the top of the source.

# The Debian release whose lines count; a newer one is taken for the newest known.
packages_release() {
	local ID='' VERSION_CODENAME=''
	# shellcheck source=/dev/null
	[[ ! -r /etc/os-release ]] || . /etc/os-release
	case "$VERSION_CODENAME" in
	bookworm | trixie | forky) echo "$VERSION_CODENAME" ;;
	*) echo forky ;;
	esac
}

packages_on_debian() {
	local ID=''
	# shellcheck source=/dev/null
	[[ ! -r /etc/os-release ]] || . /etc/os-release
	[[ "$ID" == debian ]]
}

# packages_list RELEASE ROLE...: one name a line.
packages_list() {
	local release=$1
	shift
	awk -v release="$release" -v roles="$*" '
		BEGIN { n = split(roles, r, " "); for (i = 1; i <= n; i++) wanted[r[i]] }
		/^#/ || NF < 3 || !($1 in wanted) { next }
		("," $2 ",") !~ ("," release ",") && $2 != "any" { next }
		{ for (i = 3; i <= NF; i++) print $i }' \
		"$TOP/tests/lab/packages" | sort -u
}

# packages_missing RELEASE ROLE...: those that dpkg does not have installed.
packages_missing() {
	local name
	for name in $(packages_list "$@"); do
		[[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" == installed ]] ||
			echo "$name"
	done
}

# packages_tools ROLE...: the commands and pkg-config modules that stand for
# these roles where there is no dpkg to ask.
packages_tools() {
	local role
	for role; do
		case "$role" in
		build) echo cc make autoreconf libtoolize pkg-config pc:libssl pc:liburing pc:jansson ;;
		demo) echo curl ;;
		test) echo pc:cmocka openssl gnutls-cli python3 strace ip ps ;;
		check) echo clang llvm-cov llvm-profdata g++ groff mandoc man pmccabe shellcheck xz ;;
		peer) echo nginx node ;;
		analyse) echo clang-tidy cppcheck valgrind ;;
		scan) echo sslscan testssl ;;
		host) echo mmdebstrap rsync unshare setpriv flock ;;
		counted) echo qemu-system-x86_64 busybox cpio depmod dpkg-deb zstd ;;
		esac
	done
}

packages_tools_missing() {
	local tool
	for tool in $(packages_tools "$@"); do
		case "$tool" in
		pc:*) pkg-config --exists "${tool#pc:}" 2>/dev/null || echo "${tool#pc:} (pkg-config)" ;;
		*) command -v "$tool" >/dev/null || echo "$tool" ;;
		esac
	done
}

as_root() {
	if [[ "$(id -u)" == 0 ]]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		ui_say "not root, and there is no sudo; as root run: $*"
		return 1
	fi
}

packages_apt() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@"
}

# packages_install NAME...: a server among them (nginx) is here for the tests, which
# start it themselves; on its own it must not run, neither now nor at the next boot.
packages_install() (
	policy=/usr/sbin/policy-rc.d
	if [[ ! -e "$policy" ]]; then
		trap 'as_root rm -f "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
		as_root chmod 755 "$policy"
	fi
	packages_apt install -y --no-install-recommends "$@" || exit
	if [[ " $* " == *" nginx "* ]] && command -v systemctl >/dev/null; then
		as_root systemctl disable nginx || true
	fi
)

# packages_need LOG ROLE...: installs what is missing on Debian; elsewhere says
# what to install, and fails, unless everything needed is there already.
packages_need() {
	local log=$1
	shift
	if packages_on_debian; then
		packages_need_debian "$log" "$@"
	else
		packages_need_elsewhere "$@"
	fi
}

packages_need_debian() {
	local log=$1 missing
	shift
	missing=$(packages_missing "$(packages_release)" "$@" | xargs)
	if [[ -z "$missing" ]]; then
		ui_say "every package that is needed is installed"
		return 0
	fi
	ui_say "installing: $missing"
	# An index that is out of date, or a foreign source that does not answer,
	# is no failure yet: the installation decides.
	ui_step "apt-get update" "$log" packages_apt update ||
		ui_say "apt-get update failed; going on with the package lists that are here"
	# shellcheck disable=SC2086 # a list of names
	ui_step "apt-get install" "$log" packages_install $missing
}

packages_need_elsewhere() {
	local missing
	missing=$(packages_tools_missing "$@" | xargs)
	if [[ -z "$missing" ]]; then
		ui_say "not Debian, but everything needed seems to be here"
		return 0
	fi
	ui_say "this is not Debian, so nothing is installed; not found: $missing"
	ui_say "on Debian the packages are: $(packages_list forky "$@" | xargs)"
	return 1
}
