# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The probe set of a release: questions with their labels, the task, and the metric that they measure.

``probe_set_file`` reads one. Pure.
"""

from __future__ import annotations

import enum
import math
from typing import Any, Mapping, NamedTuple, Sequence

from .._common.errors import EdgemlError
from .._common.packed import FLAGS_MAX, NUMBERS_MAX
from .._common.records import is_whole
from .._common.words import counted
from .arrays import Array
from .datatypes import TEXT


class ProbeSetError(EdgemlError, ValueError):
    """A file is no probe set; the text says what was expected, what was found, and what to do."""


class Task(enum.Enum):
    """What a model answers, and what its answers are compared with."""

    CLASS_SCORES = "class_scores"
    """A score for each class; the label is the index of the right one."""
    LABELS = "labels"
    """The class itself, as a whole number or a text."""
    SCORE = "score"
    """One score of a yes-or-no question, or for the area under the curve those of no and yes; the label is 0 or 1."""
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


_FITTING_LABELS = (
    "give one number for each value, or where the values are scores of classes, the place of the right one. Without "
    "labels, reference outputs (expected) are what answers are compared with"
)


class Output(NamedTuple):
    """What is known of an output: its datatype, how many values it has for one sample, and along how many axes."""

    datatype: str
    values: int
    axes: int = 1

    @classmethod
    def of_shape(cls, datatype: str, sizes: Sequence[int]) -> Output:
        """An output of which a sample has these sizes."""
        return cls(datatype, math.prod(sizes), max(sum(size != 1 for size in sizes), 1))


class ProbeSet(NamedTuple):
    """A probe set. ``labels`` holds ``label_values`` values for each sample; a reference has ``expected`` instead.

    ``task`` is None where the file declares none: then the output decides (``resolved``). ``ragged``: answers differ in
    the number of their values, such as those of boxes, and the reference is filled up with NaN. ``unordered``: the
    order of their rows means nothing; each is compared with the nearest one of the reference.
    """

    inputs: tuple[Array, ...]
    output: str
    samples: int
    labels: tuple[Any, ...] = ()
    label_values: int = 1
    expected: Array | None = None
    ragged: bool = False
    unordered: bool = False
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
        task = self.declared_task or self.task_of(output)
        metric = self._metric_of(task)
        if metric not in METRICS[task]:
            known = ", ".join(item.value for item in METRICS[task])
            raise ProbeSetError(f"metric: expected one of {known} for the task {task.value}; found {metric.value}")
        if self.samples > metric.samples_max:
            raise ProbeSetError(
                f"{self.samples} samples: expected at most {metric.samples_max} for the metric {metric.value}"
            )
        self._check_labels(task, output)
        return task, metric

    def task_of(self, output: Output | None) -> Task:
        """Return the task that output and labels suggest. Raises ProbeSetError if it could be one of several."""
        if self.expected is not None:
            return Task.REFERENCE
        if output is None:
            raise ProbeSetError(
                f"task: nothing is known of the output {self.output!r}: declare one of {choices(Task)}, or publish a "
                f"golden file that has this output"
            )
        whole = output.datatype not in ("FP16", "FP32", "FP64")
        if whole and output.values == 1:
            return Task.LABELS
        flags = self.label_values == output.values and _all_flags(self.labels)
        if (not whole or output.datatype == "BOOL") and output.values > 1 and flags:
            if self._is_one_hot():
                raise ProbeSetError(
                    "task: each sample has exactly one of the labels, as classes are often written: give the place of "
                    "the right class instead, such as numpy.argmax(labels, axis=1), or declare multi_label"
                )
            return Task.MULTI_LABEL
        if not whole and self.label_values == output.values and _has_fractions(self.labels):
            return Task.REGRESSION
        if not whole and output.values > 1 and self.label_values == 1 and _all_whole(self.labels):
            if output.axes > 1:
                raise ProbeSetError(
                    f"task: the output {self.output!r} has its {output.values} values of a sample along {output.axes} "
                    "axes: export the scores of one answer alone, or declare class_scores where a label is a place "
                    "among all of them"
                )
            return Task.CLASS_SCORES
        if not whole and output.values > 1 and self.label_values == 1:
            odd = next(label for label in self.labels if not is_whole(label))
            raise ProbeSetError(
                f"labels: expected places of the right classes among the {output.values} values of {self.output!r}, "
                f"whole numbers from 0; found {odd!r}"
            )
        fitting = [task.value for task in Task if self._fits(task, output)]
        if not whole and output.values == 1 and flags and fitting:
            raise ProbeSetError(
                f"task: the output {self.output!r} has one number for each sample, which may be a score or a "
                f"prediction: declare score or regression"
            )
        found = (
            f"the output {self.output!r} has {counted(output.values, 'value')} of {output.datatype} for each sample, "
            f"and {counted(self.label_values, 'label')}"
        )
        if not fitting:
            raise ProbeSetError(f"labels: {found}, which fit each other in no task: {_FITTING_LABELS}")
        remedy = f"declare {' or '.join(fitting)}"
        if whole and self.label_values > 1:
            remedy += (
                "; of classes, such as those of tokens or pixels, declare reference with the metric distance where "
                "there are two, or agreement with a tolerance of 0"
            )
        raise ProbeSetError(f"task: {found}: {remedy}")

    def _metric_of(self, task: Task) -> Metric:
        return self.declared_metric or METRICS[task][0]

    def _fits(self, task: Task, output: Output) -> bool:
        """Whether these labels and such an output can be of the task."""
        try:
            self._check_labels(task, output)
        except ProbeSetError:
            return False
        return True

    def _is_one_hot(self) -> bool:
        """Whether exactly one label of each sample is 1."""
        size = self.label_values
        return all(sum(self.labels[start : start + size]) == 1 for start in range(0, len(self.labels), size))

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
        if task is Task.REGRESSION and not all(is_finite(label) for label in self.labels):
            raise ProbeSetError("labels: expected finite numbers for the task regression")
        if task is Task.REGRESSION and self._metric_of(task) is Metric.R2 and len(set(self.labels)) < 2:
            raise ProbeSetError(f"labels: expected different numbers for the metric r2; found {self.labels[0]!r} alone")
        if task is Task.LABELS and output is not None:
            texts = output.datatype == TEXT
            wrong = [label for label in self.labels if not (isinstance(label, str) if texts else is_finite(label))]
            if wrong:
                raise ProbeSetError(
                    f"labels: expected {'texts' if texts else 'whole numbers'}, as the output "
                    f"{self.output!r} has {output.datatype}; found {wrong[0]!r}"
                )
        of_two = task is Task.SCORE and self._metric_of(task) is Metric.AUC
        if task in (Task.LABELS, Task.SCORE) and output is not None and sizes not in ((1, 2) if of_two else (1,)):
            raise ProbeSetError(
                f"task {task.value}: expected one value for each sample in {self.output!r}"
                f"{', or the scores of no and yes' if of_two else ''}; found {sizes}"
            )
        if task in (Task.MULTI_LABEL, Task.REGRESSION) and output is not None and sizes != self.label_values:
            raise ProbeSetError(
                f"labels: expected {sizes} for each sample, as {self.output!r} has values; found {self.label_values}"
            )
        if task is not Task.LABELS and output is not None and output.datatype == TEXT:
            raise ProbeSetError(f"task {task.value}: expected numbers in {self.output!r}; found texts")


def choices(kind: Any) -> str:
    """The values of an enumeration, as errors list them."""
    return ", ".join(member.value for member in kind)


def is_finite(value: Any) -> bool:
    """Whether it is a number that a float can hold; true and false count as 1 and 0."""
    try:
        return isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:  # a whole number beyond the greatest float
        return False


def _all_whole(labels: Sequence[Any]) -> bool:
    return all(map(is_whole, labels))


def _has_fractions(labels: Sequence[Any]) -> bool:
    """Whether they are finite numbers that no classes have: with a fraction, some of them."""
    return all(map(is_finite, labels)) and any(label != int(label) for label in labels)


def _all_flags(labels: Sequence[Any]) -> bool:
    return all(isinstance(label, (int, float, bool)) and label in (0, 1) for label in labels)
