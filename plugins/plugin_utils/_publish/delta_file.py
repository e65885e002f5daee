# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Writing a delta: each block by what makes it smallest, found by trying. ``docs/deltas.md`` describes the form."""

from __future__ import annotations

import hashlib
import itertools
import lzma
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta_form as form

from .alignment import Source, Span, align
from .delta_planes import SAMPLE_BYTES, Plane, best_plane, compress, packed_cost, stored, varint

if TYPE_CHECKING:
    import numpy as np

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# Within a span, runs of equal bytes of this size are copied; where so many of the other bytes changed, shorter ones, as
# a row of weights that a fine-tune left alone: among noise they keep planes from being stored as they are.
_RUN_BYTES, _RUN_BYTES_DENSE = 4096, 512
_DENSE = 1 / 8
_WIDTHS_TRIED = (1, 2, 4)
# Of less, where nothing is known of its elements, single bytes are taken.
_ELEMENTS_FROM = 256
# In what is packed, less is not compared with a base.
_COMPARED_FROM = 64
# Nothing is packed any longer that has become so much larger than planes.
_PACKED_MORE_MAX = 1 << 20


@dataclass
class _Part:
    """Some bytes of a block, with the older ones that they are compared with."""

    new: Bytes
    old: Bytes | None
    base: int
    offset: int


@dataclass
class _Kind:
    """Parts of a block that have the same kind of elements, which are made in one go."""

    width: int
    compared: bool
    group: int
    parts: list[_Part] = field(default_factory=list)


def write_delta(new: Source, bases: Sequence[tuple[str, Source]]) -> Iterator[bytes]:
    """Make a delta of ``new`` from ``bases``, each with its SHA-256. Returns its bytes in parts.

    Without any base it is the file itself, compressed.
    """
    size = len(new.content)
    digest = hashlib.sha256(new.content.data).digest()
    with tempfile.TemporaryFile() as planes, tempfile.TemporaryFile() as packed:
        packing = _write_blocks(new, [base for _sha256, base in bases], planes, packed)
        yield form.HEAD.pack(form.MAGIC, digest[: form.PREFIX_BYTES], packing, len(bases)) + varint(size)
        for sha256, base in bases:
            yield varint(len(base.content)) + bytes.fromhex(sha256)
        chosen = packed if packing == form.LZMA else planes
        chosen.seek(0)
        yield from iter(lambda: chosen.read(BLOCK_BYTES), b"")


def _write_blocks(new: Source, bases: Sequence[Source], planes: BinaryIO, packed: BinaryIO) -> int:
    """Write all blocks in both ways, one into each file, and return the packing of the one to take.

    Planes, each with its own codec, suit weights. Where there is much else, and much of it repeats from block to block
    (a forest, names of tensors), all blocks as they are, packed as one, are less.
    """
    packer: lzma.LZMACompressor | None = lzma.LZMACompressor(
        lzma.FORMAT_RAW, filters=[{**packing, "preset": lzma.PRESET_EXTREME | 9} for packing in form.PACKING_FILTERS]
    )
    for start, parts in _blocks(new, bases):
        for file, body in ((planes, _block), (packed, _block_to_pack)):
            if file is packed and packer is None:
                continue
            content = body(start, parts) if parts else b""
            content = varint(len(content)) + content
            file.write(packer.compress(content) if file is packed and packer is not None else content)
        if packed.tell() > planes.tell() + _PACKED_MORE_MAX:
            packer = None
    if packer is None:
        return form.STORED
    packed.write(packer.flush())
    return form.LZMA if packed_cost(packed.tell()) < planes.tell() else form.STORED


def _blocks(new: Source, bases: Sequence[Source]) -> Iterator[tuple[int, list[tuple[int, _Part]]]]:
    """Where each block begins, and its parts; none where the last copy goes on."""
    size = len(new.content)
    contents = [base.content for base in bases]
    spans = align(new, bases)
    first = 0
    follows = (0, 0)
    for start in range(0, size, BLOCK_BYTES):
        end = min(size, start + BLOCK_BYTES)
        while spans[first].start + spans[first].length <= start:
            first += 1
        within = []
        for span in spans[first:]:
            if span.start >= end:
                break
            within.append(span)
        found = (part for span in within for part in _parts(new.content, start, end, span, contents))
        parts = list(_joined(found, contents))
        if len(parts) > form.PIECES_MAX:
            parts = [(0, _Part(new.content[start:end], None, 0, 0))]
        goes_on = len(parts) == 1 and parts[0][0] < 0 and (parts[0][1].base, parts[0][1].offset) == follows
        for _width, part in parts:
            if part.old is not None:
                follows = (part.base, part.offset + len(part.new))
        yield start, [] if goes_on else parts


def _joined(parts: Iterable[tuple[int, _Part]], bases: Sequence[Bytes]) -> Iterator[tuple[int, _Part]]:
    """The parts, where copies that follow each other in their base too are one."""
    copied: _Part | None = None
    for width, part in parts:
        if copied is not None:
            end = copied.offset + len(copied.new)
            if width < 0 and (part.base, part.offset) == (copied.base, end):
                both = bases[part.base][copied.offset : part.offset + len(part.new)]
                copied = _Part(both, both, copied.base, copied.offset)
                continue
            yield -1, copied
        copied = part if width < 0 else None
        if width >= 0:
            yield width, part
    if copied is not None:
        yield -1, copied


def _block(start: int, parts: Sequence[tuple[int, _Part]]) -> bytes:
    """The body of the block that begins at ``start`` and has these parts."""
    table, groups = _table(start, parts)
    return compress(table).packed() + b"".join(_group(found) for found in groups)


