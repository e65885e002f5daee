# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The holdout: the samples and the right answers that every variant is judged by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric, ProbeSetError, Task
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import ProbeResult

from .candidate import Candidate, not_finite
from .conversion import SourceRun
from .golden import Probe, make_probe
from .judgement import Judgement, Verdict, is_better, judge
from .model import RefusedError
from .options import ReleaseOptions
from .publication import Publication
from .samples import Samples

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_OTHER_LABELS = "the labels are not those of these samples, or the inputs are not prepared as in training"
_PAIRS_SHOWN = 8
_COLUMNS_MAX = 64


@dataclass(frozen=True)
class Holdout:
    """``right`` are the source's outputs, by name; ``source`` is what it reaches, and ``metric`` that as one number."""

    samples: Samples
    samples_path: str
    right: Mapping[str, Array]
    probe: Probe
    source: ProbeResult
    metric: float | None


def make_holdout(publication: Publication, run: SourceRun, right: Mapping[str, Array]) -> Holdout:
    """Make the probe set, and measure the source by it. Raises RefusedError for samples that leave something open."""
    options = publication.options
    settings = {"task": options.task, "metric": options.metric}
    try:
        probe = make_probe(
            run.samples,
            right,
            publication.desk.work,
            output=options.output,
            settings=settings,
            varying=run.candidate.known.varying,
        )
    except ProbeSetError as error:
        raise RefusedError([f"samples: {error}"]) from error
    if probe.task is Task.REFERENCE and run.samples.labels is None:
        publication.notes.append(
            "no labels: answers are compared with this source's own, so that a rollout's gate sees whether devices "
            "compute what was published, and not whether it is better or worse than the version before"
        )
    source, metric = probe.scores(right)
    return Holdout(run.samples, run.samples_path, right, probe, source, metric)


def reasons_against_source(holdout: Holdout, options: ReleaseOptions) -> list[str]:
    """Why no proof of a variant is worth anything: the labels contradict the source, or it is not good enough."""
    value, probe, metric = holdout.metric, holdout.probe, holdout.source.measured
    if value is None:
        return ["the source answers no sample with a finite number"]
    reasons = []
    if probe.metric is Metric.ACCURACY and len(set(probe.probe_set.labels)) == 1:
        reasons.append(
            f"labels: expected several; found {probe.probe_set.labels[0]!r} for each sample: nothing tells a good "
            "model from one that always answers this"
        )
    else:
        same = probe.of_same_answer()
        if same is not None and not is_better(holdout.source, value, same):
            reasons.append(_no_better_than(holdout, value, same))
        elif (numbering := _numbering(holdout, value)) is not None:
            reasons.append(
                f"labels: the source is right in {value:.4f} of {holdout.source.samples} samples: {numbering}"
            )
    reasons += _columns(holdout)
    least = options.accuracy_min
    if least is not None and (value > least if probe.metric.is_error else value < least):
        reasons.append(f"accuracy_min: expected {metric} {least:g}; found {value:g}")
    return reasons


def _no_better_than(holdout: Holdout, value: float, same: float) -> str:
    """Why a source says nothing that is no better than always giving the same answer, which reaches ``same``."""
    probe, samples, metric = holdout.probe, holdout.source.samples, holdout.source.measured
    if holdout.samples.labels is None:
        return (
            f"samples: the source's answers differ too little to tell it from a model that always gives the same one, "
            f"which reaches {metric} {same:.4g}: take samples that are answered differently, or the inputs "
            "are not prepared as in training"
        )
    if probe.task in (Task.CLASS_SCORES, Task.LABELS):
        found = (
            f"the source is right in {value:.4f} of {samples} samples, and always giving the most frequent label is "
            f"right in {same:.4f}"
        )
    else:
        always = "finding nothing in any of them" if probe.probe_set.ragged else "always giving the same answer"
        found = f"the source reaches {metric} {value:.4g} in {samples} samples, and {always} reaches {same:.4g}"
    return f"labels: {found}: {_numbering(holdout, value) or _OTHER_LABELS}{_remedy(probe)}"


