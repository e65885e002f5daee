# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts that are no UTF-8, into ONNX Runtime and out of it.

Its tensors hold any bytes, its Python interface only UTF-8. So inputs go in as the constant of a model that is made for
them, and outputs come out one by one: Python's own error has the bytes of a text that it cannot decode.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from edgeml_server.common.tensors import Array, text_from_bytes, text_to_bytes

# The numbers of ONNX's own fields (onnx.proto), and of its types.
_MODEL_IR, _MODEL_GRAPH, _MODEL_OPSET, _OPSET_VERSION = 1, 7, 8, 2
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_CONSTANT, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 2, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4
_TENSOR_SIZE, _TENSOR_TYPE, _TENSOR_TEXT, _TENSOR_NAME = 1, 2, 6, 8
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR, _ELEMENT_TYPE = 1, 2, 1, 1
_INT64, _STRING = 7, 8
_IR, _OPSET = 8, 13


def run_with_any_texts(session: Any, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Any]:
    """Do what ``session.run`` does, for texts that are no UTF-8, too. Raises the runtime's errors."""
    feeds = {name: _to_runtime(values) for name, values in inputs.items()}
    results = zip(outputs, session.run_with_ort_values(outputs, feeds))
    # What is no tensor has no texts but the labels that were checked when the model was loaded.
    return [_from_runtime(value) if value.is_tensor() else session.run([name], feeds)[0] for name, value in results]


def _to_runtime(values: Array) -> Any:
    if values.dtype != object:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values))
    constant = b"".join(
        [
            *(_field(_TENSOR_SIZE, size) for size in values.shape),
            _field(_TENSOR_TYPE, _STRING),
            _field(_TENSOR_NAME, b"texts"),
            *(_field(_TENSOR_TEXT, text_to_bytes(text)) for text in values.reshape(-1)),
        ]
    )
    graph = _node("Identity", ["texts"], "same") + _field(_GRAPH_CONSTANT, constant)
    return _session(graph + _value(_GRAPH_OUTPUT, "same", _STRING)).run_with_ort_values(None, {})[0]


def _from_runtime(value: Any) -> Array:
    if value.data_type() != "tensor(string)":
        return value.numpy()
    shape = value.shape()
    texts = np.empty(int(np.prod(shape)), dtype=object)
    flat = onnxruntime.OrtValue.ortvalue_from_numpy(np.array([-1]))
    for place in range(len(texts)):
        index = onnxruntime.OrtValue.ortvalue_from_numpy(np.array([place]))
        chosen = _chooser().run_with_ort_values(None, {"texts": value, "flat": flat, "index": index})[0]
        try:
            texts[place] = chosen.numpy()[0]
        except UnicodeDecodeError as error:
            texts[place] = text_from_bytes(error.object)
    return texts.reshape(shape)


@functools.lru_cache(maxsize=None)
def _chooser() -> Any:
    """A model that returns the text at the place ``index``."""
    nodes = _node("Reshape", ["texts", "flat"], "row") + _node("Gather", ["row", "index"], "chosen")
    inputs = [("texts", _STRING), ("flat", _INT64), ("index", _INT64)]
    values = [*(_value(_GRAPH_INPUT, *each) for each in inputs), _value(_GRAPH_OUTPUT, "chosen", _STRING)]
    return _session(nodes + b"".join(values))


def _session(graph: bytes) -> Any:
    model = b"".join(
        [
            _field(_MODEL_IR, _IR),
            _field(_MODEL_OPSET, _field(_OPSET_VERSION, _OPSET)),
            _field(_MODEL_GRAPH, graph + _field(_GRAPH_NAME, b"texts")),
        ]
    )
    settings = onnxruntime.SessionOptions()
    # No threads for so little.
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def _node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    fields = [
        *(_field(_NODE_INPUT, name.encode()) for name in inputs),
        _field(_NODE_OUTPUT, output.encode()),
        _field(_NODE_OPERATOR, operator.encode()),
    ]
    return _field(_GRAPH_NODE, b"".join(fields))


def _value(kind: int, name: str, element_type: int) -> bytes:
    """An input or output of any shape."""
    tensor = _field(_TYPE_TENSOR, _field(_ELEMENT_TYPE, element_type))
    return _field(kind, _field(_VALUE_NAME, name.encode()) + _field(_VALUE_TYPE, tensor))


def _field(number: int, value: int | bytes) -> bytes:
    """A field of a Protocol Buffers message: a whole number, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
