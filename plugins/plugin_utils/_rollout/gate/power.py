# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the gate can see of a wave before it begins: the smallest regression of each metric that it catches. Pure.

A regression is caught if the wave fails, so that the rollout goes back. The smallest one that is caught with a
probability of 95% follows from the gate's own limits, because tests and confidence limits are two sides of one thing
(Lehmann and Romano, Testing Statistical Hypotheses, 2005, section 3.5): let the largest value that does not fail the
wave be observed; the true effect of which that, or less, is observed with a probability of 5% is its upper confidence
limit of 95%. For a mean it is the sum of the test's and the power's quantile, times the standard error (Bloom, Minimum
detectable effects, Evaluation Review 19(5), 1995).

Over several analyses a regression is missed if the wave passes at one before the last, or does not fail at the last.
The probabilities of both are added (Bonferroni), so that it is caught with at least 95%. A check that even the last
analysis would not decide is skipped at the first one, which is then the only one that counts.

``outlook`` says what is assumed of devices and versions that nobody has seen yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric

from .checks import Cause, Check, Unit
from .estimates import proportion_upper
from .measurements import Observation
from .numerics import NORMAL, rounded
from .outlook import CheckPlan, Outlook, Target, bare_comparisons, check_plans, timed_requests
from .prospect import Counted, Needed, Prospect, amount_of, times
from .readings import P50_REQUESTS_MIN, P95_REQUESTS_MIN
from .verdict import FALSE_ALARMS, MISSES

# Of the regressions that are as large as the smallest one.
MISSED = 0.05
# How far is looked for what would help: so many times as much, and so many devices.
_FACTOR_MAX = 1000
_DEVICES_MAX = 4000


@dataclass(frozen=True)
class Detectable:
    """What the gate will see of one check in one device class, or over all of them (``device_class`` is None).

    ``smallest`` is the smallest regression that is caught with 95%, in ``unit``, after ``soak_seconds`` at the latest;
    None where none is, for the ``cause``. ``wanted`` is what must not slip through: twice the limit. If it is less than
    ``smallest``, then ``needed`` has what it takes to catch it, and how much of that; None if no amount does.
    """

    check: Check
    unit: Unit
    device_class: str | None = None
    smallest: float | None = None
    wanted: float | None = None
    soak_seconds: float | None = None
    cause: Cause | None = None
    needed: tuple[Needed, float] | None = None

    @property
    def suffices(self) -> bool:
        """Whether what must not slip through is caught."""
        return self.smallest is not None and self.wanted is not None and self.smallest <= self.wanted

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Detectable:
        """Read what ``to_dict`` returned. Raises ValueError, TypeError or KeyError for what is none."""
        cause, needed = document["cause"], document["needed"]
        return cls(
            check=Check(document["check"]),
            unit=Unit(document["unit"]),
            device_class=document["device_class"],
            smallest=document["smallest"],
            wanted=document["wanted"],
            soak_seconds=document["soak_seconds"],
            cause=Cause(cause) if cause else None,
            needed=next(((Needed(kind), amount) for kind, amount in needed.items()), None) if needed else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "check": self.check.value,
            "device_class": self.device_class,
            "unit": self.unit.value,
            "smallest": self.smallest,
            "wanted": self.wanted,
            "suffices": self.suffices,
            "soak_seconds": self.soak_seconds,
            "cause": self.cause.value if self.cause else None,
            "needed": {self.needed[0].value: self.needed[1]} if self.needed else None,
        }


def detectable(prospect: Prospect) -> list[Detectable]:
    """Return what the gate will see, check by check, over all device classes first."""
    plans = check_plans(prospect.limits, prospect.probe)
    parts = _comparisons(prospect)
    found = _failures(prospect)
    for plan in plans:
        _known, causes = plan.outlook(prospect, prospect.analyses_max if prospect.limits.strict else 1)
        outlooks = _outlooks(plan, prospect)
        for name in sorted(outlooks, key=lambda name: (name is not None, name or "")):
            value = _smallest(plan, prospect, outlooks[name], parts)
            found.append(_described(plan, prospect, name, value, parts))
        found += _unseen(plan, prospect, causes)
    return found


