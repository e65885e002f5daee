# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models with operators that a library of the release has: Microsoft's onnxruntime-extensions, as its wheel is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from releases import make_release, variant_entry
from server_process import Device

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.onnx_check import check_onnx

LIBRARY = "extensions.so"


def upper() -> bytes:
    """``y`` = ``x`` (texts, [N]) in capitals, by an operator that ONNX Runtime has not."""
    node = helper.make_node("StringUpper", ["x"], ["y"], domain="ai.onnx.contrib")
    graph = helper.make_graph(
        [node],
        "upper",
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["N"])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)]
    content: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return content


def tensor(name: str, *texts: str) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}


GOLDEN = {"inputs": [tensor("x", "a b")], "outputs": [tensor("y", "A B")], "tolerance": {"absolute": 0, "relative": 0}}


@pytest.fixture(scope="module")
def library() -> bytes:
    """The wheel's shared library."""
    package = importlib.util.find_spec("onnxruntime_extensions")
    assert package is not None
    assert package.origin is not None
    (path,) = Path(package.origin).parent.glob("_extensions_pydll*.so")
    return path.read_bytes()


def test_a_release_with_its_library_is_registered_and_served(device: Device, library: bytes) -> None:
    device.publish("upper", "1.0.0", upper(), GOLDEN, variant={"libraries": [LIBRARY]}, files={LIBRARY: library})
    device.start()
    (output,) = device.post("/v2/models/upper/infer", {"inputs": [tensor("x", "abc", "d")]}).json()["outputs"]
    assert output["data"] == ["ABC", "D"]
    # Another version with the same library, beside the first and then in its place.
    device.publish("upper", "1.1.0", upper(), GOLDEN, variant={"libraries": [LIBRARY]}, files={LIBRARY: library})
    assert device.load("upper").status == 200
    (output,) = device.post("/v2/models/upper/infer", {"inputs": [tensor("x", "abc")]}).json()["outputs"]
    assert output["data"] == ["ABC"]


def test_a_release_without_its_library_is_refused_and_the_version_before_serves(device: Device, library: bytes) -> None:
    device.publish("upper", "1.0.0", upper(), GOLDEN, variant={"libraries": [LIBRARY]}, files={LIBRARY: library})
    device.start()
    device.publish("upper", "1.1.0", upper(), GOLDEN, files={LIBRARY: library})
    reply = device.load("upper")
    assert reply.status == 400
    assert "ai.onnx.contrib:StringUpper" in reply.json()["error"]
    reply = device.post("/v2/models/upper/infer", {"inputs": [tensor("x", "abc")]})
    assert (reply.json()["model_version"], reply.json()["outputs"][0]["data"]) == ("1.0.0", ["ABC"])


@pytest.mark.parametrize("named", [True, False])
def test_the_controller_refuses_it_before_a_byte_is_sent(tmp_path: Path, library: bytes, named: bool) -> None:
    files = {"model.onnx": upper(), LIBRARY: library}
    changes: dict[str, Any] = {"libraries": [LIBRARY]} if named else {}
    entry = variant_entry(files, **changes)
    (variant,) = make_release(files=files, variants=[entry]).release.variants
    path = tmp_path / "model.onnx"
    path.write_bytes(upper())
    if named:
        check_onnx(variant, "model.onnx", str(path))
        return
    with pytest.raises(
        ManifestError, match=r"found ai\.onnx\.contrib:StringUpper\. Put the shared library that has them"
    ):
        check_onnx(variant, "model.onnx", str(path))


def test_a_library_that_is_none_is_named(device: Device) -> None:
    device.publish("upper", "1.0.0", upper(), variant={"libraries": [LIBRARY]}, files={LIBRARY: b"no library"})
    device.start()
    assert LIBRARY in device.get("/v2/models/upper/ready").json()["error"]
