"""test_calls.py - what strace counts during 1 GiB in the openssl lane: SSL_write needs a
system call for each record of 16 KiB, ringtls at most one for eight. The engine's own
counter must tell the same, as it is what the other lanes are judged by (test_matrix).

Not in the lab: every traced call is expensive there, and the counters are the same.
"""
import collections
import os
import re
import signal

from e2e import (MIB, Failure, Payloads, Server, Skip, WireTap, can_trace, children_of, curl, has,
                 isolate, main, wire_fault)

SIZE = 1024 * MIB
CALLS_MAX = SIZE // 16384 // 8
TRANSMIT = ("sendto", "sendmsg", "sendmmsg", "write", "writev", "sendfile", "splice",
            "io_uring_enter")


def count(trace):
    """Transmit calls by name: those on sockets, and every io_uring_enter."""
    calls = collections.Counter()
    with open(trace) as file:
        for line in file:
            found = re.match(r"\d+ +(\w+)\((?:\d+<([^>]*)>)?", line)
            if not found or found.group(1) not in TRANSMIT:
                continue
            name, what = found.groups()
            if name == "io_uring_enter" or "TCP" in (what or "") or "socket:" in (what or ""):
                calls[name] += 1
    return calls


def transfer(payloads, engine):
    """(strace's counts, the engine's own count) of one transfer."""
    trace = os.path.join(payloads.folder, "trace")
    wrapper = ["strace", "-f", "-yy", "-q", "-s", "0", "--seccomp-bpf", "-o", trace,
               "-e", "trace=" + ",".join(TRANSMIT), "-e", "signal=none"]
    with Server(payloads, "openssl", engine, wrapper=wrapper, options=("--stats",)) as server, \
            WireTap(server.port) as tap:
        traced = children_of(server.pid)[0]
        payloads.check(SIZE, curl(tap.port, payloads.make(SIZE), "1.3", None, seconds=120))
        fault = wire_fault(tap.connection())
        if fault:
            raise Failure(fault)
        server.served()
        os.kill(traced, signal.SIGTERM)
        if server.wait() != 0:
            raise Failure("the server failed\n" + server.tail())
        return count(trace), sum(int(each["transmit_calls"]) for each in server.stats())


def test(plan):
    if has("ktls"):
        raise Skip("for machines without kernel TLS, where the openssl lane is the usual one")
    can_trace()
    isolate()
    with Payloads() as payloads:
        payloads.make(SIZE)
        for engine in ("uring", "syscalls") if has("uring") else ("syscalls",):
            with plan.check(f"openssl {engine}: at most {CALLS_MAX} system calls to send 1 GiB"):
                traced, counted = transfer(payloads, engine)
                plan.note(f"openssl {engine}: strace {dict(traced)}, the engine {counted}")
                if not 0 < traced.total() <= CALLS_MAX:
                    raise Failure(f"{traced.total()} calls: {dict(traced)}")
            with plan.check(f"openssl {engine}: the engine counts what strace counts"):
                if engine == "uring": # waiting enters, too, and transmits nothing
                    right = counted <= traced.total()
                else:
                    right = abs(counted - traced.total()) <= 8 # a handshake's
                if not right:
                    raise Failure(f"{counted} by the engine, {dict(traced)} by strace")


if __name__ == "__main__":
    main(test, 300)
