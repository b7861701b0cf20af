"""relay.py - a bad link, in a process of its own: relay.py PID NEAR FAR

Makes a TUN device in this network namespace and one in that of PID, and hands packets on
between them. Each line of its input is a weather, see network.py.
"""
import ctypes
import errno
import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000
LIMIT = 200  # packets that wait for their turn, each way
PACKET_MAX = 65536


def open_tun(name):
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def open_far_tun(pid, name):
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    for namespace in (there, here):
        if libc.setns(namespace, 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        if namespace == there:
            tun = open_tun(name)
    return tun


class Way:
    """One direction."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.waiting = []  # (when, number, packet)
        self.number = 0
        self.free_at = 0  # when the line has sent what it was given

    def take(self, weather, now):
        """What the device has now."""
        for _ in range(64):
            try:
                packet = os.read(self.source, PACKET_MAX)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EIO, errno.EBADFD):
                    raise
                return
            self.admit(packet, weather, now)

    def admit(self, packet, weather, now):
        if chance(weather.get("loss")):
            return
        for _ in range(2 if chance(weather.get("duplicate")) else 1):
            if len(self.waiting) >= LIMIT:
                return
            when = now + weather["delay"] / 1000
            when += random.uniform(-1, 1) * weather.get("jitter", 0) / 1000
            if chance(weather.get("reorder")):
                when = now  # before all that wait
            if "rate" in weather:
                start = max(self.free_at, now)
                self.free_at = start + len(packet) * 8 / (weather["rate"] * 1000)
                when += self.free_at - now
            self.number += 1
            heapq.heappush(self.waiting, (when, self.number, packet))

    def give(self, now):
        while self.waiting and self.waiting[0][0] <= now:
            packet = heapq.heappop(self.waiting)[2]
            try:
                os.write(self.target, packet)
            except OSError as error:  # the device is down: the packet is lost
                if error.errno not in (errno.EIO, errno.EAGAIN, errno.ENETDOWN):
                    raise

    def next(self):
        return self.waiting[0][0] if self.waiting else float("inf")


def chance(percent):
    return percent and random.random() * 100 < percent


def main():
    pid, near, far = sys.argv[1:]
    tuns = open_tun(near), open_far_tun(pid, far)
    ways = Way(*tuns), Way(*reversed(tuns))
    weather = {"delay": 0}
    poller = select.poll()
    for fd in (0, *tuns):
        poller.register(fd, select.POLLIN)
    print("ready", flush=True)
    text = b""
    while True:
        wait = min(way.next() for way in ways) - time.monotonic()
        ready = dict(poller.poll(None if wait == float("inf") else max(0, wait * 1000)))
        if 0 in ready:
            chunk = os.read(0, 4096)
            if not chunk:
                return
            *lines, text = (text + chunk).split(b"\n")
            weather = json.loads(lines[-1]) if lines else weather
        now = time.monotonic()
        for way in ways:
            if way.source in ready:
                way.take(weather, now)
            way.give(now)


if __name__ == "__main__":
    main()
