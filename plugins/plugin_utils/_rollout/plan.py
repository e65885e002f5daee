# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a rollout planned: which device belongs to which wave. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import is_whole

from .outcome import Outcome
from .waves import LeftOut

# The wave before the first: devices that answer copies of requests with the new version. No plan numbers it.
SHADOW_WAVE = 0
SHADOW = "shadow"


@dataclass(frozen=True)
class PlannedWave:
    """A wave of the plan; ``number`` counts from 1 over the whole fleet, so that a part of it may lack some."""

    number: int
    name: str
    hosts: tuple[str, ...]

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> PlannedWave:
        """Read it. Raises TypeError, ValueError or KeyError."""
        hosts = document["hosts"]
        if isinstance(hosts, str) or not isinstance(hosts, Sequence):
            raise TypeError(f"hosts: expected a list; found {hosts!r}")
        return cls(whole_number(document["number"], "number"), str(document.get("name", "")), tuple(map(str, hosts)))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {"number": self.number, "name": self.name, "hosts": list(self.hosts)}


@dataclass(frozen=True)
class Plan:
    """Which device belongs to which wave. ``limited``: the run was for a part of the fleet (``--limit``).

    ``boundaries`` are the positions by which a device finds its own wave, and ``gateways`` the devices through which
    microcontrollers are reached, by their names.
    """

    waves: tuple[PlannedWave, ...]
    device_classes: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    salt: str = ""
    device_class: tuple[str, ...] = ()
    limited: bool = False
    boundaries: Mapping[str, Any] = field(default_factory=dict)
    gateways: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Plan:
        """Read it. Raises TypeError, ValueError or KeyError."""
        return cls(
            waves=tuple(PlannedWave.from_dict(wave) for wave in document["waves"]),
            device_classes=dict(document.get("device_classes") or {}),
            left_out=_read_left_out(document),
            salt=str(document.get("salt") or ""),
            device_class=tuple(document.get("device_class") or ()),
            limited=bool(document.get("limited")),
            boundaries=dict(document.get("boundaries") or {}),
            gateways={str(host): str(gateway) for host, gateway in (document.get("gateways") or {}).items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "salt": self.salt,
            "device_class": list(self.device_class),
            "device_classes": dict(self.device_classes),
            "waves": [wave.to_dict() for wave in self.waves],
            "left_out": {host: str(why) for host, why in self.left_out.items()},
            "left_out_outcomes": {host: why.outcome.value for host, why in self.left_out.items()},
            "limited": self.limited,
            "boundaries": dict(self.boundaries),
            **({"gateways": dict(self.gateways)} if self.gateways else {}),
        }

    @property
    def wave_numbers(self) -> dict[str, int]:
        """The number of each device's wave."""
        return {host: wave.number for wave in self.waves for host in wave.hosts}

    def merged_with(self, before: Plan) -> Plan:
        """Return this plan with the hosts that only the plan ``before`` had (of another --limit) in their waves."""
        planned = set(self.wave_numbers)
        waves = {wave.number: wave for wave in self.waves}
        for wave in before.waves:
            others = tuple(host for host in wave.hosts if host not in planned)
            if not others:
                continue
            known = waves.get(wave.number)
            hosts = (*others, *known.hosts) if known else others
            waves[wave.number] = dataclasses.replace(known or wave, hosts=hosts)
        return dataclasses.replace(self, waves=tuple(waves[number] for number in sorted(waves)))


def _read_left_out(document: Mapping[str, Any]) -> dict[str, LeftOut]:
    outcomes = document.get("left_out_outcomes") or {}
    found = {}
    for host, text in (document.get("left_out") or {}).items():
        outcome = Outcome(outcomes.get(host, Outcome.MAINTENANCE))
        found[str(host)] = LeftOut(outcome, str(text).removeprefix(f"{outcome}: "))
    return found


def whole_number(value: Any, name: str) -> int:
    """Return the value of the field ``name``. Raises TypeError if it is no whole number."""
    if not is_whole(value):
        raise TypeError(f"{name}: expected a whole number; found {value!r}")
    return int(value)
