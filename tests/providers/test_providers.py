# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server with execution providers other than the CPU's: Qualcomm's neural processor as its package emulates it,
OpenVINO, and those that a device has not (`make providers` makes their environments)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edgeml_device._device.facts import processor_id
from edgeml_device._device.prepared import PreparedModel
from links import PYTHON_PATH, REPOSITORY
from onnx import TensorProto, helper
from server_process import Device, Lines

NETWORK, VERSION = "network", "1.0.0"
ENVIRONMENTS = REPOSITORY / ".cache" / "providers"
# The neural processor computes with 16 bits.
TOLERANCE = 2e-2
IMAGE = np.random.default_rng(7).random((1, 3, 16, 16), dtype=np.float32)


def network() -> bytes:
    """A convolution, a pooling and a matrix, with sizes that are fixed."""
    generator = np.random.default_rng(5)
    weights: dict[str, Any] = {
        "kernel": generator.standard_normal((8, 3, 3, 3)).astype(np.float32) / 5,
        "matrix": generator.standard_normal((8, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["found"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["found"], ["kept"]),
        helper.make_node("GlobalAveragePool", ["kept"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["row"]),
        helper.make_node("MatMul", ["row", "matrix"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def expected() -> Any:
    """What the reference implementation of ONNX computes."""
    from onnx.reference import ReferenceEvaluator

    (scores,) = ReferenceEvaluator(onnx.load_from_string(network())).run(None, {"image": IMAGE})
    return scores


def python_of(name: str) -> str:
    return str(ENVIRONMENTS / name / "bin" / "python")


@pytest.fixture
def device(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Device]:
    """A device of the provider that is the test's parameter, with the network in its store."""
    made = Device(tmp_path, python_of(request.param))
    tensors = {
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 3, 16, 16], "data": IMAGE.ravel().tolist()}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 4], "data": expected().ravel().tolist()}],
    }
    made.publish(NETWORK, VERSION, network(), {**tensors, "tolerance": {"relative": TOLERANCE, "absolute": TOLERANCE}})
    yield made
    made.stop()


def prepare(device: Device, provider: str) -> dict[str, Any]:
    """Run the tool, as the device does, and keep what it made."""
    device.configure(execution_provider=provider)
    version = device.store.version(NETWORK, VERSION)
    with device.store.work_directory() as work:
        command = [device.python, "-m", "edgeml_server.tools.prepare", version.directory, work]
        done = subprocess.run(
            [*command, "--config", str(device.config_path)],
            env={"PYTHONPATH": str(PYTHON_PATH), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        told: dict[str, Any] = json.loads(done.stdout)
        if "settings" not in told:
            return told
        files = device.store.adopt_prepared(work, told["files"])
    entrypoint = next(file.path for file in files if file.path.endswith(told["entrypoint"]))
    made = PreparedModel(told["runtime"], processor_id(), entrypoint, told["settings"], files)
    device.store.keep_prepared(version, {"prepared": made.document}, files)
    return told


def assert_serves(device: Device) -> None:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 3, 16, 16], "data": IMAGE.ravel().tolist()}
    reply = device.post(f"/v2/models/{NETWORK}/infer", {"inputs": [tensor]})
    assert reply.status == 200, reply.body
    np.testing.assert_allclose(reply.json()["outputs"][0]["data"], expected().ravel(), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("device", ["qnn"], indirect=True)
def test_an_engine_is_made_when_it_is_staged_tested_and_loaded(device: Device) -> None:
    told = prepare(device, "qnn")
    assert (told["entrypoint"], told["settings"]) == ("engine.onnx", {"engine": "yes"}), told
    assert told["runtime"].startswith("onnxruntime ")
    assert "qnn, onnxruntime-qnn " in told["runtime"]
    # It says where the time goes that an engine saves.
    assert told["load_cpu_seconds"] < told["published"]["load_cpu_seconds"]
    device.start(execution_provider="qnn")
    assert "prepared=True" in device.log.wait_for_text("info model loaded")
    assert_serves(device)


@pytest.mark.parametrize("device", ["qnn"], indirect=True)
def test_an_engine_that_is_not_whole_or_of_another_provider_is_not_used(device: Device) -> None:
    prepare(device, "qnn")
    directory = Path(device.store.version(NETWORK, VERSION).directory)
    (engine,) = directory.glob("prepared-*/*.bin")
    device.start(execution_provider="cpu")
    assert "prepared=False" in device.log.wait_for_text("info model loaded")
    assert_serves(device)
    device.stop()
    engine.chmod(0o600)
    engine.write_bytes(engine.read_bytes()[:1000])
    device.log = Lines()
    device.start(execution_provider="qnn")
    assert "prepared=False" in device.log.wait_for_text("info model loaded")
    assert_serves(device)


@pytest.mark.parametrize("device", ["openvino"], indirect=True)
def test_openvino_serves_and_keeps_no_engine(device: Device) -> None:
    assert prepare(device, "openvino")["forms"] == []
    device.start(execution_provider="openvino")
    assert_serves(device)


@pytest.mark.parametrize(("device", "provider"), [("openvino", "cuda"), ("openvino", "tensorrt")], indirect=["device"])
def test_a_provider_that_the_runtime_has_not_is_named(device: Device, provider: str) -> None:
    told = prepare(device, provider)
    assert f"execution_provider {provider!r}: ONNX Runtime" in told["error"], told
    assert "OpenVINOExecutionProvider" in told["error"]
    device.spawn(execution_provider=provider)
    device.wait_listening()
    device.log.wait_for_text(f"execution_provider {provider!r}")


@pytest.mark.parametrize("device", ["openvino"], indirect=True)
def test_a_provider_whose_package_is_not_there_is_named(device: Device) -> None:
    assert "execution_provider 'qnn': not installed" in prepare(device, "qnn")["error"]