def _numbering(holdout: Holdout, value: float) -> str | None:
    """How the classes are numbered otherwise, where that makes more answers right than ``value``, certainly, and more
    than always giving the same; None where it does not."""
    probe = holdout.probe
    if probe.task not in (Task.CLASS_SCORES, Task.LABELS) or probe.probe_set.top > 1:
        return None
    values = holdout.right[probe.probe_set.output]
    rows = values.reshape(len(values), -1)
    answers = (rows.argmax(axis=1) if probe.task is Task.CLASS_SCORES else rows[:, 0]).tolist()
    labels = probe.probe_set.labels
    by_answer: dict[Any, Counter[Any]] = {}
    for answer, label in zip(answers, labels, strict=True):
        by_answer.setdefault(answer, Counter())[label] += 1
    meant = {answer: _meant(answer, found) for answer, found in sorted(by_answer.items())}
    names = set(meant.values())
    # A label that is the name of one answer and the meaning of none is of a class that the model does not find.
    is_numbering = len(names) == len(meant) and names.issuperset(meant.keys() & set(labels))
    right = sum(by_answer[answer][label] for answer, label in meant.items()) / len(labels)
    most = max(Counter(labels).values()) / len(labels)
    if not is_numbering or not is_better(holdout.source, right, max(value, most)):
        return None
    pairs = [f"{answer} is what the labels call {label}" for answer, label in meant.items() if answer != label]
    shown = ", ".join(pairs[:_PAIRS_SHOWN]) + (" …" if len(pairs) > _PAIRS_SHOWN else "")
    return (
        f"the classes are numbered otherwise: the model's {shown}; with that the source is right in {right:.4f}. "
        "Number the labels as the model does"
    )


def _meant(answer: Any, found: Counter[Any]) -> Any:
    """The label that samples of an answer have most often. One that was seen once, such as the text of an image, says
    nothing of others: then it is the answer itself."""
    ((label, times),) = found.most_common(1)
    return label if times > 1 else answer


def _columns(holdout: Holdout) -> list[str]:
    """Why labels of several numbers are in another order than the answers: along a circle of columns, each answer is
    nearer to the next one's labels, by half of its error, than to its own."""
    import numpy as np

    probe = holdout.probe
    size = probe.probe_set.label_values
    if probe.task is not Task.REGRESSION or not 1 < size <= _COLUMNS_MAX:
        return []
    labels = np.reshape(np.array(probe.probe_set.labels, np.float64), (-1, size))
    answers = holdout.right[probe.probe_set.output].reshape(-1, size).astype(np.float64)
    errors = np.array([np.abs(labels - answers[:, [place]]).mean(axis=0) for place in range(size)])
    own = errors.diagonal()
    nearest = np.where(errors.min(axis=1) < own / 2, errors.argmin(axis=1), np.arange(size)).tolist()
    for start in range(size):
        circle = [start]
        while (following := nearest[circle[-1]]) not in circle:
            circle.append(following)
        if len(circle) > 1 and following == start:
            shown = ", ".join(f"column {place} of the answers is near column {nearest[place]}" for place in circle)
            return [f"labels: expected their columns in the order of {probe.probe_set.output!r}; {shown} of the labels"]
    return []


def _remedy(probe: Probe) -> str:
    """What may also be wrong where a metric is of samples that are right as a whole."""
    if probe.task is Task.MULTI_LABEL:
        return (
            ". A sample is right if all its labels are; of masks, declare the task reference with the metric distance, "
            "which is the share of wrong values"
        )
    if probe.metric in (Metric.WITHIN, Metric.AGREEMENT):
        return ". A sample is right if all its values are within the tolerance, which may be too narrow or too wide"
    return ""


def judge_candidate(candidate: Candidate, holdout: Holdout, options: ReleaseOptions) -> None:
    """Compare a variant that was measured with the source, and refuse it unless it passes."""
    reasons = not_finite(candidate.known, candidate.model.name)
    if reasons:
        candidate.refusal = "; ".join(reasons)
        return
    result, candidate.metric = holdout.probe.scores(candidate.known.outputs)
    candidate.judgement = judge(
        holdout.source, result, drop_max=options.accuracy_drop_max, increase_max=options.error_increase_max
    )
    if candidate.judgement.verdict is not Verdict.PASS:
        candidate.refusal = _words(candidate.judgement)


def _words(judgement: Judgement) -> str:
    """Why a variant does not pass."""
    percent = judgement.worse is not None
    loss, upper, limit = (
        f"{100 * value:.2f} points" if percent else f"{value:.1%}"
        for value in (judgement.loss, judgement.loss_upper, judgement.limit)
    )
    changed = f" ({judgement.worse} became wrong, {judgement.better} right)" if percent else ""
    if judgement.verdict is Verdict.FAIL:
        return (
            f"{judgement.metric} goes from {judgement.before:.4f} to {judgement.after:.4f}{changed}: "
            f"a loss of {loss}, of which {limit} are allowed"
        )
    needed = f"it would take about {judgement.needed}" if judgement.needed else "it would take more than ten million"
    return (
        f"holdout too small: a loss of up to {upper} is not out of the question with {judgement.samples} samples"
        f"{changed}, and {limit} are allowed; {needed}"
    )
