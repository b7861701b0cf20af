"""test_open.py - ringtls-serve in the open: clients that want too much, of connections,
of time, of the header, of key updates; that write what can be read in two ways; that
look for a way out of the root.
"""
import hashlib
import os
import pwd
import re
import resource
import signal
import socket
import ssl
import struct
import subprocess
import time

from e2e import MIB, Failure, Payloads, Server, Skip, can_trace, has, isolate, main, peer

PATIENCE_S = 60


def lane():
    return "kernel" if has("ktls") else "user"


def expect(value, right, what):
    if value != right:
        raise Failure(f"{what}: {value!r} instead of {right!r}")


def context(tls=None):
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    if tls:
        ctx.minimum_version = ctx.maximum_version = tls
    return ctx


class Client:
    """One connection, and what comes on it."""

    def __init__(self, port, handshake=True, rcvbuf=None):
        self.raw = socket.socket()
        if rcvbuf:
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.raw.settimeout(PATIENCE_S)
        self.raw.connect(("127.0.0.1", port))
        self.sock = self.raw
        self.rest = bytearray()
        if handshake:
            self.handshake()

    def handshake(self):
        self.sock = context().wrap_socket(self.raw, suppress_ragged_eofs=False)

    def send(self, data):
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def get(self, path="/payload-1", fields=""):
        self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
        return self.answer()

    def some(self):
        """More bytes; none at the end, however it comes."""
        try:
            return self.sock.recv(65536)
        except TimeoutError:
            raise Failure(f"nothing came within {PATIENCE_S} s") from None
        except OSError:  # a reset, or an end without close_notify
            return b""

    def answer(self, body=True):
        """(status, head) of the next answer; 0 where there is none."""
        while b"\r\n\r\n" not in self.rest:
            more = self.some()
            if not more:
                return 0, ""
            self.rest += more
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head) if body else None
        while length and len(self.rest) < int(length.group(1)):
            more = self.some()
            if not more:
                raise Failure(f"an answer was cut off: {head} {self.rest}")
            self.rest += more
        self.body = self.rest[:int(length.group(1))] if length else b""
        self.rest = self.rest[len(self.body):]
        return int(head.split()[1]), head.decode("latin-1")

    def ends(self):
        """Raises if anything but the end comes."""
        rest = self.rest + self.some()
        if rest:
            raise Failure(f"instead of the end came {rest[:200]!r}")

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def serve(payloads, *options, **more):
    return Server(payloads, lane(), options=options, **more)


def said(server, text):
    return [line for line in server.lines if text in line]


def soon(condition, text):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise Failure(text())
        time.sleep(0.02)


def ends_well(server):
    expect(server.stop(), 0, "status\n" + server.tail())


def alive(server):
    with Client(server.port) as client:
        expect(client.get()[0], 200, "the next client's status")


# ---- Connections --------------------------------------------------------------


def busy(server):
    """A connection that is not idle: its request has begun."""
    client = Client(server.port)
    client.send("GET /payload-1 HTTP/1.1\r\n")
    return client


def is_kept_waiting(server):
    """It is in the queue of the listening socket, and nobody takes it from there."""
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=0.5)
    sock = context().wrap_socket(raw, do_handshake_on_connect=False)
    try:
        sock.do_handshake()
    except TimeoutError:
        return sock
    raise Failure("it was accepted beyond the limit")


def beyond(payloads, *options):
    """Three, and not a fourth, until one of them ends."""
    with serve(payloads, "--header-timeout=300", *options) as server:
        held = [busy(server) for _ in range(3)]
        waiting = is_kept_waiting(server)
        held.pop().close()
        waiting.settimeout(PATIENCE_S)
        waiting.do_handshake()
        for client in held:
            client.send("Host: localhost\r\n\r\n")
            expect(client.answer()[0], 200, "the status of one that was there")
            client.close()
        waiting.close()
        ends_well(server)


def connections_in_all(payloads):
    beyond(payloads, "--max-connections=3")


def connections_of_a_thread(payloads):
    beyond(payloads, "--max-thread-connections=3")


def the_idle_one_gives_way(payloads):
    with serve(payloads, "--max-connections=2", "--idle-timeout=300") as server:
        first, second = Client(server.port), Client(server.port)
        for client in (first, second):
            expect(client.get()[0], 200, "status")
        with Client(server.port) as third:
            expect(third.get()[0], 200, "the third one's status")
            first.ends()
            second.close()
        first.close()
        ends_well(server)


