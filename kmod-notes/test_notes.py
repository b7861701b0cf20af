"""test_notes.py - a claim without a test does not exist: what the notes name is there,
and what the tests find has its note and its row.
"""
import glob
import os
import re
import sys

sys.path.insert(0, os.path.join(os.environ.get("abs_top_srcdir") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), ".."), "tests", "docs"))

from docs import SOURCE, Failure, main, read  # noqa: E402 pylint: disable=wrong-import-position

INDEX = "kmod-notes/README.md"
TABLE = "kmod-notes/table.md"


def relative(pattern):
    found = glob.glob(os.path.join(SOURCE, pattern))
    return sorted(os.path.relpath(path, SOURCE) for path in found)


def notes():
    return [path for path in relative("kmod-notes/*.md") if path not in (INDEX, TABLE)]


def kernel_tests():
    """What the lists of test_kernel name."""
    return {name for path in relative("tests/unit/kernel_*.c")
            for name in re.findall(r"^\tT\((\w+)\)", read(path), re.M)}


def all_tests():
    return {name for path in relative("tests/unit/*.c")
            for name in re.findall(r"^static void (\w+)\(void \*\*", read(path), re.M)}


def claims(note):
    """title -> text of each section."""
    return re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", read(note), re.M | re.S)


def tests_of(claim):
    named = re.search(r"^- Tests: (.+?)(?=\n\n|\n- |\Z)", claim, re.M | re.S)
    return re.findall(r"`(\w+)`", named.group(1)) if named else []


def all_or_nothing(wrong):
    if wrong:
        raise Failure("\n".join(wrong))


def every_claim_names_tests_that_are_there():
    known = all_tests()
    wrong = []
    for note in notes():
        found = claims(note)
        wrong += [] if found else [f"{note}: no claim"]
        for title, text in found:
            if not tests_of(text):
                wrong.append(f"{note}: {title}: no test")
            wrong += [f"{note}: {title}: there is no test {name}"
                      for name in tests_of(text) if name not in known]
            wrong += [f"{note}: {title}: no line {part}"
                      for part in ("Source", "ringtls") if f"\n- {part}: " not in text]
    all_or_nothing(wrong)


def every_kernel_test_is_named_by_a_claim():
    named = {name for note in notes() for _, text in claims(note) for name in tests_of(text)}
    all_or_nothing([f"no note names {name}" for name in sorted(kernel_tests() - named)])


def every_note_is_in_the_index():
    listed = re.findall(r"^\| \[([\w-]+\.md)\]", read(INDEX), re.M)
    here = [os.path.basename(note) for note in notes()]
    all_or_nothing([f"{INDEX} does not list {name}" for name in here if name not in listed] +
                   [f"{INDEX} lists {name}" for name in listed if name not in here])


def the_table_has_the_rows_that_the_tests_print():
    source = "".join(read(path) for path in relative("tests/unit/kernel_*.c"))
    source = re.sub(r'"\s+"', "", source)
    printed = set(re.findall(r'"([\w-]+/[^":%]+)"', source))
    rows = {name for name in re.findall(r"^\| ([\w-]+/[^|]+) \|", read(TABLE), re.M)}
    files = {os.path.basename(note)[:-3] for note in notes()}
    all_or_nothing([f"{TABLE}: no test prints {name}" for name in sorted(rows - printed)] +
                   [f"no note {name.split('/')[0]}.md for {name}"
                    for name in sorted(rows) if name.split("/")[0] not in files] +
                   [f"{TABLE} has no row {name}" for name in sorted(printed - rows)
                    if name.split("/")[0] in files])


def test(plan):
    for check in (every_claim_names_tests_that_are_there, every_kernel_test_is_named_by_a_claim,
                  every_note_is_in_the_index, the_table_has_the_rows_that_the_tests_print):
        with plan.check(check.__name__.replace("_", " ")):
            check()


main(test)
