# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the gate allows: each limit is declared once, with its range, and yields the module's argument spec. Pure."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Mapping

_RANGE = "range"


class LimitError(ValueError):
    """A limit is not a number, or out of its range."""


@dataclass(frozen=True)
class Range:
    """The values that a limit can have, both ends included."""

    least: float
    most: float
    whole: bool = False
    required: bool = False

    def check(self, name: str, value: Any) -> float | int | None:
        """Return ``value`` as the number that it is, also if it is written as text. Raises LimitError."""
        if value is None and not self.required:
            return None
        expected = f"a number from {self.least:g} to {self.most:g}{'' if self.required else ', or null'}"
        try:
            number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not self.least <= number <= self.most or (self.whole and number != int(number)):
            raise LimitError(f"{name}: expected {expected}; found {value!r}")
        return int(number) if self.whole else number


def _range(least: float, most: float, *, whole: bool = False, required: bool = False) -> dict[str, Range]:
    """What the field of a limit says of its values."""
    return {_RANGE: Range(least, most, whole, required)}


@dataclass(frozen=True)
class Allowance:
    """How many devices may fail: ``count`` of them, or if it is not None ``percent`` of them."""

    count: int = 0
    percent: float | None = None

    @classmethod
    def parse(cls, value: Any) -> Allowance:
        """Read a count, such as ``2``, or a percentage, such as ``5%``. Raises LimitError."""
        match = re.fullmatch(r"(\d{1,9})|(\d{1,3}(?:\.\d{1,9})?)\s*%", str(value).strip())
        if not match or isinstance(value, bool) or float(match[2] or 0) > 100:
            raise LimitError(f"max_failures: expected a count or a percentage, such as 2 or 5%; found {value!r}")
        return cls(int(match[1])) if match[1] else cls(percent=float(match[2]))

    def of(self, devices: int) -> int:
        """Return how many of a number of ``devices`` may fail."""
        if self.percent is None:
            return self.count
        # Rounded, so that 10% of 30 is 3 although binary fractions are not exact.
        return int(round(devices * self.percent / 100, 9))


@dataclass(frozen=True)
class Limits:
    """What the gate allows. A limit that is None is off.

    Shares and accuracies are from 0 to 1; drops and rises are in points (0.02 is two percentage points).

    - ``max_failures``: devices that refuse the release, fail, fall silent, restart their server too often, or answer
      the probe set wrongly. ``reporting_share_min``: the share of the devices that must report.
    - ``accuracy_drop_max`` and ``accuracy_min``: the metric of the release's probe set, where more is better.
      ``probe_error_ratio_max``: that metric as a multiple of what it was, where it is an error.
      ``live_accuracy_drop_max``: accuracy by the labels that clients send.
    - ``error_rate_max`` and ``error_rate_rise_max``: requests that are answered with a status of 500 or above.
    - ``latency_ratio_max``: median, 95th percentile, and time of a batch of the probe set, as multiples of what they
      were. ``latency_seconds_max``: the 95th percentile.
    - ``drift_rise_max``: the share of devices with a drift alarm, above that of the controls.
    - ``shadow_agreement_min``: the share of the rows that the candidate answers like the active version.
    - ``memory_ratio_max`` and ``memory_bytes_max``: resident memory of the server.
    - ``energy_ratio_max``: energy per request. ``clock_ratio_max``: how much slower the processors may run.
      ``temperature_rise_max``: degrees Celsius of the hottest sensor.
    - ``restarts_max``: restarts of the server on one device.
    - ``strict``: whether a check with too little data is inconclusive. Otherwise it is skipped.
    """

    max_failures: Allowance = Allowance()
    reporting_share_min: float = field(default=0.5, metadata=_range(0.0, 1.0, required=True))
    accuracy_drop_max: float | None = field(default=0.02, metadata=_range(-1.0, 1.0))
    accuracy_min: float | None = field(default=None, metadata=_range(0.0, 1.0))
    probe_error_ratio_max: float | None = field(default=1.1, metadata=_range(1.0, 1e6))
    live_accuracy_drop_max: float | None = field(default=0.01, metadata=_range(0.0, 1.0))
    error_rate_max: float | None = field(default=0.05, metadata=_range(0.0, 1.0))
    error_rate_rise_max: float | None = field(default=0.004, metadata=_range(0.0, 1.0))
    latency_ratio_max: float | None = field(default=1.1, metadata=_range(1.0, 1e6))
    latency_seconds_max: float | None = field(default=None, metadata=_range(1e-6, 1e6))
    drift_rise_max: float | None = field(default=0.2, metadata=_range(0.0, 1.0))
    shadow_agreement_min: float | None = field(default=0.8, metadata=_range(0.0, 1.0))
    memory_ratio_max: float | None = field(default=1.5, metadata=_range(1.0, 1e6))
    memory_bytes_max: int | None = field(default=None, metadata=_range(0, 1e15, whole=True))
    energy_ratio_max: float | None = field(default=1.2, metadata=_range(1.0, 1e6))
    clock_ratio_max: float | None = field(default=1.1, metadata=_range(1.0, 1e6))
    temperature_rise_max: float | None = field(default=5.0, metadata=_range(0.0, 200.0))
    restarts_max: int | None = field(default=2, metadata=_range(0, 1e6, whole=True))
    strict: bool = False

    @property
    def compares_answers(self) -> bool:
        """Whether answers to the probe set are compared with those of the version before."""
        return self.accuracy_drop_max is not None or self.probe_error_ratio_max is not None

    def __post_init__(self) -> None:
        """Convert numbers that are written as text. Raises LimitError for a limit that is out of its range."""
        for name, allowed in ranges().items():
            object.__setattr__(self, name, allowed.check(name, getattr(self, name)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Limits:
        """Read the limits that a playbook sets; all others have their defaults. Raises LimitError."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise LimitError(f"{unknown[0]}: no such limit; expected {', '.join(sorted(known))}")
        read = dict(values)
        if "max_failures" in read:
            read["max_failures"] = Allowance.parse(read["max_failures"])
        return cls(**read)


def ranges() -> dict[str, Range]:
    """Return the range of each limit that is a number, by its name."""
    return {field.name: field.metadata[_RANGE] for field in dataclasses.fields(Limits) if _RANGE in field.metadata}


def argument_spec() -> dict[str, dict[str, Any]]:
    """Return the limits as options of a module.

    Limits that can be off are of type ``raw``, because Ansible converts null to the default of any other type.
    """
    spec: dict[str, dict[str, Any]] = {}
    for declared in dataclasses.fields(Limits):
        allowed = declared.metadata.get(_RANGE)
        if isinstance(allowed, Range):
            spec[declared.name] = {"type": "float" if allowed.required else "raw"}
            if declared.default is not None:
                spec[declared.name]["default"] = declared.default
        elif isinstance(declared.default, Allowance):
            spec[declared.name] = {"type": "str", "default": str(declared.default.count)}
        else:
            spec[declared.name] = {"type": "bool", "default": declared.default}
    return spec
