# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Checks of events among many: errors among requests, wrong labels, disagreements, devices with a drift alarm. Pure.

Each device is compared with its own past, and the change with that of the controls (difference in differences: Card and
Krueger, Minimum wages and employment, American Economic Review 84(4), 1994), in each device class and over all of them.
Without a past, the controls alone are compared with; without controls, the past alone.

The limits are exact, and widened by as much as the devices differ more than chance explains.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Callable, Mapping, NamedTuple, Sequence

from .checks import Cause, Check, ComparedWith, Comparison, Finding, Result, Verdict
from .estimates import Proportion, ProportionEffect, dispersion
from .measurements import Observation
from .observations import Device, Groups, has_past

# Degrees of freedom of the assumption that devices differ as chance explains.
DISPERSION_DEGREES_OF_FREEDOM = 10


class Count(NamedTuple):
    """``events`` of ``total``; both may be fractions.

    ``together``: how many of the total come together, and may all be of one kind: so many say no more than one does.
    """

    events: float
    total: float
    together: float = 1.0


NO_COUNT = Count(0.0, 0.0)


@dataclass(frozen=True)
class Change:
    """The change of a proportion in one device class, or over several of them."""

    effect: ProportionEffect
    total: float
    baseline: float
    compared_with: ComparedWith


class Proportions:
    """Counts of the wave and of its controls, now and in the past.

    ``count`` reads a count from an observation. ``uses_past``: whether the past is compared with.
    """

    def __init__(self, groups: Groups, count: Callable[[Observation], Count], *, uses_past: bool = True) -> None:
        self.groups = groups
        self.count = count
        self.uses_past = uses_past
        self.now = {name: [count(item.now) for item in items] for name, items in groups.wave.items()}
        # Two factors, because a harmful version does more harm on some devices than on others.
        self.dispersion = self._dispersion(groups.wave)
        self.dispersion_of_controls = self._dispersion(groups.controls)

    @property
    def total(self) -> float:
        """What was counted on the wave's devices, harmful or not."""
        return math.fsum(count.total for counts in self.now.values() for count in counts)

    @property
    def total_of_controls(self) -> float:
        """What was counted on the controls during the soak."""
        return math.fsum(self.count(item.now).total for item in self.groups.all_controls)

    def against_limit(self, check: Check, limit: float, *, otherwise: Cause) -> list[Result]:
        """Compare each device class, and all of them together, with an absolute limit.

        A class without a count is skipped for the cause ``otherwise``.
        """
        known = [name for name, counts in self.now.items() if sum(count.total for count in counts)]
        groups: list[tuple[str | None, list[str]]] = [(name, [name]) for name in known]
        if len(known) > 1:
            groups.append((None, known))
        results: list[Result] = []
        for device_class, names in groups:
            now = self._sum(names)
            # A version that is no worse than the one before does not fail for what that one did as well.
            allowed = max([limit, *(self._baseline(name) for name in names)])
            factor = self.dispersion * now.together
            scaled = Proportion(1.0, now.events / factor, now.total / factor)
            results.append(
                Comparison(
                    check=check,
                    effect=ProportionEffect((scaled,)),
                    limit=allowed,
                    floor=allowed,
                    ceiling=allowed,
                    samples=int(now.total),
                    device_class=device_class,
                    events=int(now.events),
                )
            )
        causes = {name: otherwise for name in self.now if name not in known}
        return [*results, *skipped_classes(check, self.groups, causes)]

    def changes(self, check: Check, limit: float, *, otherwise: Cause) -> list[Result]:
        """Compare each device class, and all of them together, with the past and the controls."""
        changes = {name: change for name in self.now if (change := self._change(name)) is not None}
        results: list[Result] = [
            self._comparison(check, limit, change, names=[name], device_class=name) for name, change in changes.items()
        ]
        if len(changes) > 1:
            results.append(self._comparison(check, limit, combined(list(changes.values())), names=list(changes)))
        causes = {
            name: Cause.NO_COMPARISON if self._sum([name]).total else otherwise
            for name in self.now
            if name not in changes
        }
        return [*results, *skipped_classes(check, self.groups, causes)]

    def _comparison(
        self, check: Check, limit: float, change: Change, *, names: Sequence[str], device_class: str | None = None
    ) -> Comparison:
        return Comparison(
            check=check,
            effect=change.effect,
            limit=limit,
            floor=0.0,
            ceiling=2 * limit,
            samples=int(change.total),
            device_class=device_class,
            events=int(self._sum(names).events),
            baseline=change.baseline,
            compared_with=change.compared_with,
        )

    def _sum(self, names: Sequence[str]) -> Count:
        counts = [count for name in names for count in self.now[name]]
        total = math.fsum(count.total for count in counts)
        # What a share varies by, of clusters of such sizes (Kish, Survey Sampling, 1965).
        together = math.fsum(count.total * count.together for count in counts) / total if total else 1.0
        return Count(math.fsum(count.events for count in counts), total, together)

    def _change(self, name: str) -> Change | None:
        """The change in one device class; None without a count, or without anything to compare it with."""
        controls = self.groups.controls[name]
        now, past = self._standardised(self.groups.wave[name])
        control, control_past = self._standardised(controls)
        if now is None:
            return None
        if past is not None and control is not None and control_past is not None:
            baseline, own, others = past, [(1.0, now), (-1.0, past)], [(-1.0, control), (1.0, control_past)]
        elif past is not None:
            baseline, own, others = past, [(1.0, now), (-1.0, past)], []
        elif control is not None:
            baseline, own, others = control, [(1.0, now)], [(-1.0, control)]
        else:
            return None
        proportions = [
            Proportion(weight, count.events / factor, count.total / factor)
            for factor, counts in ((self.dispersion, own), (self.dispersion_of_controls, others))
            for weight, count in counts
        ]
        return Change(
            effect=ProportionEffect(tuple(proportions)),
            total=now.total,
            baseline=baseline.events / baseline.total,
            compared_with=ComparedWith(past=past is not None, controls=len(controls) if others else 0),
        )

    def _baseline(self, name: str) -> float:
        _now, past = self._standardised(self.groups.wave[name])
        return past.events / past.total if past is not None else 0.0

    def _past(self, item: Device) -> Count:
        return self.count(item.past) if self.uses_past and has_past(item) else NO_COUNT

    def _standardised(self, devices: Sequence[Device]) -> tuple[Count | None, Count | None]:
        """The count now, and the past count as it would be if each device had had the same part of the traffic as now.

        Otherwise a device with many errors that gets more traffic than before would look like a worse version.
        """
        counts = [(self.count(item.now), self._past(item)) for item in devices]
        now = Count(
            math.fsum(count.events for count, _past in counts), math.fsum(count.total for count, _past in counts)
        )
        if not now.total:
            return None, None
        return now, standardised([(count.total, past) for count, past in counts])

    def _dispersion(self, devices: Mapping[str, Sequence[Device]]) -> float:
        groups = []
        for items in devices.values():
            pairs = [(self.count(item.now), self._past(item)) for item in items]
            pairs = [(now, past) for now, past in pairs if now.total and past.total]
            variance_now = _variance([now for now, _past in pairs])
            variance_past = _variance([past for _now, past in pairs])
            groups.append(
                [
                    (
                        now.events / now.total - past.events / past.total,
                        variance_now / now.total + variance_past / past.total,
                    )
                    for now, past in pairs
                ]
            )
        return dispersion(groups, DISPERSION_DEGREES_OF_FREEDOM)


