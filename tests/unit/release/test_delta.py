# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deltas as a device applies them: what they make, and what is refused."""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import io
import lzma
import random
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from typing import BinaryIO

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


def stream(codec: int, content: bytes, expanded: int | None = None) -> tuple[bytes, bytes]:
    """The head of a stream, and its content."""
    return form.STREAM.pack(codec, len(content), len(content) if expanded is None else expanded), content


def body(groups: Sequence[tuple[int, int, Sequence[tuple[bytes, bytes]]]], table: bytes) -> bytes:
    """A block's body: groups of a kind, a width and streams; and the table of pieces."""
    head, content = bytearray([len(groups)]), bytearray()
    for kind, width, streams in groups:
        head += form.GROUP.pack(kind, width)
        for begin, rest in streams:
            head += begin
            content += rest
    return bytes(head + stream(form.STORED, table)[0] + table + content)


def file_of(content: bytes) -> File:
    return File("model.onnx", len(content), hashlib.sha256(content).hexdigest())


def delta_of(result: bytes, bodies: Sequence[bytes], bases: Sequence[bytes] = ()) -> bytes:
    made = form.HEAD.pack(form.MAGIC, len(result), hashlib.sha256(result).digest(), len(bases))
    made += b"".join(form.BASE.pack(len(base), hashlib.sha256(base).digest()) for base in bases)
    for number, block in enumerate(bodies):
        checksum = zlib.crc32(result[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES])
        made += form.FRAME.pack(len(block), checksum) + block
    return made


def opened(*bases: bytes) -> Callable[[str, int], BinaryIO]:
    held = {hashlib.sha256(base).hexdigest(): base for base in bases}

    def open_base(sha256: str, size: int) -> BinaryIO:
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
    made = stream(codec, content if packed is None else packed, len(content))
    return body([(form.LITERAL, 1, [made])], varint(1 << 1) + varint(len(content)))


RESULT = random.Random(1).randbytes(3000)
BASE = random.Random(2).randbytes(5000)


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def raw_lzma(content: bytes) -> bytes:
    return lzma.compress(content, lzma.FORMAT_RAW, filters=list(form.LZMA_FILTERS))


