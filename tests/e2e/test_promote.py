"""test_promote.py - ringtls-serve --promote-after: what a connection sends beyond that is
sealed by the kernel, where there is one that can, and the log says so. Stock clients notice
nothing, and the tap sees nothing bare."""
from e2e import Failure, Payloads, curl_all, has, isolate, main, peer, stock_clients
from fetching import Case, Place, check_log, check_wire, fetch, offered

AFTER = 100000
BIG = 300000  # the guests of the lab are slow
CIPHERS = ("AES128-GCM", "AES256-GCM", "CHACHA20", "AES128-CCM")


class Promoted(Case):
    """A fetch behind which the lane is this one."""

    def __init__(self, engine, tls, cipher, client, is_promoted):
        super().__init__("auto", engine, tls, cipher, client)
        if has("ktls"):
            self.lane = "kernel" if is_promoted else "user"
            self.reasons = ("none" if is_promoted else "promotion",)


def one_file(plan, place, engine, tls, cipher, client, size):
    case = Promoted(engine, tls, cipher, client, size > AFTER)
    with plan.check(case.name(size)):
        results, served = fetch(place, case, [size], 120)
        place.payloads.check(size, results[0])
        check_log(case, served[0])


def kept_alive(plan, place, engine, tls):
    """Below, on the way, and from then on: on one connection."""
    sizes = (AFTER // 2, BIG, 16384)
    with plan.check(f"{engine} TLSv{tls}: {len(sizes)} files on one connection"):
        place.forget()
        report = peer(place.tap.port, [place.payloads.make(size) for size in sizes], tls,
                      "AES128-GCM")
        if report["end"] != "close_notify":
            raise Failure(f"the end: {report}")
        for size, response in zip(sizes, report["responses"]):
            if response["sha256"] != place.payloads.hashes[size]:
                raise Failure(f"{size} B: {response}")
        lines = [place.server.served(place.payloads.make(size)) for size in sizes]
        for line, promoted in zip(lines, (False, True, True)):
            check_log(Promoted(engine, tls, "AES128-GCM", peer, promoted), line)
        check_wire(Promoted(engine, tls, "AES128-GCM", peer, True), place.tap.connection())


def not_with_a_named_lane(payloads):
    try:
        Place(payloads, "user", "auto", options=("--promote-after", "1"))
    except Failure as failure:
        if "the lane must be auto" not in str(failure):
            raise
        return
    raise Failure("it started")


def engines():
    return ("uring", "syscalls") if has("uring") else ("syscalls",)


def one_version(plan, place, engine, tls):
    one_file(plan, place, engine, tls, "AES128-GCM", curl_all, 16385)
    one_file(plan, place, engine, tls, "AES128-GCM", curl_all, BIG)
    kept_alive(plan, place, engine, tls)
    if engine != engines()[0]:
        return
    for cipher in CIPHERS[1:]:
        if offered(tls, cipher):
            one_file(plan, place, engine, tls, cipher, curl_all, BIG)
    for client in stock_clients()[1:]:
        one_file(plan, place, engine, tls, "AES128-GCM", client, BIG)


def test(plan):
    isolate()
    if plan.lacks("ktls"):
        return
    with Payloads() as payloads:
        for engine in engines():
            with Place(payloads, "auto", engine, options=("--promote-after", str(AFTER))) as place:
                for tls in ("1.3", "1.2"):
                    one_version(plan, place, engine, tls)
                place.close(plan, f"{engine}")
        with plan.check("--promote-after with a named lane says that this can't be"):
            not_with_a_named_lane(payloads)


main(test)
