"""test_texts.py - the files and the tests that README, CONTRIBUTING, SECURITY, DESIGN and the
comments of the source name are there.
"""
import glob
import os
import re

from docs import SOURCE, Failure, main, read

TEXTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "doc/DESIGN.md")
TEST_FILES = ("tests/unit/*.c", "tests/e2e/*.py", "tests/docs/*.py")


def spans(text):
    """What stands `in such quotes`."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def is_there(path):
    places = (path, "src/" + path, "doc/examples/" + path, "doc/" + path)
    return any(os.path.exists(os.path.join(SOURCE, place)) for place in places)


def all_or_nothing(wrong):
    if wrong:
        raise Failure("\n".join(wrong))


def files_that_are_named_exist():
    looks_like_one = r"[\w.-]+(/[\w.*-]+)+/?|[\w-]+\.(c|h|py|md|dot|mk|ac|am|sh)"
    all_or_nothing([f"{name} names {path}" for name in TEXTS for path in spans(read(name))
                    if re.fullmatch(looks_like_one, path) and "*" not in path
                    and not is_there(path)])


def tests_that_are_named_exist():
    known = set()
    for pattern in TEST_FILES:
        for path in glob.glob(os.path.join(SOURCE, pattern)):
            known |= set(re.findall(r"\b(?:void|def) (\w+)\(", read(path)))
    all_or_nothing([f"{name} names the test {test}" for name in TEXTS
                    for test in spans(read(name))
                    if re.fullmatch(r"[a-z]+(_[a-z]+){3,}", test) and test not in known])


def lines_are_not_too_long():
    all_or_nothing([f"{name}:{number}: {len(line)} characters" for name in TEXTS
                    for number, line in enumerate(read(name).splitlines(), 1)
                    if len(line) > 110 and not line.startswith("|")])


def test(plan):
    for check in (files_that_are_named_exist, tests_that_are_named_exist, lines_are_not_too_long):
        with plan.check(check.__name__.replace("_", " ")):
            check()


main(test)
