# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""An ONNX model without the values of its weights, which are most of a large file and are not read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, BinaryIO, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._release.protobuf import Field, read_fields, whole_file

# Numbers of fields, from onnx.proto: where the weights are in a model, and where their values are in each.
_INITIALIZERS = (7, 5)
_VALUES = frozenset({4, 5, 7, 9, 10, 11})
_LENGTH = 2


def read_structure(path: str) -> Any:
    """The ``ModelProto`` in the file at ``path``: its nodes, and of its weights names, types, shapes and the places of
    those that are in other files.

    Raises ValueError for a file that is none, OSError, and what onnx raises.
    """
    import onnx

    with open(path, "rb") as file:
        return onnx.load_model_from_string(_copied(file, whole_file(file), _INITIALIZERS))


def _copied(file: BinaryIO, message: Field, way: Sequence[int]) -> bytes:
    """The message; in the messages at the end of ``way`` without values."""
    copy = bytearray()
    fields = [*read_fields(file, message), Field(0, 0, 0, 0, begin=message.end)]
    for item, after in pairwise(fields):
        if way and item.number == way[0] and item.end:
            content = _copied(file, item, way[1:])
            copy += _varint(item.number << 3 | _LENGTH) + _varint(len(content)) + content
        elif way or item.number not in _VALUES:
            file.seek(item.begin)
            copy += file.read(after.begin - item.begin)
    return bytes(copy)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
