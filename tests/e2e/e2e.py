"""e2e.py - what the end-to-end tests share: TAP, processes, payloads, peers.

Every process that a test starts is known here, has a time limit, dies with the
test, and is ended by its number. Everything runs on the loopback device, where
possible in a network namespace of the test's own: then the kernel's counters
(/proc/net/tls_stat) and the size of send buffers are nobody else's either.
"""
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import queue
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

BUILD = os.environ.get("abs_top_builddir") or os.path.abspath(
    os.path.join(os.path.dirname(__file__), "..", ".."))
HELPERS = os.path.join(BUILD, "tests", "e2e")
MUST = os.environ.get("RINGTLS_MUST", "").split()

# Written into every payload; the tap looks for it, and for what HTTP would show.
MARKER = "ringtls-payload-marker-5f0c9a3e"
MARKERS = (MARKER, "HTTP/1.1 20", "GET /payload-")
BLOCK = 512
MIB = 1 << 20


class Failure(Exception):
    """What a check found wrong, in one line."""


class Skip(Exception):
    """Why a test can't be made here."""


# ---- TAP --------------------------------------------------------------------


class Plan:
    """Prints TAP. A test that raises has failed, and the next one goes on."""

    def __init__(self):
        self.count = 0
        self.failed = 0

    def line(self, text):
        print(text, flush=True)

    def note(self, text):
        for line in str(text).splitlines():
            self.line("# " + line)

    def ok(self, good, name, *notes):
        self.count += 1
        self.failed += not good
        self.line(f"{'ok' if good else 'not ok'} {self.count} - {name}")
        for note in notes if not good else ():
            self.note(note)
        return good

    def skip(self, name, reason):
        self.count += 1
        self.line(f"ok {self.count} - {name} # SKIP {reason}")

    @contextlib.contextmanager
    def check(self, name):
        """The body is one test: it passes unless it raises."""
        try:
            yield
        except Skip as skip:
            self.skip(name, skip)
        except Failure as failure:
            self.ok(False, name, failure)
        except Exception as error:  # pylint: disable=broad-except
            # What failed comes first: summaries show the first lines only.
            self.ok(False, name, *traceback.format_exception_only(error), traceback.format_exc())
        else:
            self.ok(True, name)

    def lacks(self, *features):
        """True, and said so, where the machine lacks what RINGTLS_MUST names."""
        missing = [feature for feature in features if feature in MUST and not has(feature)]
        for feature in missing:
            self.ok(False, f"{feature} is missing, and must be here")
        return bool(missing)

    def done(self):
        self.line(f"1..{self.count}")
        return 1 if self.failed else 0


def main(test, seconds=900):
    """Runs test(plan) within a time limit, with a clean end in any case."""
    plan, start = Plan(), time.monotonic()
    signal.signal(signal.SIGALRM, _too_late)
    signal.signal(signal.SIGTERM, _terminated)
    signal.alarm(seconds)
    status = 1
    try:
        if not os.access(program("tap"), os.X_OK):
            raise Failure("abs_top_builddir must name a build directory, after make check TESTS=")
        test(plan)
        plan.note(f"{time.monotonic() - start:.0f} s in all")
        status = plan.done()
    except Skip as skip:
        plan.line(f"1..0 # SKIP {skip}")
        status = 0
    except BaseException:  # pylint: disable=broad-except
        plan.note(traceback.format_exc())
        plan.line("Bail out! the test itself failed")
    finally:
        signal.alarm(0)
        Child.end_all()
    sys.exit(status)


def _too_late(_signal, _frame):
    raise RuntimeError("the test's time is over")


def _terminated(_signal, _frame):
    sys.exit(143)


# ---- The machine --------------------------------------------------------------


def isolate():
    """Moves into a network namespace of our own, where that is allowed. Before any
    thread is started. Not in the lab: the machine is the test's own there, and the
    lab itself counts TLS sockets, to see that there were any."""
    if "ktls" not in MUST:
        isolate.done = _enter_namespace() and _lo_up()


isolate.done = False


