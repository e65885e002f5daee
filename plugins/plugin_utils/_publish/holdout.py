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
from .judgement import Judgement, Verdict, guessed, is_better_than_guessing, judge
from .model import RefusedError
from .options import ReleaseOptions
from .publication import Publication
from .samples import Samples

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_OTHER_LABELS = "the labels are not those of these samples, or the inputs are not prepared as in training"


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
    value, probe = holdout.metric, holdout.probe
    if value is None:
        return ["the source answers no sample with a finite number"]
    reasons = []
    labels = Counter(probe.probe_set.labels) if probe.probe_set.label_values == 1 else Counter()
    if len(labels) == 1 and probe.metric is Metric.ACCURACY:
        reasons.append(
            f"labels: expected several; found {next(iter(labels))!r} for each sample: nothing tells a good model from "
            "one that always answers this"
        )
    if not is_better_than_guessing(holdout.source, value, labels):
        most = max(labels.values()) / sum(labels.values())
        reasons.append(
            f"labels: the source is right in {value:.4f} of {holdout.source.samples} samples, and always giving the "
            f"most frequent label is right in {most:.4f}: {_OTHER_LABELS}"
        )
    same = guessed(probe.metric, probe.probe_set.labels, probe.probe_set.label_values)
    if same is not None and (value >= same if probe.metric.is_error else value <= same):
        reasons.append(
            f"labels: the source reaches {probe.metric.value} {value:.4g} in {holdout.source.samples} samples, and "
            f"always giving the same answer reaches {same:.4g}: {_OTHER_LABELS}"
        )
    nothing = probe.of_no_answer()
    if holdout.samples.labels is not None and nothing is not None and value >= nothing:
        reasons.append(
            f"labels: the source reaches {probe.metric.value} {value:.4g} in {holdout.source.samples} samples, and "
            f"finding nothing in any of them reaches {nothing:.4g}: {_OTHER_LABELS}"
        )
    least = options.accuracy_min
    if least is not None and (value > least if probe.metric.is_error else value < least):
        reasons.append(f"accuracy_min: expected {probe.metric.value} {least:g}; found {value:g}")
    return reasons


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
