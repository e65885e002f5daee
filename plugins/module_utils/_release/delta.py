# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Deltas: a file, made from other files that a device holds already. ``docs/deltas.md`` describes the form.

Nothing in a delta is trusted. It names its bases by their digests alone, what it makes has the size and the SHA-256
that the release says, and no stream in it is expanded beyond what its block needs. The memory is that of some blocks,
whatever the sizes of the files.
"""

from __future__ import annotations

import bz2
import functools
import hashlib
import itertools
import lzma
import struct
import zlib
from typing import Any, BinaryIO, Callable, Iterator, NamedTuple, Sequence

from .._common.errors import IntegrityError, with_path
from .._common.hashing import BLOCK_BYTES
from .release import File

MAGIC = b"EDGEMLD\x01"
BASES_MAX = 16
GROUPS_MAX = 16
PIECES_MAX = 1 << 14
# What a block needs beside its bytes, if nothing of it can be compressed.
_BODY_BYTES_MAX = BLOCK_BYTES + (1 << 19)
_PIECES_BYTES_MAX = 1 << 19
HEAD = struct.Struct("<8sQ32sB")
BASE = struct.Struct("<Q32s")
FRAME = struct.Struct("<II")
GROUP = struct.Struct("<BB")
STREAM = struct.Struct("<BII")
_VARINT_BYTES_MAX = 10

# What a group does with the bytes of its pieces.
COPY, LITERAL, DIFFERENCE, STEPS = range(4)
WIDTHS = {LITERAL: range(1, 17), DIFFERENCE: (1, 2, 4, 8), STEPS: (1,)}
_STEPS_STREAMS = 3

# How a stream is compressed.
ZEROS, STORED, DEFLATE, BZIP2, LZMA = range(5)
LZMA_FILTERS: Sequence[Any] = (
    {"id": lzma.FILTER_LZMA2, "dict_size": BLOCK_BYTES, "lc": 3, "lp": 0, "pb": 0, "preset": 6},
)

# Five steps of 0, -1 and +1 are one byte. Other steps are listed, as many as one in so many.
TRITS = 5
LISTED_SHARE = 8
_TRIT_VALUES = (0, 255, 1)
_TRIT_TABLES = tuple(bytes(_TRIT_VALUES[byte // 3**place % 3] for byte in range(256)) for place in range(TRITS))


class DeltaError(IntegrityError):
    """A delta is damaged, or does not make what it promises; the text says where, and what was expected."""


class Header(NamedTuple):
    """What a delta makes, its size in bytes and its SHA-256, and what from: the same of each base."""

    size: int
    sha256: str
    bases: tuple[tuple[int, str], ...]

    @property
    def blocks(self) -> int:
        """How many blocks the result has."""
        return -(-self.size // BLOCK_BYTES)


class Piece(NamedTuple):
    """Some bytes of a block: how many, of which group (0: a copy), and where in which base they come from."""

    group: int
    length: int
    base: int = 0
    offset: int = 0


def apply_delta(
    delta: BinaryIO,
    file: File,
    open_base: Callable[[str, int], BinaryIO],
    write: Callable[[bytes], object],
    origin: str = "the delta",
) -> None:
    """Make ``file`` from a delta: ``write`` gets its blocks in order, each verified by its SHA-256 where the release
    has those, else by the delta's checksum.

    ``open_base`` opens a blob by its SHA-256 and its size, or raises IntegrityError for one that is not held. What was
    written is the file only if this returns. ``origin`` names the delta in errors.

    Raises DeltaError for a delta that is damaged or makes anything else than ``file``, and OSError.
    """
    reader = _Reader(delta, origin)
    header = reader.header()
    if (header.size, header.sha256) != (file.size, file.sha256):
        raise DeltaError(
            f"{origin}: {file.path}: expected a delta that makes {file.size} bytes with SHA-256 {file.sha256}; "
            f"found one for {header.size} bytes with {header.sha256}"
        )
    digest = hashlib.sha256()
    bases: list[BinaryIO] = []
    try:
        for size, sha256 in header.bases:
            bases.append(open_base(sha256, size))
        for number, block in enumerate(reader.blocks(header, bases)):
            if file.blocks and hashlib.sha256(block).hexdigest() != file.blocks[number]:
                raise DeltaError(
                    f"{origin}: {file.path}: block {number + 1} of {header.blocks}: expected SHA-256 "
                    f"{file.blocks[number]}; made {hashlib.sha256(block).hexdigest()}"
                )
            digest.update(block)
            write(block)
    finally:
        for base in bases:
            base.close()
    if digest.hexdigest() != file.sha256:
        raise DeltaError(f"{origin}: {file.path}: expected SHA-256 {file.sha256}; made {digest.hexdigest()}")


def read_header(delta: BinaryIO, origin: str = "the delta") -> Header:
    """Read the begin of a delta. Raises DeltaError for a file that is none, or of a later form."""
    return _Reader(delta, origin).header()


class _Reader:
    def __init__(self, delta: BinaryIO, origin: str) -> None:
        self._delta = delta
        self._origin = origin

    def header(self) -> Header:
        magic, size, sha256, count = HEAD.unpack(self._exactly(HEAD.size, "its header"))
        if magic != MAGIC:
            raise DeltaError(f"{self._origin}: expected a delta of the form {MAGIC!r}; found {magic!r}")
        if count > BASES_MAX:
            raise DeltaError(f"{self._origin}: expected at most {BASES_MAX} bases; found {count}")
        read = [BASE.unpack(self._exactly(BASE.size, "its bases")) for _number in range(count)]
        return Header(size, sha256.hex(), tuple((length, digest.hex()) for length, digest in read))

    def blocks(self, header: Header, bases: Sequence[BinaryIO]) -> Iterator[bytes]:
        """The result's blocks, each verified by its checksum."""
        for number in range(header.blocks):
            where = f"block {number + 1} of {header.blocks}"
            length, checksum = FRAME.unpack(self._exactly(FRAME.size, where))
            if length > _BODY_BYTES_MAX:
                raise DeltaError(f"{self._origin}: {where}: expected at most {_BODY_BYTES_MAX} bytes; found {length}")
            start = number * BLOCK_BYTES
            size = min(BLOCK_BYTES, header.size - start)
            body = self._exactly(length, where)
            try:
                block = decode_block(body, start, size, header.bases, bases)
            except (DeltaError, ValueError, IndexError, struct.error) as error:
                raise DeltaError(f"{self._origin}: {where}: damaged: {error}") from error
            if zlib.crc32(block) != checksum:
                raise DeltaError(
                    f"{self._origin}: {where}: expected the CRC-32 {checksum:08x}; made {zlib.crc32(block):08x}: the "
                    "delta or its base is damaged"
                )
            yield block
        if self._delta.read(1):
            raise DeltaError(f"{self._origin}: expected {header.blocks} blocks; found more bytes behind the last one")

    def _exactly(self, length: int, where: str) -> bytes:
        found = bytearray()
        with with_path(self._origin):
            while len(found) < length:
                part = self._delta.read(length - len(found))
                if not part:
                    raise DeltaError(
                        f"{self._origin}: {where}: expected {length} bytes; the delta ends after {len(found)}"
                    )
                found += part
        return bytes(found)


