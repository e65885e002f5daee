# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ends the ncnn variant before there is a model. The model itself is made in the recipes' tests, by pnnx."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Model, PublishError, file_of
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.ncnn_variant import convert
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.variants import NothingToDoError


def model(directory: Path, datatype: int = TensorProto.FLOAT) -> Model:
    """A model with one input of this type."""
    ends = [helper.make_tensor_value_info(name, datatype, ["rows", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "model", ends[:1], ends[1:])
    path = directory / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Model("onnx-fp32", "onnx", (file_of(str(path)),))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the converter's package has its program, which is not there."""
    package = tmp_path / "packages" / "pnnx"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(package.parent))
    return package / "pnnx"


@pytest.mark.usefixtures("program")
def test_a_model_that_ncnn_cannot_serve_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError, match=r"takes float32 inputs .*found 'x', TensorProto.INT64 \[0, 4\]"):
        convert(model(tmp_path, TensorProto.INT64), str(tmp_path))


def test_a_converter_that_makes_nothing_is_told_with_what_it_said(tmp_path: Path, program: Path) -> None:
    with pytest.raises(NothingToDoError, match="expected the program pnnx; "):
        convert(model(tmp_path), str(tmp_path))
    program.write_text("#!/bin/sh\necho unknown operator >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(NothingToDoError, match="makes no ncnn model of it, code 3: unknown operator"):
        convert(model(tmp_path), str(tmp_path))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["model.onnx"]


def test_a_converter_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(PublishError, match="its converter is not installed: pip install --no-deps pnnx=="):
        convert(model(tmp_path), str(tmp_path))
