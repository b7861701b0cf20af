"""docs.py - what the tests of the documents and of the source's shape share.

TAP and processes come from tests/e2e/e2e.py. CC and its flags come from make; by
hand, the defaults of pkg-config do.
"""
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

SOURCE = os.environ.get("abs_top_srcdir") or os.path.abspath(
    os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("abs_top_builddir") or os.path.join(SOURCE, "build")
sys.path.insert(0, os.path.join(SOURCE, "tests", "e2e"))

from e2e import Failure, Skip, main  # noqa: E402, F401 pylint: disable=wrong-import-position

HEADER = os.path.join(SOURCE, "include", "ringtls", "ringtls.h")
MAP = os.path.join(SOURCE, "src", "ringtls.map")
INCLUDES = ["-I" + os.path.join(SOURCE, "include"), "-I" + os.path.join(BUILD, "include")]


def read(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as file:
        return file.read()


def tool(variable, default):
    """A tool as make knows it, as a list of words; Skip where there is none."""
    words = shlex.split(os.environ.get(variable) or default)
    if not words or not shutil.which(words[0]):
        raise Skip(f"no {default} here")
    return words


def run(command, **options):
    """Both outputs as text; Failure when the command fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
                          check=False, **options)
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        raise Failure(f"{shlex.join(command)}: status {done.returncode}\n{text}")
    return text


def compile_c(text, *flags, suffix=".c", compiler=None):
    """Lets the compiler read a source text; Failure with what it said."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "source" + suffix)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        command = (compiler or tool("CC", "cc")) + list(flags) + INCLUDES
        run(command + shlex.split(os.environ.get("DEPS_CFLAGS", "")) + ["-fsyntax-only", path])


def without_comments(text):
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


def tokens(text):
    """C without its comments and blanks, so that two layouts compare equal."""
    return re.findall(r"\w+|[^\w\s]", without_comments(text))


def exported():
    """The functions of the symbol map."""
    return sorted(re.findall(r"^\t(ringtls_\w+);$", read("src", "ringtls.map"), re.M))


def declarations():
    """name -> the tokens of its declaration in the public header."""
    found = re.findall(r"^RINGTLS_API ([^;]+);", without_comments(read(HEADER)), re.M)
    return {re.search(r"(ringtls_\w+)\(", text).group(1): tokens(text) for text in found}


def structures():
    """name -> the tokens of the structures and enumerations that are defined there."""
    text = without_comments(read(HEADER))
    found = re.findall(r"^((?:struct|enum) (\w+) \{.*?^\});", text, re.M | re.S)
    return {name: tokens(body) for body, name in found}
