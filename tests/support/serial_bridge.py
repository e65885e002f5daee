#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port of an emulated microcontroller, of which the emulator has the line at a Unix socket.

It is a pseudo-terminal, or a port of UDP, and it stays while the microcontroller is off and on again. As a program it
makes a link to the pseudo-terminal, so that it has a name that stays:

    serial_bridge.py SOCKET LINK|udp://HOST:PORT [--lose SHARE] [--bits-per-second N]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import random
import select
import socket
import threading
import time
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable

from smp_line import frame_of, lines

Damage = Callable[[bytes], bytes]
_INTERVAL_SECONDS = 0.05
_BITS_OF_A_BYTE = 10  # with its start and its stop bit


class LossyLine:
    """Loses a share of the bytes on a line, and changes some of those."""

    def __init__(self, share: float, seed: int) -> None:
        self.lost = 0
        self._share = share
        self._chance = random.Random(seed)

    def __call__(self, data: bytes) -> bytes:
        """What is left of bytes on the line."""
        kept = bytearray()
        for byte in data:
            if self._chance.random() >= self._share:
                kept.append(byte)
                continue
            self.lost += 1
            if self._chance.random() < 0.3:
                kept.append(self._chance.randrange(256))
        return bytes(kept)


class Bridge(ABC):
    """Passes bytes between a port and the Unix socket at `path` until its block ends.

    `damage` is what becomes of bytes on the line, either way. `bits_per_second` is the line's speed: 0 for none.
    """

    def __init__(self, path: str, damage: Damage = bytes, bits_per_second: int = 0) -> None:
        self._path = path
        self._damage = damage
        self._bits_per_second = bits_per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.run, daemon=True)

    @abstractmethod
    def fileno(self) -> int:
        """The port's descriptor."""

    @abstractmethod
    def read(self) -> bytes:
        """What came to the port, as bytes for the line. Raises OSError."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Have the port say what came by the line. Raises OSError."""

    def __enter__(self) -> Bridge:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def run(self) -> None:
        """Pass bytes; what is sent to a microcontroller that is off is lost, as on a line."""
        while not self._stop.is_set():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
                line.connect(self._path)
                self._pass(line)
            if select.select([self.fileno()], [], [], 0)[0]:
                self.read()
            time.sleep(_INTERVAL_SECONDS)

    def _pass(self, line: socket.socket) -> None:
        while not self._stop.is_set():
            for ready in select.select([line.fileno(), self.fileno()], [], [], _INTERVAL_SECONDS)[0]:
                if ready == line.fileno():
                    data = line.recv(4096)
                    if not data:
                        return
                    self.write(self._on_the_line(data))
                else:
                    line.sendall(self._on_the_line(self.read()))

    def _on_the_line(self, data: bytes) -> bytes:
        if self._bits_per_second:
            time.sleep(len(data) * _BITS_OF_A_BYTE / self._bits_per_second)
        return self._damage(data)


class SerialBridge(Bridge):
    """A pseudo-terminal at the path `address`."""

    def __init__(self, path: str, damage: Damage = bytes, bits_per_second: int = 0) -> None:
        super().__init__(path, damage, bits_per_second)
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.address = os.ttyname(self._slave)

    def __exit__(self, *_exception: object) -> None:
        super().__exit__()
        os.close(self._master)
        os.close(self._slave)

    def fileno(self) -> int:
        return self._master

    def read(self) -> bytes:
        return os.read(self._master, 4096)

    def write(self, data: bytes) -> None:
        os.write(self._master, data)


class UdpBridge(Bridge):
    """A port of UDP, with one frame in each datagram: it answers whoever asked last."""

    def __init__(self, path: str, host: str, port: int, damage: Damage = bytes, bits_per_second: int = 0) -> None:
        super().__init__(path, damage, bits_per_second)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self._asker: tuple[str, int] | None = None
        self._received = b""
        self._text = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        frame, self._asker = self._socket.recvfrom(65535)
        return b"".join(lines(frame))

    def write(self, data: bytes) -> None:
        *whole, self._received = (self._received + data).split(b"\n")
        for line in whole:
            self._text = self._text + line[2:] if line[:2] == b"\x04\x14" else line[2:]
            frame = frame_of(self._text)
            if frame is not None and self._asker is not None:
                self._socket.sendto(frame, self._asker)


def main() -> None:
    """Run until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("socket", help="the Unix socket of the emulator's line")
    parser.add_argument("port", help="the link to the pseudo-terminal, or udp://HOST:PORT")
    parser.add_argument("--lose", type=float, default=0, metavar="SHARE", help="share of the bytes that are lost")
    parser.add_argument("--bits-per-second", type=int, default=0, metavar="N", help="the speed of the line; 0 for none")
    options = parser.parse_args()
    damage: Damage = LossyLine(options.lose, seed=1) if options.lose else bytes
    host, _colon, port = options.port.removeprefix("udp://").rpartition(":")
    if host:
        UdpBridge(options.socket, host, int(port), damage, options.bits_per_second).run()
        return
    bridge = SerialBridge(options.socket, damage, options.bits_per_second)
    os.makedirs(os.path.dirname(options.port), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(options.port)
    os.symlink(bridge.address, options.port)
    bridge.run()


if __name__ == "__main__":
    main()
