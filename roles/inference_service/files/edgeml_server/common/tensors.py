# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The protocol's tensors as NumPy arrays, from JSON or from binary data, and back."""

from __future__ import annotations

import array
import itertools
import math
import reprlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .errors import InvalidRequestError
from .number_lists import NumberList

Array = Any
"""A NumPy array: of numbers, of booleans, or of objects that are all str (datatype BYTES; ``text_from_bytes``)."""

DTYPES: dict[str, Any] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
"""NumPy's type for each datatype of the protocol."""

_DATATYPES = {dtype: name for name, dtype in DTYPES.items()}
_WIDEST = {"f": "d", "i": "q", "u": "Q"}
_LENGTH_BYTES = 4
_ALIGNMENT_BYTES = 16


class TensorSpec(NamedTuple):
    """An input or output of a model. A size of -1 in ``shape`` is variable.

    ``symbols`` names variable sizes, where the model does (else empty): those of one name are equal in all inputs.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    symbols: tuple[str | None, ...] = ()
    any_rank: bool = False
    """Whether the model declares no shape, and takes any; ``shape`` is empty then."""


def is_whole(value: Any) -> bool:
    """Whether a JSON value is a whole number: in Python, true and false are as well."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_shape(spec: TensorSpec, shape: Any) -> tuple[int, ...]:
    """Return a request's ``shape`` if it is one and fits the model's; raise InvalidRequestError if not."""
    if not isinstance(shape, list) or not all(is_whole(size) and 0 <= size < 1 << 63 for size in shape):
        raise InvalidRequestError(f"input {spec.name!r}: shape: expected a list of sizes; found {shown(shape)}")
    fits = spec.any_rank or (
        len(shape) == len(spec.shape) and all(expected in (-1, size) for expected, size in zip(spec.shape, shape))
    )
    if not fits:
        raise InvalidRequestError(
            f"input {spec.name!r}: shape: expected {list(spec.shape)} (-1: any size); found {shown(shape)}"
        )
    return tuple(shape)


def from_json(spec: TensorSpec, shape: Sequence[int], data: Any) -> Array:
    """Return JSON ``data``, nested or flat, as an array. Raises InvalidRequestError when it does not fit.

    Nothing is converted silently: no fractions to whole numbers, no texts to numbers, no number out of range. ``null``
    is NaN, as in replies.
    """
    dtype = DTYPES[spec.datatype]
    widest = data.array(dtype.kind) if isinstance(data, NumberList) else None
    if widest is not None:
        _check_nesting(spec, shape, data.lengths)
        _check_count(spec, shape, len(widest))
        elements: list[Any] = []
    else:
        elements = _flat(spec, shape, data.as_list() if isinstance(data, NumberList) else data)
    if spec.datatype == "BYTES":
        return _texts(spec, shape, elements)
    try:
        if dtype.kind == "b":
            if set(map(type, elements)) - {bool}:
                raise TypeError("expected true or false")
            values = np.array(elements, dtype)
        else:
            if widest is None:
                # array.array is as quick as NumPy and, unlike it, takes neither texts nor fractions for whole numbers.
                widest = np.frombuffer(_widest(dtype.kind, elements), f"{dtype.kind}8")
            _check_range(widest, dtype)
            with np.errstate(over="raise"):
                values = widest.astype(dtype, copy=False)
    except (TypeError, OverflowError, FloatingPointError) as error:
        raise InvalidRequestError(f"input {spec.name!r}: data: expected {spec.datatype}; {error}") from error
    return values.reshape(shape)


def from_binary(spec: TensorSpec, shape: Sequence[int], data: memoryview) -> Array:
    """Return binary ``data`` (little-endian, row-major; BYTES with 4-byte lengths) as an array.

    Raises InvalidRequestError when it does not fit.
    """
    if spec.datatype == "BYTES":
        texts = _binary_texts(spec, data)
        _check_count(spec, shape, len(texts))
        return _texts(spec, shape, texts)
    dtype = DTYPES[spec.datatype].newbyteorder("<")
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise InvalidRequestError(
            f"input {spec.name!r}: expected {expected} bytes for shape {shown(list(shape))} of {spec.datatype}; "
            f"found {len(data)}"
        )
    if spec.datatype == "BOOL" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise InvalidRequestError(f"input {spec.name!r}: expected bytes 0 and 1 (BOOL); found others")
    values = np.frombuffer(data, dtype).reshape(shape)
    # The JSON before it has any length. A runtime must not be given any address; and at some, it adds up in another
    # order, so that the same numbers would have another answer. NumPy's own arrays begin at a multiple of this.
    return values.astype(DTYPES[spec.datatype], copy=values.ctypes.data % _ALIGNMENT_BYTES != 0)


