"""test_examples.py - these programs do what they say, with stock peers: Python's ssl
module and curl. README.md shows one of them.
"""
import hashlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests",
                                "docs"))
from docs import BUILD, Failure, Skip, main, read, run, tool  # noqa: E402
from e2e import Child, has  # noqa: E402

EXAMPLES = os.path.join(BUILD, "doc", "examples")
BLOCK = bytes(range(256)) * 4096  # 1 MiB


class Machine:
    """A folder with a certificate for localhost."""

    def __init__(self, folder):
        self.folder = folder
        self.cert, self.key = self.path("cert.pem"), self.path("key.pem")
        run(tool("", "openssl") + [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", self.key, "-out", self.cert, "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost"])

    def path(self, name):
        return os.path.join(self.folder, name)

    def file(self, name, size):
        with open(self.path(name), "wb") as file:
            file.write((BLOCK * (size // len(BLOCK) + 1))[:size])
        return self.path(name)

    def connect(self, port):
        """A client of Python's own, which trusts the certificate."""
        context = ssl.create_default_context(cafile=self.cert)
        raw = socket.create_connection(("127.0.0.1", port), timeout=60)
        return context.wrap_socket(raw, server_hostname="localhost")


def example(name):
    path = os.path.join(EXAMPLES, name)
    if not os.path.exists(path):
        raise Skip(f"{name} was not built")
    return path


def serving(name, *arguments):
    """The example as a server, and its port."""
    child = Child([example(name), *arguments], name)
    port = int(child.line(lambda line: re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)",
                                                    line)).group(1))
    return child, port


def ends_well(child):
    status = child.wait()
    if status:
        raise Failure(f"{child.name} ended with {status}\n{child.tail()}")


def digest(data):
    return hashlib.sha256(data).hexdigest()


def lane():
    """The one that auto must take here."""
    return "user"


def same(got, want, what):
    if digest(got) != digest(want):
        raise Failure(f"{what}: {len(got)} bytes came, {len(want)} were expected")


# ---- get --------------------------------------------------------------------


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class PageServer:
    """Answers one request with a page, then ends the connection; Python's ssl."""

    def __init__(self, machine, page):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(machine.cert, machine.key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.request = b""
        self.thread = threading.Thread(target=self.serve, args=(context, page), daemon=True)
        self.thread.start()

    def serve(self, context, page):
        with self.listener, self.listener.accept()[0] as raw:
            raw.settimeout(60)
            try:
                with context.wrap_socket(raw, server_side=True) as peer:
                    while b"\r\n\r\n" not in self.request:
                        self.request += peer.recv(4096)
                    peer.sendall(page)
                    peer.unwrap()
            except OSError:
                pass  # a client that does not trust us


def get(machine, port, trusts=True):
    environment = dict(os.environ, SSL_CERT_DIR=machine.folder)
    environment["SSL_CERT_FILE"] = machine.cert if trusts else "/dev/null"
    return subprocess.run([example("get"), "localhost", str(port)], env=environment, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)


def get_fetches_a_page(machine):
    page = b"HTTP/1.0 200 OK\r\n\r\n" + BLOCK
    server = PageServer(machine, page)
    done = get(machine, server.port)
    if done.returncode:
        raise Failure(done.stderr.decode())
    same(done.stdout, page, "the page")
    if not re.search(rf"^lane={lane()} reason=\S+$", done.stderr.decode(), re.M):
        raise Failure(f"not lane={lane()}: {done.stderr!r}")


def get_refuses_a_stranger(machine):
    server = PageServer(machine, b"secret")
    done = get(machine, server.port, trusts=False)
    if done.returncode != 1 or done.stdout or b"certificate verify failed" not in done.stderr:
        raise Failure(f"status {done.returncode}: {done.stdout!r} {done.stderr!r}")


# ---- send_file ----------------------------------------------------------------


def send_file_sends_files_of_every_size(machine):
    if not shutil.which("curl"):
        raise Skip("no curl here")
    for size in (0, 1, 16384, 16385, 262144, 262145, 5 * len(BLOCK) + 17):
        path = machine.file("page", size)
        child, port = serving("send_file", machine.cert, machine.key, path, "1")
        got = machine.path("got")
        run(["curl", "--silent", "--show-error", "--fail", "--max-time", "60", "--cacert",
             machine.cert, "--resolve", f"localhost:{port}:127.0.0.1", "--output", got,
             f"https://localhost:{port}/"])
        ends_well(child)
        head = len(f"HTTP/1.0 200 OK\r\nContent-Length: {size}\r\n\r\n")
        child.line(lambda line, want=f"lane={lane()} bytes={size + head}": line == want)
        # curl makes no file when nothing comes.
        with open(got if size else path, "rb") as file, open(path, "rb") as sent:
            same(file.read(), sent.read(), f"a file of {size} bytes")


# ---- epoll_echo -----------------------------------------------------------------


def epoll_echo_serves_many_at_a_time(machine):
    child, port = serving("epoll_echo", machine.cert, machine.key, "8")
    peers = [machine.connect(port) for _ in range(8)]
    # All are open at the same time, the idle ones too.
    for round_ in range(3):
        for number, peer in enumerate(peers):
            text = f"round {round_}, peer {number}".encode()
            peer.sendall(text)
            same(peer.recv(1000), text, "a short echo")
    for peer in peers:
        peer.unwrap()
        peer.close()
    ends_well(child)


def epoll_echo_waits_for_a_slow_reader(machine):
    child, port = serving("epoll_echo", machine.cert, machine.key, "2")
    slow, quick = machine.connect(port), machine.connect(port)
    # Nobody reads yet: the server fills the socket, and must serve others meanwhile.
    slow.settimeout(2)
    sent = 0
    try:
        while sent < 64 * len(BLOCK):
            sent += slow.send(BLOCK)
    except OSError:
        pass
    quick.sendall(b"meanwhile")
    same(quick.recv(1000), b"meanwhile", "the quick one's echo")
    quick.unwrap()
    slow.close()
    quick.close()
    ends_well(child)


def epoll_echo_brings_all_back(machine):
    child, port = serving("epoll_echo", machine.cert, machine.key, "1")
    # One thread here, so a piece must fit into the sockets' buffers.
    with machine.connect(port) as peer:
        for _ in range(64):
            piece = os.urandom(60000)
            peer.sendall(piece)
            echo = bytearray()
            while len(echo) < len(piece):
                echo += peer.recv(65536) or b"the end"
            same(bytes(echo), piece, "the echo")
        peer.unwrap()
    ends_well(child)


# ---- shared_ring ----------------------------------------------------------------


def shared_ring_serves_many_and_keeps_time(machine):
    if not has("uring"):
        raise Skip("no io_uring here")
    child, port = serving("shared_ring", machine.cert, machine.key, "9", "60000")
    peers = [machine.connect(port) for _ in range(8)]
    for size in (10, 1000, 60000):
        for number, peer in enumerate(peers):
            text = os.urandom(size) + bytes([number])
            peer.sendall(text)
            echo = bytearray()
            while len(echo) < len(text):
                echo += peer.recv(65536) or b"the end"
            same(bytes(echo), text, "the echo")
    for peer in peers[:4]:
        peer.unwrap()
        peer.close()
    for peer in peers[4:]:
        peer.close()  # without a word
    with machine.connect(port) as peer:
        peer.unwrap()
    ends_well(child)
    child.line(lambda line: re.fullmatch(r"ticks=\d+", line))


def shared_ring_forgets_who_is_idle(machine):
    if not has("uring"):
        raise Skip("no io_uring here")
    child, port = serving("shared_ring", machine.cert, machine.key, "1", "300")
    with machine.connect(port) as peer:
        peer.settimeout(60)
        try:
            if peer.recv(1):
                raise Failure("it said something")
        except OSError:
            pass  # reset, or the end without close_notify
    ends_well(child)
    ticks = child.line(lambda line: re.fullmatch(r"ticks=(\d+)", line))
    if int(ticks.group(1)) < 3:
        raise Failure(f"the timer did not run: {ticks.group(0)}")


# ---- README -----------------------------------------------------------------------


def readme_shows_the_program_that_is_tested(_machine):
    blocks = re.findall(r"^```c\n(.*?)^```$", read("README.md"), re.M | re.S)
    if blocks != [read("doc", "examples", "get.c")]:
        raise Failure("the program in README.md is not doc/examples/get.c")


def test(plan):
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(folder)
        for check in (get_fetches_a_page, get_refuses_a_stranger,
                      send_file_sends_files_of_every_size, epoll_echo_serves_many_at_a_time,
                      epoll_echo_waits_for_a_slow_reader, epoll_echo_brings_all_back,
                      shared_ring_serves_many_and_keeps_time, shared_ring_forgets_who_is_idle,
                      readme_shows_the_program_that_is_tested):
            with plan.check(check.__name__.replace("_", " ")):
                check(machine)


main(test)
