# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ONNX models of any size, and requests for them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
from links import REPOSITORY
from onnx import TensorProto, helper, numpy_helper
from releases import Made, make_release, read_release, variant_entry

from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import WHOLE

WIDTH = 512
INPUTS, OUTPUTS = 64, 10
LAYER_BYTES = 4 * WIDTH * WIDTH
FILE = "model.onnx"
CHANNELS, SIDE = 512, 7


class Network:
    """A perceptron of ``megabytes`` MB: what its versions answer differs by the version's number, nothing else."""

    name = "perceptron"

    def __init__(self, megabytes: int) -> None:
        random = np.random.default_rng(megabytes)

        def weights(inputs: int, outputs: int) -> Any:
            scale = np.float32(1 / np.sqrt(inputs))
            return random.standard_normal((inputs, outputs), dtype=np.float32) * scale

        hidden = round((megabytes << 20) / LAYER_BYTES)
        shapes = [(INPUTS, WIDTH), *[(WIDTH, WIDTH)] * hidden, (WIDTH, OUTPUTS)]
        nodes, constants, last = [], [numpy_helper.from_array(np.zeros(1, np.float32), "number")], "x"
        for layer, shape in enumerate(shapes):
            constants.append(numpy_helper.from_array(weights(*shape), f"weights{layer}"))
            nodes.append(helper.make_node("MatMul", [last, f"weights{layer}"], [f"sum{layer}"]))
            nodes.append(helper.make_node("Tanh", [f"sum{layer}"], [f"layer{layer}"]))
            last = f"layer{layer}"
        nodes.append(helper.make_node("Add", [last, "number"], ["y"]))
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", INPUTS])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", OUTPUTS])],
            constants,
        )
        self._model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        self._x = np.linspace(-1, 1, INPUTS, dtype=np.float32).reshape(1, INPUTS)
        session = onnxruntime.InferenceSession(self.content(0), providers=["CPUExecutionProvider"])
        self._y = session.run(None, {"x": self._x})[0]

    @property
    def request(self) -> dict[str, Any]:
        """A request for one inference."""
        return {"inputs": [_tensor("x", self._x)]}

    def content(self, number: int) -> bytes:
        """The model file of version ``number``."""
        self._model.graph.initializer[0].raw_data = np.array([number], np.float32).tobytes()
        content: bytes = self._model.SerializeToString()
        return content

    def answer(self, number: int) -> list[float]:
        """What version ``number`` answers to the request."""
        values: list[float] = (self._y + np.float32(number)).ravel().tolist()
        return values

    def release(self, number: int) -> Made:
        """The release of version ``number``."""
        files = {FILE: self.content(number)}
        golden = {
            "inputs": self.request["inputs"],
            "outputs": [_tensor("y", self._y + np.float32(number))],
            "tolerance": {"absolute": 1e-4, "relative": 1e-3},
        }
        variant = variant_entry(files, memory_bytes=2 * len(files[FILE]))
        return make_release(f"1.{number}.0", self.name, files, json.dumps(golden).encode(), variants=[variant])


