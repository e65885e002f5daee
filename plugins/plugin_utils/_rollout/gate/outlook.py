# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What may be observed of a wave that has not begun: each check's effect and how exactly it will be known. Pure.

What is assumed, because nobody has seen the new version: that devices have the traffic which they have had, and differ
by as much as the gate assumes of them; and of two versions that are equally good, how many answers to the probe set
differ (``DISCORDANT``), and by how much errors and scores do (``_SAMPLES``).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Protocol, Sequence, Union

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric

from .checks import DEGREES, Cause, Check, ComparedWith
from .estimates import TRIMMED, Effect, MeanEffect, Proportion, ProportionEffect, Trimmed
from .limits import Limits
from .measurements import Observation
from .numerics import rounded
from .paired import PairedProportion
from .proportions import Change, Count, combined, standardised
from .prospect import Counted, Needed, Prospect
from .ratios import USUAL_DEVIATION, USUAL_LOAD, Group, group_effects
from .readings import (
    P50_REQUESTS_MIN,
    P95_REQUESTS_MIN,
    counted_drift,
    counted_errors,
    counted_wrong_labels,
    log_energy,
    log_memory,
    log_slowness,
    temperature,
)

# The share of the probe set's samples that two equally good versions answer differently, each way.
DISCORDANT = 0.01


@dataclass(frozen=True)
class _Sample:
    """What one sample says of a metric: the standard deviation of its part of the effect, and how many samples a mean
    is made of in effect, of each one that there is."""

    deviation: float
    effective: float = 1.0
    # No metric gets worse by more; R2 and the logarithm of an error know no such end.
    most: float = 14.0


# Errors with a heavy tail (normal times log-normal by 0.5) that change by 28% from version to version, an R2 of 0.9,
# and scores with an AUC of 0.95 that correlate by 0.95, half of them of positives.
_SAMPLES: Mapping[Metric, _Sample] = {
    Metric.MAE: _Sample(0.41, 0.5),
    Metric.DISTANCE: _Sample(0.41, 0.5),
    Metric.RMSE: _Sample(0.84, 0.12),
    Metric.R2: _Sample(0.17, 0.12),
    Metric.AUC: _Sample(0.10, 0.5, most=1.0),
}

# ---- what may be observed of a check ----


class Outlook(Protocol):
    """What may be observed at one analysis: ``effect`` is what is known if ``value`` is observed."""

    @property
    def least(self) -> float:
        """The lowest value that can be observed."""

    @property
    def most(self) -> float:
        """The highest one."""

    def effect(self, value: float) -> Effect | PairedProportion:
        """The effect as the gate has it."""

    def below(self, value: float) -> float:
        """The largest value below this one that can be observed."""


@dataclass(frozen=True)
class _Mean:
    """A mean over devices or samples, of which the variance is known."""

    variance: float
    degrees_of_freedom: float
    least: float = -14.0
    most: float = 14.0

    def effect(self, value: float) -> MeanEffect:
        return MeanEffect(value, self.variance, self.degrees_of_freedom)

    def below(self, value: float) -> float:
        return value


@dataclass(frozen=True)
class _Share:
    """A change of a share; in each part of ``changes`` the first proportion is that of the new version."""

    changes: tuple[Change, ...]

    @property
    def total(self) -> float:
        return math.fsum(change.total for change in self.changes)

    @property
    def baseline(self) -> float:
        return math.fsum(change.baseline * change.total for change in self.changes) / self.total

    @property
    def least(self) -> float:
        return -min(change.baseline for change in self.changes)

    @property
    def most(self) -> float:
        return 1 - max(change.baseline for change in self.changes)

    def effect(self, value: float) -> ProportionEffect:
        found = []
        for change in self.changes:
            now, *others = change.effect.proportions
            events = min(max((change.baseline + value) * now.total, 0.0), now.total)
            found.append(
                dataclasses.replace(change, effect=ProportionEffect((Proportion(1.0, events, now.total), *others)))
            )
        return combined(found).effect

    def below(self, value: float) -> float:
        events = math.ceil((self.baseline + value) * self.total - 1e-9) - 1
        return max(events / self.total - self.baseline, self.least)


