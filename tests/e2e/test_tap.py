"""test_tap.py - the instruments themselves: what they are meant to catch, they catch.

The streams are made by hand, from both sides of the tap, without any TLS.
"""
import contextlib
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

from e2e import (MARKER, MIB, Child, Failure, Payloads, WireTap, has, has_ipv6, isolate, main, peer,
                 program)

CCS, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23


# ---- Streams ------------------------------------------------------------------


def record(kind, body, version=0x0303):
    return struct.pack("!BHH", kind, version, len(body)) + body


def noise(size):
    return bytes((7 * i + (i >> 8)) % 251 for i in range(size))


RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def server_hello(cipher, tls13=False, encrypt_then_mac=False, rand=bytes(32)):
    extensions = b""
    if encrypt_then_mac:
        extensions += struct.pack("!HH", 22, 0)
    if tls13:
        extensions += struct.pack("!HHH", 43, 2, 0x0304)
    body = struct.pack("!H", 0x0303) + rand + b"\x20" + bytes(32) + struct.pack("!HB", cipher, 0)
    body += struct.pack("!H", len(extensions)) + extensions
    return record(HANDSHAKE, b"\x02" + struct.pack("!I", len(body))[1:] + body)


CLIENT_HELLO = record(HANDSHAKE, b"\x01" + noise(200), 0x0301)


def tls13(data=(), end=19):
    """A server's stream in TLS 1.3, with data as the lengths of its records."""
    stream = server_hello(0x1301, tls13=True) + record(CCS, b"\x01") + record(DATA, noise(900))
    stream += b"".join(record(DATA, noise(size)) for size in data)
    return stream + (record(DATA, noise(end)) if end else b"")


def tls12(cipher, close, encrypt_then_mac=False):
    stream = server_hello(cipher, encrypt_then_mac=encrypt_then_mac)
    stream += record(HANDSHAKE, noise(700)) + record(CCS, b"\x01") + record(HANDSHAKE, noise(96))
    return stream + record(DATA, noise(5008)) + (record(ALERT, noise(close)) if close else b"")


# ---- Two peers without TLS ----------------------------------------------------


