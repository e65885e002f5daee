#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A serial port of an emulated microcontroller: a pseudo-terminal; its other end is the socket of the emulator's line.

The port stays while the microcontroller is off and on again. As a program it makes a link to the port, so that it has a
name that stays: `serial_bridge.py SOCKET LINK`.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import socket
import sys
import threading
import time
import tty

_INTERVAL_SECONDS = 0.05


class SerialBridge:
    """Passes bytes between a pseudo-terminal, at the path `address`, and a Unix socket until its block ends."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stop = threading.Event()
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.address = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> SerialBridge:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def run(self) -> None:
        """Pass bytes; what is sent to a microcontroller that is off is lost, as on a line."""
        while not self._stop.is_set():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
                line.connect(self._path)
                self._pass(line)
            if select.select([self._master], [], [], 0)[0]:
                os.read(self._master, 4096)
            time.sleep(_INTERVAL_SECONDS)

    def _pass(self, line: socket.socket) -> None:
        while not self._stop.is_set():
            for ready in select.select([line.fileno(), self._master], [], [], _INTERVAL_SECONDS)[0]:
                if ready == line.fileno():
                    data = line.recv(4096)
                    if not data:
                        return
                    os.write(self._master, data)
                else:
                    line.sendall(os.read(self._master, 4096))


def main() -> None:
    """Run until it is ended."""
    path, link = sys.argv[1:]
    bridge = SerialBridge(path)
    os.makedirs(os.path.dirname(link), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(bridge.address, link)
    bridge.run()


if __name__ == "__main__":
    main()
