# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Large requests in JSON are read by another parser, and mean the same."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
import pytest
from edgeml_server.common import json_codec
from edgeml_server.common.errors import InvalidRequestError
from edgeml_server.common.number_lists import NumberList, parse_large_request
from edgeml_server.common.tensors import TensorSpec, check_shape, from_json
from edgeml_server.models.inference import parse_inputs
from hypothesis import given
from hypothesis import strategies as st

SPEC = TensorSpec("x", "FP32", (-1, 2))
DATATYPES = ("FP32", "FP16", "FP64", "INT64", "INT8", "UINT8", "UINT64", "BOOL", "BYTES")


def parse(text: str) -> Any:
    """Read a request as a large one."""
    return parse_large_request(text.encode("utf-8", "surrogatepass"), large_bytes=0)


def read(document: Any, spec: TensorSpec) -> Any:
    """The array of the request's only input, or the error's text."""
    try:
        found = parse_inputs([spec], document["inputs"])["x"]
    except InvalidRequestError as error:
        return str(error)
    return found.dtype, found.shape, found.tobytes() if found.dtype != object else found.tolist()


def request(data: Any, datatype: str = "FP32", shape: Any = (2, 2)) -> str:
    return json.dumps({"inputs": [{"name": "x", "datatype": datatype, "shape": list(shape), "data": data}], "id": "a"})


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.booleans() | st.text()
lists = st.lists(numbers, max_size=5) | st.recursive(numbers, lambda inner: st.lists(inner, max_size=3))


@given(lists, st.sampled_from(DATATYPES), st.lists(st.integers(0, 3), max_size=3))
def test_any_data_is_read_or_refused_as_by_the_usual_parser(data: Any, datatype: str, shape: list[int]) -> None:
    text = request(data, datatype, shape)
    spec = TensorSpec("x", datatype, tuple(shape))
    document = parse(text)
    if document is not None:
        usual = json_codec.loads(text.encode())
        assert list(document) == list(usual)
        assert read(document, spec) == read(usual, spec)


@pytest.mark.parametrize(
    "data",
    [
        [[1, 2], [3, 4]],
        [[[1, 2], [3, 4]]],
        [1, 2, 3, 4],
        [0.1, -0.0, 1e-45, 3.4e38],
        [1e39, 0, 0, 0],
        [1, 2, 3],
        [2**53 + 1, -(2**63), 2**63, 2**64 - 1],
        [],
        [[]],
        [None, 1, 2, math.pi],
        [True, False, True, False],
    ],
)
def test_each_form_of_numbers_is_the_same_array(data: Any) -> None:
    text = request(data)
    document = parse(text)
    assert document is not None
    assert isinstance(document["inputs"][0]["data"], NumberList)
    assert read(document, SPEC) == read(json_codec.loads(text.encode()), SPEC)


@pytest.mark.parametrize(
    "text",
    [
        # Lists of one element beside elements: as many numbers as expected.
        request([[1.0], 2.0, 3.0, 4.0]),
        request([[[1], [2]], [3, [4]]]),
        request([[1, [2, 3]], [4, 5]]),
        request([1, 2, 3, [4]]),
        # Lists of several lengths.
        request([[1], [2, 3, 4]]),
        # A bracket in a text, a name that is given twice, a number beyond 64 bits, half a character, a byte order mark.
        request([1, 2, 3, 4]).replace('"a"', '"["'),
        request([1, 2, 3, 4]).replace('"id"', '"inputs": [], "id"'),
        request([2**70, 2, 3, 4]),
        request([1, 2, 3, 4]).replace('"a"', '"\\ud800"'),
        "\ufeff" + request([1, 2, 3, 4]),
        request([1, 2, 3, 4]) + "{}",
        request([math.nan, 2, 3, 4]),
        "[" + request([1, 2, 3, 4]) + "]",
    ],
)
def test_what_is_not_certain_is_left_to_the_usual_parser(text: str) -> None:
    assert parse(text) is None


def test_other_members_are_read_as_they_are() -> None:
    rest = {"outputs": [{"name": "y", "parameters": {"classification": 3}}], "parameters": {"binary_data_output": True}}
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1], "parameters": {}}, {"data": "text"}, 7]
    found = parse(json.dumps({**rest, "inputs": inputs}))
    assert found is not None
    assert {name: found[name] for name in rest} == rest
    assert found["inputs"][0].pop("data").as_list() == [1]
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {}}, *inputs[1:]]


def test_small_requests_and_devices_without_the_package_use_the_usual_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_large_request(request([1, 2, 3, 4]).encode()) is None
    monkeypatch.setitem(sys.modules, "simdjson", None)
    assert parse(request([1, 2, 3, 4])) is None


def test_a_document_that_is_still_held_does_not_change() -> None:
    first, second = (parse(request([each] * 4)) for each in (1, 2))
    assert first is not None
    assert second is not None
    shape = check_shape(SPEC, [2, 2])
    assert from_json(SPEC, shape, first["inputs"][0]["data"]).tolist() == [[1, 1], [1, 1]]
    assert from_json(SPEC, shape, second["inputs"][0]["data"]).tolist() == [[2, 2], [2, 2]]


def test_an_image_is_read_without_an_object_for_each_number() -> None:
    image = np.random.default_rng(1).random((1, 3, 64, 64), np.float32)
    spec = TensorSpec("x", "FP32", (1, 3, 64, 64))
    for data in (image.ravel().tolist(), image.tolist()):
        document = parse_large_request(request(data, shape=image.shape).encode())
        assert document is not None
        found = document["inputs"][0]["data"]
        assert found.array("f") is not None
        assert (from_json(spec, image.shape, found) == image).all()
