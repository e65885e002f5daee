# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write int8 models in TensorFlow Lite's format: weights by channel, symmetric, as its converter quantises them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

Array = np.ndarray[Any, Any]
OPERATOR, OPTIONS = schema.BuiltinOperator, schema.BuiltinOptions
SOFTMAX_OUTPUT = (1 / 256, -128)


@dataclass(frozen=True)
class Quantisation:
    """A real number is `scale` * (q - `zero`)."""

    scale: float
    zero: int

    @classmethod
    def of(cls, least: float, most: float) -> Quantisation:
        """The one for numbers from `least` to `most`, with 0 among them."""
        least, most = min(least, 0.0), max(most, 0.0)
        scale = float(np.float32((most - least) / 255))
        return cls(scale, int(np.clip(round(-128 - least / scale), -128, 127)))

    def quantised(self, values: Array) -> Array:
        """The int8 numbers nearest to real ones."""
        return np.clip(np.round(values / self.scale) + self.zero, -128, 127).astype(np.int8)


@dataclass(frozen=True)
class Tensor:
    """A tensor that operators compute."""

    index: int
    shape: tuple[int, ...]
    quantisation: Quantisation


@dataclass(frozen=True)
class Window:
    """How a window moves over rows and columns."""

    stride: tuple[int, int] = (1, 1)
    same: bool = True  # padding, so that the output has the input's size, divided by the stride
    dilation: tuple[int, int] = (1, 1)

    def sizes(self, shape: tuple[int, ...], window: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the output."""
        first, second = (
            -(-size // step) if self.same else -(-(size - (filter_ - 1) * dilation) // step)
            for size, filter_, step, dilation in zip(shape[1:3], window, self.stride, self.dilation, strict=True)
        )
        return first, second


class Int8Model:
    """A model that is put together, from its input on."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.operatorCodes = []
        self._model.buffers = [schema.BufferT()]  # that of all tensors without a content of their own
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs = [self._graph]

    def input(self, shape: tuple[int, ...], quantisation: Quantisation) -> Tensor:
        """The model's input."""
        return self._computed(shape, quantisation)

    def convolution(
        self, x: Tensor, weights: Array, bias: Array, out: Quantisation, window: Window = Window(), activation: int = 0
    ) -> Tensor:
        """Weights [outputs, rows, columns, inputs] and bias [outputs], both real."""
        options = schema.Conv2DOptionsT()
        options.dilationHFactor, options.dilationWFactor = window.dilation
        shape = (x.shape[0], *window.sizes(x.shape, weights.shape[1:3]), weights.shape[0])
        inputs = [x.index, *self._weights(x, weights, bias, 0)]
        return self._moved(OPERATOR.CONV_2D, OPTIONS.Conv2DOptions, options, inputs, window, activation, (shape, out))

    def depthwise(
        self, x: Tensor, weights: Array, bias: Array, out: Quantisation, window: Window = Window(), activation: int = 0
    ) -> Tensor:
        """Weights [1, rows, columns, outputs]: each input channel has outputs/inputs of them."""
        options = schema.DepthwiseConv2DOptionsT()
        options.dilationHFactor, options.dilationWFactor = window.dilation
        options.depthMultiplier = weights.shape[3] // x.shape[3]
        shape = (x.shape[0], *window.sizes(x.shape, weights.shape[1:3]), weights.shape[3])
        inputs = [x.index, *self._weights(x, weights, bias, 3)]
        kind = OPTIONS.DepthwiseConv2DOptions
        return self._moved(OPERATOR.DEPTHWISE_CONV_2D, kind, options, inputs, window, activation, (shape, out))

    def pool(self, code: int, x: Tensor, size: tuple[int, int], window: Window, activation: int = 0) -> Tensor:
        """MAX_POOL_2D or AVERAGE_POOL_2D."""
        options = schema.Pool2DOptionsT()
        options.filterHeight, options.filterWidth = size
        result = ((x.shape[0], *window.sizes(x.shape, size), x.shape[3]), x.quantisation)
        return self._moved(code, OPTIONS.Pool2DOptions, options, [x.index], window, activation, result)

    def fully_connected(
        self,
        x: Tensor,
        weights: Array,
        bias: Array | None,
        out: Quantisation,
        activation: int = 0,
        channels: bool = False,
    ) -> Tensor:
        """Weights [outputs, inputs], with one scale for all or one for each of the `channels`."""
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        rows = int(np.prod(x.shape)) // weights.shape[1]
        inputs = [x.index, *self._weights(x, weights, bias, 0 if channels else None)]
        result = self._computed((rows, weights.shape[0]), out)
        self._operator(OPERATOR.FULLY_CONNECTED, inputs, result, (OPTIONS.FullyConnectedOptions, options))
        return result

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The same numbers in another shape."""
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        wanted = self._constant(np.array(shape, np.int32), schema.TensorType.INT32)
        result = self._computed(shape, x.quantisation)
        self._operator(OPERATOR.RESHAPE, [x.index, wanted], result, (OPTIONS.ReshapeOptions, options))
        return result

    def softmax(self, x: Tensor, beta: float = 1.0) -> Tensor:
        """Shares of the last axis."""
        options = schema.SoftmaxOptionsT()
        options.beta = beta
        result = self._computed(x.shape, Quantisation(*SOFTMAX_OUTPUT))
        self._operator(OPERATOR.SOFTMAX, [x.index], result, (OPTIONS.SoftmaxOptions, options))
        return result

    def relu(self, x: Tensor, out: Quantisation) -> Tensor:
        """What is below 0 becomes 0."""
        result = self._computed(x.shape, out)
        self._operator(OPERATOR.RELU, [x.index], result, (0, None))
        return result

    def quantize(self, x: Tensor, out: Quantisation) -> Tensor:
        """The same numbers by another quantisation."""
        result = self._computed(x.shape, out)
        self._operator(OPERATOR.QUANTIZE, [x.index], result, (OPTIONS.QuantizeOptions, schema.QuantizeOptionsT()))
        return result

    def serialised(self, x: Tensor, y: Tensor) -> bytes:
        """The file of the model from input `x` to output `y`."""
        self._graph.inputs, self._graph.outputs = [x.index], [y.index]
        builder = flatbuffers.Builder()
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _tensor(self, shape: tuple[int, ...], kind: int, buffer: int) -> Any:
        tensor = schema.TensorT()
        tensor.name = f"t{len(self._graph.tensors)}".encode()
        tensor.shape, tensor.type, tensor.buffer = list(shape), kind, buffer
        self._graph.tensors.append(tensor)
        return tensor

    def _quantise(self, tensor: Any, scales: Array, zero: int, axis: int = 0) -> int:
        quantisation = schema.QuantizationParametersT()
        quantisation.scale = [float(scale) for scale in scales]
        quantisation.zeroPoint = [zero] * len(scales)
        quantisation.quantizedDimension = axis
        tensor.quantization = quantisation
        return len(self._graph.tensors) - 1

    def _computed(self, shape: tuple[int, ...], quantisation: Quantisation) -> Tensor:
        tensor = self._tensor(shape, schema.TensorType.INT8, 0)
        index = self._quantise(tensor, np.array([quantisation.scale], np.float32), quantisation.zero)
        return Tensor(index, tuple(shape), quantisation)

    def _constant(self, content: Array, kind: int) -> int:
        buffer = schema.BufferT()
        buffer.data = list(content.tobytes())
        self._model.buffers.append(buffer)
        self._tensor(content.shape, kind, len(self._model.buffers) - 1)
        return len(self._graph.tensors) - 1

    def _weights(self, x: Tensor, weights: Array, bias: Array | None, axis: int | None) -> list[int]:
        """Indices of quantised weights and bias; `axis` is that of the channels, None for one scale for all."""
        others = tuple(other for other in range(weights.ndim) if other != axis)
        scales = (np.abs(weights).max(axis=others).reshape(-1) / 127).astype(np.float32)
        spread = (
            scales if axis is None else scales.reshape([-1 if other == axis else 1 for other in range(weights.ndim)])
        )
        content = np.clip(np.round(weights / spread), -127, 127).astype(np.int8)
        index = self._constant(content, schema.TensorType.INT8)
        self._quantise(self._graph.tensors[index], scales, 0, axis or 0)
        if bias is None:
            return [index, -1]
        bias_scales = (np.float32(x.quantisation.scale) * scales).astype(np.float32)
        bias_index = self._constant(np.round(bias / bias_scales).astype(np.int32), schema.TensorType.INT32)
        self._quantise(self._graph.tensors[bias_index], bias_scales, 0)
        return [index, bias_index]

    def _moved(
        self, code: int, kind: int, options: Any, inputs: list[int], window: Window, activation: int, result: Any
    ) -> Tensor:
        options.strideH, options.strideW = window.stride
        options.padding = schema.Padding.SAME if window.same else schema.Padding.VALID
        options.fusedActivationFunction = activation
        tensor = self._computed(*result)
        self._operator(code, inputs, tensor, (kind, options))
        return tensor

    def _operator(self, code: int, inputs: list[int], result: Tensor, options: tuple[int, Any]) -> None:
        known = schema.OperatorCodeT()
        known.builtinCode = known.deprecatedBuiltinCode = code
        known.version = 1
        self._model.operatorCodes.append(known)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [result.index]
        operator.builtinOptionsType, operator.builtinOptions = options
        self._graph.operators.append(operator)