class _Group:
    """Pieces of a block that are made in one go: ``streams`` are the positions of what they are made of."""

    def __init__(self, kind: int, width: int, streams: Sequence[tuple[int, int, int]]) -> None:
        self.kind = kind
        self.width = width
        self.streams = streams
        self.base = bytearray()
        self.length = 0
        self.made = memoryview(b"")


def decode_block(
    body: bytes, start: int, size: int, sizes: Sequence[tuple[int, str]], bases: Sequence[BinaryIO]
) -> bytes:
    """The ``size`` bytes of a block that begins at ``start`` in the result. Raises DeltaError, ValueError, OSError."""
    groups, table, position = _read_groups(body)
    pieces = read_pieces(table, start)
    if sum(piece.length for piece in pieces) != size:
        raise DeltaError(f"expected pieces of {size} bytes; found {sum(piece.length for piece in pieces)}")
    result = bytearray(size)
    places = []
    at = 0
    for piece in pieces:
        group = groups[piece.group - 1] if piece.group else None
        if group is None or group.kind != LITERAL:
            base = _read_base(piece, sizes, bases)
            if group is None:
                result[at : at + piece.length] = base
            else:
                group.base += base
        if group is not None:
            places.append((group, group.length, at, piece.length))
            group.length += piece.length
        at += piece.length
    for group in groups:
        streams = []
        for codec, packed, expanded in group.streams:
            streams.append((codec, body[position : position + packed], packed, expanded))
            position += packed
        group.made = memoryview(_make(group, streams))
        group.base = bytearray()
    if position != len(body):
        raise DeltaError(f"expected a body of {position} bytes; found {len(body)}")
    for group, begin, at, length in places:
        result[at : at + length] = group.made[begin : begin + length]
    return bytes(result)


