"""soaking.py - real load over a bad network: see network.py for the network.

In the far namespace are ringtls-serve (files) and talk (writes, and key updates of its own
accord), in every lane and on both engines; in the near one peer, a client on OpenSSL alone,
many at a time: some slow, some with small windows, some that renew keys and ask for ours,
some that leave by a reset. Each byte that came is compared, of what was cut off as well.
Meanwhile the weather changes, and the link goes down and up. In the end the weather is
fair: then everything must come to its end.
"""
import hashlib
import json
import os
import random
import subprocess
import threading
import time

from e2e import Child, Failure, Server, has, program
from network import FAR, WEATHERS, bad_network

SILENCE_S = 60  # no byte for so long, in whatever weather: stuck
AFTERWARDS_S = 180   # what is under way may take so long when the weather is fair
SIZES = (1, 1000, 16385, 100_000, 1_000_000, 3_000_000)
SIZES_SLOW = (1, 1000, 16385, 100_000, 400_000)
TALK_UPDATES = 150_000


class Counts:
    def __init__(self):
        self.lock = threading.Lock()
        self.connections = self.bytes = self.completed = self.cut = 0
        self.updates = self.answers = self.downs = 0
        self.stuck, self.wrong, self.broken, self.refused = [], [], [], []

    def add(self, **values):
        with self.lock:
            for name, value in values.items():
                if isinstance(value, str):
                    getattr(self, name).append(value)
                else:
                    setattr(self, name, getattr(self, name) + value)

    def is_good(self):
        return self.completed > 0 and not self.stuck + self.wrong + self.broken

    def text(self, seconds):
        return (f"{seconds:.0f} s, {self.connections} connections, {self.bytes} bytes, "
                f"{self.completed} transfers completed, {self.cut} cut by resets, "
                f"{len(self.refused)} without a connection, {len(self.stuck)} stuck, "
                f"{len(self.wrong)} with wrong bytes, {len(self.broken)} broken, "
                f"{self.updates} key updates sent and {self.answers} received, "
                f"link down {self.downs} times")


class Content:
    """A file, and the hash of any beginning of it."""

    def __init__(self, payloads, size):
        self.path, self.size = payloads.make(size), size
        with open(payloads.file(size), "rb") as file:
            self.bytes = file.read()

    def is_right(self, size, sha256):
        return size <= self.size and hashlib.sha256(self.bytes[:size]).hexdigest() == sha256


class FileServer:
    """ringtls-serve: each of its clients gets a file or several."""

    def __init__(self, network, payloads, contents, lane, engine):
        self.name, self.lane = f"serve {lane} {engine}", lane
        self.contents = contents
        self.server = Server(payloads, lane, engine, address=FAR, threads=2,
                             wrapper=network.into_far())
        self.port, self.lock = self.server.port, None

    def options(self, rng):
        tls = rng.choice(("1.2", "1.3"))
        options = ["--tls", tls]
        if tls == "1.3" and rng.random() < 0.3 and may_rekey(self.lane):
            options += ["--key-update-every", "100000", "--key-update-request"]
        wanted = [rng.choice(self.contents) for _ in range(rng.choice((1, 1, 1, 3)))]
        return options, wanted


