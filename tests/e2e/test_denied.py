"""test_denied.py - io_uring refused, by a seccomp filter (EPERM) and as by a kernel that
has none (ENOSYS): everything goes on with plain system calls, and who insists on a
ring is told why there is none.
"""
import subprocess

from e2e import (MIB, Failure, Payloads, Skip, curl_all, has, isolate, main, peer, program,
                 stock_clients)
from fetching import Case, Place, fetch_all, fetch_on_one_connection

ERRORS = (("EPERM", "io_uring-denied", "forbidden"), ("ENOSYS", "io_uring-absent", "no io_uring"))
SIZES = (0, 1, 16383, 16384, 16385, MIB + 1)


class Unkept:
    """The table of the matrix is not ours."""

    def enter(self, *_):
        pass


def lanes():
    return ("kernel", "auto") if has("ktls") else ("openssl", "user", "auto")


def can_deny():
    done = subprocess.run([program("deny"), "EPERM", "true"], stderr=subprocess.PIPE, timeout=30,
                          check=False)
    if done.returncode == 77:
        raise Skip(done.stderr.decode().strip())


def everything_passes(plan, payloads, lane, error, reason):
    """The small matrix, on the engine that auto chose."""
    wrapper = (program("deny"), error)
    engine = f"auto without io_uring ({error})"
    with Place(payloads, lane, "auto", wrapper=wrapper, options=("--stats",)) as place:
        for tls in ("1.3", "1.2"):
            case = Case(lane, engine, tls, "AES128-GCM", curl_all)
            fetch_all(plan, Unkept(), place, case, SIZES + (8 * MIB,))
            case = Case(lane, engine, tls, "AES128-GCM", peer)
            fetch_on_one_connection(plan, Unkept(), place, case, SIZES)
            if error == "EPERM":
                more_ciphers(plan, place, lane, engine, tls)
        place.close(plan, f"{lane} {engine}")
        chosen = [(stats["backend"], stats["reason"]) for stats in place.server.stats()]
        plan.ok(chosen == [("syscalls", reason)],
                f"{lane} {engine}: the engine is syscalls, reason {reason}", chosen)


def more_ciphers(plan, place, lane, engine, tls):
    for client in stock_clients()[1:]:
        fetch_all(plan, Unkept(), place, Case(lane, engine, tls, "AES256-GCM", client), (16385,))
    fetch_all(plan, Unkept(), place, Case(lane, engine, tls, "CHACHA20", curl_all), (16385,))
    if tls == "1.2" and lane not in ("kernel", "user"):
        fetch_all(plan, Unkept(), place, Case(lane, engine, tls, "AES128-CBC", curl_all), (16385,))


def insisting_fails(payloads, error, words):
    done = subprocess.run([program("deny"), error, program("ringtls-serve"), "--engine", "uring",
                           "--port", "0", "--root", payloads.root], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, check=False)
    said = done.stderr.decode()
    if done.returncode <= 0 or b"listening" in done.stdout:
        raise Failure(f"status {done.returncode}: {done.stdout} {said}")
    if words not in said:
        raise Failure(f"the cause is not named: {said}")


def test(plan):
    can_deny()
    isolate()
    if plan.lacks("ktls"):
        return
    with Payloads() as payloads:
        for error, reason, words in ERRORS:
            for lane in lanes() if error == "EPERM" else lanes()[:1]:
                with plan.check(f"{lane} without io_uring ({error}): tested to the end"):
                    everything_passes(plan, payloads, lane, error, reason)
            with plan.check(f"--engine uring without io_uring ({error}) says why it can't start"):
                insisting_fails(payloads, error, words)


if __name__ == "__main__":
    main(test, 300)
