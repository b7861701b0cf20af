"""test_peers_later.py - what happens between ringtls and other TLS libraries behind the
handshake, or instead of it: key updates, renegotiation, certificates asked for later,
early data, alerts. From both sides, in both roles.

Over the kernel's TLS, in the lab, a few peers stand for all, as each process takes its time
to start there: of our key updates GnuTLS, and s_client and s_server; of certificates asked
for later GnuTLS and Python; of alerts s_client and s_server, and GnuTLS' server. Left out
are the renegotiations that we serve: they are the openssl lane's.
"""
import contextlib
import hashlib
import os
import select
import socket
import ssl
import subprocess
import time

from e2e import MARKER, MIB, Child, Failure, WireTap, has, isolate, main, run_peer
from peering import (CLIENT, CLIENTS, PATIENCE_S, SERVERS, GnutlsCli, GnutlsServ, Kit,
                     PythonClient, PythonServer, SClient, SServer, TalkServer, body_of,
                     check_report, check_wire, put_head, python_context, read_file, read_to_end,
                     talk_client)

ALERTS = {"handshake_failure": 40, "unknown_ca": 48, "decode_error": 50,
          "no_renegotiation": 100, "certificate_required": 116}


def lanes():
    return ("kernel",) if has("ktls") else ("openssl", "user")


def among(lane, everybody, few):
    """In the lab, where a process takes its time to start, a few stand for all."""
    return few if lane == "kernel" else everybody


def can_rekey(lane):
    return lane != "kernel" or has("rekey")


