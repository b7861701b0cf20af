"""peering.py - ringtls (talk.c) in both roles, and other TLS libraries as its peers.

A client of theirs puts a file to talk, which answers with another: twice, and the second
connection resumes the first. A server of theirs gets talk as its client, in the same way.
Between them is the wire tap.
"""
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading

from e2e import (MARKER, MUST, Child, Failure, Skip, WireTap, has, isolate, program, run_peer,
                 tls_stat)

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE_S = 60
CLIENT = "the-client"  # the name in its certificate


# ---- What they need -----------------------------------------------------------


def _certificate(folder, name, subject, issuer=None, extra=()):
    cert, key = os.path.join(folder, name + ".pem"), os.path.join(folder, name + ".key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-days", "2", "-keyout", key, "-out", cert, "-subj", "/CN=" + subject]
    if issuer:
        command += ["-CA", issuer[0], "-CAkey", issuer[1],
                    "-addext", "basicConstraints=critical,CA:false"]
    subprocess.run(command + list(extra), check=True, timeout=60, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return cert, key


class Text:
    """A file of short lines, each with the marker: gnutls-serv sends back lines only."""

    def __init__(self, path, size):
        self.path = path
        line = MARKER + " %016x " + os.path.basename(path) + "\n"
        self.bytes = "".join(line % i for i in range(size // len(line % 0) + 1)).encode()
        self.size = len(self.bytes)
        self.sha256 = hashlib.sha256(self.bytes).hexdigest()
        with open(path, "wb") as file:
            file.write(self.bytes)

    def check(self, got, who):
        if got != self.bytes:
            at = next((i for i, (a, b) in enumerate(zip(got, self.bytes)) if a != b),
                      min(len(got), self.size))
            raise Failure(f"{who} got {len(got)} bytes of {self.size}, different from byte {at} "
                          f"on: {got[at:at + 40]!r}")


class Kit:
    """Certificates, and what is said and answered. Small texts are for those that write
    byte by byte."""

    def __init__(self, size):
        self.folder = tempfile.mkdtemp(prefix="ringtls-peers-")
        self.authority = _certificate(self.folder, "ca", "the-authority")
        self.ca = self.authority[0]
        self.server = _certificate(self.folder, "server", "localhost", self.authority,
                                   ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"))
        self.client = _certificate(self.folder, "client", CLIENT, self.authority)
        self.stranger = _certificate(self.folder, "stranger", "the-stranger")
        self.up = Text(self.path("up"), size)
        self.down = Text(self.path("down"), size + 12345)
        self.small = Text(self.path("small"), min(20000, size // 10))

    def path(self, name):
        return os.path.join(self.folder, name)

    def put(self, text, path="/"):
        """A file with the whole request."""
        name = self.path(f"put-{os.path.basename(text.path)}{path.replace('/', '-')}")
        if not os.path.exists(name):
            with open(name, "wb") as file:
                file.write(put_head(text.size, path) + text.bytes)
        return name

    def get(self, path):
        name = self.path("get" + path.replace("/", "-"))
        with open(name, "wb") as file:
            file.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
                       "Connection: close\r\n\r\n".encode())
        return name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)


def put_head(size, path="/"):
    return (f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
            "Connection: close\r\n\r\n").encode()


def body_of(answer):
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        raise Failure(f"no answer, but {answer[:100]!r}")
    return head, body


def read_file(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


# ---- ringtls ------------------------------------------------------------------


class Talk(Child):
    """One of ours, in the role that its options say."""

    def __init__(self, kit, lane, engine, options, address="127.0.0.1:0"):
        command = [program("talk"), "--lane", lane, "--engine", engine, "--ca", kit.ca]
        super().__init__(command + [str(option) for option in options] + [address], "talk")

    def event(self, kind, seconds=PATIENCE_S):
        def accept(line):
            event = json.loads(line) if line.startswith("{") else {}
            return event if event.get("event") == kind else None
        return self.line(accept, seconds)

    def connection(self, seconds=PATIENCE_S):
        return self.event("connection", seconds)


class TalkServer(Talk):
    """Behind the tap: its clients use .port."""

    def __init__(self, kit, lane, engine, tls, *options):
        super().__init__(kit, lane, engine, ("--serve", "--tls", tls, "--cert", kit.server[0],
                                             "--key", kit.server[1]) + options)
        self.tap = WireTap(self.event("listening")["port"])
        self.port = self.tap.port

    def __exit__(self, kind, failure, trace):
        if isinstance(failure, Failure):
            failure.args = (f"{failure}\n{self.tail()}",)
        self.tap.__exit__()
        super().__exit__()


def talk_client(kit, lane, engine, port, *options, status=0):
    """Its report, when it has ended."""
    with Talk(kit, lane, engine, options, f"127.0.0.1:{port}") as talk:
        report = talk.connection()
        ended = talk.wait()
    if ended != status:
        raise Failure(f"talk ended with {ended}: {report}")
    return report


def lane_reasons(lane):
    if lane == "openssl":
        return ("asked", "no-tls-module", "renegotiation")
    return ("none",) if lane == "kernel" else ("asked",)


def check_report(report, lane, tls, **right):
    """What talk says of a connection; right: other fields, with their values."""
    right.update(lane=lane, version="TLSv" + tls, conn_error="")
    wrong = {name: report[name] for name, value in right.items() if report[name] != value}
    if wrong or report["reason"] not in lane_reasons(lane):
        raise Failure(f"not as expected: {wrong or report['reason']} in {report}")


def check_wire(connection, ours, tls):
    """The tap holds that a server must close properly; a foreign one may do as it likes,
    and ours must, as a client too."""
    mine, other = (("client_to_server", "server_to_client") if ours == "client" else
                   ("server_to_client", "client_to_server"))
    faults = [fault["what"] for fault in connection[mine]["violations"]]
    faults += [fault["what"] for fault in connection[other]["violations"]
               if fault["what"] not in ("no-close-notify", "reset", "partial-record")]
    if not connection[mine]["close_notify"]:
        faults.append("our own close_notify is missing")
    if connection["version"] != (0x0304 if tls == "1.3" else 0x0303):
        faults.append("another version")
    if faults:
        raise Failure(f"on the wire: {faults} in {connection}")


def kernel_sealed():
    """Connections so far, by the kernel's own count, if there is one."""
    return tls_stat().get("TlsTxSw", 0)


def sealed_to_ask():
    """How many of them talk makes to see what this machine can do, before it connects:
    here to nobody."""
    if sealed_to_ask.count is None:
        before = kernel_sealed()
        nobody = f"127.0.0.1:{free_port()}"
        subprocess.run([program("talk"), "--lane", "kernel", nobody], timeout=PATIENCE_S,
                       stderr=subprocess.DEVNULL, check=False)
        sealed_to_ask.count = kernel_sealed() - before
    return sealed_to_ask.count


sealed_to_ask.count = None


@contextlib.contextmanager
def sealed_by_the_kernel(count, new_process=False):
    """So many connections more."""
    count += sealed_to_ask() if new_process else 0
    before = kernel_sealed()
    yield
    risen = kernel_sealed() - before
    if risen != count:
        raise Failure(f"TlsTxSw in /proc/net/tls_stat rose by {risen}, not by {count}")


# ---- Their clients ------------------------------------------------------------


def need(command):
    """Skips where it is missing; fails where it must be here."""
    if not shutil.which(command):
        raise (Failure if command in MUST else Skip)(f"no {command} here")


class Curl:
    name = "curl"
    first_is_empty = False
    leaves_rudely = False

    def __init__(self, kit):
        need("curl")
        self.kit = kit

    def text(self):
        return self.kit.up

    def run(self, port, tls, cert):
        """Two connections, one after the other, the second resumes the first. What came
        on those that carried a request."""
        out = [self.kit.path(f"curl-out-{i}") for i in (0, 1)]
        command = ["curl", "-q", "-sS", "--http1.1", "--noproxy", "*", "--cacert", self.kit.ca,
                   "--max-time", str(PATIENCE_S), f"--tlsv{tls}", "--tls-max", tls,
                   "-H", "Expect:", "-H", "Connection: close"]
        command += ["--cert", cert[0], "--key", cert[1]] if cert else []
        for path in out:
            command += ["-T", self.kit.up.path, "-o", path, f"https://127.0.0.1:{port}/up"]
        run_peer(command, PATIENCE_S)
        return [read_file(path) for path in out]


class SClient:
    name = "openssl s_client"
    first_is_empty = False
    leaves_rudely = False

    def __init__(self, kit):
        need("openssl")
        self.kit = kit

    def text(self):
        return self.kit.up

    def command(self, port, tls, cert, letters=False):
        """Without letters, as else it takes what it reads for one of its commands, if it
        begins with the letter of one; in OpenSSL 3.2 and later with -quiet, too."""
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", self.kit.ca,
                   "-verify_return_error", "-servername", "localhost",
                   "-tls1_3" if tls == "1.3" else "-tls1_2"]
        command += [] if letters else ["-nocommands"]
        return command + (["-cert", cert[0], "-key", cert[1]] if cert else [])

    def run(self, port, tls, cert):
        session = self.kit.path("s_client-session")
        request = put_head(self.kit.up.size) + self.kit.up.bytes
        came = []
        for option in ("-sess_out", "-sess_in"):
            result = run_peer(self.command(port, tls, cert) + ["-quiet", option, session],
                              PATIENCE_S, request, has_head=True)
            came.append(result.body())
        return came


class GnutlsCli:
    """With --resume it makes a connection only to have a session, and leaves it at once: in
    TLS 1.3, where tickets come behind the handshake, it must be told to wait for one.
    It ends without a close_notify of its own, and writes what comes byte by byte."""
    name = "gnutls-cli"
    first_is_empty = True
    leaves_rudely = True

    def __init__(self, kit):
        need("gnutls-cli")
        self.kit = kit

    def text(self):
        return self.kit.small

    def command(self, port, tls, cert):
        command = ["gnutls-cli", "--x509cafile", self.kit.ca, "--logfile", self.kit.path("gnutls"),
                   "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{tls}", "--port", str(port)]
        command += ["--x509certfile", cert[0], "--x509keyfile", cert[1]] if cert else []
        # By its address: a minimal system need not know any name.
        return command + ["--sni-hostname", "localhost", "--verify-hostname", "localhost",
                          "127.0.0.1"]

    def run(self, port, tls, cert):
        request = put_head(self.kit.small.size) + self.kit.small.bytes
        result = run_peer(self.command(port, tls, cert) + ["--resume", "--waitresumption"],
                          PATIENCE_S, request, has_head=True)
        return [result.body()]


def node_options(kit, tls, cert, **more):
    options = dict(tls=tls, ca=kit.ca, **more)
    if cert:
        options.update(cert=cert[0], key=cert[1])
    return ["node", os.path.join(HERE, "node_peer.js"), json.dumps(options)]


class NodeClient:
    name = "node"
    first_is_empty = False
    leaves_rudely = False

    def __init__(self, kit):
        need("node")
        self.kit = kit

    def text(self):
        return self.kit.up

    def run(self, port, tls, cert):
        out = self.kit.path("node-out-")
        result = run_peer(node_options(self.kit, tls, cert, role="client", port=port, out=out,
                                       up=self.kit.up.path, connections=2), PATIENCE_S)
        reused = [json.loads(line)["reused"] for line in result.body().splitlines()]
        if reused != [False, True]:
            raise Failure(f"node says of its sessions: {reused}")
        return [read_file(out + str(i)) for i in (0, 1)]


def python_context(kit, tls, cert, server=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(kit.ca)
    version = ssl.TLSVersion.TLSv1_3 if tls == "1.3" else ssl.TLSVersion.TLSv1_2
    context.minimum_version = context.maximum_version = version
    if cert:
        context.load_cert_chain(*cert)
    return context


def read_to_end(sock):
    return b"".join(iter(lambda: sock.recv(65536), b""))


class PythonClient:
    name = "python"
    first_is_empty = False
    leaves_rudely = False

    def __init__(self, kit):
        self.kit = kit

    def text(self):
        return self.kit.up

    def run(self, port, tls, cert):
        context = python_context(self.kit, tls, cert)
        session, came = None, []
        for number in (0, 1):
            raw = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
            with context.wrap_socket(raw, server_hostname="localhost", session=session,
                                     suppress_ragged_eofs=False) as sock:
                sock.sendall(put_head(self.kit.up.size) + self.kit.up.bytes)
                came.append(body_of(read_to_end(sock))[1])
                if sock.session_reused != bool(number):
                    raise Failure(f"python: session_reused is {sock.session_reused}")
                session = sock.session
                sock.unwrap().close()
        return came


class NginxProxy:
    """As a proxy, with talk behind it."""
    name = "nginx"
    first_is_empty = False
    leaves_rudely = True

    def __init__(self, kit):
        need("nginx")
        self.kit = kit

    def text(self):
        return self.kit.up

    def run(self, port, tls, cert):
        here = free_port()
        settings = (f"proxy_ssl_protocols TLSv{tls}; proxy_ssl_verify on; "
                    f"proxy_ssl_trusted_certificate {self.kit.ca}; proxy_ssl_name localhost; "
                    f"proxy_read_timeout {PATIENCE_S}s; client_max_body_size 0;")
        if cert:
            settings += f"proxy_ssl_certificate {cert[0]}; proxy_ssl_certificate_key {cert[1]};"
        server = (f"server {{ listen 127.0.0.1:{here}; {settings} "
                  f"location / {{ proxy_pass https://127.0.0.1:{port}; }} }}")
        with Nginx(self.kit, server, here):
            return [self.put(here) for _ in (0, 1)]

    def put(self, port):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        client.request("PUT", "/up", self.kit.up.bytes)
        answer = client.getresponse()
        body = answer.read()
        client.close()
        if answer.status != 200:
            raise Failure(f"nginx answers {answer.status}")
        return body


CLIENTS = (Curl, SClient, GnutlsCli, NodeClient, PythonClient, NginxProxy)


# ---- Their servers ------------------------------------------------------------


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def listens(port):
    """As the kernel sees it: asking by a connection would be one more for the server."""
    end = f":{port:04X}"
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}") as file:
            if any(fields[1].endswith(end) and fields[3] == "0A"
                   for fields in map(str.split, file)):
                return True
    return False


class Nginx(Child):
    """In the foreground, as one process; ready when its port answers."""

    def __init__(self, kit, server, port):
        folder = tempfile.mkdtemp(prefix="nginx-", dir=kit.folder)
        os.chmod(kit.folder, 0o755)
        paths = "".join(f"{name}_temp_path {folder}/{name};" for name in (
            "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        conf = os.path.join(folder, "conf")
        with open(conf, "w") as file:
            file.write(f"daemon off; master_process off; pid {folder}/pid; "
                       f"error_log stderr warn; events {{ worker_connections 64; }}\n"
                       f"http {{ access_log off; {paths}\n{server}\n}}\n")
        super().__init__(["nginx", "-e", "stderr", "-p", folder, "-c", conf], "nginx")
        self.port = port
        wait_until(lambda: listens(port), self)


def wait_until(condition, child):
    """A server that does not say when it listens."""
    pause = threading.Event()
    for _ in range(PATIENCE_S * 20):
        if condition():
            return
        if child.process.poll() is not None:
            break
        pause.wait(0.05)
    raise Failure(f"{child.name} does not listen\n{child.tail()}")


class HttpPeer:
    """A server that answers PUT with kit.down, and tells what it was sent."""
    closes_properly = True

    def options(self, _number):
        return ("--send", self.kit.put(self.kit.up))

    def check(self, _number, output, heard):
        self.kit.down.check(body_of(output)[1], "talk")
        if heard["sha256"] != self.kit.up.sha256:
            raise Failure(f"the server was sent something else: {heard}")


class NodeServer(HttpPeer, Child):
    name = "node"

    def __init__(self, kit, tls, demand, tickets):
        need("node")
        self.kit, self.demand = kit, demand
        Child.__init__(self, node_options(kit, tls, kit.server, role="server", demand=demand,
                                          tickets=tickets, down=kit.down.path), "node")
        self.port = self.event("listening")["port"]

    def event(self, kind):
        def accept(line):
            event = json.loads(line) if line.startswith("{") else {}
            return event if event.get("event") == kind else None
        return self.line(accept, PATIENCE_S)

    def check(self, number, output, heard=None):
        heard = self.event("connection")
        super().check(number, output, heard)
        if (heard["subject"], heard["reused"]) != (CLIENT if self.demand else "", number == 1):
            raise Failure(f"node says: {heard}")


class PythonServer(HttpPeer):
    """In a thread of this process."""
    name = "python"

    def __init__(self, kit, tls, demand, tickets):
        self.kit, self.demand, self.connections = kit, demand, []
        self.context = python_context(kit, tls, kit.server, server=True)
        if demand:
            self.context.verify_mode = ssl.CERT_REQUIRED
        if not tickets:
            self.context.options |= ssl.OP_NO_TICKET
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self.listener.accept()
                raw.settimeout(PATIENCE_S)
                with contextlib.suppress(ssl.SSLError), \
                        self.context.wrap_socket(raw, server_side=True) as sock:
                    self.answer(sock)

    def read_request(self, sock):
        got, last = b"", self.kit.up.bytes.splitlines(keepends=True)[-1]
        while not got.endswith(last):
            more = sock.recv(65536)
            if not more:
                break
            got += more
        return got

    def answer(self, sock):
        got = self.read_request(sock)
        subject = (sock.getpeercert() or {}).get("subject", ())
        self.connections.append({
            "sha256": hashlib.sha256(body_of(got)[1]).hexdigest(), "reused": sock.session_reused,
            "subject": dict(pair for part in subject for pair in part).get("commonName", "")})
        sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {self.kit.down.size}\r\n\r\n".encode()
                     + self.kit.down.bytes)
        sock.unwrap().close()

    def check(self, number, output, heard=None):
        heard = self.connections[number]
        super().check(number, output, heard)
        if (heard["subject"], heard["reused"]) != (CLIENT if self.demand else "", number == 1):
            raise Failure(f"python says: {heard}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(PATIENCE_S)


class NginxServer(Nginx):
    """First a file is put, then it is fetched."""
    name = "nginx"
    closes_properly = True

    def __init__(self, kit, tls, demand, tickets):
        need("nginx")
        self.kit = kit
        self.root = tempfile.mkdtemp(prefix="root-", dir=kit.folder)
        os.chmod(self.root, 0o777)
        port = free_port()
        settings = (f"ssl_protocols TLSv{tls}; ssl_certificate {kit.server[0]}; "
                    f"ssl_certificate_key {kit.server[1]}; ssl_session_cache shared:S:1m; "
                    f"ssl_session_tickets {'on' if tickets else 'off'}; root {self.root}; "
                    "dav_methods PUT; client_max_body_size 0;")
        if demand:
            settings += f"ssl_verify_client on; ssl_client_certificate {kit.ca};"
        super().__init__(kit, f"server {{ listen 127.0.0.1:{port} ssl; {settings} }}", port)

    def options(self, number):
        if number == 0:
            return ("--send", self.kit.put(self.kit.up, "/file"))
        return ("--send", self.kit.get("/file"))

    def check(self, number, output):
        head, body = body_of(output)
        right = b" 201 " if number == 0 else b" 200 "
        if right not in head.splitlines()[0]:
            raise Failure(f"nginx answers {head[:200]!r}")
        self.kit.up.check(read_file(os.path.join(self.root, "file")) if number == 0 else body,
                          "nginx" if number == 0 else "talk")


class SServer(Child):
    """Both sides talk at the same time: its input goes to whoever is connected, and its
    output is what it was sent."""
    name = "openssl s_server"
    closes_properly = True

    def __init__(self, kit, tls, demand, tickets, *options):
        need("openssl")
        self.kit = kit
        self.port = free_port()
        command = ["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-quiet",
                   "-cert", kit.server[0], "-key", kit.server[1], "-CAfile", kit.ca,
                   "-tls1_3" if tls == "1.3" else "-tls1_2"]
        command += ["-Verify", "1", "-verify_return_error"] if demand else []
        command += [] if tickets else ["-no_ticket"]
        super().__init__(command + list(options), "s_server", stdin=subprocess.PIPE)
        wait_until(lambda: listens(self.port), self)

    def say(self, data):
        """Beside the test, as a pipe does not hold much."""
        def write():
            with contextlib.suppress(OSError):
                self.process.stdin.write(data)
                self.process.stdin.flush()
        threading.Thread(target=write, daemon=True).start()

    def options(self, _number):
        self.say(self.kit.down.bytes)
        return ("--send", self.kit.up.path, "--receive", self.kit.down.size)

    def check(self, _number, output):
        self.kit.down.check(output, "talk")
        last = self.kit.up.bytes.splitlines()[-1].decode()
        self.line(lambda line: line == last, PATIENCE_S)
        got = "".join(line + "\n" for line in self.lines if line.startswith(MARKER[:9]))
        self.lines.clear()
        self.kit.up.check(got.encode(), "s_server")


class GnutlsServ(Child):
    """Sends back what it is sent. It listens on every address of this machine, which must
    be ours alone."""
    name = "gnutls-serv"
    closes_properly = True

    def __init__(self, kit, tls, demand, tickets, *options):
        need("gnutls-serv")
        if not (isolate.done or has("ktls")):
            raise Skip("gnutls-serv would listen on every address, not only on loopback")
        self.kit = kit
        self.port = free_port()
        command = ["gnutls-serv", "--echo", "--port", str(self.port), "--x509certfile",
                   kit.server[0], "--x509keyfile", kit.server[1], "--x509cafile", kit.ca,
                   "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{tls}"]
        command += ["--require-client-cert", "--verify-client-cert"] if demand else [
            "--disable-client-cert"]
        command += [] if tickets else ["--noticket"]
        super().__init__(command + list(options), "gnutls-serv")
        wait_until(lambda: listens(self.port), self)

    def options(self, _number):
        return ("--send", self.kit.small.path, "--receive", self.kit.small.size)

    def check(self, _number, output):
        self.kit.small.check(output, "talk")


SERVERS = (SServer, GnutlsServ, NodeServer, PythonServer, NginxServer)
