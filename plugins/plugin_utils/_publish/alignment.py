# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Which bytes of an older file belong to which of a newer one: tensor by tensor, and by equal runs elsewhere."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .tensors import Tensor

if TYPE_CHECKING:
    import numpy as np

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]
    Words = np.ndarray[Any, np.dtype[np.uint64]]

# An equal run has at least so many bytes; it is found by this many that begin at a place of the older file that is
# a multiple of a stride. The stride grows with the file, so that there are not more places than this.
SEED_BYTES = 16
PLACES_MAX = 1 << 21
_CHUNK = 1 << 20
# More runs in a chunk are not worth their pieces, nor the time to find them.
RUNS_MAX = 4096
# So many bytes that were inserted between two runs are looked for.
_INSERTED_MAX = 32
# Shorter runs between bytes that changed are compared with them, as one: a piece of its own costs more, of a device's
# time too.
_COPIED_FROM = 256
# Bytes between two runs are taken to belong together where so many of them are equal.
_SIMILAR = 0.3
_ALIKE = 0.1
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)


@dataclass(frozen=True)
class Source:
    """A file with its tensors."""

    content: Bytes
    tensors: Sequence[Tensor] = ()


class Span(NamedTuple):
    """Bytes of the newer file: where they begin, how many, and where they come from; ``base`` is None if from nowhere.

    ``width`` is the number of bytes of an element, 0 where that is not known.
    """

    start: int
    length: int
    base: int | None
    offset: int
    width: int


def align(new: Source, bases: Sequence[Source]) -> list[Span]:
    """Cut the newer file into spans, in their order, that cover it."""
    spans = list(_tensor_spans(new, bases))
    spans = sorted([*spans, *_continued(new, spans, bases)])
    spans += _match(new.content, _between(_ranges(spans), len(new.content)), bases)
    return sorted(spans)


def _ranges(spans: Sequence[Span]) -> list[tuple[int, int]]:
    return [(span.start, span.start + span.length) for span in spans]


def _continued(new: Source, spans: Sequence[Span], bases: Sequence[Source]) -> Iterator[Span]:
    """Bytes behind a tensor, and at the begin, that are as they are there in the older file."""
    ends = {span.start + span.length: span for span in spans if span.base is not None}
    if bases:
        ends.setdefault(0, Span(0, 0, 0, 0, 0))
    for start, end in _between(_ranges(spans), len(new.content)):
        before = ends.get(start)
        if before is not None:
            offset = before.offset + before.length
            same = _equal(new.content[start:end], bases[before.base or 0].content[offset:])
            if same >= SEED_BYTES:
                yield Span(start, same, before.base, offset, 0)


