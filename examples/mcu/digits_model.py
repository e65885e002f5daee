# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make int8 models for microcontrollers from the digits models of examples/digits/repository.

Writes per version OUT/VERSION.tflite, and OUT/VERSION.npz with `inputs` (int8), `expected` (int8, by TensorFlow Lite
Micro), `labels` and `probabilities` (of the ONNX model in single precision). Ranges are those of half of the probe
set's images; the other half judges the result, which is printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert import schema_py_generated as schema
from int8_model import Array, Int8Model, Quantisation, Tensor, Window
from tflite_micro.python.tflite_micro import runtime

REPOSITORY = Path(__file__).resolve().parents[1] / "digits" / "repository"
RELU = schema.ActivationFunctionType.RELU
PIXEL_MAXIMUM = 16.0


class Samples(NamedTuple):
    """Images [N, 8, 8] with pixels from 0 to 16, and the digits that they show."""

    images: Array
    labels: Array


def blob(digest: str) -> Path:
    """A file of the model repository."""
    return REPOSITORY / "blobs" / "sha256" / digest


def manifest(version: str) -> Any:
    """The manifest of a version."""
    return json.loads((REPOSITORY / "digits" / version / "manifest.json").read_text(encoding="utf-8"))


def samples(version: str) -> Samples:
    """The probe set of a version."""
    probe = json.loads(blob(manifest(version)["probe"]["sha256"]).read_text(encoding="utf-8"))
    images = np.array(probe["inputs"][0]["data"], np.float32).reshape(-1, 8, 8)
    return Samples(images, np.array(probe["labels"]))


def source(version: str) -> onnx.ModelProto:
    """The ONNX model in single precision."""
    variant = next(variant for variant in manifest(version)["variants"] if variant["name"] == "onnx-fp32")
    return onnx.load(blob(variant["files"][0]["sha256"]))


def activations(model: onnx.ModelProto, images: Array) -> dict[str, Array]:
    """What every node of the model puts out for the images, by the name of its output."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    names = [name for node in model.graph.node if node.op_type != "Constant" for name in node.output]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {"image": images[:, None]}), strict=True))


def converted(model: onnx.ModelProto, calibration: Array) -> bytes:
    """The int8 model of a digits network: two convolutions, each with a pool, and two dense layers."""
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    seen = activations(model, calibration)
    layers = layers_of(model, seen)
    result = Int8Model()
    first = x = result.input((1, 8, 8, 1), Quantisation.of(0, PIXEL_MAXIMUM))
    for position, (node, out, activation) in enumerate(layers):
        kernel, bias = (weights[name] for name in node.input[1:3])
        if node.op_type == "Conv":
            # Rows and columns before channels. The network divides pixels by their maximum; here the first weights do.
            kernel = kernel.transpose(0, 2, 3, 1) / (PIXEL_MAXIMUM if position == 0 else 1.0)
            x = result.convolution(x, kernel, bias, out, activation=activation)
            x = result.pool(schema.BuiltinOperator.MAX_POOL_2D, x, (2, 2), Window(stride=(2, 2), same=False))
        else:
            x, kernel = flattened(result, x, kernel)
            x = result.fully_connected(x, kernel, bias, out, activation)
    return result.serialised(first, result.softmax(x))


def layers_of(model: onnx.ModelProto, seen: dict[str, Array]) -> Iterator[tuple[Any, Quantisation, int]]:
    """Each layer with weights, the quantisation of what it puts out, and the activation function behind it."""
    behind = {name: node for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            relu = behind[node.output[0]].op_type == "Relu"
            values = seen[behind[node.output[0]].output[0] if relu else node.output[0]]
            yield node, Quantisation.of(float(values.min()), float(values.max())), RELU if relu else 0


def flattened(result: Int8Model, x: Tensor, kernel: Array) -> tuple[Tensor, Array]:
    """The tensor as one row, and a dense layer's weights in its order: channels come last here, first in ONNX."""
    if len(x.shape) == 2:
        return x, kernel
    _batch, rows, columns, channels = x.shape
    kernel = kernel.reshape(-1, channels, rows, columns).transpose(0, 2, 3, 1).reshape(len(kernel), -1)
    return result.reshape(x, (1, rows * columns * channels)), kernel


def run(model: bytes, inputs: Array) -> Array:
    """What TensorFlow Lite Micro makes of int8 inputs, one after the other."""
    interpreter = runtime.Interpreter.from_bytes(model)
    shape = interpreter.get_input_details(0)["shape"]
    outputs = []
    for values in inputs:
        interpreter.set_input(values.reshape(shape), 0)
        interpreter.invoke()
        outputs.append(interpreter.get_output(0).reshape(-1))
    return np.array(outputs)


def make(version: str, out: Path) -> None:
    """Write the model of one version and what it must answer."""
    model, (images, labels) = source(version), samples(version)
    content = converted(model, images[::2])
    inputs = Quantisation.of(0, PIXEL_MAXIMUM).quantised(images).reshape(len(images), -1)
    expected = run(content, inputs)
    probabilities = activations(model, images)["probabilities"]
    judged = slice(1, None, 2)
    report = {
        "version": version,
        "bytes": len(content),
        "accuracy_float": round(float((probabilities.argmax(1) == labels)[judged].mean()), 4),
        "accuracy_int8": round(float((expected.argmax(1) == labels)[judged].mean()), 4),
    }
    print(json.dumps(report), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{version}.tflite").write_bytes(content)
    np.savez(out / f"{version}.npz", inputs=inputs, expected=expected, labels=labels, probabilities=probabilities)


def main() -> None:
    """Make the model of every version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="directory to write to")
    out: Path = parser.parse_args().out
    for path in sorted((REPOSITORY / "digits").iterdir()):
        make(path.name, out)


if __name__ == "__main__":
    main()
