# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A block of a delta: decoded from its body and the bases, with the memory of some blocks."""

from __future__ import annotations

import lzma
import zlib
from io import BufferedIOBase
from typing import Any, Iterator, Sequence

from .._common.hashing import BLOCK_BYTES
from .delta_form import (
    DEFLATE,
    DIFFERENCE,
    LISTED_SHARE,
    LITERAL,
    LZMA,
    LZMA_FILTERS,
    RADIXES,
    STEPS,
    STORED,
    WIDTH_MAX,
    ZEROS,
    DeltaError,
    Piece,
    read_pieces,
    varints,
)
from .delta_steps import add_bytes, add_digits, add_listed

_PIECES_BYTES_MAX = 1 << 19
_ZEROS = bytes(BLOCK_BYTES)
# From now on the C library of GNU keeps memory that is given back, up to the size of this piece that is given back here
# unused: so streams and planes, too, ask the kernel for theirs but once.
bytes(8 * BLOCK_BYTES)


class BlockDecoder:
    """Makes the blocks of a file, in their order, from ``bases`` of these sizes."""

    def __init__(self, sizes: Sequence[int], bases: Sequence[BufferedIOBase]) -> None:
        self._sizes = sizes
        self._bases = bases
        # The base that was used last, and where its bytes that follow begin.
        self._next = (0, 0)
        # The block, and the pieces of a group that has several; once for all blocks: memory that is asked for anew
        # costs as much as a pass of SHA-256 before there is a byte in it.
        self._block, self._scratch = bytearray(BLOCK_BYTES), bytearray()

    def decode(self, content: bytes, start: int, size: int) -> memoryview:
        """The block of ``size`` bytes that begins at ``start``: it is there until the next call.

        Raises DeltaError, ValueError, IndexError, OSError.
        """
        block = memoryview(self._block)[:size]
        if not content:
            self._read_base(block, *self._next)
            return block
        body = _Body(content)
        pieces = read_pieces(body.stream(_PIECES_BYTES_MAX), start)
        if sum(piece.length for piece in pieces) != size:
            raise DeltaError(f"expected pieces of {size} bytes; found {sum(piece.length for piece in pieces)}")
        # Where in the block the pieces of each group are. Group 0 is what is copied: it is there when it is read.
        groups: list[list[slice]] = [[] for _group in range(1 + max((piece.group for piece in pieces), default=0))]
        position = 0
        for piece in pieces:
            groups[piece.group].append(slice(position, position + piece.length))
            position += piece.length
        for place, base, offset in _reads(pieces):
            if base is None:
                block[place] = _ZEROS[: place.stop - place.start]
            else:
                self._read_base(block[place], base, offset)
        for places in groups[1:]:
            self._make(body, block, places)
        body.finish()
        return block

    def _make(self, body: _Body, block: memoryview, places: Sequence[slice]) -> None:
        """Make the pieces of a group in place of the base's bytes; several are made one behind the other."""
        if len(places) == 1:
            _make_planes(body, self._block, places[0])
            return
        pieces = [block[place] for place in places]
        self._scratch[:] = b"".join(pieces)
        _make_planes(body, self._scratch, slice(0, len(self._scratch)))
        made = memoryview(self._scratch)
        for piece in pieces:
            piece[:], made = made[: len(piece)], made[len(piece) :]

    def _read_base(self, target: memoryview, number: int, offset: int) -> None:
        """Fill ``target`` with the bytes of a base from an offset on."""
        length = len(target)
        if number >= len(self._bases):
            raise DeltaError(f"expected a base below {len(self._bases)}; found {number}")
        if offset < 0 or offset + length > self._sizes[number]:
            raise DeltaError(f"bytes {offset} to {offset + length} of a base of {self._sizes[number]}")
        self._next = (number, offset + length)
        self._bases[number].seek(offset)
        read = 0
        while read < length:
            part = self._bases[number].readinto(target[read:])
            if not part:
                raise DeltaError(f"expected {length} bytes of a base from {offset} on; found {read}")
            read += part


