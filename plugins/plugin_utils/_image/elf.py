# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Programs and shared libraries (ELF, 64 bits, little-endian): what one needs, and one without what debuggers read."""

from __future__ import annotations

import struct
from typing import Iterator

_MAGIC = b"\x7fELF\x02\x01"
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRING_TABLE = 1, 5
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_DYNAMIC_ENTRY = struct.Struct("<qQ")


def needed_libraries(content: bytes) -> list[str]:
    """The names of the libraries that the program or library ``content`` is linked to; none for another file."""
    if not content.startswith(_MAGIC):
        return []
    headers = _program_headers(content)
    segments = [(address, offset, length) for kind, _f, offset, address, _p, length, *_more in headers if kind == _LOAD]
    entries = [
        entry
        for kind, _flags, offset, _address, _physical, length, *_more in headers
        if kind == _DYNAMIC
        for entry in _DYNAMIC_ENTRY.iter_unpack(content[offset : offset + length - length % _DYNAMIC_ENTRY.size])
    ]
    table = next((_offset_of(value, segments) for tag, value in entries if tag == _STRING_TABLE), 0)
    return [_text(content, table + value) for tag, value in _until_null(entries) if tag == _NEEDED]


def without_debugging(content: bytes) -> bytes:
    """The same program or library without what only a debugger reads: all that its segments do not have.

    The kernel and the dynamic loader read segments only. Another file comes back as it is.
    """
    if not content.startswith(_MAGIC):
        return content
    end = max(
        offset + length for _kind, _flags, offset, _address, _physical, length, *_more in _program_headers(content)
    )
    if end >= len(content):
        return content
    header = bytearray(content[:end])
    # No section: neither a table of them, nor its size, nor the names.
    header[40:48] = bytes(8)
    header[58:64] = bytes(6)
    return bytes(header)


def _program_headers(content: bytes) -> list[tuple[int, ...]]:
    (first,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    return [_PROGRAM_HEADER.unpack_from(content, first + index * size) for index in range(count)]


def _until_null(entries: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for tag, value in entries:
        if tag == 0:
            return
        yield tag, value


def _offset_of(address: int, segments: list[tuple[int, int, int]]) -> int:
    """Where in the file that is which a process has at ``address``."""
    return next((offset + address - start for start, offset, size in segments if start <= address < start + size), 0)


def _text(content: bytes, at: int) -> str:
    return content[at : content.index(b"\0", at)].decode("ascii")
