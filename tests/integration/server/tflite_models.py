# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small LiteRT models, each made for one question, written with the schema that LiteRT's package brings along.

Run this file to write them into the directory ``tflite`` again. The numbers are the schema's own:
https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

DIRECTORY = Path(__file__).with_name("tflite")
ELEMENT_TYPES = {
    "BOOL": schema.TensorType.BOOL,
    "UINT8": schema.TensorType.UINT8,
    "UINT16": schema.TensorType.UINT16,
    "UINT32": schema.TensorType.UINT32,
    "INT8": schema.TensorType.INT8,
    "INT16": schema.TensorType.INT16,
    "INT32": schema.TensorType.INT32,
    "INT64": schema.TensorType.INT64,
    "FP16": schema.TensorType.FLOAT16,
    "FP32": schema.TensorType.FLOAT32,
    "FP64": schema.TensorType.FLOAT64,
    "BYTES": schema.TensorType.STRING,
}


class Graph:
    """A model that is being put together."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.description = b"made for a test"
        self._model.operatorCodes = []
        # Buffer 0 is that of all tensors without a content of their own.
        self._model.buffers = [schema.BufferT()]
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._model.subgraphs = [self._graph]

    def tensor(
        self, name: str, kind: int, shape: Sequence[int], content: bytes | None = None, variable: bool = False
    ) -> int:
        """Add a tensor, -1 for variable sizes; return its index. A ``variable`` one is kept from run to run."""
        tensor = schema.TensorT()
        tensor.isVariable = variable
        tensor.name, tensor.type = name.encode(), kind
        tensor.shape = [max(size, 1) for size in shape]
        tensor.shapeSignature = list(shape) if -1 in shape else None
        tensor.buffer = 0
        if content is not None:
            buffer = schema.BufferT()
            buffer.data = list(content)
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(buffer)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def operator(
        self, code: int, inputs: Sequence[int], outputs: Sequence[int], options: tuple[int, Any] = (0, None)
    ) -> None:
        """Add a built-in operator, with the kind and content of its options."""
        known = schema.OperatorCodeT()
        known.builtinCode = code
        # A byte, from when there were fewer: 127 stands for all that are above it.
        known.deprecatedBuiltinCode = min(code, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
        known.version = 1
        self._model.operatorCodes.append(known)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        operator.builtinOptionsType, operator.builtinOptions = options
        self._graph.operators.append(operator)

    def begin_subgraph(self) -> None:
        """Put further tensors and operators into another graph, which has neither inputs nor outputs yet."""
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._graph.inputs, self._graph.outputs = [], []
        self._model.subgraphs.append(self._graph)

    def ends(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Give the last graph its inputs and outputs."""
        self._graph.inputs, self._graph.outputs = list(inputs), list(outputs)

    def signature(
        self, inputs: dict[str, int], outputs: dict[str, int], key: str = "serving_default", subgraph: int = 0
    ) -> None:
        """Give the inputs and outputs of a graph names beside their tensors' names."""
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key.encode(), subgraph
        signature.inputs, signature.outputs = _tensor_map(inputs), _tensor_map(outputs)
        self._model.signatureDefs = [*(self._model.signatureDefs or []), signature]

    def serialised(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The model's file."""
        main = self._model.subgraphs[0]
        main.inputs, main.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder()
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def plus_one() -> bytes:
    """``sum`` = ``x`` + 1 and ``twice`` = 2 x, FP32 [N, 2]; named by a signature."""
    graph = Graph()
    float32 = schema.TensorType.FLOAT32
    x = graph.tensor("serving_default_x:0", float32, [-1, 2])
    one = graph.tensor("one", float32, [1], b"\x00\x00\x80\x3f")
    total = graph.tensor("PartitionedCall:0", float32, [-1, 2])
    twice = graph.tensor("PartitionedCall:1", float32, [-1, 2])
    for addend, result in ((one, total), (x, twice)):
        options = (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
        graph.operator(schema.BuiltinOperator.ADD, [x, addend], [result], options)
    graph.signature({"x": x}, {"sum": total, "twice": twice})
    return graph.serialised([x], [total, twice])


def identities() -> bytes:
    """For each datatype an input ``in_<datatype>`` [N] and the same again as ``out_<datatype>``; no signature."""
    graph = Graph()
    shape = graph.tensor("shape", schema.TensorType.INT32, [1], b"\xff\xff\xff\xff")
    pairs = [
        (graph.tensor(f"in_{name}", kind, [-1]), graph.tensor(f"out_{name}", kind, [-1]))
        for name, kind in ELEMENT_TYPES.items()
    ]
    for given, result in pairs:
        options = (schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT())
        graph.operator(schema.BuiltinOperator.RESHAPE, [given, shape], [result], options)
    return graph.serialised([given for given, _result in pairs], [result for _given, result in pairs])


def gather() -> bytes:
    """``y`` = the three numbers 0, 1, 2 picked by ``index`` (INT64 [N]); others fail while running."""
    graph = Graph()
    numbers = graph.tensor("numbers", schema.TensorType.INT32, [3], bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]))
    index = graph.tensor("index", schema.TensorType.INT64, [-1])
    result = graph.tensor("y", schema.TensorType.INT32, [-1])
    options = (schema.BuiltinOptions.GatherOptions, schema.GatherOptionsT())
    graph.operator(schema.BuiltinOperator.GATHER, [numbers, index], [result], options)
    return graph.serialised([index], [result])


