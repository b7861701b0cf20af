"""test_secrets.py - ringtls-serve keeps what it knows to itself.

Its log holds no secret of any connection, good or bad, in any spelling; the client's own
key log says what there is to look for. And it leaves no core file: that would hold the
server's private key, and the keys of all connections that live.
"""
import base64
import contextlib
import hashlib
import hmac
import os
import resource
import signal
import socket
import ssl
import struct
import sys

from e2e import MIB, Failure, Payloads, Server, Skip, has, isolate, main, peer, program

PATIENCE_S = 60


# ---- What must not show ---------------------------------------------------------


def expand_label(secret, label, length):
    """RFC 8446 7.1; up to one block of output."""
    label = b"tls13 " + label
    info = struct.pack(">HB", length, len(label)) + label + b"\0\x01"
    digest = hashlib.sha384 if len(secret) == 48 else hashlib.sha256
    return hmac.new(secret, info, digest).digest()[:length]


def secrets_of(keylog):
    """(name, bytes), with the keys and IVs of TLS 1.3 that follow from them."""
    with open(keylog) as file:
        lines = [line.split() for line in file if line.strip() and not line.startswith("#")]
    for label, _, text in lines:
        secret = bytes.fromhex(text)
        yield label, secret
        while len(secret) in (32, 48) and label != "CLIENT_RANDOM":
            for key in (16, 32):
                yield label + " key", expand_label(secret, b"key", key)
            yield label + " iv", expand_label(secret, b"iv", 12)
            if not label.endswith("TRAFFIC_SECRET_0"):
                break
            label += "+1"  # behind a KeyUpdate
            secret = expand_label(secret, b"traffic upd", len(secret))
            if label.endswith("+1+1+1"):
                break


def spellings(secret):
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield secret.hex(" ").encode()
    yield secret.hex(":").upper().encode()
    yield base64.b64encode(secret).rstrip(b"=")


def look(log, keylogs):
    """How many secrets there were to look for."""
    count = 0
    for keylog in keylogs:
        for name, secret in secrets_of(keylog):
            count += 1
            for spelling in spellings(secret):
                if spelling in log:
                    raise Failure(f"the log holds a {name}")
    return count


# ---- Connections, good and bad ---------------------------------------------------


def client(port, tls, keylog):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    version = ssl.TLSVersion.TLSv1_3 if tls == "1.3" else ssl.TLSVersion.TLSv1_2
    context.minimum_version = context.maximum_version = version
    context.keylog_filename = keylog
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), PATIENCE_S))


def get(sock, path):
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    if not sock.recv(65536).startswith(b"HTTP/1.1 "):
        raise Failure("no answer")


def good_and_missing(payloads, port, tls, keylog):
    with client(port, tls, keylog) as sock:
        get(sock, payloads.make(1))
        get(sock, "/there-is-none")


def left_by_a_reset(payloads, port, tls, keylog):
    with client(port, tls, keylog) as sock:
        get(sock, payloads.make(8 * MIB))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def broken_record(payloads, port, tls, keylog):
    """What follows the handshake does not authenticate."""
    with client(port, tls, keylog) as sock:
        get(sock, payloads.make(1))
        with socket.socket(fileno=os.dup(sock.fileno())) as raw:
            raw.settimeout(PATIENCE_S)
            raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
            with contextlib.suppress(ConnectionError):
                while raw.recv(65536):
                    pass


def bad_request(payloads, port, tls, keylog):
    with client(port, tls, keylog) as sock:
        sock.sendall(b"GET / HTTP/1.1\nHost: a\n\n")
        sock.recv(65536)


KINDS = (good_and_missing, left_by_a_reset, broken_record, bad_request)


def logs(plan, payloads, lane):
    name = f"{lane}: no secret is in the log"
    with plan.check(name), Server(payloads, lane, options=("--stats",)) as server:
        keylogs = []
        for tls in ("1.3", "1.2"):
            for kind in KINDS:
                keylogs.append(os.path.join(payloads.folder, f"{lane}-{tls}-{kind.__name__}"))
                kind(payloads, server.port, tls, keylogs[-1])
            if tls == "1.3" and (lane != "kernel" or has("rekey")):
                peer(server.port, payloads.make(MIB), tls, options=("--key-update-every", 200000,
                                                                   "--key-update-request"))
        server.stop()
        log = "\n".join(server.lines).encode("utf-8", "surrogateescape")
        count = look(log, keylogs)
        if log.count(b"lane=") < 4 or count < 40:
            raise Failure(f"{count} secrets, log:\n{log.decode(errors='replace')}")
        plan.note(f"{lane}: {count} secrets in {len(server.lines)} lines of log, none found")


# ---- Core files ------------------------------------------------------------------


def dies_of(command, folder):
    """Its status when it died of SIGSEGV."""
    ready, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            os.dup2(there, 1)
            os.execv(command[0], command)
        finally:
            os._exit(127)
    os.close(there)
    with os.fdopen(ready, "rb") as lines:
        line = lines.readline()
        os.kill(pid, signal.SIGSEGV)
        status = os.waitpid(pid, 0)[1]
    if not line:
        raise Failure(f"{command[0]} did not start")
    return status


def core(plan, payloads):
    with plan.check("no core file is left of ringtls-serve"):
        with open("/proc/sys/kernel/core_pattern") as file:
            if file.read() != "core\n":
                raise Skip("kernel.core_pattern is not \"core\"")
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
            status = dies_of([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], payloads.folder)
        except ValueError as error:
            raise Skip(error) from None
        if not os.WCOREDUMP(status):
            raise Skip("no program leaves a core file here")
        status = dies_of([program("ringtls-serve"), "--root", payloads.root, "--port", "0",
                          "--cert", payloads.cert, "--key", payloads.key], payloads.folder)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGSEGV:
            raise Failure(f"ringtls-serve ended with {status}, not by the signal")
        if os.WCOREDUMP(status):
            raise Failure("ringtls-serve left a core file")


def test(plan):
    isolate()
    with Payloads() as payloads:
        lanes = ("openssl", "user") + (("kernel",) if has("ktls") else ())
        for lane in lanes:
            logs(plan, payloads, lane)
        core(plan, payloads)


if __name__ == "__main__":
    sys.exit(main(test))
