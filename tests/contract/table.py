#!/usr/bin/env python3
"""table.py - the contract of SSL_write, row by row: which tests show it, and where.

  table.py RELEASE=LOG...

The rows are in the file beside this one, and say which tests are theirs. A LOG is
what "make check" printed. Printed is a line for each row, with a column for each
lane on each release: how many tests passed, and how many were skipped ("s"). A row
that has no test in a lane, version, mode or backend where it must have one is an
error, and so is one that passed in a lane nowhere.
"""
import collections
import fnmatch
import os
import re
import sys

LANES = ("kernel", "user", "openssl")
BACKENDS = ("uring", "syscalls")
MODES = {"n": "non-blocking", "b": "blocking"}
ROWS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rows")
RESULT = re.compile(r"(PASS|XFAIL|FAIL|ERROR|XPASS|SKIP): (\S+) \d+ - (.*)")

Row = collections.namedtuple("Row", "name lanes versions modes tests statement")
# What a test's name says of itself; None: it is about all of them.
Result = collections.namedtuple("Result", "kind test lane backend version mode reason")


def read_rows():
    rows = []
    with open(ROWS, encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                name, lanes, versions, modes, tests, statement = (
                    part.strip() for part in line.split("|"))
                rows.append(Row(name, LANES if lanes == "all" else lanes.strip("-").split(),
                                versions.split(), modes.split(), tests.split(), statement))
    return rows


def first(words, among):
    return next((word for word in words if word in among), None)


def read_results(log):
    results = []
    with open(log, encoding="utf-8", errors="replace") as file:
        for match in filter(None, map(RESULT.match, file)):
            kind, _, text = match.groups()
            text, _, reason = text.partition(" # SKIP")
            where, _, test = text.rpartition(": ")
            words = where.split()
            version = first(words, ("TLSv1.2", "TLSv1.3"))
            results.append(Result(
                kind, test.strip(), "openssl" if "auto" in words else first(words, LANES),
                first(words, BACKENDS), version and version[-3:],
                {"blocking": "b", "non-blocking": "n"}.get(
                    first(words, ("blocking", "non-blocking"))), reason.strip()))
    return results


def of_row(row, results):
    """The row's results; a pattern may say which mode its tests are about: n:name."""
    for result in results:
        for test in row.tests:
            mode, _, pattern = test.rpartition(":")
            if fnmatch.fnmatchcase(result.test, pattern):
                yield result._replace(mode=mode or result.mode)
                break


def missing(row, lane, results):
    """The combinations of a lane that must have a test, and have none."""
    for version in row.versions:
        for mode in row.modes:
            for backend in BACKENDS:
                if not any(r.lane == lane and r.backend in (backend, None) and
                           r.version in (version, None) and r.mode in (mode, None)
                           for r in results):
                    yield f"{lane} {backend} TLSv{version} {MODES[mode]}"


def cell(row, lane, results):
    if row.lanes and lane not in row.lanes:
        return "-"
    count = collections.Counter(r.kind for r in results if r.lane == lane or not row.lanes)
    if count["FAIL"] + count["ERROR"] + count["XPASS"]:
        return "FAILED"
    passed, skipped = count["PASS"] + count["XFAIL"], count["SKIP"]
    return (f"{passed or ''}{'+' if passed and skipped else ''}{f'{skipped}s' if skipped else ''}"
            or "none")


class Table:
    def __init__(self, logs):
        self.results = {release: read_results(log) for release, log in logs}
        self.reasons = collections.Counter()
        self.wrong = []

    def judge(self, row, release, results):
        if not results:
            self.wrong.append(f"{row.name}: {release} has no test of it")
        for lane in row.lanes if results else ():
            for what in missing(row, lane, results):
                self.wrong.append(f"{row.name}: {release} has no test for {what}")
        for r in results:
            if r.kind == "SKIP":
                self.reasons[f"{release}: {r.lane or 'any lane'}: {r.reason or 'no reason'}"] += 1
                if not r.reason:
                    self.wrong.append(f"{row.name}: {release} skips {r.test} and says no reason")
            elif r.kind not in ("PASS", "XFAIL"):
                self.wrong.append(f"{row.name}: {release}: {r.test} failed")

    def line(self, row):
        cells, passed = [], set()
        for release, results in self.results.items():
            mine = list(of_row(row, results))
            self.judge(row, release, mine)
            passed |= {r.lane for r in mine if r.kind in ("PASS", "XFAIL")}
            cells += [cell(row, lane, mine) for lane in LANES]
        for lane in row.lanes or [None]:
            if lane not in passed:
                self.wrong.append(f"{row.name}: nothing passed in {lane or 'any'} lane")
        return f"{row.name:<22} " + " ".join(f"{c:>7}" for c in cells)

    def print(self, rows):
        print(f"{'the contract':<22} " + " ".join(f"{r:^23}" for r in self.results))
        print(f"{'':<22} " + " ".join(f"{lane:>7}" for _ in self.results for lane in LANES))
        for row in rows:
            print(self.line(row))
        if self.reasons:
            print("skipped in it:")
        for reason, number in self.reasons.items():
            print(f"  {reason} ({number})")
        for wrong in self.wrong:
            print(f"contract: {wrong}")
        print(f"{len(rows)} rows, "
              f"{len(self.wrong)} things missing or failed" if self.wrong else
              f"{len(rows)} rows, none without a test")


def main():
    table = Table([arg.split("=", 1) for arg in sys.argv[1:]])
    table.print(read_rows())
    sys.exit(bool(table.wrong))


main()
