# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Reads a probe set: ``probe.json`` or ``probe.npz`` (see ``docs/release.md``), and what a golden file says of outputs.

The controller checks it before a byte of the release is sent, and the device reads it.
"""

from __future__ import annotations

import json
import math
from typing import Any, Mapping

from .._common.packed import FLAGS_MAX
from .._common.records import is_whole
from .arrays import Array, ListArray, all_values, read_npz
from .datatypes import NUMBERS, TEXT
from .probe_set import Metric, Output, ProbeSet, ProbeSetError, Task, choices, is_finite

JSON_BYTES_MAX = 256 << 20

_FIELDS = (
    "task", "metric", "inputs", "output", "labels", "expected", "ragged", "unordered", "top", "threshold", "tolerance",
)  # fmt: skip


def read_probe_set(path: str) -> ProbeSet:
    """Read a probe set. Raises ProbeSetError, which names the file."""
    try:
        with open(path, "rb") as file:
            is_archive = file.read(2) == b"PK"
            if is_archive:
                return _checked(*_archived(path))
            file.seek(0)
            content = file.read(JSON_BYTES_MAX + 1)
        if len(content) > JSON_BYTES_MAX:
            raise ProbeSetError(f"expected at most {JSON_BYTES_MAX} bytes of JSON. Use .npz for more")
        return _checked(*_from_json(json.loads(content.decode("utf-8"))))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise ProbeSetError(f"{path}: not a probe set: {reason}") from error


def read_outputs(path: str | None) -> Mapping[str, Output]:
    """Return what a golden file says of the outputs, by name; nothing without a golden file.

    Raises ProbeSetError, which names the file, if it is no golden file.
    """
    if path is None:
        return {}
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(JSON_BYTES_MAX).decode("utf-8"))
        found = {}
        for kind in ("inputs", "outputs"):
            for item in document[kind]:
                shape, data = item["shape"], _flat(item["data"])
                count = math.prod(shape)
                if item["datatype"] not in (*NUMBERS, TEXT):
                    raise ProbeSetError(
                        f"{kind}: {str(item['name'])[:80]!r}: unknown datatype {str(item['datatype'])[:80]!r}"
                    )
                if len(data) != count:
                    raise ProbeSetError(
                        f"{kind}: {str(item['name'])[:80]!r}: expected {count} values for shape {shape}"
                    )
                if kind == "outputs":
                    found[str(item["name"])] = Output.of_shape(item["datatype"], shape[1:])
        for part in ("absolute", "relative"):
            _tolerance(document["tolerance"], part)
        if not found:
            raise ProbeSetError("outputs: expected at least one; found none")
        return found
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise ProbeSetError(f"{path}: not a golden file: {reason}") from error


def _from_json(document: Any) -> tuple[Mapping[str, Any], list[Array], tuple[Any, ...], int, Array | None]:
    if not isinstance(document, Mapping):
        raise ProbeSetError(f"expected an object; found {type(document).__name__}")
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise ProbeSetError("inputs: expected a list of tensors")
    arrays: list[Array] = [_tensor(item, f"inputs[{index}]") for index, item in enumerate(inputs)]
    expected = _tensor(document["expected"], "expected") if document.get("expected") is not None else None
    labels, label_values = document.get("labels"), 1
    if labels is not None:
        if not isinstance(labels, list) or not labels:
            raise ProbeSetError("labels: expected a list with one entry for each sample")
        if isinstance(labels[0], list):
            label_values = len(labels[0])
            if not label_values or any(not isinstance(row, list) or len(row) != label_values for row in labels):
                raise ProbeSetError("labels: expected lists of one length")
            labels = [label for row in labels for label in row]
    return document, arrays, tuple(labels or ()), label_values, expected


def _archived(path: str) -> tuple[Mapping[str, Any], list[Array], tuple[Any, ...], int, Array | None]:
    arrays = read_npz(path)
    settings = arrays.pop("probe", None)
    if settings is None or settings.datatype != TEXT or settings.shape != ():
        raise ProbeSetError('expected an array "probe" with the settings as JSON; see docs/release.md')
    document = json.loads(all_values(settings)[0])
    if not isinstance(document, Mapping):
        raise ProbeSetError(f"probe: expected a JSON object; found {type(document).__name__}")
    stray = sorted(set(document) & {"inputs", "labels", "expected"})
    if stray:
        raise ProbeSetError(f"probe: {stray[0]}: expected it as an array of the file")
    labels, expected = arrays.pop("labels", None), arrays.pop("expected", None)
    inputs = []
    for name, array in arrays.items():
        if not name.startswith("input:"):
            raise ProbeSetError(f"{name}: expected probe, labels, expected or input:<name>")
        array.name = name[len("input:") :]
        inputs.append(array)
    if labels is None:
        return document, inputs, (), 1, expected
    if labels.rows > FLAGS_MAX:
        raise ProbeSetError(f"labels: expected at most {FLAGS_MAX} samples; found {labels.rows}")
    return document, inputs, tuple(all_values(labels)), labels.row_values, expected


def _checked(
    document: Mapping[str, Any],
    inputs: list[Array],
    labels: tuple[Any, ...],
    label_values: int,
    expected: Array | None,
) -> ProbeSet:
    unknown = sorted(str(name) for name in set(document) - set(_FIELDS))
    if unknown:
        raise ProbeSetError(f"{unknown[0][:80]}: unknown; expected {', '.join(_FIELDS)}")
    output = document.get("output")
    if not isinstance(output, str) or not output:
        raise ProbeSetError("output: expected the name of an output of the model")
    if (not labels) == (expected is None):
        raise ProbeSetError("expected either labels, or expected with reference outputs")
    if not inputs:
        raise ProbeSetError("inputs: expected at least one")
    samples = expected.rows if expected is not None else len(labels) // label_values
    for array in [*inputs, *([expected] if expected is not None else [])]:
        if not array.shape or array.rows != samples or not samples:
            raise ProbeSetError(
                f"{array.name}: expected {samples} rows, one for each sample; found the shape {list(array.shape)}"
            )
    if len({array.name for array in inputs}) < len(inputs):
        raise ProbeSetError("inputs: expected each name once")
    metric, task = document.get("metric"), document.get("task")
    tolerance = document.get("tolerance")
    if tolerance is None and (metric == "within" or (expected is not None and metric != "distance")):
        raise ProbeSetError(
            'tolerance: expected how far off an answer may be, such as {"absolute": 0.01, "relative": 0}'
        )
    return ProbeSet(
        inputs=tuple(inputs),
        output=output,
        samples=samples,
        labels=labels,
        label_values=label_values,
        expected=expected,
        ragged=_ragged(document.get("ragged", False), expected),
        unordered=_unordered(document.get("unordered", False), document, expected),
        declared_task=_member(Task, task, "task"),
        declared_metric=_member(Metric, metric, "metric"),
        top=_top(document.get("top", 1)),
        threshold=_threshold(document.get("threshold", 0.5)),
        absolute=_tolerance({} if tolerance is None else tolerance, "absolute"),
        relative=_tolerance({} if tolerance is None else tolerance, "relative"),
    )


def _tensor(item: Any, field: str) -> Array:
    if not isinstance(item, Mapping):
        raise ProbeSetError(f"{field}: expected a tensor; found {type(item).__name__}")
    name, datatype, shape, data = (item.get(part) for part in ("name", "datatype", "shape", "data"))
    if field == "expected":
        name = "expected"
    if not isinstance(name, str) or not name:
        raise ProbeSetError(f"{field}.name: expected a text")
    if datatype not in (*NUMBERS, TEXT):
        raise ProbeSetError(
            f"{field}.datatype: expected one of {', '.join((*NUMBERS, TEXT))}; found {str(datatype)[:80]!r}"
        )
    if not isinstance(shape, list) or not all(is_whole(size) and size >= 0 for size in shape):
        raise ProbeSetError(f"{field}.shape: expected a list of sizes; found {str(shape)[:80]}")
    flat = _flat(data)
    if len(flat) != math.prod(shape):
        raise ProbeSetError(f"{field}.data: expected {math.prod(shape)} values for shape {shape}; found {len(flat)}")
    return ListArray(name, str(datatype), shape, flat)


def _flat(data: Any) -> list[Any]:
    """The values of a tensor, whose list may be nested as its shape is. Raises ProbeSetError."""
    if not isinstance(data, list):
        raise ProbeSetError(f"data: expected a list; found {type(data).__name__}")
    values: list[Any] = data
    while any(isinstance(row, list) for row in values):
        if not all(isinstance(row, list) for row in values):
            raise ProbeSetError("data: expected lists of one depth")
        values = [value for row in values for value in row]
    return values


def _member(kind: Any, value: Any, field: str) -> Any:
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise ProbeSetError(f"{field}: expected one of {choices(kind)}; found {str(value)[:80]!r}") from None


def _ragged(value: Any, expected: Array | None) -> bool:
    if not isinstance(value, bool):
        raise ProbeSetError(f"ragged: expected true or false; found {str(value)[:80]!r}")
    if value and (expected is None or expected.datatype not in ("FP16", "FP32", "FP64")):
        raise ProbeSetError("ragged: expected reference outputs (expected) of floating-point numbers beside it")
    return value


def _unordered(value: Any, document: Mapping[str, Any], expected: Array | None) -> bool:
    if not isinstance(value, bool):
        raise ProbeSetError(f"unordered: expected true or false; found {str(value)[:80]!r}")
    if value and (not document.get("ragged") or expected is None or len(expected.shape) < 3):
        raise ProbeSetError(
            "unordered: expected ragged beside it, and a reference with a sample, a row and its values as axes, such "
            "as [samples, most boxes, 4]"
        )
    return value


def _top(value: Any) -> int:
    if not is_whole(value) or value < 1:
        raise ProbeSetError(f"top: expected a whole number from 1; found {str(value)[:80]!r}")
    return int(value)


def _threshold(value: Any) -> float:
    if not is_finite(value):
        raise ProbeSetError(f"threshold: expected a number; found {str(value)[:80]!r}")
    return float(value)


def _tolerance(value: Any, part: str) -> float:
    number: Any = value.get(part, 0) if isinstance(value, Mapping) else None
    if not is_finite(number) or number < 0:
        raise ProbeSetError(f"tolerance.{part}: expected a number from 0; found {str(number)[:80]!r}")
    return float(number)