def within(condition, text):
    """A condition that nobody tells us of."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise Failure(text())
        time.sleep(0.005)


def came(child):
    """Bytes that a child printed by now."""
    return os.path.getsize(child.output)


def lines_of(path):
    marker, count, tail = MARKER.encode(), 0, b""
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(MIB), b""):
            count += (tail + chunk).count(marker)
            tail = chunk[1 - len(marker):]
    return count


def count_lines(output, path):
    if lines_of(output) != lines_of(path):
        raise Failure(f"{lines_of(output)} lines came, not {lines_of(path)}")


class Typist(Child):
    """A peer at whose input somebody types. What it says on standard error is read line by
    line; the rest is in a file."""

    def __init__(self, kit, command, name):
        self.output = kit.path("typist-output")
        shell = ["sh", "-c", 'output=$1; shift; exec "$@" >"$output"', "sh", self.output]
        super().__init__(shell + command, name, stdin=subprocess.PIPE)

    def type(self, data):
        with contextlib.suppress(OSError):
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def type_and_see(self, data, answer):
        self.type(data)
        self.line(lambda line: answer in line, PATIENCE_S)


def put(text):
    return put_head(text.size) + text.bytes


def check_lines(text, child):
    """What a peer printed, among other things."""
    first, last = text.bytes[:9], text.bytes.rsplit(b" ", 1)[1]
    lines = [line for line in read_file(child.output).splitlines(keepends=True)
             if line.startswith(first) and line.endswith(last)]
    text.check(b"".join(lines), child.name)


# ---- Key updates --------------------------------------------------------------


def every_so_much(text):
    """Bytes between two of our key updates: six or seven in a transfer, as GnuTLS ends a
    connection that has more than eight in a second."""
    return text.size // 6 - 100


def our_updates_to_clients(plan, kit, lane):
    # OpenSSL answers with its next write, if it has any; and at the latest when it is asked
    # a second time.
    for request, kinds in (((), among(lane, CLIENTS, (GnutlsCli,))),
                           (("--key-update-request",), among(lane, (SClient, PythonClient),
                                                             (SClient,)))):
        for kind in kinds:
            with plan.check(f"{lane}: {kind.name} as client: our key updates"
                            + (", with a request for its own" if request else "")):
                text = kit.small if kind is GnutlsCli else kit.down
                every = every_so_much(text)
                with TalkServer(kit, lane, "auto", "1.3", "--http", "--send", text.path,
                                "--key-update-every", every, *request) as server:
                    client = kind(kit)
                    came = client.run(server.port, "1.3", None)
                    for number in (0, 1):
                        report = server.connection()
                        check_wire(server.tap.connection(), "server", "1.3")
                        if number == 1 or not client.first_is_empty:
                            check_updates(report, lane, text.size // every, request)
                    for body in came:
                        text.check(body, client.name)


def check_updates(report, lane, count, request):
    if not can_rekey(lane):
        check_report(report, lane, "1.3", key_updates_sent=0, key_updates_refused=count)
        return
    check_report(report, lane, "1.3", key_updates_refused=0)
    if report["key_updates_sent"] < count or bool(report["key_updates_heard"]) != bool(request):
        raise Failure(f"{count} updates should have been sent: {report}")


def our_updates_to_servers(plan, kit, lane):
    every = every_so_much(kit.up)
    for kind in among(lane, SERVERS, (SServer,)):
        with plan.check(f"{lane}: {kind.name} as server: our key updates"):
            with kind(kit, "1.3", False, True) as server, WireTap(server.port) as tap:
                output = kit.path("output")
                options = server.options(0)
                report = talk_client(kit, lane, "auto", tap.port, "--tls", "1.3", "--output",
                                     output, "--key-update-every", every, *options)
                check_wire(tap.connection(), "client", "1.3")
                check_updates(report, lane, (report["sent"] - 1) // every, ())
                server.check(0, read_file(output))


def their_updates(plan, kit, lane):
    """During a transfer in both directions; K asks for our update as well, k does not."""
    with plan.check(f"{lane}: openssl s_client: its key updates during a transfer"):
        client_updates(kit, lane, (b"k\n",), 5)
    with plan.check(f"{lane}: openssl s_client: its requests for ours"):
        client_updates(kit, lane, (b"K\n", b"k\n"), 5)


def client_updates(kit, lane, letters, rounds):
    # Wherever its reads cut the text, no piece may begin with the letter of a command.
    text = kit.up.bytes.replace(b"k", b"x")
    with TalkServer(kit, lane, "auto", "1.3", "--send", kit.down.path, "--receive",
                    kit.up.size) as server:
        command = SClient(kit).command(server.port, "1.3", None, letters=True)
        with Typist(kit, command, "s_client") as client:
            asked = b"K\n" in letters
            if asked and not can_rekey(lane):
                client.type(b"K\n")
                ends_for_want_of_a_key(server)
                return
            for letter in letters * rounds:
                client.type_and_see(letter, "KEYUPDATE")
            client.type(text)
            report = server.connection()
            client.wait()
            check_wire(server.tap.connection(), "server", "1.3")
            check_lines(kit.down, client)
        check_report(report, lane, "1.3", sha256=hashlib.sha256(text).hexdigest(),
                     key_updates_heard=len(letters) * rounds)
        if bool(report["key_updates_sent"]) != asked:
            raise Failure(f"answers: {report}")


def ends_for_want_of_a_key(server):
    report = server.connection()
    check_wire(server.tap.connection(), "server", "1.3")
    if "key" not in report["conn_error"]:
        raise Failure(f"not the end that was expected: {report}")


def gnutls_updates(plan, kit, lane):
    with plan.check(f"{lane}: gnutls-cli: its key updates, and its requests for ours"):
        with TalkServer(kit, lane, "auto", "1.3", "--http", "--send", kit.small.path) as server:
            command = GnutlsCli(kit).command(server.port, "1.3", None)
            with Typist(kit, command + ["--inline-commands"], "gnutls-cli") as client:
                client.type(put_head(kit.small.size))
                client.type(b"^rekey1^\n")
                client.type(b"^rekey^\n")
                client.type(kit.small.bytes)
                if not can_rekey(lane):
                    ends_for_want_of_a_key(server)
                    return
                report = server.connection()
                check_wire(server.tap.connection(), "server", "1.3")
                client.wait()
                check_lines(kit.small, client)
            check_report(report, lane, "1.3", sha256=kit.small.sha256)
            if report["key_updates_heard"] == 0 or report["key_updates_sent"] == 0:
                raise Failure(report)


# ---- Renegotiation ------------------------------------------------------------


def renegotiations(plan, kit, lane):
    if lane == "openssl":
        size = 100 * MIB if not has("ktls") else 4 * MIB
        their_renegotiations(plan, kit, size, 100 if not has("ktls") else 10)
        our_renegotiations(plan, kit, size, 100 if not has("ktls") else 10)
    refused_renegotiations(plan, kit, lane)


def big_text(kit, size):
    path = kit.path(f"big-{size}")
    if not os.path.exists(path):
        block = kit.up.bytes
        with open(path, "wb") as file:
            for _ in range(size // len(block)):
                file.write(block)
    return path


def their_renegotiations(plan, kit, size, count):
    path = big_text(kit, size)
    part = os.path.getsize(path) // count + 1
    with plan.check(f"openssl: openssl s_client renegotiates {count} times during {size} B"):
        with TalkServer(kit, "auto", "auto", "1.2", "--renegotiate", "--send", path,
                        "--receive", count, "--per-byte", part) as server:
            command = SClient(kit).command(server.port, "1.2", None, letters=True)
            with Typist(kit, command, "s_client") as client:
                for number in range(1, count + 1):
                    client.type_and_see(b"R\n", "RENEGOTIATING")
                    client.type(b"x")
                    within(lambda: came(client) >= min(number * part, os.path.getsize(path)),
                           lambda: f"{came(client)} bytes came of part {number}")
                report = server.connection()
                client.wait()
                count_lines(client.output, path)
            check_wire(server.tap.connection(), "server", "1.2")
            check_report(report, "openssl", "1.2", hellos_heard=count + 1, heard=count)
    with plan.check("openssl: gnutls-cli renegotiates"):
        gnutls_renegotiates(kit, "openssl", 2, "--renegotiate")


def gnutls_renegotiates(kit, lane, hellos, *options, **right):
    with TalkServer(kit, "auto" if options else lane, "auto", "1.2", "--http", "--send",
                    kit.small.path, *options) as server:
        result = run_peer(GnutlsCli(kit).command(server.port, "1.2", None) + ["--rehandshake"],
                          PATIENCE_S, put(kit.small), has_head=True)
        kit.small.check(result.body(), "gnutls-cli")
        report = server.connection()
        check_wire(server.tap.connection(), "server", "1.2")
        check_report(report, lane, "1.2", sha256=kit.small.sha256, hellos_heard=hellos, **right)


def our_renegotiations(plan, kit, size, count):
    # Child reads s_server's output by lines, which takes its time.
    path = big_text(kit, 4 * MIB)
    every = os.path.getsize(path) // (count + 1)
    with plan.check(f"openssl: openssl s_server: we renegotiate {count} times"):
        with SServer(kit, "1.2", False, True, "-client_renegotiation") as server, \
                WireTap(server.port) as tap:
            report = talk_client(kit, "auto", "auto", tap.port, "--tls", "1.2", "--renegotiate",
                                 "--send", path, "--receive", 0, "--renegotiate-every", every)
            check_wire(tap.connection(), "client", "1.2")
            check_report(report, "openssl", "1.2", sent=os.path.getsize(path),
                         hellos_heard=1 + (report["sent"] - 1) // every)
            within(lambda: len(server.lines) >= lines_of(path),
                   lambda: f"{len(server.lines)} lines came")
    path = big_text(kit, size)
    every = os.path.getsize(path) // (count + 1)
    with plan.check(f"openssl: openssl s_client: we renegotiate {count} times during {size} B"):
        with TalkServer(kit, "auto", "auto", "1.2", "--renegotiate", "--http", "--send", path,
                        "--renegotiate-every", every) as server:
            command = SClient(kit).command(server.port, "1.2", None) + ["-quiet"]
            result = run_peer(command, PATIENCE_S, put(kit.up), has_head=True)
            report = server.connection()
            check_wire(server.tap.connection(), "server", "1.2")
            check_report(report, "openssl", "1.2", sha256=kit.up.sha256, hellos_heard=count + 1)
            if result.size != os.path.getsize(path):
                raise Failure(f"{result.size} bytes came; {report}")
    with plan.check("openssl: gnutls-cli: we renegotiate"):
        with TalkServer(kit, "auto", "auto", "1.2", "--renegotiate", "--http", "--send",
                        kit.small.path, "--renegotiate-every", 5000, "--silent") as server:
            result = run_peer(GnutlsCli(kit).command(server.port, "1.2", None), PATIENCE_S,
                              put(kit.small), has_head=True)
            kit.small.check(result.body(), "gnutls-cli")
            check_wire(server.tap.connection(), "server", "1.2")
            check_report(server.connection(), "openssl", "1.2", sha256=kit.small.sha256,
                         hellos_heard=5)


def refused_renegotiations(plan, kit, lane):
    """Both end the connection then: they are told why."""
    with plan.check(f"{lane}: gnutls-cli wants to renegotiate, and is refused"):
        with TalkServer(kit, lane, "auto", "1.2", "--http") as server:
            command = GnutlsCli(kit).command(server.port, "1.2", None) + ["--rehandshake"]
            try:
                run_peer(command, PATIENCE_S, put(kit.small))
            except Failure as failure:
                if "warning alert" not in str(failure):
                    raise
            report = server.connection()
            if report["alert_sent"] != ALERTS["no_renegotiation"] or report["lane"] != lane:
                raise Failure(report)
    with plan.check(f"{lane}: openssl s_client wants to renegotiate, and is refused"):
        with TalkServer(kit, lane, "auto", "1.2", "--receive", kit.small.size) as server:
            command = SClient(kit).command(server.port, "1.2", None, letters=True)
            with Typist(kit, command, "s_client") as client:
                client.type_and_see(b"R\n", "no renegotiation")
            report = server.connection()
            if report["alert_sent"] != ALERTS["no_renegotiation"] or report["lane"] != lane:
                raise Failure(report)


# ---- A certificate that is asked for later ------------------------------------


def later_certificates(plan, kit, lane):
    clients = (("openssl s_client", s_client_later), ("gnutls-cli", gnutls_later),
               ("python", python_later))
    for name, run in among(lane, clients, clients[1:2]):
        with plan.check(f"{lane}: {name}: we ask for its certificate behind the handshake"):
            with TalkServer(kit, lane, "auto", "1.3", "--http", "--post-handshake", "--send",
                            kit.small.path) as server:
                body = run(kit, server.port)
                report = server.connection()
                check_wire(server.tap.connection(), "server", "1.3")
                check_report(report, lane, "1.3", subject=f"/CN={CLIENT}",
                             sha256=kit.small.sha256)
                kit.small.check(body, name)
    with plan.check(f"{lane}: python as server asks for ours behind the handshake"):
        with LaterPython(kit, "1.3", False, True) as server, WireTap(server.port) as tap:
            output = kit.path("output")
            report = talk_client(kit, lane, "auto", tap.port, "--tls", "1.3", "--cert",
                                 kit.client[0], "--key", kit.client[1], "--post-handshake",
                                 "--output", output, *server.options(0))
            check_wire(tap.connection(), "client", "1.3")
            check_report(report, lane, "1.3")
            server.demand = True # it must know by now
            server.check(0, read_file(output))


def s_client_later(kit, port):
    command = SClient(kit).command(port, "1.3", kit.client) + ["-quiet", "-enable_pha"]
    return run_peer(command, PATIENCE_S, put(kit.small), has_head=True).body()


def gnutls_later(kit, port):
    command = GnutlsCli(kit).command(port, "1.3", kit.client) + ["--post-handshake-auth"]
    return run_peer(command, PATIENCE_S, put(kit.small), has_head=True).body()


def python_later(kit, port):
    context = python_context(kit, "1.3", kit.client)
    context.post_handshake_auth = True
    raw = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    with context.wrap_socket(raw, server_hostname="localhost",
                             suppress_ragged_eofs=False) as sock:
        sock.sendall(put(kit.small))
        body = body_of(read_to_end(sock))[1]
        sock.unwrap().close()
    return body


def has_certificate(sock):
    """While only the first of the answer's messages are here, Python refuses to say."""
    try:
        return bool(sock.getpeercert())
    except ValueError:
        return False


