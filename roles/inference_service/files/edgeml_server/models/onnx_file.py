# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an ONNX file says that ONNX Runtime's Python interface does not: which inputs declare no shape at all.

For those and for scalars it reports the same empty shape. The file is a message of protocol buffers: fields, each with
a number and a kind. What is not asked for, such as the weights, is skipped and not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

# Numbers of fields, from onnx.proto.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE = 1
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_GRAPH_INPUT = 11
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR = 1
_TENSOR_SHAPE = 2

_STANDARD_DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
# Those that repeat, choose, or make tensors of sizes that are values of their inputs.
_UNBOUNDED = {
    *("If", "Loop", "Scan", "SequenceMap"),
    *("AffineGrid", "BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix"),
    *("CenterCropPad", "Col2Im", "ConstantOfShape", "DFT", "Expand", "MaxUnpool", "OneHot", "Pad"),
    *("Range", "RegexFullMatch", "Resize", "STFT", "StringSplit", "Tile", "Upsample"),
}

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10


def inputs_of_any_rank(path: str) -> set[str]:
    """Return the names of the inputs that declare no shape, in the ONNX file at ``path``.

    Raises ValueError for a file that is none, OSError for one that cannot be read.
    """
    names = set()
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        for graph in _messages(file, 0, end, _MODEL_GRAPH):
            for value in _messages(file, *graph, _GRAPH_INPUT):
                tensors = [
                    tensor
                    for kind in _messages(file, *value, _VALUE_TYPE)
                    for tensor in _messages(file, *kind, _TYPE_TENSOR)
                ]
                shapes = [shape for tensor in tensors for shape in _messages(file, *tensor, _TENSOR_SHAPE)]
                if tensors and not shapes:
                    for start, stop in _messages(file, *value, _VALUE_NAME):
                        file.seek(start)
                        names.add(file.read(stop - start).decode("utf-8"))
    return names


def has_bounded_time(path: str) -> bool:
    """Whether all operators of the ONNX file at ``path`` take a time that the sizes of its inputs determine.

    Raises ValueError for a file that is none, OSError for one that cannot be read.
    """
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        if any(_messages(file, 0, end, _MODEL_FUNCTIONS)):
            return False
        for graph in _messages(file, 0, end, _MODEL_GRAPH):
            for node in _messages(file, *graph, _GRAPH_NODE):
                operators = _texts(file, node, _NODE_OPERATOR)
                domains = _texts(file, node, _NODE_DOMAIN)
                if operators & _UNBOUNDED or not domains <= _STANDARD_DOMAINS:
                    return False
    return True


def _texts(file: BinaryIO, message: tuple[int, int], wanted: int) -> set[str]:
    found = set()
    for start, stop in _messages(file, *message, wanted):
        file.seek(start)
        found.add(file.read(stop - start).decode("utf-8"))
    return found


def _messages(file: BinaryIO, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the fields numbered ``wanted``, which have a length, begin and end in the message from start to end."""
    position = start
    while position < end:
        file.seek(position)
        tag = _varint(file)
        kind = tag & 7
        if kind == _VARINT:
            _varint(file)
            position = file.tell()
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            position = file.tell() + (8 if kind == _EIGHT_BYTES else 4)
        elif kind == _LENGTH:
            length = _varint(file)
            begin = file.tell()
            position = begin + length
            if position > end:
                raise ValueError("a field points behind the end of its message")
            if tag >> 3 == wanted:
                yield begin, position
        else:
            raise ValueError(f"a field of the unknown kind {kind}")


def _varint(file: BinaryIO) -> int:
    value = 0
    for place in range(_VARINT_BYTES_MAX):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return value
    raise ValueError("a number without an end")