def aligned_memory(size: int, offset: int) -> memoryview:
    """Return memory of which the byte at ``offset`` has an address that ``from_binary`` takes without a copy."""
    room = np.empty(size + _ALIGNMENT_BYTES, np.uint8)
    start = -(room.ctypes.data + offset) % _ALIGNMENT_BYTES
    return room[start : start + size].data


def to_json(values: Array) -> Any:
    """Return the elements, flat and in row-major order, as something that ``json_codec.dumps`` takes."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.tolist() if flat.dtype == object else flat


def to_binary(values: Array) -> bytes:
    """Return the elements as the binary extension wants them."""
    if values.dtype == object:
        texts = [text_to_bytes(text) for text in values.reshape(-1)]
        return b"".join(part for text in texts for part in (len(text).to_bytes(_LENGTH_BYTES, "little"), text))
    little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return bytes(little_endian.tobytes())


def text_from_bytes(content: bytes) -> str:
    """Return an element of the datatype BYTES: UTF-8; each other byte as half a character, which UTF-8 has none of."""
    return content.decode("utf-8", "surrogateescape")


def text_to_bytes(text: str) -> bytes:
    """Return the bytes of which ``text_from_bytes`` made the text."""
    return text.encode("utf-8", "surrogateescape")


def datatype_of(values: Array) -> str:
    """Return the protocol's name for the type of the elements."""
    return _DATATYPES[values.dtype]


def shown(value: Any) -> str:
    """``value`` as text for an error, shortened; the work does not grow with its size."""
    return reprlib.repr(value)[:160]


def _flat(spec: TensorSpec, shape: Sequence[int], data: Any) -> list[Any]:
    """Return the elements of ``data``, a list of them or lists nested as ``shape`` says."""
    nesting = []
    elements = [data]
    while elements and isinstance(elements[0], list):
        lengths = {len(item) if isinstance(item, list) else -1 for item in elements}
        if len(lengths) > 1:
            raise InvalidRequestError(f"input {spec.name!r}: data: expected lists of one length; found several")
        nesting.append(lengths.pop())
        elements = elements[0] if len(elements) == 1 else list(itertools.chain.from_iterable(elements))
    if not nesting:
        raise InvalidRequestError(f"input {spec.name!r}: data: expected a list; found {shown(data)}")
    _check_nesting(spec, shape, nesting)
    _check_count(spec, shape, len(elements))
    return elements


def _widest(kind: str, elements: list[Any]) -> array.array[Any]:
    try:
        return array.array(_WIDEST[kind], elements)
    except TypeError:
        if kind != "f" or None not in elements:
            raise
    return array.array(_WIDEST[kind], [math.nan if element is None else element for element in elements])


def _texts(spec: TensorSpec, shape: Sequence[int], texts: list[Any]) -> Array:
    for text in texts:
        if not isinstance(text, str):
            raise InvalidRequestError(f"input {spec.name!r}: data: expected texts (BYTES); found {shown(text)}")
    values = np.empty(len(texts), dtype=object)
    values[:] = texts
    return values.reshape(shape)


def _binary_texts(spec: TensorSpec, data: memoryview) -> list[str]:
    texts = []
    position = 0
    while position < len(data):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(data[position:start], "little")
        if position > len(data):
            raise InvalidRequestError(f"input {spec.name!r}: the length of an element points behind the end")
        texts.append(text_from_bytes(bytes(data[start:position])))
    return texts


def _check_range(values: Array, dtype: Any) -> None:
    if dtype.kind == "f" or not values.size:
        return
    limits = np.iinfo(dtype)
    for value in (int(values.min()), int(values.max())):
        if not limits.min <= value <= limits.max:
            raise OverflowError(f"found {value}, outside {limits.min} to {limits.max}")


def _check_nesting(spec: TensorSpec, shape: Sequence[int], nesting: list[int]) -> None:
    if len(nesting) > 1 and nesting != list(shape[: len(nesting)]):
        raise InvalidRequestError(
            f"input {spec.name!r}: data: expected lists nested as shape {shown(list(shape))}; found {shown(nesting)}"
        )


def _check_count(spec: TensorSpec, shape: Sequence[int], found: int) -> None:
    expected = math.prod(shape)
    if found != expected:
        raise InvalidRequestError(
            f"input {spec.name!r}: expected {expected} elements for shape {shown(list(shape))}; found {found}"
        )
