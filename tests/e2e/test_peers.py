"""test_peers.py - other TLS libraries as peers of ringtls, in both roles.

curl, openssl s_client and s_server, gnutls-cli and gnutls-serv, Node.js, Python and nginx,
with TLS 1.2 and 1.3, with a certificate of the client's and without, each on two
connections of which the second resumes the first, by a ticket or by a session id. What was
sent must have come, in both directions, in the lane that was asked for; nothing may be seen
on the wire.
"""
import os
import time

from e2e import Failure, WireTap, has, isolate, main
from peering import (CLIENT, CLIENTS, SERVERS, Kit, TalkServer, check_report,
                     check_wire, read_file, sealed_by_the_kernel, talk_client)

# TLS version, a client's certificate, resumption by a ticket (or by a session id).
ALL = (("1.3", True, True), ("1.3", False, True), ("1.2", True, True), ("1.2", True, False),
       ("1.2", False, True), ("1.2", False, False))
# Each of the three both ways, though not each with each: the code of ringtls behind them
# is the same in every lane.
SOME = (("1.3", True, True), ("1.3", False, True), ("1.2", True, False), ("1.2", False, True))
# And in the lab, where a process takes its time to start, each version once.
FEW = (("1.3", True, True), ("1.2", True, False))


def lanes():
    return ("kernel",) if has("ktls") else ("openssl", "user")


def cases_of(lane):
    return {"openssl": ALL, "user": SOME, "kernel": FEW}[lane]


def engine_of(tls):
    """One for each version: the lanes have been tested on both."""
    return "uring" if tls == "1.3" and has("uring") else "syscalls"


def case_name(tls, demand, tickets):
    return (f"TLS {tls}, {'with' if demand else 'without'} a client's certificate, resumed by "
            f"{'ticket' if tickets else 'session id'}")


# ---- Their clients ------------------------------------------------------------


def client_peer(kit, server, client, lane, tls, demand):
    """Two connections of theirs, as both sides and the wire saw them."""
    server.forget()
    server.tap.forget()
    subject = f"/CN={CLIENT}" if demand else ""
    with sealed_by_the_kernel(2 if lane == "kernel" else 0):
        came = client.run(server.port, tls, kit.client if demand else None)
        for number in (0, 1):
            report = server.connection()
            check_wire(server.tap.connection(), "server", tls)
            if number == 0 and client.first_is_empty:
                check_report(dict(report, conn_error=""), lane, tls, reused=False, subject=subject)
                continue
            check_report(report, lane, tls, reused=number == 1, subject=subject,
                         heard=client.text().size, sha256=client.text().sha256)
            if report["end"] != "close_notify" and not client.leaves_rudely:
                raise Failure(f"the end: {report}")
    for body in came:
        kit.down.check(body, client.name)


def their_clients(plan, kit, lane):
    for case in cases_of(lane):
        tls, demand, tickets = case
        options = ("--http", "--send", kit.down.path) + (("--demand",) if demand else ())
        options += () if tickets else ("--no-ticket",)
        with TalkServer(kit, lane, engine_of(tls), tls, *options) as server:
            for kind in CLIENTS:
                with plan.check(f"{lane}: {kind.name} as client: {case_name(*case)}"):
                    client_peer(kit, server, kind(kit), lane, tls, demand)


# ---- Their servers ------------------------------------------------------------


def server_peer(kit, server, tap, lane, tls, demand, number):
    output, session = kit.path("output"), kit.path("session")
    options = ("--tls", tls, "--session", session, "--output", output) + server.options(number)
    if demand:
        options += ("--cert", kit.client[0], "--key", kit.client[1])
    sealed = lane == "kernel"
    with sealed_by_the_kernel(int(sealed), new_process=sealed):
        report = talk_client(kit, lane, engine_of(tls), tap.port, *options)
    check_wire(tap.connection(), "client", tls)
    check_report(report, lane, tls, reused=number == 1, subject="/CN=localhost")
    server.check(number, read_file(output))


def their_servers(plan, kit, lane):
    for case in cases_of(lane):
        tls, demand, tickets = case
        for kind in SERVERS:
            with plan.check(f"{lane}: {kind.name} as server: {case_name(*case)}"):
                if os.path.exists(kit.path("session")):
                    os.unlink(kit.path("session"))
                with kind(kit, tls, demand, tickets) as server, WireTap(server.port) as tap:
                    for number in (0, 1):
                        server_peer(kit, server, tap, lane, tls, demand, number)


def test(plan):
    isolate()
    if plan.lacks("ktls", "uring"):
        return
    with Kit(100000 if has("ktls") else 400000) as kit:
        for lane in lanes():
            for part in (their_clients, their_servers):
                start = time.monotonic()
                with plan.check(f"{lane}: {part.__name__}: tested to the end"):
                    part(plan, kit, lane)
                plan.note(f"{lane}: {part.__name__}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(test, 600)
