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

import collections
import contextlib
import hashlib
import itertools
import lzma
import operator
import struct
import zlib
from io import BufferedIOBase
from typing import Any, BinaryIO, Callable, Generator, Iterator, NamedTuple, Protocol, Sequence

from .._common.errors import IntegrityError, with_path
from .._common.hashing import BLOCK_BYTES
from .release import File

MAGIC = b"EMD\x05"
BASES_MAX = 16
GROUPS_MAX = 16
PIECES_MAX = 1 << 14
WIDTH_MAX = 16
# What a block needs beside its bytes, if nothing of it can be compressed.
_BODY_BYTES_MAX = BLOCK_BYTES + (1 << 19)
_PIECES_BYTES_MAX = 1 << 19
# The form; the first bytes of the result's SHA-256; how all blocks are packed; the number of bases.
PREFIX_BYTES = 4
HEAD = struct.Struct(f"<{len(MAGIC)}s{PREFIX_BYTES}sBB")
_DIGEST_BYTES = 32
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
_PACKED_BYTES = 1 << 16

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


def apply_delta(
    delta: BinaryIO,
    file: File,
    open_base: Callable[[str, int], BufferedIOBase],
    write: Callable[[memoryview], object],
    origin: str = "the delta",
) -> None:
    """Make ``file`` from a delta: ``write`` gets its blocks in order, the last one only if the whole is right.

    A block's bytes are ``write``'s until it returns. ``open_base`` opens a blob by its SHA-256 and its size, or raises
    IntegrityError for one that is not held. ``origin`` names the delta in errors.

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
    delta: BinaryIO, file: File, open_base: Callable[[str, int], BufferedIOBase], origin: str = "the delta"
) -> Generator[memoryview, None, None]:
    """The blocks that a delta makes for ``file``, in order, as many bytes as it has. **Nobody has verified them.**

    Each is there until the next one is asked for: they have their memory in common. For who compares them with the
    release himself; the others call ``apply_delta``, which has the same arguments.

    Raises DeltaError for a delta that is damaged or is not for ``file``, and OSError.
    """
    reader = _Reader(delta, origin)
    header = reader.header()
    if header.size != file.size or not file.sha256.startswith(header.sha256):
        raise DeltaError(
            f"{origin}: {file.path}: expected a delta that makes {file.size} bytes with SHA-256 {file.sha256}; "
            f"found one for {header.size} bytes with {header.sha256}…"
        )
    with contextlib.ExitStack() as bases:
        opened = [bases.enter_context(open_base(sha256, size)) for size, sha256 in header.bases]
        yield from reader.blocks(header, opened)


def read_header(delta: BinaryIO, origin: str = "the delta") -> Header:
    """Read the begin of a delta. Raises DeltaError for a file that is none, or of another form."""
    return _Reader(delta, origin).header()


class _Reader:
    def __init__(self, delta: BinaryIO, origin: str) -> None:
        self._delta: _Readable = delta
        self._origin = origin

    def header(self) -> Header:
        where = "its header"
        magic, sha256, packing, count = HEAD.unpack(self._exactly(HEAD.size, where))
        if magic != MAGIC:
            raise DeltaError(f"{self._origin}: expected a delta of the form {MAGIC!r}; found {magic!r}")
        if packing not in (STORED, LZMA):
            raise DeltaError(f"{self._origin}: expected the packing {STORED} or {LZMA}; found {packing}")
        if count > BASES_MAX:
            raise DeltaError(f"{self._origin}: expected at most {BASES_MAX} bases; found {count}")
        size = self._number(where)
        bases = tuple((self._number(where), self._exactly(_DIGEST_BYTES, where).hex()) for _number in range(count))
        return Header(size, sha256.hex(), packing, bases)

    def blocks(self, header: Header, bases: Sequence[BufferedIOBase]) -> Iterator[memoryview]:
        """The result's blocks; nothing says yet that they are right."""
        if header.packing == LZMA:
            self._delta = _Unpacked(self._delta, self._origin)
        decoder = BlockDecoder([size for size, _sha256 in header.bases], bases)
        for number in range(header.blocks):
            where = f"block {number + 1} of {header.blocks}"
            length = self._number(where)
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

    def _number(self, where: str) -> int:
        try:
            return next(varints(self._bytes(where)))
        except DeltaError as error:
            raise DeltaError(f"{self._origin}: {where}: {error}") from error

    def _bytes(self, where: str) -> Iterator[int]:
        while True:
            yield self._exactly(1, where)[0]

    def _exactly(self, length: int, where: str) -> bytes:
        with with_path(self._origin):
            found = self._delta.read(length)
            while len(found) < length:
                part = self._delta.read(length - len(found))
                if not part:
                    raise DeltaError(
                        f"{self._origin}: {where}: expected {length} bytes; the delta ends after {len(found)}"
                    )
                found += part
        return found


class _Readable(Protocol):
    def read(self, length: int, /) -> bytes: ...


class _Unpacked:
    """What is packed behind a header, as it is read: no more is expanded than is asked for."""

    def __init__(self, packed: _Readable, origin: str) -> None:
        self._packed = packed
        self._origin = origin
        self._lzma = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=PACKING_FILTERS)

    def read(self, length: int) -> bytes:
        """The next bytes, at most ``length``; none at the end. Raises DeltaError where they are damaged."""
        found = b""
        while length and not found and not self._lzma.eof:
            packed = b"" if not self._lzma.needs_input else self._packed.read(_PACKED_BYTES)
            if self._lzma.needs_input and not packed:
                return b""
            try:
                found = self._lzma.decompress(packed, length)
            except lzma.LZMAError as error:
                raise DeltaError(f"{self._origin}: damaged: what is packed cannot be expanded: {error}") from error
        if length and not found and (self._lzma.unused_data or self._packed.read(1)):
            raise DeltaError(f"{self._origin}: damaged: found more bytes behind what is packed")
        return found


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
            _make(body, self._block, places[0])
            return
        pieces = [block[place] for place in places]
        self._scratch[:] = b"".join(pieces)
        _make(body, self._scratch, slice(0, len(self._scratch)))
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


def _make(body: _Body, content: bytearray, group: slice) -> None:
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
        _add_digits(plane, packed, digits)
    _add_listed(plane, distances, values)
    content[place] = plane


# So many listed steps are added at once.
_LISTED_AT_ONCE = 1 << 12


def _add_listed(plane: bytearray, distances: bytes | memoryview, values: bytes | memoryview) -> None:
    """Add steps at places that are so far from each other.

    What Python does for each of them takes the time: so they are picked, added as one number, and put back, by
    functions that loop in C.
    """
    if 0 in distances[1:]:
        raise DeltaError("expected another place for each listed step; found a distance of 0")
    places = itertools.accumulate(distances)
    for start in range(0, len(values), _LISTED_AT_ONCE):
        some = list(itertools.islice(places, _LISTED_AT_ONCE))
        # With a place more there are always several, which is a tuple.
        listed = bytearray(operator.itemgetter(0, *some)(plane)[1:])
        add_bytes(listed, values[start : start + _LISTED_AT_ONCE])
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
