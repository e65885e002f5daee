# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of classes, and the classes with the highest scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgeml_server.common.errors import InvalidRequestError
from edgeml_server.common.tensors import TensorSpec
from edgeml_server.models.classes import class_names, classify

OUTPUTS = [TensorSpec("scores", "FP32", (-1, 2)), TensorSpec("boxes", "FP32", (-1, 4))]


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        (np.array([[0.25, 0.75], [0.5, 0.5]], np.float32), 1, [["0.750000:1:b"], ["0.500000:0:a"]]),
        (np.array([[0.25, 0.75]], np.float32), 9, [["0.750000:1:b", "0.250000:0:a"]]),
        (np.array([0.25, 0.75, 0.5]), 2, ["0.750000:1:b", "0.500000:2"]),
        (np.array([[3, 200]], np.uint8), 2, [["200:1:b", "3:0:a"]]),
        (np.array([[-(2**63), 2**63 - 1]]), 1, [[f"{2**63 - 1}:1:b"]]),
        (np.array([[np.nan, -np.inf, 1.0]]), 2, [["1.000000:2", "nan:0:a"]]),
        (np.zeros((0, 2), np.float32), 1, []),
    ],
)
def test_the_highest_scores(values: Any, count: int, expected: list[Any]) -> None:
    assert classify(values, count, ["a", "b"]).tolist() == expected


@pytest.mark.parametrize("values", [np.array([True]), np.array(["a"], object)])
def test_an_output_without_numbers_has_no_highest(values: Any) -> None:
    with pytest.raises(InvalidRequestError, match="expected an output of numbers"):
        classify(values, 1, [])


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"names": "{0: 'a', 1: 'b'}"}, {"scores": ["a", "b"]}),
        ({"classes": '["a", "b"]'}, {"scores": ["a", "b"]}),
        ({"labels": '{"1": "b", "0": "a"}'}, {"scores": ["a", "b"]}),
        ({"names": "('a', 'b', 'c', 'd')"}, {"boxes": ["a", "b", "c", "d"]}),
        ({"names": "['a', 'b', 'c']"}, {}),
        ({"names": "[1, 2]"}, {}),
        ({"names": "{0: 'a', 2: 'b'}"}, {}),
        ({"names": "__import__('os')"}, {}),
        ({"names": "[" * 100_000}, {}),
        ({"names": "a, b"}, {}),
        ({}, {}),
    ],
)
def test_names_in_the_file(metadata: dict[str, str], expected: dict[str, list[str]]) -> None:
    assert class_names({}, {}, metadata, OUTPUTS) == expected


def test_names_of_two_outputs_that_fit_are_of_neither() -> None:
    outputs = [TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "FP32", (-1, 2))]
    assert class_names({}, {}, {"names": "['a', 'b']"}, outputs) == {}
