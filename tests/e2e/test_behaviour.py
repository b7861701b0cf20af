"""test_behaviour.py - peers that are slow, that vanish, that change keys, and a server
that is told to stop meanwhile. In the lanes that matter here: openssl and user where
the kernel has no TLS, kernel where it has.
"""
import hashlib
import os
import re
import signal
import socket
import ssl
import threading
import time

from e2e import (MIB, Failure, Payloads, Server, Skip, WireTap, curl, has, isolate, main,
                 narrow_network, peer, tls_stat, wire_fault)

SLOW_S = 6
PATIENCE_S = 60


def lanes():
    return ("kernel",) if has("ktls") else ("openssl", "user")


def places():
    """(lane, engine) by name."""
    engines = ("uring", "syscalls") if has("uring") else ("syscalls",)
    return [(lane, engine) for lane in lanes() for engine in engines]


class Background(threading.Thread):
    """A client beside the test: its result, or what it raised."""

    def __init__(self, function, *args, **options):
        super().__init__(daemon=True)
        self.call = lambda: function(*args, **options)
        self.value = self.error = None
        self.start()

    def run(self):
        try:
            self.value = self.call()
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def result(self, seconds=PATIENCE_S):
        self.join(seconds)
        if self.is_alive():
            raise Failure(f"a client did not end within {seconds} s")
        if self.error:
            raise self.error
        return self.value


def within(seconds, condition, text):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure(text())
        time.sleep(0.05)


def ends_well(server, *taps, told=False):
    """told: it was asked to end already, and a second time would mean at once."""
    status = server.wait() if told else server.stop()
    if status != 0:
        raise Failure(f"the server's status is {status}\n" + server.tail())
    for tap in taps:
        end = tap.end()
        if end["status"] != 0:
            raise Failure(f"the tap's last word: {end}")


# ---- A reader that takes 1 KiB a second ---------------------------------------


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmRSS:\s*(\d+)", file.read()).group(1)) * 1024


class SlowReader:
    """One server and one client that takes 1 KiB a second until it is told otherwise."""

    def __init__(self, payloads, size, lane, engine, tls):
        self.name = f"{lane} {engine} TLSv{tls}"
        self.payloads, self.size, self.tls = payloads, size, tls
        self.server = Server(payloads, lane, engine, tls=tls)
        self.tap = WireTap(self.server.port, "--slow", 1024, "--slow-after", 8192)
        peer(self.server.port, payloads.make(1))
        self.memory = resident(self.server.pid)

    def begin(self):
        self.client = Background(curl, self.tap.port, self.payloads.make(self.size), self.tls, None,
                                 seconds=PATIENCE_S)

    def has_logged(self):
        return any(f"payload-{self.size} " in line for line in self.server.lines)

    def while_slow(self, plan):
        with plan.check(f"{self.name}: beside a slow reader others are served"):
            report = peer(self.server.port, self.payloads.make(MIB))
            if report["responses"][0]["sha256"] != self.payloads.hashes[MIB]:
                raise Failure(report)

    def idles(self, plan, seconds, used):
        """After that many seconds in which it had nothing to do but wait."""
        used = cpu_seconds(self.server.pid) - used
        grown = resident(self.server.pid) - self.memory
        plan.ok(used < seconds / 4, f"{self.name}: waiting for a slow reader costs no time",
                f"{used} s of {seconds} s")
        plan.ok(grown < 8 * MIB, f"{self.name}: nor memory", f"{grown} bytes more")

    def after(self, plan):
        with plan.check(f"{self.name}: a reader of 1 KiB a second gets all, and close_notify"):
            if not self.client.is_alive() or self.has_logged():
                raise Failure("nothing was slow: the server could send it all at once")
            self.tap.signal(signal.SIGUSR1)
            self.payloads.check(self.size, self.client.result())
            fault = wire_fault(self.tap.connection())
            if fault:
                raise Failure(fault)
            ends_well(self.server, self.tap)


def slow_readers(plan, payloads):
    """All at the same time, as they mostly wait."""
    with narrow_network() as small:
        size = 2 * MIB if small else 32 * MIB
        payloads.make(MIB)
        readers = [SlowReader(payloads, size, lane, engine, tls)
                   for lane, engine in places() for tls in ("1.3", "1.2")]
        for reader in readers:
            reader.begin()
        begun = time.monotonic()
        time.sleep(1)
        for reader in readers:
            reader.while_slow(plan)
        used = [cpu_seconds(reader.server.pid) for reader in readers]
        time.sleep(2)
        for reader, before in zip(readers, used):
            reader.idles(plan, 2, before)
        time.sleep(max(0, begun + SLOW_S - time.monotonic()))
        for reader in readers:
            reader.after(plan)


# ---- A reader that is slow to the very end ------------------------------------


