# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The test of live accuracy goes on after the last wave, with the labels that come later. Pure.

Nobody knows how many analyses there will be, so each has less of the probability of a false alarm than the one before:
the analysis j has 1 / (j (j + 1)) of it, and all of them together have 1. An analysis is due when there are a quarter
more labels than at the last one, so that a schedule that looks often does not use it up. Both together bound the
probability of a false alarm at any time (Howard, Ramdas, McAuliffe and Sekhon, Time-uniform, nonparametric,
nonasymptotic confidence sequences, Annals of Statistics 49(2), 2021, section 3).

All devices have the new version by now, so that it is compared with their own past alone, and what the day does to all
predictions looks like the version. That is why a loss fails only if it is certainly beyond the limit, not just above 0.
"""

from __future__ import annotations

import dataclasses
from typing import Iterable

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import ON_NEW_VERSION

from .checks import Comparison, ErrorProbabilities, Finding, Verdict
from .limits import Limits
from .observations import DeviceObservation, Groups, by_name
from .verdict import FALSE_ALARMS, MISSES, SUSPICIONS, Judgement, live_accuracy

# The labels of the first analysis, and how many times as many each further one needs.
LABELS_MIN = 100
GROWTH = 1.25


def count_labels(devices: Iterable[DeviceObservation]) -> int:
    """Return how many labels came back for predictions of the new version."""
    return sum(sum(item.now.labels) for item in devices if item.now.labels and item.outcome in ON_NEW_VERSION)


def is_due(labels: int, before: int) -> bool:
    """Return whether there are enough labels for an analysis, after one of ``before`` labels."""
    return labels >= max(LABELS_MIN, GROWTH * before)


def judge_labels(devices: Iterable[DeviceObservation], limits: Limits, analysis: int) -> Judgement:
    """Judge the live accuracy of all devices; ``analysis`` counts from 1, and has no end.

    A verdict that is no failure decides nothing: the rollout has passed, and the next analysis looks again.
    """
    groups = Groups.of([item for item in by_name(devices) if item.outcome in ON_NEW_VERSION], [])
    results = live_accuracy(groups, limits)
    parts = max(sum(isinstance(result, Comparison) for result in results), 1)
    share = 1 / (analysis * (analysis + 1))
    errors = ErrorProbabilities(
        alpha=FALSE_ALARMS / parts * share, suspicion=SUSPICIONS / parts * share, beta=MISSES * share, narrowing=1.0
    )
    findings: list[Finding] = [
        dataclasses.replace(result, floor=result.limit).finding(errors) if isinstance(result, Comparison) else result
        for result in results
    ]
    verdicts = {finding.verdict for finding in findings}
    order = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
    return Judgement(next((item for item in order if item in verdicts), Verdict.SKIPPED), findings)