def _read_groups(body: bytes) -> tuple[list[_Group], bytes, int]:
    """The groups of a block, the table of its pieces, and where its streams begin."""
    (count,) = body[:1]
    if count > GROUPS_MAX:
        raise DeltaError(f"expected at most {GROUPS_MAX} groups; found {count}")
    position = 1
    groups = []
    for _number in range(count):
        kind, width = GROUP.unpack_from(body, position)
        if width not in WIDTHS.get(kind, ()):
            raise DeltaError(f"a group of the unknown kind {kind} and width {width}")
        position += GROUP.size
        streams = []
        for _stream in range(_STEPS_STREAMS if kind == STEPS else width):
            streams.append(STREAM.unpack_from(body, position))
            position += STREAM.size
        groups.append(_Group(kind, width, streams))
    codec, packed, expanded = STREAM.unpack_from(body, position)
    position += STREAM.size
    if expanded > _PIECES_BYTES_MAX:
        raise DeltaError(f"expected a table of at most {_PIECES_BYTES_MAX} bytes; found {expanded}")
    table = expand(codec, body[position : position + packed], packed, expanded)
    return groups, table, position + packed


def read_pieces(table: bytes, start: int) -> list[Piece]:
    """The pieces of the block that begins at ``start``; ``write_pieces`` is the way back."""
    numbers = _varints(table)
    expected: dict[int, int] = {}
    pieces: list[Piece] = []
    for head in numbers:
        if len(pieces) == PIECES_MAX:
            raise DeltaError(f"expected at most {PIECES_MAX} pieces; found more")
        group, has_base = head >> 1, head & 1
        length = next(numbers, 0)
        if not length:
            raise DeltaError("a piece without bytes")
        base = offset = 0
        if has_base:
            base, moved = next(numbers, 0), next(numbers, 0)
            offset = expected.get(base, start) + ((moved >> 1) ^ -(moved & 1))
            expected[base] = offset + length
        pieces.append(Piece(group, length, base, offset))
    return pieces


def _varints(table: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in table:
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


def _read_base(piece: Piece, sizes: Sequence[tuple[int, str]], bases: Sequence[BinaryIO]) -> bytes:
    if piece.base >= len(bases):
        raise DeltaError(f"expected a base below {len(bases)}; found {piece.base}")
    size, sha256 = sizes[piece.base]
    if piece.offset < 0 or piece.offset + piece.length > size or piece.length > BLOCK_BYTES:
        raise DeltaError(f"bytes {piece.offset} to {piece.offset + piece.length} of a base of {size}")
    base = bases[piece.base]
    base.seek(piece.offset)
    found = base.read(piece.length)
    if len(found) != piece.length:
        raise DeltaError(f"the base {sha256} ends at {piece.offset + len(found)}; expected {size} bytes")
    return found


def expand(codec: int, content: bytes, packed: int, expanded: int) -> bytes:
    """The ``expanded`` bytes of a stream. Raises DeltaError for one that has more or fewer, or is damaged."""
    if len(content) != packed:
        raise DeltaError(f"expected a stream of {packed} bytes; found {len(content)}")
    if expanded > BLOCK_BYTES:
        raise DeltaError(f"expected a stream of at most {BLOCK_BYTES} bytes; found {expanded}")
    if codec == ZEROS:
        return bytes(expanded)
    found = content if codec == STORED else _decompress(codec, content, expanded)
    if len(found) != expanded:
        raise DeltaError(f"expected a stream of {expanded} bytes; found {len(found)}")
    return found


def _decompress(codec: int, content: bytes, expanded: int) -> bytes:
    """At most one byte more than ``expanded``."""
    if codec == DEFLATE:
        decompressor: Any = zlib.decompressobj(-15)
    elif codec == BZIP2:
        decompressor = bz2.BZ2Decompressor()
    elif codec == LZMA:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=LZMA_FILTERS)
    else:
        raise DeltaError(f"a stream of the unknown codec {codec}")
    try:
        found: bytes = decompressor.decompress(content, expanded + 1)
    except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DeltaError(f"a stream that cannot be expanded: {error}") from error
    if len(found) <= expanded and (not decompressor.eof or decompressor.unused_data):
        raise DeltaError(f"a stream that does not end after {len(found)} of {expanded} bytes")
    return found


