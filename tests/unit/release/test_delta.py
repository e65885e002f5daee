# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deltas as a device applies them: what they make, and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import random
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from io import BufferedIOBase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta as form
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta import (
    DeltaError,
    apply_delta,
    read_header,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File

Change = Callable[[bytearray], object]


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


RESULT = random.Random(1).randbytes(3000)
BASE = random.Random(2).randbytes(5000)


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def raw_lzma(content: bytes) -> bytes:
    return lzma.compress(content, lzma.FORMAT_RAW, filters=list(form.LZMA_FILTERS))


@pytest.mark.parametrize(
    ("codec", "pack"),
    [(form.STORED, bytes), (form.DEFLATE, raw_deflate), (form.LZMA, raw_lzma)],
)
def test_each_codec_gives_back_what_was_packed(codec: int, pack: Callable[[bytes], bytes]) -> None:
    assert applied(delta_of(RESULT, [literal(RESULT, codec, pack(RESULT))]), RESULT) == RESULT


def test_a_copy_takes_bytes_of_each_base_from_where_it_says() -> None:
    other = bytes(range(200))
    result = BASE[100:300] + other[50:] + BASE[300:310] + bytes(40)
    table = b"".join(
        [
            varint(1) + varint(200) + varint(0) + varint(100 << 1),
            varint(1) + varint(150) + varint(1) + varint(50 << 1),
            varint(1) + varint(10) + varint(0) + varint(0),
            varint(1 << 1) + varint(40),
        ]
    )
    block = body([(1, [literal_plane(form.ZEROS, b"", 40)])], table)
    assert applied(delta_of(result, [block], [BASE, other]), result, BASE, other) == result


def test_a_block_without_a_body_goes_on_where_the_last_copy_ended() -> None:
    base = random.Random(6).randbytes(3 * BLOCK_BYTES)
    result = b"new" + base[: 2 * BLOCK_BYTES + 100]
    table = varint(1 << 1) + varint(3) + varint(1) + varint(BLOCK_BYTES - 3) + varint(0) + varint(0)
    first = body([(1, [literal_plane(form.STORED, b"new")])], table)
    assert applied(delta_of(result, [first, b"", b""], [base]), result, base) == result
    assert applied(delta_of(base, [b""] * 3, [base]), base, base) == base


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8])
def test_a_difference_is_added_byte_by_byte_and_carries_into_no_other(width: int) -> None:
    random_ = random.Random(width)
    base, result = (bytes(random_.choice((0, 255, 128, 127, 7)) for _byte in range(50 * width)) for _file in range(2))
    steps = bytes((after - before) % 256 for before, after in zip(base, result, strict=True))
    planes = [bytes([form.DIFFERENCE]) + stream(form.STORED, steps[place::width]) for place in range(width)]
    block = body([(width, planes)], varint(1 << 1 | 1) + varint(50 * width) + varint(0) + varint(0))
    assert applied(delta_of(result, [block], [base]), result, base) == result


def test_planes_are_made_each_in_its_own_way() -> None:
    base = bytes([1, 2, 3, 4] * 8)
    result = bytes(value for number in range(8) for value in (number, 2 + number, 2, 4))
    planes = [
        literal_plane(form.STORED, bytes(range(8))),
        bytes([form.DIFFERENCE]) + stream(form.STORED, bytes(range(8))),
        bytes([form.STEPS, 4]) + stream(form.STORED, b"\x55\x55") + stream(form.ZEROS, b"") * 2,
        bytes([form.STEPS, 0]) + stream(form.ZEROS, b"") * 2,
    ]
    block = body([(4, planes)], varint(1 << 1 | 1) + varint(32) + varint(0) + varint(0))
    assert applied(delta_of(result, [block], [base]), result, base) == result