class LaterPython(PythonServer):
    """Asks when the handshake is done, before it reads."""

    def __init__(self, *args):
        super().__init__(*args)
        self.context.post_handshake_auth = True
        self.context.verify_mode = ssl.CERT_REQUIRED

    def answer(self, sock):
        sock.verify_client_post_handshake()
        sock.do_handshake()
        super().answer(sock)

    def read_request(self, sock):
        """The certificate may come behind all that was said."""
        got = super().read_request(sock)
        sock.setblocking(False)
        while not has_certificate(sock):
            with contextlib.suppress(ssl.SSLWantReadError):
                sock.recv(1)
            select.select([sock], [], [], 0.1)
        sock.settimeout(PATIENCE_S)
        return got


# ---- Early data ---------------------------------------------------------------


def early_data(plan, kit, lane):
    early = 8000
    with plan.check(f"{lane}: openssl s_client: its early data"):
        with TalkServer(kit, lane, "auto", "1.3", "--http", "--early", 16384, "--send",
                        kit.small.path) as server:
            request = put(kit.small)
            first = kit.path("early")
            with open(first, "wb") as file:
                file.write(request[:early])
            session = kit.path("early-session")
            command = SClient(kit).command(server.port, "1.3", None) + ["-quiet"]
            run_peer(command + ["-sess_out", session], PATIENCE_S, request, has_head=True)
            server.connection()
            result = run_peer(command + ["-sess_in", session, "-early_data", first], PATIENCE_S,
                              request[early:], has_head=True)
            check_early(server.connection(), lane, kit.small.sha256, early)
            kit.small.check(result.body(), "s_client")
            server.tap.connection()
            check_wire(server.tap.connection(), "server", "1.3")
    with plan.check(f"{lane}: openssl s_server: our early data"):
        with SServer(kit, "1.3", False, True, "-early_data", "-max_early_data", "16384",
                     "-no_anti_replay") as server:
            early_to(kit, lane, server, "accepted", early)
    with plan.check(f"{lane}: openssl s_server: our early data is refused, and comes later"):
        with SServer(kit, "1.3", False, True, "-early_data", "-max_early_data",
                     "16384") as server:
            early_to(kit, lane, server, "rejected", early)


