# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small ONNX models, each made for one question."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper

ELEMENT_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def plus(addend: float) -> bytes:
    """``sum`` = ``x`` + addend, and ``twice`` = 2 x; both FP32 [N, 2]."""
    nodes = [helper.make_node("Add", ["x", "addend"], ["sum"]), helper.make_node("Add", ["x", "x"], ["twice"])]
    return model_of(
        nodes,
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("sum", TensorProto.FLOAT, ["N", 2]), ("twice", TensorProto.FLOAT, ["N", 2])],
        constants=[helper.make_tensor("addend", TensorProto.FLOAT, [1], [addend])],
    )


def centred() -> bytes:
    """``y`` = ``x`` less the mean of all rows, FP32 [N, 2]: rows that depend on each other."""
    return model_of(
        [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]), helper.make_node("Sub", ["x", "mean"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 2])],
    )


def quantised_words() -> bytes:
    """``y`` (FP32 [N, 1, 2]) = the vectors of the words ``x`` (INT64 [N, 1]) after their quantisation to 8 bits, on the
    scale of the whole batch. The vector of word 5 is a thousand times as long as the others."""
    table = [[0.5, 1.0]] * 5 + [[500.0, 1000.0]]
    return model_of(
        [
            helper.make_node("Gather", ["table", "x"], ["vectors"]),
            helper.make_node("DynamicQuantizeLinear", ["vectors"], ["quantised", "scale", "zero_point"]),
            helper.make_node("DequantizeLinear", ["quantised", "scale", "zero_point"], ["y"]),
        ],
        inputs=[("x", TensorProto.INT64, ["N", 1])],
        outputs=[("y", TensorProto.FLOAT, ["N", 1, 2])],
        constants=[helper.make_tensor("table", TensorProto.FLOAT, [6, 2], [value for row in table for value in row])],
    )


def running_sum(backwards: bool = False) -> bytes:
    """``y`` = the sum of ``x`` (FP32 [N, 2]) up to each row, or from it on."""
    return model_of(
        [helper.make_node("CumSum", ["x", "axis"], ["y"], reverse=int(backwards))],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 2])],
        constants=[helper.make_tensor("axis", TensorProto.INT64, [], [0])],
    )


def largest() -> bytes:
    """``y`` = ``x`` (FP32 [N, 2]) over the largest of all its rows."""
    return model_of(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], axes=[0], keepdims=1),
            helper.make_node("Div", ["x", "most"], ["y"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 2])],
    )


def quantised_convolution() -> bytes:
    """``y`` = a convolution of 64 channels of ``x``; weights, inputs and outputs are INT8 with one scale each."""
    weights = bytes(number % 200 for number in range(64 * 64))
    return model_of(
        [helper.make_node("QLinearConv", ["x", "scale", "zero", "w", "scale", "zero", "scale", "zero"], ["y"])],
        inputs=[("x", TensorProto.INT8, ["N", 64, 4, 4])],
        outputs=[("y", TensorProto.INT8, ["N", 64, 4, 4])],
        constants=[
            helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
            helper.make_tensor("zero", TensorProto.INT8, [], [0]),
            helper.make_tensor("w", TensorProto.INT8, [64, 64, 1, 1], weights, raw=True),
        ],
    )


def dynamically_quantised() -> bytes:
    """``y`` = ``x`` (FP32 [N, 2]) as it is after its quantisation to 8 bits, on the scale of the whole batch."""
    return model_of(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["quantised", "scale", "zero_point"]),
            helper.make_node("DequantizeLinear", ["quantised", "scale", "zero_point"], ["y"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 2])],
    )


def lstm() -> bytes:
    """``y`` (FP32 [N, 1]) = an LSTM that takes the rows of ``x`` (FP32 [N, 2]) for steps in time."""
    weights = [0.5, -0.25, 0.75, 0.1, -0.3, 0.6, 0.2, 0.4]
    return model_of(
        [
            helper.make_node("Unsqueeze", ["x", "one"], ["steps"]),
            helper.make_node("LSTM", ["steps", "w", "r"], ["states"], hidden_size=1),
            helper.make_node("Squeeze", ["states", "axes"], ["y"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 1])],
        constants=[
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
            helper.make_tensor("w", TensorProto.FLOAT, [1, 4, 2], weights),
            helper.make_tensor("r", TensorProto.FLOAT, [1, 4, 1], [0.9, 0.8, 0.7, 0.6]),
        ],
    )


