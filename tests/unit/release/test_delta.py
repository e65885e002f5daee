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

import pytest
from delta_bytes import (
    applied,
    body,
    delta_of,
    file_of,
    header_of,
    literal,
    literal_plane,
    opened,
    raw_deflate,
    stream,
    varint,
)
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta_form as form
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta import apply_delta
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_block import BlockDecoder
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_form import DeltaError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_steps import add_bytes

RESULT = random.Random(1).randbytes(3000)
BASE = random.Random(2).randbytes(5000)


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
    header = header_of(delta_of(RESULT, [literal(RESULT)], [BASE]))
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
    result = bytes(BlockDecoder([len(BASE)], [io.BytesIO(BASE)]).decode(block, 0, 3000))
    delta = bytearray(delta_of(result, [block], [BASE]))
    assert applied(bytes(delta), result, BASE) == result
    for _change in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(delta) - 1))
        delta[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(IntegrityError):
        assert applied(bytes(delta), result, BASE) == result


def test_the_memory_does_not_grow_with_the_file() -> None:
    """Twelve blocks, each of a difference; a twelfth of that and what one block needs is in memory at once."""
    blocks = 12
    base = random.Random(4).randbytes(BLOCK_BYTES)
    noise = random.Random(5).randbytes(BLOCK_BYTES // 4)
    planes = [bytes([form.DIFFERENCE]) + stream(form.STORED, noise)] * 4
    added = bytearray(base)
    add_bytes(added, bytes(byte for byte in noise for _plane in range(4)))
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
