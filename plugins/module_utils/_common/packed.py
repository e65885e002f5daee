# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Results of many samples in few bytes: flags as bits, numbers as 16-bit floats, both in base64. Pure."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import Sequence

FLAGS_MAX = 65536
NUMBERS_MAX = 16384


def pack_flags(flags: Sequence[bool]) -> str:
    """Return flags as base64, eight in a byte, the first in the highest bit."""
    packed = bytearray((len(flags) + 7) // 8)
    for index, flag in enumerate(flags):
        if flag:
            packed[index // 8] |= 128 >> index % 8
    return base64.b64encode(bytes(packed)).decode("ascii")


def unpack_flags(text: str, count: int) -> list[bool]:
    """Return ``count`` flags. Raises ValueError if the text holds another number of them."""
    packed = _decoded(text, (count + 7) // 8)
    return [bool(packed[index // 8] & 128 >> index % 8) for index in range(count)]


def pack_numbers(numbers: Sequence[float]) -> str:
    """Return numbers from -1 to 1, or NaN, as base64 of little-endian 16-bit floats: 11 significant bits each."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}e", *numbers)).decode("ascii")


def unpack_numbers(text: str, count: int) -> list[float]:
    """Return ``count`` numbers. Raises ValueError if the text holds another number of them, or infinity."""
    numbers = list(struct.unpack(f"<{count}e", _decoded(text, 2 * count)))
    if any(math.isinf(number) for number in numbers):
        raise ValueError("expected numbers from -1 to 1; found infinity")
    return numbers


def _decoded(text: str, size: int) -> bytes:
    if not isinstance(text, str) or len(text) > 4 * ((size + 2) // 3):
        raise ValueError(f"expected base64 of {size} bytes")
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"expected base64 of {size} bytes: {error}") from error
    if len(packed) != size:
        raise ValueError(f"expected base64 of {size} bytes; found {len(packed)}")
    return packed