# Its patience is shorter than that of the client who waits for its turn: a reset that the
# network loses leaves a connection of which nobody knows that it is over.
class Talker:
    """talk: it writes, renews its own keys, and serves one after the other."""

    def __init__(self, network, payloads, contents, lane, engine):
        self.name, self.lane = f"talk {lane} {engine}", lane
        self.content = contents[-1]
        updates = ["--key-update-every", str(TALK_UPDATES)] if may_rekey(lane) else []
        self.server = Child(network.into_far() + [
            program("talk"), "--serve", "--lane", lane, "--engine", engine, "--tls", "1.3",
            "--cert", payloads.cert, "--key", payloads.key, "--timeout", str(SILENCE_S * 2 // 3),
            "--send", payloads.file(self.content.size), "--receive", "0", *updates,
            f"{FAR}:0"], "talk")
        self.port = self.server.line(
            lambda line: json.loads(line)["port"] if line.startswith("{") else None)
        self.lock = threading.Lock()  # one at a time, or they would wait for each other

    def options(self, rng):
        del rng
        return ["--raw", "--tls", "1.3"], [self.content]


def may_rekey(lane):
    return lane != "kernel" or has("rekey")


# ---- One connection ---------------------------------------------------------------


def manners(rng, sizes):
    """How the client behaves, and whether it leaves early."""
    options = []
    if rng.random() < 0.3:
        # Less than two segments, and TCP sends by its probe timer only.
        options += ["--rcvbuf", str(rng.choice((4096, 16384)))]
    if rng.random() < 0.2:
        options += ["--slow", str(rng.choice((20_000, 200_000))), "--slow-for", "2000"]
    leaves = rng.random() < 0.25 and max(sizes) > 1000
    if leaves:
        options += ["--stop-after", str(rng.randrange(1, max(sizes))), "--reset"]
    return options, leaves


def judge(counts, what, wanted, report, leaves):
    complete = 0
    for content, response in zip(wanted, report["responses"]):
        counts.add(bytes=response["bytes"])
        if response["bytes"] and not content.is_right(response["bytes"], response["sha256"]):
            counts.add(wrong=f"{what}: {report}")
            return
        complete += response["complete"] and response["bytes"] == content.size
    counts.add(updates=report["key_updates_sent"], answers=report["key_updates_received"])
    if report["end"] == "timeout":
        counts.add(stuck=f"{what}: {report}")
    elif report["end"] == "stopped" and leaves:
        counts.add(cut=1)
    elif report["end"] == "close_notify" and complete == len(wanted):
        counts.add(completed=complete)
    elif not any(response["bytes"] for response in report["responses"]):
        # A handshake, or a request, took longer than the server waits.
        counts.add(refused=f"{what}: {report}")
    else:
        counts.add(broken=f"{what}: {report}")


def fetch(counts, server, rng, deadline):
    options, wanted = server.options(rng)
    more, leaves = manners(rng, [content.size for content in wanted])
    command = [program("peer"), "--timeout", str(SILENCE_S), *options, *more,
               f"{FAR}:{server.port}", *(content.path for content in wanted)]
    what = f"{server.name}: {' '.join(command[3:])}"
    counts.add(connections=1)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=max(1, deadline + AFTERWARDS_S - time.monotonic()),
                              check=False)
    except subprocess.TimeoutExpired:
        counts.add(stuck=f"{what}: did not end")
        return
    if done.stdout:
        judge(counts, what, wanted, json.loads(done.stdout), leaves)
    else:
        counts.add(refused=f"{what}: {done.stderr.decode().strip()}")


def client(counts, server, seed, deadline):
    rng = random.Random(seed)
    while time.monotonic() < deadline:
        if server.lock:
            with server.lock:
                fetch(counts, server, rng, deadline)
        else:
            fetch(counts, server, rng, deadline)


# ---- All of it --------------------------------------------------------------------


def change_weather(counts, network, rng, deadline):
    while time.monotonic() < deadline:
        network.blow(rng.choice(list(WEATHERS)))
        network.windows(tiny=rng.random() < 0.4)
        time.sleep(min(rng.uniform(1, 4), max(0, deadline - time.monotonic())))
        if rng.random() < 0.4 and time.monotonic() < deadline:
            network.down()
            time.sleep(rng.uniform(0.2, 1.5))
            network.up()
            counts.add(downs=1)
    network.blow("fair")
    network.windows(tiny=False)


def stop(counts, server):
    """What has lost its client at the end has had time to see it."""
    status = server.server.stop(SILENCE_S)
    # talk has no end of its own: the signal is it
    if status not in ((0,) if isinstance(server, FileServer) else (-15, 0)):
        counts.add(broken=f"{server.name} ended with {status}\n{server.server.tail()}")


def engines():
    return ("uring", "syscalls") if has("uring") else ("syscalls",)


def lanes():
    return ("kernel", "user") if has("ktls") else ("openssl", "user")


def soak(payloads, seconds, seed, say, clients=3):
    """Counts, after so many seconds and a fair end. clients: of each file server."""
    counts, rng = Counts(), random.Random(seed)
    sizes = SIZES_SLOW if has("ktls") else SIZES
    with bad_network() as network:
        say(f"seed {seed}, kernel {os.uname().release}, {network.how}")
        contents = [Content(payloads, size) for size in sizes]
        servers = [kind(network, payloads, contents, lane, engine) for lane in lanes()
                   for engine in engines() for kind in (FileServer, Talker)]
        start = time.monotonic()
        deadline = start + seconds
        threads = [threading.Thread(target=client, daemon=True,
                                    args=(counts, server, rng.random(), deadline))
                   for server in servers for _ in range(1 if server.lock else clients)]
        for thread in threads:
            thread.start()
        change_weather(counts, network, rng, deadline)
        for thread in threads:
            thread.join(max(1, deadline + AFTERWARDS_S + 10 - time.monotonic()))
            if thread.is_alive():
                raise Failure("a client did not end")
        say(f"{time.monotonic() - deadline:.1f} s until the last transfer was over")
        for server in servers:
            stop(counts, server)
    for kind in ("stuck", "wrong", "broken"):
        for text in getattr(counts, kind)[:5]:
            say(f"{kind}: {text}")
    if not counts.is_good():
        for server in servers:
            for line in [line for line in server.server.lines if '"GET ' not in line][-5:]:
                say(f"{server.name} said: {line}")
    say(counts.text(time.monotonic() - start))
    return counts
