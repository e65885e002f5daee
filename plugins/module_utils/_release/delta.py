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

import contextlib
import hashlib
import itertools
import lzma
import struct
import zlib
from typing import Any, BinaryIO, Callable, Generator, Iterator, NamedTuple, Sequence

from .._common.errors import IntegrityError, with_path
from .._common.hashing import BLOCK_BYTES
from .release import File

MAGIC = b"EDGEMLD\x03"
BASES_MAX = 16
GROUPS_MAX = 16
PIECES_MAX = 1 << 14
WIDTH_MAX = 16
# What a block needs beside its bytes, if nothing of it can be compressed.
_BODY_BYTES_MAX = BLOCK_BYTES + (1 << 19)
_PIECES_BYTES_MAX = 1 << 19
HEAD = struct.Struct("<8sQ32sB")
BASE = struct.Struct("<Q32s")
_VARINT_BYTES_MAX = 10

# What a plane, the bytes at one place of all elements of a group, is made of.
LITERAL, DIFFERENCE, STEPS = range(3)

# How a stream is compressed.
ZEROS, STORED, DEFLATE, LZMA = range(4)
LZMA_FILTERS: Sequence[Any] = (
    {"id": lzma.FILTER_LZMA2, "dict_size": BLOCK_BYTES, "lc": 3, "lp": 0, "pb": 0, "preset": 6},
)

# Small steps are some in a byte, as digits: from half of as many values as a digit has below zero on. Other steps are
# listed, as many as one in so many.
RADIXES = {4: 4, 2: 16}
LISTED_SHARE = 8


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
    """Some bytes of a block: how many, of which group (0: a copy), and what they are compared with.

    That is the bytes of a base from an offset on, or zeros (None).
    """

    group: int
    length: int
    base: int | None = None
    offset: int = 0


def apply_delta(
    delta: BinaryIO,
    file: File,
    open_base: Callable[[str, int], BinaryIO],
    write: Callable[[bytes], object],
    origin: str = "the delta",
) -> None:
    """Make ``file`` from a delta: ``write`` gets its blocks in order, the last one only if the whole is right.

    ``open_base`` opens a blob by its SHA-256 and its size, or raises IntegrityError for one that is not held.
    ``origin`` names the delta in errors.

    Raises DeltaError for a delta that is damaged or makes anything else than ``file``, and OSError.
    """
    digest, made = hashlib.sha256(), 0

    def compare() -> None:
        if digest.hexdigest() != file.sha256:
            raise DeltaError(
                f"{origin}: {file.path}: expected SHA-256 {file.sha256}; made {digest.hexdigest()}: the delta or its "
                "base is damaged"
            )

    with contextlib.closing(made_blocks(delta, file, open_base, origin)) as blocks:
        for block in blocks:
            digest.update(block)
            made += len(block)
            if made == file.size:
                compare()
            write(block)
    if not made:
        compare()


def made_blocks(
    delta: BinaryIO, file: File, open_base: Callable[[str, int], BinaryIO], origin: str = "the delta"
) -> Generator[bytes, None, None]:
    """The blocks that a delta makes for ``file``, in order, as many bytes as it has. **Nobody has verified them.**

    For who compares them with the release himself; the others call ``apply_delta``, which has the same arguments.

    Raises DeltaError for a delta that is damaged or is not for ``file``, and OSError.
    """
    reader = _Reader(delta, origin)
    header = reader.header()
    if (header.size, header.sha256) != (file.size, file.sha256):
        raise DeltaError(
            f"{origin}: {file.path}: expected a delta that makes {file.size} bytes with SHA-256 {file.sha256}; "
            f"found one for {header.size} bytes with {header.sha256}"
        )
    with contextlib.ExitStack() as bases:
        opened = [bases.enter_context(open_base(sha256, size)) for size, sha256 in header.bases]
        yield from reader.blocks(header, opened)


def read_header(delta: BinaryIO, origin: str = "the delta") -> Header:
    """Read the begin of a delta. Raises DeltaError for a file that is none, or of another form."""
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
        """The result's blocks; nothing says yet that they are right."""
        decoder = BlockDecoder([size for size, _sha256 in header.bases], bases)
        for number in range(header.blocks):
            where = f"block {number + 1} of {header.blocks}"
            length = self._length(where)
            if length > _BODY_BYTES_MAX:
                raise DeltaError(f"{self._origin}: {where}: expected at most {_BODY_BYTES_MAX} bytes; found {length}")
            body = self._exactly(length, where)
            start = number * BLOCK_BYTES
            try:
                block = decoder.decode(body, start, min(BLOCK_BYTES, header.size - start))
            except (DeltaError, ValueError, IndexError) as error:
                raise DeltaError(f"{self._origin}: {where}: damaged: {error}") from error
            yield block
        if self._delta.read(1):
            raise DeltaError(f"{self._origin}: expected {header.blocks} blocks; found more bytes behind the last one")

    def _length(self, where: str) -> int:
        return next(varints(self._bytes(where)))

    def _bytes(self, where: str) -> Iterator[int]:
        while True:
            yield self._exactly(1, where)[0]

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


