"""fetching.py - one fetch from ringtls-serve, through the wire tap, and everything that
can be said about it from outside: the content, the lane and the reason in the access
log, the records on the wire, the kernel's own count of TLS sockets.
"""
from e2e import (CIPHERS, Failure, Server, WireTap, curl_all, has, openssl_version, peer, suite,
                 suite_number, tls_stat, wire_fault)


class Case:
    """One way to fetch: what is asked for, and what must come of it."""

    def __init__(self, asked, engine, tls, cipher, client, address="127.0.0.1"):
        self.asked, self.engine, self.tls, self.cipher = asked, engine, tls, cipher
        self.client, self.address = client, address
        self.lane, self.reasons = expected(asked, tls, cipher)

    def row(self):
        lane = self.asked if self.asked == self.lane else f"{self.asked} ({self.lane})"
        name = self.client.__name__ + (" over IPv6" if ":" in self.address else "")
        return (lane, self.engine, f"TLSv{self.tls}", self.cipher, name)

    def name(self, size):
        return f"{' '.join(self.row())}: {size} B"


def offered(tls, cipher):
    """OpenSSL hands the keys of this cipher over."""
    if cipher == "AES128-CCM" and tls == "1.3":
        return openssl_version() >= (3, 2)
    return cipher != "AES128-CBC"


def expected(asked, tls, cipher):
    """The lane, and the reasons of which the log has to name one."""
    if asked == "kernel":
        return "kernel", ("none",)
    if asked == "prefer" and has("ktls") and offered(tls, cipher):
        return "kernel", ("none",)
    if asked not in ("auto", "prefer"):
        return asked, ("asked",)
    if offered(tls, cipher):
        return "user", ("user-lane-cheaper" if has("ktls") else "no-tls-module",)
    return "openssl", ("cipher",) + (() if has("ktls") else ("no-tls-module",))


def all_suites():
    return ":".join(name for row in CIPHERS.values() for name in row[:2] if name)


class Place:
    """A server, the tap before it, and what they serve."""

    def __init__(self, payloads, lane, engine, address="127.0.0.1", **options):
        self.payloads = payloads
        self.server = Server(payloads, lane, engine, address=address, ciphers=all_suites(),
                             **options)
        self.tap = WireTap(self.server.port, address=address)
        if lane in ("auto", "prefer") and has("ktls"):
            # With its first connection it finds out what the kernel can do, by doing it
            # on sockets of its own; those are not to be counted. Its line in the log can be
            # later than the file, and must not be taken for that of the first fetch.
            peer(self.server.port, payloads.make(1), address=address)
            self.server.served()

    def forget(self):
        """Nothing that a fetch before left behind is taken for the next one's."""
        self.server.forget()
        self.tap.forget()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tap.__exit__()
        self.server.__exit__(None, None, None)

    def close(self, plan, name):
        """Both end in order; none of the tap's connections is left."""
        with plan.check(f"{name}: the server ends in order, the tap saw no fault"):
            status = self.server.stop()
            end = self.tap.end()
            if status != 0:
                raise Failure(f"the server's status is {status}\n" + self.server.tail())
            if end["status"] != 0 or end["open"] != 0:
                raise Failure(f"the tap's last word: {end}")
            left = {key: value for key, value in tls_stat().items()
                    if key.startswith("TlsCurr") and value}
            if left:
                raise Failure(f"TLS sockets are left: {left}")


def kernel_share(before, lane, connections=1):
    """The kernel counted these connections if, and only if, they are in the kernel lane."""
    risen = {key: value - before[key] for key, value in tls_stat().items()
             if value != before[key] and not key.startswith("TlsCurr")}
    right = {"TlsTxSw": connections} if lane == "kernel" else {}
    if risen != right:
        raise Failure(f"/proc/net/tls_stat rose by {risen}, not by {right}")


def check_log(case, served):
    line, version, cipher, lane, reason = served
    right = (f"TLSv{case.tls}", suite(case.cipher, case.tls), case.lane)
    if (version, cipher, lane) != right or reason not in case.reasons:
        raise Failure(f"{right}, reason {case.reasons} was expected: {line}")


def check_wire(case, connection):
    fault = wire_fault(connection)
    if fault:
        raise Failure(fault)
    wire = (connection["version"], connection["cipher"])
    if wire != (0x0304 if case.tls == "1.3" else 0x0303, suite_number(case.cipher, case.tls)):
        raise Failure(f"the wire says version {wire[0]:#x}, cipher {wire[1]:#x}")


def fetch(place, case, sizes, seconds):
    """All these files, by one client: what came of each. curl makes a connection for each,
    the others have one for all."""
    wanted = [(place.payloads.make(size), size) for size in sizes]
    connections = len(sizes) if case.client is curl_all else 1
    place.forget()
    before = tls_stat()
    results = case.client(place.tap.port, wanted, case.tls, case.cipher, address=case.address,
                          seconds=seconds)
    for _ in range(connections):
        check_wire(case, place.tap.connection())
    served = [place.server.served(path) for path, _ in wanted]
    kernel_share(before, case.lane, connections)
    return results, served


def fetch_all(plan, table, place, case, sizes, seconds=300):
    """A test for each size. What went wrong with the client as a whole went wrong with each."""
    if not sizes:
        return
    problem = None
    try:
        results, served = fetch(place, case, sizes, seconds)
    except Failure as failure:
        problem, results, served = failure, [None] * len(sizes), [None] * len(sizes)
    for size, result, line in zip(sizes, results, served):
        failed = plan.failed
        with plan.check(case.name(size)):
            if problem:
                raise problem
            place.payloads.check(size, result)
            check_log(case, line)
        table.enter(case, size, plan.failed == failed)
    if problem:
        plan.note(place.server.tail())


def fetch_on_one_connection(plan, table, place, case, sizes):
    """All of them in a row, by our own client: keep-alive, and close_notify as OpenSSL
    reports it."""
    failed = plan.failed
    with plan.check(f"{' '.join(case.row())}: {len(sizes)} files on one connection"):
        place.forget()
        before = tls_stat()
        report = peer(place.tap.port, [place.payloads.make(size) for size in sizes], case.tls,
                      case.cipher, address=case.address)
        for size, response in zip(sizes, report["responses"]):
            if (response["bytes"], response["sha256"]) != (size, place.payloads.hashes[size]):
                raise Failure(f"{size} B: {response}")
            check_log(case, place.server.served(place.payloads.make(size)))
        if report["end"] != "close_notify":
            raise Failure(f"the end: {report}")
        check_wire(case, place.tap.connection())
        kernel_share(before, case.lane)
    for size in sizes:
        table.enter(case, size, plan.failed == failed)
