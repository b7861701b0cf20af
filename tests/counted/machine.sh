# shellcheck shell=bash
# machine.sh - the emulated machine: its kernel, its file system, its run. Sourced
# by counted.

# AES-NI and its modes, the kernel's own AEADs, and TLS itself; a disk in memory, and what to
# put on it. Those that a kernel has built in, or does not know, are left out.
MACHINE_MODULES="aesni_intel gcm ccm ghash ctr chacha20poly1305 tls brd ext4"

MACHINE_KERNEL=

# Packages of a release's kernel for virtual machines: the image itself, or, where
# that is split, its parts.
machine_packages() {
	local name deps
	deps=$(apt-cache depends linux-image-cloud-amd64 |
		sed -nE 's/^ +Depends: (linux-image-[0-9].*)/\1/p')
	for name in $deps; do
		apt-cache depends "$name" |
			sed -nE 's/^ +Depends: (linux-(binary|modules)-[0-9].*)/\1/p' | sort -u |
			grep . || echo "$name"
	done
}

# The tree's apt, run from outside, with lists of its own: the tree stays as it is.
machine_download() {
	local tree=$1 new=$2
	mkdir -p "$new/apt/lists/partial" "$new/apt/cache/archives/partial" "$new/deb"
	sed "s|signed-by=/|signed-by=$tree/|" "$tree/etc/apt/sources.list" >"$new/apt/sources.list"
	cat "$tree"/etc/apt/apt.conf.d/99mmdebstrap - >"$new/apt/apt.conf" 2>/dev/null <<-END
		Dir::Etc::sourcelist "$new/apt/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::State::lists "$new/apt/lists";
		Dir::Cache "$new/apt/cache";
		APT::Sandbox::User "root";
	END
	export APT_CONFIG=$new/apt/apt.conf
	local -a names
	apt-get update && mapfile -t names < <(machine_packages) &&
		cd "$new/deb" && apt-get download "${names[@]}"
}

machine_kernel_make() {
	local tree=$1 kernel=$2 new=$2.new deb version
	rm -rf "$new"
	(machine_download "$tree" "$new") || return 1
	for deb in "$new"/deb/*.deb; do
		dpkg-deb -x "$deb" "$new" || return 1
	done
	[[ -d "$new/lib" ]] || ln -s usr/lib "$new/lib"
	version=$(basename "$(echo "$new"/lib/modules/*)")
	depmod -b "$new" "$version" || return 1
	echo "$version" >"$new/version"
	# In /boot, or beside its modules.
	find "$new" -type f -name 'vmlinuz*' -exec ln {} "$new/vmlinuz" ';' -quit
	rm -rf "$new/apt" "$new/deb"
	mv "$new" "$kernel"
}

# machine_kernel TREE: its folder is in MACHINE_KERNEL. Made once for a recipe.
machine_kernel() {
	local key lock
	key=$(declare -f machine_packages machine_download machine_kernel_make | sha256sum | cut -c1-8)
	MACHINE_KERNEL=$LAB_DIR/kernel-$RELEASE-$key
	[[ ! -d "$MACHINE_KERNEL" ]] || return 0
	exec {lock}>"$MACHINE_KERNEL.lock"
	flock "$lock"
	if [[ ! -d "$MACHINE_KERNEL" ]]; then
		ui_step "fetching the kernel" "$FOLDER/log" machine_kernel_make "$1" "$MACHINE_KERNEL" ||
			return 1
	fi
	exec {lock}>&-
}

# The modules and those that they need, in the order to load them, unpacked.
machine_modules() {
	local to=$1 version name path
	version=$(cat "$MACHINE_KERNEL/version")
	mkdir -p "$to/modules"
	for name in $MACHINE_MODULES; do
		modprobe -d "$MACHINE_KERNEL" -S "$version" --show-depends "$name" 2>/dev/null || true
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r path; do
		name=$(basename "$path")
		case "$name" in
		*.xz) xz -dc "$path" >"$to/modules/${name%.xz}" ;;
		*.zst) zstd -qdc "$path" >"$to/modules/${name%.zst}" ;;
		*) cp "$path" "$to/modules/$name" ;;
		esac
		basename "${name%.xz}" .zst
	done >"$to/modules/order"
}

# The program and its libraries, as the tree has them: ringtls is linked into it (tests/lab/inside).
machine_program() {
	local tree=$1 build=$2 to=$3 name
	install -D "$tree$build/ringtls-bench" "$to/bin/ringtls-bench"
	mkdir -p "$to/lib" "$to/lib64"
	chroot "$tree" ldd "$build/ringtls-bench" |
		grep -oE '/[^ ]+' | sort -u | while read -r name; do
		if [[ "$name" == /lib64/* ]]; then
			cp -L "$tree$name" "$to/lib64/"
		else
			cp -L "$tree$name" "$to/lib/"
		fi
	done
}

# machine_initramfs TREE BUILD FILE ARGUMENT...: BUILD as the tree sees it.
machine_initramfs() {
	local tree=$1 build=$2 file=$3 root=$FOLDER/root
	shift 3
	rm -rf "$root"
	mkdir -p "$root"/{bin,proc,sys,dev,tmp,data,etc}
	cp "$(command -v busybox)" "$root/bin/busybox"
	install -m 755 "$HERE/guest-init" "$root/init"
	machine_modules "$root"
	machine_program "$tree" "$build" "$root"
	(($# == 0)) || printf '%s\n' "$@" >"$root/arguments"
	(cd "$root" && find . -print0 | cpio -0 -o -H newc --quiet) >"$file"
}

# Without ERMS and FSRM: with them the kernel copies by "rep movsb", and that is
# one instruction for each byte here, as it is on no real machine.
machine_qemu() {
	local initramfs=$1
	shift
	qemu-system-x86_64 -cpu max,-erms,-fsrm -icount shift=0,sleep=off -smp 1 -m 1024 \
		-display none -no-reboot -nodefaults \
		-kernel "$MACHINE_KERNEL/vmlinuz" -initrd "$initramfs" \
		-append 'console=ttyS0 panic=-1 quiet loglevel=1 mitigations=off' "$@"
}

# machine_run INITRAMFS JSON: what ringtls-bench prints comes on the first serial
# line as it is ready, the JSON on the second.
machine_run() {
	local status=0 start=$SECONDS
	ui_say "starting the machine ($(cat "$MACHINE_KERNEL/version"))"
	ui_start machine_qemu "$1" -serial stdio -serial "file:$2" </dev/null > >(sed -u 's/\r$//')
	if ! ui_wait "$TIMEOUT" "$UI_STEP"; then
		ui_say "killed after $TIMEOUT s"
		return 1 # it ends with this script
	fi
	wait "$UI_STEP" || status=$?
	UI_STEP=
	ui_say "the machine has ended after $((SECONDS - start)) s"
	return "$status"
}

# Without the kernel's AES-NI the kernel lane would be measured with tables in C.
machine_believe() {
	local aead
	aead=$(python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
print(" ".join(d["crypto"]))' "$1" 2>/dev/null) || {
		ui_say "no figures came out of the machine"
		return 1
	}
	ui_say "gcm(aes) of the kernel: $aead"
	[[ " $aead" == *" generic-gcm-aesni"* || " $aead" == *" generic-gcm-vaes"* ]] ||
		{ ui_say "that is not AES-NI: nothing that was measured is to be believed"; return 1; }
}
