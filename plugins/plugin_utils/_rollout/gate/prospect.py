# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A wave before it begins: what its devices and controls have counted, and what more of them would be. Pure."""

from __future__ import annotations

import dataclasses
import enum
import math
from dataclasses import dataclass, field

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric

from .limits import Limits
from .measurements import Observation


@dataclass(frozen=True)
class Counted:
    """What a device has counted of the version that it serves, in ``seconds``. It will be the new version's past."""

    device_class: str
    seconds: float
    observation: Observation


@dataclass(frozen=True)
class Prospect:
    """A wave before it begins: its devices and controls as far as they answered, and how it will be judged.

    ``probe``: the metric of the release's probe set, and how many samples it has. ``comparable``: whether the versions
    that serve can be asked it.
    """

    devices: tuple[Counted, ...]
    controls: tuple[Counted, ...]
    soak_seconds: float
    analyses_max: int
    limits: Limits = field(default_factory=Limits)
    probe: tuple[Metric, int] | None = None
    comparable: bool = True

    def of_class(self, name: str) -> tuple[list[Counted], list[Counted]]:
        """Return the devices and the controls of a class."""
        devices, controls = (
            [item for item in items if item.device_class == name] for items in (self.devices, self.controls)
        )
        return devices, controls

    @property
    def device_classes(self) -> list[str]:
        """The device classes, in order."""
        return sorted({item.device_class for item in self.devices})


class Needed(enum.Enum):
    """What there is too little of."""

    SOAK = "soak_seconds"
    DEVICES = "devices"
    SAMPLES = "samples"


def amount_of(kind: Needed, prospect: Prospect, name: str | None) -> float:
    """Return how much of something there is; of devices those of a class, or all."""
    if kind is Needed.SOAK:
        return prospect.soak_seconds
    if kind is Needed.SAMPLES:
        return prospect.probe[1] if prospect.probe else 0
    return len(prospect.devices if name is None else prospect.of_class(name)[0])


def times(prospect: Prospect, kind: Needed, factor: float) -> Prospect:
    """Return the wave with ``factor`` times as much of something."""
    if kind is Needed.SOAK:
        return dataclasses.replace(prospect, soak_seconds=prospect.soak_seconds * factor)
    if kind is Needed.SAMPLES and prospect.probe:
        return dataclasses.replace(prospect, probe=(prospect.probe[0], math.ceil(prospect.probe[1] * factor)))
    return dataclasses.replace(
        prospect, devices=_repeated(prospect.devices, factor), controls=_repeated(prospect.controls, factor)
    )


def _repeated(items: tuple[Counted, ...], factor: float) -> tuple[Counted, ...]:
    """So many times as many devices of each class."""
    by_class: dict[str, list[Counted]] = {}
    for item in items:
        by_class.setdefault(item.device_class, []).append(item)
    return tuple(
        found[place % len(found)] for found in by_class.values() for place in range(math.ceil(len(found) * factor))
    )