def test_pieces_without_a_base_are_compared_with_zeros() -> None:
    result = bytes(20) + b"\x00\x01" * 4
    planes = [bytes([form.STEPS, 0]) + stream(form.ZEROS, b"") * 2, literal_plane(form.STORED, b"\x01" * 4)]
    block = body([(2, planes)], varint(0) + varint(20) + varint(1 << 1) + varint(8))
    assert applied(delta_of(result, [block]), result) == result


@pytest.mark.parametrize("size", [1, 41, 4 * 32768 + 7])
@pytest.mark.parametrize("digits", form.RADIXES)
def test_steps_of_each_radix_are_digits_in_a_byte(digits: int, size: int) -> None:
    radix = form.RADIXES[digits]
    random_ = random.Random(digits)
    base = random_.randbytes(size)
    chosen = [random_.randrange(radix) for _byte in base]
    count = -(-len(base) // digits)
    columns = chosen + [0] * (count * digits - len(base))
    packed = bytes(
        sum(columns[place * count + number] * radix**place for place in range(digits)) for number in range(count)
    )
    result = bytes((before + digit - radix // 2) % 256 for before, digit in zip(base, chosen, strict=True))
    plane = bytes([form.STEPS, digits]) + stream(form.STORED, packed) + stream(form.ZEROS, b"") * 2
    block = body([(1, [plane])], varint(1 << 1 | 1) + varint(len(base)) + varint(0) + varint(0))
    assert applied(delta_of(result, [block], [base]), result, base) == result


def test_steps_that_are_no_digits_are_listed() -> None:
    base = bytes([10, 0, 255, 7, 7, 7, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    result = bytes([10, 255, 0, 8, 7, 7, 60, 1, 1, 1, 1, 1, 1, 1, 1, 0])
    # Each of four bytes has a step of each of four parts; 0, -1 and +1 are the digits 2, 1 and 3.
    packed = bytes([0b10101010, 0b10101001, 0b10101011, 0b10101011])
    plane = bytes([form.STEPS, 4]) + b"".join(stream(form.STORED, part) for part in (packed, b"\x06\x09", b"\x33\xff"))
    block = body([(1, [plane])], varint(1 << 1 | 1) + varint(16) + varint(0) + varint(0))
    assert applied(delta_of(result, [block], [base]), result, base) == result


def test_more_steps_than_are_added_at_once_are_listed() -> None:
    """With one at the first place, and one at the last."""
    count = form._LISTED_AT_ONCE + 2
    base = random.Random(6).randbytes(9 * (count - 1) + 1)
    steps = random.Random(7).randbytes(count)
    result = bytearray(base)
    for number, step in enumerate(steps):
        result[9 * number] = (result[9 * number] + step) % 256
    distances = bytes([0]) + bytes([9]) * (count - 1)
    plane = bytes([form.STEPS, 0]) + stream(form.STORED, distances) + stream(form.STORED, steps)
    block = body([(1, [plane])], varint(1 << 1 | 1) + varint(len(base)) + varint(0) + varint(0))
    assert applied(delta_of(bytes(result), [block], [base]), bytes(result), base) == result


def test_pieces_that_follow_each_other_in_their_base_are_read_at_once() -> None:
    """A copy, what is compared, bytes without a base, and a copy from where the last one ended and from elsewhere."""

    class Counted(io.BytesIO):
        def readinto(self, target: Any) -> int:
            reads.append(len(target))
            return super().readinto(target)

    reads: list[int] = []
    steps = bytes(range(50))
    changed = bytes((old + step) % 256 for old, step in zip(BASE[100:150], steps, strict=True))
    result = BASE[:100] + changed + BASE[150:400] + b"new" + BASE[400:500] + BASE[4000:5000]
    table = varint(1) + varint(100) + varint(0) + varint(0)
    table += varint(1 << 1 | 1) + varint(50) + varint(0) + varint(0)
    table += varint(1) + varint(250) + varint(0) + varint(0) + varint(2 << 1) + varint(3)
    table += varint(1) + varint(100) + varint(0) + varint(0) + varint(1) + varint(1000) + varint(0) + varint(3500 << 1)
    difference = bytes([form.DIFFERENCE]) + stream(form.STORED, steps)
    block = body([(1, [difference]), (1, [literal_plane(form.STORED, b"new")])], table)
    made = bytearray()
    apply_delta(
        io.BytesIO(delta_of(result, [block], [BASE])), file_of(result), lambda *_base: Counted(BASE), made.extend
    )
    assert made == result
    assert reads == [400, 100, 1000]


def test_a_file_of_several_blocks_is_written_block_by_block() -> None:
    result = random.Random(3).randbytes(2 * BLOCK_BYTES + 5)
    bodies = [literal(result[start : start + BLOCK_BYTES]) for start in range(0, len(result), BLOCK_BYTES)]
    sizes = []
    delta = io.BytesIO(delta_of(result, bodies))
    apply_delta(delta, file_of(result), opened(), lambda block: sizes.append(len(block)))
    assert sizes == [BLOCK_BYTES, BLOCK_BYTES, 5]


def test_the_last_block_is_written_only_if_the_whole_is_right() -> None:
    wrong = random.Random(3).randbytes(2 * BLOCK_BYTES)
    right = bytes(BLOCK_BYTES) + wrong[BLOCK_BYTES:]
    delta = io.BytesIO(delta_of(right, [literal(wrong[:BLOCK_BYTES]), literal(wrong[BLOCK_BYTES:])]))
    written: list[bytes] = []
    with pytest.raises(DeltaError, match=f"expected SHA-256 {file_of(right).sha256}; made {file_of(wrong).sha256}"):
        apply_delta(delta, file_of(right), opened(), lambda block: written.append(bytes(block)))
    assert written == [wrong[:BLOCK_BYTES]]


def test_blocks_before_a_damaged_one_are_written() -> None:
    result = random.Random(3).randbytes(3 * BLOCK_BYTES)
    bodies = [literal(result[start : start + BLOCK_BYTES]) for start in range(0, len(result), BLOCK_BYTES)]
    written: list[bytes] = []
    with pytest.raises(DeltaError, match="block 3 of 3: expected"):
        apply_delta(
            io.BytesIO(delta_of(result, bodies)[:-1]),
            file_of(result),
            opened(),
            lambda block: written.append(bytes(block)),
        )
    assert b"".join(written) == result[: 2 * BLOCK_BYTES]


def test_the_header_says_what_is_made_from_what() -> None:
    header = read_header(io.BytesIO(delta_of(RESULT, [literal(RESULT)], [BASE])))
    assert (header.size, header.packing) == (len(RESULT), form.STORED)
    assert header.sha256 == file_of(RESULT).sha256[: 2 * form.PREFIX_BYTES]
    assert header.bases == ((len(BASE), hashlib.sha256(BASE).hexdigest()),)
    assert header.blocks == 1


@pytest.mark.parametrize("read_most", [1000, 1 << 20])
def test_blocks_that_are_packed_as_one_are_expanded_as_they_are_read(read_most: int) -> None:
    """What repeats in the second block is not spelled again."""
    noise = random.Random(9).randbytes(BLOCK_BYTES // 8)
    result = noise * 8 + noise
    delta = delta_of(result, [literal(result[:BLOCK_BYTES]), literal(result[BLOCK_BYTES:])], packing=form.LZMA)
    assert len(delta) < 1.02 * len(noise)

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(read_most, size or 0))

    made = bytearray()
    apply_delta(Slow(delta), file_of(result), opened(), made.extend)
    assert made == result


BOMB = raw_deflate(bytes(64 << 20))
PACKED_BOMB = lzma.compress(bytes(64 << 20), lzma.FORMAT_RAW, filters=list(form.PACKING_FILTERS))
PACKED_HEAD = delta_of(RESULT, [], packing=form.LZMA, cut=1)
WRONG: dict[str, tuple[bytes, str]] = {
    "no delta": (b"<html>Please log in</html>" * 10, "expected a delta of the form"),
    "another form": (delta_of(RESULT, [literal(RESULT)]).replace(b"EMD\x05", b"EMD\x04"), "of the form"),
    "empty": (b"", "the delta ends after 0"),
    "another result": (delta_of(BASE, [literal(BASE)]), "expected a delta that makes 3000 bytes"),
    "too few blocks": (delta_of(RESULT, []), "block 1 of 1: expected 1 bytes; the delta ends after 0"),
    "too many blocks": (delta_of(RESULT, [literal(RESULT)] * 2), "expected 1 blocks; found more bytes"),
    "cut off": (delta_of(RESULT, [literal(RESULT)])[:-1], "block 1 of 1: expected"),
    "a large block": (delta_of(RESULT, [bytes(4 << 20)]), "expected at most"),
    "a bomb": (delta_of(RESULT, [literal(RESULT, form.DEFLATE, BOMB)]), "expected a stream of 3000 bytes; found 3001"),
    "a large stream": (
        delta_of(RESULT, [body([(1, [literal_plane(form.DEFLATE, BOMB, 64 << 20)])], varint(2) + varint(3000))]),
        "expected a stream of at most 3000 bytes; found 67108864",
    ),
    "another packing": (
        delta_of(RESULT, [literal(RESULT)], packing=form.DEFLATE),
        "expected the packing 1 or 3; found 2",
    ),
    "packed and cut off": (
        delta_of(RESULT, [literal(RESULT)], packing=form.LZMA, cut=60),
        "block 1 of 1: expected",
    ),
    "packed and damaged": (PACKED_HEAD + b"\xff" * 40, "what is packed cannot be expanded"),
    "bytes behind what is packed": (
        delta_of(RESULT, [literal(RESULT)], packing=form.LZMA) + b"x",
        "found more bytes behind what is packed",
    ),
    "too many blocks that are packed": (
        delta_of(RESULT, [literal(RESULT)] * 2, packing=form.LZMA),
        "expected 1 blocks; found more bytes",
    ),
    "a packed bomb": (PACKED_HEAD + PACKED_BOMB, "expected a base below 0; found 0"),
    "a large table": (
        delta_of(RESULT, [stream(form.DEFLATE, BOMB, 64 << 20)]),
        "expected a stream of at most 524288 bytes; found 67108864",
    ),
    "many pieces": (
        delta_of(RESULT, [body([(1, [literal_plane(form.STORED, RESULT)])], b"\x02\x01" * 20000)]),
        "expected at most 16384 pieces",
    ),
    "a base that is not named": (
        delta_of(RESULT, [body([], varint(1) + varint(3000) + varint(7) + varint(0))], [BASE]),
        "expected a base below 1; found 7",
    ),
    "before the base": (
        delta_of(RESULT, [body([], varint(1) + varint(3000) + varint(0) + varint(1))], [BASE]),
        "bytes -1 to 2999 of a base of 5000",
    ),
    "behind the base": (
        delta_of(RESULT, [body([], varint(1) + varint(3000) + varint(0) + varint(2001 << 1))], [BASE]),
        "bytes 2001 to 5001 of a base of 5000",
    ),
    "a piece without bytes": (
        delta_of(RESULT, [body([], varint(1) + varint(0) + b"\x00\x00")], [BASE]),
        "expected a piece of 1 to 1048576 bytes; found 0",
    ),
    "a piece of another size": (
        delta_of(RESULT, [body([], varint(1) + varint(2999) + varint(0) + varint(0))], [BASE]),
        "expected pieces of 3000 bytes; found 2999",
    ),
    "a piece of a huge size": (
        delta_of(RESULT, [body([], varint(1) + varint(1 << 60) + varint(0) + varint(0))], [BASE]),
        "expected a piece of 1 to 1048576 bytes; found 1152921504606846976",
    ),
    "a number without an end": (delta_of(RESULT, [body([], b"\xff" * 20)], [BASE]), "a number without an end"),
    "many pieces of a huge size": (
        delta_of(RESULT, [body([], (varint(1) + varint(BLOCK_BYTES) + varint(0) + varint(0)) * 9000)], [BASE]),
        "expected pieces of 3000 bytes; found 9437184000",
    ),
    "an unknown kind": (
        delta_of(RESULT, [body([(1, [b"\x09"])], varint(2) + varint(3000))]),
        "a plane of the unknown kind 9",
    ),
    "steps of another radix": (
        delta_of(RESULT, [body([(1, [bytes([form.STEPS, 7])])], varint(2) + varint(3000))]),
        "steps in a byte; found 7",
    ),
    "steps behind the end": (
        delta_of(
            RESULT,
            [
                body(
                    [
                        (
                            1,
                            [
                                bytes([form.STEPS, 0])
                                + stream(form.STORED, b"\xff" * 99)
                                + stream(form.STORED, b"\x01" * 99)
                            ],
                        )
                    ],
                    varint(2) + varint(3000),
                )
            ],
        ),
        "block 1 of 1: damaged",
    ),
    "many listed steps": (
        delta_of(
            RESULT,
            [body([(1, [bytes([form.STEPS, 0]) + stream(form.STORED, bytes(376)) * 2])], varint(2) + varint(3000))],
        ),
        "expected a stream of at most 375 bytes; found 376",
    ),
    "steps without distances": (
        delta_of(
            RESULT,
            [
                body(
                    [(1, [bytes([form.STEPS, 0]) + stream(form.STORED, b"\x01") + stream(form.STORED, b"\x01\x01")])],
                    varint(2) + varint(3000),
                )
            ],
        ),
        "expected a distance for each listed step; found 1 for 2",
    ),
    "two steps at one place": (
        delta_of(
            RESULT,
            [
                body(
                    [(1, [bytes([form.STEPS, 0]) + stream(form.STORED, bytes([7, 0])) + stream(form.STORED, b"ab")])],
                    varint(2) + varint(3000),
                )
            ],
        ),
        "expected another place for each listed step; found a distance of 0",
    ),
    "a short plane": (
        delta_of(RESULT, [body([(1, [literal_plane(form.STORED, RESULT[1:])])], varint(2) + varint(3000))]),
        "expected a plane of 3000 bytes; found 2999",
    ),
    "elements of no bytes": (
        delta_of(RESULT, [body([(0, [])], varint(2) + varint(3000))]),
        "expected elements of 1 to 16 bytes; found 0 in 3000",
    ),
    "elements that do not fit": (
        delta_of(RESULT, [body([(7, [])], varint(2) + varint(3000))]),
        "expected elements of 1 to 16 bytes; found 7 in 3000",
    ),
    "an unknown codec": (delta_of(RESULT, [literal(RESULT, 9)]), "a stream of the unknown codec 9"),
    "no group of that number": (delta_of(RESULT, [body([], varint(2 << 1) + varint(3000))]), "block 1 of 1: damaged"),
    "many groups": (
        delta_of(RESULT, [body([], varint(17 << 1) + varint(3000))]),
        "expected at most 16 groups; found 17",
    ),
    "a copy of no base": (delta_of(RESULT, [b""]), "expected a base below 0; found 0"),
    "bytes behind the streams": (delta_of(RESULT, [literal(RESULT) + b"x"]), "expected a body of"),
    "no deflate": (delta_of(RESULT, [literal(RESULT, form.DEFLATE, b"\xff" * 9)]), "cannot be expanded"),
    "no lzma": (delta_of(RESULT, [literal(RESULT, form.LZMA, b"\xff" * 9)]), "cannot be expanded"),
    "the base is right, the result is not": (
        delta_of(RESULT, [body([], varint(1) + varint(3000) + varint(0) + varint(0))], [BASE]),
        f"expected SHA-256 {file_of(RESULT).sha256}; made {file_of(BASE[:3000]).sha256}: the delta or its base is",
    ),
    "a base that is not held": (delta_of(RESULT, [literal(RESULT)], [b"somebody else's"]), "not held"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_and_named(name: str) -> None:
    delta, message = WRONG[name]
    with pytest.raises(IntegrityError, match=message):
        applied(delta, RESULT, BASE)


def test_a_file_of_one_block_is_compared_before_it_is_written() -> None:
    written: list[bytes] = []
    delta = io.BytesIO(delta_of(RESULT, [literal(bytes(len(RESULT)))]))
    with pytest.raises(DeltaError, match=f"expected SHA-256 {file_of(RESULT).sha256}; made"):
        apply_delta(delta, file_of(RESULT), opened(), lambda block: written.append(bytes(block)))
    assert written == []


def test_a_result_whose_release_names_no_blocks_is_compared_as_a_whole() -> None:
    right, wrong = (random.Random(seed).randbytes(2 * BLOCK_BYTES) for seed in (7, 8))
    delta = io.BytesIO(delta_of(right, [literal(wrong[:BLOCK_BYTES]), literal(wrong[BLOCK_BYTES:])]))
    with pytest.raises(DeltaError, match=f"expected SHA-256 {file_of(right).sha256}; made {file_of(wrong).sha256}"):
        apply_delta(delta, file_of(right), opened(), lambda _block: None)


@given(st.data())
def test_a_damaged_delta_is_refused_or_makes_the_same(data: st.DataObject) -> None:
    """Bytes changed anywhere: no other error, and no other file."""
    listed = stream(form.STORED, b"\x09\x44") + stream(form.STORED, b"\x05\x07")
    steps = bytes([form.STEPS, 4]) + stream(form.DEFLATE, raw_deflate(bytes(500)), 500) + listed
    kinds = (form.LITERAL, form.DIFFERENCE, form.DIFFERENCE, form.DIFFERENCE)
    wide = [
        bytes([kind]) + stream(form.DEFLATE, raw_deflate(bytes([place] * 250)), 250) for place, kind in enumerate(kinds)
    ]
    table = b"".join(
        [
            varint(1 << 1 | 1) + varint(2000) + varint(0) + varint(0),
            varint(2 << 1 | 1) + varint(1000) + varint(0) + varint(17 << 1),
        ]
    )
    block = body([(1, [steps]), (4, wide)], table)
    result = bytes(form.BlockDecoder([len(BASE)], [io.BytesIO(BASE)]).decode(block, 0, 3000))
    delta = bytearray(delta_of(result, [block], [BASE]))
    assert applied(bytes(delta), result, BASE) == result
    for _change in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(delta) - 1))
        delta[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(IntegrityError):
        assert applied(bytes(delta), result, BASE) == result


@given(st.binary(max_size=200))
def test_any_bytes_as_a_block_are_refused_or_make_its_size(content: bytes) -> None:
    delta = delta_of(RESULT, [content], [BASE])
    with pytest.raises(DeltaError):
        applied(delta, RESULT, BASE)


def test_the_memory_does_not_grow_with_the_file() -> None:
    """Twelve blocks, each of a difference; a twelfth of that and what one block needs is in memory at once."""
    blocks = 12
    base = random.Random(4).randbytes(BLOCK_BYTES)
    noise = random.Random(5).randbytes(BLOCK_BYTES // 4)
    planes = [bytes([form.DIFFERENCE]) + stream(form.STORED, noise)] * 4
    added = bytearray(base)
    form.add_bytes(added, bytes(byte for byte in noise for _plane in range(4)))
    result = bytes(added)
    bodies = [
        body(
            [(4, planes)],
            varint(1 << 1 | 1) + varint(BLOCK_BYTES) + varint(0) + varint((number * BLOCK_BYTES << 1) - bool(number)),
        )
        for number in range(blocks)
    ]
    delta = io.BytesIO(delta_of(result * blocks, bodies, [base]))
    file = file_of(result * blocks)
    tracemalloc.start()
    try:
        apply_delta(delta, file, opened(base), lambda _block: None)
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20 * BLOCK_BYTES
