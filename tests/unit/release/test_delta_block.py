# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blocks of a delta as a device decodes them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import pytest
from delta_bytes import applied, body, delta_of, file_of, literal, literal_plane, raw_deflate, raw_lzma, stream, varint
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta_form as form
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta import apply_delta
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_form import DeltaError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_steps import LISTED_AT_ONCE

RESULT = random.Random(1).randbytes(3000)
BASE = random.Random(2).randbytes(5000)


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
    count = LISTED_AT_ONCE + 2
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


@given(st.binary(max_size=200))
def test_any_bytes_as_a_block_are_refused_or_make_its_size(content: bytes) -> None:
    delta = delta_of(RESULT, [content], [BASE])
    with pytest.raises(DeltaError):
        applied(delta, RESULT, BASE)
