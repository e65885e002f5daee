# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What an ONNX file says of itself, read with the standard library: what it needs of a runtime, and what ONNX Runtime's
Python interface does not tell.

The file is a message of protocol buffers: fields, each with a number and a kind. What is not asked for, such as the
weights, is skipped and not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO, Iterator, Mapping, NamedTuple, Sequence, Union

from .protobuf import Field, read_fields, read_varint, whole_file

# Numbers of fields, from onnx.proto.
_MODEL_IR, _MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTION = 1, 7, 8, 25
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODE, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 11, 12
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1, 7, 10
_NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TEXT, _ATTRIBUTE_GRAPH = 1, 3, 4, 6
_ATTRIBUTE_INTS, _ATTRIBUTE_TEXTS, _ATTRIBUTE_GRAPHS = 8, 9, 11
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TENSOR_SHAPE, _SHAPE_SIZE, _SIZE_NUMBER = 2, 1, 1
_TYPES = {1: "tensor", 4: "sequence", 5: "map", 8: "sparse tensor", 9: "optional"}
TENSOR = "tensor"

_TEXT_BYTES_MAX = 1 << 16
_GRAPHS_DEPTH_MAX = 16

ML_DOMAIN = "ai.onnx.ml"
DEFAULT_LOCALE = "en_US.UTF-8"
# Every device has them.
_COMMON_LOCALES = frozenset({"", "C", "POSIX", "C.UTF-8", "C.utf8"})

ClassLabels = Union[Sequence[int], Sequence[str]]


class Operator(NamedTuple):
    """The kind of a node. The default domain is empty."""

    domain: str
    name: str

    def __str__(self) -> str:
        return f"{self.domain}:{self.name}" if self.domain else self.name


# Their scale is that of the largest value of the whole batch.
_DYNAMIC_QUANTISATION = {
    Operator("", "DynamicQuantizeLinear"),
    Operator("com.microsoft", "DynamicQuantizeLSTM"),
    Operator("com.microsoft", "DynamicQuantizeMatMul"),
}
# They draw random numbers, also those with a seed: the generator goes on from one run to the next.
_RANDOM = {
    Operator("", name)
    for name in (
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    )
}


@dataclass
class OnnxFile:
    """What an ONNX file says.

    ``opsets`` are the versions of operators that it is written in, by domain (empty: ONNX's own); ``types`` are those
    of the graph's inputs and outputs by name, ``sizes`` those of its inputs' axes (-1: any); ``operators`` are those of
    all its graphs and functions, without the ``functions`` that it defines itself; ``class_labels`` are those of each
    output that the operator ZipMap makes; ``locales`` are what its operators on texts need of the system, beside what
    every system has.
    """

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inputs_of_any_rank: set[str] = field(default_factory=set)
    operators: set[Operator] = field(default_factory=set)
    functions: set[Operator] = field(default_factory=set)
    class_labels: dict[str, ClassLabels] = field(default_factory=dict)
    locales: set[str] = field(default_factory=set)

    @property
    def couples_rows(self) -> bool:
        """Whether an operator computes with what all rows of a batch have in common: the server never batches it."""
        return bool(self.operators & _DYNAMIC_QUANTISATION)

    @property
    def random_operators(self) -> list[Operator]:
        """The operators that draw random numbers: what depends on them differs from run to run."""
        return sorted(self.operators & _RANDOM)


def read_onnx(path: str) -> OnnxFile:
    """Read the ONNX file at ``path``. Raises ValueError for a file that is none, OSError if it cannot be read."""
    with open(path, "rb") as file:
        return _Reader(file).read()


