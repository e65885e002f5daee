# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The graph of an ncnn model: what its inputs are, and its tensors under other names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._release.ncnn_file import parse_ncnn, read_ncnn, weights_of

TEXT = """7767517
3 4
Input                    in0                      0 1 in0
Split                    two                      1 2 in0 a b
BinaryOp                 add_0                    2 1 a b out0 0=0 -23310=1,0.5
"""


def test_inputs_without_a_size_have_none(tmp_path: Path) -> None:
    path = tmp_path / "model.ncnn.param"
    path.write_text(TEXT)
    assert read_ncnn(str(path)).inputs == {"in0": ()}
    assert weights_of(str(path)) == str(tmp_path / "model.ncnn.bin")


@pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 5, 7), (3, 2, 5, 7), (1, 1, 1, 1)])
def test_a_size_that_is_stated_is_read_again(shape: tuple[int, ...]) -> None:
    stated = parse_ncnn(str(parse_ncnn(TEXT).with_inputs({"in0": shape})))
    assert stated.inputs == {"in0": shape}
    assert len(stated.layers) == 3


def test_sizes_are_written_as_ncnn_has_them() -> None:
    line = str(parse_ncnn(TEXT).with_inputs({"in0": (3, 224, 320)})).splitlines()[2]
    assert line == "Input in0 0 1 in0 0=320 1=224 2=3"


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 4, 5)])
def test_a_size_that_ncnn_does_not_have(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected one to 4 sizes of a sample"):
        parse_ncnn(TEXT).with_inputs({"in0": shape})


def test_tensors_get_other_names_and_the_rest_stays() -> None:
    renamed = parse_ncnn(TEXT).renamed({"in0": "image", "out0": "scores"})
    assert str(renamed).splitlines() == [
        "7767517",
        "3 4",
        "Input in0 0 1 image",
        "Split two 1 2 image a b",
        "BinaryOp add_0 2 1 a b scores 0=0 -23310=1,0.5",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: expected 7767517"),
        ("7767517\n1 1\nInput x", "line 3: expected a layer"),
        ("7767517\n1 1\nInput x 0 1", "line 3: expected a layer: TYPE NAME INPUTS OUTPUTS …; too few names"),
        ("7767517\n1 1\n\nInput x 0 -1 y", "line 4"),
        ("7767517\n1 1\nInput x 0 1 x 5", "line 3: .*found '5' instead of NUMBER=VALUE"),
    ],
)
def test_what_is_no_graph_is_named_by_its_line(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_ncnn(text)
