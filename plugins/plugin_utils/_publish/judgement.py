# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How good a variant is beside its source, row by row on the labelled holdout. Pure.

What both get right, or both get wrong, says nothing; what changes does. The limits are those of the rollout's gate.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.estimates import (
    proportion_lower,
    proportion_upper,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import ProbeResult
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.paired import PairedProportion, paired

ALPHA = 0.05
_SAMPLES_MAX = 10_000_000


class Verdict(enum.Enum):
    """What the holdout says of a variant."""

    PASS = "pass"
    FAIL = "fail"
    TOO_SMALL = "holdout too small"


@dataclass(frozen=True)
class Judgement:
    """The verdict, and what it is made of.

    ``before`` and ``after`` are the metric of the source and of the variant. ``loss`` is what was lost, in points, or
    for errors by what part they grew; ``loss_upper`` the most that is not out of the question (95%), to be compared
    with ``limit``. ``top``: among how many of the best classes the right one may be. ``worse`` and ``better`` count the
    samples that changed; ``needed`` is how many it would take.
    """

    verdict: Verdict
    metric: str
    before: float
    after: float
    loss: float
    loss_upper: float
    limit: float
    samples: int
    worse: int | None = None
    better: int | None = None
    harm_proven: bool = False
    needed: int | None = None
    top: int = 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "verdict": self.verdict.value}


def judge(source: ProbeResult, variant: ProbeResult, *, drop_max: float, increase_max: float) -> Judgement:
    """Compare a variant with its source. ``drop_max`` is in points, ``increase_max`` a part of the mean error."""
    result = paired([(source, variant, 1)])
    metric, effect = result.metric, result.effect
    lower, upper = effect.lower(ALPHA), effect.upper(ALPHA)
    limit = increase_max if result.logarithmic else drop_max
    loss, lower, upper = (math.expm1(value) if result.logarithmic else value for value in (effect.value, lower, upper))
    worse = better = needed = None
    if isinstance(effect, PairedProportion):
        worse, better = round(effect.worse), round(effect.better)
    if result.broken or math.isnan(loss) or loss > limit:
        verdict = Verdict.FAIL
    elif upper <= limit:
        verdict = Verdict.PASS
    else:
        verdict = Verdict.TOO_SMALL
        needed = _needed(effect, result.samples, loss, upper, limit)
    return Judgement(
        verdict=verdict,
        metric=metric.value,
        before=result.before,
        after=result.after,
        loss=loss,
        loss_upper=upper,
        limit=limit,
        samples=result.samples,
        worse=worse,
        better=better,
        harm_proven=lower > 0,
        needed=needed,
        top=source.top,
    )


def _needed(effect: Any, samples: int, loss: float, upper: float, limit: float) -> int | None:
    """How many samples it would take if they were like these; None if more than ten million."""
    if not isinstance(effect, PairedProportion):
        factor = ((upper - loss) / (limit - loss)) ** 2 if limit > loss else math.inf
        return math.ceil(samples * factor) if samples * factor < _SAMPLES_MAX else None
    low, high = samples, samples
    while _upper(effect, high) > limit:
        if high > _SAMPLES_MAX:
            return None
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _upper(effect, middle) > limit else (low, middle)
    return high


def _upper(effect: PairedProportion, samples: int) -> float:
    factor = samples / effect.samples
    return PairedProportion(effect.worse * factor, effect.better * factor, samples).upper(ALPHA)


def interval(correct: float, samples: int) -> tuple[float, float]:
    """The exact interval (95%, two-sided) of a share."""
    return proportion_lower(correct, samples, ALPHA / 2), proportion_upper(correct, samples, ALPHA / 2)


def is_better(result: ProbeResult, value: float, same: float) -> bool:
    """Whether a model of this metric is better than one that reaches ``same`` by always giving the same answer: of
    right and wrong certainly (95%)."""
    if result.metric.has_flags:
        return proportion_lower(round(value * result.samples), result.samples, ALPHA) > same
    return value < same if result.metric.is_error else value > same
