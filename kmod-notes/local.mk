# What the kernel does that ringtls relies on: the notes, and the test of the notes.
kmod_notes = \
	kmod-notes/README.md \
	kmod-notes/drain.md \
	kmod-notes/errors.md \
	kmod-notes/flags.md \
	kmod-notes/module.md \
	kmod-notes/point-of-no-return.md \
	kmod-notes/records.md \
	kmod-notes/rekey.md \
	kmod-notes/ring.md \
	kmod-notes/segments.md \
	kmod-notes/sendfile.md \
	kmod-notes/short-sends.md \
	kmod-notes/table.md

TESTS += kmod-notes/test_notes.py
EXTRA_DIST += $(kmod_notes) kmod-notes/table kmod-notes/test_notes.py