def scores(metadata: dict[str, str] | None = None) -> bytes:
    """``y`` = softmax of ``x`` (FP32 [N, 2]) times a matrix, ``best`` (INT64 [N]) the place of the highest."""
    return model_of(
        [
            helper.make_node("MatMul", ["x", "w"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["y"], axis=-1),
            helper.make_node("ArgMax", ["y"], ["best"], axis=1, keepdims=0),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 3]), ("best", TensorProto.INT64, ["N"])],
        constants=[helper.make_tensor("w", TensorProto.FLOAT, [2, 3], [0.3, -0.2, 0.5, 0.7, 0.1, -0.4])],
        metadata=metadata,
    )


def identities() -> bytes:
    """For each datatype an input ``in_<datatype>`` [N] and the same again as ``out_<datatype>``."""
    return model_of(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in ELEMENT_TYPES],
        inputs=[(f"in_{name}", number, ["N"]) for name, number in ELEMENT_TYPES.items()],
        outputs=[(f"out_{name}", number, ["N"]) for name, number in ELEMENT_TYPES.items()],
    )


def identity(datatype: str) -> bytes:
    """``out`` = ``in``, [N] of one datatype."""
    number = ELEMENT_TYPES[datatype]
    node = helper.make_node("Identity", ["in"], ["out"])
    return model_of([node], inputs=[("in", number, ["N"])], outputs=[("out", number, ["N"])])


def repeat(times: int = 1) -> bytes:
    """Add 1 to ``x`` (FP32 [1]) ``count`` (INT64 []) * ``times`` times: runs for as long as a request says."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_next"]),
            helper.make_node("Add", ["total", "one"], ["total_next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on_next", TensorProto.BOOL, []),
            helper.make_tensor_value_info("total_next", TensorProto.FLOAT, [1]),
        ],
    )
    return model_of(
        [
            helper.make_node("Mul", ["count", "times"], ["rounds"]),
            helper.make_node("Loop", ["rounds", "yes", "x"], ["y"], body=body),
        ],
        inputs=[("count", TensorProto.INT64, []), ("x", TensorProto.FLOAT, [1])],
        outputs=[("y", TensorProto.FLOAT, [1])],
        constants=[
            helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
            helper.make_tensor("times", TensorProto.INT64, [], [times]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ],
    )


def gather(first: int = 0) -> bytes:
    """``y`` = the three numbers 0, 1, 2 picked by ``index`` (INT64 [N]) - ``first``; others fail while running."""
    return model_of(
        [
            helper.make_node("Sub", ["index", "first"], ["place"]),
            helper.make_node("Gather", ["numbers", "place"], ["y"]),
        ],
        inputs=[("index", TensorProto.INT64, ["N"])],
        outputs=[("y", TensorProto.FLOAT, ["N"])],
        constants=[
            helper.make_tensor("numbers", TensorProto.FLOAT, [3], [0.0, 1.0, 2.0]),
            helper.make_tensor("first", TensorProto.INT64, [1], [first]),
        ],
    )


def reshape(size: int) -> bytes:
    """``y`` = ``x`` (FP32 [N]) as ``size`` numbers: with another number of them it fails while running."""
    return model_of(
        [helper.make_node("Reshape", ["x", "size"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["N"])],
        outputs=[("y", TensorProto.FLOAT, ["M"])],
        constants=[helper.make_tensor("size", TensorProto.INT64, [1], [size])],
    )


def mean(size: int) -> bytes:
    """``y`` = the mean of ``x`` (FP32 [size]): its last bits depend on the order in which the numbers are added."""
    return model_of(
        [helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)],
        inputs=[("x", TensorProto.FLOAT, [size])],
        outputs=[("y", TensorProto.FLOAT, [])],
    )


def unnamed_sizes() -> bytes:
    """``y`` = ``x`` (FP32), whose sizes have the name that Paddle's exporter gives to all that it does not know."""
    return model_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["?", "?"])],
        outputs=[("y", TensorProto.FLOAT, ["?", "?"])],
    )