def detectable_by(metric: Metric, samples: int) -> Detectable:
    """Return what a probe set of so many samples tells a wave, by the default limits, before its devices are known.

    It is the best case: each other check takes its part of the probability of a false alarm.
    """
    check = Check.PROBE_ERROR if metric.is_error else Check.ACCURACY_DROP
    prospect = Prospect((Counted("", 1.0, Observation()),), (), 1.0, 1, probe=(metric, samples))
    return next(found for found in detectable(prospect) if found.check is check)


def _unseen(plan: CheckPlan, prospect: Prospect, causes: Mapping[str, Cause]) -> Iterable[Detectable]:
    common = set(causes.values())
    if len(common) == 1 and len(causes) == len(prospect.device_classes):
        named: list[tuple[str | None, Cause]] = [(None, common.pop())]
    else:
        named = [*sorted(causes.items())]
    for name, cause in named:
        needed = _soak_of_requests(plan.check, prospect, name) if cause is Cause.TOO_FEW_REQUESTS else None
        yield Detectable(plan.check, plan.check.unit, name, cause=cause, needed=needed)


def _described(plan: CheckPlan, prospect: Prospect, name: str | None, value: float | None, parts: int) -> Detectable:
    analyses = prospect.analyses_max if _is_decided(plan, prospect, name, parts) and not plan.once else 1
    ceiling = plan.target.ceiling
    return Detectable(
        check=plan.check,
        unit=plan.check.unit,
        device_class=name,
        smallest=None if value is None else plan.target.shown(value),
        wanted=plan.target.shown(ceiling),
        soak_seconds=None if value is None else analyses * prospect.soak_seconds,
        cause=Cause.TOO_LITTLE if value is None else None,
        needed=None if value is not None and value <= ceiling else _needed(plan, prospect, name, parts),
    )


def _failures(prospect: Prospect) -> list[Detectable]:
    """The smallest share of devices that a fault has to hit to be more than the failures that are allowed."""
    found = []
    devices = len(prospect.devices)
    allowed = prospect.limits.max_failures.of(devices)
    for check in (Check.FAILED_DEVICES, Check.RESTARTS):
        if check.is_made(prospect.limits) and devices:
            share = rounded(proportion_upper(allowed, devices, MISSED)) if allowed < devices else None
            cause = None if share is not None else Cause.TOO_LITTLE
            found.append(
                Detectable(check, Unit.SHARE, None, share, share, prospect.soak_seconds if share else None, cause)
            )
    return found


def _outlooks(plan: CheckPlan, prospect: Prospect) -> dict[str | None, list[Outlook]]:
    """What may be observed at each analysis, by device class."""
    numbers = [1] if plan.once else list(range(1, prospect.analyses_max + 1))
    by_number = [plan.outlook(prospect, number)[0] for number in numbers]
    # A wave passes, if nothing else keeps it from that, before a check has data.
    names = by_number[-1 if prospect.limits.strict else 0]
    return {name: [found[name] for found in by_number if name in found] for name in names}


def _smallest(plan: CheckPlan, prospect: Prospect, outlooks: Sequence[Outlook], parts: int) -> float | None:
    analyses = 1 if plan.once else prospect.analyses_max
    alpha, beta = FALSE_ALARMS / parts / analyses, MISSES / analyses
    if not _decides(plan.target, prospect, outlooks[0], analyses):
        outlooks = outlooks[:1]
    critical = _critical(outlooks[-1], plan.target.limit, alpha)
    if critical is None:
        return None
    thresholds = [(outlooks[-1], outlooks[-1].below(critical))]
    for outlook in outlooks[:-1]:
        passing = _passing(outlook, plan.target, beta)
        if passing is not None:
            thresholds.append((outlook, passing))
    found = _missed_seldom(thresholds)
    # Of a regression larger than any that can be observed nothing is promised.
    return found if found <= outlooks[-1].most else None


def _decides(target: Target, prospect: Prospect, outlook: Outlook, analyses: int) -> bool:
    """Whether the gate will foresee at the first analysis that the last one decides."""
    reach = outlook.effect(target.limit).upper(MISSES / analyses) - target.limit
    return prospect.limits.strict or reach / math.sqrt(analyses) < target.ceiling - target.limit


def _is_decided(plan: CheckPlan, prospect: Prospect, name: str | None, parts: int) -> bool:
    found = plan.outlook(prospect, 1)[0].get(name)
    return found is not None and _decides(plan.target, prospect, found, prospect.analyses_max)


