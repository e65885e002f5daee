# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The port of a microcontroller: a serial line, or an address of UDP. One program has it at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import select
import socket
import termios
import time
from abc import ABC, abstractmethod

from .._common.errors import ServerError
from .address import AddressError, SerialAddress, UdpAddress, parse_address, speed_code
from .frames import ConsoleReader, console_lines

# Whoever has the port may be sending an image.
LOCK_SECONDS = 120.0

_LOCK_INTERVAL_SECONDS = 0.1
_READ_BYTES = 4096
_DATAGRAM_BYTES_MAX = 65535
# A byte on a serial line, with its start and its stop bit.
_BITS_OF_A_BYTE = 10


class Port(ABC):
    """An open port. It is closed, and others can have it, when its block ends."""

    @abstractmethod
    def send(self, frame: bytes) -> None:
        """Send one frame. Raises OSError."""

    @abstractmethod
    def receive(self, seconds: float) -> bytes | None:
        """The next frame; None where none comes within ``seconds``. Raises OSError."""

    def sending_seconds(self, frame: bytes) -> float:
        """How long a frame takes on its way: what is sent is not there yet."""
        return 0.0

    @abstractmethod
    def discard(self) -> None:
        """Forget what came that nobody waits for any more. Raises OSError."""

    @abstractmethod
    def close(self) -> None:
        """Give the port back."""

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def open_port(address: str, lock_seconds: float = LOCK_SECONDS) -> Port:
    """Open the port at ``address``, and wait at most ``lock_seconds`` for whoever has it.

    Raises ServerError where it cannot be opened: it is busy, or not there.
    """
    try:
        found = parse_address(address)
        return SerialPort(found, lock_seconds) if isinstance(found, SerialAddress) else UdpPort(found, lock_seconds)
    except (AddressError, OSError, termios.error) as error:
        raise ServerError(f"{address}: the port cannot be opened: {error}") from error


class SerialPort(Port):
    """A serial line, as MCUmgr's console uses it: 8 bits, no parity, one stop bit, no flow control."""

    def __init__(self, address: SerialAddress, lock_seconds: float) -> None:
        flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        self._descriptor = os.open(address.path, flags)
        self._speed = address.speed
        self._reader = ConsoleReader()
        self._frames: list[bytes] = []
        try:
            _lock(self._descriptor, lock_seconds)
            self._set_up(address.speed)
        except BaseException:
            os.close(self._descriptor)
            raise

    def send(self, frame: bytes) -> None:
        left = console_lines(frame)
        while left:
            _readable, writable, _broken = select.select([], [self._descriptor], [], 10.0)
            if not writable:
                raise TimeoutError(errno.ETIMEDOUT, "the line takes nothing")
            left = left[os.write(self._descriptor, left) :]

    def sending_seconds(self, frame: bytes) -> float:
        return len(console_lines(frame)) * _BITS_OF_A_BYTE / self._speed

    def receive(self, seconds: float) -> bytes | None:
        deadline = time.monotonic() + seconds
        while not self._frames:
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([self._descriptor], [], [], wait)[0]:
                return None
            data = os.read(self._descriptor, _READ_BYTES)
            if not data:
                raise OSError(errno.EIO, "the line was hung up")
            self._frames += self._reader.feed(data)
        return self._frames.pop(0)

    def discard(self) -> None:
        self._frames.clear()
        self._reader = ConsoleReader()
        try:
            termios.tcflush(self._descriptor, termios.TCIFLUSH)
        except termios.error as error:
            # Which is none of OSError's.
            raise OSError(*error.args) from error

    def close(self) -> None:
        # What is not sent yet need not be: a line that is held would keep this waiting.
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(self._descriptor, termios.TCOFLUSH)
        os.close(self._descriptor)

    def _set_up(self, speed: int) -> None:
        """Have the line pass bytes as they are."""
        code = speed_code(speed)
        _input, _output, control, _local, _in_speed, _out_speed, characters = termios.tcgetattr(self._descriptor)
        control &= ~(termios.CSIZE | termios.PARENB | termios.CSTOPB | getattr(termios, "CRTSCTS", 0))
        control |= termios.CS8 | termios.CREAD | termios.CLOCAL
        # A line that is closed does not reset the board, as lowering DTR does with some.
        control &= ~termios.HUPCL
        characters[termios.VMIN], characters[termios.VTIME] = 0, 0
        termios.tcsetattr(self._descriptor, termios.TCSANOW, [0, 0, control, 0, code, code, characters])
        termios.tcflush(self._descriptor, termios.TCIOFLUSH)


class UdpPort(Port):
    """A microcontroller that has one frame in each datagram. Others on this machine that ask it wait their turn."""

    def __init__(self, address: UdpAddress, lock_seconds: float) -> None:
        name = hashlib.sha256(f"{address.host}:{address.port}".encode()).hexdigest()[:16]
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._lock = os.open(os.path.join(_lock_directory(), f"edgeml-port-{name}.lock"), flags, 0o600)
        try:
            _lock(self._lock, lock_seconds)
            family, kind, protocol, _name, where = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_DGRAM
            )[0]
            self._socket = socket.socket(family, kind, protocol)
            try:
                # Datagrams of others are not received.
                self._socket.connect(where)
            except BaseException:
                self._socket.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise

    def send(self, frame: bytes) -> None:
        # Nobody listens, or the datagram is too large for the moment: the reply's time runs, and it is sent again.
        with contextlib.suppress(ConnectionRefusedError):
            self._socket.send(frame)

    def receive(self, seconds: float) -> bytes | None:
        deadline = time.monotonic() + seconds
        while True:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                return self._socket.recv(_DATAGRAM_BYTES_MAX)
            except socket.timeout:
                return None
            except ConnectionRefusedError:
                wait = deadline - time.monotonic()
                if wait <= 0:
                    return None
                # Nobody listens there now.
                time.sleep(min(wait, _LOCK_INTERVAL_SECONDS))

    def discard(self) -> None:
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                self._socket.recv(_DATAGRAM_BYTES_MAX)

    def close(self) -> None:
        self._socket.close()
        os.close(self._lock)


def _lock_directory() -> str:
    """Where locks are that a restart of the machine forgets; only root writes there on a device."""
    return "/run/lock" if os.access("/run/lock", os.W_OK) else os.environ.get("TMPDIR", "/tmp")


def _lock(descriptor: int, seconds: float) -> None:
    """Have it for ourselves. Raises OSError where somebody else has had it for ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise OSError(errno.EBUSY, f"another program has had it for {seconds:g} s") from None
            time.sleep(_LOCK_INTERVAL_SECONDS)
