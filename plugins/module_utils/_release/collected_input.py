# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""An input that a device collected for retraining, as a file: one row of a request, what was answered, and why. Pure.

The file begins with a line of JSON. After it come the values of the inputs, one input after the other: little-endian
and row-major as in the binary data of the Open Inference Protocol, texts each after its length in four bytes. The
file's name is the digest of the inputs alone: the same row twice is one file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from typing import Any, NamedTuple, Union

from .._common.errors import EdgemlError
from .._common.records import is_number, is_whole
from .datatypes import NUMBERS, TEXT
from .fields import shown
from .names import is_name

SCHEMA = 1
SUFFIX = ".input"
INPUT_BYTES_MAX = 4 << 20
"""The most bytes of a file."""
# A part's order is that of its weight: the first reason is the one that an input is counted by.
REASONS = ("disagreeing", "shadow", "drifting", "low_confidence")

_HEADER_BYTES_MAX = 64 << 10
_TENSORS_MAX = 64
_DIMENSIONS_MAX = 32
_TEXT_MAX = 1000
_TENSOR_NAME = re.compile(r"[^\x00-\x1f\x7f\\]{1,256}\Z")
_FILE_NAME = re.compile(r"([0-9a-f]{64})\.input\Z")
_FIELDS = {"schema", "model", "version", "time", "reasons", "predicted", "label", "inputs"}
_TENSOR_FIELDS = {"name", "datatype", "shape", "bytes"}

Label = Union[bool, int, float, str, None]


class CollectedInputError(EdgemlError):
    """This is no collected input; the text says what was expected and what was found."""


class Tensor(NamedTuple):
    """One row of one input, with its ``shape`` without the rows' dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class CollectedInput(NamedTuple):
    """One row. ``time`` is that of its request, in Unix time; ``predicted`` the class or value that was answered;
    ``label`` the true one, where feedback gave it."""

    model: str
    version: str
    time: float
    reasons: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    predicted: Label = None
    label: Label = None

    @property
    def digest(self) -> str:
        """SHA-256 of the inputs, in hexadecimal digits."""
        found = hashlib.sha256(_json([[item.name, item.datatype, item.shape] for item in self.tensors]))
        for item in self.tensors:
            found.update(item.data)
        return found.hexdigest()


def file_name(digest: str) -> str:
    """The name of an input's file."""
    return f"{digest}{SUFFIX}"


def digest_of(name: str) -> str | None:
    """The digest in a file's name; None if it is no input's name."""
    match = _FILE_NAME.match(name)
    return match[1] if match else None


def directory_name(model: str) -> str:
    """The name of the directory for a model, or for a part of a pipeline (``model/part``)."""
    return model.replace("/", "%")


def model_of(directory: str) -> str | None:
    """The model of a directory; None if it is no model's directory."""
    model = directory.replace("%", "/")
    return model if is_served_name(model) else None


def is_served_name(value: Any) -> bool:
    """Whether this can be the name under which a model, or a part of a pipeline, is served."""
    return isinstance(value, str) and value.count("/") <= 1 and all(is_name(part) for part in value.split("/"))


def pack(item: CollectedInput) -> bytes:
    """The content of the file."""
    header = {
        "schema": SCHEMA,
        "model": item.model,
        "version": item.version,
        "time": item.time,
        "reasons": list(item.reasons),
        "predicted": item.predicted,
        "label": item.label,
        "inputs": [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "bytes": len(tensor.data)}
            for tensor in item.tensors
        ],
    }
    return b"".join([_json(header), b"\n", *(tensor.data for tensor in item.tensors)])