@pytest.mark.parametrize(
    ("codec", "pack"),
    [(form.STORED, bytes), (form.DEFLATE, raw_deflate), (form.BZIP2, bz2.compress), (form.LZMA, raw_lzma)],
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
    block = body([(form.LITERAL, 1, [stream(form.ZEROS, b"", 40)])], table)
    assert applied(delta_of(result, [block], [BASE, other]), result, BASE, other) == result


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_a_difference_is_added_element_by_element_and_carries_into_no_other(width: int) -> None:
    random_ = random.Random(width)
    limit = 1 << (8 * width)
    old = [random_.choice((0, limit - 1, limit // 2, random_.randrange(limit))) for _number in range(50)]
    new = [(value + random_.choice((-1, 0, 1, limit // 2, -limit // 2, 300))) % limit for value in old]
    base, result = (b"".join(value.to_bytes(width, "little") for value in values) for values in (old, new))
    steps = [((after - before + limit // 2) % limit) - limit // 2 for before, after in zip(old, new, strict=True)]
    zigzag = [2 * step if step >= 0 else -2 * step - 1 for step in steps]
    spelled = b"".join(value.to_bytes(width, "little") for value in zigzag)
    planes = [stream(form.STORED, spelled[place::width]) for place in range(width)]
    block = body([(form.DIFFERENCE, width, planes)], varint(1 << 1 | 1) + varint(50 * width) + varint(0) + varint(0))
    assert applied(delta_of(result, [block], [base]), result, base) == result


def test_small_steps_are_five_in_a_byte_and_others_are_listed() -> None:
    base = bytes([10, 0, 255, 7, 7, 7, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    result = bytes([10, 255, 0, 8, 7, 7, 60, 1, 1, 1, 1, 1, 1, 1, 1, 0])
    first = 0 + 1 * 3 + 2 * 9 + 2 * 27
    streams = [
        stream(form.STORED, bytes([first, 0, 0, 1])),
        stream(form.STORED, b"\x06\x02"),
        stream(form.STORED, b"\x33\x00"),
    ]
    block = body([(form.STEPS, 1, streams)], varint(1 << 1 | 1) + varint(16) + varint(0) + varint(0))
    assert applied(delta_of(result, [block], [base]), result, base) == result


def test_a_file_of_several_blocks_is_written_block_by_block() -> None:
    result = random.Random(3).randbytes(2 * BLOCK_BYTES + 5)
    bodies = [literal(result[start : start + BLOCK_BYTES]) for start in range(0, len(result), BLOCK_BYTES)]
    sizes = []
    delta = io.BytesIO(delta_of(result, bodies))
    apply_delta(delta, file_of(result), opened(), lambda block: sizes.append(len(block)))
    assert sizes == [BLOCK_BYTES, BLOCK_BYTES, 5]


def test_a_block_with_a_right_checksum_that_the_release_does_not_name_is_not_written() -> None:
    wrong = random.Random(3).randbytes(2 * BLOCK_BYTES)
    right = wrong[:BLOCK_BYTES] + bytes(BLOCK_BYTES)
    blocks = tuple(hashlib.sha256(right[start : start + BLOCK_BYTES]).hexdigest() for start in (0, BLOCK_BYTES))
    delta = io.BytesIO(delta_of(wrong, [literal(wrong[:BLOCK_BYTES]), literal(wrong[BLOCK_BYTES:])]))
    written: list[bytes] = []
    with pytest.raises(DeltaError, match=f"block 2 of 2: expected SHA-256 {blocks[1]}; made"):
        apply_delta(delta, file_of(wrong)._replace(blocks=blocks), opened(), written.append)
    assert written == [wrong[:BLOCK_BYTES]]


def test_the_header_says_what_is_made_from_what() -> None:
    header = read_header(io.BytesIO(delta_of(RESULT, [literal(RESULT)], [BASE])))
    assert (header.size, header.sha256) == file_of(RESULT)[1:3]
    assert header.bases == ((len(BASE), hashlib.sha256(BASE).hexdigest()),)
    assert header.blocks == 1


BOMB = raw_deflate(bytes(64 << 20))
WRONG: dict[str, tuple[bytes, str]] = {
    "no delta": (b"<html>Please log in</html>" * 10, "expected a delta of the form"),
    "another form": (delta_of(RESULT, [literal(RESULT)]).replace(b"EDGEMLD\x01", b"EDGEMLD\x02"), "of the form"),
    "empty": (b"", "the delta ends after 0"),
    "another result": (delta_of(BASE, [literal(BASE)]), "expected a delta that makes 3000 bytes"),
    "too few blocks": (delta_of(RESULT, []), "block 1 of 1: expected 8 bytes; the delta ends after 0"),
    "too many blocks": (delta_of(RESULT, [literal(RESULT)] * 2), "expected 1 blocks; found more bytes"),
    "cut off": (delta_of(RESULT, [literal(RESULT)])[:-1], "block 1 of 1: expected"),
    "a large block": (delta_of(RESULT, [bytes(4 << 20)]), "expected at most"),
    "a bomb": (delta_of(RESULT, [literal(RESULT, form.DEFLATE, BOMB)]), "expected a stream of 3000 bytes; found 3001"),
    "a large stream": (
        delta_of(RESULT, [body([(form.LITERAL, 1, [stream(form.DEFLATE, BOMB, 64 << 20)])], varint(2) + varint(3000))]),
        "expected a stream of at most 1048576 bytes; found 67108864|expected a plane of 3000 bytes",
    ),
    "a large table": (
        delta_of(RESULT, [b"\x00" + form.STREAM.pack(form.DEFLATE, len(BOMB), 64 << 20) + BOMB]),
        "expected a table of at most",
    ),
    "many pieces": (
        delta_of(RESULT, [body([(form.LITERAL, 1, [stream(form.STORED, RESULT)])], b"\x02\x01" * 20000)]),
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
        "without bytes",
    ),
    "a piece of another size": (
        delta_of(RESULT, [body([], varint(1) + varint(2999) + varint(0) + varint(0))], [BASE]),
        "expected pieces of 3000 bytes; found 2999",
    ),
    "a piece of a huge size": (
        delta_of(RESULT, [body([], varint(1) + varint(1 << 60) + varint(0) + varint(0))], [BASE]),
        "expected pieces of 3000 bytes; found 1152921504606846976",
    ),
    "a number without an end": (delta_of(RESULT, [body([], b"\xff" * 20)], [BASE]), "a number without an end"),
    "an unknown kind": (delta_of(RESULT, [body([(9, 1, [])], b"")]), "a group of the unknown kind 9"),
    "an unknown codec": (delta_of(RESULT, [literal(RESULT, 9)]), "a stream of the unknown codec 9"),
    "no group of that number": (delta_of(RESULT, [body([], varint(2 << 1) + varint(3000))]), "block 1 of 1: damaged"),
    "bytes behind the streams": (delta_of(RESULT, [literal(RESULT) + b"x"]), "expected a body of"),
    "no deflate": (delta_of(RESULT, [literal(RESULT, form.DEFLATE, b"\xff" * 9)]), "cannot be expanded"),
    "no bzip2": (delta_of(RESULT, [literal(RESULT, form.BZIP2, b"\xff" * 9)]), "cannot be expanded"),
    "no lzma": (delta_of(RESULT, [literal(RESULT, form.LZMA, b"\xff" * 9)]), "cannot be expanded"),
    "the base is right, the result is not": (
        delta_of(RESULT, [body([], varint(1) + varint(3000) + varint(0) + varint(0))], [BASE]),
        "block 1 of 1: expected the CRC-32",
    ),
    "a base that is not held": (delta_of(RESULT, [literal(RESULT)], [b"somebody else's"]), "not held"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_and_named(name: str) -> None:
    delta, message = WRONG[name]
    with pytest.raises(IntegrityError, match=message):
        applied(delta, RESULT, BASE)


def test_a_result_with_right_checksums_and_a_wrong_digest_is_refused() -> None:
    """Checksums are the delta's own: what it makes is compared with what the release says."""
    other = bytes(len(RESULT))
    delta = bytearray(delta_of(other, [literal(other)]))
    delta[: form.HEAD.size] = delta_of(RESULT, [])[: form.HEAD.size]
    with pytest.raises(DeltaError, match=f"expected SHA-256 {file_of(RESULT).sha256}; made {file_of(other).sha256}"):
        applied(bytes(delta), RESULT)


@given(st.data())
def test_a_damaged_delta_is_refused_or_makes_the_same(data: st.DataObject) -> None:
    """Bytes changed anywhere: no other error, and no other file."""
    steps = [
        stream(form.DEFLATE, raw_deflate(bytes(400)), 400),
        stream(form.STORED, b"\x09\x44"),
        stream(form.STORED, b"\x05\x07"),
    ]
    wide = [stream(form.DEFLATE, raw_deflate(bytes([place] * 250)), 250) for place in range(4)]
    table = b"".join(
        [
            varint(1 << 1 | 1) + varint(2000) + varint(0) + varint(0),
            varint(2 << 1 | 1) + varint(1000) + varint(0) + varint(17 << 1),
        ]
    )
    block = body([(form.STEPS, 1, steps), (form.DIFFERENCE, 4, wide)], table)
    result = form.decode_block(block, 0, 3000, [(len(BASE), "")], [io.BytesIO(BASE)])
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
    planes = [stream(form.ZEROS, b"", BLOCK_BYTES // 4)] * 4
    bodies = [
        body(
            [(form.DIFFERENCE, 4, planes)],
            varint(1 << 1 | 1) + varint(BLOCK_BYTES) + varint(0) + varint((number * BLOCK_BYTES << 1) - bool(number)),
        )
        for number in range(blocks)
    ]
    delta = io.BytesIO(delta_of(base * blocks, bodies, [base]))
    file = file_of(base * blocks)
    tracemalloc.start()
    try:
        apply_delta(delta, file, opened(base), lambda _block: None)
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20 * BLOCK_BYTES
