"""test_http.py - what an HTTPS server must do beyond sending a file, seen by curl: a
small set, once per lane. (Its parts have unit tests.)
"""
import contextlib
import hashlib
import os
import subprocess
import time

from e2e import (MIB, Failure, Payloads, Server, WireTap, curl, has, has_ipv6, host_of, isolate,
                 main, peer, program, run_peer, wire_fault)


def lanes():
    return ("kernel",) if has("ktls") else ("openssl", "user")


def expect(value, right, what):
    if value != right:
        raise Failure(f"{what}: {value!r} instead of {right!r}")


class Site:
    """A server behind the tap, and its files' content."""

    def __init__(self, payloads, lane):
        self.payloads = payloads
        self.server = Server(payloads, lane, "auto", threads=2)
        self.tap = WireTap(self.server.port)

    def get(self, path, *options, status=200):
        """What came, with its head."""
        result = curl(self.tap.port, path, "1.3", None,
                      options=("--path-as-is", "--dump-header", "-", *options))
        fault = wire_fault(self.tap.connection())
        if fault:
            raise Failure(fault)
        text = result.body()
        result.head, _, body = text.partition(b"\r\n\r\n")
        result.kept = [body]
        expect(result.status, status, "status")
        return result

    def content(self, size):
        with open(self.payloads.file(size), "rb") as file:
            return file.read()


def several_files(site):
    """curl reports how many connections it made for each."""
    sizes = (0, 1, 16385, MIB + 1)
    paths = [site.payloads.make(size) for size in sizes]
    result = curl(site.tap.port, paths, "1.3", None)
    expect(result.sha256, hashlib.sha256(b"".join(map(site.content, sizes))).hexdigest(), "hash")
    connection = site.tap.connection()
    if wire_fault(connection):
        raise Failure(wire_fault(connection))
    for path in paths:
        site.server.served(path)


def head(site):
    got = site.get(site.payloads.make(16385), "--head", "--output", os.devnull)
    expect(got.header("content-length"), "16385", "Content-Length")
    report = peer(site.tap.port, site.payloads.make(16385), options=("--method", "HEAD"))
    expect(report["surplus"], 0, "bytes behind the head")


def ranges(site):
    whole = site.content(MIB + 1)
    for asked, first, last in (("0-0", 0, 0), ("16383-16384", 16383, 16384),
                               ("1000000-", 1000000, MIB), ("-100", MIB - 99, MIB)):
        got = site.get(site.payloads.make(MIB + 1), "--range", asked, status=206)
        expect(got.header("content-range"), f"bytes {first}-{last}/{MIB + 1}", asked)
        expect(got.body(), whole[first:last + 1], f"the content of {asked}")
    site.get(site.payloads.make(16385), "--range", "16385-", status=416)


def conditions(site):
    path = site.payloads.make(16385)
    first = site.get(path)
    date, tag = first.header("last-modified"), first.header("etag")
    for header in (f"If-Modified-Since: {date}", f"If-None-Match: {tag}"):
        expect(site.get(path, "--header", header, status=304).body(), b"", header)
    got = site.get(path, "--header", 'If-None-Match: "another"')
    expect(got.body(), site.content(16385), "another tag")
    site.get(path, "--header", 'If-Match: "another"', status=412)


def stays_inside(site):
    """A file beside the root, and a link to it, are not served."""
    with open(os.path.join(site.payloads.folder, "outside"), "w") as file:
        file.write("outside")
    link = os.path.join(site.payloads.root, "link")
    with contextlib.suppress(FileExistsError):
        os.symlink("../outside", link)
    for path in ("/../outside", "/%2e%2e/outside", "/payload-1/../../outside", "//../outside",
                 "/link", "/..%2foutside"):
        result = curl(site.tap.port, path, "1.3", None, options=(
            "--path-as-is", "--write-out", "%{http_code}", "--output", os.devnull))
        site.tap.connection()
        status = int(result.body())
        if not 400 <= status < 500:
            raise Failure(f"{path}: {status}")


def errors(site):
    site.get("/nothing", status=404)
    site.get(site.payloads.make(1), "--request", "DELETE", status=405)


def replaced(site):
    """Kept open for a second at most."""
    path = os.path.join(site.payloads.root, "replaced")
    for content in (b"one", b"another", b"and a third"):
        with open(path + ".new", "wb") as file:
            file.write(content)
        os.rename(path + ".new", path)
        for _ in range(30):
            got = site.get("/replaced").body()
            if got == content:
                break
            time.sleep(0.1)
        expect(got, content, "what is served of a file that was replaced")


