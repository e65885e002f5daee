# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Checks of one quantity on each device: its latency, its memory, its energy, its temperature. Pure.

The device is the unit: the logarithm of its ratio to its past, and the trimmed mean of those. The variance is one that
classes of few devices borrow from all (Smyth, Linear models and empirical Bayes methods, Statistical Applications in
Genetics and Molecular Biology 3(1), 2004).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Callable, Collection, Mapping, Sequence

from .checks import DEGREES, Cause, Check, ComparedWith, Comparison, Finding, Result, Unit
from .estimates import MeanEffect, Trimmed, trimmed
from .measurements import Observation
from .observations import Device, Groups, has_past
from .proportions import skipped_classes

# Assumptions before any device was seen, and how many degrees of freedom they are worth. A fleet that varies more
# outweighs them soon. The first is the standard deviation between devices of one class of the logarithm of the change.
USUAL_DEVIATION = 0.1
USUAL_DEGREES_OF_FREEDOM = 4
# The same between devices that are compared without their past.
USUAL_DIFFERENCE = 0.3
# What the load of the hour does to the latency of all devices at once. Only controls tell it from a change of version.
USUAL_LOAD = 0.2


@dataclass(frozen=True)
class Group:
    """The changes in one device class: of the wave's devices, and of the controls if there are any."""

    wave: Trimmed
    controls: Trimmed | None
    devices: int
    compared_with: ComparedWith

    @property
    def deviation(self) -> float:
        """The standard deviation that is assumed."""
        return USUAL_DEVIATION if self.compared_with.past else USUAL_DIFFERENCE

    @property
    def parts(self) -> list[Trimmed]:
        """What tells how devices vary."""
        return [self.wave] if self.controls is None else [self.wave, self.controls]

    @property
    def variance_factor(self) -> float:
        """The variance of the effect, as a multiple of that of one device."""
        return math.fsum(1 / part.kept for part in self.parts)

    def effect(self, common: float, load: float) -> MeanEffect:
        """The change beyond that of the controls; ``common`` is the variance of one device over all classes."""
        degrees_of_freedom = USUAL_DEGREES_OF_FREEDOM + sum(part.degrees_of_freedom for part in self.parts)
        squares = USUAL_DEGREES_OF_FREEDOM * common + math.fsum(part.squares for part in self.parts)
        variance = squares / degrees_of_freedom * self.variance_factor
        if self.controls is None:
            return MeanEffect(self.wave.mean, variance + load**2, degrees_of_freedom)
        return MeanEffect(self.wave.mean - self.controls.mean, variance, degrees_of_freedom)


def in_same_mode(item: Device) -> bool:
    """Whether a device's board is in the power mode in which it was before, as far as it is known."""
    past, now = item.past.board, item.now.board
    return past is None or now is None or past.mode == now.mode


class Ratios:
    """A quantity of the wave's devices and of the controls, now and in the past.

    ``measure`` reads its logarithm from an observation; None where it is not known. ``load`` is the standard deviation
    of what changes it on all devices at once; controls take that off.
    """

    def __init__(self, groups: Groups, measure: Callable[[Observation], float | None], *, load: float) -> None:
        self.groups = groups
        self.measure = measure
        self.load = load

    def changes(self, check: Check, limit: float, *, otherwise: Cause) -> list[Result]:
        """Compare each device class, and all of them together, with the past and the controls.

        A class in which no device has the quantity is skipped for the cause ``otherwise``.
        """
        groups = {name: group for name in self.groups.device_classes if (group := self._group(name)) is not None}
        results: list[Result] = [
            _comparison(check, limit, effect, group=group, device_class=name)
            for name, (effect, group) in group_effects(groups, self.load).items()
        ]
        return [*results, *self._skipped(check, groups, otherwise)]

    @property
    def uncompared(self) -> list[str]:
        """The device classes of which nothing can be compared: they have neither a past nor controls with enough."""
        return [name for name in self.groups.device_classes if self._group(name) is None]

    def against_limit(self, check: Check, limit: float, *, otherwise: Cause) -> list[Result]:
        """Compare each device class with an absolute limit."""
        limits = dict.fromkeys(self.groups.device_classes, limit)
        results = self.against_limits(check, limits)
        known = {result.device_class for result in results if result.device_class is not None}
        return [*results, *self._skipped(check, known, otherwise)]

    def against_limits(
        self, check: Check, limits: Mapping[str, float], compared_with: ComparedWith | None = None
    ) -> list[Result]:
        """Compare each of these device classes with its own absolute limit, where the quantity is known."""
        results: list[Result] = []
        for name, limit in limits.items():
            values = [value for item in self.groups.wave[name] if (value := self.measure(item.now)) is not None]
            if not values:
                continue
            part = trimmed(values)
            squares = USUAL_DEGREES_OF_FREEDOM * USUAL_DIFFERENCE**2 + part.squares
            degrees_of_freedom = USUAL_DEGREES_OF_FREEDOM + part.degrees_of_freedom
            allowed = math.log(limit)
            results.append(
                Comparison(
                    check=check,
                    effect=MeanEffect(part.mean, squares / degrees_of_freedom / part.kept, degrees_of_freedom),
                    limit=allowed,
                    floor=allowed,
                    ceiling=allowed,
                    samples=len(values),
                    device_class=name,
                    devices=len(values),
                    compared_with=compared_with,
                    logarithmic=True,
                )
            )
        return results

    def _skipped(self, check: Check, known: Collection[str], otherwise: Cause) -> list[Finding]:
        causes = {name: self._cause(items, otherwise) for name, items in self.groups.wave.items() if name not in known}
        return skipped_classes(check, self.groups, causes)

    def _cause(self, items: Sequence[Device], otherwise: Cause) -> Cause:
        if all(self.measure(item.now) is None for item in items):
            return otherwise
        return Cause.NO_COMPARISON if any(map(in_same_mode, items)) else Cause.POWER_MODE

    def _group(self, name: str) -> Group | None:
        # A Jetson in another power mode is another device: it tells nothing of a version.
        wave, controls = (
            [item for item in items if in_same_mode(item)]
            for items in (self.groups.wave[name], self.groups.controls[name])
        )
        changes, of_controls = self._changes(wave), self._changes(controls)
        past = bool(changes)
        if not changes:
            changes = [value for item in wave if (value := self.measure(item.now)) is not None]
            of_controls = [value for item in controls if (value := self.measure(item.now)) is not None]
            if not changes or not of_controls:
                return None
        return Group(
            wave=trimmed(changes),
            controls=trimmed(of_controls) if of_controls else None,
            devices=len(changes),
            compared_with=ComparedWith(past=past, controls=len(of_controls)),
        )

    def _changes(self, items: Sequence[Device]) -> list[float]:
        pairs = [(self.measure(item.past), self.measure(item.now)) for item in items if has_past(item)]
        return [now - past for past, now in pairs if past is not None and now is not None]


