# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tensors come through JSON and through binary data unchanged, or are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from edgeml_server.common import json_codec, tensors
from edgeml_server.common.errors import InvalidRequestError
from edgeml_server.common.tensors import DTYPES, TensorSpec
from hypothesis import given
from hypothesis import strategies as st

SHAPES = st.lists(st.integers(0, 4), max_size=4)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    shape = draw(SHAPES)
    count = math.prod(shape)
    if dtype.kind == "O":
        texts = draw(st.lists(st.text(), min_size=count, max_size=count))
        values = np.empty(count, dtype=object)
        values[:] = texts
        return values.reshape(shape)
    values = np.frombuffer(draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize)), dtype)
    if dtype.kind == "b":
        values = values.view(np.uint8) % 2 == 1
    if dtype.kind == "f":
        values = np.nan_to_num(values)
    return values.reshape(shape)


def spec_of(values: Any) -> TensorSpec:
    return TensorSpec("t", tensors.datatype_of(values), values.shape)


def assert_same(actual: Any, expected: Any) -> None:
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    assert (actual == expected).all()


@given(arrays())
def test_through_json_flat(values: Any) -> None:
    data = json_codec.loads(json_codec.dumps(tensors.to_json(values)))
    assert_same(tensors.from_json(spec_of(values), values.shape, data), values)


@given(arrays())
def test_through_json_nested(values: Any) -> None:
    data = values.tolist() if values.ndim else [values.tolist()]
    assert_same(tensors.from_json(spec_of(values), values.shape, json_codec.loads(json_codec.dumps(data))), values)


@given(arrays(), st.binary(max_size=7))
def test_through_binary_data_at_any_address(values: Any, before: bytes) -> None:
    data = memoryview(before + tensors.to_binary(values))[len(before) :]
    result = tensors.from_binary(spec_of(values), values.shape, data)
    assert result.dtype == object or result.ctypes.data % 16 == 0
    assert_same(result, values)


@given(st.binary(max_size=40), st.sampled_from(sorted(DTYPES)), SHAPES)
def test_any_bytes_become_a_tensor_or_are_refused(data: bytes, datatype: str, shape: list[int]) -> None:
    try:
        values = tensors.from_binary(TensorSpec("t", datatype, tuple(shape)), shape, memoryview(data))
    except InvalidRequestError:
        return
    assert tensors.to_binary(values) == data


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
)


@given(json_values, st.sampled_from(sorted(DTYPES)), SHAPES)
def test_any_json_becomes_a_tensor_or_is_refused(data: Any, datatype: str, shape: list[int]) -> None:
    try:
        values = tensors.from_json(TensorSpec("t", datatype, tuple(shape)), shape, data)
    except InvalidRequestError:
        return
    assert values.shape == tuple(shape)
    assert values.dtype == DTYPES[datatype]


@given(json_values)
def test_any_shape_fits_or_is_refused(shape: Any) -> None:
    try:
        found = tensors.check_shape(TensorSpec("t", "FP32", (-1, 2)), shape)
    except InvalidRequestError:
        return
    assert found[1] == 2


def test_the_error_for_a_huge_value_is_short() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        tensors.from_json(TensorSpec("t", "FP32", (1,)), (1,), {"x" * 1_000_000: "y" * 1_000_000})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_is_null_with_either_codec(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([value, 0.5], np.float32)
    fast = json_codec.dumps({"data": values})
    monkeypatch.setattr(json_codec, "_orjson", None)
    assert json_codec.dumps({"data": values}) == fast == b'{"data":[null,0.5]}'


def test_the_codec_without_orjson_reads_and_writes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"text": 'grüße "\n', "numbers": [1, 2.5, None, True], "array": np.arange(3, dtype=np.int64)}
    fast = json_codec.dumps(document)
    monkeypatch.setattr(json_codec, "_orjson", None)
    assert json_codec.dumps(document) == fast
    assert json_codec.loads(memoryview(fast)) == {**document, "array": [0, 1, 2]}
    for text in (b"{", b"[NaN]", b"\xff", b"[" * 100_000, b'["\\udcff"]', b'{"\\ud800": 1}'):
        with pytest.raises(ValueError, match=r"."):
            json_codec.loads(text)


def test_bytes_that_are_no_utf_8_are_the_same_bytes_again_with_either_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"caf\xe9 \xff\0 gr\xc3\xbc\xc3\x9fe"
    values = np.array([tensors.text_from_bytes(content), "a"], object)
    assert tensors.to_binary(values) == b"\x0f\0\0\0" + content + b"\x01\0\0\0a"
    document = {"data": tensors.to_json(values), "numbers": np.array([0.5, math.nan])}
    written = json_codec.dumps(document)
    assert written == b'{"data":["caf\xe9 \xff\\u0000 gr\xc3\xbc\xc3\x9fe","a"],"numbers":[0.5,null]}'
    monkeypatch.setattr(json_codec, "_orjson", None)
    assert json_codec.dumps(document) == written