def unpack(content: bytes) -> CollectedInput:
    """Read a file's content, whoever wrote it. Raises CollectedInputError."""
    if len(content) > INPUT_BYTES_MAX:
        raise CollectedInputError(f"expected at most {INPUT_BYTES_MAX} bytes; found {len(content)}")
    end = content.find(b"\n", 0, _HEADER_BYTES_MAX)
    if end < 0:
        raise CollectedInputError(f"expected a line of JSON of at most {_HEADER_BYTES_MAX} bytes; found none")
    try:
        header = json.loads(content[:end].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CollectedInputError(f"expected a line of JSON: {error}") from error
    if not isinstance(header, dict) or set(header) != _FIELDS or header["schema"] != SCHEMA:
        raise CollectedInputError(f"expected an object with {', '.join(sorted(_FIELDS))}, schema {SCHEMA}")
    if not is_served_name(header["model"]) or not is_name(header["version"]):
        raise CollectedInputError(
            f"model, version: expected names; found {shown([header['model'], header['version']])}"
        )
    if not is_number(header["time"]) or not 0 <= header["time"] < 1 << 40:
        raise CollectedInputError(f"time: expected a Unix time; found {shown(header['time'])}")
    return CollectedInput(
        header["model"],
        header["version"],
        float(header["time"]),
        _reasons(header["reasons"]),
        _tensors(header["inputs"], content, end + 1),
        _label(header["predicted"], "predicted"),
        _label(header["label"], "label"),
    )


def texts(tensor: Tensor) -> list[bytes]:
    """The texts of a tensor of them, of any bytes. Raises CollectedInputError."""
    found, at = [], 0
    while at < len(tensor.data):
        start = at + 4
        at = start + int.from_bytes(tensor.data[at:start], "little")
        if at > len(tensor.data):
            raise CollectedInputError(f"{shown(tensor.name)}: the length of a text points behind the end")
        found.append(tensor.data[start:at])
    return found


def finite(tensor: Tensor) -> tuple[bool, bool]:
    """Whether the numbers of a tensor have no NaN, and whether they have no infinity."""
    letters, code = NUMBERS.get(tensor.datatype, ("", ""))
    if letters[:1] != "f":
        return True, True
    values = struct.unpack(f"<{len(tensor.data) // struct.calcsize(code)}{code}", tensor.data)
    # One pass in C tells nearly always; a sum may also be too large.
    if math.isfinite(sum(values)):
        return True, True
    return not any(map(math.isnan, values)), not any(map(math.isinf, values))


def _reasons(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or [reason for reason in REASONS if reason in value] != value:
        raise CollectedInputError(
            f"reasons: expected some of {', '.join(REASONS)}, in this order; found {shown(value)}"
        )
    return tuple(value)


def _label(value: Any, field: str) -> Label:
    fits = (
        value is None
        or (isinstance(value, str) and len(value) <= _TEXT_MAX)
        or isinstance(value, bool)
        or (-(1 << 63) <= value < 1 << 63 if is_whole(value) else is_number(value) and math.isfinite(value))
    )
    if not fits:
        raise CollectedInputError(f"{field}: expected a number, a text of at most {_TEXT_MAX} characters, or null")
    found: Label = value
    return found


def _tensors(value: Any, content: bytes, at: int) -> tuple[Tensor, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= _TENSORS_MAX:
        raise CollectedInputError(f"inputs: expected 1 to {_TENSORS_MAX}; found {shown(value)}")
    found: list[Tensor] = []
    for entry in value:
        tensor = _tensor(entry, content, at)
        found.append(tensor)
        at += len(tensor.data)
    names = [tensor.name for tensor in found]
    if sorted(set(names)) != names:
        raise CollectedInputError(f"inputs: expected different names, sorted; found {shown(names)}")
    if at != len(content):
        raise CollectedInputError(f"expected {at} bytes, as the inputs say; found {len(content)}")
    return tuple(found)


def _tensor(entry: Any, content: bytes, at: int) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != _TENSOR_FIELDS:
        raise CollectedInputError(f"inputs: expected objects with {', '.join(sorted(_TENSOR_FIELDS))}")
    name, datatype, shape, size = entry["name"], entry["datatype"], entry["shape"], entry["bytes"]
    if not isinstance(name, str) or not _TENSOR_NAME.match(name) or ".." in name.split("/"):
        raise CollectedInputError(f"inputs: name: expected an input's name; found {shown(name)}")
    if not isinstance(datatype, str) or (datatype not in NUMBERS and datatype != TEXT):
        raise CollectedInputError(f"{name}: datatype: expected one of the protocol's; found {shown(datatype)}")
    sizes = isinstance(shape, list) and len(shape) <= _DIMENSIONS_MAX
    if not sizes or not all(is_whole(length) and 0 <= length <= INPUT_BYTES_MAX for length in shape):
        raise CollectedInputError(f"{name}: shape: expected sizes; found {shown(shape)}")
    if not is_whole(size) or not 0 <= size <= len(content) - at:
        raise CollectedInputError(f"{name}: expected {shown(size)} bytes; found {len(content) - at}")
    tensor = Tensor(name, datatype, tuple(shape), content[at : at + size])
    count = math.prod(shape)
    if datatype == TEXT:
        if len(texts(tensor)) != count:
            raise CollectedInputError(f"{name}: expected {count} texts, as the shape says; found others")
        return tensor
    expected = count * struct.calcsize(NUMBERS[datatype][1])
    if size != expected:
        raise CollectedInputError(f"{name}: expected {expected} bytes for {shape} of {datatype}; found {size}")
    if datatype == "BOOL" and max(tensor.data, default=0) > 1:
        raise CollectedInputError(f"{name}: expected bytes 0 and 1 (BOOL); found others")
    return tensor


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode("ascii")