def _enter_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    new_user, new_net = 0x10000000, 0x40000000
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(new_net) == 0:
        return True
    if libc.unshare(new_user | new_net) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        _write("/proc/self/" + name, text)
    return True


def _lo_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
        request = bytearray(struct.pack("16sH22x", b"lo", 0))
        fcntl.ioctl(sock, siocgifflags, request)
        name, flags = struct.unpack("16sH22x", request)
        fcntl.ioctl(sock, siocsifflags, struct.pack("16sH22x", name, flags | iff_up))
    return True


@contextlib.contextmanager
def narrow_network(both_ends=False):
    """Small buffers to send from meanwhile, or at both ends, and Ethernet's packets: on a
    loopback device whose packet is larger than the buffer TCP holds sendfile's data
    back for 200 ms each time, in hope of more. Gives False where that is not ours to
    change."""
    folder = "/proc/sys/net/ipv4/"
    if not (isolate.done or "ktls" in MUST) or not os.access(folder + "tcp_wmem", os.W_OK):
        yield False
        return
    narrow = {"tcp_wmem": "4096 8192 16384"}
    if both_ends:
        narrow["tcp_rmem"] = "4096 16384 32768"
    before = {}
    for name in narrow:
        with open(folder + name) as file:
            before[name] = file.read()
    mtu = _lo_mtu()
    try:
        for name, text in narrow.items():
            _write(folder + name, text)
        _lo_mtu(1500)
        yield True
    finally:
        for name, text in before.items():
            _write(folder + name, text)
        _lo_mtu(mtu)


def _lo_mtu(mtu=None):
    siocgifmtu, siocsifmtu = 0x8921, 0x8922
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = bytearray(struct.pack("16si20x", b"lo", mtu or 0))
        fcntl.ioctl(sock, siocsifmtu if mtu else siocgifmtu, request)
        return struct.unpack("16si20x", request)[1]


def _write(name, text):
    """From the start: the kernel takes a setting as a whole, or not at all."""
    with open(name, "w") as file:
        file.write(text)


def has(feature):
    """ktls, uring, rekey: as ringtls-probe sees it."""
    if feature not in has.known:
        done = subprocess.run([program("ringtls-probe"), "--require", feature], timeout=120,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        has.known[feature] = done.returncode == 0
    return has.known[feature]


has.known = {}


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def openssl_version():
    """As numbers: (3, 0)."""
    text = subprocess.run(["openssl", "version"], stdout=subprocess.PIPE, timeout=30,
                          check=True).stdout.decode()
    return tuple(int(part) for part in text.split()[1].split(".")[:2])


def can_trace():
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    done = subprocess.run(["strace", "-f", "-e", "trace=none", "true"], stderr=subprocess.PIPE,
                          timeout=30, check=False)
    if done.returncode != 0:
        raise Skip("tracing is forbidden here: " + done.stderr.decode().strip())


def tls_stat():
    """The kernel's own count of TLS sockets; empty where it has no TLS."""
    try:
        with open("/proc/net/tls_stat") as file:
            return {name: int(value) for name, value in (line.split() for line in file)}
    except OSError:
        return {}


def program(name):
    """One of the project's programs, or of our helpers. What libtool leaves in the
    build directory is a script, several times slower to start than the program in .libs,
    which only has to be told where the library is."""
    helper = name in ("tap", "peer", "deny", "talk")
    folder = HELPERS if helper else os.environ.get("RINGTLS_BIN_DIR", BUILD)
    libs = os.path.join(folder, ".libs")
    if os.path.exists(os.path.join(libs, name)):
        os.environ["LD_LIBRARY_PATH"] = os.path.join(BUILD, ".libs") if helper else libs
        folder = libs
    return os.path.join(folder, name)


# ---- Processes ----------------------------------------------------------------


def _dies_with_us():
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(each) for each in file.read().split()]
    except OSError: # it has ended, or this kernel does not tell
        return []


