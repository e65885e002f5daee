# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digits network by ncnn: converted by pnnx, proved, served and swapped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from links import REPOSITORY
from onnx import helper
from publications import Case, answers, digits_holdout, digits_model, serve
from server_process import Device

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import RefusedError

ROWS = 40


@pytest.fixture(autouse=True)
def _converter(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = REPOSITORY / ".cache" / "recipes" / "pnnx"
    assert directory.exists(), "run `make recipes`"
    monkeypatch.syspath_prepend(str(directory))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    try:
        yield device
    finally:
        device.stop()


def asked(device: Device) -> tuple[str, Any]:
    """The version that answers, and its probabilities."""
    images = digits_holdout()[0][:ROWS]
    tensor = {"name": "image", "datatype": "FP32", "shape": list(images.shape), "data": images.ravel().tolist()}
    reply = device.post("/v2/models/digits/infer", {"inputs": [tensor]}).json()
    (output,) = reply["outputs"]
    return reply["model_version"], np.reshape(output["data"], output["shape"])


def test_a_device_goes_from_onnx_to_ncnn(tmp_path: Path, device: Device) -> None:
    for version, variant in (("1.1.0", "fp32"), ("1.2.0", "ncnn")):
        case = Case(tmp_path)
        case.samples["reference"] = answers(case.model, case.samples["image"])
        case.options.update(version=version, variants=[variant])
        serve(device, case.publish(), Path(case.options["repository"]))
        if version == "1.1.0":
            device.start()
            assert device.get("/v2/models/digits").json()["platform"] == "onnx_onnxv1"
        else:
            assert device.load("digits").status == 200
            assert device.get("/v2/models/digits").json()["platform"] == "ncnn"
        served, probabilities = asked(device)
        assert served == version
        np.testing.assert_allclose(probabilities, answers(digits_model(), digits_holdout()[0][:ROWS]), atol=1e-4)


def test_a_model_whose_rows_depend_on_each_other_does_not_survive_the_conversion(tmp_path: Path) -> None:
    """ncnn has no batch. What a model computes over the rows is another thing there, and the holdout shows it."""
    proto = onnx.load_model_from_string(digits_model())
    graph = proto.graph
    first = next(node for node in graph.node if "image" in node.input)
    mean = helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=1, axes=[0])
    centred = helper.make_node("Sub", ["image", "mean"], ["centred"])
    first.input[list(first.input).index("image")] = "centred"
    graph.node.insert(0, mean)
    graph.node.insert(1, centred)
    case = Case(tmp_path, proto.SerializeToString())
    case.options.update(variants=["fp32", "ncnn"], required_variants=["ncnn"])
    with pytest.raises(RefusedError) as refused:
        case.publish()
    assert "ncnn-fp32: " in str(refused.value)
