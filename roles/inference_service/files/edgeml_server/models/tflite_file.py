# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a TensorFlow Lite file says that LiteRT's Python interface does not: what all its graphs keep from run to run.

The file is a table of FlatBuffers. A table begins with the distance back to its list of fields, each of which is the
distance from the table to the field's value, or 0 where it has its default.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple, Union

# Numbers of fields, from TensorFlow Lite's schema.fbs.
_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS = 1, 2
_CODE_BYTE, _CODE = 0, 3
_SUBGRAPH_TENSORS = 0
_TENSOR_IS_VARIABLE = 5
# VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE.
_RESOURCE_VARIABLES = frozenset({142, 143, 144})

_Content = Union[bytes, mmap.mmap]


class KeptState(NamedTuple):
    """What a model keeps: in resource variables, which nothing resets, and in variable tensors of its first graph or of
    others, as recurrent layers have."""

    resources: bool
    variables: bool
    variables_elsewhere: bool


def read_kept_state(path: str) -> KeptState:
    """Read the TensorFlow Lite file at ``path``. Raises ValueError for a file that is none, and OSError."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            model = _Table(content, _unsigned(content, 0))
            codes = {
                max(code.number(_CODE_BYTE, "b"), code.number(_CODE, "i"))
                for code in model.tables(_MODEL_OPERATOR_CODES)
            }
            variables = [
                any(tensor.number(_TENSOR_IS_VARIABLE, "?") for tensor in graph.tables(_SUBGRAPH_TENSORS))
                for graph in model.tables(_MODEL_SUBGRAPHS)
            ]
        except struct.error as error:
            raise ValueError(f"expected a TensorFlow Lite model: {error}") from error
    return KeptState(bool(codes & _RESOURCE_VARIABLES), any(variables[:1]), any(variables[1:]))


class _Table:
    def __init__(self, content: _Content, position: int) -> None:
        self._content, self._position = content, position

    def number(self, field: int, code: str) -> int:
        """A field of a fixed size; 0 where it is left out."""
        place = self._place(field)
        return int(struct.unpack_from(f"<{code}", self._content, place)[0]) if place else 0

    def tables(self, field: int) -> Iterator[_Table]:
        """The tables of a vector."""
        place = self._place(field)
        if place:
            start = place + _unsigned(self._content, place)
            for number in range(_unsigned(self._content, start)):
                entry = start + 4 + 4 * number
                yield _Table(self._content, entry + _unsigned(self._content, entry))

    def _place(self, field: int) -> int:
        (back,) = struct.unpack_from("<i", self._content, self._position)
        fields = self._position - back
        if fields < 0 or 4 + 2 * field >= struct.unpack_from("<H", self._content, fields)[0]:
            return 0
        (distance,) = struct.unpack_from("<H", self._content, fields + 4 + 2 * field)
        return self._position + distance if distance else 0


def _unsigned(content: _Content, place: int) -> int:
    return int(struct.unpack_from("<I", content, place)[0])