class Child:
    """A process that runs beside the test. Its output is read line by line."""

    running = []

    def __init__(self, command, name, stdin=subprocess.DEVNULL):
        self.name = name
        self.lines = []
        self.fresh = queue.Queue()
        self.process = subprocess.Popen(
            _dies_with_us() + command, stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        self.pid = self.process.pid
        Child.running.append(self)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for raw in self.process.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            self.lines.append(line)
            self.fresh.put(line)
        self.fresh.put(None)

    def line(self, accept, seconds=20):
        """The next line that accept() answers something true for; what it answered."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self.fresh.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                raise Failure(f"{self.name}: waited {seconds} s for a line in vain\n"
                              + self.tail()) from None
            if line is None:
                self.fresh.put(None)
                raise Failure(f"{self.name} ended\n" + self.tail())
            found = accept(line)
            if found:
                return found

    def forget(self):
        """Lines that are here already are not given out any more."""
        with contextlib.suppress(queue.Empty):
            while self.fresh.get_nowait() is not None:
                pass
            self.fresh.put(None)

    def tail(self):
        return "\n".join(f"{self.name}: {line}" for line in self.lines[-12:])

    def signal(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, seconds=30):
        """Its exit status."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} did not end within {seconds} s\n" + self.tail()) from None
        self.reader.join(10)
        if self in Child.running:
            Child.running.remove(self)
        return status

    def stop(self, seconds=30):
        self.signal()
        return self.wait(seconds)

    def kill(self):
        """With what it started: a wrapper, such as strace, would leave that behind."""
        started = children_of(self.process.pid)
        self.process.kill()
        self.process.wait()
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self in Child.running:
            Child.running.remove(self)

    @staticmethod
    def end_all():
        for child in list(Child.running):
            child.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self in Child.running:
            self.kill()


LOG_END = re.compile(r"(TLSv1\.[23]) (\S+) lane=(\S+) reason=(\S+)$")


class Server(Child):
    """ringtls-serve on a port of its own choice."""

    def __init__(self, payloads, lane="auto", engine="auto", tls=None, ciphers=None,
                 address="127.0.0.1", options=(), wrapper=(), threads=1, cert=True):
        if lane == "prefer":  # auto, that takes the kernel lane where it can
            lane, options = "auto", ("--prefer-kernel", *options)
        command = list(wrapper) + [
            program("ringtls-serve"), "--root", payloads.root, "--address", address, "--port", "0",
            "--lane", lane, "--engine", engine, "--threads", str(threads)]
        for option, value in (("--tls", tls), ("--ciphers", ciphers)):
            command += [option, value] if value else []
        if cert:
            command += ["--cert", payloads.cert, "--key", payloads.key]
        super().__init__(command + list(options), "serve")
        self.address = address
        try:
            self.port = int(self.line(
                lambda line: re.match(r"listening on https://.*:(\d+)$", line)).group(1))
        except Failure:
            self.process.kill()
            self.wait()
            raise

    def served(self, path="", *, seconds=20):
        """The next request's line in the access log: (line, version, cipher, lane, reason).
        With a path, the next one for it: a line can be written after the client has all, so
        one of an earlier fetch may still come."""
        found = self.line(lambda line: f" {path} " in line and LOG_END.search(line) if path
                          else LOG_END.search(line), seconds)
        return (found.string,) + found.groups()

    def __exit__(self, kind, failure, trace):
        if isinstance(failure, Failure) and self.name not in str(failure):
            failure.args = (f"{failure}\n{self.tail()}",)
        super().__exit__(kind, failure, trace)

    def stats(self):
        """The engines' counters, after its end, where it was started with --stats."""
        return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in self.lines
                if " engine thread=" in line]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class WireTap(Child):
    """The wire tap (tap.c) in front of a port."""

    def __init__(self, port, *options, address="127.0.0.1"):
        host = f"[{address}]" if ":" in address else address
        markers = [word for marker in MARKERS for word in ("--marker", marker)]
        super().__init__([program("tap"), "--listen", address, "--connect", f"{host}:{port}"]
                         + markers + [str(option) for option in options], "tap")
        self.port = self.event("listening")["port"]

    def event(self, kind, seconds=20):
        def accept(line):
            event = json.loads(line) if line.startswith("{") else {}
            return event if event.get("event") == kind else None
        return self.line(accept, seconds)

    def connection(self, seconds=20):
        """The next connection that ended, as the wire saw it."""
        return self.event("connection", seconds)

    def end(self):
        """Stops it; its last word."""
        self.signal()
        event = self.event("end")
        event["status"] = self.wait()
        return event