def check_early(report, lane, sha256, early):
    check_report(report, lane, "1.3", reused=True, early="accepted", sha256=sha256)
    if not 0 < report["early_heard"] <= early:
        raise Failure(report)


def early_to(kit, lane, server, status, early):
    """A refusal: the session is one of another server, which has gone."""
    session = kit.path("session-early")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(session)
    with WireTap(server.port) as tap:
        first = server
        if status == "rejected":
            first = SServer(kit, "1.3", False, True, "-early_data", "-max_early_data", "16384")
        talk_early(kit, lane, first.port, session, first, 0)
        if first is not server:
            first.stop()
        report = talk_early(kit, lane, tap.port, session, server, early)
        check_wire(tap.connection(), "client", "1.3")
        check_report(report, lane, "1.3", reused=status == "accepted", early=status)


def talk_early(kit, lane, port, session, server, early):
    output = kit.path("output")
    report = talk_client(kit, lane, "auto", port, "--tls", "1.3", "--session", session,
                         "--early", early, "--output", output, *server.options(0))
    server.check(0, read_file(output))
    return report


# ---- Alerts -------------------------------------------------------------------


def alerts(plan, kit, lane):
    """In TLS 1.2 by some of them only: it is the same code of theirs."""
    all_of_them = (CLIENTS, (SServer, GnutlsServ, PythonServer), SERVERS)
    some = ((SClient, GnutlsCli), (SServer, GnutlsServ, PythonServer), (SServer, GnutlsServ))
    one = ((SClient,), (SServer,), (GnutlsServ,))
    for tls, missing, kinds in (
            ("1.3", "certificate_required", among(lane, all_of_them, one)),
            ("1.2", "handshake_failure", among(lane, some, ((), (SServer,), ())))):
        for kind in kinds[0]:
            for cert, alert in ((None, missing), (kit.stranger, "unknown_ca")):
                if kind is GnutlsCli and cert:
                    continue # it sends none that no authority of the request's has signed
                with plan.check(f"{lane}: {kind.name}: TLS {tls}: we send {alert}"):
                    our_alert(kit, lane, kind(kit), tls, cert, alert)
        for kind in kinds[1]:
            # What it says of an empty list of certificates, to every client.
            alert = "decode_error" if (kind, tls) == (GnutlsServ, "1.2") else missing
            with plan.check(f"{lane}: {kind.name}: TLS {tls}: we have no certificate"):
                their_alert(kit, lane, kind, tls, alert)
        for kind in kinds[2]:
            with plan.check(f"{lane}: {kind.name}: TLS {tls}: we don't know its authority"):
                with kind(kit, tls, False, True) as server:
                    report = talk_client(kit, lane, "auto", server.port, "--tls", tls, "--ca",
                                         kit.stranger[0], status=1)
                    if report["alert_sent"] != ALERTS["unknown_ca"]:
                        raise Failure(report)


