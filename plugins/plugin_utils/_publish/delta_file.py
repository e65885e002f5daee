# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Writing a delta: each block by what makes it smallest, found by trying. ``docs/deltas.md`` describes the form."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta as form

from .alignment import Source, Span, align

if TYPE_CHECKING:
    import numpy as np

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# Within a span, runs of equal bytes of this size are copied.
_RUN_BYTES = 4096
# A slower codec has to save this share of what it makes: it costs every device time.
_SLOW_CODECS_SAVE = 0.01
# Slow codecs are tried on so much of a stream before they are tried on all of it.
_SAMPLE = 1 << 16
# With more bits in a byte, nothing is tried that needs no repetitions.
_NOISE_BITS = 7.97
_WIDTHS_TRIED = (1, 2, 4)
# Where a difference takes a larger share, the bytes themselves may take less.
_POOR = 0.7
_DISTANCE_MAX = 255


class Stream(NamedTuple):
    """A compressed stream."""

    codec: int
    content: bytes
    expanded: int


@dataclass
class _Part:
    """Some bytes of a block, with the older ones that they are compared with."""

    new: Bytes
    old: Bytes | None
    base: int
    offset: int


@dataclass
class _Group:
    """Parts of a block that are made in one go."""

    kind: int
    width: int
    streams: list[Stream]

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return 2 + sum(9 + len(stream.content) for stream in self.streams)


@dataclass
class _Kind:
    """Parts of a block that have the same kind of elements."""

    width: int
    compared: bool
    parts: list[tuple[int, _Part]] = field(default_factory=list)


def write_delta(new: Source, bases: Sequence[tuple[str, Source]]) -> Iterator[bytes]:
    """Make a delta of ``new`` from ``bases``, each with its SHA-256. Returns its bytes in parts.

    Without any base it is the file itself, compressed.
    """
    size = len(new.content)
    digest = hashlib.sha256(new.content.data).digest()
    yield form.HEAD.pack(form.MAGIC, size, digest, len(bases))
    for sha256, base in bases:
        yield form.BASE.pack(len(base.content), bytes.fromhex(sha256))
    contents = [base.content for _sha256, base in bases]
    spans = align(new, [base for _sha256, base in bases])
    first = 0
    for start in range(0, size, BLOCK_BYTES):
        end = min(size, start + BLOCK_BYTES)
        while spans[first].start + spans[first].length <= start:
            first += 1
        within = []
        for span in spans[first:]:
            if span.start >= end:
                break
            within.append(span)
        body = _block(new.content, start, end, within, contents)
        yield form.FRAME.pack(len(body), zlib.crc32(new.content[start:end].data)) + body


def _block(new: Bytes, start: int, end: int, spans: Sequence[Span], bases: Sequence[Bytes]) -> bytes:
    """The body of the block of these bytes."""
    parts = [part for span in spans for part in _parts(new, start, end, span, bases)]
    if len(parts) > form.PIECES_MAX:
        parts = [(0, _Part(new[start:end], None, 0, 0))]
    classes: dict[tuple[int, bool], _Kind] = {}
    for number, (width, part) in enumerate(parts):
        if width >= 0:
            key = (width, part.old is not None)
            classes.setdefault(key, _Kind(*key)).parts.append((number, part))
    groups: list[_Group] = []
    group_of: dict[int, int] = {}
    for found in classes.values():
        groups.append(_best_group(found))
        group_of.update({number: len(groups) for number, _part in found.parts})
    table = bytearray()
    expected: dict[int, int] = {}
    for number, (_width, part) in enumerate(parts):
        group = group_of.get(number, 0)
        has_base = group == 0 or groups[group - 1].kind != form.LITERAL
        _put_varint(table, group << 1 | has_base)
        _put_varint(table, len(part.new))
        if has_base:
            moved = part.offset - expected.get(part.base, start)
            expected[part.base] = part.offset + len(part.new)
            _put_varint(table, part.base)
            _put_varint(table, moved << 1 if moved >= 0 else (-moved << 1) - 1)
    packed_table = compress(bytes(table))
    body = bytearray([len(groups)])
    for made in groups:
        body += form.GROUP.pack(made.kind, made.width)
        for stream in made.streams:
            body += form.STREAM.pack(stream.codec, len(stream.content), stream.expanded)
    body += form.STREAM.pack(packed_table.codec, len(packed_table.content), packed_table.expanded)
    body += packed_table.content
    for made in groups:
        for stream in made.streams:
            body += stream.content
    return bytes(body)


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
    first = -phase % _RUN_BYTES
    edges = [0, *range(first or _RUN_BYTES, len(new), _RUN_BYTES), len(new)]
    different = new != old
    if not different.any():
        yield 0, len(new), True
        return
    begin, equal = 0, not different[: edges[1]].any()
    for left, right in zip(edges[1:], edges[2:], strict=False):
        same = not different[left:right].any()
        if same != equal:
            yield begin, left, equal
            begin, equal = left, same
    yield begin, len(new), equal


def _whole_elements(part: _Part, position: int, span: Span) -> Iterator[tuple[int, _Part]]:
    """Cut what is no whole element off both ends; where an element is not known, of eight bytes of the file."""
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


