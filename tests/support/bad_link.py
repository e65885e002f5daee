# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A link that loses packets, delays them, and breaks connections, between two networks that exist for it alone.

Packets go through two TUN devices, and a process between them drops and delays them: the kernel's own ``netem`` is not
built into every kernel. What TCP and SSH make of it is real. ``python bad_link.py connect …`` is a ProxyCommand for
``ssh`` that refuses some connections, and breaks others while they are in use.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Of the network for benchmarks (RFC 2544): nobody else has it.
NEAR = "198.19.0.1"
FAR = "198.18.0.0/16"
FROM = "198.18.255.254"
# linux/if_tun.h
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET_BYTES_MAX = 65536
# What waits for a slow link longer than this is dropped.
QUEUE_SECONDS = 1.0
# A connection that breaks does so before the device has sent this much: within a login, a call or its answer.
BREAKS_WITHIN_BYTES = 12_000


class BadLink:
    """As a context manager it is the only way from this process's network to the devices' network.

    ``loss`` is the share of packets that are lost, ``delay`` the seconds that each takes one way. ``rate`` is how many
    bytes per second go one way (0: no limit); every ``cut`` seconds (0: never) all connections die, as when a modem
    gets another address. ``enter`` starts a command in the devices' network, which has every address of
    ``FAR``. Needs a network that is this process's own: ``simulated_fleet.leave_the_machine``, or ``unshare --net``.
    """

    def __init__(self, loss: float, delay: float, rate: float = 0.0, cut: float = 0.0) -> None:
        self._numbers = [str(loss), str(delay), str(rate), str(cut)]
        self._processes: list[subprocess.Popen[bytes]] = []
        self.enter: list[str] = []

    def __enter__(self) -> BadLink:
        tunnels = [_tunnel(name) for name in ("near", "far")]
        holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1)
        self._processes.append(holder)
        assert holder.stdout is not None
        holder.stdout.readline()
        self.enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
        _run("ip", "link", "set", "far", "netns", str(holder.pid))
        _run("ip", "address", "add", f"{NEAR}/32", "dev", "near")
        _run("ip", "link", "set", "near", "up")
        _run("ip", "route", "add", FAR, "dev", "near")
        for command in (
            "ip link set lo up",
            "ip link set far up",
            # What devices connect from.
            f"ip address add {FROM}/32 dev far",
            f"ip route add local {FAR} dev lo",
            f"ip route add {NEAR}/32 dev far",
        ):
            _run(*self.enter, *command.split())
        forward = [sys.executable, __file__, "forward", *map(str, tunnels), *self._numbers]
        self._processes.append(subprocess.Popen(forward, pass_fds=tunnels))
        for tunnel in tunnels:
            os.close(tunnel)
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait()

    @staticmethod
    def address(number: int) -> str:
        """The address of a device."""
        return f"198.18.{number // 250}.{number % 250 + 1}"


class DroppedConnections:
    """A ProxyCommand that loses a ``share`` of the connections; ``log`` has a line for each: refused, broken, whole."""

    def __init__(self, log: Path, share: float) -> None:
        self.log = log
        self._share = share

    @property
    def variables(self) -> dict[str, Any]:
        """The variables for Ansible of a host that is reached so; each of its calls has a connection of its own."""
        proxy = f"{sys.executable} -IS {__file__} connect %h %p {self._share} {self.log}"
        return {"ansible_ssh_extra_args": f'-o ControlMaster=no -o ControlPath=none -o "ProxyCommand={proxy}"'}

    def counts(self) -> dict[str, int]:
        """How many connections there were of each kind."""
        words = self.log.read_text().split() if self.log.exists() else []
        return {word: words.count(word) for word in ("whole", "refused", "broken")}


class Connections:
    """Which of the connections that packets belong to are dead: all that were seen before the last cut."""

    def __init__(self, cut: float) -> None:
        self._cut = cut
        self._next = time.monotonic() + cut
        self._seen: set[bytes] = set()
        self._dead: set[bytes] = set()

    def carries(self, packet: bytes) -> bool:
        """Whether a packet's connection lives."""
        if not self._cut:
            return True
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._cut
            self._dead |= self._seen
            self._seen = set()
        start = (packet[0] & 15) * 4
        # The same for both directions.
        name = b"".join(sorted((packet[start : start + 2], packet[start + 2 : start + 4])))
        self._seen.add(name)
        return name not in self._dead


def forward(near: int, far: int, loss: float, delay: float, rate: float, cut: float) -> None:
    """Carry packets between two TUN devices until this process is ended."""
    other = {near: far, far: near}
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    connections = Connections(cut)
    # When each direction has sent what it has.
    free = {near: 0.0, far: 0.0}
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for tunnel in select.select([near, far], [], [], patience)[0]:
            packet = os.read(tunnel, PACKET_BYTES_MAX)
            number += 1
            now = time.monotonic()
            sent = max(now, free[tunnel]) + (len(packet) / rate if rate else 0.0)
            if random.random() < loss or sent - now > QUEUE_SECONDS or not connections.carries(packet):
                continue
            free[tunnel] = sent
            heapq.heappush(waiting, (sent + delay, number, other[tunnel], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _due, _number, tunnel, packet = heapq.heappop(waiting)
            os.write(tunnel, packet)


def connect(host: str, port: int, share: float, log: str) -> int:
    """Be the ProxyCommand of one connection: carry its bytes, unless it is one of those that are lost."""
    chance = random.SystemRandom()
    lost = chance.random() < share
    kind = chance.choice(("refused", "broken")) if lost else "whole"
    with open(log, "a", encoding="ascii") as file:
        file.write(f"{kind}\n")
    if kind == "refused":
        return 1
    left = chance.randrange(BREAKS_WITHIN_BYTES) if kind == "broken" else sys.maxsize
    with socket.create_connection((host, port)) as device:
        while left > 0:
            for ready in select.select([device, sys.stdin], [], [])[0]:
                data = os.read(ready.fileno(), PACKET_BYTES_MAX)
                if not data:
                    return 0
                if ready is device:
                    left -= len(data)
                    os.write(1, data)
                else:
                    device.sendall(data)
    return 1


def _tunnel(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def main() -> int:
    """Forward packets, or be a ProxyCommand."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    forwarding = commands.add_parser("forward")
    for name in ("near", "far"):
        forwarding.add_argument(name, type=int)
    for name in ("loss", "delay", "rate", "cut"):
        forwarding.add_argument(name, type=float)
    connecting = commands.add_parser("connect")
    connecting.add_argument("host")
    connecting.add_argument("port", type=int)
    connecting.add_argument("share", type=float)
    connecting.add_argument("log")
    options = vars(parser.parse_args())
    if options.pop("command") == "connect":
        return connect(**options)
    forward(**options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