@dataclass(frozen=True)
class _Paired:
    """The loss of samples that are right or wrong."""

    samples: int
    least: float = 0.0
    most: float = 1 - 2 * DISCORDANT

    def effect(self, value: float) -> PairedProportion:
        changed = DISCORDANT * self.samples
        return PairedProportion(max(changed + value * self.samples, 0.0), changed, self.samples)

    def below(self, value: float) -> float:
        return (math.ceil(value * self.samples - 1e-9) - 1) / self.samples


Outlooks = Mapping[Union[str, None], Outlook]


@dataclass(frozen=True)
class Target:
    """The limits of a check on the scale of its effect: what is tolerated, and what must not slip through."""

    limit: float
    ceiling: float
    logarithmic: bool = False

    factor: float = 1.0

    def shown(self, value: float) -> float:
        """The value in the unit of the check."""
        return rounded(math.exp(value)) if self.logarithmic else rounded(value * self.factor)


def _points(limit: float) -> Target:
    return Target(limit, max(2 * limit, 0.0))


def _degrees(limit: float) -> Target:
    return Target(limit / DEGREES, 2 * limit / DEGREES, factor=DEGREES)


def _ratio(limit: float) -> Target:
    return Target(math.log(limit), 2 * math.log(limit), logarithmic=True)


@dataclass(frozen=True)
class CheckPlan:
    """How one check is foreseen.

    ``outlook`` returns what may be observed at an analysis, by device class, and the cause for each class of which
    nothing can. ``once``: more analyses are not more data. ``takes``: what more of would help, the first before the
    second.
    """

    check: Check
    target: Target
    outlook: Callable[[Prospect, int], tuple[Outlooks, Mapping[str, Cause]]]
    takes: tuple[Needed, ...]
    once: bool = False


# ---- what devices will count ----


def _changes(
    prospect: Prospect, analysis: int, count: Callable[[Observation], Count]
) -> tuple[dict[str | None, Outlook], dict[str, None]]:
    """What may be observed of a share; classes without a count are in the second mapping."""
    seconds = analysis * prospect.soak_seconds
    found: dict[str | None, Outlook] = {}
    changes: list[Change] = []
    missing: dict[str, None] = {}
    for name in prospect.device_classes:
        change = _change(*prospect.of_class(name), seconds=seconds, count=count)
        if change is None:
            missing[name] = None
        else:
            changes.append(change)
            found[name] = _Share((change,))
    if len(changes) > 1:
        found[None] = _Share(tuple(changes))
    return found, missing


def _change(
    devices: Sequence[Counted], controls: Sequence[Counted], *, seconds: float, count: Callable[[Observation], Count]
) -> Change | None:
    """What devices will have counted of the new version and before, with the controls."""
    now, past = _expected(devices, seconds, count)
    if past is None:
        return None
    share = past.events / past.total
    parts = [Proportion(1.0, share * now, now), Proportion(-1.0, past.events, past.total)]
    control, control_past = _expected(controls, seconds, count)
    if control_past is not None:
        before = control_past.events / control_past.total
        parts += [Proportion(-1.0, before * control, control), Proportion(1.0, control_past.events, control_past.total)]
    return Change(ProportionEffect(tuple(parts)), now, share, ComparedWith(True, len(controls) if control else 0))


def _expected(
    items: Sequence[Counted], seconds: float, count: Callable[[Observation], Count]
) -> tuple[float, Count | None]:
    pairs = [(count(item.observation), item.seconds) for item in items]
    now = [(past.total * seconds / age, past) for past, age in pairs]
    return math.fsum(total for total, _past in now), standardised(now)


def _shares(
    count: Callable[[Observation], Count], cause: Cause
) -> Callable[[Prospect, int], tuple[Outlooks, Mapping[str, Cause]]]:
    def outlook(prospect: Prospect, analysis: int) -> tuple[Outlooks, Mapping[str, Cause]]:
        found, missing = _changes(prospect, analysis, count)
        return found, dict.fromkeys(missing, cause)

    return outlook


