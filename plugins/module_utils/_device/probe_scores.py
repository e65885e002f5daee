# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How right the answers to a probe set are, sample by sample, and as one number. Pure."""

from __future__ import annotations

import bisect
import math
from typing import Any, Sequence

from .._common.packed import pack_flags, pack_numbers
from .._release.probe_set import Metric, ProbeSet, Task
from .nearest import nearest_pairs

# The squares of larger errors, and their sums, are no finite numbers.
_ERROR_MAX = 1e150


class ProbeScores:
    """Takes the answers of one sample after the other, and returns the metric with its results for each sample.

    The result has ``samples``, ``value`` (None if no answer is a finite number), ``top`` where an answer among the best
    ones is right, and ``results``, packed:

    - ``flags``: which samples are right (accuracy, within, agreement), with their number as ``correct``.
    - ``numbers`` times ``scale``: the error of each sample (mae, rmse, r2, distance), with ``label_variance`` for r2;
      or for auc the share of the other class's samples that the sample is on the right side of, with ``positives``.
      NaN is an answer that is no finite number; ``not_finite`` counts those.
    """

    def __init__(self, probe: ProbeSet, task: Task, metric: Metric) -> None:
        self._probe, self._task, self._metric = probe, task, metric
        self._flags: list[bool] = []
        self._numbers: list[float] = []

    def add(self, answer: Sequence[Any], expected: Sequence[Any] | None) -> None:
        """Take the answer to the next sample; ``expected`` is its reference output, if the task has one."""
        at = max(len(self._flags), len(self._numbers))
        labels = self._probe.labels[at * self._probe.label_values : (at + 1) * self._probe.label_values]
        if self._task is Task.CLASS_SCORES:
            self._flags.append(_is_in_top(answer, labels[0], self._probe.top))
        elif self._task is Task.LABELS:
            self._flags.append(answer[0] == labels[0])
        elif self._task is Task.SCORE and self._metric is Metric.AUC:
            # Of the scores of no and yes, whether they are shares or not, the difference orders the samples.
            self._numbers.append(float(answer[0]) if len(answer) == 1 else float(answer[1]) - float(answer[0]))
        elif self._task in (Task.SCORE, Task.MULTI_LABEL):
            threshold = self._probe.threshold
            answers = [None if math.isnan(score) else score >= threshold for score in answer]
            self._flags.append(answers == [bool(label) for label in labels])
        else:
            wanted = labels if expected is None else expected
            if self._probe.unordered:
                answer, wanted = _paired(answer, wanted, self._row_values)
            if self._metric in (Metric.WITHIN, Metric.AGREEMENT):
                self._flags.append(self._is_near(answer, wanted))
                return
            if self._probe.ragged:
                answer, wanted = _filled(answer, len(wanted)), _filled(wanted, len(answer))
            self._numbers.append(_error(answer, wanted, self._metric))

    def result(self) -> dict[str, Any]:
        """Return the metric with the results of all samples."""
        head: dict[str, Any] = {"task": self._task.value, "metric": self._metric.value, "samples": self._probe.samples}
        if self._task is Task.CLASS_SCORES and self._probe.top > 1:
            head["top"] = self._probe.top
        if self._metric.has_flags:
            correct = sum(self._flags)
            share = round(correct / len(self._flags), 6)
            return {**head, "value": share, "correct": correct, "results": {"flags": pack_flags(self._flags)}}
        if self._metric is Metric.AUC:
            return {**head, **self._auc()}
        finite = [error for error in self._numbers if math.isfinite(error)]
        value: float | None = None
        more: dict[str, Any] = {}
        if finite and self._metric in (Metric.MAE, Metric.DISTANCE):
            value = math.fsum(finite) / len(finite)
        elif finite:
            square = math.fsum(error * error for error in finite) / len(finite)
            value = math.sqrt(square)
            if self._metric is Metric.R2:
                more["label_variance"] = _variance(self._probe.labels)
                value = 1 - square / more["label_variance"] if more["label_variance"] else None
        if value is not None and not math.isfinite(value):
            # JSON has no such number.
            value = None
        scale = max(finite, default=0.0) or 1.0
        packed = pack_numbers([error / scale if math.isfinite(error) else math.nan for error in self._numbers])
        not_finite = len(self._numbers) - len(finite)
        return {
            **head,
            "value": value,
            "not_finite": not_finite,
            **more,
            "results": {"numbers": packed, "scale": scale},
        }

    @property
    def _row_values(self) -> int:
        """How many values a row of a reference has, such as the four of a box."""
        return math.prod(self._probe.expected.shape[2:]) if self._probe.expected is not None else 1

    def _auc(self) -> dict[str, Any]:
        positives = [bool(label) for label in self._probe.labels]
        # What is no number is on the wrong side of everything.
        worst = [-math.inf if positive else math.inf for positive in positives]
        scores = [bad if math.isnan(score) else score for score, bad in zip(self._numbers, worst)]
        of_positives = sorted(score for score, positive in zip(scores, positives) if positive)
        of_negatives = sorted(score for score, positive in zip(scores, positives) if not positive)
        sides = []
        for score, positive in zip(scores, positives):
            others = of_negatives if positive else of_positives
            below, equal = _below(others, score)
            side = (below + equal / 2) / len(others)
            sides.append(side if positive else 1 - side)
        value = math.fsum(side for side, positive in zip(sides, positives) if positive) / len(of_positives)
        not_finite = sum(not math.isfinite(score) for score in self._numbers)
        results = {"numbers": pack_numbers(sides), "scale": 1.0, "positives": pack_flags(positives)}
        return {"value": round(value, 6), "not_finite": not_finite, "results": results}

    def _is_near(self, answer: Sequence[Any], expected: Sequence[Any]) -> bool:
        if len(answer) != len(expected):
            return False
        return all(self._is_one_near(found, wanted) for found, wanted in zip(answer, expected))

    def _is_one_near(self, found: Any, wanted: Any) -> bool:
        if found == wanted:
            return True
        if isinstance(found, str) or isinstance(wanted, str):
            return False
        return bool(abs(found - wanted) <= self._probe.absolute + self._probe.relative * abs(wanted))


