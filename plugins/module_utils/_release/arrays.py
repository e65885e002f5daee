# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Tensors in files, read row by row with the standard library: JSON as in the Open Inference Protocol, and ``.npz``.

A ``.npz`` file is a zip archive of arrays, as ``numpy.savez`` and ``numpy.savez_compressed`` write it.
"""

from __future__ import annotations

import ast
import contextlib
import math
import struct
from abc import ABC, abstractmethod
from typing import IO, Any, Callable, ContextManager, Iterator, List, Mapping, Sequence, Union

from .._common.records import is_whole
from .datatypes import NUMBERS, TEXT

_BY_NUMPY = {letters: datatype for datatype, (letters, _code) in NUMBERS.items()}
_MAGIC = b"\x93NUMPY"
_HEADER_MAX = 1 << 16
_TEXT_MAX = 1 << 16
ROW_BYTES_MAX = 64 << 20
_DIMENSIONS_MAX = 32

Rows = Union[bytes, List[Any]]


def write_archive(target: str, arrays: Mapping[str, Any], write: Callable[..., None]) -> None:
    """Write arrays by their names as a ``.npz`` file; ``write`` is ``numpy.lib.format.write_array``.

    ``numpy.savez`` takes an array called ``file`` or ``allow_pickle`` for an argument of its own. Raises ValueError for
    an array of objects.
    """
    import zipfile

    with zipfile.ZipFile(target, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                write(member, values, allow_pickle=False)


class ArrayError(ValueError):
    """A file holds no array that this code can read; the text names the array, what was expected and what was found."""


class Array(ABC):
    """One named array: its ``datatype`` in the protocol's names, its ``shape``, and its rows along the first axis."""

    def __init__(self, name: str, datatype: str, shape: Sequence[int]) -> None:
        self.name = name
        self.datatype = datatype
        self.shape = tuple(shape)

    @property
    def rows(self) -> int:
        """The size of the first axis."""
        return self.shape[0] if self.shape else 1

    @property
    def row_values(self) -> int:
        """The number of values in one row."""
        return math.prod(self.shape[1:])

    @property
    def row_bytes(self) -> int:
        """The size of one row as raw bytes; for texts a guess."""
        size = struct.calcsize(NUMBERS[self.datatype][1]) if self.datatype in NUMBERS else 32
        return size * self.row_values

    @abstractmethod
    def open(self) -> ContextManager[RowReader]:
        """Read the rows from the first one on. Raises ArrayError and OSError."""


class RowReader(ABC):
    """Reads the rows of one array in order."""

    @abstractmethod
    def read(self, rows: int) -> Rows:
        """Return the next rows: little-endian bytes, or a flat list of values or of texts."""


class ListArray(Array):
    """An array whose values are a flat list."""

    def __init__(self, name: str, datatype: str, shape: Sequence[int], data: list[Any]) -> None:
        super().__init__(name, datatype, shape)
        self._data = data

    @contextlib.contextmanager
    def open(self) -> Iterator[RowReader]:
        """Read the rows from the first one on."""
        yield _ListReader(self._data, self.row_values)


class _ListReader(RowReader):
    def __init__(self, data: list[Any], row_values: int) -> None:
        self._data, self._row_values, self._at = data, row_values, 0

    def read(self, rows: int) -> Rows:
        start, self._at = self._at, self._at + rows * self._row_values
        return self._data[start : self._at]


class NpyArray(Array):
    """An array in a ``.npz`` file; its rows are read from the file as they are asked for."""

    def __init__(self, path: str, member: str) -> None:
        self._path, self._member = path, member
        name = member[: -len(".npy")]
        with self._opened() as (stream, size):
            header, length = _read_header(stream, name)
        datatype, self._item = _datatype(header.get("descr"), name)
        self._encoding = "utf-32-le" if str(header.get("descr"))[1:2] == "U" else "utf-8"
        super().__init__(name, datatype, _shape(header.get("shape"), name))
        if header.get("fortran_order") is not False and len(self.shape) > 1:
            raise ArrayError(f"{name}: expected C order; found Fortran order. Save numpy.ascontiguousarray(…) instead")
        expected = length + self._item * math.prod(self.shape)
        if size != expected:
            raise ArrayError(f"{name}: expected {expected} bytes for shape {list(self.shape)}; found {size}")
        if self._item * self.row_values > ROW_BYTES_MAX:
            raise ArrayError(
                f"{name}: expected rows of at most {ROW_BYTES_MAX} bytes; found {self._item * self.row_values}"
            )

    @contextlib.contextmanager
    def open(self) -> Iterator[RowReader]:
        """Read the rows from the first one on. Raises ArrayError and OSError."""
        with self._opened() as (stream, _size):
            _read_header(stream, self.name)
            yield _NpyReader(stream, self, self._item, self._encoding)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], int]]:
        import zipfile

        damages: tuple[type[Exception], ...] = (*_damages(), KeyError)
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(self._member) as stream:
                yield stream, archive.getinfo(self._member).file_size
        except damages as error:
            raise ArrayError(f"{self._member}: damaged: {error}") from error


