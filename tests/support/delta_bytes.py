# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deltas made byte by byte for a test, those that no program would write included."""

from __future__ import annotations

import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Sequence
from io import BufferedIOBase

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError
from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta_form as form
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta import apply_delta
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def stream(codec: int, content: bytes, expanded: int | None = None) -> bytes:
    """A stream of a block's body."""
    head = bytes([codec]) + varint(len(content) if expanded is None else expanded)
    return head + (varint(len(content)) if codec > form.STORED else b"") + content


def literal_plane(codec: int, content: bytes, expanded: int | None = None) -> bytes:
    return bytes([form.LITERAL]) + stream(codec, content, expanded)


def body(groups: Sequence[tuple[int, Sequence[bytes]]], table: bytes) -> bytes:
    """A block's body: the table of pieces; and groups of a width with planes."""
    return stream(form.STORED, table) + b"".join(bytes([width]) + b"".join(planes) for width, planes in groups)


def file_of(content: bytes) -> File:
    return File("model.onnx", len(content), hashlib.sha256(content).hexdigest())


def header_of(delta: bytes) -> form.Header:
    """What a delta says of itself, as ``docs/deltas.md`` describes it."""
    magic, prefix, packing, count = form.HEAD.unpack_from(delta)
    assert magic == form.MAGIC
    rest = iter(delta[form.HEAD.size :])
    size = next(form.varints(rest))
    bases = [(next(form.varints(rest)), bytes(next(rest) for _byte in range(32)).hex()) for _base in range(count)]
    return form.Header(size, prefix.hex(), packing, tuple(bases))


def delta_of(
    result: bytes, bodies: Sequence[bytes], bases: Sequence[bytes] = (), packing: int = form.STORED, cut: int = 0
) -> bytes:
    """A delta of these blocks, packed as one if ``packing`` says so; without the last ``cut`` bytes of that."""
    made = form.HEAD.pack(form.MAGIC, hashlib.sha256(result).digest()[: form.PREFIX_BYTES], packing, len(bases))
    made += varint(len(result))
    made += b"".join(varint(len(base)) + hashlib.sha256(base).digest() for base in bases)
    blocks = b"".join(varint(len(block)) + block for block in bodies)
    if packing == form.LZMA:
        blocks = lzma.compress(blocks, lzma.FORMAT_RAW, filters=list(form.PACKING_FILTERS))
    return made + blocks[: len(blocks) - cut]


def opened(*bases: bytes) -> Callable[[str, int], BufferedIOBase]:
    held = {hashlib.sha256(base).hexdigest(): base for base in bases}

    def open_base(sha256: str, size: int) -> BufferedIOBase:
        if len(held.get(sha256, b"")) != size:
            raise IntegrityError(f"{sha256}: not held")
        return io.BytesIO(held[sha256])

    return open_base


def applied(delta: bytes, result: bytes, *bases: bytes) -> bytes:
    made = bytearray()
    apply_delta(io.BytesIO(delta), file_of(result), opened(*bases), made.extend)
    return bytes(made)


def literal(content: bytes, codec: int = form.STORED, packed: bytes | None = None) -> bytes:
    """A block of one literal piece."""
    plane = literal_plane(codec, content if packed is None else packed, len(content))
    return body([(1, [plane])], varint(1 << 1) + varint(len(content)))


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def raw_lzma(content: bytes) -> bytes:
    return lzma.compress(content, lzma.FORMAT_RAW, filters=list(form.LZMA_FILTERS))