class Script:
    """A server for one connection: reads the client's hello, sends its pieces with a
    pause between them, and ends in its way."""

    def __init__(self, pieces, end="close", address="127.0.0.1"):
        self.pieces = pieces
        self.how = end
        self.address = address
        self.listener = socket.create_server(
            (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.port = self.listener.getsockname()[1]
        self.error = None
        self.sent = 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            with self.listener.accept()[0] as sock:
                sock.settimeout(20)
                self.talk(sock)
        except OSError as error:
            self.error = error
        self.listener.close()

    def talk(self, sock):
        sock.recv(1)
        for piece in self.pieces:
            sock.sendall(piece)
            self.sent += len(piece)
            time.sleep(0.01)
        if self.how == "reset":
            time.sleep(0.1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


def client(port, sends, address="127.0.0.1", leave_after=None):
    """What came back; an OSError instead, where the connection broke."""
    received = b""
    with socket.create_connection((address, port), timeout=20) as sock:
        for piece in sends:
            sock.sendall(piece)
            time.sleep(0.01)
        try:
            while True:
                chunk = sock.recv(1 << 18)
                received += chunk
                if not chunk:
                    return received
                if leave_after is not None and len(received) >= leave_after:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return received
        except OSError as error:
            return error


def watch(pieces, *options, sends=(CLIENT_HELLO,), end="close", address="127.0.0.1",
          leave_after=None):
    """Pieces through the tap: (what the client got, the connection, the tap's end)."""
    script = Script(pieces, end, address)
    with WireTap(script.port, *options, address=address) as tap:
        got = client(tap.port, sends, address, leave_after)
        connection = tap.connection()
        script.thread.join(20)
        return got, connection, tap.end()


def violations(connection, side="server_to_client"):
    return [violation["what"] for violation in connection[side]["violations"]]


def expect(value, right):
    if value != right:
        raise Failure(f"{value!r} instead of {right!r}")


# ---- Well-formed streams pass -------------------------------------------------


def good_streams(plan):
    streams = (
        ("TLS 1.3", tls13((17, 100, 16401)), 0x0304, 0x1301),
        ("TLS 1.2 AES-GCM", tls12(0xc02b, 26), 0x0303, 0xc02b),
        ("TLS 1.2 AES-CCM", tls12(0xc0ac, 26), 0x0303, 0xc0ac),
        ("TLS 1.2 ChaCha20", tls12(0xcca9, 18), 0x0303, 0xcca9),
        ("TLS 1.2 CBC with SHA-1", tls12(0xc009, 48), 0x0303, 0xc009),
        ("TLS 1.2 CBC with SHA-1, encrypt-then-MAC", tls12(0xc009, 52, True), 0x0303, 0xc009),
        ("TLS 1.2 CBC with SHA-256", tls12(0xc023, 64), 0x0303, 0xc023),
        ("TLS 1.2 CBC with SHA-384", tls12(0xc024, 80), 0x0303, 0xc024),
    )
    for name, stream, version, cipher in streams:
        with plan.check(f"tap: a whole stream passes: {name}"):
            got, connection, end = watch([stream])
            expect(got, stream)
            expect(violations(connection), [])
            expect((connection["version"], connection["cipher"]), (version, cipher))
            expect(connection["server_to_client"]["close_notify"], True)
            expect((end["connections"], end["open"], end["status"]), (1, 0, 0))


def records_are_counted(plan):
    with plan.check("tap: records are counted by type and direction, in pieces of any size"):
        stream = tls13((100, 200))
        pieces = [stream[i:i + 3] for i in range(0, 120, 3)] + [stream[120:]]
        _, connection, _ = watch(pieces, sends=(CLIENT_HELLO, record(CCS, b"\x01"),
                                                record(DATA, noise(60))))
        server, client_ = connection["server_to_client"], connection["client_to_server"]
        expect(server["records"], {"20": 1, "21": 0, "22": 1, "23": 4, "24": 0})
        expect(client_["records"], {"20": 1, "21": 0, "22": 1, "23": 1, "24": 0})
        expect((server["bytes"], server["last"]), (len(stream), [DATA, 19]))


def hello_retry(plan):
    with plan.check("tap: after a HelloRetryRequest the second hello counts"):
        stream = server_hello(0x1301, tls13=True, rand=RETRY) + record(CCS, b"\x01") + tls13()
        _, connection, _ = watch([stream])
        expect((violations(connection), connection["cipher"]), ([], 0x1301))


def over_ipv6(plan):
    if not has_ipv6():
        plan.skip("tap: IPv6", "this machine has none")
        return
    with plan.check("tap: IPv6"):
        got, connection, _ = watch([tls13((100,))], address="::1")
        expect((got, violations(connection)), (tls13((100,)), []))


# ---- Faults are seen ----------------------------------------------------------


def faults(plan):
    whole = tls13((100,))
    cases = (
        ("plaintext instead of TLS", [b"HTTP/1.1 200 OK\r\n\r\n" + noise(900)],
         ["plaintext-marker", "bad-type"]),
        ("a record cut short", [whole[:-7]], ["partial-record", "no-close-notify"]),
        ("a header cut short", [whole + b"\x17\x03"], ["partial-record"]),
        ("no close_notify, TLS 1.3", [tls13((100,), end=0)], ["no-close-notify"]),
        ("no close_notify, TLS 1.2", [tls12(0xc02b, 0)], ["no-close-notify"]),
        ("an alert too long for a close_notify", [tls12(0xc02b, 27)], ["no-close-notify"]),
        ("nothing at all", [], ["no-close-notify"]),
        ("a record longer than TLS allows", [tls13() + record(DATA, noise(16641))], ["bad-length"]),
        ("an unknown version", [tls13() + record(DATA, noise(99), 0x0304)], ["bad-version"]),
        ("an unknown type", [tls13() + record(25, noise(99))], ["bad-type"]),
        ("a handshake record in clear, TLS 1.3",
         [tls13() + record(HANDSHAKE, noise(99)) + whole[-24:]], ["record-in-clear"]),
        ("an alert in clear, TLS 1.3", [tls13() + record(ALERT, b"\1\0") + whole[-24:]],
         ["record-in-clear"]),
        ("data in clear, TLS 1.3", [tls13() + record(DATA, b"x" * 16) + whole[-24:]],
         ["record-in-clear"]),
        ("an alert in clear, TLS 1.2", [tls12(0xc02b, 2)], ["record-in-clear", "no-close-notify"]),
        ("data in clear, TLS 1.2",
         [tls12(0xc02b, 0) + record(DATA, b"x" * 23) + record(ALERT, noise(26))],
         ["record-in-clear"]),
        ("a marker within a record", [tls13() + record(DATA, noise(50) + MARKER.encode() + noise(9))
                                      + whole[-24:]], ["plaintext-marker"]),
    )
    for name, pieces, right in cases:
        with plan.check(f"tap: caught: {name}"):
            _, connection, end = watch(pieces)
            expect(violations(connection), right)
            expect(end["status"], 1)


def seams(plan):
    with plan.check("tap: caught: a marker across reads, wherever it is cut"):
        start = tls13((100,), end=0)
        body = noise(33) + MARKER.encode() + noise(33)
        stream = start + record(DATA, body) + record(DATA, noise(19))
        at = stream.index(MARKER.encode())
        for cut in range(1, len(MARKER)):
            _, connection, _ = watch([stream[:at + cut], stream[at + cut:]])
            expect(connection["server_to_client"]["violations"],
                   [{"what": "plaintext-marker", "offset": at}])
    with plan.check("tap: caught: a marker that comes byte by byte"):
        pieces = [stream[:at]] + [stream[i:i + 1] for i in range(at, at + len(MARKER))]
        _, connection, _ = watch(pieces + [stream[at + len(MARKER):]])
        expect(connection["server_to_client"]["violations"],
               [{"what": "plaintext-marker", "offset": at}])
    with plan.check("tap: caught: a marker from the client"):
        _, connection, end = watch([tls13()], sends=(CLIENT_HELLO, record(DATA, MARKER.encode())))
        expect(violations(connection, "client_to_server"), ["plaintext-marker"])
        expect(end["status"], 1)


def resets(plan):
    with plan.check("tap: caught: a server that resets"):
        _, connection, end = watch([tls13((100,))], end="reset")
        expect((violations(connection), end["status"]), (["reset"], 1))
    with plan.check("tap: a client that resets: the server's stream is watched to its end"):
        stream = tls13([16401] * 60)
        _, connection, end = watch([stream[:5000], stream[5000:]], leave_after=1000)
        expect((violations(connection), end["status"]), ([], 0))
        expect(connection["server_to_client"]["bytes"], len(stream))
    with plan.check("tap: a connection that is open at the end is told"):
        script = Script([tls13(end=0)])
        with WireTap(script.port) as tap, \
                socket.create_connection(("127.0.0.1", tap.port)) as sock:
            sock.sendall(CLIENT_HELLO)
            sock.recv(10)
            tap.signal()
            connection = tap.connection()
            expect(connection["client_to_server"]["end"], "open")
            expect(tap.event("end")["open"], 1)
    with plan.check("tap: nobody to connect to is no success"):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        with WireTap(port) as tap:
            client(tap.port, [])
            expect(tap.end()["status"], 1)


# ---- Bad manners towards the server -------------------------------------------


def manners(plan):
    stream = tls13([16401] * 40)
    with plan.check("tap: --slow reads so much a second, for so long"):
        start = time.monotonic()
        got, connection, _ = watch([stream], "--slow", 4096, "--slow-after", 1000,
                                   "--slow-for", 1500, "--rcvbuf", 16384)
        seconds = time.monotonic() - start
        expect((got == stream, violations(connection)), (True, []))
        if not 1.4 < seconds < 8:
            raise Failure(f"it took {seconds:.1f} s")
    with plan.check("tap: SIGUSR1 makes a slow reader fast"):
        script = Script([stream])
        with WireTap(script.port, "--slow", 1024, "--rcvbuf", 16384) as tap:
            timer = threading.Timer(0.7, tap.signal, (signal.SIGUSR1,))
            timer.start()
            start = time.monotonic()
            got = client(tap.port, [CLIENT_HELLO])
            seconds = time.monotonic() - start
            expect((got == stream, violations(tap.connection())), (True, []))
            if not 0.6 < seconds < 8:
                raise Failure(f"it took {seconds:.1f} s")
    with plan.check("tap: a slow reader with a small buffer holds the server up"):
        big = [tls13([16401] * 10, end=0)] + [record(DATA, noise(16401)) * 16] * 200
        script = Script(big)
        with WireTap(script.port, "--slow", 1024, "--rcvbuf", 16384) as tap, \
                socket.create_connection(("127.0.0.1", tap.port)) as sock:
            sock.sendall(CLIENT_HELLO)
            time.sleep(1)
            if script.sent > 16 * MIB:
                raise Failure(f"the server could send {script.sent} bytes in a second")
    with plan.check("tap: --stop-reading-after, then goes on"):
        start = time.monotonic()
        got, connection, _ = watch([stream], "--stop-reading-after", 5000, "--resume-after", 700)
        seconds = time.monotonic() - start
        expect((got == stream, violations(connection), seconds > 0.6), (True, [], True))
    with plan.check("tap: --reset-after resets both, which is no violation"):
        script = Script([stream] * 100)
        with WireTap(script.port, "--reset-after", 50000) as tap:
            got = client(tap.port, [CLIENT_HELLO])
            connection = tap.connection()
            script.thread.join(20)
            expect((connection["reset_by_tap"], tap.end()["status"]), (True, 0))
        expect((connection["server_to_client"]["bytes"], connection["server_to_client"]["end"]),
               (50000, "cut"))
        expect((isinstance(got, ConnectionError), isinstance(script.error, ConnectionError)),
               (True, True))


def speed(plan):
    """The tap must not be what a transfer waits for."""
    mib = 16 if has("ktls") else 256  # the lab is slow, and both ends are Python
    with plan.check(f"tap: {mib} MiB pass"):
        block = record(DATA, noise(16384)) * 64
        stream = [tls13(end=0)] + [block] * mib + [record(DATA, noise(19))]
        room = bytearray(MIB)
        script = Script(stream)
        start = time.monotonic()
        with WireTap(script.port) as tap, \
                socket.create_connection(("127.0.0.1", tap.port)) as sock:
            sock.sendall(CLIENT_HELLO)
            while sock.recv_into(room):
                pass
            sock.close()
            expect(violations(tap.connection()), [])
        seconds = time.monotonic() - start
        plan.note(f"{mib} MiB in {seconds:.1f} s")
        if seconds > 60:
            raise Failure(f"{mib} MiB took {seconds:.1f} s")


# ---- The other instruments ----------------------------------------------------


class TlsServer:
    """One TLS connection, on Python's OpenSSL: takes a request, answers with text."""

    def __init__(self, payloads, text, end):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(payloads.cert, payloads.key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.text = text
        self.how = end
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError), self.listener.accept()[0] as raw:
            raw.settimeout(20)
            sock = self.context.wrap_socket(raw, server_side=True)
            sock.recv(1000)
            sock.sendall(self.text)
            if self.how == "close":
                sock.unwrap()
            elif self.how == "reset":
                time.sleep(0.2)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                sock.shutdown(socket.SHUT_WR)
                time.sleep(0.2)
            sock.close()


def peers(plan, payloads):
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    for how, end, status in (("close", "close_notify", 0), ("fin", "eof", 1),
                             ("reset", "reset", 1)):
        with plan.check(f"peer: a server that ends by {how} is seen to"):
            report = peer(TlsServer(payloads, text, how).port, "/", status=status)
            response = report["responses"][0]
            expect((report["end"], report["close_notify"]), (end, how == "close"))
            expect((response["bytes"], response["sha256"], response["complete"]), (5, digest, True))
    with plan.check("peer: bytes behind the response are no success"):
        report = peer(TlsServer(payloads, text + b"\x01\x00", "close").port, "/", status=1)
        expect((report["surplus"], report["close_notify"]), (2, True))
    with plan.check("peer: a short body is no success"):
        report = peer(TlsServer(payloads, text[:-1], "close").port, "/", status=1)
        expect(report["responses"][0]["complete"], False)
    with plan.check("peer: key updates, both ways"):
        body = b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n" + noise(400000)
        report = peer(TlsServer(payloads, body, "close").port, "/", tls="1.3",
                      options=("--key-update-every", 150000, "--key-update-request"))
        expect(report["key_updates_sent"], 2)


def denials(plan):
    code = ("import ctypes; c = ctypes.CDLL(None, use_errno=True); "
            "print(c.syscall(425, 1, None), ctypes.get_errno())")
    for name, number in (("EPERM", 1), ("ENOSYS", 38)):
        done = subprocess.run([program("deny"), name, sys.executable, "-c", code], timeout=60,
                              stdout=subprocess.PIPE, check=False)
        if done.returncode == 77:
            plan.skip(f"deny: io_uring_setup fails with {name}", "no seccomp filters here")
        else:
            plan.ok(done.stdout.split() == [b"-1", b"%d" % number],
                    f"deny: io_uring_setup fails with {name}", done.stdout)


def children(plan):
    with plan.check("a process of the test that hangs is ended, and nothing else"):
        other = subprocess.Popen(["sleep", "60"])
        child = Child(["sh", "-c", "trap '' TERM; echo ready; exec sleep 60"], "sleep")
        child.line(lambda line: line == "ready")
        try:
            child.stop(0.5)
            raise Failure("it ended by itself")
        except Failure as failure:
            expect("did not end within" in str(failure), True)
        expect((child.process.poll(), other.poll()), (-signal.SIGKILL, None))
        os.kill(other.pid, signal.SIGKILL)
        other.wait()


def test(plan):
    isolate()
    good_streams(plan)
    records_are_counted(plan)
    hello_retry(plan)
    over_ipv6(plan)
    faults(plan)
    seams(plan)
    resets(plan)
    manners(plan)
    speed(plan)
    denials(plan)
    children(plan)
    with Payloads() as payloads:
        peers(plan, payloads)


if __name__ == "__main__":
    main(test, 300)