def picked_texts() -> bytes:
    """``picked`` = those of ``texts`` (BYTES [N]) at the places ``index`` (INT32 [N]); by the signature pick."""
    graph = Graph()
    texts = graph.tensor("pick_texts:0", schema.TensorType.STRING, [-1])
    index = graph.tensor("pick_index:0", schema.TensorType.INT32, [-1])
    picked = graph.tensor("Identity:0", schema.TensorType.STRING, [-1])
    options = (schema.BuiltinOptions.GatherOptions, schema.GatherOptionsT())
    graph.operator(schema.BuiltinOperator.GATHER, [texts, index], [picked], options)
    graph.signature({"texts": texts, "index": index}, {"picked": picked}, "pick")
    return graph.serialised([texts, index], [picked])


def complex_output() -> bytes:
    """A model whose output is of a type that the protocol cannot carry."""
    graph = Graph()
    x = graph.tensor("x", schema.TensorType.COMPLEX64, [1])
    y = graph.tensor("y", schema.TensorType.COMPLEX64, [1])
    shape = graph.tensor("shape", schema.TensorType.INT32, [1], b"\x01\x00\x00\x00")
    options = (schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT())
    graph.operator(schema.BuiltinOperator.RESHAPE, [x, shape], [y], options)
    return graph.serialised([x], [y])


