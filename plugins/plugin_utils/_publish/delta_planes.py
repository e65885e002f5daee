# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a plane of a delta is made of, and how its bytes are compressed: by bytes and by a device's time."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta_form as form

if TYPE_CHECKING:
    import numpy as np

    Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# What a device spends, in ns: on each byte that a codec makes and that it reads, on each byte that steps are added to,
# and on each listed step. That is three times what an x86-64 server does.
_CODEC_NS = {form.ZEROS: (0.0, 0.0), form.STORED: (0.0, 0.0), form.DEFLATE: (16.5, 0.0), form.LZMA: (9.0, 180.0)}
_ADDING_NS = 8.0
_LISTING_NS = 200.0
# What blocks that are packed as one cost more than planes, for each byte that is read.
_PACKING_NS = 60.0
# So much of its time is worth a byte less to fetch: what that takes at 40 Mbit/s.
_BYTE_NS = 200.0
# So many bytes of a stream cost nothing that matters.
_SMALL_BYTES = 1 << 12
# What is known of so much of a stream is taken to hold for all of it, where that saves time.
SAMPLE_BYTES = 1 << 16
# With more bits in a byte, nothing is tried that needs no repetitions.
_NOISE_BITS = 7.97
_DISTANCE_MAX = 255


class Stream(NamedTuple):
    """A compressed stream."""

    codec: int
    content: bytes
    expanded: int

    @property
    def cost(self) -> float:
        """Its bytes, and what it costs a device to expand them, as bytes."""
        made, read = _CODEC_NS[self.codec]
        spent = made * max(0, self.expanded - _SMALL_BYTES) + read * max(0, len(self.content) - _SMALL_BYTES)
        return len(self.content) + 3 + spent / _BYTE_NS

    def packed(self) -> bytes:
        """The stream as it is in a delta."""
        head = bytes([self.codec]) + varint(self.expanded)
        if self.codec not in (form.ZEROS, form.STORED):
            head += varint(len(self.content))
        return head + self.content


class Plane(NamedTuple):
    """The bytes at one place of all elements of a group: the kind, what says more of it, and its streams."""

    head: bytes
    streams: Sequence[Stream]
    making_ns: float = 0.0

    def packed(self) -> bytes:
        """The plane as it is in a delta."""
        return self.head + b"".join(stream.packed() for stream in self.streams)

    @property
    def cost(self) -> float:
        """What it costs, as bytes."""
        return len(self.head) + self.making_ns / _BYTE_NS + sum(stream.cost for stream in self.streams)


def best_plane(new: Bytes, old: Bytes | None) -> Plane:
    """The cheapest form of a plane."""
    literal = bytes([form.LITERAL])
    if old is None:
        return Plane(literal, [compress(new.tobytes())])
    steps = new - old
    found = list(_steps(steps))
    # Steps in a row are better by far where they are few, and not at all where they are many.
    if min((plane.cost for plane in found), default=len(new)) > 0.1 * len(new):
        found.append(Plane(bytes([form.DIFFERENCE]), [compress(steps.tobytes())], _ADDING_NS * len(steps)))
    if min(plane.cost for plane in found) > 0.5 * len(new):
        found.append(Plane(literal, [compress(new.tobytes())]))
    return min(found, key=lambda plane: plane.cost)


def _steps(steps: Bytes) -> Iterator[Plane]:
    """The forms of small steps: some in a byte, or all listed; each only where not too many have to be listed."""
    import numpy as np

    for count, radix in {0: 1, **form.RADIXES}.items():
        zero = radix // 2
        digits = steps + np.uint8(zero)
        places = _close_enough(np.nonzero(digits >= radix)[0])
        if len(places) > len(steps) // form.LISTED_SHARE:
            continue
        streams = []
        if count:
            size = -(-len(steps) // count)
            columns = np.full(count * size, zero, np.uint8)
            columns[: len(steps)] = np.where(digits < radix, digits, zero)
            powers = np.array([radix**place for place in range(count)], np.uint8)
            streams.append(compress((columns.reshape(count, size) * powers[:, None]).sum(0, np.uint8).tobytes()))
        distances = np.diff(places, prepend=0).astype(np.uint8)
        listed = np.where(digits[places] >= radix, steps[places], 0).astype(np.uint8)
        streams += [compress(distances.tobytes()), compress(listed.tobytes())]
        yield Plane(
            bytes([form.STEPS, count]), streams, (_ADDING_NS * len(steps) if count else 0) + _LISTING_NS * len(places)
        )


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


def varint(value: int) -> bytes:
    """A number, seven bits in a byte, the lowest first."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


# ---- codecs ----


def compress(content: bytes) -> Stream:
    """Compress a stream by the codec that makes it cheapest."""
    size = len(content)
    if content.count(0) == size:
        return Stream(form.ZEROS, b"", size)
    as_it_is = stored(content)
    sample = content[:SAMPLE_BYTES]
    if _bits(sample) > _NOISE_BITS and len(_deflate(sample, zlib.Z_DEFAULT_STRATEGY)) >= 0.99 * len(sample):
        return as_it_is
    found = [as_it_is]
    for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY):
        found.append(Stream(form.DEFLATE, _deflate(content, strategy), size))
    if size <= SAMPLE_BYTES or Stream(form.LZMA, _lzma(sample), len(sample)).cost < min(
        len(sample), *(len(_deflate(sample, strategy)) for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY))
    ):
        found.append(Stream(form.LZMA, _lzma(content), size))
    return min(found, key=lambda stream: stream.cost)


def stored(content: bytes) -> Stream:
    """A stream that is not compressed."""
    return Stream(form.STORED, content, len(content))


def packed_cost(size: int) -> float:
    """What blocks that are packed as one cost, as bytes: a device reads each byte by LZMA."""
    return size + _PACKING_NS * max(0, size - _SMALL_BYTES) / _BYTE_NS


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
