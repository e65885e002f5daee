# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The effect of a new version on the answers to the same questions, sample by sample. Pure.

The old and the new version answer the same probe set, so that each sample is its own control. What both get right, or
both get wrong, says nothing; what changes does.

- Right or wrong: the exact test of McNemar (Note on the sampling error of the difference between correlated proportions
  or percentages, Psychometrika 12, 1947) for whether there is any harm; for how large it may be, the limits of both
  proportions of changed samples, combined as ``ProportionEffect`` combines them.
- Errors: the ratio of the two means, on the scale of its logarithm, by the delta method; for rmse, of the squares.
- R2: the mean change of the squared error, in multiples of the variance of the labels.
- The area under the curve: the placements of the samples (DeLong, DeLong and Clarke-Pearson, Comparing the areas under
  two or more correlated receiver operating characteristic curves, Biometrics 44, 1988).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric

from .estimates import Effect, MeanEffect, Proportion, ProportionEffect, proportion_lower
from .measurements import ProbeResult, sample_results

# A mean error is taken as no smaller than this part of the largest one: 16-bit floats carry nothing below.
LEAST_ERROR = 1e-6


@dataclass(frozen=True)
class PairedProportion:
    """The loss of samples: ``worse`` of them became wrong, and ``better`` of them right. Counts may be fractions."""

    worse: float
    better: float
    samples: int

    @property
    def value(self) -> float:
        """The share of samples lost; below 0 if some were won."""
        return (self.worse - self.better) / self.samples

    def lower(self, alpha: float) -> float:
        """The lower limit: above 0 exactly if McNemar's test rejects that there is no harm."""
        changed = self.worse + self.better
        if not changed:
            return 0.0
        return changed / self.samples * (2 * proportion_lower(self.worse, changed, alpha) - 1)

    def upper(self, alpha: float) -> float:
        """The upper limit, which is above 0 also where nothing changed."""
        worse, better = Proportion(1.0, self.worse, self.samples), Proportion(-1.0, self.better, self.samples)
        return ProportionEffect((worse, better)).upper(alpha)


@dataclass(frozen=True)
class Paired:
    """The effect on one metric, and what it is made of.

    ``effect`` is a loss in points, or for errors the logarithm of the ratio (``logarithmic``). ``broken``: the new
    version answers more questions with no finite number than the old one.
    """

    effect: Effect | PairedProportion
    metric: Metric
    before: float
    after: float
    samples: int
    logarithmic: bool
    broken: bool = False


def paired(pairs: Sequence[tuple[ProbeResult, ProbeResult, int]]) -> Paired:
    """Compare the results of the old and the new version, each pair with the number of devices that have it.

    All results have one metric and one number of samples.
    """
    first = pairs[0][0]
    devices = sum(weight for _old, _new, weight in pairs)
    broken = any(new.not_finite > old.not_finite for old, new, _weight in pairs)
    old, new = ([0.0] * first.samples for _version in range(2))
    for old_result, new_result, weight in pairs:
        share = weight / devices
        for total, result in ((old, old_result), (new, new_result)):
            for place, value in enumerate(sample_results(result)):
                total[place] += share * value
    effect, before, after = _EFFECTS[first.metric](old, new, first)
    return Paired(effect, first.metric, before, after, first.samples, first.metric.is_error, broken)


Compared = tuple[Effect | PairedProportion, float, float]


def _flags(old: Sequence[float], new: Sequence[float], result: ProbeResult) -> Compared:
    worse = math.fsum(max(before - after, 0.0) for before, after in zip(old, new, strict=True))
    better = math.fsum(max(after - before, 0.0) for before, after in zip(old, new, strict=True))
    before, after = _mean(old), _mean(new)
    return PairedProportion(worse, better, result.samples), before, after


def _auc(old: Sequence[float], new: Sequence[float], result: ProbeResult) -> Compared:
    groups = []
    for positive in (True, False):
        chosen = [place for place, flag in enumerate(result.positives) if flag is positive]
        groups.append([old[place] - new[place] for place in chosen])
    value = _mean(groups[0])
    variance = math.fsum(_variance(group) / len(group) for group in groups)
    before = _mean([value for value, positive in zip(old, result.positives, strict=True) if positive])
    degrees_of_freedom = max(min(map(len, groups)) - 1, 1)
    return MeanEffect(value, variance, degrees_of_freedom), before, before - value


def _ratio(power: int) -> Callable[[Sequence[float], Sequence[float], ProbeResult], Compared]:
    """The ratio of the means of a power of the errors, as the logarithm of the ratio of the errors themselves."""

    def compare(old: Sequence[float], new: Sequence[float], result: ProbeResult) -> Compared:
        finite = [(a, b) for a, b in zip(old, new, strict=True) if math.isfinite(a) and math.isfinite(b)]
        if not finite:
            return MeanEffect(0.0, 0.0, 1), math.nan, math.nan
        before, after = ([pair[side] ** power for pair in finite] for side in (0, 1))
        least = max(*before, *after, 1e-300) * LEAST_ERROR
        means = max(_mean(before), least), max(_mean(after), least)
        parts = [b / means[1] - a / means[0] for a, b in zip(before, after, strict=True)]
        variance = _variance(parts) / len(parts) / power**2
        effect = MeanEffect(math.log(means[1] / means[0]) / power, variance, _degrees_of_freedom(before, after))
        return effect, _mean(before) ** (1 / power), _mean(after) ** (1 / power)

    return compare


def _r2(old: Sequence[float], new: Sequence[float], result: ProbeResult) -> Compared:
    finite = [(a, b) for a, b in zip(old, new, strict=True) if math.isfinite(a) and math.isfinite(b)]
    spread = result.label_variance or math.nan
    if not finite or math.isnan(spread):
        return MeanEffect(0.0, 0.0, 1), math.nan, math.nan
    losses = [(b * b - a * a) / spread for a, b in finite]
    before = 1 - _mean([a * a for a, _b in finite]) / spread
    squares = ([pair[side] ** 2 for pair in finite] for side in (0, 1))
    effect = MeanEffect(_mean(losses), _variance(losses) / len(losses), _degrees_of_freedom(*squares))
    return effect, before, before - effect.value


_EFFECTS: dict[Metric, Callable[[Sequence[float], Sequence[float], ProbeResult], Compared]] = {
    Metric.ACCURACY: _flags,
    Metric.WITHIN: _flags,
    Metric.AGREEMENT: _flags,
    Metric.AUC: _auc,
    Metric.R2: _r2,
    Metric.MAE: _ratio(1),
    Metric.DISTANCE: _ratio(1),
    Metric.RMSE: _ratio(2),
}


def _degrees_of_freedom(before: Sequence[float], after: Sequence[float]) -> float:
    """How many samples the means are in effect made of, less one.

    Where a few large errors make most of a mean, it is known as badly as if there were only those few (Kish, Survey
    Sampling, 1965, 11.7: the square of the sum by the sum of the squares).
    """
    weights = [a + b for a, b in zip(before, after, strict=True)]
    squares = math.fsum(weight * weight for weight in weights)
    return max(math.fsum(weights) ** 2 / squares - 1, 1.0) if squares else max(len(weights) - 1.0, 1.0)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    """The variance of the population that the values are a sample of."""
    if len(values) < 2:
        return 1.0
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