class _Body:
    """The bytes of a block in a delta, read from the first to the last."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._position = 0

    def byte(self) -> int:
        """The next byte. Raises IndexError at the end."""
        self._position += 1
        return self._content[self._position - 1]

    def _bytes(self) -> Iterator[int]:
        while True:
            yield self.byte()

    def stream(self, limit: int) -> bytes | memoryview:
        """The next stream, expanded. Raises DeltaError for one of more than ``limit`` bytes, or a damaged one."""
        codec = self.byte()
        numbers = varints(self._bytes())
        expanded = next(numbers)
        if expanded > limit:
            raise DeltaError(f"expected a stream of at most {limit} bytes; found {expanded}")
        if codec == ZEROS:
            return bytes(expanded)
        if codec == STORED:
            return self._take(expanded)
        return _decompress(codec, self._take(next(numbers)), expanded)

    def finish(self) -> None:
        """Raises DeltaError if there are more bytes."""
        if self._position != len(self._content):
            raise DeltaError(f"expected a body of {self._position} bytes; found {len(self._content)}")

    def _take(self, length: int) -> memoryview:
        found = self._content[self._position : self._position + length]
        if len(found) != length:
            raise DeltaError(f"expected a stream of {length} bytes; found {len(found)}")
        self._position += length
        return found


def _reads(pieces: Sequence[Piece]) -> Iterator[tuple[slice, int | None, int]]:
    """What of a block is read in one go, from which base and from which offset on; or is zeros.

    Pieces whose bytes follow each other in their base, too, are read at once: each read takes some microseconds.
    """
    start = position = 0
    before = Piece(0, 0)
    for piece in pieces:
        if position > start and (piece.base, piece.offset) != (before.base, before.offset + position - start):
            yield slice(start, position), before.base, before.offset
            start = position
        if start == position:
            before = piece
        position += piece.length
    if position > start:
        yield slice(start, position), before.base, before.offset


def _decompress(codec: int, content: memoryview, expanded: int) -> bytes:
    if codec == DEFLATE:
        decompressor: Any = zlib.decompressobj(-15)
    elif codec == LZMA:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=LZMA_FILTERS)
    else:
        raise DeltaError(f"a stream of the unknown codec {codec}")
    try:
        found: bytes = decompressor.decompress(content, expanded + 1)
    except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DeltaError(f"a stream that cannot be expanded: {error}") from error
    if len(found) != expanded:
        raise DeltaError(f"expected a stream of {expanded} bytes; found {len(found)}")
    if not decompressor.eof or decompressor.unused_data:
        raise DeltaError(f"a stream that does not end after {expanded} bytes")
    return found


def _make_planes(body: _Body, content: bytearray, group: slice) -> None:
    """Make the bytes of a group, which is a part of ``content``, plane by plane, in place of the base's."""
    width, size = body.byte(), group.stop - group.start
    if not 0 < width <= WIDTH_MAX or size % width:
        raise DeltaError(f"expected elements of 1 to {WIDTH_MAX} bytes; found {width} in {size}")
    count = size // width
    for place in range(width):
        plane = slice(group.start + place, group.stop, width)
        kind = body.byte()
        if kind == LITERAL:
            content[plane] = _whole(body.stream(count), count)
        elif kind == DIFFERENCE:
            made = content[plane]
            add_bytes(made, _whole(body.stream(count), count))
            content[plane] = made
        elif kind == STEPS:
            _make_steps(body, content, plane, count)
        else:
            raise DeltaError(f"a plane of the unknown kind {kind}")


def _whole(stream: bytes | memoryview, count: int) -> bytes | memoryview:
    if len(stream) != count:
        raise DeltaError(f"expected a plane of {count} bytes; found {len(stream)}")
    return stream


def _make_steps(body: _Body, content: bytearray, place: slice, length: int) -> None:
    """Steps of a plane: small ones, some in a byte; then of the others the distances, and their values."""
    digits = body.byte()
    if digits and digits not in RADIXES:
        raise DeltaError(f"expected one of {sorted(RADIXES)} steps in a byte; found {digits}")
    packed = _whole(body.stream(length), -(-length // digits)) if digits else b""
    limit = length // LISTED_SHARE
    distances, values = body.stream(limit), body.stream(limit)
    if len(distances) != len(values):
        raise DeltaError(f"expected a distance for each listed step; found {len(distances)} for {len(values)}")
    if not packed and not values:
        return
    plane = content[place]
    if packed:
        add_digits(plane, packed, digits)
    add_listed(plane, distances, values)
    content[place] = plane