def _block_to_pack(start: int, parts: Sequence[tuple[int, _Part]]) -> bytes:
    """The same, of single bytes and without any codec."""
    table, groups = _table(start, list(_without_short_differences(parts)))
    return stored(table).packed() + b"".join(_bytes_group(found) for found in groups)


def _without_short_differences(parts: Iterable[tuple[int, _Part]]) -> Iterator[tuple[int, _Part]]:
    """The parts as single bytes, where few bytes that differ from a base's are taken as they are: they repeat, and
    the differences do not."""
    import numpy as np

    def as_it_is(item: tuple[int, _Part]) -> bool:
        width, part = item
        return part.old is None or (width >= 0 and len(part.new) < _COMPARED_FROM)

    for whole, found in itertools.groupby(parts, as_it_is):
        if whole:
            yield 1, _Part(np.concatenate([part.new for _width, part in found]), None, 0, 0)
        else:
            yield from ((min(width, 1), part) for width, part in found)


def _table(start: int, parts: Sequence[tuple[int, _Part]]) -> tuple[bytes, Collection[_Kind]]:
    """The table of a block's pieces, and its groups in their order."""
    classes: dict[tuple[int, bool], _Kind] = {}
    group_of: dict[int, int] = {}
    for number, (width, part) in enumerate(parts):
        if width >= 0:
            key = (width, part.old is not None)
            found = classes.setdefault(key, _Kind(*key, group=1 + len(classes)))
            found.parts.append(part)
            group_of[number] = found.group
    table = bytearray()
    expected: dict[int, int] = {}
    for number, (_width, part) in enumerate(parts):
        table += varint(group_of.get(number, 0) << 1 | (part.old is not None))
        table += varint(len(part.new))
        if part.old is not None:
            moved = part.offset - expected.get(part.base, start)
            expected[part.base] = part.offset + len(part.new)
            table += varint(part.base)
            table += varint(moved << 1 if moved >= 0 else (-moved << 1) - 1)
    return bytes(table), classes.values()


def _parts(new: Bytes, start: int, end: int, span: Span, bases: Sequence[Bytes]) -> Iterator[tuple[int, _Part]]:
    """The parts of a span within a block, each with the width of its elements: -1 for a copy, 0 if it is not known."""
    begin, until = max(span.start, start), min(span.start + span.length, end)
    if span.base is None:
        yield from _whole_elements(_Part(new[begin:until], None, 0, 0), begin, span)
        return
    moved = span.offset - span.start
    old = bases[span.base]
    for first, last, equal in _runs(new[begin:until], old[begin + moved : until + moved], begin - span.start):
        at = begin + moved + first
        part = _Part(new[begin + first : begin + last], old[at : at + last - first], span.base, at)
        if equal:
            yield -1, part
        else:
            yield from _whole_elements(part, begin + first, span)


def _runs(new: Bytes, old: Bytes, phase: int) -> Iterator[tuple[int, int, bool]]:
    """Cut bytes into runs that are equal and runs that are not. They are cut where an element of the span ends."""
    import numpy as np

    different = new != old
    for size in (_RUN_BYTES_DENSE, _RUN_BYTES):
        edges = np.array([0, *range(-phase % size or size, len(new), size), len(new)])
        counts = np.add.reduceat(different, edges[:-1], dtype=np.int64)
        same = counts == 0
        if counts.sum() >= _DENSE * np.diff(edges)[~same].sum():
            break
    turns = np.nonzero(same[1:] != same[:-1])[0] + 1
    for first, last in itertools.pairwise([0, *turns, len(same)]):
        yield int(edges[first]), int(edges[last]), bool(same[first])


def _whole_elements(part: _Part, position: int, span: Span) -> Iterator[tuple[int, _Part]]:
    """Cut what is no whole element off both ends; where an element is not known, of eight bytes of the file."""
    if not span.width and len(part.new) < _ELEMENTS_FROM:
        yield 1, part
        return
    width = span.width or max(_WIDTHS_TRIED)
    head = -(position - (span.start if span.width else 0)) % width
    tail = (len(part.new) - head) % width if len(part.new) > head else 0
    middle = len(part.new) - tail
    for begin, end, wide in (
        (0, min(head, middle), 1),
        (head, middle, span.width),
        (max(head, middle), len(part.new), 1),
    ):
        if end > begin:
            old = None if part.old is None else part.old[begin:end]
            yield wide, _Part(part.new[begin:end], old, part.base, part.offset + begin)


def _group(found: _Kind) -> bytes:
    """The smallest form of some parts, by elements of the width that suits them best."""
    new, old = _both(found)
    widths = [found.width] if found.width else [width for width in _WIDTHS_TRIED if len(new) % width == 0]
    if len(widths) > 1:
        sample = None if old is None else old[:SAMPLE_BYTES]
        widths.sort(key=lambda width: sum(plane.cost for plane in _planes(new[:SAMPLE_BYTES], sample, width)))
    made = bytearray([widths[0]])
    for plane in _planes(new, old, widths[0]):
        made += plane.packed()
    return bytes(made)


def _bytes_group(found: _Kind) -> bytes:
    """Some parts as single bytes: as they are, or the difference."""
    new, old = _both(found)
    kind, content = (form.LITERAL, new) if old is None else (form.DIFFERENCE, new - old)
    return bytes([1, kind]) + stored(content.tobytes()).packed()


def _both(found: _Kind) -> tuple[Bytes, Bytes | None]:
    import numpy as np

    new = np.concatenate([part.new for part in found.parts])
    return new, np.concatenate([part.old for part in found.parts if part.old is not None]) if found.compared else None


def _planes(new: Bytes, old: Bytes | None, width: int) -> list[Plane]:
    return [
        best_plane(new[place::width].copy(), None if old is None else old[place::width].copy())
        for place in range(width)
    ]
