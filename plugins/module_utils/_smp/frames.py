# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Frames of the Simple Management Protocol (MCUmgr): their header, and how a serial console carries them. Pure.

On a serial line a frame is some lines of text: a mark, base64, a newline. The first two bytes are the frame's length
with its checksum, the last two the checksum (CRC-16, polynomial 0x1021, initial value 0). Anything else on the line,
such as a log, is not for us.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any, Iterator, NamedTuple

from .._common.errors import EdgemlError
from .cbor import CborError, dumps, loads

READ, READ_REPLY, WRITE, WRITE_REPLY = range(4)
HEADER_BYTES = 8
# No microcontroller has a larger buffer.
PAYLOAD_BYTES_MAX = 16 << 10
LINE_BYTES_MAX = 127

_HEADER = ">BBHHBB"
_FIRST, _NEXT = b"\x06\x09", b"\x04\x14"
# Of a line: without its mark and its newline, whole groups of base64.
_LINE_TEXT = (LINE_BYTES_MAX - 3) // 4 * 4
_OPERATION = 0b111


class FrameError(EdgemlError, ValueError):
    """The bytes are no frame; the text says what was expected and what was found."""


class Frame(NamedTuple):
    """One request or reply: the operation, the group and the command in it, the sequence number that a reply has of its
    request, and the content."""

    operation: int
    group: int
    command: int
    sequence: int
    content: dict[str, Any]


def write_frame(frame: Frame) -> bytes:
    """Spell a frame. Raises FrameError where its content is too long for any microcontroller."""
    payload = dumps(frame.content)
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise FrameError(f"expected a content of at most {PAYLOAD_BYTES_MAX} bytes; found {len(payload)}")
    head = struct.pack(_HEADER, frame.operation, 0, len(payload), frame.group, frame.sequence, frame.command)
    return head + payload


def read_frame(data: bytes) -> Frame:
    """Read a frame that is all of ``data``. Raises FrameError."""
    if len(data) < HEADER_BYTES:
        raise FrameError(f"expected a header of {HEADER_BYTES} bytes; found {len(data)}")
    operation, _flags, length, group, sequence, command = struct.unpack_from(_HEADER, data)
    payload = data[HEADER_BYTES:]
    if length != len(payload):
        raise FrameError(f"expected a content of {length} bytes; found {len(payload)}")
    if length > PAYLOAD_BYTES_MAX:
        raise FrameError(f"expected a content of at most {PAYLOAD_BYTES_MAX} bytes; found {length}")
    try:
        content = loads(payload) if payload else {}
    except CborError as error:
        raise FrameError(f"content: {error}") from error
    if not isinstance(content, dict):
        raise FrameError(f"content: expected an object; found {type(content).__name__}")
    return Frame(operation & _OPERATION, group, command, sequence, content)


def console_lines(data: bytes) -> bytes:
    """The lines that carry a frame over a serial console."""
    body = data + struct.pack(">H", binascii.crc_hqx(data, 0))
    text = base64.b64encode(struct.pack(">H", len(body)) + body)
    parts = [text[at : at + _LINE_TEXT] for at in range(0, len(text), _LINE_TEXT)]
    return b"".join((_NEXT if number else _FIRST) + part + b"\n" for number, part in enumerate(parts))


class ConsoleReader:
    """Finds frames in what comes from a serial console; what is damaged or no frame is passed over."""

    def __init__(self) -> None:
        self._line = b""
        self._body: bytes | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what came, and return each frame that is complete by it."""
        *lines, rest = (self._line + data).split(b"\n")
        for line in lines:
            frame = self._take_line(line.rstrip(b"\r"))
            if frame is not None:
                yield frame
        # A line without an end is none of ours.
        self._line = rest[-LINE_BYTES_MAX:]

    def _take_line(self, line: bytes) -> bytes | None:
        mark = line[:2]
        if mark not in (_FIRST, _NEXT):
            # A log may come between, or what is left of a damaged line.
            mark, line = self._late_mark(line)
        if mark == _FIRST:
            self._body = b""
        if mark not in (_FIRST, _NEXT) or self._body is None:
            return None
        try:
            self._body += base64.b64decode(line[2:], validate=True)
        except ValueError:
            self._body = None
            return None
        return self._complete()

    def _late_mark(self, line: bytes) -> tuple[bytes, bytes]:
        """A first mark behind what belongs to no frame, such as the rest of a damaged line."""
        place = line.rfind(_FIRST)
        return (_FIRST, line[place:]) if place > 0 else (b"", line)

    def _complete(self) -> bytes | None:
        body = self._body or b""
        if len(body) < 2:
            return None
        (length,) = struct.unpack_from(">H", body)
        if len(body) < 2 + length:
            # A length that nobody has is a damaged one.
            if length > PAYLOAD_BYTES_MAX + HEADER_BYTES + 2:
                self._body = None
            return None
        self._body = None
        frame, checksum = body[2:length], body[length : 2 + length]
        if length < HEADER_BYTES + 2 or struct.pack(">H", binascii.crc_hqx(frame, 0)) != checksum:
            return None
        return frame
