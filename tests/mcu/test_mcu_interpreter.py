# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The firmware's interpreter, on this machine, beside TensorFlow Lite Micro and LiteRT."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from int8_model import Int8Model, Quantisation, Tensor, Window
from mcu_images import Digits
from microcontrollers import BUILT

Array = np.ndarray[Any, Any]
Build = Callable[[Int8Model, Tensor], Tensor]
OPERATOR, ACTIVATION = schema.BuiltinOperator, schema.ActivationFunctionType
RELU, RELU6, RELU_N1_TO_1 = ACTIVATION.RELU, ACTIVATION.RELU6, ACTIVATION.RELU_N1_TO_1
IN, OUT = Quantisation(0.0417, 13), Quantisation(0.113, -21)
SAMPLES = 60


def weights(*shape: int, seed: int = 1) -> Array:
    """Random real numbers; those of each channel have another size."""
    chance = np.random.default_rng(seed)
    return chance.normal(0, 0.4, shape) * chance.uniform(0.05, 2, shape[0]).reshape(-1, *[1] * (len(shape) - 1))


def convolution(window: Window, activation: int = 0, kernel: tuple[int, int] = (3, 3)) -> Build:
    """One convolution from 3 channels to 5."""
    return lambda model, x: model.convolution(x, weights(5, *kernel, 3), weights(5), OUT, window, activation)


def depthwise(window: Window, multiplier: int, activation: int = 0) -> Build:
    """One depthwise convolution of 3 channels."""

    def build(model: Int8Model, x: Tensor) -> Tensor:
        kernel = weights(3 * multiplier, 3, 3, 1).transpose(3, 1, 2, 0)
        return model.depthwise(x, kernel, weights(3 * multiplier), OUT, window, activation)

    return build


def pool(code: int, size: tuple[int, int], window: Window, activation: int = 0) -> Build:
    """One pool."""
    return lambda model, x: model.pool(code, x, size, window, activation)


def dense(activation: int = 0, channels: bool = False, bias: bool = True) -> Build:
    """One dense layer from 8 * 7 * 3 numbers to 11."""
    return lambda model, x: model.fully_connected(
        x, weights(11, 168), weights(11) if bias else None, OUT, activation, channels
    )


def softmax(scale: float, beta: float = 1.0) -> Build:
    """Softmax of numbers of another scale."""
    return lambda model, x: model.softmax(model.quantize(model.reshape(x, (8, 21)), Quantisation(scale, 5)), beta)


CASES: dict[str, Build] = {
    "convolution": convolution(Window()),
    "convolution_valid_stride": convolution(Window((2, 1), same=False), RELU),
    "convolution_same_stride": convolution(Window((3, 2)), RELU6),
    "convolution_dilated": convolution(Window(dilation=(2, 3)), RELU_N1_TO_1),
    "convolution_flat": convolution(Window(same=False), 0, (1, 4)),
    "depthwise": depthwise(Window(), 1, RELU),
    "depthwise_multiplied": depthwise(Window((2, 2), same=False), 4),
    "depthwise_dilated": depthwise(Window(dilation=(2, 2)), 2, RELU6),
    "max_pool": pool(OPERATOR.MAX_POOL_2D, (2, 3), Window((2, 2)), RELU6),
    "max_pool_valid": pool(OPERATOR.MAX_POOL_2D, (3, 2), Window((2, 3), same=False)),
    "average_pool": pool(OPERATOR.AVERAGE_POOL_2D, (3, 3), Window((2, 2)), RELU),
    "average_pool_whole": pool(OPERATOR.AVERAGE_POOL_2D, (8, 7), Window(same=False)),
    "dense": dense(),
    "dense_relu": dense(RELU),
    "dense_channels": dense(RELU6, channels=True),
    "dense_without_bias": dense(bias=False),
    "relu": lambda model, x: model.relu(x, OUT),
    "quantize_wider": lambda model, x: model.quantize(x, Quantisation(0.2, -100)),
    "quantize_narrower": lambda model, x: model.quantize(x, Quantisation(0.011, 3)),
    "reshape": lambda model, x: model.reshape(x, (4, 42)),
    "softmax": softmax(0.1),
    "softmax_sharp": softmax(0.4, 3.0),
    "softmax_dull": softmax(0.003),
    "network": lambda model, x: model.softmax(
        model.fully_connected(convolution(Window((2, 2)))(model, x), weights(10, 80), weights(10), OUT)
    ),
}

# LiteRT rounds once in a dense layer, where TensorFlow Lite Micro rounds twice; a softmax behind it makes more of that.
LITERT_DIFFERS = {"dense": 1, "dense_relu": 1, "dense_channels": 1, "dense_without_bias": 1, "network": 8}


def interpreted(model: Path, inputs: Array) -> Array:
    """What the firmware's interpreter makes of the inputs."""
    run = subprocess.run([str(BUILT / "build" / "infer"), str(model)], input=inputs.tobytes(), capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    return np.frombuffer(run.stdout, np.int8).reshape(len(inputs), -1)


def by_litert(model: Path, inputs: Array) -> Array:
    """What LiteRT's reference kernels make of them."""
    interpreter = Interpreter(str(model), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for values in inputs:
        interpreter.set_tensor(given["index"], values.reshape(given["shape"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result["index"]).reshape(-1))
    return np.array(outputs)


def test_results_equal_those_of_tensorflow_lite_micro_bit_for_bit(tmp_path: Path) -> None:
    chance = np.random.default_rng(7)
    inputs = {}
    for name, build in CASES.items():
        model = Int8Model()
        x = model.input((1, 8, 7, 3), IN)
        (tmp_path / f"{name}.tflite").write_bytes(model.serialised(x, build(model, x)))
        inputs[name] = chance.integers(-128, 128, (SAMPLES, 8 * 7 * 3)).astype(np.int8)
        np.save(tmp_path / f"{name}.inputs.npy", inputs[name])
    program = Path(__file__).parents[1] / "support" / "tflite_micro_outputs.py"
    subprocess.run([str(BUILT / "venv" / "bin" / "python"), str(program), str(tmp_path)], check=True)
    different = {}
    for name in CASES:
        wanted = np.load(tmp_path / f"{name}.outputs.npy")
        assert len(np.unique(wanted)) > 2, f"{name} says next to nothing"
        found = interpreted(tmp_path / f"{name}.tflite", inputs[name])
        if not np.array_equal(found, wanted):
            different[name] = int((found != wanted).sum())
        litert = by_litert(tmp_path / f"{name}.tflite", inputs[name])
        assert np.abs(found.astype(int) - litert).max() <= LITERT_DIFFERS.get(name, 0), name
    assert different == {}


def test_digits_models_answer_as_tensorflow_lite_micro_does() -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        digits = Digits.of(version)
        assert np.array_equal(interpreted(digits.payload, digits.inputs), digits.expected)
