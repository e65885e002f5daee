# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model's answers are: which output, how many rows, and whether classes, yes or no, or numbers. The output alone
does not say it: three numbers may be the scores of three classes, or three predictions. The probe set of the release
does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from edgeml_device._common.errors import EdgemlError
from edgeml_device._release.probe_set import Metric, Output, ProbeSet, Task
from edgeml_device._release.probe_set_file import read_outputs, read_probe_set

from edgeml_server.common.tensors import Array, TensorSpec

NO_CLASS = -1
_ROWS_WITH_PREDICTION_MAX = 64
# JSON is read as a whole; a larger probe set is better off as .npz, of which only the labels are read.
_JSON_BYTES_MAX = 1 << 20


class Tolerance(NamedTuple):
    """How far two numbers may be from each other to be the same answer."""

    absolute: float
    relative: float


class AnswerForm(NamedTuple):
    """Which output has the answers, and what they are; ``task`` is None where that is not known. ``threshold``: from
    which score on the answer is yes; None where the release goes by the scores themselves. ``tolerance``: within which
    the release counts numbers as right; None where it does not count."""

    output: str
    task: Task | None = None
    threshold: float | None = None
    tolerance: Tolerance | None = None


# What answers are where no probe set says which output has them.
UNKNOWN = AnswerForm("")


def read_answer_form(
    probe_path: str | None, outputs: Sequence[TensorSpec], golden_path: str | None = None
) -> AnswerForm | None:
    """Return what the probe set at ``probe_path`` says of a model's answers; None where it does not even say which
    output has them. The golden file at ``golden_path`` says which sizes an output has that the model leaves open.

    The task is not known of a probe set that has agreement with reference outputs, whatever these are. Those that have
    a distance, or are as many as there are boxes, are numbers.
    """
    if probe_path is None or (not probe_path.endswith(".npz") and _size(probe_path) > _JSON_BYTES_MAX):
        return None
    # What is wrong with a file says whoever asks it; here it only means that nothing is known.
    try:
        probe = read_probe_set(probe_path)
        spec = next(spec for spec in outputs if spec.name == probe.output)
    except (EdgemlError, OSError, StopIteration):
        return None
    try:
        task, metric = probe.resolved(_known_output(spec, probe, golden_path))
    except EdgemlError:
        return AnswerForm(probe.output)
    is_counted = metric in (Metric.WITHIN, Metric.AGREEMENT)
    tolerance = Tolerance(probe.absolute, probe.relative) if is_counted else None
    if task is Task.REFERENCE and metric is not Metric.DISTANCE and not probe.ragged:
        return AnswerForm(probe.output, tolerance=tolerance)
    has_threshold = task is Task.MULTI_LABEL or (task is Task.SCORE and metric is Metric.ACCURACY)
    return AnswerForm(probe.output, task, probe.threshold if has_threshold else None, tolerance)


def answer_in(outputs: Mapping[str, Array], form: AnswerForm | None) -> tuple[Array | None, AnswerForm | None]:
    """Return the output that has the answers, with their form; without one, or where it was not asked for, the first
    output and None."""
    if form is not None and form.output in outputs:
        return outputs[form.output], form
    return next(iter(outputs.values()), None), None


def rows_of(inputs: Mapping[str, Array]) -> int:
    """How many rows a request has; 0 where its inputs have no first dimension in common."""
    lengths = {len(values) if values.ndim else 0 for values in inputs.values()}
    return lengths.pop() if len(lengths) == 1 else 0


def has_rows(values: Array, rows: int) -> bool:
    """Whether an output has an answer for each of a request's ``rows``."""
    return bool(rows) and values.ndim > 0 and len(values) == rows


def decided(values: Array, form: AnswerForm) -> Array | None:
    """Return what each row decides: a class, yes or no as 1 and 0, or several of these; where NaN is among its scores
    NO_CLASS. None where a row is a number, a text, or anything else that decides nothing.

    Where the task is not known, a list of several numbers for each row counts as scores of classes.
    """
    rows = _rows(values)
    if rows is None or rows.dtype == object or not rows.shape[1]:
        return None
    may_be_scores = form.task is None and rows.dtype.kind == "f" and values.ndim == 2
    of_two = form.task is Task.SCORE and rows.shape[1] == 2
    if ((form.task is Task.CLASS_SCORES or may_be_scores) and rows.shape[1] > 1) or of_two:
        found = rows.argmax(axis=1)
    elif form.threshold is not None and (form.task is Task.MULTI_LABEL or rows.shape[1] == 1):
        found = (rows >= form.threshold).astype(np.int64)
    else:
        return None
    if rows.dtype.kind == "f":
        # NaN would be taken for the highest, or for a no.
        found[np.isnan(rows).any(axis=1)] = NO_CLASS
    return found


def predictions_of(values: Array, form: AnswerForm | None = None) -> list[Any] | None:
    """Return one prediction for each row of an output: its only value, or the place of the highest of its scores; by
    the ``form`` of the answers what it decides, or its numbers.

    A value that is not finite is None; scores with NaN among them are NO_CLASS, which no label is.
    None for what is neither, and for large batches.
    """
    rows = _rows(values)
    if rows is None or len(rows) > _ROWS_WITH_PREDICTION_MAX or not rows.shape[1]:
        return None
    form = form or UNKNOWN
    found = decided(values, form)
    if found is not None:
        one = form.task is Task.SCORE and found.ndim > 1
        return list((found[:, 0] if one else found).tolist())
    if form.task is Task.REGRESSION:
        numbers = [_finite(row) for row in rows.astype(np.float64).tolist()]
        return numbers if rows.shape[1] > 1 else [None if row is None else row[0] for row in numbers]
    if rows.shape[1] == 1:
        return [_json_value(value) for value in rows[:, 0].tolist()]
    return None


def _known_output(spec: TensorSpec, probe: ProbeSet, golden_path: str | None) -> Output | None:
    """What is known of the output with the answers, as far as the probe set leaves anything open."""
    sizes = spec.shape[1:]
    if not spec.any_rank and -1 not in sizes:
        return Output.of_shape(spec.datatype, sizes)
    return None if probe.declared_task else read_outputs(golden_path).get(spec.name)


def _rows(values: Array) -> Array | None:
    if values.ndim == 0:
        return values.reshape(1, -1)
    return values.reshape(len(values), -1) if len(values) else None


def _finite(row: list[float]) -> list[float] | None:
    return row if all(map(math.isfinite, row)) else None


def _json_value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