def _make(group: _Group, streams: Sequence[tuple[int, bytes, int, int]]) -> bytearray | bytes:
    """The bytes of a group's pieces, one behind the other."""
    if group.kind == STEPS:
        steps = _steps([expand(*stream) for stream in streams], group.length)
        return add_lanes(group.base, steps, 1)
    if group.length % group.width:
        raise DeltaError(f"expected elements of {group.width} bytes; found {group.length} bytes")
    planes = bytearray(group.length)
    for place, (codec, content, packed, expanded) in enumerate(streams):
        if expanded != group.length // group.width:
            raise DeltaError(f"expected a plane of {group.length // group.width} bytes; found {expanded}")
        if codec != ZEROS:
            planes[place :: group.width] = expand(codec, content, packed, expanded)
    return planes if group.kind == LITERAL else add_lanes(group.base, from_zigzag(planes, group.width), group.width)


def _steps(streams: Sequence[bytes], length: int) -> bytearray:
    """Steps of one byte: those of 0, -1 and +1, five in a byte; then of the others the distances, and their values."""
    packed, distances, values = streams
    count = -(-length // TRITS)
    if len(packed) != count or len(distances) != len(values):
        raise DeltaError(
            f"expected {count} bytes of steps and a distance for each listed one; found {len(packed)} bytes, "
            f"{len(distances)} distances and {len(values)} steps"
        )
    if len(values) > length // LISTED_SHARE:
        raise DeltaError(f"expected at most {length // LISTED_SHARE} listed steps; found {len(values)}")
    steps = bytearray(TRITS * count)
    if packed.count(0) != count:
        for place, table in enumerate(_TRIT_TABLES):
            steps[place::TRITS] = packed.translate(table)
    del steps[length:]
    for position, value in zip(itertools.accumulate(distances), values):
        steps[position] = value
    return steps


@functools.lru_cache(maxsize=2)
def _lane_masks(length: int, width: int) -> tuple[int, int, int]:
    """Of so many bytes, as one number: the lowest bit of each element, its highest, and all but that."""
    lowest = int.from_bytes((b"\x01" + bytes(width - 1)) * (length // width), "little")
    highest = lowest << (8 * width - 1)
    return lowest, highest, highest - lowest


def from_zigzag(content: bytes | bytearray, width: int) -> int:
    """Signed elements, little-endian, as one number; 0, -1, 1, -2 … were spelled 0, 1, 2, 3 …"""
    lowest, _highest, rest = _lane_masks(len(content), width)
    value = int.from_bytes(content, "little")
    signs = value & lowest
    return ((value >> 1) & rest) ^ ((signs << (8 * width)) - signs)


def add_lanes(base: bytes | bytearray, steps: int | bytes | bytearray, width: int) -> bytes:
    """``base`` plus ``steps``, element by element of ``width`` bytes, without a carry from one to the next."""
    _lowest, highest, rest = _lane_masks(len(base), width)
    left = int.from_bytes(base, "little")
    right = steps if isinstance(steps, int) else int.from_bytes(steps, "little")
    return (((left & rest) + (right & rest)) ^ ((left ^ right) & highest)).to_bytes(len(base), "little")