def descriptors_run_out(payloads):
    """By a limit lowered from outside: its own count does not see that coming."""
    with serve(payloads, "--idle-timeout=300") as server:
        at_rest = server.descriptors()
        alive(server)
        soon(lambda: said(server, '"GET /payload-1 '), server.tail)
        soon(lambda: server.descriptors() <= at_rest, server.tail)
        used, before = server.descriptors(), resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (used + 3, before[1]))
        held = [busy(server) for _ in range(3)]
        ticks = cpu_ticks(server.pid)
        waiting = [is_kept_waiting(server) for _ in range(4)]
        if cpu_ticks(server.pid) - ticks > os.sysconf("SC_CLK_TCK"):
            raise Failure("it spins while it has no descriptor")
        for client in held:
            client.close()
        for sock in waiting:
            sock.settimeout(PATIENCE_S)
            sock.do_handshake()
            sock.close()
        lines = said(server, "can't accept connections")
        expect(len(lines), 1, f"how often it was said: {lines}")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
        alive(server)
        ends_well(server)


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def no_descriptor_for_the_file(payloads):
    with serve(payloads, "--file-cache=0") as server, Client(server.port) as client:
        expect(client.get()[0], 200, "status")
        before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (server.descriptors(), before[1]))
        status, head = client.get()
        expect(status, 503, "status without a descriptor")
        if "Retry-After" not in head:
            raise Failure(head)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
        expect(client.get()[0], 200, "status with descriptors again")


def requests_of_a_connection(payloads):
    with serve(payloads, "--max-requests=3") as server, Client(server.port) as client:
        for number in (1, 2, 3):
            status, head = client.get()
            expect((status, "Connection: close" in head), (200, number == 3), f"request {number}")
        client.ends()
        ends_well(server)


def size_of_a_header(payloads):
    with serve(payloads, "--max-header-bytes=400", "--max-headers=5") as server:
        for fields, right in (("A: b\r\n" * 4, 200), ("A: b\r\n" * 5, 431),
                              ("A: " + "b" * 300 + "\r\n", 200),
                              ("A: " + "b" * 400 + "\r\n", 431)):
            with Client(server.port) as client:
                expect(client.get(fields=fields)[0], right, f"status for {fields!r}")
        ends_well(server)


# ---- Time ---------------------------------------------------------------------


def took_about(begun, seconds):
    """Not less, when begun lies before what the server counts from; and more only as far
    as a busy machine explains it."""
    took = time.monotonic() - begun
    if not seconds - 0.1 <= took <= seconds + 30:
        raise Failure(f"it took {took:.1f} s instead of {seconds} s")


def a_slow_handshake(payloads):
    with serve(payloads, "--handshake-timeout=2") as server:
        begun = time.monotonic()
        silent, slow = Client(server.port, handshake=False), Client(server.port, handshake=False)
        for byte in b"\x16\x03\x01":  # it is on its way, and yet out of time
            slow.send(bytes((byte,)))
            time.sleep(0.3)
        silent.ends()
        slow.ends()
        took_about(begun, 2)
        alive(server)
        ends_well(server)


def a_slow_header(payloads):
    with serve(payloads, "--header-timeout=2") as server:
        begun = time.monotonic()
        with Client(server.port) as client:
            for byte in "GET":  # a second's delay in here is no failure
                client.send(byte)
                time.sleep(0.3)
            status, head = client.answer()
            expect((status, "Connection: close" in head), (408, True), "status")
            client.ends()
        took_about(begun, 2)
        begun = time.monotonic()
        with Client(server.port) as quiet:  # shakes hands, and then says nothing at all
            quiet.ends()
        took_about(begun, 2)
        ends_well(server)


