# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model repository with the digits, and with releases of them that no smoke test can find fault with.

1.3.0: 1.1.0 once more. 1.4.0: answers the same, slowly. 1.5.0: answers the same; asked for 32 rows at once, as its
probe set does, it takes more memory than a device has.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIGITS = Path(__file__).parents[2] / "examples/digits/repository"
AGAIN, SLOW, HUNGRY = "1.3.0", "1.4.0", "1.5.0"
SIDE = 2048
PRODUCTS = 4
MEBIBYTE_FLOATS = 1 << 18


def make_repository(directory: Path, more: Sequence[str] = ()) -> None:
    """Write the repository into ``directory``, empty or not there. ``more``: versions that are 1.1.0 as well."""
    shutil.copytree(DIGITS, directory, dirs_exist_ok=True)
    manifest = json.loads((directory / "digits/1.1.0/manifest.json").read_text())
    blobs = directory / "blobs/sha256"
    model = onnx.load_from_string((blobs / manifest["variants"][0]["files"][0]["sha256"]).read_bytes())
    for version in (AGAIN, *more):
        _publish(directory, manifest, version, model)
    _publish(directory, manifest, SLOW, _slow(model))
    _publish(directory, manifest, HUNGRY, _hungry(model))


def _publish(directory: Path, manifest: dict[str, Any], version: str, model: onnx.ModelProto) -> None:
    document = json.loads(json.dumps({**manifest, "version": version}))
    content = model.SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    (directory / "blobs/sha256" / digest).write_bytes(content)
    document["variants"][0]["files"][0].update(size=len(content), sha256=digest)
    path = directory / "digits" / version
    path.mkdir()
    (path / "manifest.json").write_text(json.dumps(document))


def _copy(model: onnx.ModelProto, *nodes: onnx.NodeProto, **constants: Any) -> onnx.ModelProto:
    """The model with ``nodes`` after it, which make ``probabilities`` of what was its output, now called ``answer``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        for index, name in enumerate(node.output):
            if name == "probabilities":
                node.output[index] = "answer"
    copy.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    copy.graph.node.extend(nodes)
    onnx.checker.check_model(copy)
    return copy


def _slow(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every answer is multiplied by a large unit matrix, again and again."""
    nodes = [
        helper.make_node("ConstantOfShape", ["side"], ["zeros"]),
        helper.make_node("EyeLike", ["zeros"], ["unit"], dtype=TensorProto.FLOAT),
        helper.make_node("Pad", ["answer", "margin"], ["product_0"]),
        *(
            helper.make_node("MatMul", [f"product_{number}", "unit"], [f"product_{number + 1}"])
            for number in range(PRODUCTS)
        ),
        helper.make_node("Slice", [f"product_{PRODUCTS}", "first", "last", "axis"], ["probabilities"]),
    ]
    return _copy(
        model,
        *nodes,
        side=np.array([SIDE, SIDE], np.int64),
        margin=np.array([0, 0, 0, SIDE - 10], np.int64),
        first=np.array([0], np.int64),
        last=np.array([10], np.int64),
        axis=np.array([1], np.int64),
    )


def _hungry(model: onnx.ModelProto) -> onnx.ModelProto:
    """Beside the answer to n rows it fills n * n * 4 mebibytes with zeros, and adds the largest of them."""
    nodes = [
        helper.make_node("Shape", ["answer"], ["shape"]),
        helper.make_node("Slice", ["shape", "first", "last"], ["rows"]),
        helper.make_node("Concat", ["rows", "rows", "mebibytes"], ["volume"], axis=0),
        helper.make_node("Expand", ["zero", "volume"], ["filled"]),
        helper.make_node("ReduceMax", ["filled"], ["largest"], keepdims=0),
        helper.make_node("Add", ["answer", "largest"], ["probabilities"]),
    ]
    return _copy(
        model,
        *nodes,
        first=np.array([0], np.int64),
        last=np.array([1], np.int64),
        mebibytes=np.array([4 * MEBIBYTE_FLOATS], np.int64),
        zero=np.array([0], np.float32),
    )