def _drift(prospect: Prospect, _analysis: int) -> tuple[Outlooks, Mapping[str, Cause]]:
    """Devices with an alarm: each counts once, however long it soaks."""
    devices, controls = (
        tuple(dataclasses.replace(item, seconds=1.0) for item in items)
        for items in (prospect.devices, prospect.controls)
    )
    at_once = dataclasses.replace(prospect, devices=devices, controls=controls, soak_seconds=1.0)
    found, missing = _changes(at_once, 1, counted_drift)
    return found, dict.fromkeys(missing, Cause.NO_DRIFT_WINDOW)


def timed_requests(item: Counted) -> int:
    return item.observation.requests.timed if item.observation.requests else 0


def _quantiles(share: float, least: int) -> Callable[[Prospect, int], tuple[Outlooks, Mapping[str, Cause]]]:
    """What may be observed of a quantile of the latency."""

    def variance(item: Counted, seconds: float) -> float | None:
        requests, number = item.observation.requests, timed_requests(item) * seconds / item.seconds
        if requests is None or number < least or requests.timed < least:
            return None
        reach = math.sqrt(share * (1 - share) / number)
        ends = [requests.quantile(min(max(part, 0.001), 0.999)) for part in (share - reach, share + reach)]
        return 0.0 if None in ends else ((ends[1] or 0.0) - (ends[0] or 0.0)) ** 2 / 4

    return _quantities(variance, Cause.TOO_FEW_REQUESTS, load=USUAL_LOAD)


def _quantities(
    variance: Callable[[Counted, float], float | None],
    cause: Cause,
    *,
    load: float,
    with_controls: bool = True,
) -> Callable[[Prospect, int], tuple[Outlooks, Mapping[str, Cause]]]:
    """What may be observed of a quantity of each device, whose measurement has a ``variance``; None: it has none."""

    def outlook(prospect: Prospect, analysis: int) -> tuple[Outlooks, Mapping[str, Cause]]:
        seconds = analysis * prospect.soak_seconds
        # A wave that is tried out larger has the same devices many times.
        everybody = {id(item): item for item in (*prospect.devices, *prospect.controls)}
        variances = {key: variance(item, seconds) for key, item in everybody.items()}
        groups: dict[str, Group] = {}
        causes: dict[str, Cause] = {}
        for name in prospect.device_classes:
            devices, controls = prospect.of_class(name)
            wave = [found for item in devices if (found := variances[id(item)]) is not None]
            others = [found for item in controls if with_controls and (found := variances[id(item)]) is not None]
            if not wave:
                causes[name] = cause
                continue
            compared_with = ComparedWith(True, len(others))
            groups[name] = Group(_spread(wave), _spread(others) if others else None, len(wave), compared_with)
        return {
            name: _Mean(effect.variance, effect.degrees_of_freedom)
            for name, (effect, _group) in group_effects(groups, load).items()
        }, causes

    return outlook


def _spread(variances: Sequence[float]) -> Trimmed:
    """Devices that differ as the gate assumes, and by how exactly each can be measured."""
    kept = len(variances) - 2 * int(len(variances) * TRIMMED)
    each = USUAL_DEVIATION**2 + math.fsum(variances) / len(variances)
    return Trimmed(0.0, each * (kept - 1), kept)


def _probe_latency(prospect: Prospect, analysis: int) -> tuple[Outlooks, Mapping[str, Cause]]:
    # The controls are not asked.
    known = _quantities(lambda _item, _seconds: 0.0, Cause.NO_PROBE_SET, load=USUAL_LOAD, with_controls=False)
    if prospect.probe is None or not prospect.comparable:
        return {}, _no_answers(prospect)
    return known(prospect, analysis)


def _exact(measure: Callable[[Observation], float | None]) -> Callable[[Counted, float], float | None]:
    """The variance of what each device measures exactly."""

    def variance(item: Counted, _seconds: float) -> float | None:
        return None if measure(item.observation) is None else 0.0

    return variance