def a_slow_body(payloads):
    with serve(payloads, "--header-timeout=2") as server, Client(server.port) as client:
        client.send("GET /payload-1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
        expect(client.answer()[0], 408, "status")
        client.ends()
        ends_well(server)


def an_idle_connection(payloads):
    with serve(payloads, "--idle-timeout=2") as server, Client(server.port) as client:
        begun = time.monotonic()
        expect(client.get()[0], 200, "status")
        client.ends()
        took_about(begun, 2)
        ends_well(server)


def a_reader_that_stops(payloads):
    size = 32 * MIB
    with serve(payloads, "--send-timeout=2") as server, Client(server.port, rcvbuf=4096) as client:
        client.send(f"GET {payloads.make(size)} HTTP/1.1\r\nHost: x\r\n\r\n")
        line = server.served(seconds=PATIENCE_S)[0]
        sent = int(re.search(r'" 200 (\d+) ', line).group(1))
        if sent >= size:
            raise Failure(f"logged as complete: {line}")
        alive(server)
        ends_well(server)


def a_slow_reader_that_writes(payloads):
    """What comes from it when we have hung up must not reset the connection under what is
    still on its way: it has more time than one that has everything."""
    size = 400_000
    path = payloads.make(size)
    with serve(payloads) as server, Client(server.port, rcvbuf=65536) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        server.served(path)
        for _ in range(12):
            time.sleep(0.25)
            client.send("X")
        expect(client.answer()[0], 200, "status")
        expect(hashlib.sha256(client.body).hexdigest(), payloads.hashes[size], "hash")
        ends_well(server)


# ---- Failures of the machine -----------------------------------------------------


def a_socket_that_fails(payloads):
    """Clients leave in many ways, and no line is written for it; an error that is not
    theirs is named."""
    can_trace()
    fails = ("strace", "-f", "-q", "-o", os.devnull, "-e", "trace=recvfrom",
             "-e", "inject=recvfrom:error=EIO:when=1")
    # strace puts -1 in the place of the call's number, which no sandbox allows.
    with serve(payloads, "--sandbox=off", wrapper=fails) as server:
        with Client(server.port, handshake=False) as client:
            client.send(b"\x16\x03\x01")
            client.ends()  # by a reset where the bytes come behind the failed read
        soon(lambda: said(server, "Input/output error"), server.tail)
        before = len(server.lines)
        with Client(server.port) as client:
            expect(client.get()[0], 200, "status") # the lane's key is installed, if it has one
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        alive(server)
        noise = [line for line in server.lines[before:] if '"GET ' not in line]
        expect(noise, [], "lines about a client that left by a reset")


# ---- Key updates, renegotiations ------------------------------------------------


def storm_of_updates(payloads):
    """A limit of 20, and 400 updates; a client that stays below is served. What the sockets
    hold is sent before the first update is read, so the storm's file is larger."""
    size, large = 4 * MIB, 32 * MIB
    with serve(payloads, "--max-key-updates=20", tls="1.3") as server:
        report = peer(server.port, payloads.make(large), "1.3", status=1,
                      options=("--key-update-every", large // 400))
        if report["responses"][0]["complete"]:
            raise Failure(f"it was served to the end: {report}")
        soon(lambda: said(server, "too many key updates"), server.tail)
        report = peer(server.port, payloads.make(size), "1.3",
                      options=("--key-update-every", size // 8))
        expect(report["responses"][0]["sha256"], payloads.hashes[size], "hash")
        ends_well(server)


class Typist:
    """openssl s_client, told to renegotiate."""

    def __init__(self, port):
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        os.set_blocking(self.process.stderr.fileno(), True)

    def renegotiate(self):
        """False: it is gone."""
        try:
            self.process.stdin.write(b"R\n")
            self.process.stdin.flush()
        except OSError:
            return False
        for line in self.process.stderr:
            if b"RENEGOTIATING" in line:
                return True
        return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def storm_of_renegotiations(payloads, *options):
    # Without an answer s_client does not take the next command: so few are needed.
    with Server(payloads, "openssl", tls="1.2",
                options=("--max-key-updates=3", "--header-timeout=300", *options)) as server:
        with Typist(server.port) as client:
            for _ in range(8):
                if not client.renegotiate():
                    break
                time.sleep(0.2)
            soon(lambda: said(server, "renegotiation"), server.tail)
        with Client(server.port) as client:
            expect(client.get()[0], 200, "the next client's status")
        ends_well(server)


def storm_of_served_renegotiations(payloads):
    storm_of_renegotiations(payloads, "--renegotiation=serve")


# ---- Requests that can be read in two ways -----------------------------------------

GET = "GET /payload-1 HTTP/1.1\r\n"
HOST = "Host: localhost\r\n"
# What a reader who draws the line elsewhere takes for a request of its own.
HIDDEN = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"

# Refused, and the connection ends there.
IN_DOUBT = (
    ("a coding and a length", GET + HOST + CHUNKED + "Content-Length: 5\r\n\r\n0\r\n\r\n"),
    ("a length and a coding", GET + HOST + "Content-Length: 5\r\n" + CHUNKED + "\r\n0\r\n\r\n"),
    ("two lengths", GET + HOST + "Content-Length: 0\r\nContent-Length: 49\r\n\r\n"),
    ("the same length twice", GET + HOST + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
    ("a list of lengths", GET + HOST + "Content-Length: 0, 0\r\n\r\n"),
    ("a length with a sign", GET + HOST + "Content-Length: +0\r\n\r\n"),
    ("a length below 0", GET + HOST + "Content-Length: -1\r\n\r\n"),
    ("a length in hex", GET + HOST + "Content-Length: 0x0\r\n\r\n"),
    ("no length in its field", GET + HOST + "Content-Length: \r\n\r\n"),
    ("a length of 2^64", GET + HOST + "Content-Length: 18446744073709551616\r\n\r\n"),
    ("a coding before HTTP/1.1", GET.replace("1.1", "1.0") + CHUNKED + "\r\n0\r\n\r\n"),
    ("a coding of another name", GET + HOST + "Transfer-Encoding: xchunked\r\n\r\n"),
    ("a coding that says nothing", GET + HOST + "Transfer-Encoding: identity\r\n\r\n"),
    ("two codings", GET + HOST + "Transfer-Encoding: chunked, identity\r\n\r\n"),
    ("a coding behind a tab", GET + HOST + "Transfer-Encoding:\x0bchunked\r\n\r\n"),
    ("a space in front of a colon", GET + HOST + "Content-Length : 49\r\n\r\n"),
    ("a tab in front of a colon", GET + HOST + "Transfer-Encoding\t: chunked\r\n\r\n"),
    ("a space in front of a name", GET + HOST + " Content-Length: 49\r\n\r\n"),
    ("a folded field", GET + HOST + "A: b\r\n Content-Length: 49\r\n\r\n"),
    ("a folded coding", GET + HOST + "Transfer-Encoding:\r\n chunked\r\n\r\n"),
    ("LF alone behind the first line", GET.replace("\r", "") + HOST + "\r\n"),
    ("LF alone behind a field", GET + "Host: localhost\nContent-Length: 49\r\n\r\n"),
    ("LF alone at the end", GET + HOST + "\n"),
    ("CR alone in a field", GET + HOST + "A: b\rContent-Length: 49\r\n\r\n"),
    ("CR alone in the first line", GET.replace(" H", "\rH") + HOST + "\r\n"),
    ("CR CR LF", GET + HOST + "A: b\r\r\n\r\n"),
    ("NUL in a value", GET + HOST + "A: b\0c\r\n\r\n"),
    ("NUL in a name", GET + HOST + "A\0: b\r\n\r\n"),
    ("NUL in the target", GET.replace("-1", "-1\0") + HOST + "\r\n"),
    ("a field without a colon", GET + HOST + "Content-Length\r\n\r\n"),
    ("a field without a name", GET + HOST + ": 49\r\n\r\n"),
    ("two hosts", GET + HOST + HOST + "\r\n"),
    ("no host", GET + "\r\n"),
    ("a space in the target", GET.replace("-1", "-1 x") + HOST + "\r\n"),
    ("no version", "GET /payload-1\r\n" + HOST + "\r\n"),
    ("a version of two digits", GET.replace("1.1", "1.10") + HOST + "\r\n"),
)

# Answered as if it were alone, and then the connection ends.
LAST_ONE = (
    ("a chunked body on GET", GET + HOST + CHUNKED + "\r\n0\r\n\r\n", 200),
    ("a chunked body that hides one", GET + HOST + CHUNKED + "\r\n2f\r\n", 200),
    ("a body on POST", GET.replace("GET", "POST") + HOST + "Content-Length: 4\r\n\r\nbody", 405),
    ("a body too long", GET + HOST + "Content-Length: 65537\r\n\r\n", 413),
    ("a request for a tunnel", "CONNECT localhost:443 HTTP/1.1\r\n" + HOST + "\r\n", 405),
    ("an unknown method", GET.replace("GET", "FETCH") + HOST + "\r\n", 501),
    ("a newer version", GET.replace("1.1", "2.0") + HOST + "\r\n", 505),
    ("a target too long", GET.replace("-1", "-" + "1" * 8200) + HOST + "\r\n", 414),
    ("a header too long", GET + HOST + "A: " + "b" * 17000 + "\r\n\r\n", 431),
    ("too many fields", GET + HOST + "A: b\r\n" * 101 + "\r\n", 431),
)


def ask_and_hide(server, name, text, statuses):
    with Client(server.port) as client:
        client.send(text + HIDDEN)
        status, head = client.answer(body=False)
        if status not in statuses or "Connection: close" not in head:
            raise Failure(f"{name}: {status} {head}")
        while client.rest:  # the page of the error, and then nothing
            if b"HTTP/1." in client.rest:
                raise Failure(f"{name}: a second answer: {client.rest}")
            client.rest = client.some()


def smuggled(payloads):
    """A second request behind each: it is never answered, and never in the log."""
    with serve(payloads) as server:
        for name, text in IN_DOUBT:
            # 501 where it is only the coding that we don't know.
            ask_and_hide(server, name, text, (400, 501) if "coding" in name else (400,))
        for name, text, status in LAST_ONE:
            ask_and_hide(server, name, text, (status,))
        alive(server)
        soon(lambda: said(server, '"GET /payload-1 HTTP/1.1" 200'), server.tail)
        expect(said(server, "hidden"), [], "what was served")
        ends_well(server)


def a_body_that_is_counted(payloads):
    """It is thrown away, and what comes behind it is the next request, not one within it."""
    with serve(payloads) as server, Client(server.port) as client:
        for method in ("GET", "HEAD"):
            text = f"{method} /payload-1 HTTP/1.1\r\n{HOST}Content-Length: {len(HIDDEN)}\r\n\r\n"
            client.send(text + HIDDEN)
            expect(client.answer(body=method == "GET")[0], 200, f"{method} with a body")
            expect(client.get("/nothing")[0], 404, "the request behind it")
        expect(said(server, "hidden"), [], "what was served")


def in_pieces(payloads):
    """Every byte in a record of its own, and many requests in one record."""
    with serve(payloads) as server, Client(server.port) as client:
        for byte in GET + HOST + "\r\n":
            client.send(byte)
        expect(client.answer()[0], 200, "the status of a request in pieces")
        client.send((GET + HOST + "\r\n") * 50)
        for number in range(50):
            expect(client.answer()[0], 200, f"the status of request {number} of 50")


# ---- Ways out of the root -----------------------------------------------------------

SECRET = "a secret outside of the root"


def make_traps(payloads):
    """Beside the root is a secret, and in it are ways to it, and what is no file."""
    root = payloads.root
    with open(os.path.join(payloads.folder, "secret"), "w") as file:
        file.write(SECRET)
    os.mkdir(os.path.join(payloads.folder, "beside"))
    with open(os.path.join(payloads.folder, "beside", "secret"), "w") as file:
        file.write(SECRET)
    os.mkdir(os.path.join(root, "sub"))
    for name, to in (("link-up", "../secret"), ("link-abs", payloads.folder + "/secret"),
                     ("link-in-abs", root + "/payload-1"), ("sub/link-up", "../../secret"),
                     ("folder-up", "../beside"), ("folder-root", "/"), ("folder-chain", "folder-up"),
                     ("link-out-and-in", "../root/payload-1"), ("magic", "/proc/self/root"),
                     ("magic-fd", "/proc/self/fd/0"), ("loop", "loop"),
                     ("link-good", "payload-1"), ("sub/link-good", "../payload-1")):
        os.symlink(to, os.path.join(root, name))
    os.mkfifo(os.path.join(root, "fifo"))
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.open(root, os.O_PATH)
        sock.bind(f"/proc/self/fd/{here}/socket")  # a path of any length
        os.close(here)
    devices = []
    for name, number in (("null", (1, 3)), ("zero", (1, 5)), ("tty", (5, 0))):
        try:
            os.mknod(os.path.join(root, name), 0o20666, os.makedev(*number))
            devices.append("/" + name)
        except PermissionError:
            pass
    return devices


CLIMBS = (
    "/..", "/../secret", "/../../../../../../../../etc/passwd", "/sub/../../secret", "//../secret",
    "/./../secret", "/%2e%2e/secret", "/%2E%2E/secret", "/.%2e/secret", "/%2e./secret",
    "/..%2fsecret", "/..%2Fsecret", "/%2e%2e%2fsecret", "/sub/..%2f..%2fsecret", "/..%5csecret",
    "/..\\secret", "/..%255csecret", "/%252e%252e/secret", "/%252e%252e%252fsecret",
    "/%25252e%25252e/secret", "/..%c0%afsecret", "/%c0%ae%c0%ae/secret", "/%e0%80%ae%e0%80%ae/secret",
    "/%u002e%u002e/secret", "/..;/secret", "/.;./secret", "/..%00/secret", "/%00/../secret",
    "/payload-1%00", "/payload-1%00.html", "/..%0d/secret", "/..%20/secret", "/.../secret",
    "/..%09/secret", "/%", "/%2", "/%zz", "https://localhost/../secret", "https://x/%2e%2e/secret",
    "secret", "../secret", "*", "file:///etc/passwd", "/payload-1/../../secret", "/~/../../secret",
)
LINKS = ("/link-up", "/link-abs", "/link-in-abs", "/sub/link-up", "/folder-up/secret",
         "/folder-root/etc/passwd", "/folder-chain/secret", "/link-out-and-in", "/loop",
         "/magic/etc/passwd", "/magic-fd", "/folder-up", "/folder-up/../secret")
NO_FILES = ("/fifo", "/socket", "/sub", "/sub/", "/")


def paths(payloads):
    devices = make_traps(payloads)
    with serve(payloads) as server:
        for path in (*CLIMBS, *LINKS, *devices, *NO_FILES):
            with Client(server.port) as client:
                status, head = client.get(path)
                if not (400 <= status < 500 or path == "/sub" and status == 301) or \
                        SECRET.encode() in client.body or b"root:" in client.body:
                    raise Failure(f"{path}: {status} {head} {client.body}")
        for path in (*devices, "/fifo", "/socket", "/link-up", "/link-abs", "/folder-up/secret"):
            with Client(server.port) as client:
                expect(client.get(path)[0], 403, f"status of {path}")
        for path in ("/link-good", "/sub/link-good", "/sub/../payload-1", "/%70ayload-1"):
            with Client(server.port) as client:
                expect(client.get(path)[0], 200, f"status of {path}")
        ends_well(server)


def an_answer_is_not_split(payloads):
    """What is sent back of a target can't become a line of the answer."""
    os.makedirs(os.path.join(payloads.root, "a\r\nX-Evil: 1"))
    with serve(payloads) as server, Client(server.port) as client:
        status, head = client.get("/a%0d%0aX-Evil:%201?b%0d%0aX-Evil:%202")
        expect(status, 301, "status")
        if re.search("(?m)^X-Evil", head):
            raise Failure(head)
        line = server.served()[0]
        if "X-Evil: " in line:
            raise Failure(line)


# ---- A new certificate ------------------------------------------------------------


def replace(path, content):
    with open(path + ".new", "wb") as file:
        file.write(content)
    os.rename(path + ".new", path)


def read(path):
    with open(path, "rb") as file:
        return file.read()


class Pair:
    """A certificate and its key, where the server looks for them."""

    def __init__(self, payloads, folder):
        self.cert, self.key = os.path.join(folder, "c.pem"), os.path.join(folder, "k.pem")
        payloads.make_cert(self.cert, self.key)
        self.content = read(self.cert), read(self.key)
        self.der = ssl.PEM_cert_to_DER_cert(self.content[0].decode())

    def put(self, payloads):
        replace(payloads.cert, self.content[0])
        replace(payloads.key, self.content[1])


def shown(port):
    with Client(port) as client:
        return client.sock.getpeercert(binary_form=True)


def hang_up(server, text, count=1):
    server.signal(signal.SIGHUP)
    soon(lambda: len(said(server, text)) == count, server.tail)


def a_new_certificate(payloads):
    size = 32 * MIB
    folders = [os.path.join(payloads.folder, name) for name in ("one", "two")]
    for folder in folders:
        os.mkdir(folder)
    one, two = (Pair(payloads, folder) for folder in folders)
    one.put(payloads)
    with serve(payloads, "--send-timeout=300", "--idle-timeout=300", threads=2) as server, \
            Client(server.port) as busy_one, Client(server.port) as idle_one:
        expect(idle_one.get()[0], 200, "status")
        busy_one.send(f"GET {payloads.make(size)} HTTP/1.1\r\nHost: x\r\n\r\n")
        expect(shown(server.port) == one.der, True, "the first certificate")
        two.put(payloads)
        expect(shown(server.port) == one.der, True, "the first certificate, before the signal")
        hang_up(server, "was read again")
        for _ in range(8):  # whichever thread takes it
            expect(shown(server.port) == two.der, True, "the second certificate")
        # Neither is dropped, and both can go on.
        expect(idle_one.get()[0], 200, "the status of one that was idle")
        expect(busy_one.answer()[0], 200, "the status of one that was being served")
        expect(hashlib.sha256(busy_one.body).hexdigest(), payloads.hashes[size], "what it got")
        expect(busy_one.get()[0], 200, "its next status")
        bad_certificates(payloads, server, one, two)
        ends_well(server)


def bad_certificates(payloads, server, one, two):
    """None of these takes the place of the second one."""
    bad = ((b"no certificate", two.content[1]), (two.content[0], b"no key"),
           (two.content[0], one.content[1]), (two.content[0][:-200], two.content[1]))
    for count, (cert, key) in enumerate(bad, 1):
        replace(payloads.cert, cert)
        replace(payloads.key, key)
        hang_up(server, "the old certificate stays", count)
        expect(shown(server.port) == two.der, True, "the second certificate")
    os.unlink(payloads.key)
    hang_up(server, "the old certificate stays", len(bad) + 1)
    expect(shown(server.port) == two.der, True, "the second certificate")
    one.put(payloads)
    hang_up(server, "was read again", 2)
    expect(shown(server.port) == one.der, True, "the first certificate, again")


# ---- Privileges -------------------------------------------------------------------


def jail_of(server, name):
    """What /proc says of each thread."""
    folder = f"/proc/{server.pid}/task"
    return [re.search(rf"(?m)^{name}:\s*(.*)$", read(f"{folder}/{task}/status").decode()).group(1)
            for task in os.listdir(folder)]


def with_sandbox(payloads, *options, **more):
    try:
        return serve(payloads, "--sandbox=require", *options, **more)
    except Failure as failure:
        if "no sandbox by" in str(failure):
            raise Skip(re.search("no sandbox by .*", str(failure)).group()) from None
        raise


def another_user(payloads):
    """The key is root's alone, and read before that; the files are everybody's."""
    if os.geteuid() != 0:
        raise Skip("needs root")
    nobody = pwd.getpwnam("nobody")
    os.chmod(payloads.key, 0o600)
    os.chmod(payloads.root, 0o755)
    private = os.path.join(payloads.root, "private")
    with open(private, "w") as file:
        file.write(SECRET)
    os.chmod(private, 0o600)
    with serve(payloads, "--user=nobody", threads=2) as server:
        alive(server)
        for name, right in (("Uid", "\t".join([str(nobody.pw_uid)] * 4)),
                            ("Gid", "\t".join([str(nobody.pw_gid)] * 4)),
                            ("Groups", str(nobody.pw_gid)), ("NoNewPrivs", "1")):
            expect({value.strip() for value in jail_of(server, name)}, {right}, name)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            expect({int(value, 16) for value in jail_of(server, name)}, {0}, name)
        with Client(server.port) as client:
            expect(client.get("/private")[0], 403, "a file that only root may read")
        # It can't read the key again: the certificate stays, and so does the service.
        hang_up(server, "the old certificate stays")
        alive(server)
        ends_well(server)


def everything_in_the_sandbox(payloads):
    """By default, all threads, and what is served then: files, errors, a reload, the end."""
    size = 2 * MIB
    with with_sandbox(payloads, threads=2) as server:
        expect(set(jail_of(server, "Seccomp")), {"2"}, "Seccomp of the threads")
        expect(set(jail_of(server, "NoNewPrivs")), {"1"}, "NoNewPrivs of the threads")
        report = peer(server.port, payloads.make(size))
        expect(report["responses"][0]["sha256"], payloads.hashes[size], "hash")
        with Client(server.port) as client:
            expect(client.get("/nothing")[0], 404, "status")
        hang_up(server, "was read again")
        alive(server)
        ends_well(server)
    with serve(payloads) as server:
        expect(set(jail_of(server, "Seccomp")), {"2"}, "Seccomp by default")
        ends_well(server)
    with serve(payloads, "--sandbox=off") as server:
        expect(set(jail_of(server, "Seccomp")), {"0"}, "Seccomp without a sandbox")
        ends_well(server)


# ---- What is offered ------------------------------------------------------------------


def shakes_hands(server, *options):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", *options],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, timeout=PATIENCE_S, check=False)
    return done.returncode == 0 and b"Cipher is (NONE)" not in done.stdout


def chosen(server, ciphers):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_2",
                           "-cipher", ciphers], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, timeout=PATIENCE_S, check=False)
    return re.search(r"Cipher is (\S+)", done.stdout.decode()).group(1)


def names(suites, version="-tls1_2"):
    text = subprocess.run(["openssl", "ciphers", "-s", version, suites], stdout=subprocess.PIPE,
                          timeout=PATIENCE_S, check=True).stdout.decode()
    return text.strip().split(":")


def nothing_weak(payloads):
    """In TLS 1.2 each of the good ones, and none of all others that this OpenSSL has."""
    good = names("ECDHE+ECDSA+AESGCM:ECDHE+ECDSA+CHACHA20")
    rest = set(names("ALL:COMPLEMENTOFALL:eNULL:@SECLEVEL=0")) - set(good)
    with serve(payloads) as server:
        for cipher in good:
            expect(shakes_hands(server, "-tls1_2", "-cipher", cipher), True, cipher)
        expect(shakes_hands(server, "-tls1_2", "-cipher", ":".join(sorted(rest)) + ":@SECLEVEL=0"),
               False, f"one of {rest}")
        expect(chosen(server, ":".join(reversed(good[:2]))), good[0], "whose order it is")
        expect(chosen(server, "ECDHE-ECDSA-CHACHA20-POLY1305:" + good[0]),
               "ECDHE-ECDSA-CHACHA20-POLY1305", "the choice of who has no AES")
        for version in ("-tls1", "-tls1_1"):
            expect(shakes_hands(server, version, "-cipher", "ALL:@SECLEVEL=0"), False, version)
        for group, right in (("X25519", True), ("P-384", True), ("ffdhe2048", False),
                             ("ffdhe8192", False)):
            expect(shakes_hands(server, "-tls1_3", "-groups", group), right, group)
        expect(shakes_hands(server, "-tls1_2", "-sigalgs", "ECDSA+SHA1", "-cipher",
                            "ALL:@SECLEVEL=0"), False, "SHA-1")
        expect(shakes_hands(server, "-tls1_2", "-sigalgs", "ECDSA+SHA256"), True, "SHA-256")
        ends_well(server)


CHECKS = (
    ("connections in all: the next one waits", connections_in_all),
    ("connections of a thread: the next one waits", connections_of_a_thread),
    ("the connection that is idle longest gives way", the_idle_one_gives_way),
    ("descriptors run out: said once, and survived", descriptors_run_out),
    ("no descriptor is left for a file: 503", no_descriptor_for_the_file),
    ("requests of one connection", requests_of_a_connection),
    ("the size of a header, and its fields: 431", size_of_a_header),
    ("a handshake that is slow, or none", a_slow_handshake),
    ("a header that is slow, or none: 408", a_slow_header),
    ("a body that is slow: 408", a_slow_body),
    ("a connection that is idle", an_idle_connection),
    ("a reader that stops reading", a_reader_that_stops),
    ("a slow reader that goes on writing gets everything", a_slow_reader_that_writes),
    ("a socket that fails is named, a client that leaves is not", a_socket_that_fails),
    ("a storm of key updates", storm_of_updates),
    ("a storm of renegotiations that are served", storm_of_served_renegotiations),
    ("requests that can be read in two ways hide no other", smuggled),
    ("a body on GET and HEAD is thrown away, as long as it is", a_body_that_is_counted),
    ("requests in pieces, and many in one", in_pieces),
    ("no path, link or device leads out of the root", paths),
    ("an answer is not split", an_answer_is_not_split),
    ("nothing weak is offered", nothing_weak),
    ("--user: no privilege is left", another_user),
    ("everything works in the sandbox", everything_in_the_sandbox),
    ("SIGHUP: a new certificate, and no connection dropped", a_new_certificate),
)


def test(plan):
    isolate()
    if plan.lacks("ktls", "uring"):
        return
    with Payloads() as payloads:
        payloads.make(1)
        for name, function in CHECKS:
            with plan.check(f"ringtls-serve: {name}"):
                function(payloads)


if __name__ == "__main__":
    main(test, 600)
