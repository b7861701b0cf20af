"""test_functions.py - functions stay short and simple, from the first commit on.

There is no list of exceptions: a function that is too long is two functions.
"""
import glob
import os
import shutil

from docs import SOURCE, Failure, Skip, main, read, run

LINES = 60
COMPLEXITY = 15  # a switch counts as one
FOLDERS = ("src", "src/tools", "doc/examples", "tests/unit", "tests/fuzz", "tests/e2e")


def sources(*folders):
    return sorted(os.path.relpath(path, SOURCE) for folder in folders
                  for path in glob.glob(os.path.join(SOURCE, folder, "*.c")))


def bodies(path):
    """(line of the brace that opens it, lines in it)"""
    start = None
    for number, line in enumerate(read(path).splitlines(), 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            yield start, number - start - 1
            start = None


def functions_have_less_than_60_lines():
    wrong = [f"{path}:{start}: {lines} lines" for path in sources(*FOLDERS)
             for start, lines in bodies(path) if lines >= LINES]
    if wrong:
        raise Failure("\n".join(wrong))


def functions_have_a_complexity_of_15_at_most():
    if not shutil.which("pmccabe"):
        raise Skip("no pmccabe here")
    lines = run(["pmccabe", *sources("src", "src/tools", "doc/examples")], cwd=SOURCE)
    wrong = [line for line in lines.splitlines() if int(line.split()[0]) > COMPLEXITY]
    if wrong:
        raise Failure("\n".join(wrong))


def test(plan):
    for check in (functions_have_less_than_60_lines, functions_have_a_complexity_of_15_at_most):
        with plan.check(check.__name__.replace("_", " ")):
            check()


main(test)