CHECKS = (
    ("several files on one connection", several_files),
    ("HEAD", head),
    ("ranges", ranges),
    ("conditional requests", conditions),
    ("a replaced file", replaced),
    ("no path leaves the root", stays_inside),
    ("errors are clear", errors),
)


# ---- Options ------------------------------------------------------------------


def certificate_on_the_spot(payloads):
    with Server(payloads, cert=False) as server:
        payloads.check(16385, curl(server.port, payloads.make(16385), "1.3", None))
        if not any("self-signed" in line for line in server.lines):
            raise Failure("nothing was said of the certificate\n" + server.tail())
        expect(server.stop(), 0, "status")


def own_certificate(payloads):
    """Verified: it is the one that was given."""
    with Server(payloads) as server:
        result = run_peer(["curl", "-q", "-sS", "--noproxy", "*", "--cacert", payloads.cert,
                           "--resolve", f"localhost:{server.port}:127.0.0.1",
                           f"https://localhost:{server.port}{payloads.make(1)}"], 30)
        payloads.check(1, result)
        expect(server.stop(), 0, "status")


def one_version(payloads):
    for only, other in (("1.2", "1.3"), ("1.3", "1.2")):
        with Server(payloads, tls=only) as server:
            payloads.check(1, curl(server.port, payloads.make(1), only, None))
            expect(server.served()[1], f"TLSv{only}", "version")
            report = peer(server.port, payloads.make(1), other, status=1)
            expect(report["responses"], [], f"TLS {other}")
            expect(server.stop(), 0, "status")


def all_addresses(payloads):
    """The line that says where it listens can be used as it is."""
    for address in ("127.0.0.1",) + (("::1",) if has_ipv6() else ()):
        with Server(payloads, address=address) as server:
            line = f"listening on https://{host_of(address)}:{server.port}"
            if line not in server.lines:
                raise Failure(f"not {line}\n" + server.tail())
            payloads.check(1, curl(server.port, payloads.make(1), "1.3", None, address=address))


def wrong_options(payloads):
    """Each ends at once, with a status and a word about it."""
    for options in (("--lane", "fast"), ("--engine", "steam"), ("--tls", "1.1"),
                    ("--ciphers", "NONE"), ("--cert", "/nothing", "--key", "/nothing"),
                    ("--root", "/nothing"), ("--address", "localhost.invalid"),
                    ("--port", "70000"), ("--max-connections", "0"), ("--max-headers", "-1"),
                    ("--user", "no-such-user"), ("--user", "root"), ("--sandbox", "yes"),
                    ("--idle-timeout", "1s"), ("--max-header-bytes", "1")):
        command = [program("ringtls-serve"), "--port", "0", "--root", payloads.root, *options]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=30, check=False)
        if done.returncode in (0, None) or done.returncode < 0 or not done.stderr:
            raise Failure(f"{options}: status {done.returncode}, {done.stderr}")


def kernel_lane_where_there_is_none(payloads):
    """A lane that was named never becomes another."""
    try:
        with Server(payloads, "kernel") as server:
            raise Failure("it serves\n" + server.tail())
    except Failure as failure:
        text = str(failure)
        if "serve ended" not in text or "kernel" not in text or "tls" not in text.lower():
            raise Failure("it does not say why: " + text) from None


OPTIONS = (
    ("a certificate is made on the spot", certificate_on_the_spot),
    ("a certificate that is given", own_certificate),
    ("--tls allows one version only", one_version),
    ("--address, and the line that names it", all_addresses),
    ("options that are wrong", wrong_options),
)


def test(plan):
    isolate()
    if plan.lacks("ktls", "uring"):
        return
    with Payloads() as payloads:
        for lane in lanes():
            with plan.check(f"{lane}: HTTP: tested to the end"):
                site = Site(payloads, lane)
                for name, function in CHECKS:
                    with plan.check(f"{lane}: {name}"):
                        site.server.forget()
                        site.tap.forget()
                        function(site)
                with plan.check(f"{lane}: server and tap end in order"):
                    expect((site.server.stop(), site.tap.end()["status"]), (0, 0), "status")
        for name, function in OPTIONS:
            with plan.check(f"ringtls-serve: {name}"):
                function(payloads)
        if not has("ktls"):
            with plan.check("ringtls-serve: --lane kernel does not start where it can't be had"):
                kernel_lane_where_there_is_none(payloads)


if __name__ == "__main__":
    main(test, 300)