def _best_group(found: _Kind) -> _Group:
    import numpy as np

    new = np.concatenate([part.new for _number, part in found.parts])
    old = np.concatenate([part.old for _number, part in found.parts if part.old is not None] or [new[:0]])
    # What is known of the first bytes is taken to hold for the others.
    width = found.width or min(_WIDTHS_TRIED, key=lambda width: _group_of(new[:_SAMPLE], old[:_SAMPLE], width).size)
    return _group_of(new, old, width)


def _group_of(new: Bytes, old: Bytes, width: int) -> _Group:
    """The smallest group with elements of so many bytes; there is nothing to compare with where ``old`` is empty."""
    groups: list[_Group] = []
    if len(old):
        groups += _steps(new - old) if width == 1 else []
        if not groups:
            groups.append(_Group(form.DIFFERENCE, width, _planes(_zigzag(new, old, width), width)))
    if not groups or min(group.size for group in groups) > _POOR * len(new):
        for each in sorted({1, width}):
            groups.append(_Group(form.LITERAL, each, _planes(new, each)))
    return min(groups, key=lambda group: group.size)


def _zigzag(new: Bytes, old: Bytes, width: int) -> Bytes:
    """The differences of the elements: 0, -1, 1, -2 … spelled 0, 1, 2, 3 …"""
    steps = (new.view(f"<u{width}") - old.view(f"<u{width}")).view(f"<i{width}")
    spelled = (steps << 1) ^ (steps >> (8 * width - 1))
    made: Bytes = spelled.astype(f"<i{width}", copy=False).view("u1")
    return made


def _planes(content: Bytes, width: int) -> list[Stream]:
    """A stream for the first byte of all elements, one for the second, and so on."""
    return [compress(content[place::width].tobytes()) for place in range(width)]


def _steps(steps: Bytes) -> Iterator[_Group]:
    """The two forms of small steps: five in a byte, or all listed; each only where not too many have to be listed."""
    import numpy as np

    small = (steps == 1) | (steps == 255)
    changed = steps != 0
    for listed, packs in ((changed & ~small, True), (changed, False)):
        if listed.sum() > len(steps) // (2 * form.LISTED_SHARE):
            continue
        count = -(-len(steps) // form.TRITS)
        trits = np.zeros(count * form.TRITS, np.uint8)
        if packs:
            trits[: len(steps)] = np.where(small, np.where(steps == 1, 2, 1), 0)
        powers = 3 ** np.arange(form.TRITS)
        packed = (trits.reshape(-1, form.TRITS) * powers).sum(axis=1).astype(np.uint8)
        places = _close_enough(np.nonzero(listed)[0])
        if len(places) > len(steps) // form.LISTED_SHARE:
            continue
        distances = np.diff(places, prepend=0).astype(np.uint8)
        streams = [compress(part.tobytes()) for part in (packed, distances, steps[places])]
        yield _Group(form.STEPS, 1, streams)


def _close_enough(places: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The places, with others between those that are farther apart than a byte can say."""
    import numpy as np

    gaps = np.diff(places, prepend=0)
    far = np.nonzero(gaps > _DISTANCE_MAX)[0]
    more = [
        np.arange(places[number] - gaps[number] + _DISTANCE_MAX, places[number], _DISTANCE_MAX, dtype=np.int64)
        for number in far
    ]
    return np.unique(np.concatenate([places, *more])) if more else places


def _put_varint(target: bytearray, value: int) -> None:
    while value > 0x7F:
        target.append(value & 0x7F | 0x80)
        value >>= 7
    target.append(value)


# ---- codecs ----


def compress(content: bytes) -> Stream:
    """Compress a stream by the codec that makes it smallest; a slower one has to save more."""
    size = len(content)
    if content.count(0) == size:
        return Stream(form.ZEROS, b"", size)
    sample = content[:_SAMPLE]
    if _bits(sample) > _NOISE_BITS and len(_deflate(sample, zlib.Z_DEFAULT_STRATEGY)) >= 0.99 * len(sample):
        return Stream(form.STORED, content, size)
    best = Stream(form.STORED, content, size)
    for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY):
        found = _deflate(content, strategy)
        if len(found) < len(best.content):
            best = Stream(form.DEFLATE, found, size)
    quick = min(len(_deflate(sample, zlib.Z_HUFFMAN_ONLY)), len(_deflate(sample, zlib.Z_DEFAULT_STRATEGY)), len(sample))
    for codec, pack in ((form.BZIP2, bz2.compress), (form.LZMA, _lzma)):
        if size > _SAMPLE and len(pack(sample)) > quick - _SLOW_CODECS_SAVE * len(sample):
            continue
        found = pack(content)
        if len(found) < len(best.content) - (_SLOW_CODECS_SAVE * size if best.codec < form.BZIP2 else 0):
            best = Stream(codec, found, size)
    return best


def _deflate(content: bytes, strategy: int) -> bytes:
    packer = zlib.compressobj(9 if strategy == zlib.Z_DEFAULT_STRATEGY else 6, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(content) + packer.flush()


def _lzma(content: bytes) -> bytes:
    return lzma.compress(content, lzma.FORMAT_RAW, filters=list(form.LZMA_FILTERS))


def _bits(content: bytes) -> float:
    """The bits of a byte on average, each coded by how often it is there."""
    import numpy as np

    counts = np.bincount(np.frombuffer(content, np.uint8), minlength=256)
    shares = counts[counts > 0] / len(content)
    return float(-(shares * np.log2(shares)).sum())
