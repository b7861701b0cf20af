"""test_install.py - "make install" puts everything in its place, and a program can be
built there with what pkg-config says, as README.md tells it.
"""
import os
import re
import shlex
import shutil
import subprocess
import tempfile

from docs import BUILD, SOURCE, Failure, Skip, exported, main, read, run, tool


def variables(*names):
    """Variables of the configured Makefile, such as libdir, fully expanded."""
    lines = "".join(f"\t@echo {name}=$({name})\n" for name in names)
    text = run(["make", "-s", "-C", BUILD, "-f", "-", "show"], env=clean_environment(),
               input=f"include Makefile\nshow:\n{lines}".encode())
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return [found[name] for name in names]


def clean_environment():
    """Ours, without what the make above us hands down."""
    return {name: value for name, value in os.environ.items()
            if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "DESTDIR",
                            "LD_LIBRARY_PATH")}


class Place:
    """Where it was installed."""

    def __init__(self, root):
        self.root = root
        run(["make", "-C", BUILD, "install", "DESTDIR=" + root], env=clean_environment())
        (self.prefix, self.bindir, self.libdir, self.includedir, self.mandir,
         self.version) = variables("prefix", "bindir", "libdir", "includedir", "mandir",
                                   "PACKAGE_VERSION")
        self.environment = dict(
            clean_environment(), PKG_CONFIG_SYSROOT_DIR=root,
            PKG_CONFIG_PATH=self.path(os.path.join(self.libdir, "pkgconfig")),
            LD_LIBRARY_PATH=self.path(self.libdir))

    def path(self, path):
        return self.root + path

    def pkg_config(self, *arguments):
        return run(tool("PKG_CONFIG", "pkg-config") + list(arguments),
                   env=self.environment).split()


def library_header_and_pkg_config_file_are_there(place):
    headers = f"{place.includedir}/ringtls"
    wanted = [f"{place.libdir}/libringtls.so", f"{place.libdir}/pkgconfig/ringtls.pc",
              f"{headers}/ringtls.h", f"{headers}/version.h"]
    missing = [path for path in wanted if not os.path.exists(place.path(path))]
    if missing:
        raise Failure("not installed: " + " ".join(missing))
    more = [name for name in os.listdir(place.path(headers)) if name not in ("ringtls.h", "version.h")]
    if more:
        raise Failure("installed, and not public: " + " ".join(more))


def programs_run_from_there(place):
    folder = place.path(place.bindir)
    for name in sorted(os.listdir(folder)):
        text = run([os.path.join(folder, name), "--version"], env=place.environment)
        if place.version not in text:
            raise Failure(f"{name} --version: {text}")


def everything_is_bound_at_the_start(place):
    """The reason stands in configure.ac."""
    if "-z,now" not in variables("HARDEN_LDFLAGS")[0]:
        raise Skip("this linker does not")
    folder = place.path(place.bindir)
    files = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    for path in files + [place.path(f"{place.libdir}/libringtls.so")]:
        if not re.search(r"FLAGS.*\bNOW\b", run(["readelf", "-d", path])):
            raise Failure(f"functions of {path} are bound late")


def every_function_has_its_page_there(place):
    folder = place.path(place.mandir)
    missing = [name for name in exported()
               if not os.path.exists(f"{folder}/man3/{name}.3")]
    if missing:
        raise Failure("no page for " + " ".join(missing))
    if not shutil.which("man"):
        raise Skip("no man here")
    for name in ("ringtls_write", "ringtls_write_ex"):  # a page, and what leads to it
        text = run(["man", "-M", folder, name], env=dict(place.environment, MANPAGER="cat"))
        if name not in text:
            raise Failure(f"man {name}:\n{text[:400]}")


def readme_command(place):
    """The command that README.md gives for the program in it, without its compiler."""
    match = re.search(r"^cc get\.c -o get \$\(pkg-config (.*)\)$", read("README.md"), re.M)
    if not match:
        raise Failure("README.md does not say how to compile get.c")
    return place.pkg_config(*match.group(1).split())


def build(place, flags, name):
    program = os.path.join(place.root, name)
    # The library may have been built with a sanitizer, which its programs then need.
    ours = shlex.split(os.environ.get("CFLAGS", "")) + shlex.split(os.environ.get("LDFLAGS", ""))
    run(tool("CC", "cc") + ours + [os.path.join(SOURCE, "doc", "examples", name + ".c"),
                                   "-o", program] + flags, env=place.environment)
    return program


def examples_build_with_pkg_config_alone(place):
    flags = readme_command(place)
    for name in ("get", "send_file", "epoll_echo"):
        build(place, flags, name)


def a_program_runs_with_the_library_there(place):
    program = build(place, readme_command(place), "get")
    # It exits without cleaning up, which LeakSanitizer would report.
    done = subprocess.run([program], env=dict(place.environment, ASAN_OPTIONS="detect_leaks=0"),
                          timeout=60, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode != 2 or b"usage" not in done.stdout:
        raise Failure(f"status {done.returncode}: {done.stdout.decode()}")
    linked = run(["ldd", program], env=place.environment)
    if place.path(place.libdir) not in linked:
        raise Failure("it does not run with the library that was installed:\n" + linked)


def uninstall_leaves_nothing_behind(place):
    run(["make", "-C", BUILD, "uninstall", "DESTDIR=" + place.root], env=clean_environment())
    left = [os.path.join(folder, name) for folder, _, names in os.walk(place.path(place.prefix))
            for name in names]
    if left:
        raise Failure("left behind: " + " ".join(left))


def test(plan):
    if not os.path.exists(os.path.join(BUILD, "Makefile")):
        raise Skip("nothing was built")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(os.path.realpath(folder))
        for check in (library_header_and_pkg_config_file_are_there, programs_run_from_there,
                      everything_is_bound_at_the_start,
                      every_function_has_its_page_there, examples_build_with_pkg_config_alone,
                      a_program_runs_with_the_library_there, uninstall_leaves_nothing_behind):
            with plan.check(check.__name__.replace("_", " ")):
                check(place)


main(test)