def our_alert(kit, lane, client, tls, cert, alert):
    with TalkServer(kit, lane, "auto", tls, "--http", "--demand", "--send",
                    kit.small.path) as server:
        try:
            client.run(server.port, tls, cert)
        except (Failure, OSError):
            pass
        else:
            raise Failure(f"{client.name} does not mind")
        report = server.connection()
        if report["alert_sent"] != ALERTS[alert] or report["sent"]:
            raise Failure(report)


def their_alert(kit, lane, kind, tls, alert):
    with kind(kit, tls, True, True) as server:
        report = talk_client(kit, lane, "auto", server.port, "--tls", tls, status=1)
        if report["alert_heard"] != ALERTS[alert]:
            raise Failure(report)


PARTS = (our_updates_to_clients, our_updates_to_servers, their_updates, gnutls_updates,
         renegotiations, later_certificates, early_data, alerts)


def test(plan):
    isolate()
    if plan.lacks("ktls", "uring", "rekey"):
        return
    with Kit(100000 if has("ktls") else 400000) as kit:
        for lane in lanes():
            for part in PARTS:
                start = time.monotonic()
                with plan.check(f"{lane}: {part.__name__}: tested to the end"):
                    part(plan, kit, lane)
                plan.note(f"{lane}: {part.__name__}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(test, 600)