def _probe_set(prospect: Prospect, _analysis: int) -> tuple[Outlooks, Mapping[str, Cause]]:
    if prospect.probe is None or not prospect.comparable:
        return {}, _no_answers(prospect)
    metric, samples = prospect.probe
    if metric.has_flags:
        return {None: _Paired(samples)}, {}
    sample = _SAMPLES[metric]
    degrees_of_freedom = max(sample.effective * samples - 1, 1.0)
    return {None: _Mean(sample.deviation**2 / samples, degrees_of_freedom, most=sample.most)}, {}


def _no_answers(prospect: Prospect) -> Mapping[str, Cause]:
    """Why there will be no answers to compare."""
    return dict.fromkeys(prospect.device_classes, Cause.NOT_COMPARABLE if prospect.probe else Cause.NO_PROBE_SET)


def _other_metric(prospect: Prospect, _analysis: int) -> tuple[Outlooks, Mapping[str, Cause]]:
    return {}, dict.fromkeys(prospect.device_classes, Cause.OTHER_METRIC)


def _shadow(prospect: Prospect, _analysis: int) -> tuple[Outlooks, Mapping[str, Cause]]:
    return {}, dict.fromkeys(prospect.device_classes, Cause.NO_SHADOW)


def bare_comparisons(prospect: Prospect) -> int:
    """Return how many comparisons with a bare number the gate will make: what they see is no regression."""
    number = 0
    if Check.ERROR_RATE.is_made(prospect.limits):
        number += len(_changes(prospect, 1, counted_errors)[0])
    if Check.LATENCY_P95_SECONDS.is_made(prospect.limits):
        number += len(prospect.device_classes) - len(_quantiles(0.95, P95_REQUESTS_MIN)(prospect, 1)[1])
    return number


def check_plans(limits: Limits, probe: tuple[Metric, int] | None) -> list[CheckPlan]:
    """The checks of changes that are made. Bare numbers (such as ``accuracy_min``) are no regressions."""
    is_error = probe is not None and probe[0].is_error
    drop, error = (_other_metric, _probe_set) if is_error else (_probe_set, _other_metric)
    if probe is None:
        error = _probe_set
    samples, soak, devices = (Needed.SAMPLES,), (Needed.SOAK, Needed.DEVICES), (Needed.DEVICES,)
    known: list[tuple[Check, Any, Any, tuple[Needed, ...], bool]] = [
        (Check.ACCURACY_DROP, _points, drop, samples, True),
        (Check.PROBE_ERROR, _ratio, error, samples, True),
        (Check.ERROR_RATE_RISE, _points, _shares(counted_errors, Cause.NO_TRAFFIC), soak, False),
        (Check.LIVE_ACCURACY_DROP, _points, _shares(counted_wrong_labels, Cause.NO_LABELS), soak, False),
        (Check.LATENCY_P50, _ratio, _quantiles(0.5, P50_REQUESTS_MIN), soak, False),
        (Check.LATENCY_P95, _ratio, _quantiles(0.95, P95_REQUESTS_MIN), soak, False),
        (Check.PROBE_LATENCY, _ratio, _probe_latency, (), False),
        (Check.DRIFT, _points, _drift, devices, False),
        (Check.SHADOW_DISAGREEMENT, lambda limit: _points(1 - limit), _shadow, (), False),
        *(
            (check, target, _quantities(_exact(measure), Cause.NO_SENSOR, load=USUAL_LOAD), devices, False)
            for check, target, measure in (
                (Check.ENERGY, _ratio, log_energy),
                (Check.CLOCK, _ratio, log_slowness),
                (Check.TEMPERATURE, _degrees, temperature),
            )
        ),
        (Check.MEMORY, _ratio, _quantities(_exact(log_memory), Cause.NOT_REPORTED, load=0.0), devices, False),
    ]
    return [
        CheckPlan(check, target(getattr(limits, check.limit)), outlook, takes, once)
        for check, target, outlook, takes, once in known
        if check.limit is not None and check.is_made(limits)
    ]
