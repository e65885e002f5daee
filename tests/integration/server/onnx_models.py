# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small ONNX models, each made for one question."""

from __future__ import annotations

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
    return _model(
        nodes,
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("sum", TensorProto.FLOAT, ["N", 2]), ("twice", TensorProto.FLOAT, ["N", 2])],
        constants=[helper.make_tensor("addend", TensorProto.FLOAT, [1], [addend])],
    )


def centred() -> bytes:
    """``y`` = ``x`` less the mean of all rows, FP32 [N, 2]: rows that depend on each other."""
    return _model(
        [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]), helper.make_node("Sub", ["x", "mean"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["N", 2])],
        outputs=[("y", TensorProto.FLOAT, ["N", 2])],
    )


def identities() -> bytes:
    """For each datatype an input ``in_<datatype>`` [N] and the same again as ``out_<datatype>``."""
    return _model(
        [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in ELEMENT_TYPES],
        inputs=[(f"in_{name}", number, ["N"]) for name, number in ELEMENT_TYPES.items()],
        outputs=[(f"out_{name}", number, ["N"]) for name, number in ELEMENT_TYPES.items()],
    )


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
    return _model(
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
    return _model(
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
    return _model(
        [helper.make_node("Reshape", ["x", "size"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["N"])],
        outputs=[("y", TensorProto.FLOAT, ["M"])],
        constants=[helper.make_tensor("size", TensorProto.INT64, [1], [size])],
    )


def padded(size: int) -> bytes:
    """``y`` = ``x`` (FP32 [N, 2]), in a file that is ``size`` bytes long and a little more."""
    return _model(
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


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, int, list[int | str]]],
    outputs: list[tuple[str, int, list[int | str]]],
    constants: list[onnx.TensorProto] | None = None,
    doc_string: str | None = None,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        constants or [],
        doc_string,
    )
    return _serialised(graph)


def _serialised(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