def _critical(outlook: Outlook, limit: float, alpha: float) -> float | None:
    """The smallest value that fails; None if none does."""
    low, high = max(limit, outlook.least), outlook.most
    if high <= low or outlook.effect(high).lower(alpha) <= 0:
        return None
    return _bisected(low, high, lambda value: outlook.effect(value).lower(alpha) > 0)


def _passing(outlook: Outlook, target: Target, beta: float) -> float | None:
    """The largest value that passes; None if none does."""
    if outlook.effect(outlook.least).upper(beta) >= target.ceiling:
        return None
    if outlook.effect(target.limit).upper(beta) < target.ceiling:
        return target.limit
    return _bisected(outlook.least, target.limit, lambda value: outlook.effect(value).upper(beta) >= target.ceiling)


def _bisected(low: float, high: float, holds: Callable[[float], bool]) -> float:
    """The smallest value between the two for which it holds, which it does for ``high``."""
    while high - low > 1e-3 * max(abs(high), 1e-3):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _missed_seldom(thresholds: Sequence[tuple[Outlook, float]]) -> float:
    """The smallest effect of which the thresholds together are reached with a probability of at least 95%."""
    quantile = NORMAL.inv_cdf(1 - MISSED)
    reaches = [(value, outlook.effect(value).upper(MISSED) - value) for outlook, value in thresholds]

    def is_caught(effect: float) -> bool:
        return math.fsum(NORMAL.cdf(-quantile * (effect - value) / reach) for value, reach in reaches) <= MISSED

    low = max(value + reach for value, reach in reaches)
    # The least effect that a single one allows.
    if len(reaches) == 1:
        return low
    return _bisected(low, low + 3 * max(reach for _value, reach in reaches), is_caught)


def _comparisons(prospect: Prospect) -> int:
    """How many parts the gate divides the probability of a false alarm into."""
    plans = check_plans(prospect.limits, prospect.probe)
    known = {plan.check: len(plan.outlook(prospect, 1)[0]) for plan in plans if not plan.once}
    return sum(known.values()) + bare_comparisons(prospect) + len(prospect.device_classes)


# ---- what more would help ----


def _needed(plan: CheckPlan, prospect: Prospect, name: str | None, parts: int) -> tuple[Needed, float] | None:
    """What it takes to catch what must not slip through."""
    for kind in plan.takes:

        def is_enough(factor: float, kind: Needed = kind) -> bool:
            more = times(prospect, kind, factor)
            # In a longer soak there may be enough for checks that there was too little for.
            return _suffices(plan, more, name, _comparisons(more) if kind is Needed.SOAK else parts)

        most = _MOST[kind](prospect)
        factors = [1.0, *(2.0**power for power in range(1, math.ceil(math.log2(max(most, 1))))), most]
        for less, factor in zip(factors, factors[1:]):
            if less < factor and is_enough(factor):
                return kind, float(math.ceil(amount_of(kind, prospect, name) * _bisected(less, factor, is_enough)))
    return None


_MOST: Mapping[Needed, Callable[[Prospect], float]] = {
    Needed.SOAK: lambda _prospect: _FACTOR_MAX,
    Needed.DEVICES: lambda prospect: _DEVICES_MAX / len(prospect.devices),
    Needed.SAMPLES: lambda prospect: prospect.probe[0].samples_max / prospect.probe[1] if prospect.probe else 1.0,
}


def _suffices(plan: CheckPlan, prospect: Prospect, name: str | None, parts: int) -> bool:
    outlooks = _outlooks(plan, prospect).get(name)
    value = _smallest(plan, prospect, outlooks, parts) if outlooks else None
    return value is not None and value <= plan.target.ceiling


def _soak_of_requests(check: Check, prospect: Prospect, name: str | None) -> tuple[Needed, float] | None:
    """The soak in which half of the devices have as many requests as a quantile needs."""
    least = P50_REQUESTS_MIN if check is Check.LATENCY_P50 else P95_REQUESTS_MIN
    rates = sorted(
        (timed_requests(item) / item.seconds for item in prospect.devices if name in (None, item.device_class)),
        reverse=True,
    )
    rate = rates[(len(rates) - 1) // 2] if rates else 0.0
    return (Needed.SOAK, float(math.ceil(least / rate))) if rate else None
