# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Steps that are added to the bytes of a plane. What Python does byte by byte would take the time: so C does it."""

from __future__ import annotations

import collections
import itertools
import operator

from .delta_form import RADIXES, DeltaError

# So many listed steps are added at once.
LISTED_AT_ONCE = 1 << 12


def add_listed(plane: bytearray, distances: bytes | memoryview, values: bytes | memoryview) -> None:
    """Add steps at places that are so far from each other.

    What Python does for each of them takes the time: so they are picked, added as one number, and put back, by
    functions that loop in C.
    """
    if 0 in distances[1:]:
        raise DeltaError("expected another place for each listed step; found a distance of 0")
    places = itertools.accumulate(distances)
    for start in range(0, len(values), LISTED_AT_ONCE):
        some = list(itertools.islice(places, LISTED_AT_ONCE))
        # With a place more there are always several, which is a tuple.
        listed = bytearray(operator.itemgetter(0, *some)(plane)[1:])
        add_bytes(listed, values[start : start + LISTED_AT_ONCE])
        collections.deque(map(operator.setitem, itertools.repeat(plane), some, listed), maxlen=0)


# So many bytes are added at once: they fit into a processor's cache, and the numbers into memory that the allocator
# keeps (above 128 KiB together it gives pages back, and faults them in again for each number). Python has no faster way
# to add bytes to bytes than as digits of one large number; what takes the time is to convert them.
_ADDED_BYTES = 1 << 14


def _each_byte(value: int) -> int:
    return int.from_bytes(bytes([value]) * _ADDED_BYTES, "little")


# Of each byte all but the highest bit, and that bit.
_LOW_BITS, _HIGH_BIT = _each_byte(0x7F), _each_byte(0x80)
# For so many digits in a byte, those at the first place of all bytes; and what, added to a digit, makes it the step
# that it is, but for the highest bit, which is the other one.
_FIRST_DIGITS = {digits: _each_byte(radix - 1) for digits, radix in RADIXES.items()}
_TO_STEPS = {digits: _each_byte(0x80 - radix // 2) for digits, radix in RADIXES.items()}


def add_bytes(plane: bytearray, steps: bytes | memoryview) -> None:
    """Add ``steps`` to a plane, byte by byte, without a carry from one to the next."""
    olds, news = memoryview(plane), memoryview(steps)
    for start in range(0, len(plane), _ADDED_BYTES):
        old = olds[start : start + _ADDED_BYTES]
        left, right = int.from_bytes(old, "little"), int.from_bytes(news[start : start + _ADDED_BYTES], "little")
        added = ((left & _LOW_BITS) + (right & _LOW_BITS)) ^ ((left ^ right) & _HIGH_BIT)
        old[:] = added.to_bytes(len(old), "little")


def add_digits(plane: bytearray, packed: bytes | memoryview, digits: int) -> None:
    """Add to each byte of a plane the step that its digit is: the first digits of all bytes are the first part's."""
    part, bits = len(packed), 8 // digits
    olds, columns = memoryview(plane), memoryview(packed)
    for start in range(0, part, _ADDED_BYTES):
        column = columns[start : start + _ADDED_BYTES]
        numbers = int.from_bytes(column, "little")
        for place, first in enumerate(range(start, len(plane), part)):
            old = olds[first : first + len(column)]
            left = int.from_bytes(old, "little")
            right = ((numbers >> (bits * place)) & _FIRST_DIGITS[digits]) + _TO_STEPS[digits]
            added = ((left & _LOW_BITS) + (right & _LOW_BITS)) ^ ((left ^ right) & _HIGH_BIT ^ _HIGH_BIT)
            if len(old) < _ADDED_BYTES:
                added &= (1 << 8 * len(old)) - 1
            old[:] = added.to_bytes(len(old), "little")