class BlockDecoder:
    """Makes the blocks of a file, in their order, from ``bases`` of these sizes."""

    def __init__(self, sizes: Sequence[int], bases: Sequence[BinaryIO]) -> None:
        self._sizes = sizes
        self._bases = bases
        # The base that was used last, and where its bytes that follow begin.
        self._next = (0, 0)

    def decode(self, content: bytes, start: int, size: int) -> bytes:
        """The block of ``size`` bytes that begins at ``start``. Raises DeltaError, ValueError, IndexError, OSError."""
        if not content:
            return self._base_bytes(size, *self._next)
        body = _Body(content)
        pieces = read_pieces(body.stream(_PIECES_BYTES_MAX), start)
        if sum(piece.length for piece in pieces) != size:
            raise DeltaError(f"expected pieces of {size} bytes; found {sum(piece.length for piece in pieces)}")
        if len(pieces) == 1 and not pieces[0].group and pieces[0].base is not None:
            body.finish()
            return self._base_bytes(size, pieces[0].base, pieces[0].offset)
        # Group 0: what is copied.
        sizes = [0] * (1 + max((piece.group for piece in pieces), default=0))
        for piece in pieces:
            sizes[piece.group] += piece.length
        groups = [bytearray(length) for length in sizes]
        self._read(pieces, groups)
        for made in groups[1:]:
            _make(body, made)
        body.finish()
        return bytes(next((made for made in groups if len(made) == size), None) or _joined(pieces, groups))

    def _read(self, pieces: Sequence[Piece], groups: Sequence[bytearray]) -> None:
        """Read into each group what its pieces are compared with."""
        rest = [memoryview(group) for group in groups]
        for group, length, number, offset in pieces:
            target, rest[group] = rest[group][:length], rest[group][length:]
            if number is not None:
                target[:] = self._base_bytes(length, number, offset)

    def _base_bytes(self, length: int, number: int, offset: int) -> bytes:
        if number >= len(self._bases):
            raise DeltaError(f"expected a base below {len(self._bases)}; found {number}")
        if offset < 0 or offset + length > self._sizes[number]:
            raise DeltaError(f"bytes {offset} to {offset + length} of a base of {self._sizes[number]}")
        self._next = (number, offset + length)
        self._bases[number].seek(offset)
        found = self._bases[number].read(length)
        if len(found) != length:
            raise DeltaError(f"expected {length} bytes of a base from {offset} on; found {len(found)}")
        return found


def _joined(pieces: Sequence[Piece], groups: Sequence[bytearray]) -> bytearray:
    """The pieces in their order, from the bytes of their groups."""
    rest = [memoryview(group) for group in groups]
    result = bytearray(sum(piece.length for piece in pieces))
    position = 0
    for group, length, _base, _offset in pieces:
        result[position : position + length] = rest[group][:length]
        rest[group] = rest[group][length:]
        position += length
    return result


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


def _make(body: _Body, group: bytearray) -> None:
    """Make the bytes of a group's pieces, plane by plane, in place of the base's."""
    width = body.byte()
    if not 0 < width <= WIDTH_MAX or len(group) % width:
        raise DeltaError(f"expected elements of 1 to {WIDTH_MAX} bytes; found {width} in {len(group)}")
    count = len(group) // width
    for place in range(width):
        kind = body.byte()
        if kind == LITERAL:
            group[place::width] = _whole(body.stream(count), count)
        elif kind == DIFFERENCE:
            group[place::width] = add_bytes(group[place::width], _whole(body.stream(count), count))
        elif kind == STEPS:
            _make_steps(body, group, place, width)
        else:
            raise DeltaError(f"a plane of the unknown kind {kind}")


def _whole(stream: bytes | memoryview, count: int) -> bytes | memoryview:
    if len(stream) != count:
        raise DeltaError(f"expected a plane of {count} bytes; found {len(stream)}")
    return stream


def _make_steps(body: _Body, group: bytearray, place: int, width: int) -> None:
    """Steps of a plane: small ones, some in a byte; then of the others the distances, and their values."""
    length = len(group) // width
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
    plane = group[place::width]
    if packed:
        _add_digits(plane, packed, digits)
    for position, value in zip(itertools.accumulate(distances), values):
        plane[position] = (plane[position] + value) & 0xFF
    group[place::width] = plane


# So many bytes are added at once: they fit into a processor's cache. Python has no faster way to add bytes to bytes
# than as digits of one large number; what takes the time is to convert them.
_ADDED_BYTES = 1 << 15


def _each_byte(value: int) -> int:
    return int.from_bytes(bytes([value]) * _ADDED_BYTES, "little")


# Of each byte all but the highest bit, and that bit.
_LOW_BITS, _HIGH_BIT = _each_byte(0x7F), _each_byte(0x80)
# For so many digits in a byte, those at the first place of all bytes; and what, added to a digit, makes it the step
# that it is, but for the highest bit, which is the other one.
_FIRST_DIGITS = {digits: _each_byte(radix - 1) for digits, radix in RADIXES.items()}
_TO_STEPS = {digits: _each_byte(0x80 - radix // 2) for digits, radix in RADIXES.items()}


def add_bytes(base: bytes | bytearray, steps: bytes | memoryview) -> bytes:
    """``base`` plus ``steps``, byte by byte, without a carry from one to the next."""
    olds, news = memoryview(base), memoryview(steps)
    made = []
    for start in range(0, len(base), _ADDED_BYTES):
        old = olds[start : start + _ADDED_BYTES]
        left, right = int.from_bytes(old, "little"), int.from_bytes(news[start : start + _ADDED_BYTES], "little")
        added = ((left & _LOW_BITS) + (right & _LOW_BITS)) ^ ((left ^ right) & _HIGH_BIT)
        made.append(added.to_bytes(len(old), "little"))
    return b"".join(made)


def _add_digits(plane: bytearray, packed: bytes | memoryview, digits: int) -> None:
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
