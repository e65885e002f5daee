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
_MODEL_GRAPH = 7
_GRAPH_INPUT = 11
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR = 1
_TENSOR_SHAPE = 2

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