def _between(taken: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """What is left of a file."""
    found = []
    position = 0
    for start, end in [*taken, (size, size)]:
        if start > position:
            found.append((position, start))
        position = max(position, end)
    return found


# ---- tensors ----


def _tensor_spans(new: Source, bases: Sequence[Source]) -> Iterator[Span]:
    """A span for each tensor: from one with the same bytes, else with the same name, else with the same size."""
    equal: dict[bytes, tuple[int, Tensor]] = {}
    named: dict[str, tuple[int, Tensor]] = {}
    for number, base in enumerate(bases):
        for tensor in base.tensors:
            equal.setdefault(_digest(base, tensor), (number, tensor))
            named.setdefault(tensor.name, (number, tensor))
    chosen: dict[Tensor, tuple[int, Tensor]] = {}
    for tensor in new.tensors:
        found = equal.get(_digest(new, tensor)) or named.get(tensor.name)
        if found is not None and found[1].width == tensor.width:
            chosen[tensor] = found
    others: dict[tuple[int, int], list[tuple[int, Tensor]]] = defaultdict(list)
    used = set(chosen.values())
    for number, base in enumerate(bases):
        for tensor in base.tensors:
            if (number, tensor) not in used:
                others[tensor.end - tensor.start, tensor.width].append((number, tensor))
    for tensor in new.tensors:
        size = tensor.end - tensor.start
        if tensor not in chosen and others[size, tensor.width]:
            chosen[tensor] = others[size, tensor.width].pop(0)
        if tensor not in chosen:
            yield Span(tensor.start, size, None, 0, tensor.width)
            continue
        number, old = chosen[tensor]
        shared = min(size, old.end - old.start) // tensor.width * tensor.width
        yield Span(tensor.start, shared, number, old.start, tensor.width)
        if size > shared:
            yield Span(tensor.start + shared, size - shared, None, 0, tensor.width)


def _digest(source: Source, tensor: Tensor) -> bytes:
    return hashlib.blake2b(source.content[tensor.start : tensor.end].data, digest_size=16).digest()


# ---- equal runs ----


class Seeds:
    """Where in the older files, outside of tensors that the newer file has, runs of some bytes begin."""

    def __init__(self, bases: Sequence[Source], everywhere: bool) -> None:
        import numpy as np

        ranges = []
        for number, base in enumerate(bases):
            taken = [] if everywhere else [(tensor.start, tensor.end) for tensor in base.tensors]
            ranges += [(number, *found) for found in _between(taken, len(base.content))]
        size = sum(end - start for _number, start, end in ranges)
        stride = 1 + size // PLACES_MAX
        hashes, places, numbers = [], [], []
        for number, start, end in ranges:
            found = _hashes(bases[number].content, start, end, stride)
            hashes.append(found)
            places.append(np.arange(start, start + stride * len(found), stride, dtype=np.int64))
            numbers.append(np.full(len(found), number, dtype=np.int16))
        self._hashes, self._places, self._numbers = (
            np.concatenate(parts) if parts else np.zeros(0, dtype)
            for parts, dtype in ((hashes, np.uint64), (places, np.int64), (numbers, np.int16))
        )
        self._chunk = (0, 0)
        self._found = self._found_places = np.zeros(0, np.int64)
        order = np.argsort(self._hashes, kind="stable")
        self._hashes, self._places, self._numbers = self._hashes[order], self._places[order], self._numbers[order]

    def __len__(self) -> int:
        return len(self._places)

    def find(self, content: Bytes, start: int, end: int, behind: int) -> tuple[int, int, int] | None:
        """The first position from ``start`` to ``end`` with a place that may have the same bytes: position, base,
        offset. What was found of a chunk is kept for the next call."""
        import numpy as np

        if not len(self._hashes):
            return None
        if self._chunk != (start, end):
            hashes = _hashes(content, start, end)
            # Numbers in their order are found many times quicker: the search stays in the processor's cache.
            order = np.argsort(hashes)
            index = np.empty(len(hashes), np.int64)
            index[order] = np.searchsorted(self._hashes, hashes[order])
            index = np.minimum(index, len(self._hashes) - 1)
            self._found = np.nonzero(self._hashes[index] == hashes)[0]
            self._found_places = index[self._found]
            self._chunk = (start, end)
        number = int(np.searchsorted(self._found, behind - start))
        if number == len(self._found):
            return None
        place = self._found_places[number]
        return start + int(self._found[number]), int(self._numbers[place]), int(self._places[place])


def _hashes(content: Bytes, start: int, end: int, stride: int = 1) -> Words:
    """A number for the run that begins at every so many-th position and ends before ``end``."""
    import numpy as np

    count = (end - start - SEED_BYTES) // stride + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    words = [
        np.ndarray((count,), "<u8", content.data, start + place, (stride,)) * np.uint64(factor)
        for place, factor in zip((0, SEED_BYTES - 8), _FACTORS, strict=True)
    ]
    return words[0] ^ (words[1] >> np.uint64(7))


def _match(new: Bytes, ranges: Sequence[tuple[int, int]], bases: Sequence[Source]) -> list[Span]:
    """Spans for ranges of the newer file that are no tensors."""
    everywhere = not any(base.tensors for base in bases)
    seeds = Seeds(bases, everywhere)
    spans: list[Span] = []
    for start, end in ranges:
        runs = list(_runs(new, start, end, bases, seeds))
        spans += _merged(list(_filled(new, start, end, runs, bases)), runs)
    return spans


def _runs(new: Bytes, start: int, end: int, bases: Sequence[Source], seeds: Seeds) -> Iterator[Span]:
    """Equal runs, in their order, that do not overlap."""
    position = behind = start
    last: Span | None = None
    for chunk in range(start, end, _CHUNK):
        until = min(end, chunk + _CHUNK + SEED_BYTES - 1)
        for _run in range(RUNS_MAX):
            found = seeds.find(new, chunk, until, max(behind, chunk))
            if found is None:
                break
            at, base, offset = found
            behind = at + 1
            if last is not None:
                base, offset = _continued_at(new, bases, at, last) or (base, offset)
            old = bases[base].content
            forward = _equal(new[at:end], old[offset:])
            if forward < SEED_BYTES:
                continue
            back = _equal(new[position:at][::-1], old[:offset][::-1])
            last = Span(at - back, back + forward, base, offset - back, 0)
            position = behind = at + forward
            yield last


