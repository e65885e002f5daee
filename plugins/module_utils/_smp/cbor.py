# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The part of CBOR (RFC 8949) that microcontrollers speak: whole numbers, bytes, texts, lists, objects, true, false,
null and floats. Pure.

What is read may be hostile: its depth and its number of items are bounded, and a length is believed only as far as
there are bytes.
"""

from __future__ import annotations

import struct
from typing import Any

from .._common.errors import EdgemlError

DEPTH_MAX = 8
ITEMS_MAX = 4096

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _OTHER = range(8)
_INDEFINITE = 31
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_CONSTANTS = {20: False, 21: True, 22: None}
_NUMBER_MAX = (1 << 64) - 1
_END = object()


class CborError(EdgemlError, ValueError):
    """The bytes are no CBOR, or none that is read here; the text says where, what was expected and what was found."""


def dumps(value: Any) -> bytes:
    """Spell None, booleans, whole numbers of 64 bits, floats, bytes, texts, lists and dicts with texts as keys.

    Raises TypeError for another type, and ValueError for a number with more bits.
    """
    if value is None or isinstance(value, bool):
        return bytes([_OTHER << 5 | next(code for code, known in _CONSTANTS.items() if known is value)])
    if isinstance(value, int):
        return _head(_NEGATIVE, -1 - value) if value < 0 else _head(_UNSIGNED, value)
    if isinstance(value, float):
        return bytes([_OTHER << 5 | 27]) + struct.pack(">d", value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode("utf-8")
        return _head(_TEXT, len(text)) + text
    if isinstance(value, (list, tuple)):
        return _head(_ARRAY, len(value)) + b"".join(map(dumps, value))
    if isinstance(value, dict):
        return _head(_MAP, len(value)) + b"".join(_key(key) + dumps(item) for key, item in value.items())
    raise TypeError(f"expected a value that CBOR has; found {type(value).__name__}")


def loads(data: bytes) -> Any:
    """Read one value, and nothing behind it. Raises CborError."""
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise CborError(f"byte {reader.at}: expected the end of the CBOR; found {len(data) - reader.at} bytes more")
    return value


def _key(key: Any) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"expected a text as a key; found {type(key).__name__}")
    return dumps(key)


def _head(major: int, number: int) -> bytes:
    if number > _NUMBER_MAX:
        raise ValueError("expected a whole number of at most 64 bits; found more")
    if number < 24:
        return bytes([major << 5 | number])
    for code, form in ((24, ">B"), (25, ">H"), (26, ">I"), (27, ">Q")):
        if number < 1 << 8 * struct.calcsize(form):
            return bytes([major << 5 | code]) + struct.pack(form, number)
    raise AssertionError("a number of 64 bits fits the last form")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._items = 0
        self.at = 0

    def value(self, depth: int) -> Any:
        found = self._item(depth)
        if found is _END:
            raise CborError(f"byte {self.at - 1}: expected a value; found the end of a list")
        return found

    def _item(self, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise CborError(f"byte {self.at}: expected at most {DEPTH_MAX} levels; found more")
        self._items += 1
        if self._items > ITEMS_MAX:
            raise CborError(f"byte {self.at}: expected at most {ITEMS_MAX} items; found more")
        (first,) = self._take(1)
        major, low = first >> 5, first & 31
        if major == _OTHER:
            return self._other(low)
        if low == _INDEFINITE and major in (_BYTES, _TEXT, _ARRAY, _MAP):
            return self._indefinite(major, depth)
        number = self._number(low)
        if major == _UNSIGNED:
            return number
        if major == _NEGATIVE:
            return -1 - number
        if major == _BYTES:
            return self._take(number)
        if major == _TEXT:
            return self._text(number)
        if major == _ARRAY:
            return [self.value(depth + 1) for _place in range(self._count(number))]
        if major == _MAP:
            return self._map(self._entry(depth) for _place in range(self._count(number)))
        raise CborError(f"byte {self.at}: expected no tag; found one")

    def _indefinite(self, major: int, depth: int) -> Any:
        """A value whose end is marked."""
        found: list[Any] = []
        while True:
            start = self.at
            item = self._item(depth + 1)
            if item is _END:
                break
            if major == _MAP:
                if not isinstance(item, str):
                    raise CborError(f"byte {start}: expected a text as a key; found {type(item).__name__}")
                item = (item, self.value(depth + 1))
            elif major in (_BYTES, _TEXT) and not isinstance(item, bytes if major == _BYTES else str):
                raise CborError(f"byte {start}: expected a part of a string; found {type(item).__name__}")
            found.append(item)
        if major == _MAP:
            return self._map(found)
        if major == _ARRAY:
            return found
        return b"".join(found) if major == _BYTES else "".join(found)

    def _entry(self, depth: int) -> tuple[str, Any]:
        start, key = self.at, self.value(depth + 1)
        if not isinstance(key, str):
            raise CborError(f"byte {start}: expected a text as a key; found {type(key).__name__}")
        return key, self.value(depth + 1)

    def _map(self, entries: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in entries:
            if key in found:
                raise CborError(f"byte {self.at}: expected each key once; found {key[:80]!r} twice")
            found[key] = value
        return found

    def _other(self, low: int) -> Any:
        if low in _CONSTANTS:
            return _CONSTANTS[low]
        if low in _FLOATS:
            form = _FLOATS[low]
            return struct.unpack(form, self._take(struct.calcsize(form)))[0]
        if low == _INDEFINITE:
            return _END
        raise CborError(f"byte {self.at - 1}: expected true, false, null or a float; found the simple value {low}")

    def _number(self, low: int) -> int:
        if low < 24:
            return low
        if low > 27:
            raise CborError(f"byte {self.at - 1}: expected a number or a length; found {low}")
        return int.from_bytes(self._take(1 << (low - 24)), "big")

    def _count(self, number: int) -> int:
        """A number of entries, each of which takes at least one byte."""
        if number > len(self._data) - self.at:
            raise CborError(f"byte {self.at}: expected {number} entries; found {len(self._data) - self.at} bytes")
        return number

    def _text(self, length: int) -> str:
        start = self.at
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise CborError(f"byte {start}: expected a text in UTF-8; {error}") from error

    def _take(self, length: int) -> bytes:
        if length > len(self._data) - self.at:
            raise CborError(f"byte {self.at}: expected {length} bytes; found {len(self._data) - self.at}")
        self.at += length
        return self._data[self.at - length : self.at]