def group_effects(groups: Mapping[str, Group], load: float) -> dict[str | None, tuple[MeanEffect, Group]]:
    """Return the effect in each device class, and over all of them (None) if they are several.

    ``load`` is the standard deviation of what changes the quantity on all devices at once.
    """
    if not groups:
        return {}
    # What is known of how devices vary, so that a class of few devices has something to go by.
    parts = [part for group in groups.values() for part in group.parts]
    deviation = max(group.deviation for group in groups.values())
    squares = USUAL_DEGREES_OF_FREEDOM * deviation**2 + math.fsum(part.squares for part in parts)
    degrees_of_freedom = USUAL_DEGREES_OF_FREEDOM + sum(part.degrees_of_freedom for part in parts)
    common = squares / degrees_of_freedom
    effects = {name: group.effect(common, load) for name, group in groups.items()}
    found: dict[str | None, tuple[MeanEffect, Group]] = {name: (effects[name], groups[name]) for name in groups}
    if len(groups) > 1:
        known = {name: group for name, group in groups.items() if group.controls} or groups
        device = MeanEffect(0.0, common, degrees_of_freedom)
        found[None] = _over_all(known, effects, device, load), _together(list(known.values()))
    return found


def _over_all(
    groups: Mapping[str, Group], effects: Mapping[str, MeanEffect], device: MeanEffect, load: float
) -> MeanEffect:
    """The mean of the effects in all classes; ``device`` has the variance of one device."""
    weights = {name: 1 / group.variance_factor for name, group in groups.items()}
    total = math.fsum(weights.values())
    value = math.fsum(weights[name] / total * effects[name].value for name in groups)
    factor = math.fsum((weights[name] / total) ** 2 * groups[name].variance_factor for name in groups)
    # The load of the hour is the same for all.
    common_load = 0.0 if all(group.controls for group in groups.values()) else load
    return MeanEffect(value, factor * device.variance + common_load**2, device.degrees_of_freedom)


def _together(groups: Sequence[Group]) -> Group:
    """What several device classes are compared with, as if they were one."""
    return dataclasses.replace(
        groups[0],
        devices=sum(group.devices for group in groups),
        compared_with=ComparedWith(
            past=any(group.compared_with.past for group in groups),
            controls=sum(group.compared_with.controls for group in groups),
        ),
    )


def _comparison(
    check: Check, limit: float, effect: MeanEffect, *, group: Group, device_class: str | None = None
) -> Comparison:
    is_ratio = check.unit is not Unit.CELSIUS
    allowed = math.log(limit) if is_ratio else limit / DEGREES
    return Comparison(
        check=check,
        effect=effect,
        limit=allowed,
        floor=0.0,
        ceiling=2 * allowed,
        samples=group.devices,
        device_class=device_class,
        devices=group.devices,
        compared_with=group.compared_with,
        logarithmic=is_ratio,
    )