def _continued_at(new: Bytes, bases: Sequence[Source], at: int, last: Span) -> tuple[int, int] | None:
    """The base and the offset where the older file goes on behind the last run, if it does so as the newer one.

    As far behind it, or nearer by what was inserted there.
    """
    wanted = bytes(new[at : at + SEED_BYTES])
    old = bases[last.base or 0].content
    for inserted in range(min(at - last.start - last.length, _INSERTED_MAX) + 1):
        offset = last.offset + at - last.start - inserted
        if bytes(old[offset : offset + SEED_BYTES]) == wanted:
            return last.base or 0, offset
    return None


def _equal(left: Bytes, right: Bytes) -> int:
    """How many bytes are the same at the begin of both."""
    size = min(len(left), len(right))
    position, step = 0, 64
    while position < size:
        step = min(step * 4, _CHUNK)
        same = left[position : min(size, position + step)] == right[position : min(size, position + step)]
        if not same.all():
            return position + int(same.argmin())
        position += step
    return size


def _filled(new: Bytes, start: int, end: int, runs: Sequence[Span], bases: Sequence[Source]) -> Iterator[Span]:
    """The runs of a range, and spans for what is between them: as far from an older file's as a neighbour is."""
    if not runs:
        yield from _whole(new, start, end, bases)
        return
    position = start
    before: Span | None = None
    for run in [*runs, None]:
        until = run.start if run is not None else end
        if until > position:
            yield _gap(new, position, until, [near for near in (before, run) if near is not None], bases)
        if run is not None:
            yield run
            position, before = run.start + run.length, run


def _merged(spans: Sequence[Span], runs: Collection[Span]) -> Iterator[Span]:
    """The spans, where what changed here and there is one, with the short runs between.

    So are bytes between two runs that all changed, if the older file has as many there.
    """
    equal = set(runs)
    changed: Span | None = None
    for number, span in enumerate(spans):
        if span.base is None and span.length < _COPIED_FROM and 0 < number < len(spans) - 1:
            before, after = spans[number - 1], spans[number + 1]
            if _moved(before) == _moved(after):
                span = span._replace(base=before.base, offset=before.offset + before.length)
        if (
            changed is not None
            and _moved(span) == _moved(changed)
            and (span not in equal or span.length < _COPIED_FROM)
        ):
            changed = changed._replace(length=changed.length + span.length)
            continue
        if changed is not None:
            yield changed
        changed = None if span in equal or span.base is None else span
        if changed is None:
            yield span
    if changed is not None:
        yield changed


def _moved(span: Span) -> tuple[int | None, int]:
    """Where its bytes come from, and how far they moved."""
    return span.base, span.offset - span.start


def _gap(new: Bytes, start: int, end: int, near: Sequence[Span], bases: Sequence[Source]) -> Span:
    best, most = Span(start, end - start, None, 0, 0), _SIMILAR
    for span in near:
        offset = span.offset + start - span.start
        same = _similarity(new[start:end], bases[span.base or 0].content, offset)
        if same > most:
            best, most = Span(start, end - start, span.base, offset, 0), same
    return best


def _whole(new: Bytes, start: int, end: int, bases: Sequence[Source]) -> Iterator[Span]:
    """A span for a range without any equal run: dense changes of a file whose form is not known."""
    best, most = Span(start, end - start, None, 0, 0), _ALIKE
    for number, base in enumerate(bases):
        # As far from the begin, and as far from the end.
        for offset in (start, start + len(base.content) - len(new)):
            same = _similarity(new[start : start + _CHUNK], base.content, offset)
            if same > most:
                length = min(end - start, len(base.content) - offset)
                best, most = Span(start, length, number, offset, 0), same
    yield best
    if best.length < end - start:
        yield Span(start + best.length, end - start - best.length, None, 0, 0)


def _similarity(new: Bytes, old: Bytes, offset: int) -> float:
    """Which share of the bytes is the same as in the older file from ``offset``."""
    if offset < 0 or offset + len(new) > len(old) or not len(new):
        return 0.0
    return float((new == old[offset : offset + len(new)]).mean())
