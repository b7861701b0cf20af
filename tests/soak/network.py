"""network.py - two network namespaces with a bad link between them.

The near one is this process's own, the far one is held by a child. Where the kernel has
netem, that makes the weather on a pair of veth devices. Where it has not, the link is two
TUN devices, and relay.py hands each packet on, or not, or late, or twice.
"""
import contextlib
import ctypes
import json
import os
import subprocess
import sys

from e2e import Child, Failure, Skip

HERE = os.path.dirname(os.path.abspath(__file__))
NEAR, FAR = "10.77.0.1", "10.77.0.2"
NAMES = ("soaknear", "soakfar")
LIMIT = 200  # packets that wait; more are lost

# delay and jitter in ms, chances in percent, rate in kbit/s, both ways
WEATHERS = {
    "fair": dict(delay=1),
    "loss": dict(delay=5, loss=3),
    "jitter": dict(delay=10, jitter=10),
    "disorder": dict(delay=20, reorder=25, duplicate=5),
    "slow": dict(delay=20, rate=8000),
    "storm": dict(delay=15, jitter=10, loss=1, reorder=10, duplicate=2, rate=40000),
}
TINY = ("4096 8192 16384", "4096 8192 16384")
SYSCTLS = ("tcp_rmem", "tcp_wmem")


def run(*command, check=True):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          check=False)
    if check and done.returncode:
        raise Failure(f"{' '.join(command)}: {done.stdout.decode().strip()}")
    return done


def own_namespace():
    """Before any thread is started."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) != 0:  # CLONE_NEWNET
        raise Skip(f"no network namespace of our own: {os.strerror(ctypes.get_errno())}")


def netem_options(weather):
    words = ["limit", str(LIMIT), "delay", f"{weather['delay']}ms"]
    words += [f"{weather['jitter']}ms"] if "jitter" in weather else []
    for name in ("loss", "duplicate", "reorder"):
        words += [name, f"{weather[name]}%"] if name in weather else []
    return words + (["rate", f"{weather['rate']}kbit"] if "rate" in weather else [])


class Network:
    def __init__(self):
        own_namespace()
        self.holder = Child(["unshare", "--net", "sh", "-c", "echo ready; exec sleep 100000"],
                            "far")
        self.holder.line(lambda line: line == "ready")
        self.relay = None
        self.sysctls = self._read_sysctls()
        if self._make_veth():
            self.how = "netem on veth"
        else:
            self._make_tun()
            self.how = "a relay between TUN devices, as this kernel has no netem"
        run("ip", "link", "set", "lo", "up")
        self.far_run("ip", "link", "set", "lo", "up")
        run("ip", "address", "add", NEAR + "/24", "dev", NAMES[0])
        self.far_run("ip", "address", "add", FAR + "/24", "dev", NAMES[1])
        self.up()
        self.blow("fair")

    def into_far(self):
        """What goes in front of a command that shall run there."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]

    def far_run(self, *command, check=True):
        return run(*self.into_far(), *command, check=check)

    def _make_veth(self):
        made = run("ip", "link", "add", NAMES[0], "type", "veth", "peer", "name", NAMES[1],
                   "netns", str(self.holder.pid), check=False)
        if made.returncode:
            return False
        if run("tc", "qdisc", "add", "dev", NAMES[0], "root", "netem", check=False).returncode:
            run("ip", "link", "delete", NAMES[0])
            return False
        # A packet that is lost is one, not the forty-four of a send.
        run("ip", "link", "set", NAMES[0], "gso_max_segs", "1")
        self.far_run("ip", "link", "set", NAMES[1], "gso_max_segs", "1")
        return True

    def _make_tun(self):
        if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            raise Skip("neither netem nor /dev/net/tun")
        self.relay = Child([sys.executable, "-B", os.path.join(HERE, "relay.py"),
                            str(self.holder.pid), *NAMES], "relay", stdin=subprocess.PIPE)
        self.relay.line(lambda line: line == "ready")

    def blow(self, name):
        """Another weather, both ways."""
        weather = WEATHERS[name]
        if self.relay:
            self.relay.process.stdin.write(json.dumps(weather).encode() + b"\n")
            self.relay.process.stdin.flush()
            return
        words = ["root", "netem"] + netem_options(weather)
        run("tc", "qdisc", "replace", "dev", NAMES[0], *words)
        self.far_run("tc", "qdisc", "replace", "dev", NAMES[1], *words)

    def down(self):
        run("ip", "link", "set", NAMES[0], "down")

    def up(self):
        run("ip", "link", "set", NAMES[0], "up")
        self.far_run("ip", "link", "set", NAMES[1], "up")

    @staticmethod
    def _read_sysctls():
        values = []
        for name in SYSCTLS:
            with open("/proc/sys/net/ipv4/" + name) as file:
                values.append(" ".join(file.read().split()))
        return values

    def windows(self, tiny):
        """Of the connections that are made from now on."""
        words = [f"net.ipv4.{name}={value}"
                 for name, value in zip(SYSCTLS, TINY if tiny else self.sysctls)]
        run("sysctl", "-q", *words)
        self.far_run("sysctl", "-q", *words)

    def close(self):
        for child in (self.relay, self.holder):
            if child:
                child.kill()


@contextlib.contextmanager
def bad_network():
    network = Network()
    try:
        yield network
    finally:
        network.close()