def wire_fault(connection):
    """What is wrong with a connection, in a few words; None: nothing."""
    for side in ("server_to_client", "client_to_server"):
        for violation in connection[side]["violations"]:
            return f"wire: {side} {violation['what']} at byte {violation['offset']}: {connection}"
    return None


# ---- Payloads -----------------------------------------------------------------


class Payloads:
    """Files to serve, and a certificate. Each block of a file starts with the marker
    and its own number, so a piece that is missing, twice or out of place shows."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="e2e-", dir=HELPERS)
        self.root = os.path.join(self.folder, "root")
        self.cert = os.path.join(self.folder, "cert.pem")
        self.key = os.path.join(self.folder, "key.pem")
        self.hashes = {}
        os.mkdir(self.root)
        self.make_cert(self.cert, self.key)

    @staticmethod
    def make_cert(cert, key):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj",
             "/CN=localhost"], check=True, timeout=60, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

    def make(self, size):
        """The URL's path of a file of that size."""
        name = f"payload-{size}"
        if size not in self.hashes:
            digest = hashlib.sha256()
            with open(os.path.join(self.root, name), "wb") as file:
                for chunk in _chunks(size):
                    file.write(chunk)
                    digest.update(chunk)
            self.hashes[size] = digest.hexdigest()
        return "/" + name

    def file(self, size):
        return self.root + self.make(size)

    def drop(self, size):
        if self.hashes.pop(size, None):
            os.unlink(os.path.join(self.root, f"payload-{size}"))

    def check(self, size, result):
        """Raises unless result is that file."""
        if result.size != size:
            raise Failure(f"{result.size} bytes came instead of {size}" + result.notes())
        if result.sha256 != self.hashes[size]:
            raise Failure("the content differs" + self.difference(size, result))

    def difference(self, size, result):
        """Where a body that was kept first differs, and what is there instead."""
        if not result.kept:
            return ""
        body = b"".join(result.kept)
        with open(self.file(size), "rb") as file:
            right = file.read()
        at = next((i for i in range(0, size, BLOCK) if body[i:i + BLOCK] != right[i:i + BLOCK]), 0)
        at = next(i for i in range(at, size) if body[i] != right[i])
        return f" from byte {at} on: {body[at:at + 48]!r} instead of {right[at:at + 48]!r}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)