class _NpyReader(RowReader):
    def __init__(self, stream: IO[bytes], array: Array, item: int, encoding: str) -> None:
        self._stream, self._array, self._item, self._encoding = stream, array, item, encoding

    def read(self, rows: int) -> Rows:
        size = rows * self._array.row_values * self._item
        data = bytearray()
        while len(data) < size:
            chunk = self._stream.read(size - len(data))
            if not chunk:
                raise ArrayError(f"{self._array.name}: expected {size} bytes more; found {len(data)}")
            data += chunk
        if self._array.datatype == TEXT:
            return self._texts(bytes(data))
        return bytes(data)

    def _texts(self, data: bytes) -> list[Any]:
        texts = [data[at : at + self._item] for at in range(0, len(data), self._item)]
        try:
            return [text.decode(self._encoding).rstrip("\0") for text in texts]
        except UnicodeDecodeError as error:
            raise ArrayError(f"{self._array.name}: expected texts: {error}") from error


def read_npz(path: str) -> dict[str, Array]:
    """Return the arrays of a ``.npz`` file by their names. Raises ArrayError and OSError."""
    # Imported here, as in the other functions: most probe sets are JSON, and on a device it takes time.
    import zipfile

    damages: tuple[type[Exception], ...] = (*_damages(), ValueError)
    try:
        with zipfile.ZipFile(path) as archive:
            methods = {item.filename: item.compress_type for item in archive.infolist()}
    except damages as error:
        raise ArrayError(f"expected a .npz file; {error}") from error
    others = [name for name in methods if not name.endswith(".npy")]
    if others or not methods:
        raise ArrayError(f"expected arrays (.npy) only; found {', '.join(others[:3]) or 'none'}")
    for member, method in methods.items():
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArrayError(f"{member}: expected numpy.savez's packing or savez_compressed's; found {method}")
    return {member[: -len(".npy")]: NpyArray(path, member) for member in methods}


def _damages() -> tuple[type[Exception], ...]:
    """What zipfile raises for a damaged archive, and for one that it cannot read."""
    import zipfile
    import zlib

    return zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error


def all_values(array: Array) -> list[Any]:
    """Return all values of an array as a flat list."""
    with array.open() as reader:
        return unpacked(reader.read(array.rows), array.datatype)


def unpacked(rows: Rows, datatype: str) -> list[Any]:
    """Return rows as a flat list of values. Raises ArrayError if their bytes do not make whole values."""
    if isinstance(rows, list):
        return rows
    if datatype not in NUMBERS:
        return _lengths_and_texts(rows)
    code = NUMBERS[datatype][1]
    size = struct.calcsize(code)
    if len(rows) % size:
        raise ArrayError(f"expected whole values of {size} bytes; found {len(rows)} bytes")
    return list(struct.unpack(f"<{len(rows) // size}{code}", rows))


def _lengths_and_texts(data: bytes) -> list[Any]:
    texts, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise ArrayError("expected a length before each text; found too few bytes")
        (length,) = struct.unpack_from("<I", data, at)
        text, at = data[at + 4 : at + 4 + length], at + 4 + length
        if len(text) != length:
            raise ArrayError(f"expected a text of {length} bytes; found {len(text)}")
        texts.append(text.decode("utf-8", "surrogateescape"))
    return texts


def _read_header(stream: IO[bytes], name: str) -> tuple[dict[str, Any], int]:
    """The header of a ``.npy`` file, and how many bytes it takes."""
    start = stream.read(8)
    if len(start) < 8 or start[:6] != _MAGIC or start[6] not in (1, 2, 3):
        raise ArrayError(f"{name}: expected an array in NumPy's format 1, 2 or 3; found none")
    code = "<H" if start[6] == 1 else "<I"
    (length,) = struct.unpack(code, stream.read(struct.calcsize(code)))
    if length > _HEADER_MAX:
        raise ArrayError(f"{name}: expected a header of at most {_HEADER_MAX} bytes; found {length}")
    try:
        header = ast.literal_eval(stream.read(length).decode("utf-8"))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ArrayError(f"{name}: expected NumPy's header; {error}") from error
    if not isinstance(header, dict):
        raise ArrayError(f"{name}: expected NumPy's header; found {type(header).__name__}")
    return header, 8 + struct.calcsize(code) + length


def _datatype(descr: Any, name: str) -> tuple[str, int]:
    """The protocol's name of a NumPy type, and the size of an element."""
    text = descr if isinstance(descr, str) else ""
    order, kind, size = text[:1], text[1:2], text[2:]
    if order in "<|" and text[1:] in _BY_NUMPY:
        return _BY_NUMPY[text[1:]], int(size)
    if order in "<|" and kind in "US" and kind and _is_text_size(size):
        return TEXT, int(size) * (4 if kind == "U" else 1)
    remedy = ""
    if "O" in text:
        remedy = ". Objects need pickle, which can run code; save texts as numpy.array(texts, dtype=str)"
    elif order == ">":
        remedy = ". Save it in little-endian order: array.astype(array.dtype.newbyteorder('<'))"
    raise ArrayError(f"{name}: expected numbers, booleans or texts; found type {repr(descr)[:80]}{remedy}")


def _is_text_size(size: str) -> bool:
    return size.isdecimal() and len(size) <= len(str(_TEXT_MAX)) and 0 < int(size) <= _TEXT_MAX


def _shape(value: Any, name: str) -> tuple[int, ...]:
    whole = isinstance(value, tuple) and all(is_whole(size) and 0 <= size <= 1 << 40 for size in value)
    if not whole or len(value) > _DIMENSIONS_MAX:
        raise ArrayError(f"{name}: expected a shape; found {str(value)[:80]}")
    return tuple(value)