def running_total() -> bytes:
    """``total`` (FP32 [1]) = the sum of every ``x`` so far, kept in a resource variable."""
    graph = Graph()
    float32 = schema.TensorType.FLOAT32
    variable = schema.VarHandleOptionsT()
    variable.container, variable.sharedName = b"", b"total"
    handle_options = (schema.BuiltinOptions.VarHandleOptions, variable)
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = 1
    x = graph.tensor("x", float32, [1])
    handle = graph.tensor("handle", schema.TensorType.RESOURCE, [1])
    before, total = graph.tensor("before", float32, [1]), graph.tensor("total", float32, [1])
    add = (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
    graph.operator(schema.BuiltinOperator.CALL_ONCE, [], [], (schema.BuiltinOptions.CallOnceOptions, once))
    graph.operator(schema.BuiltinOperator.VAR_HANDLE, [], [handle], handle_options)
    graph.operator(schema.BuiltinOperator.READ_VARIABLE, [handle], [before])
    graph.operator(schema.BuiltinOperator.ADD, [before, x], [total], add)
    graph.operator(schema.BuiltinOperator.ASSIGN_VARIABLE, [handle, total], [])
    graph.begin_subgraph()
    first_handle = graph.tensor("first_handle", schema.TensorType.RESOURCE, [1])
    zero = graph.tensor("zero", float32, [1], bytes(4))
    graph.operator(schema.BuiltinOperator.VAR_HANDLE, [], [first_handle], handle_options)
    graph.operator(schema.BuiltinOperator.ASSIGN_VARIABLE, [first_handle, zero], [])
    return graph.serialised([x], [total])


def two_signatures() -> bytes:
    """``y`` = 2 ``x`` by the signature twice, and ``x`` + 1 by the signature more; FP32 [N]."""
    graph = Graph()
    float32 = schema.TensorType.FLOAT32
    add = (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
    x, y = graph.tensor("twice_x:0", float32, [-1]), graph.tensor("Identity:0", float32, [-1])
    graph.operator(schema.BuiltinOperator.ADD, [x, x], [y], add)
    graph.signature({"x": x}, {"y": y}, "twice")
    graph.begin_subgraph()
    more_x, more_y = graph.tensor("more_x:0", float32, [-1]), graph.tensor("Identity_1:0", float32, [-1])
    one = graph.tensor("one", float32, [1], b"\x00\x00\x80\x3f")
    graph.operator(schema.BuiltinOperator.ADD, [more_x, one], [more_y], add)
    graph.ends([more_x], [more_y])
    graph.signature({"x": more_x}, {"y": more_y}, "more", 1)
    return graph.serialised([x], [y])


def variable_tensor(elsewhere: bool) -> bytes:
    """A model that has a variable tensor, as recurrent layers do, in its first graph or in another one."""
    graph = Graph()
    float32 = schema.TensorType.FLOAT32
    x, y = graph.tensor("x", float32, [1]), graph.tensor("y", float32, [1])
    add = (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
    graph.operator(schema.BuiltinOperator.ADD, [x, x], [y], add)
    if elsewhere:
        graph.begin_subgraph()
    graph.tensor("state", float32, [1], variable=True)
    return graph.serialised([x], [y])


def four() -> bytes:
    """``y`` (FP32 [4]) = ``x`` (FP32 [N]), which can be allocated for four numbers only, and not for the usual one."""
    graph = Graph()
    float32 = schema.TensorType.FLOAT32
    x, y = graph.tensor("x", float32, [-1]), graph.tensor("y", float32, [4])
    shape = graph.tensor("shape", schema.TensorType.INT32, [1], b"\x04\x00\x00\x00")
    options = (schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT())
    graph.operator(schema.BuiltinOperator.RESHAPE, [x, shape], [y], options)
    return graph.serialised([x], [y])


def dense(layers: Sequence[tuple[Any, Any]], rows: int = -1) -> bytes:
    """``probabilities`` of ``x``, both FP32: layers of weights and bias, with ReLU between them and Softmax at the end.

    Weights are arrays [outputs, inputs]. ``rows``: the size of the batch, -1 for any.
    """
    graph = Graph()
    float32 = schema.TensorType.FLOAT32
    first = last = graph.tensor("x", float32, [rows, layers[0][0].shape[1]])
    for number, (weights, bias) in enumerate(layers):
        constants = [
            graph.tensor(f"{name}{number}", float32, values.shape, values.astype("<f4").tobytes())
            for name, values in (("weights", weights), ("bias", bias))
        ]
        result = graph.tensor(f"layer{number}", float32, [rows, len(bias)])
        settings = schema.FullyConnectedOptionsT()
        if number < len(layers) - 1:
            settings.fusedActivationFunction = schema.ActivationFunctionType.RELU
        options = (schema.BuiltinOptions.FullyConnectedOptions, settings)
        graph.operator(schema.BuiltinOperator.FULLY_CONNECTED, [last, *constants], [result], options)
        last = result
    probabilities = graph.tensor("probabilities", float32, [rows, len(layers[-1][1])])
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    graph.operator(
        schema.BuiltinOperator.SOFTMAX, [last], [probabilities], (schema.BuiltinOptions.SoftmaxOptions, softmax)
    )
    graph.signature({"x": first}, {"probabilities": probabilities})
    return graph.serialised([first], [probabilities])


MODELS = {
    "plus_one": plus_one,
    "identities": identities,
    "gather": gather,
    "picked_texts": picked_texts,
    "complex_output": complex_output,
    "running_total": running_total,
    "four": four,
    "two_signatures": two_signatures,
}


def _tensor_map(names: dict[str, int]) -> list[Any]:
    entries = []
    for name, index in names.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        entries.append(entry)
    return entries


if __name__ == "__main__":
    for name, make in MODELS.items():
        (DIRECTORY / f"{name}.tflite").write_bytes(make())
