# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SMP by hand: frames, lines and CBOR. It lets a test send what no library would."""

from __future__ import annotations

import base64
import binascii
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

READ, WRITE = 0, 2
LINE = 124  # base64 characters
HEADER = struct.Struct(">BBHHBB")


class NoReplyError(Exception):
    """Nothing came in time that answers the request."""


def encode(value: Any) -> bytes:
    """CBOR of numbers, texts, bytes, lists and dictionaries."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(encode, value))
    return _head(5, len(value)) + b"".join(encode(key) + encode(item) for key, item in value.items())


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    size = next(size for size in (1, 2, 4, 8) if argument < 1 << 8 * size)
    return bytes([major << 5 | 23 + size.bit_length()]) + argument.to_bytes(size, "big")


def decode(data: bytes) -> Any:
    """The value of CBOR that a firmware sends: lists and maps end with a break."""
    value, rest = _item(data)
    assert not rest, f"{len(rest)} bytes behind the reply"
    return value


def _item(data: bytes) -> tuple[Any, bytes]:
    major, info, data = data[0] >> 5, data[0] & 31, data[1:]
    if major == 7:
        if info == 26:
            return struct.unpack(">f", data[:4])[0], data[4:]
        return info == 21, data
    if major in (4, 5):
        assert info == 31
        items = []
        while data[0] != 0xFF:
            item, data = _item(data)
            items.append(item)
        return (items if major == 4 else dict(zip(items[::2], items[1::2], strict=True))), data[1:]
    size = 0 if info < 24 else 1 << info - 24
    argument, data = (int.from_bytes(data[:size], "big") if size else info), data[size:]
    if major < 2:
        return (argument if major == 0 else -1 - argument), data
    content = data[:argument]
    return (content if major == 2 else content.decode()), data[argument:]


def lines(frame: bytes) -> list[bytes]:
    """The lines that carry a frame."""
    text = base64.b64encode(struct.pack(">H", len(frame) + 2) + frame + struct.pack(">H", binascii.crc_hqx(frame, 0)))
    parts = [text[at : at + LINE] for at in range(0, len(text), LINE)]
    return [(b"\x04\x14" if number else b"\x06\x09") + part + b"\n" for number, part in enumerate(parts)]


def frame_of(text: bytes) -> bytes | None:
    """The frame that the base64 of its lines holds; None if it is not all there, or damaged."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    length = int.from_bytes(data[:2], "big")
    frame = data[2:length]
    if len(data) != length + 2 or data[length:] != struct.pack(">H", binascii.crc_hqx(frame, 0)):
        return None
    assert HEADER.unpack(frame[:8])[2] == len(frame) - 8
    return frame


class SerialLine:
    """The line to a microcontroller, by a Unix socket."""

    def __init__(self, path: Path, seconds: float = 60) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._received = b""
        self._sequence = 0
        self.damage: Callable[[bytes], bytes] = bytes  # what the line makes of the bytes on it, both ways
        ends = time.monotonic() + seconds
        while True:
            try:
                self._socket.connect(str(path))
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > ends:
                    raise
                time.sleep(0.02)

    def close(self) -> None:
        """Leave the line."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Put bytes on the line. Raises OSError if nobody is there."""
        self._socket.sendall(self.damage(data))

    def frame(self, op: int, group: int, command: int, fields: dict[str, Any]) -> bytes:
        """The frame of a request, with a sequence number of its own."""
        payload = encode(fields)
        self._sequence = (self._sequence + 1) % 256
        return HEADER.pack(8 | op, 0, len(payload), group, self._sequence, command) + payload

    def request(
        self, op: int, group: int, command: int, fields: dict[str, Any] | None = None, seconds: float = 60
    ) -> dict[str, Any]:
        """Send a request and return its reply. Raises NoReplyError, also if the microcontroller is gone."""
        self.send_request(op, group, command, fields or {})
        return self.reply(seconds)

    def send_request(self, op: int, group: int, command: int, fields: dict[str, Any]) -> None:
        """Send a request. Raises NoReplyError if the microcontroller is gone."""
        try:
            self.send(b"".join(lines(self.frame(op, group, command, fields))))
        except OSError as error:
            raise NoReplyError(str(error)) from error

    def reply(self, seconds: float = 60) -> dict[str, Any]:
        """The reply to the last request; others are passed over. Raises NoReplyError."""
        ends = time.monotonic() + seconds
        text = b""
        while True:
            line = self._line(ends)
            text = text + line[2:] if line[:2] == b"\x04\x14" else line[2:]
            frame = frame_of(text)
            if frame is not None and frame[6] == self._sequence:
                value = decode(frame[8:])
                assert isinstance(value, dict)
                return value

    def _line(self, ends: float) -> bytes:
        while b"\n" not in self._received:
            self._socket.settimeout(max(0.001, ends - time.monotonic()))
            try:
                more = self._socket.recv(65536)
            except OSError as error:
                raise NoReplyError(str(error)) from error
            if not more:
                raise NoReplyError("the microcontroller is gone")
            self._received += self.damage(more)
        line, _, self._received = self._received.partition(b"\n")
        return line
