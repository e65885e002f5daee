# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Messages of protocol buffers, field by field: what is not asked for is skipped and not read."""

from __future__ import annotations

from typing import BinaryIO, Iterator, NamedTuple

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10


class Field(NamedTuple):
    """One field of a message: its number, and its value, or where its bytes begin and end; ``begin`` is where it is."""

    number: int
    value: int
    start: int
    end: int
    begin: int = 0


def whole_file(file: BinaryIO) -> Field:
    """The file as one message."""
    return Field(0, 0, 0, file.seek(0, 2))


def read_fields(file: BinaryIO, message: Field) -> Iterator[Field]:
    """The fields of the message between its start and its end. Raises ValueError for what is no message."""
    position = message.start
    while position < message.end:
        begin = position
        file.seek(begin)
        tag = read_varint(file)
        number, kind = tag >> 3, tag & 7
        value, start, end = 0, 0, 0
        if kind == _VARINT:
            value = read_varint(file)
            position = file.tell()
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            position = file.tell() + (8 if kind == _EIGHT_BYTES else 4)
        elif kind == _LENGTH:
            length = read_varint(file)
            start = file.tell()
            position = end = start + length
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if position > message.end:
            raise ValueError("a field points behind the end of its message")
        yield Field(number, value, start, end, begin)


def read_varint(file: BinaryIO) -> int:
    """A number without a sign. Raises ValueError where it has no end."""
    value = 0
    for place in range(_VARINT_BYTES_MAX):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return value
    raise ValueError("a number without an end")