def standardised(counts: Sequence[tuple[float, Count]]) -> Count | None:
    """Return the past count of some devices as it would be if each had had the same part of the total as now.

    Each pair is a device's total now and its past count. None where no device has both.
    """
    known = [(total, past) for total, past in counts if total and past.total]
    weight = math.fsum(total for total, _past in known)
    if not weight:
        return None
    share = math.fsum(total / weight * past.events / past.total for total, past in known)
    size = 1 / math.fsum((total / weight) ** 2 / past.total for total, past in known)
    return Count(share * size, size)


def skipped_classes(check: Check, groups: Groups, causes: Mapping[str, Cause]) -> list[Finding]:
    """Return a skipped finding for each device class in ``causes``, or one over all if they have one cause."""
    found = set(causes.values())
    if len(found) == 1 and len(causes) == len(groups.device_classes):
        return [Finding(check, Verdict.SKIPPED, found.pop())]
    return [Finding(check, Verdict.SKIPPED, cause, device_class) for device_class, cause in causes.items()]


def combined(changes: Sequence[Change]) -> Change:
    """Return the change over several device classes, weighted by their counts."""
    total = math.fsum(change.total for change in changes)
    proportions = [
        dataclasses.replace(part, weight=part.weight * change.total / total)
        for change in changes
        for part in change.effect.proportions
    ]
    return Change(
        effect=ProportionEffect(tuple(proportions)),
        total=total,
        baseline=math.fsum(change.baseline * change.total for change in changes) / total,
        compared_with=ComparedWith(
            past=any(change.compared_with.past for change in changes),
            controls=sum(change.compared_with.controls for change in changes),
        ),
    )


def _variance(counts: Sequence[Count]) -> float:
    """The variance of one event. Half an event is added, so that what never happened is possible."""
    events, total = math.fsum(count.events for count in counts), math.fsum(count.total for count in counts)
    share = (events + 0.5) / (total + 1.0)
    return share * (1 - share)