def labels_beyond_utf8(found: OnnxFile) -> list[str]:
    """The outputs of dictionaries with class labels that are no UTF-8: ONNX Runtime cannot return them to Python."""
    return [name for name, labels in found.class_labels.items() if not all(map(_is_utf8, labels))]


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._found = OnnxFile()

    def read(self) -> OnnxFile:
        found = self._found
        for item in self._fields(whole_file(self._file)):
            if item.number == _MODEL_IR:
                found.ir_version = item.value
            elif item.number == _MODEL_OPSET:
                self._read_opset(item)
            elif item.number == _MODEL_GRAPH:
                self._read_graph(item, depth=0)
            elif item.number == _MODEL_FUNCTION:
                self._read_function(item)
        if not found.ir_version or (not found.operators and not found.types):
            raise ValueError("expected an ONNX model; found none")
        found.operators -= found.functions
        return found

    def _read_opset(self, opset: Field) -> None:
        domain, version = "", 0
        for item in self._fields(opset):
            if item.number == _OPSET_DOMAIN:
                domain = self._text(item)
            elif item.number == _OPSET_VERSION:
                version = item.value
        self._found.opsets[_short(domain)] = version

    def _read_graph(self, graph: Field, depth: int) -> None:
        if depth > _GRAPHS_DEPTH_MAX:
            raise ValueError(f"expected at most {_GRAPHS_DEPTH_MAX} graphs within each other; found more")
        for item in self._fields(graph):
            if item.number == _GRAPH_NODE:
                self._read_node(item, depth)
            elif item.number in (_GRAPH_INPUT, _GRAPH_OUTPUT) and depth == 0:
                self._read_value(item, is_input=item.number == _GRAPH_INPUT)

    def _read_function(self, function: Field) -> None:
        name = domain = ""
        for item in self._fields(function):
            if item.number == _FUNCTION_NAME:
                name = self._text(item)
            elif item.number == _FUNCTION_DOMAIN:
                domain = self._text(item)
            elif item.number == _FUNCTION_NODE:
                self._read_node(item, depth=1)
        self._found.functions.add(Operator(_short(domain), name))

    def _read_node(self, node: Field, depth: int) -> None:
        name = domain = ""
        outputs = []
        attributes: dict[str, ClassLabels | int | str] = {}
        for item in self._fields(node):
            if item.number == _NODE_OPERATOR:
                name = self._text(item)
            elif item.number == _NODE_DOMAIN:
                domain = self._text(item)
            elif item.number == _NODE_OUTPUT:
                outputs.append(self._text(item))
            elif item.number == _NODE_ATTRIBUTE:
                attributes.update(self._attribute(item, depth))
        operator = Operator(_short(domain), name)
        self._found.operators.add(operator)
        if operator == (ML_DOMAIN, "ZipMap") and depth == 0:
            labels = attributes.get("classlabels_strings") or attributes.get("classlabels_int64s")
            if outputs and isinstance(labels, list):
                self._found.class_labels[outputs[0]] = labels
        if operator == ("", "StringNormalizer"):
            self._note_locale(attributes)

    def _note_locale(self, attributes: Mapping[str, ClassLabels | int | str]) -> None:
        """ONNX Runtime opens the locale only where case matters."""
        changes_case = attributes.get("case_change_action", "NONE") != "NONE"
        ignores_case = not attributes.get("is_case_sensitive") and bool(attributes.get("stopwords"))
        locale = str(attributes.get("locale", DEFAULT_LOCALE))
        if (changes_case or ignores_case) and locale not in _COMMON_LOCALES:
            self._found.locales.add(locale)

    def _attribute(self, attribute: Field, depth: int) -> dict[str, ClassLabels | int | str]:
        """The attribute by its name, if it is a number, a text, or a list of them; its graphs are read."""
        name = ""
        value: int | str | None = None
        numbers: list[int] = []
        texts: list[str] = []
        for item in self._fields(attribute):
            if item.number == _ATTRIBUTE_NAME:
                name = self._text(item)
            elif item.number == _ATTRIBUTE_INT:
                value = _signed(item.value)
            elif item.number == _ATTRIBUTE_TEXT:
                value = self._text(item, "replace")
            elif item.number == _ATTRIBUTE_TEXTS:
                texts.append(self._text(item, "surrogateescape"))
            elif item.number == _ATTRIBUTE_INTS:
                numbers += self._numbers(item)
            elif item.number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                self._read_graph(item, depth + 1)
        return {name: texts or numbers or (0 if value is None else value)}

    def _numbers(self, item: Field) -> list[int]:
        """Whole numbers, one in a field of its own or several packed."""
        if not item.start:
            return [_signed(item.value)]
        self._file.seek(item.start)
        numbers = []
        while self._file.tell() < item.end:
            numbers.append(_signed(read_varint(self._file)))
        return numbers

    def _read_value(self, value: Field, is_input: bool) -> None:
        name, kind = "", 0
        shapes: list[Field] = []
        for item in self._fields(value):
            if item.number == _VALUE_NAME:
                name = self._text(item)
            elif item.number == _VALUE_TYPE:
                for inner in self._fields(item):
                    if inner.number in _TYPES:
                        kind = inner.number
                        shapes = [part for part in self._fields(inner) if part.number == _TENSOR_SHAPE]
        if kind:
            self._found.types[name] = _TYPES[kind]
        if is_input and _TYPES.get(kind) == TENSOR and shapes:
            self._found.sizes[name] = self._sizes(shapes[0])
        elif is_input and _TYPES.get(kind) == TENSOR:
            self._found.inputs_of_any_rank.add(name)

    def _sizes(self, shape: Field) -> tuple[int, ...]:
        """The size of each axis; -1 where it has a name, or nothing."""
        sizes = [list(self._fields(item)) for item in self._fields(shape) if item.number == _SHAPE_SIZE]
        return tuple(next((_signed(part.value) for part in size if part.number == _SIZE_NUMBER), -1) for size in sizes)

    def _text(self, item: Field, errors: str = "strict") -> str:
        if item.end - item.start > _TEXT_BYTES_MAX:
            raise ValueError(f"expected a text of at most {_TEXT_BYTES_MAX} bytes; found {item.end - item.start}")
        self._file.seek(item.start)
        return self._file.read(item.end - item.start).decode("utf-8", errors)

    def _fields(self, message: Field) -> Iterator[Field]:
        return read_fields(self._file, message)


def _is_utf8(label: str | int) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in str(label))


def _short(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