def _is_in_top(scores: Sequence[Any], label: Any, top: int) -> bool:
    """Whether fewer than ``top`` classes come before the label; of equal scores the first class does."""
    own = scores[label]
    if math.isnan(own):
        return False
    before = sum(score > own or (score == own and place < label) for place, score in enumerate(scores))
    return bool(before < top)


def unfilled(row: Sequence[Any]) -> Sequence[Any]:
    """The row without the NaN (in JSON null) at its end."""
    end = len(row)
    while end and (row[end - 1] is None or math.isnan(row[end - 1])):
        end -= 1
    return row[:end]


def _paired(answer: Sequence[Any], wanted: Sequence[Any], size: int) -> tuple[Sequence[Any], Sequence[Any]]:
    """Both with their rows of ``size`` values in one order: the two rows that are nearest to each other first, then of
    the rest; then those that one of the two lacks."""
    if len(answer) % size or len(wanted) % size:
        return answer, wanted
    found, right = ([values[at : at + size] for at in range(0, len(values), size)] for values in (answer, wanted))
    left, unmet = dict(enumerate(found)), dict(enumerate(right))
    rows = [(left.pop(place), unmet.pop(other)) for place, other in nearest_pairs(found, right)]
    pairs = [*rows, *((row, ()) for row in left.values()), *(((), row) for row in unmet.values())]
    return [value for row, _other in pairs for value in row], [value for _row, other in pairs for value in other]


def _filled(values: Sequence[Any], size: int) -> Sequence[Any]:
    """The values, with 0 for each that the other side has and this one lacks."""
    return [*values, *[0.0] * (size - len(values))]


def _error(answer: Sequence[Any], expected: Sequence[Any], metric: Metric) -> float:
    """The error of one sample: the mean over its values, of squares where the metric is made of squares."""
    if len(answer) != len(expected) or any(isinstance(value, str) for value in answer):
        return math.nan
    errors = [abs(float(found) - float(wanted)) for found, wanted in zip(answer, expected)]
    if not all(error <= _ERROR_MAX for error in errors):
        return math.nan
    if metric in (Metric.RMSE, Metric.R2):
        return math.sqrt(math.fsum(error * error for error in errors) / len(errors))
    return math.fsum(errors) / max(len(errors), 1)


def _variance(labels: Sequence[Any]) -> float:
    mean = math.fsum(labels) / len(labels)
    return math.fsum((label - mean) ** 2 for label in labels) / len(labels)


def _below(ordered: Sequence[float], value: float) -> tuple[int, int]:
    """How many are below a value, and how many equal it."""
    first = bisect.bisect_left(ordered, value)
    return first, bisect.bisect_right(ordered, value) - first