def client_context(tls=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if tls:
        version = ssl.TLSVersion.TLSv1_3 if tls == "1.3" else ssl.TLSVersion.TLSv1_2
        context.minimum_version = context.maximum_version = version
    return context


def fetch_here(context, port, path):
    """Without a process, as there are many: the body's hash. Raises on an end without
    close_notify, too."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as raw, \
            context.wrap_socket(raw, suppress_ragged_eofs=False) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
                     "Connection: close\r\n\r\n".encode())
        got = bytearray()
        while chunk := sock.recv(16384):
            got += chunk
    return hashlib.sha256(got.partition(b"\r\n\r\n")[2]).hexdigest()


def came_whole(client, sha256):
    try:
        return client.result() == sha256
    except OSError: # ssl.SSLError is one
        return False


def full_at_the_end(plan, payloads, lane, engine):
    """Lengths so close to each other that some leave the last record, or close_notify, in
    the kernel when the socket's buffer is full: the connection's end must not cut it off.
    The reader never makes much room at a time."""
    sizes = range(4100, 130000, 2000)
    for size in sizes:
        payloads.make(size)
    for tls in ("1.3", "1.2"):
        with narrow_network(both_ends=True) as narrow, \
                plan.check(f"{lane} {engine} TLSv{tls}: the socket is full at the end of the file"):
            if not narrow:
                raise Skip("the size of TCP's buffers is not ours to change")
            with Server(payloads, lane, engine, tls=tls) as server, \
                    WireTap(server.port, "--slow", 64000, "--slow-after", 3000) as tap:
                context = client_context(tls)
                clients = [Background(fetch_here, context, tap.port, payloads.make(size))
                           for size in sizes]
                cut = [size for size, client in zip(sizes, clients)
                       if not came_whole(client, payloads.hashes[size])]
                if cut:
                    raise Failure(f"cut off, or without close_notify: {cut}")
                for _ in sizes:
                    fault = wire_fault(tap.connection())
                    if fault:
                        raise Failure(fault)
                ends_well(server, tap)


# ---- A peer that resets -------------------------------------------------------


def reset(payloads, server, size, *manners):
    with WireTap(server.port, *manners) as tap:
        report = peer(tap.port, payloads.make(size), status=1)
        connection = tap.connection()
        if not connection["reset_by_tap"] or report["responses"][0]["complete"]:
            raise Failure(f"nothing was broken off: {connection} {report}")
        if tap.end()["status"] != 0:
            raise Failure(f"the tap saw a fault: {connection}")
    line = server.served()[0]
    sent = int(re.search(r'" 200 (\d+) ', line).group(1))
    if sent >= size:
        raise Failure(f"logged as complete: {line}")


def resets(plan, payloads, lane, engine):
    size = 32 * MIB
    name = f"{lane} {engine}"
    with Server(payloads, lane, engine) as server, WireTap(server.port) as tap:
        def fetch():
            result = curl(tap.port, payloads.make(MIB), "1.3", None)
            payloads.check(MIB, result)
            fault = wire_fault(tap.connection())
            if fault:
                raise Failure(fault)
            server.served()

        with plan.check(f"{name}: a fetch before the resets"):
            fetch()
            time.sleep(2) # the file is kept open for a second
        descriptors = server.descriptors()
        with plan.check(f"{name}: peers that reset in mid-write are survived, and logged"):
            for after in (1, 20000, 300001, MIB, 5 * MIB + 7):
                reset(payloads, server, size, "--reset-after", after + 4000)
        with plan.check(f"{name}: so are those that reset while the socket is full"):
            reset(payloads, server, size, "--stop-reading-after", 300000, "--resume-after", 700,
                  "--reset-after", 300001)
        with plan.check(f"{name}: the next fetch works"):
            fetch()
        with plan.check(f"{name}: no descriptor is left of them, no TLS socket either"):
            within(5, lambda: server.descriptors() == descriptors,
                   lambda: f"{server.descriptors()} descriptors instead of {descriptors}")
            within(5, lambda: not tls_stat().get("TlsCurrTxSw"), lambda: str(tls_stat()))
        with plan.check(f"{name}: the server ends in order after resets"):
            ends_well(server, tap)


def goes_on_at_once(plan, payloads, lane, engine):
    """A wait that is not handed to the kernel ends when the server looks for stalled clients,
    every 5 seconds. One fetch in three is enough: others may be slow as the machine is."""
    size = 16 * MIB

    def fetch(port, slowness):
        """The seconds it took."""
        start = time.monotonic()
        report = peer(port, payloads.make(size), "1.3", options=(
            "--slow", slowness, "--slow-for", 400))
        if report["responses"][0]["sha256"] != payloads.hashes[size]:
            raise Failure(report)
        return time.monotonic() - start

    with plan.check(f"{lane} {engine}: who reads again gets the rest at once"):
        with Server(payloads, lane, engine) as server:
            payloads.make(size)
            for slowness in (MIB, 3 * MIB, 5 * MIB + 7):
                if not any(fetch(server.port, slowness) < 4.5 for _ in range(3)):
                    raise Failure("three took longer than 4.5 s each")


# ---- SIGTERM ------------------------------------------------------------------


class IdleClient:
    """A kept-alive connection on which one file was fetched."""

    def __init__(self, port, path):
        raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.sock = client_context().wrap_socket(raw, suppress_ragged_eofs=False)
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        got = b""
        while not got.endswith(b"\r\n\r\nr"): # the file's one byte
            got += self.sock.recv(4096)

    def is_closed_properly(self):
        """Raises on an end without close_notify."""
        rest = self.sock.recv(100)
        self.sock.close()
        if rest:
            raise Failure(f"instead of an end came {rest!r}")


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return True
    return False


def stop_in_transfer(plan, payloads, lane, engine):
    size = 12 * MIB
    name = f"{lane} {engine}: SIGTERM during a transfer"
    with Server(payloads, lane, engine) as server, \
            WireTap(server.port, "--slow", 4 * MIB) as tap:
        payloads.make(size)
        idle = IdleClient(server.port, payloads.make(1))
        body = os.path.join(payloads.folder, "body")
        client = Background(peer, tap.port, payloads.make(size), "1.3", seconds=PATIENCE_S,
                            options=("--output", body))
        within(20, lambda: os.path.exists(body) and os.path.getsize(body) > 0,
               lambda: "the transfer does not begin")
        with plan.check(f"{name}: idle connections get close_notify"):
            if not client.is_alive():
                raise Failure("the transfer is over already")
            server.signal()
            idle.is_closed_properly()
        with plan.check(f"{name}: new connections are refused meanwhile"):
            within(5, lambda: refuses(server.port), lambda: "a connection was accepted")
            if not client.is_alive():
                raise Failure("the transfer ended too soon to tell")
        with plan.check(f"{name}: it is finished, with close_notify, then the status is 0"):
            report = client.result()
            response = report["responses"][0]
            if (response["bytes"], response["sha256"]) != (size, payloads.hashes[size]):
                raise Failure(report)
            fault = wire_fault(tap.connection())
            if fault:
                raise Failure(fault)
            ends_well(server, tap, told=True)
        os.unlink(body)


# ---- Key updates, half-closed connections -------------------------------------


def update(payloads, lane, engine, size, every, *options, status=0):
    """The peer's report of a transfer with key updates; the wire was in order."""
    with Server(payloads, lane, engine, tls="1.3") as server, WireTap(server.port) as tap:
        report = peer(tap.port, payloads.make(size), "1.3", status=status,
                      options=("--key-update-every", every) + options)
        fault = wire_fault(tap.connection())
        if fault:
            raise Failure(f"{fault} {report}")
        if status == 0 and report["responses"][0]["sha256"] != payloads.hashes[size]:
            raise Failure(report)
        if report["end"] != "close_notify":
            raise Failure(report)
        server.served()
        ends_well(server, tap)
    return report


def key_updates(plan, payloads, lane, engine):
    name = f"{lane} {engine}"
    size, every = 12 * MIB, MIB
    with plan.check(f"{name}: the peer's key updates"):
        update(payloads, lane, engine, size, every)
    if lane == "kernel" and not has("rekey"):
        with plan.check(f"{name}: the kernel cannot rekey: a requested update ends it in order"):
            report = update(payloads, lane, engine, size, every, "--key-update-request", status=1)
            if report["responses"][0]["complete"]:
                raise Failure(f"the request was not noticed: {report}")
    else:
        with plan.check(f"{name}: key updates in both directions"):
            report = update(payloads, lane, engine, size, every, "--key-update-request")
            if report["key_updates_received"] == 0:
                raise Failure(f"no answer: {report}")
    with plan.check(f"{name}: an update asked for too late: nothing follows close_notify"):
        update(payloads, lane, engine, 300000, 300000, "--key-update-request")


def half_closes(plan, payloads, lane, engine):
    size = 4 * MIB
    for options in (("--half-close",), ("--shut-wr",)):
        with plan.check(f"{lane} {engine}: a peer that ends its direction ({options[0]}) gets all"):
            with Server(payloads, lane, engine, tls="1.3") as server, \
                    WireTap(server.port) as tap:
                report = peer(tap.port, payloads.make(size), "1.3", options=options)
                if report["responses"][0]["sha256"] != payloads.hashes[size]:
                    raise Failure(report)
                fault = wire_fault(tap.connection())
                if fault:
                    raise Failure(fault)
                ends_well(server, tap)


def test(plan):
    isolate()
    if plan.lacks("ktls", "uring", "rekey"):
        return
    with Payloads() as payloads:
        with plan.check("slow readers: tested to the end"):
            slow_readers(plan, payloads)
        for lane, engine in places():
            for behaviour in (full_at_the_end, resets, goes_on_at_once, stop_in_transfer, key_updates, half_closes):
                with plan.check(f"{lane} {engine}: {behaviour.__name__}: tested to the end"):
                    behaviour(plan, payloads, lane, engine)


if __name__ == "__main__":
    main(test, 400)
