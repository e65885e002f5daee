# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model is read without the values of its weights, and onnx itself says what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from publications import DIGITS

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.source import read_source
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.structure import read_structure

VALUES = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")
MODELS = [path for path in sorted((DIGITS / "blobs" / "sha256").iterdir()) if path.read_bytes()[:1] == b"\x08"]


def emptied(path: Path) -> Any:
    """The whole model, of which onnx removes the values."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for values in VALUES:
            tensor.ClearField(values)
    return model


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name[:8])
def test_all_but_the_values_of_the_digits(path: Path) -> None:
    assert MODELS
    assert read_structure(str(path)) == emptied(path)


@pytest.mark.parametrize("external", [False, True])
def test_each_way_in_which_values_are_written(tmp_path: Path, external: bool) -> None:
    weights = [
        numpy_helper.from_array(np.arange(4000, dtype=np.float32), "raw"),
        helper.make_tensor("floats", TensorProto.FLOAT, [300], [1.5] * 300),
        helper.make_tensor("integers", TensorProto.INT32, [300], range(300)),
        helper.make_tensor("long", TensorProto.INT64, [300], range(300)),
        helper.make_tensor("double", TensorProto.DOUBLE, [2], [0.5, 1]),
        helper.make_tensor("unsigned", TensorProto.UINT64, [2], [1, 2]),
        numpy_helper.from_array(np.array(["a", "b"], object), "texts"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    # A tensor in a node is part of the structure.
    nodes = [
        helper.make_node("Constant", [], ["one"], value=helper.make_tensor("c", TensorProto.FLOAT, [1], [1.0])),
        helper.make_node("Add", ["x", "one"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "kinds", ends[:1], ends[1:], weights), ir_version=8)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=external, location="weights.bin", size_threshold=64)
    found = read_structure(str(path))
    assert found == emptied(path)
    assert len(found.SerializeToString()) < 800
    assert found.graph.node[0].attribute[0].t.float_data == [1.0]
    assert [tensor.name for tensor in found.graph.initializer] == [tensor.name for tensor in weights]
    assert any(tensor.external_data for tensor in found.graph.initializer) == external


@pytest.mark.parametrize("content", [b"no model", b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"field|number"):
        read_structure(str(path))


def test_an_output_without_a_shape_is_no_fault_of_a_model(tmp_path: Path) -> None:
    """As scikit-learn's converter exports the deviation of a Gaussian process; ONNX Runtime runs it."""
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(str(path))
    assert read_source(str(path)).model.format == "onnx"
