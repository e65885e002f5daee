# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The probe set of a release: questions with their labels, the task, and the metric that they measure.

A probe set is ``probe.json`` or ``probe.npz`` (see ``docs/release.md``). It is checked on the controller before a byte
of the release is sent, and read on the device.
"""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from .._common.errors import EdgemlError
from .._common.packed import FLAGS_MAX, NUMBERS_MAX
from .._common.records import is_whole
from .arrays import NUMBERS, TEXT, Array, ListArray, all_values, read_npz

JSON_BYTES_MAX = 256 << 20


class ProbeSetError(EdgemlError, ValueError):
    """A file is no probe set; the text says what was expected, what was found, and what to do."""


class Task(enum.Enum):
    """What a model answers, and what its answers are compared with."""

    CLASS_SCORES = "class_scores"
    """A score for each class; the label is the index of the right one."""
    LABELS = "labels"
    """The class itself, as a whole number or a text."""
    SCORE = "score"
    """One score of a yes-or-no question; the label is 0 or 1."""
    MULTI_LABEL = "multi_label"
    """A score for each of several labels, each of which applies or not."""
    REGRESSION = "regression"
    """Numbers; the labels are the right ones."""
    REFERENCE = "reference"
    """Anything; it is compared with reference outputs. Detection and segmentation, or no labels at all."""


class Metric(enum.Enum):
    """The quality of the answers."""

    ACCURACY = "accuracy"
    WITHIN = "within"
    """The share of samples whose error is within the tolerance."""
    AGREEMENT = "agreement"
    """The share of samples whose answer is within the tolerance of the reference."""
    AUC = "auc"
    R2 = "r2"
    MAE = "mae"
    RMSE = "rmse"
    DISTANCE = "distance"
    """The mean absolute difference from the reference."""

    @property
    def is_error(self) -> bool:
        """Whether less is better."""
        return self in (Metric.MAE, Metric.RMSE, Metric.DISTANCE)

    @property
    def has_flags(self) -> bool:
        """Whether each sample is right or wrong, and nothing between."""
        return self in (Metric.ACCURACY, Metric.WITHIN, Metric.AGREEMENT)

    @property
    def samples_max(self) -> int:
        """How many samples a probe set can have, so that their results stay small."""
        return FLAGS_MAX if self.has_flags else NUMBERS_MAX


# The first metric of each task is the default.
METRICS: Mapping[Task, tuple[Metric, ...]] = {
    Task.CLASS_SCORES: (Metric.ACCURACY,),
    Task.LABELS: (Metric.ACCURACY,),
    Task.SCORE: (Metric.AUC, Metric.ACCURACY),
    Task.MULTI_LABEL: (Metric.ACCURACY,),
    Task.REGRESSION: (Metric.MAE, Metric.RMSE, Metric.R2, Metric.WITHIN),
    Task.REFERENCE: (Metric.AGREEMENT, Metric.DISTANCE),
}
_FIELDS = ("task", "metric", "inputs", "output", "labels", "expected", "ragged", "top", "threshold", "tolerance")


@dataclass(frozen=True)
class Output:
    """What is known of an output: its datatype, and how many values it has for one sample."""

    datatype: str
    values: int


@dataclass(frozen=True)
class ProbeSet:
    """A probe set. ``labels`` holds ``label_values`` values for each sample; a reference has ``expected`` instead.

    ``task`` is None where the file declares none: then the output decides (``resolved``). ``ragged``: answers differ in
    the number of their values, such as those of boxes, and the reference is filled up with NaN.
    """

    inputs: tuple[Array, ...]
    output: str
    samples: int
    labels: tuple[Any, ...] = ()
    label_values: int = 1
    expected: Array | None = None
    ragged: bool = False
    declared_task: Task | None = None
    declared_metric: Metric | None = None
    top: int = 1
    threshold: float = 0.5
    absolute: float = 0.0
    relative: float = 0.0

    def resolved(self, output: Output | None) -> tuple[Task, Metric]:
        """Return the task and the metric, by what the file declares and by the output.

        Raises ProbeSetError if they do not fit each other, or if the task could be one of several.
        """
        task = self.declared_task or self._task_of(output)
        metric = self.declared_metric or METRICS[task][0]
        if metric not in METRICS[task]:
            known = ", ".join(item.value for item in METRICS[task])
            raise ProbeSetError(f"metric: expected one of {known} for the task {task.value}; found {metric.value}")
        if self.samples > metric.samples_max:
            raise ProbeSetError(
                f"{self.samples} samples: expected at most {metric.samples_max} for the metric {metric.value}"
            )
        self._check_labels(task, output)
        return task, metric

    def _task_of(self, output: Output | None) -> Task:
        """The task that the output and the labels suggest."""
        if self.expected is not None:
            return Task.REFERENCE
        if output is None:
            raise ProbeSetError(
                f"task: nothing is known of the output {self.output!r}: declare one of {_names(Task)}, or publish a "
                f"golden file that has this output"
            )
        whole = output.datatype not in ("FP16", "FP32", "FP64")
        if whole and output.values == 1:
            return Task.LABELS
        if not whole and output.values > 1 and self.label_values == output.values and _all_flags(self.labels):
            return Task.MULTI_LABEL
        if not whole and output.values > 1 and self.label_values == 1 and _all_whole(self.labels):
            return Task.CLASS_SCORES
        if not whole and output.values == 1:
            raise ProbeSetError(
                f"task: the output {self.output!r} has one number for each sample, which may be a score or a "
                f"prediction: declare score or regression"
            )
        raise ProbeSetError(
            f"task: the output {self.output!r} has {output.values} values of {output.datatype} for each sample, and "
            f"{self.label_values} labels: declare one of {_names(Task)}"
        )

    def _check_labels(self, task: Task, output: Output | None) -> None:
        """Raise ProbeSetError unless the labels fit the task and the output."""
        if (task is Task.REFERENCE) != (self.expected is not None):
            wanted, found = ("expected", "labels") if task is Task.REFERENCE else ("labels", "expected")
            raise ProbeSetError(f"expected {wanted} for the task {task.value}; found {found}")
        sizes = output.values if output else 0
        if task in (Task.CLASS_SCORES, Task.LABELS, Task.SCORE) and self.label_values != 1:
            raise ProbeSetError(f"labels: expected one for each sample; found {self.label_values}")
        if task is Task.CLASS_SCORES:
            if not _all_whole(self.labels):
                raise ProbeSetError("labels: expected whole numbers, the places of the right classes")
            if output and (sizes < 2 or max(self.labels) >= sizes or min(self.labels) < 0 or self.top >= sizes):
                raise ProbeSetError(
                    f"labels: expected places from 0 to {sizes - 1} and at least 2 scores for each sample in "
                    f"{self.output!r}; found {min(self.labels)} to {max(self.labels)}, {sizes} scores, top {self.top}"
                )
        if task is Task.SCORE and (not _all_flags(self.labels) or len(set(map(int, self.labels))) < 2):
            raise ProbeSetError("labels: expected 0 and 1, both at least once, for the task score")
        if task is Task.MULTI_LABEL and not _all_flags(self.labels):
            raise ProbeSetError("labels: expected 0 and 1 for the task multi_label")
        if task is Task.REGRESSION and not all(_is_number(label) for label in self.labels):
            raise ProbeSetError("labels: expected finite numbers for the task regression")
        if task is Task.LABELS and output is not None:
            texts = output.datatype == TEXT
            if not all(isinstance(label, str) if texts else _is_number(label) for label in self.labels):
                raise ProbeSetError(
                    f"labels: expected {'texts' if texts else 'whole numbers'}, as the output "
                    f"{self.output!r} has {output.datatype}"
                )
        if task in (Task.LABELS, Task.SCORE) and output is not None and sizes != 1:
            raise ProbeSetError(
                f"task {task.value}: expected one value for each sample in {self.output!r}; found {sizes}"
            )
        if task in (Task.MULTI_LABEL, Task.REGRESSION) and output is not None and sizes != self.label_values:
            raise ProbeSetError(
                f"labels: expected {sizes} for each sample, as {self.output!r} has values; found {self.label_values}"
            )
        if task is not Task.LABELS and output is not None and output.datatype == TEXT:
            raise ProbeSetError(f"task {task.value}: expected numbers in {self.output!r}; found texts")


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
                    found[str(item["name"])] = Output(item["datatype"], math.prod(shape[1:]))
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
        raise ProbeSetError(f"{field}: expected one of {_names(kind)}; found {str(value)[:80]!r}") from None


def _names(kind: Any) -> str:
    return ", ".join(member.value for member in kind)


def _ragged(value: Any, expected: Array | None) -> bool:
    if not isinstance(value, bool):
        raise ProbeSetError(f"ragged: expected true or false; found {str(value)[:80]!r}")
    if value and (expected is None or expected.datatype not in ("FP16", "FP32", "FP64")):
        raise ProbeSetError("ragged: expected reference outputs (expected) of floating-point numbers beside it")
    return value


def _top(value: Any) -> int:
    if not is_whole(value) or value < 1:
        raise ProbeSetError(f"top: expected a whole number from 1; found {str(value)[:80]!r}")
    return int(value)


def _threshold(value: Any) -> float:
    if not _is_number(value):
        raise ProbeSetError(f"threshold: expected a number; found {str(value)[:80]!r}")
    return float(value)


def _tolerance(value: Any, part: str) -> float:
    number: Any = value.get(part, 0) if isinstance(value, Mapping) else None
    if not _is_number(number) or number < 0:
        raise ProbeSetError(f"tolerance.{part}: expected a number from 0; found {str(number)[:80]!r}")
    return float(number)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # a whole number beyond the greatest float
        return False


def _all_whole(labels: Sequence[Any]) -> bool:
    return all(map(is_whole, labels))


def _all_flags(labels: Sequence[Any]) -> bool:
    return all(isinstance(label, (int, float, bool)) and label in (0, 1) for label in labels)
