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
import lzma
from io import BufferedIOBase
from typing import BinaryIO, Callable, Generator, Iterator, Protocol, Sequence

from .._common.errors import with_path
from .._common.hashing import BLOCK_BYTES
from .delta_block import BlockDecoder
from .delta_form import BASES_MAX, HEAD, LZMA, MAGIC, PACKING_FILTERS, STORED, DeltaError, Header, varints
from .release import File

# What a block needs beside its bytes, if nothing of it can be compressed.
_BODY_BYTES_MAX = BLOCK_BYTES + (1 << 19)
_DIGEST_BYTES = 32
_PACKED_BYTES = 1 << 16


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
