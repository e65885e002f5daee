# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where the tensors of a model are in its files: of ONNX, inline and external, and of TFLite."""

from __future__ import annotations

import mmap
import os
import struct
from typing import Any, BinaryIO, Iterator, Mapping, NamedTuple

from ansible_collections.edgeml.fleet.plugins.module_utils._release.protobuf import Field, read_fields, whole_file

# Less is not worth an alignment of its own.
TENSOR_BYTES_MIN = 64
_GRAPHS_DEPTH_MAX = 16

# Numbers of fields, from onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_OUTPUT, _NODE_ATTRIBUTE = 2, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_FLOATS, _ATTRIBUTE_GRAPHS = 1, 5, 6, 7, 11
_TENSOR_TYPE, _TENSOR_NAME, _TENSOR_EXTERNAL = 2, 8, 13
# What holds values: a field, and the bytes of an element there; 0: as the tensor's type says.
_TENSOR_VALUES = {4: 4, 9: 0, 10: 8}
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_ONNX_WIDTHS = {1: 4, 4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}

# Places of fields, from TFLite's schema.fbs.
_TFLITE_IDENTIFIER = b"TFL3"
_MODEL_SUBGRAPHS, _MODEL_BUFFERS = 2, 4
_SUBGRAPH_TENSORS = 0
_TFLITE_TENSOR_TYPE, _TFLITE_TENSOR_BUFFER, _TFLITE_TENSOR_NAME, _TFLITE_TENSOR_QUANTIZATION = 1, 2, 3, 4
_QUANTIZATION_SCALE = 2
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
_TFLITE_WIDTHS = {0: 4, 1: 2, 2: 4, 4: 8, 7: 2, 10: 8, 12: 8, 15: 4, 16: 2}


class Tensor(NamedTuple):
    """A tensor's bytes in a file: where they begin and end, and how many an element has."""

    name: str
    start: int
    end: int
    width: int


def find_tensors(files: Mapping[str, str]) -> dict[str, list[Tensor]]:
    """The tensors in the files of a model, in their order; ``files`` has their locations by their paths in the release.

    A file of another form has none, and so has a damaged one. Raises OSError.
    """
    found: dict[str, list[Tensor]] = {path: [] for path in files}
    for path, location in files.items():
        if os.path.getsize(location) == 0:
            continue
        with open(location, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                if content[4:8] == _TFLITE_IDENTIFIER:
                    found[path] += _tflite_tensors(content)
                elif path.endswith(".onnx"):
                    for owner, tensor in _OnnxTensors(file, path).read():
                        if owner in found:
                            found[owner].append(tensor)
            except (ValueError, IndexError, struct.error, UnicodeDecodeError):
                found[path] = []
    return {path: _apart(tensors, os.path.getsize(files[path])) for path, tensors in found.items()}


def _apart(tensors: list[Tensor], size: int) -> list[Tensor]:
    """The tensors that are within the file and do not overlap: several may share their bytes."""
    kept: list[Tensor] = []
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, -tensor.end)):
        after = kept[-1].end if kept else 0
        if after <= tensor.start and tensor.end <= size and tensor.end - tensor.start >= TENSOR_BYTES_MIN:
            kept.append(tensor)
    return kept


class _OnnxTensors:
    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._path = path

    def read(self) -> Iterator[tuple[str, Tensor]]:
        """Each tensor, with the path of the file that has its bytes."""
        for item in read_fields(self._file, whole_file(self._file)):
            if item.number == _MODEL_GRAPH:
                yield from self._graph(item, 0)

    def _graph(self, graph: Field, depth: int) -> Iterator[tuple[str, Tensor]]:
        if depth > _GRAPHS_DEPTH_MAX:
            return
        for item in read_fields(self._file, graph):
            if item.number == _GRAPH_INITIALIZER:
                yield from self._tensor(item, "")
            elif item.number == _GRAPH_NODE:
                yield from self._node(item, depth)

    def _node(self, node: Field, depth: int) -> Iterator[tuple[str, Tensor]]:
        output = ""
        for item in read_fields(self._file, node):
            if item.number == _NODE_OUTPUT:
                output = output or self._text(item)
            elif item.number == _NODE_ATTRIBUTE and item.end - item.start >= TENSOR_BYTES_MIN:
                yield from self._attribute(item, output, depth)

    def _attribute(self, attribute: Field, node: str, depth: int) -> Iterator[tuple[str, Tensor]]:
        name = node
        for item in read_fields(self._file, attribute):
            if item.number == _ATTRIBUTE_NAME:
                name = f"{node}/{self._text(item)}"
            elif item.number == _ATTRIBUTE_TENSOR:
                yield from self._tensor(item, name)
            elif item.number == _ATTRIBUTE_FLOATS and item.end:
                yield self._path, Tensor(name, item.start, item.end, 4)
            elif item.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                yield from self._graph(item, depth + 1)

    def _tensor(self, tensor: Field, name: str) -> Iterator[tuple[str, Tensor]]:
        kind = 0
        values: tuple[int, int, int] | None = None
        external: dict[str, str] = {}
        for item in read_fields(self._file, tensor):
            if item.number == _TENSOR_TYPE:
                kind = item.value
            elif item.number == _TENSOR_NAME:
                name = self._text(item) or name
            elif item.number == _TENSOR_EXTERNAL:
                external.update(self._entry(item))
            elif item.number in _TENSOR_VALUES and item.end:
                values = (item.start, item.end, _TENSOR_VALUES[item.number])
        width = _ONNX_WIDTHS.get(kind, 1)
        if values is not None:
            yield self._path, Tensor(name, values[0], values[1], values[2] or width)
        elif "location" in external and "length" in external:
            start = int(external.get("offset", "0"))
            yield external["location"], Tensor(name, start, start + int(external["length"]), width)

    def _entry(self, entry: Field) -> dict[str, str]:
        texts = {item.number: self._text(item) for item in read_fields(self._file, entry)}
        return {texts.get(_ENTRY_KEY, ""): texts.get(_ENTRY_VALUE, "")}

    def _text(self, item: Field) -> str:
        self._file.seek(item.start)
        return self._file.read(item.end - item.start).decode("utf-8")


