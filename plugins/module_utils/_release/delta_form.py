# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The form of a delta: what its header, its pieces and its numbers are. ``docs/deltas.md`` describes it."""

from __future__ import annotations

import lzma
import struct
from typing import Any, Iterator, NamedTuple, Sequence

from .._common.errors import IntegrityError
from .._common.hashing import BLOCK_BYTES

MAGIC = b"EMD\x05"
BASES_MAX = 16
GROUPS_MAX = 16
PIECES_MAX = 1 << 14
WIDTH_MAX = 16
# The form; the first bytes of the result's SHA-256; how all blocks are packed; the number of bases.
PREFIX_BYTES = 4
HEAD = struct.Struct(f"<{len(MAGIC)}s{PREFIX_BYTES}sBB")
_VARINT_BYTES_MAX = 10

# What a plane, the bytes at one place of all elements of a group, is made of.
LITERAL, DIFFERENCE, STEPS = range(3)

# How a stream is compressed.
ZEROS, STORED, DEFLATE, LZMA = range(4)
LZMA_FILTERS: Sequence[Any] = (
    {"id": lzma.FILTER_LZMA2, "dict_size": BLOCK_BYTES, "lc": 3, "lp": 0, "pb": 0, "preset": 6},
)
# All blocks as one stream: what repeats is found across them.
PACKING_FILTERS: Sequence[Any] = ({**LZMA_FILTERS[0], "dict_size": 8 * BLOCK_BYTES},)

# Small steps are some in a byte, as digits: from half of as many values as a digit has below zero on. Other steps are
# listed, as many as one in so many.
RADIXES = {4: 4, 2: 16}
LISTED_SHARE = 8


class DeltaError(IntegrityError):
    """A delta is damaged, or does not make what it promises; the text says where, and what was expected."""


class Header(NamedTuple):
    """What a delta makes, its size in bytes and the begin of its SHA-256; and what from: of each base both, whole.

    ``packing`` is the codec of all that follows the header: STORED or LZMA.
    """

    size: int
    sha256: str
    packing: int
    bases: tuple[tuple[int, str], ...]

    @property
    def blocks(self) -> int:
        """How many blocks the result has."""
        return -(-self.size // BLOCK_BYTES)


class Piece(NamedTuple):
    """Some bytes of a block: how many, of which group (0: a copy), and what they are compared with.

    That is the bytes of a base from an offset on, or zeros (None).
    """

    group: int
    length: int
    base: int | None = None
    offset: int = 0


def read_pieces(table: bytes | memoryview, start: int) -> list[Piece]:
    """The pieces of the block that begins at ``start``."""
    numbers = varints(iter(table))
    expected: dict[int, int] = {}
    pieces: list[Piece] = []
    for head in numbers:
        if len(pieces) == PIECES_MAX:
            raise DeltaError(f"expected at most {PIECES_MAX} pieces; found more")
        group, length = head >> 1, next(numbers, 0)
        if group > GROUPS_MAX:
            raise DeltaError(f"expected at most {GROUPS_MAX} groups; found {group}")
        if not 0 < length <= BLOCK_BYTES:
            raise DeltaError(f"expected a piece of 1 to {BLOCK_BYTES} bytes; found {length}")
        if head & 1:
            base, moved = next(numbers, 0), next(numbers, 0)
            offset = expected.get(base, start) + ((moved >> 1) ^ -(moved & 1))
            expected[base] = offset + length
            pieces.append(Piece(group, length, base, offset))
        else:
            pieces.append(Piece(group, length, None, 0))
    return pieces


def varints(content: Iterator[int]) -> Iterator[int]:
    """Numbers of seven bits in a byte, the lowest first. Raises DeltaError for one without an end."""
    value = shift = 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            yield value
            value = shift = 0
        else:
            shift += 7
            if shift >= 7 * _VARINT_BYTES_MAX:
                raise DeltaError("a number without an end")
    if shift:
        raise DeltaError("a number without an end")