def _chunks(size):
    noise = random.Random(size).randbytes(MIB)
    head = MARKER.encode() + b" "
    filler = BLOCK - len(head) - 16
    number, left = 0, size
    while left > 0:
        blocks = []
        for number in range(number, number + min(2048, -(-left // BLOCK))):
            at = number * 487 % (MIB - filler)
            blocks.append(head + b"%016x" % number + noise[at:at + filler])
        number += 1
        chunk = b"".join(blocks)[:left]
        left -= len(chunk)
        yield chunk


# ---- Peers --------------------------------------------------------------------

# name: the suite in TLS 1.3 and 1.2 (with an ECDSA certificate), the numbers of
# both in the IANA registry, and what GnuTLS calls it.
CIPHERS = {
    "AES128-GCM": ("TLS_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", 0x1301, 0xc02b,
                   "+AES-128-GCM:+AEAD"),
    "AES256-GCM": ("TLS_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", 0x1302, 0xc02c,
                   "+AES-256-GCM:+AEAD"),
    "CHACHA20": ("TLS_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", 0x1303, 0xcca9,
                 "+CHACHA20-POLY1305:+AEAD"),
    "AES128-CCM": ("TLS_AES_128_CCM_SHA256", "ECDHE-ECDSA-AES128-CCM", 0x1304, 0xc0ac,
                   "+AES-128-CCM:+AEAD"),
    "AES128-CBC": (None, "ECDHE-ECDSA-AES128-SHA256", None, 0xc023, "+AES-128-CBC:+SHA256"),
}


def suite(cipher, tls):
    return CIPHERS[cipher][0 if tls == "1.3" else 1]


def suite_number(cipher, tls):
    return CIPHERS[cipher][2 if tls == "1.3" else 3]


class Result:
    """What a peer received."""

    KEEP = 4 * MIB  # bodies up to here are kept, to say where they differ

    def __init__(self):
        self.size = 0
        self.head = b""
        self.kept = []
        self.errors = ""
        self.digest = hashlib.sha256()
        self.json = None

    @property
    def sha256(self):
        return self.digest if isinstance(self.digest, str) else self.digest.hexdigest()

    @property
    def status(self):
        return int(self.head.split(None, 2)[1]) if self.head else 0

    def header(self, name):
        found = re.search(rb"(?im)^" + name.encode() + rb":[ \t]*(.*?)\r?$", self.head)
        return found.group(1).decode() if found else None

    def body(self):
        return b"".join(self.kept)

    def take(self, chunk):
        self.size += len(chunk)
        self.digest.update(chunk)
        if self.size <= self.KEEP:
            self.kept.append(bytes(chunk))
        else:
            self.kept = []

    def notes(self):
        return f": {self.errors.strip()}" if self.errors.strip() else ""


class Stream:
    """What a client prints, in pieces whose lengths are known: a head, a body."""

    def __init__(self, fd):
        self.fd = fd
        self.room = memoryview(bytearray(256 * 1024))
        self.rest = b""
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, 1031, MIB)  # F_SETPIPE_SZ: fewer, larger reads

    def some(self, most=None):
        """Up to that many bytes; none at the end."""
        if self.rest:
            chunk, self.rest = self.rest[:most], self.rest[most:] if most else b""
            return chunk
        return self.room[:os.readv(self.fd, [self.room[:most]])]

    def head(self, result):
        text = b""
        while b"\r\n\r\n" not in text:
            chunk = self.some()
            if not chunk:
                break
            text += chunk
        result.head, _, self.rest = text.partition(b"\r\n\r\n")

    def body(self, result, size=None):
        """All there is, or that many bytes."""
        while size is None or result.size < size:
            chunk = self.some(size - result.size if size else None)
            if not chunk:
                break
            result.take(chunk)


def run_peer(command, seconds, request=None, has_head=False):
    """Runs a client to its end: what it printed."""
    return run_client(command, seconds, request, has_head)[0]


def run_client(command, seconds, request=None, has_head=False, sizes=(None,)):
    """Runs a client to its end, and hashes what it prints on the way: a result for each
    of the sizes, None being all that comes. A request is written to it, and its input
    then stays open."""
    results = [Result() for _ in sizes]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stderr=errors, stdout=subprocess.PIPE,
                              stdin=subprocess.PIPE if request else subprocess.DEVNULL) as process:
            timer = threading.Timer(seconds, process.kill)
            timer.start()
            try:
                if request:
                    process.stdin.write(request)
                    process.stdin.flush()
                stream = Stream(process.stdout.fileno())
                for result, size in zip(results, sizes):
                    if has_head:
                        stream.head(result)
                    stream.body(result, size)
                stream.body(results[-1])  # what should not be there
                status = process.wait()
            finally:
                late = not timer.is_alive()
                timer.cancel()
                process.kill()
        errors.seek(0)
        for result in results:
            errors.seek(0)
            result.errors = errors.read().decode("utf-8", "replace")
    came = f"{sum(result.size for result in results)} bytes came" + results[0].notes()
    if late:
        raise Failure(f"{command[0]} did not end within {seconds} s, {came}")
    if status != 0:
        raise Failure(f"{command[0]} ended with {status}, {came}")
    return results


def host_of(address):
    return f"[{address}]" if ":" in address else address


def _curl(port, paths, tls, cipher, address, seconds, options):
    command = ["curl", "-q", "-sSk", "--http1.1", "--noproxy", "*", "--max-time", str(seconds),
               f"--tlsv{tls}", "--tls-max", tls]
    if cipher:
        command += ["--tls13-ciphers" if tls == "1.3" else "--ciphers", suite(cipher, tls)]
    return command + list(options) + [f"https://{host_of(address)}:{port}{path}"
                                      for path in paths]


def curl(port, path, tls, cipher, address="127.0.0.1", seconds=60, options=()):
    paths = [path] if isinstance(path, str) else path
    return run_peer(_curl(port, paths, tls, cipher, address, seconds, options), seconds + 5)


def curl_all(port, wanted, tls, cipher, address="127.0.0.1", seconds=60):
    """wanted: path and size of each file. One curl, as starting it is what takes the time;
    but every file on a connection of its own."""
    options = ("-H", "Connection: close", "--write-out", "%{stderr}connects=%{num_connects}\n")
    command = _curl(port, [path for path, _ in wanted], tls, cipher, address, seconds, options)
    results = run_client(command, seconds + 5, sizes=[size for _, size in wanted])
    connects = re.findall(r"connects=(\d+)", results[0].errors)
    if connects != ["1"] * len(wanted):
        raise Failure(f"connections for each file: {connects}")
    return results


def _request(path, address, last=True):
    return (f"GET {path} HTTP/1.1\r\nHost: {host_of(address)}\r\n"
            + ("Connection: close\r\n" if last else "") + "\r\n").encode()


def _requests(wanted, address):
    """All at once, to be answered one behind the other."""
    return b"".join(_request(path, address, i == len(wanted) - 1)
                    for i, (path, _) in enumerate(wanted))


def s_client(port, wanted, tls, cipher, address="127.0.0.1", seconds=60):
    """All files on one connection, as it makes no second one."""
    command = ["openssl", "s_client", "-quiet", "-ign_eof",
               "-connect", f"{host_of(address)}:{port}",
               "-tls1_3" if tls == "1.3" else "-tls1_2",
               "-ciphersuites" if tls == "1.3" else "-cipher", suite(cipher, tls)]
    results = run_client(command, seconds, _requests(wanted, address), has_head=True,
                         sizes=[size for _, size in wanted])
    if "unexpected eof" in results[0].errors:
        raise Failure("s_client saw no close_notify")
    return results


def gnutls(port, wanted, tls, cipher, address="127.0.0.1", seconds=60):
    """gnutls-cli writes byte by byte: for small files only."""
    versions = "+VERS-TLS1.3" if tls == "1.3" else "+VERS-TLS1.2"
    priority = f"NORMAL:-VERS-ALL:{versions}:-CIPHER-ALL:-MAC-ALL:{CIPHERS[cipher][4]}"
    command = ["gnutls-cli", "--insecure", "--logfile", "/dev/null", "--priority", priority,
               "--port", str(port), address]
    return run_client(command, seconds, _requests(wanted, address), has_head=True,
                      sizes=[size for _, size in wanted])


curl_all.__name__ = "curl"


def stock_clients():
    """Those that this machine has."""
    return (curl_all, s_client) + ((gnutls,) if shutil.which("gnutls-cli") else ())


def peer(port, paths, tls=None, cipher=None, address="127.0.0.1", seconds=60, options=(),
         status=0):
    """Our own client on OpenSSL (peer.c): its report."""
    command = [program("peer"), "--timeout", str(seconds)]
    command += ["--tls", tls] if tls else []
    command += ["--cipher", suite(cipher, tls)] if cipher else []
    command += [str(option) for option in options]
    command += [f"{host_of(address)}:{port}"] + ([paths] if isinstance(paths, str) else list(paths))
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=seconds + 5, check=False)
    except subprocess.TimeoutExpired:
        raise Failure(f"peer did not end within {seconds + 5} s") from None
    if not done.stdout:
        raise Failure(f"peer ended with {done.returncode}: {done.stderr.decode()}")
    report = json.loads(done.stdout)
    if done.returncode != status:
        raise Failure(f"peer ended with {done.returncode}: {report}")
    return report