def with_state() -> bytes:
    """``y`` = ``x`` (FP32 [N, 2]) + both parts of ``state`` (FP32 [2, N, 2], as a recurrent layer's)."""
    return model_of(
        [
            helper.make_node("ReduceSum", ["state", "axes"], ["sum"], keepdims=0),
            helper.make_node("Add", ["x", "sum"], ["y"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["N", 2]), ("state", TensorProto.FLOAT, [2, "N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 2])],
        constants=[helper.make_tensor("axes", TensorProto.INT64, [1], [0])],
    )


def pair() -> bytes:
    """``sum`` = ``a`` + ``b``, both FP32 [N, 2], whose rows must be as many."""
    return model_of(
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        inputs=[("a", TensorProto.FLOAT, ["N", 2]), ("b", TensorProto.FLOAT, ["N", 2])],
        outputs=[("sum", TensorProto.FLOAT, ["N", 2])],
    )


def expand(size: int) -> bytes:
    """``y`` = as many ones as ``count`` (INT64 [1]) says, in a shape of ``size``: others fail, by no shape's fault."""
    return model_of(
        [helper.make_node("Expand", ["one", "count"], ["ones"]), helper.make_node("Reshape", ["ones", "size"], ["y"])],
        inputs=[("count", TensorProto.INT64, [1])],
        outputs=[("y", TensorProto.FLOAT, [size])],
        constants=[
            helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
            helper.make_tensor("size", TensorProto.INT64, [1], [size]),
        ],
    )


def any_rank() -> bytes:
    """``y`` = ``x``, FP32, neither of which declares a shape, which onnx's checker would not have."""
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", kinds[:1], kinds[1:])
    return _serialised(graph, check=False)


def fixed(rows: int) -> bytes:
    """``y`` = 2 ``x``, FP32 [rows, 2]."""
    return model_of(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, [rows, 2])],
        outputs=[("y", TensorProto.FLOAT, [rows, 2])],
    )


def scalar() -> bytes:
    """``y`` = ``x``, FP32 []."""
    return model_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, [])],
        outputs=[("y", TensorProto.FLOAT, [])],
    )


def labels(*texts: bytes) -> bytes:
    """``label`` = the texts picked by ``index`` (INT64 [N])."""
    values: list[Any] = list(texts)
    return model_of(
        [helper.make_node("Gather", ["texts", "index"], ["label"])],
        inputs=[("index", TensorProto.INT64, ["N"])],
        outputs=[("label", TensorProto.STRING, ["N"])],
        constants=[helper.make_tensor("texts", TensorProto.STRING, [len(texts)], values)],
    )


def root() -> bytes:
    """``y`` = the square root of ``x`` (FP32 [N, 2]): NaN for what is below 0."""
    return model_of(
        [helper.make_node("Sqrt", ["x"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 2])],
    )


def padded(size: int) -> bytes:
    """``y`` = ``x`` (FP32 [N, 2]), in a file that is ``size`` bytes long and a little more."""
    return model_of(
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 2])],
        doc_string="x" * size,
    )


def sequence_output() -> bytes:
    """A model whose output is no tensor, so that the protocol cannot carry it."""
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, [1])],
    )
    return _serialised(graph)


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, int, list[int | str]]],
    outputs: list[tuple[str, int, list[int | str]]],
    constants: list[onnx.TensorProto] | None = None,
    doc_string: str | None = None,
    metadata: dict[str, str] | None = None,
    opset: int = 17,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        constants or [],
        doc_string,
    )
    return _serialised(graph, metadata=metadata, opset=opset)


def _serialised(
    graph: onnx.GraphProto, check: bool = True, metadata: dict[str, str] | None = None, opset: int = 17
) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    if check:
        onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
