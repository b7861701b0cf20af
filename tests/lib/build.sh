# shellcheck shell=bash
# build.sh - builds a checkout in a folder beside its source. Source it after
# ui.sh and with TOP set to the top of the source.

# A tarball has its configure; make keeps it up to date otherwise.
build_configure_script() {
	if [[ ! -x "$TOP/configure" || "$TOP/configure.ac" -nt "$TOP/configure" ]]; then
		mkdir -p "$TOP/m4" # git keeps no empty folder, and aclocal warns without it
		(cd "$TOP" && autoreconf -fi)
	fi
}

# build_configured FOLDER: the arguments that an earlier run gave to configure.
build_configured() {
	cat "$1/configured" 2>/dev/null || true
}

# build_configure FOLDER ARGUMENT...: anew when the arguments changed; then what
# was built with the others goes, as make would not notice.
build_configure() {
	local folder=$1
	shift
	[[ ! -e "$folder/config.status" || "$(build_configured "$folder")" != "$*" ]] || return 0
	cd "$folder" || return 1
	[[ ! -e Makefile ]] || make -s clean
	"$TOP/configure" --quiet "$@"
	echo "$*" >configured
}

# build_make LOG FOLDER ARGUMENT...: arguments are configure's.
build_make() {
	local log=$1 folder=$2
	shift 2
	mkdir -p "$folder"
	if [[ -e "$TOP/config.status" ]]; then
		ui_say "this checkout is configured in its own folder: run make distclean there first"
		return 1
	fi
	ui_step "autoreconf" "$log" build_configure_script &&
		ui_step "configure${*:+ $*}" "$log" build_configure "$folder" "$@" &&
		ui_step "make" "$log" make -C "$folder" -j"$(nproc)"
}