class _Table:
    """A table of a FlatBuffer, by its position."""

    def __init__(self, content: Any, position: int) -> None:
        self._content = content
        self._position = position
        self._fields = position - struct.unpack_from("<i", content, position)[0]
        self._length = struct.unpack_from("<H", content, self._fields)[0]

    def place(self, field: int) -> int:
        """Where a field's value is; 0 for one that is not there."""
        entry = 4 + 2 * field
        if entry + 2 > self._length:
            return 0
        offset: int = struct.unpack_from("<H", self._content, self._fields + entry)[0]
        return self._position + offset if offset else 0

    def vector(self, field: int) -> tuple[int, int]:
        """Where the elements of a vector begin, and how many there are."""
        place = self.place(field)
        if not place:
            return 0, 0
        start = place + struct.unpack_from("<I", self._content, place)[0]
        return start + 4, struct.unpack_from("<I", self._content, start)[0]

    def tables(self, field: int) -> Iterator[_Table]:
        """The tables of a vector."""
        start, count = self.vector(field)
        for place in range(start, start + 4 * count, 4):
            yield _Table(self._content, place + struct.unpack_from("<I", self._content, place)[0])

    def table(self, field: int) -> Iterator[_Table]:
        """The table that a field has, if it is there."""
        place = self.place(field)
        if place:
            yield _Table(self._content, place + struct.unpack_from("<I", self._content, place)[0])

    def number(self, field: int, form: str) -> int:
        """A whole number; 0, if it is not there."""
        place = self.place(field)
        return int(struct.unpack_from(form, self._content, place)[0]) if place else 0


def _tflite_tensors(content: mmap.mmap) -> list[Tensor]:
    model = _Table(content, struct.unpack_from("<I", content, 0)[0])
    buffers = [_tflite_buffer(buffer) for buffer in model.tables(_MODEL_BUFFERS)]
    found = []
    for number, subgraph in enumerate(model.tables(_MODEL_SUBGRAPHS)):
        for tensor in subgraph.tables(_SUBGRAPH_TENSORS):
            start, length = buffers[tensor.number(_TFLITE_TENSOR_BUFFER, "<I")]
            text, size = tensor.vector(_TFLITE_TENSOR_NAME)
            name = f"{number}/{content[text : text + size].decode('utf-8', 'replace')}"
            width = _TFLITE_WIDTHS.get(tensor.number(_TFLITE_TENSOR_TYPE, "<b"), 1)
            found.append(Tensor(name, start, start + length, width))
            for quantization in tensor.table(_TFLITE_TENSOR_QUANTIZATION):
                start, length = quantization.vector(_QUANTIZATION_SCALE)
                found.append(Tensor(f"{name}/scale", start, start + 4 * length, 4))
    return found


def _tflite_buffer(buffer: _Table) -> tuple[int, int]:
    """Where the bytes of a buffer begin, and how many there are: in the FlatBuffer or, as ai-edge-quantizer writes
    large ones, behind it."""
    start, length = buffer.vector(_BUFFER_DATA)
    if length:
        return start, length
    # 0 and 1 say that there is nothing.
    offset = buffer.number(_BUFFER_OFFSET, "<Q")
    return (offset, buffer.number(_BUFFER_SIZE, "<Q")) if offset > 1 else (0, 0)