class Convolutions:
    """A network of 3x3 convolutions; its versions differ in one constant that is added at the end.

    Of another ``seed`` all weights are others.
    """

    name = "convolutions"

    def __init__(self, megabytes: int, seed: int = 0) -> None:
        random = np.random.default_rng((megabytes, seed))
        nodes, constants, last = [], [], "x"
        for layer in range(max(1, round(megabytes * 1e6 / (4 * 9 * CHANNELS**2)))):
            weights = random.standard_normal((CHANNELS, CHANNELS, 3, 3), dtype=np.float32) / 70
            constants.append(numpy_helper.from_array(weights, f"w{layer}"))
            nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1] * 4))
            nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
            last = f"r{layer}"
        nodes.append(helper.make_node("Add", [last, "number"], ["y"]))
        shape: list[str | int | None] = ["N", CHANNELS, SIDE, SIDE]
        tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
        graph = helper.make_graph(nodes, "graph", tensors[:1], tensors[1:], constants)
        self._model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        self._x = random.standard_normal((1, CHANNELS, SIDE, SIDE), dtype=np.float32)

    def content(self, number: int) -> bytes:
        """The model file of version ``number``."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        model.graph.initializer.append(numpy_helper.from_array(np.array([number], np.float32), "number"))
        content: bytes = model.SerializeToString()
        return content

    def release(self, number: int) -> Made:
        """The release of version ``number``."""
        files = {FILE: self.content(number)}
        (y,) = onnxruntime.InferenceSession(files[FILE]).run(None, {"x": self._x})
        golden = {
            "inputs": [_tensor("x", self._x)],
            "outputs": [_tensor("y", y)],
            "tolerance": {"absolute": 1e-3, "relative": 1e-3},
        }
        variant = variant_entry(files, memory_bytes=4 * len(files[FILE]))
        return make_release(f"1.{number}.0", self.name, files, json.dumps(golden).encode(), variants=[variant])


class Digits:
    """The small network of the example, with its probe set. Its versions differ in nothing but their bytes."""

    name = "digits"

    def __init__(self) -> None:
        self._made = read_release(REPOSITORY / "examples" / "digits" / "repository", self.name, "1.1.0")
        release = self._made.release
        part = release.parts[WHOLE]
        assert part.golden is not None
        assert part.probe is not None
        self._golden = self._made.blobs[part.golden.sha256]
        self._probe = self._made.blobs[part.probe.sha256]
        content = self._made.blobs[release.variants[0].files[0].sha256]
        self._model = onnx.load_from_string(content)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (given,) = self.request["inputs"]
        values = np.array(given["data"], np.float32).reshape(given["shape"])
        self._y: list[float] = session.run(None, {given["name"]: values})[0].ravel().tolist()

    @property
    def request(self) -> dict[str, Any]:
        """A request for one inference."""
        (batch,) = json.loads(self._probe)["inputs"]
        shape = [1, *batch["shape"][1:]]
        data = batch["data"][: int(np.prod(shape))]
        return {"inputs": [{**batch, "shape": shape, "data": data}]}

    @property
    def rows(self) -> dict[str, Any]:
        """The inputs of its probe set, by name: many rows, typical of what is to come."""
        return {
            given["name"]: np.array(given["data"], np.float32).reshape(given["shape"])
            for given in json.loads(self._probe)["inputs"]
        }

    def content(self, number: int) -> bytes:
        """The model file of version ``number``; the file of each has the same size."""
        self._model.doc_string = f"{number:06}"
        content: bytes = self._model.SerializeToString()
        return content

    def answer(self, number: int) -> list[float]:
        """What version ``number`` answers to the request."""
        return self._y

    def release(self, number: int) -> Made:
        """The release of version ``number``."""
        files = {FILE: self.content(number)}
        return make_release(f"1.{number}.0", self.name, files, self._golden, self._probe)


IMAGE_SHAPE = (1, 3, 224, 224)
# MobileNet's pairs of a depthwise and a pointwise convolution: channels, and the depthwise one's stride (Howard et al.,
# MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, arXiv:1704.04861, table 1).
_MOBILENET = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
_CLASSES = 1000


def mobilenet() -> bytes:
    """MobileNet of full width, 4.2 million random weights: ``scores`` (FP32 [1, 1000]) of ``image`` (IMAGE_SHAPE)."""
    random = np.random.default_rng(1)
    nodes: list[onnx.NodeProto] = []
    constants: list[TensorProto] = []
    last, channels = "image", IMAGE_SHAPE[1]

    def convolution(outputs: int, size: int, stride: int, groups: int) -> None:
        nonlocal last, channels
        fan_in = channels // groups * size * size
        shape = (outputs, channels // groups, size, size)
        weights = random.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))
        name = f"weights{len(constants)}"
        constants.append(numpy_helper.from_array(weights, name))
        sizes: dict[str, Any] = {
            "kernel_shape": [size] * 2,
            "strides": [stride] * 2,
            "pads": [size // 2] * 4,
            "group": groups,
        }
        nodes.append(helper.make_node("Conv", [last, name], [f"{name}_sum"], **sizes))
        nodes.append(helper.make_node("Relu", [f"{name}_sum"], [f"{name}_out"]))
        last, channels = f"{name}_out", outputs

    convolution(32, size=3, stride=2, groups=1)
    for outputs, stride in _MOBILENET:
        convolution(channels, size=3, stride=stride, groups=channels)
        convolution(outputs, size=1, stride=1, groups=1)
    constants.append(numpy_helper.from_array(random.standard_normal((channels, _CLASSES), dtype=np.float32), "weights"))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, IMAGE_SHAPE)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, _CLASSES])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def _tensor(name: str, values: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
