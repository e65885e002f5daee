# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file of a collected input: there and back, and what is refused of a device that lies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._release.collected_input import (
    INPUT_BYTES_MAX,
    REASONS,
    CollectedInput,
    CollectedInputError,
    Tensor,
    directory_name,
    finite,
    model_of,
    pack,
    texts,
    unpack,
)

NUMBERS = Tensor("image", "FP32", (2,), b"\0" * 8)
WORDS = Tensor("words", "BYTES", (2,), b"\2\0\0\0ab\0\0\0\0")
ITEM = CollectedInput("digits", "1.1.0", 1796000000.5, ("disagreeing",), (NUMBERS, WORDS), 3, 4)


def test_there_and_back() -> None:
    assert unpack(pack(ITEM)) == ITEM
    assert texts(WORDS) == [b"ab", b""]


def test_the_digest_is_of_the_inputs_alone() -> None:
    same = ITEM._replace(label=None, time=1.0, reasons=("drifting", "low_confidence"), version="1.0.0", predicted=None)
    assert same.digest == ITEM.digest
    for tensor in (
        NUMBERS._replace(name="images"),
        NUMBERS._replace(datatype="INT32"),
        NUMBERS._replace(shape=(2, 1)),
        NUMBERS._replace(data=b"\1" + b"\0" * 7),
    ):
        assert ITEM._replace(tensors=(tensor, WORDS)).digest != ITEM.digest


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(CollectedInputError):
        unpack(content)


@given(st.integers(0, 10_000), st.binary(max_size=3))
def test_a_change_is_refused_or_read_as_another_input(position: int, change: bytes) -> None:
    content = pack(ITEM)
    position %= len(content)
    changed = content[:position] + change + content[position + len(change) :]
    try:
        unpack(changed)
    except CollectedInputError:
        return


def header(**changes: Any) -> bytes:
    """The content with another header, and the same values."""
    line, values = pack(ITEM).split(b"\n", 1)
    return json.dumps({**json.loads(line), **changes}).encode() + b"\n" + values


def tensor(index: int, **changes: Any) -> bytes:
    """The content with another description of one input."""
    entries = json.loads(pack(ITEM).split(b"\n", 1)[0])["inputs"]
    entries[index].update(changes)
    return header(inputs=entries)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a line of JSON of at most"),
        (b"\0" * 600, "expected a line of JSON of at most"),
        (b"[" * 60_000 + b"\n", "expected a line of JSON"),
        (b"{}\n", "expected an object with inputs, label"),
        (header(schema=2), "schema 1"),
        (header(more=1), "expected an object with inputs, label"),
        (header(model="../digits"), "model, version: expected names"),
        (header(model="a/b/c"), "model, version: expected names"),
        (header(version=".."), "model, version: expected names"),
        (header(time=-1), "time: expected a Unix time"),
        (header(time=float("nan")), "time: expected a Unix time"),
        (header(time=True), "time: expected a Unix time"),
        (header(reasons=[]), "reasons: expected some of"),
        (header(reasons=["low_confidence", "disagreeing"]), "reasons: expected some of"),
        (header(reasons=["fun"]), "reasons: expected some of"),
        (header(label=10**400), "label: expected a number"),
        (header(label=float("inf")), "label: expected a number"),
        (header(label="x" * 1001), "label: expected a number"),
        (header(predicted=[1]), "predicted: expected a number"),
        (header(inputs=[]), "inputs: expected 1 to 64"),
        (header(inputs=[1]), "inputs: expected objects"),
        (tensor(0, name="words"), "different names, sorted"),
        (tensor(0, name="x/../y"), "name: expected an input's name"),
        (tensor(0, name="a\nb"), "name: expected an input's name"),
        (tensor(0, datatype="OBJECT"), "datatype: expected one of the protocol's"),
        (tensor(0, datatype="FP64"), r"expected 16 bytes for \[2\] of FP64; found 8"),
        (tensor(0, shape=[3]), "expected 12 bytes"),
        (tensor(0, shape=[-2]), "shape: expected sizes"),
        (tensor(0, shape=[1 << 40, 0]), "shape: expected sizes"),
        (tensor(0, shape=[1] * 33), "shape: expected sizes"),
        (tensor(0, bytes=1 << 50), "bytes; found 18"),
        (tensor(0, bytes=-8), "bytes; found 18"),
        (tensor(0, bytes=4, shape=[1]), "bytes, as the inputs say"),
        (tensor(1, shape=[1]), "expected 1 texts"),
        (tensor(1, bytes=9), "points behind the end"),
        (tensor(1, datatype="BOOL", shape=[10]), "expected bytes 0 and 1"),
        (pack(ITEM) + b"x", "bytes, as the inputs say"),
        (pack(ITEM)[:-1], "expected 10 bytes; found 9"),
        (pack(ITEM) + b"\0" * INPUT_BYTES_MAX, "expected at most"),
    ],
)
def test_lies_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(CollectedInputError, match=message):
        unpack(content)


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("FP32", b"\0\0\x80\x3f", (True, True)),
        ("FP32", b"\0\0\xc0\x7f", (False, True)),
        ("FP32", b"\0\0\x80\x7f\0\0\x80\xff", (True, False)),
        ("FP16", b"\0\x7e", (False, True)),
        # Two that are finite, and add up to what is not.
        ("FP64", b"\xff\xff\xff\xff\xff\xff\xef\x7f" * 2, (True, True)),
        ("INT32", b"\0\0\x80\x7f", (True, True)),
        ("BYTES", b"\0\0\0\0", (True, True)),
    ],
)
def test_finite(datatype: str, data: bytes, expected: tuple[bool, bool]) -> None:
    assert finite(Tensor("x", datatype, (1,), data)) == expected


def test_names_of_directories() -> None:
    assert [model_of(directory_name(model)) for model in ("digits", "a/b")] == ["digits", "a/b"]
    assert [model_of(name) for name in ("..", "a%b%c", "", "%", ".new")] == [None] * 5
    assert len(REASONS) == 4
