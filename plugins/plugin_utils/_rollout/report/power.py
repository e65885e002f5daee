# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The texts about what the gate will see of each wave. Pure."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Cause, Check
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.power import Detectable
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.prospect import Needed

from .words import COMPARABLE, NONE, cause_text, quantity_of, shortened, span_text

# What a check needs that has nothing to judge by.
_MISSING: Mapping[Cause, str] = {
    Cause.NO_TRAFFIC: "live traffic",
    # With requests at all there is a soak that would be enough.
    Cause.TOO_FEW_REQUESTS: "live traffic",
    Cause.NO_LABELS: "clients that send labels",
    Cause.NO_SHADOW: "a release that runs as a shadow before",
    Cause.NO_DRIFT_WINDOW: "a drift reference, and a full window of rows",
    Cause.NO_PROBE_SET: "a probe set in the release",
    Cause.NOT_COMPARABLE: "the names and sizes of the version before",
}
_FAULTS = (Check.FAILED_DEVICES, Check.RESTARTS)


@dataclass(frozen=True)
class WaveSight:
    """What the gate will see of one wave: ``answered`` of its ``devices`` were read, and ``controls`` of its controls.

    ``first``: of those that answered, how many serve no version that the new one could be compared with.
    """

    number: int
    name: str
    devices: int
    answered: int
    controls: int
    first: int
    found: tuple[Detectable, ...]

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> WaveSight:
        """Read what ``to_dict`` returned."""
        found = tuple(Detectable.from_dict(item) for item in document["checks"])
        return cls(found=found, **{name: value for name, value in document.items() if name != "checks"})

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "number": self.number,
            "name": self.name,
            "devices": self.devices,
            "answered": self.answered,
            "controls": self.controls,
            "first": self.first,
            "checks": [item.to_dict() for item in self.found],
        }


def lines(waves: Sequence[WaveSight]) -> list[str]:
    """Return what people read of each wave: a line about its devices, and a table of its checks."""
    found = []
    for wave in waves:
        found += [heading(wave), *text_table(rows(wave.found)), ""]
    return found[:-1]


def unfit_devices(release: str, reasons: Mapping[str, str], devices: int, classes: Mapping[str, str]) -> str:
    """Return what is said of the devices that would refuse a release: of each class and reason, which."""
    groups: dict[tuple[str, str], list[str]] = {}
    for host, reason in sorted(reasons.items()):
        groups.setdefault((classes.get(host, "all"), reason.split(": ", 1)[-1]), []).append(host)
    told = "; ".join(f"{', '.join(hosts)} ({name}): {reason}" for (name, reason), hosts in groups.items())
    return (
        f"{len(reasons)} of {counted(devices, 'device')} would refuse {release}, for which it has no variant: {told}. "
        "Publish a variant that fits, or leave them out by rollout_pinned or rollout_hosts"
    )


def unasked_versions(release: str, reasons: Mapping[str, str], hosts: Mapping[str, Sequence[str]]) -> str:
    """Return what is said of the versions that cannot be asked a release's probe set: of each, where it is and why."""
    told = "; ".join(f"{version} ({shortened(', '.join(hosts[version]))}) {why}" for version, why in reasons.items())
    return (
        f"Versions that serve cannot be asked the probe set of {release}: {told}. "
        f"The waves of these devices will be inconclusive. {COMPARABLE}"
    )


def heading(wave: WaveSight) -> str:
    """Return whom a wave is judged by."""
    text = f"Wave {wave.number} ({wave.name}): {wave.answered} of {counted(wave.devices, 'device')} answered"
    if wave.first:
        text += f", {wave.first} without a version to compare with"
    return f"{text}; {counted(wave.controls, 'control')}"


def rows(found: Sequence[Detectable]) -> list[dict[str, str]]:
    """Return one row for each check, in each device class."""
    return [
        {
            "check": item.check.value,
            "devices": item.device_class or "all",
            "catches with 95%": _smallest(item),
            "within": NONE if item.soak_seconds is None else _span(item.soak_seconds),
            "twice the limit": _wanted(item),
        }
        for item in found
    ]


def _smallest(item: Detectable) -> str:
    if item.smallest is not None:
        text = quantity_of(item.unit).text(item.smallest)
        return f"a fault of {text} of the devices" if item.check in _FAULTS else text
    if item.cause is Cause.TOO_LITTLE:
        return "cannot be seen: too little data"
    if item.cause is Cause.TOO_FEW_REQUESTS:
        return "cannot be seen: too few requests on each device"
    return f"cannot be seen: {cause_text(item.cause)}"


def _wanted(item: Detectable) -> str:
    if item.check in _FAULTS:
        return NONE
    wanted = "" if item.wanted is None else f"{quantity_of(item.unit).text(item.wanted)}: "
    if item.suffices:
        return f"{wanted}caught"
    if item.needed is not None:
        kind, amount = item.needed
        return f"{wanted}takes {_NEEDED[kind](amount)}"
    if item.cause is not None and item.cause in _MISSING:
        return f"{wanted}takes {_MISSING[item.cause]}"
    is_known = item.smallest is not None or item.cause is Cause.TOO_LITTLE
    return f"{wanted}more of the same does not help" if is_known else NONE


def _span(seconds: float) -> str:
    return span_text(datetime.timedelta(seconds=seconds))


_NEEDED: Mapping[Needed, Callable[[float], str]] = {
    Needed.SOAK: lambda amount: f"a soak of {_span(amount)}",
    Needed.DEVICES: lambda amount: f"{int(amount)} devices, and as many controls",
    Needed.SAMPLES: lambda amount: f"{int(amount)} samples in the probe set",
}
