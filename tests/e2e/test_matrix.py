"""test_matrix.py - every lane, engine, version and cipher, fetched by real peers.

Between the peers is the wire tap, in every fetch: nothing in the clear, every
record well formed, close_notify at the end. Each fetch is one test: the content's
hash, the lane and the reason in the access log, what the tap saw, and the
kernel's own count of TLS sockets.

Where the kernel has no TLS the lanes are openssl, user and auto; where it has, the
kernel lane and auto, and a few fetches on the others. Which files each of them
gets, and what is left out, is said at sizes_of().
"""
import os
import sys
import time

from e2e import (BUILD, CIPHERS, MIB, Failure, Payloads, curl_all, has, has_ipv6, isolate, main,
                 openssl_version, peer, s_client, stock_clients)
from fetching import Case, Place, fetch_all, fetch_on_one_connection, offered

EMPTY_TO_RECORDS = (0, 1, 16383, 16384, 16385)
MANY = EMPTY_TO_RECORDS + (MIB + 1,)
LARGE = 64 * MIB
HUGE = 1024 * MIB
EIGHTH = HUGE // 8
SIZES = MANY + (LARGE, EIGHTH, HUGE)
VERSIONS = ("1.3", "1.2")


class Table:
    """What was fetched, for people."""

    def __init__(self):
        self.cells = {}

    def enter(self, case, size, good):
        self.cells.setdefault(case.row(), {})[size] = good

    def lines(self):
        names = [f"{size // MIB} MiB" if size % MIB == 0 and size else
                 f"{size // MIB} MiB + 1" if size > MIB else str(size) for size in SIZES]
        rows = [("lane", "engine", "version", "cipher", "peer", *names)]
        for row, cells in self.cells.items():
            rows.append(row + tuple({True: "ok", False: "FAILED", None: "-"}[cells.get(size)]
                                    for size in SIZES))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        yield f"kernel {os.uname().release}, OpenSSL {'.'.join(map(str, openssl_version()))}"
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()


# ---- What is fetched ----------------------------------------------------------


def is_slow():
    """User-Mode Linux before 7.2 traces every system call, and moves some 5 MB/s. What is
    large is fetched on the newest kernel; these show that their own does it too. With
    RINGTLS_LONG=1 all kernels fetch all."""
    return has("ktls") and not has("rekey") and not os.environ.get("RINGTLS_LONG")


def sizes_of(asked, engine, tls, cipher, client):
    """Left out, for time (in the lab the kernel's own AES moves 50 MB/s, and a process takes
    a quarter of a second to start):
      - 64 MiB: with AES-128-GCM only; where it is slow, by curl from one engine.
      - s_client gets what curl gets but for the small files of the other ciphers.
      - gnutls-cli writes byte by byte: a record and a byte, on one engine.
      - auto, and in the lab the openssl and user lanes, have the same code behind them
        as the lane that they become: AES-128-GCM and what changes the choice.
    """
    main_cipher = cipher == "AES128-GCM"
    large = () if is_slow() and (client is s_client or engine != "uring") else (LARGE,)
    if asked in ("auto", "prefer") + (("openssl", "user") if has("ktls") else ()):
        if client is curl_all and main_cipher:
            return (0, 16385, MIB + 1)
        return (16385,) if client is curl_all and engine == "uring" else ()
    if client is curl_all:
        return MANY + (large if main_cipher else ())
    if client is s_client:
        return MANY + large if main_cipher else (16385, MIB + 1)
    return (1, 16385) if engine == "uring" else ()


def ciphers_of(asked, tls):
    """The kernel lane is for those that OpenSSL hands over, so is the user lane."""
    for cipher in CIPHERS:
        if cipher == "AES128-CBC" and tls == "1.3":
            continue
        if asked in ("kernel", "user") and not offered(tls, cipher):
            continue
        yield cipher


def engines():
    return ("uring", "syscalls") if has("uring") else ("syscalls",)


def lanes():
    return (("kernel", "prefer", "openssl", "user", "auto") if has("ktls") else
            ("openssl", "user", "auto"))


def lane_and_engine(plan, table, payloads, asked, engine):
    with Place(payloads, asked, engine) as place:
        for tls in VERSIONS:
            for cipher in ciphers_of(asked, tls):
                for client in stock_clients():
                    sizes = sizes_of(asked, engine, tls, cipher, client)
                    fetch_all(plan, table, place, Case(asked, engine, tls, cipher, client), sizes)
                if cipher == "AES128-GCM":
                    fetch_on_one_connection(plan, table, place,
                                            Case(asked, engine, tls, cipher, peer), MANY)
        place.close(plan, f"{asked} {engine}")


def over_ipv6(plan, table, payloads, asked):
    if not has_ipv6():
        plan.skip(f"{asked} over IPv6", "this machine has no IPv6")
        return
    with Place(payloads, asked, "uring", address="::1") as place:
        for tls in VERSIONS:
            case = Case(asked, "uring", tls, "AES128-GCM", curl_all, address="::1")
            fetch_all(plan, table, place, case, MANY)
        place.close(plan, f"{asked} uring over IPv6")


def huge(plan, table, payloads, asked, engine, size=HUGE):
    """Once per lane, by curl, with the engine's own count of its system calls: at most an
    eighth of what SSL_write needs, which is one for each record."""
    with Place(payloads, asked, engine, options=("--stats",)) as place:
        case = Case(asked, engine, "1.3", "AES128-GCM", curl_all)
        fetch_all(plan, table, place, case, (size,), seconds=300)
        place.close(plan, f"{' '.join(case.row())}: {size} B")
        with plan.check(f"{asked} {engine}: system calls to transmit {size} B"):
            calls = sum(int(engine["transmit_calls"]) for engine in place.server.stats())
            plan.note(f"{asked} {engine}: {calls} calls for {size} B")
            if not 0 < calls <= size // 16384 // 8:
                raise Failure(f"{calls} system calls")


def huge_ones(plan, table, payloads):
    start = time.monotonic()
    if has("ktls"):
        huge(plan, table, payloads, "kernel", "uring", EIGHTH if is_slow() else HUGE)
        # the same on the other engine, at an eighth of the size: it takes half a minute
        huge(plan, table, payloads, "kernel", "syscalls", EIGHTH)
    else:
        for asked in ("openssl", "user"):
            for engine in engines():
                huge(plan, table, payloads, asked, engine)
    payloads.drop(HUGE)
    plan.note(f"the largest: {time.monotonic() - start:.0f} s")


def write_table(plan, table):
    with open(os.path.join(BUILD, "e2e-table.txt"), "w") as file:
        for line in table.lines():
            plan.note(line)
            file.write(line + "\n")


def test(plan):
    isolate()
    if plan.lacks("ktls", "uring"):
        return
    table = Table()
    with Payloads() as payloads:
        for asked in lanes():
            for engine in engines():
                start = time.monotonic()
                with plan.check(f"{asked} {engine}: served to the end"):
                    lane_and_engine(plan, table, payloads, asked, engine)
                plan.note(f"{asked} {engine}: {time.monotonic() - start:.0f} s")
        over_ipv6(plan, table, payloads, lanes()[0])
        huge_ones(plan, table, payloads)
    write_table(plan, table)


if __name__ == "__main__":
    main(test, int(sys.argv[1]) if len(sys.argv) > 1 else 1500)
