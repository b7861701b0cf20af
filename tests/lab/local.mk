EXTRA_DIST += \
	.ci/run \
	.clang-tidy \
	src/tools/.clang-tidy \
	tests/analyse/analyse \
	tests/analyse/covered \
	tests/analyse/gcc.known \
	tests/analyse/scan \
	tests/analyse/serve-threads \
	tests/analyse/threads.known \
	tests/analyse/valgrind.known \
	tests/lab/lab \
	tests/lab/check.sh \
	tests/lab/guest-init \
	tests/lab/guest.sh \
	tests/lab/inside \
	tests/lab/packages \
	tests/lab/sources.sh \
	tests/lab/tree.sh \
	tests/lab/xstate.c \
	tests/lab/selftest \
	tests/lib/build.sh \
	tests/lib/demo \
	tests/lib/packages.sh \
	tests/lib/tap.sh \
	tests/lib/ui.sh
