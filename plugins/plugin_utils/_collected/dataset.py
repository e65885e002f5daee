# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The dataset of what devices collected: ``.npz`` files as publishing reads them, and what is known of each row.

The same inputs give the same bytes, in whichever order they came: one input that several devices have is one row, and
rows are in the order of their digests. ``.npz`` is written with the standard library, row by row.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple, TypeVar

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import fsync_directory
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import CHUNK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._release.collected_input import (
    CollectedInput,
    CollectedInputError,
    Label,
    Tensor,
    directory_name,
    finite,
    model_of,
    texts,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.datatypes import NUMBERS, TEXT

from .inbox import Stored, read_input, stored_inputs

SCHEMA = 1
LABELLED, UNLABELLED, DESCRIPTION = "labelled.npz", "unlabelled.npz", "dataset.json"
_ALIGNMENT = 64
_CHARACTER_BYTES = 4
_TEXT_CHARACTERS_MAX = 1 << 16

Item = TypeVar("Item")


class Row(NamedTuple):
    """A row of the dataset: where its input is, and what is known of it. ``signature`` has name, datatype and shape of
    each tensor, ``widths`` the most characters of a text in it."""

    stored: Stored
    version: str
    time: float
    reasons: Sequence[str]
    predicted: Label
    label: Label
    signature: tuple[tuple[str, str, tuple[int, ...]], ...]
    widths: Sequence[int]


class Dataset(NamedTuple):
    """The dataset of one model. ``left_out`` counts the inputs that are no rows of it, by the reason."""

    model: str
    labelled: Sequence[Row]
    unlabelled: Sequence[Row]
    left_out: Mapping[str, int]


def models(directory: str) -> list[str]:
    """The models that there are inputs or a dataset of, sorted."""
    try:
        made = {model for model in map(model_of, os.listdir(os.path.join(directory, "datasets"))) if model is not None}
    except FileNotFoundError:
        made = set()
    return sorted(made | {stored.model for stored in stored_inputs(directory)})


def dataset_directory(directory: str, model: str) -> str:
    """Where the dataset of a model is."""
    return os.path.join(directory, "datasets", directory_name(model))


def make_dataset(directory: str, model: str, *, missing_values: bool) -> Dataset:
    """Choose the rows of a model's dataset. Raises OSError."""
    left_out: Counter[str] = Counter()
    rows: dict[str, Row] = {}
    for stored in stored_inputs(directory):
        if stored.model != model:
            continue
        try:
            item = read_input(stored.path, model, stored.digest)
            reason = _unfit(item, missing_values)
        except CollectedInputError:
            reason = "damaged"
        if reason is not None:
            left_out[reason] += 1
            continue
        row = _row(stored, item)
        if stored.digest in rows:
            left_out["the same input again"] += 1
            row = max(rows[stored.digest], row, key=_weight)
        rows[stored.digest] = row
    kept = [rows[digest] for digest in sorted(rows)]
    alike = _of_most(kept, lambda row: row.signature)
    left_out["other inputs or shapes than most"] += len(kept) - len(alike)
    labelled = [row for row in alike if row.label is not None]
    right = _of_most(labelled, lambda row: isinstance(row.label, str))
    left_out["another kind of label than most"] += len(labelled) - len(right)
    return Dataset(model, right, [row for row in alike if row.label is None], +left_out)


def describe(dataset: Dataset) -> dict[str, Any]:
    """What is written beside the arrays: the origin of each row, in the order of the rows."""
    kinds = {"labelled": dataset.labelled, "unlabelled": dataset.unlabelled}
    return {
        "schema": SCHEMA,
        "model": dataset.model,
        "left_out": dict(sorted(dataset.left_out.items())),
        **{name: [_origin(row) for row in rows] for name, rows in kinds.items()},
    }


def counts(document: Mapping[str, Any]) -> dict[str, Any]:
    """How many rows of each kind a description speaks of, and what is left out."""
    kinds = {name: len(document.get(name, [])) for name in ("labelled", "unlabelled")}
    return {**kinds, "left_out": document.get("left_out", {})}


def write_dataset(directory: str, dataset: Dataset, *, check: bool = False) -> dict[str, Any] | None:
    """Put the files of a dataset in place where they differ; in ``check`` mode none. Return the description that was
    there where anything differs; None where nothing does. Raises OSError and CollectedInputError.

    The description is written last: it has the digests of the arrays that it describes.
    """
    place = dataset_directory(directory, dataset.model)
    found = _read_description(place)
    document = describe(dataset)
    if {**found, "files": None} == {**document, "files": None} and _are_whole(place, found):
        return None
    if check:
        return found
    os.makedirs(place, mode=0o700, exist_ok=True)
    files = {}
    for name, rows in ((LABELLED, dataset.labelled), (UNLABELLED, dataset.unlabelled)):
        path = os.path.join(place, name)
        if rows:
            _put(path, functools.partial(_write_npz, rows))
            files[name] = _file_digest(path)
        elif os.path.exists(path):
            os.unlink(path)
    content = json.dumps({**document, "files": files}, indent=1, sort_keys=True).encode() + b"\n"
    _put(os.path.join(place, DESCRIPTION), lambda file: file.write(content))
    fsync_directory(place)
    return found


# ---- rows ----


def _unfit(item: CollectedInput, missing_values: bool) -> str | None:
    """Why publishing would refuse an input; None where it would not."""
    for tensor in item.tensors:
        has_no_nan, has_no_infinity = finite(tensor)
        if not has_no_infinity:
            return "infinite values"
        if not has_no_nan and not missing_values:
            return "missing values (NaN)"
        if tensor.datatype == TEXT:
            try:
                if max(map(len, _decoded(tensor)), default=0) > _TEXT_CHARACTERS_MAX:
                    return f"texts of more than {_TEXT_CHARACTERS_MAX} characters"
            except UnicodeDecodeError:
                return "texts that are not UTF-8"
    return None


def _row(stored: Stored, item: CollectedInput) -> Row:
    label = int(item.label) if isinstance(item.label, bool) else item.label
    signature = tuple((tensor.name, tensor.datatype, tensor.shape) for tensor in item.tensors)
    widths = [max(map(len, _decoded(tensor)), default=0) if tensor.datatype == TEXT else 0 for tensor in item.tensors]
    return Row(stored, item.version, item.time, item.reasons, item.predicted, label, signature, widths)


def _weight(row: Row) -> tuple[bool, float, str]:
    """Of the same input, one with a label counts for more, and a later one."""
    return row.label is not None, row.time, row.stored.device


def _origin(row: Row) -> dict[str, Any]:
    return {
        "sha256": row.stored.digest,
        "device": row.stored.device,
        "version": row.version,
        "time": row.time,
        "reasons": list(row.reasons),
        "predicted": row.predicted,
        "label": row.label,
    }


def _of_most(rows: Sequence[Row], kind: Callable[[Row], Hashable]) -> list[Row]:
    """The rows of the kind that most of them are of: an array has one datatype, and one shape."""
    found = Counter(map(kind, rows))
    if not found:
        return []
    most = max(found, key=lambda item: (found[item], repr(item)))
    return [row for row in rows if kind(row) == most]


def _decoded(tensor: Tensor) -> list[str]:
    return [text.decode("utf-8") for text in texts(tensor)]


# ---- files ----


def _read_description(place: str) -> dict[str, Any]:
    try:
        with open(os.path.join(place, DESCRIPTION), encoding="utf-8") as file:
            found = json.load(file)
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _are_whole(place: str, document: Mapping[str, Any]) -> bool:
    """Whether the arrays are those that the description was written for, and no others."""
    files = document.get("files") or {}
    paths = {name: os.path.join(place, name) for name in (LABELLED, UNLABELLED)}
    there = {name: _file_digest(path) for name, path in paths.items() if os.path.exists(path)}
    return there == files


def _file_digest(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def _put(path: str, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file beside its place, bring it to the disk, and rename it into place."""
    staged = f"{path}.new"
    descriptor = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w+b") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(staged, path)


def _write_npz(rows: Sequence[Row], file: IO[bytes]) -> None:
    """Write an archive of arrays: each tensor under ``input:NAME``, and the labels where there are any."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for index, (name, datatype, shape) in enumerate(rows[0].signature):
            width = max(row.widths[index] for row in rows)
            descr = f"<U{max(width, 1)}" if datatype == TEXT else _descr(NUMBERS[datatype][0])
            values = (_values(row, index, width) for row in rows)
            _write_array(archive, f"input:{name}", descr, (len(rows), *shape), values)
        if rows[0].label is not None:
            descr, labels = _labels([row.label for row in rows])
            _write_array(archive, "labels", descr, (len(rows),), labels)


def _write_array(
    archive: zipfile.ZipFile, name: str, descr: str, shape: Sequence[int], values: Iterable[bytes]
) -> None:
    sizes = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {sizes}, }}"
    # Magic, version and length take 10 bytes; the values begin at a multiple.
    header += " " * (-(10 + len(header) + 1) % _ALIGNMENT) + "\n"
    # A fixed time: the same rows are the same bytes.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin-1"))
        for value in values:
            file.write(value)


def _values(row: Row, index: int, width: int) -> bytes:
    tensor = read_input(row.stored.path, row.stored.model, row.stored.digest).tensors[index]
    if tensor.datatype != TEXT:
        return tensor.data
    return b"".join(_padded(text, width) for text in _decoded(tensor))


def _labels(labels: Sequence[Any]) -> tuple[str, Iterator[bytes]]:
    if isinstance(labels[0], str):
        width = max(map(len, labels))
        return f"<U{max(width, 1)}", (_padded(label, width) for label in labels)
    if all(isinstance(label, int) for label in labels):
        return "<i8", (struct.pack("<q", label) for label in labels)
    return "<f8", (struct.pack("<d", label) for label in labels)


def _padded(text: str, width: int) -> bytes:
    return text.encode("utf-32-le", "surrogatepass").ljust(max(width, 1) * _CHARACTER_BYTES, b"\0")


def _descr(letters: str) -> str:
    return f"{'|' if letters[1] == '1' else '<'}{letters}"
