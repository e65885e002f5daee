# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The checks that the gate makes, and their typed findings. Pure.

The texts that people read are made from findings by ``report/words.py``.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any, Mapping, Union

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric

from .estimates import Effect
from .limits import Limits
from .numerics import rounded


class Verdict(enum.Enum):
    """The verdict on a wave, or on one check of it. A wave is never skipped."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"


class Unit(enum.Enum):
    """What the numbers of a check are."""

    COUNT = "count"
    SHARE = "share"
    """From 0 to 1."""
    POINTS = "points"
    """A difference of two shares, from -1 to 1."""
    RATIO = "ratio"
    """A multiple of what it was."""
    SECONDS = "seconds"
    BYTES = "bytes"
    CELSIUS = "celsius"
    """A difference of two temperatures, in degrees."""


class Check(enum.Enum):
    """A check, by the name that users read."""

    FAILED_DEVICES = "failed devices"
    COVERAGE = "coverage"
    MEASUREMENTS = "measurements"
    ACCURACY = "accuracy"
    ACCURACY_DROP = "accuracy drop"
    PROBE_ERROR = "probe error"
    ERROR_RATE = "error rate"
    ERROR_RATE_RISE = "error rate rise"
    LIVE_ACCURACY_DROP = "live accuracy drop"
    LATENCY_P50 = "latency p50"
    LATENCY_P95 = "latency p95"
    LATENCY_P95_SECONDS = "latency p95 in seconds"
    PROBE_LATENCY = "probe latency"
    DRIFT = "drift"
    SHADOW_DISAGREEMENT = "shadow disagreement"
    SHADOW_TIME = "shadow time"
    SHADOW_MEMORY = "shadow memory"
    MEMORY = "memory"
    MEMORY_BYTES = "memory in bytes"
    RESTARTS = "restarts"
    ENERGY = "energy per request"
    CLOCK = "sustained clock"
    TEMPERATURE = "temperature"

    @property
    def unit(self) -> Unit:
        """What the estimate, the bounds and the limit of its findings are."""
        return _CHECKS[self].unit

    @property
    def limit(self) -> str | None:
        """The name of the limit that turns it off; None if it is always made."""
        return _CHECKS[self].limit

    def is_made(self, limits: Limits) -> bool:
        """Whether the limits have this check made."""
        return self.limit is None or getattr(limits, self.limit) is not None


@dataclass(frozen=True)
class _Check:
    unit: Unit
    limit: str | None = None


_CHECKS: Mapping[Check, _Check] = {
    Check.FAILED_DEVICES: _Check(Unit.COUNT),
    Check.COVERAGE: _Check(Unit.SHARE),
    Check.MEASUREMENTS: _Check(Unit.COUNT),
    Check.ACCURACY: _Check(Unit.SHARE, "accuracy_min"),
    Check.ACCURACY_DROP: _Check(Unit.POINTS, "accuracy_drop_max"),
    Check.PROBE_ERROR: _Check(Unit.RATIO, "probe_error_ratio_max"),
    Check.ERROR_RATE: _Check(Unit.SHARE, "error_rate_max"),
    Check.ERROR_RATE_RISE: _Check(Unit.POINTS, "error_rate_rise_max"),
    Check.LIVE_ACCURACY_DROP: _Check(Unit.POINTS, "live_accuracy_drop_max"),
    Check.LATENCY_P50: _Check(Unit.RATIO, "latency_ratio_max"),
    Check.LATENCY_P95: _Check(Unit.RATIO, "latency_ratio_max"),
    Check.LATENCY_P95_SECONDS: _Check(Unit.SECONDS, "latency_seconds_max"),
    Check.PROBE_LATENCY: _Check(Unit.RATIO, "latency_ratio_max"),
    Check.DRIFT: _Check(Unit.POINTS, "drift_rise_max"),
    Check.SHADOW_DISAGREEMENT: _Check(Unit.SHARE, "shadow_agreement_min"),
    Check.SHADOW_TIME: _Check(Unit.RATIO, "latency_ratio_max"),
    Check.SHADOW_MEMORY: _Check(Unit.COUNT),
    Check.MEMORY: _Check(Unit.RATIO, "memory_ratio_max"),
    Check.MEMORY_BYTES: _Check(Unit.BYTES, "memory_bytes_max"),
    Check.RESTARTS: _Check(Unit.COUNT, "restarts_max"),
    Check.ENERGY: _Check(Unit.RATIO, "energy_ratio_max"),
    Check.CLOCK: _Check(Unit.RATIO, "clock_ratio_max"),
    Check.TEMPERATURE: _Check(Unit.CELSIUS, "temperature_rise_max"),
}


class Cause(enum.Enum):
    """Why a check is inconclusive or skipped, where its numbers alone do not say it."""

    UNDECIDED = "undecided"
    """A longer soak is expected to decide it, or a device that is silent will be asked again."""
    SUSPICIOUS = "suspicious"
    """Beyond the limit, and not beyond chance."""
    TOO_LITTLE = "too little"
    """Even the longest soak would not decide it."""
    TOO_FEW_REQUESTS = "too few requests"
    """No device has as many requests as a quantile needs, before or now."""
    SMALL_PROBE_SET = "small probe set"
    """Beyond the limit, on so few samples that it may be chance."""
    NO_TRAFFIC = "no traffic"
    NO_TRAFFIC_BUT_CONTROLS = "no traffic, unlike the controls"
    NOT_REPORTED = "not reported"
    """No device reports what the check needs."""
    NO_LABELS = "no labels"
    NO_SHADOW = "no shadow"
    NO_DRIFT_WINDOW = "no drift window"
    NO_COMPARISON = "no comparison"
    """Neither the version before nor a control has enough of it."""
    NO_PROBE_SET = "no probe set"
    NO_SENSOR = "no sensor"
    """The boards have no such sensor."""
    POWER_MODE = "power mode"
    """The boards are in another power mode than before."""
    OTHER_METRIC = "other metric"
    """The probe set has a metric that another check judges."""
    NOT_FINITE = "not finite"
    """The new version answers more questions with no finite number than the version before."""
    FIRST_INSTALLATION = "first installation"
    NOT_COMPARABLE = "not comparable"
    """The version before could not be asked the probe set, such as one whose inputs have other names."""
    NOTHING_ASKED = "nothing asked"
    """No device was asked anything, by a client or by a probe set."""
    CLASS_SILENT = "class silent"
    """No device of this class reported in this wave or an earlier one."""


class Missing(enum.Enum):
    """What a device must report, and did not."""

    PROBE = "probe"
    BASELINE = "baseline"
    REQUESTS = "requests"


@dataclass(frozen=True)
class Bounds:
    """A confidence interval. The true value is below ``lower`` with a probability of at most FALSE_ALARMS over all
    comparisons and analyses of the wave, and above ``upper`` with one of at most MISSES."""

    lower: float
    upper: float


@dataclass(frozen=True)
class ComparedWith:
    """What a change is compared with: the devices' own past, and a number of controls.

    ``events``: on how many of the controls the same happened, where that was counted. ``profile``: with neither, but
    with what the profile of the device class says.
    """

    past: bool = False
    controls: int = 0
    events: int | None = None
    profile: bool = False


@dataclass(frozen=True)
class DeviceNote:
    """A device that a finding names, and what there is to say of it."""

    name: str
    outcome: str | None = None
    count: int | None = None
    missing: Missing | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """The result of one check in one device class, or over all of them (``device_class`` is None).

    ``estimate``, ``bounds`` and ``limit`` are in ``check.unit``; ``baseline`` is what the version before had.
    ``samples`` is how many requests, labels, rows or devices were judged, and ``events`` how many of them were harmful.
    ``devices``: on how many devices. ``named`` are the first of the ``named_total`` devices that the finding is about.
    ``threshold``: the limit of one device, where ``limit`` is a number of devices. ``metric``: what the probe set
    measures, an accuracy by the ``top`` best classes; ``improved``: how many samples became right.
    """

    check: Check
    verdict: Verdict
    cause: Cause | None = None
    device_class: str | None = None
    estimate: float | None = None
    bounds: Bounds | None = None
    limit: float | None = None
    threshold: float | None = None
    baseline: float | None = None
    samples: int = 0
    events: int | None = None
    devices: int | None = None
    compared_with: ComparedWith | None = None
    named: tuple[DeviceNote, ...] = ()
    named_total: int = 0
    metric: Metric | None = None
    top: int = 1
    improved: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON has it."""
        return {
            "check": self.check.value,
            "verdict": self.verdict.value,
            "cause": self.cause.value if self.cause else None,
            "unit": self.check.unit.value,
            "device_class": self.device_class,
            "estimate": self.estimate,
            "bounds": vars(self.bounds).copy() if self.bounds else None,
            "limit": self.limit,
            "threshold": self.threshold,
            "baseline": self.baseline,
            "samples": self.samples,
            "events": self.events,
            "devices": self.devices,
            "compared_with": vars(self.compared_with).copy() if self.compared_with else None,
            "named": [
                {
                    **vars(note),
                    "missing": note.missing.value if note.missing else None,
                    "problems": list(note.problems),
                }
                for note in self.named
            ],
            "named_total": self.named_total,
            "metric": self.metric.value if self.metric else None,
            "top": self.top,
            "improved": self.improved,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Finding:
        """Read a finding from JSON. Raises ValueError, TypeError, KeyError or AttributeError for what is none."""
        values = {name: value for name, value in document.items() if name not in ("unit", "reason")}
        bounds, compared_with, cause = values.get("bounds"), values.get("compared_with"), values.get("cause")
        named = tuple(
            DeviceNote(
                **{
                    **note,
                    "missing": Missing(note["missing"]) if note.get("missing") else None,
                    "problems": tuple(note.get("problems") or ()),
                }
            )
            for note in values.get("named") or ()
        )
        finding = cls(
            **{
                **values,
                "check": Check(values["check"]),
                "verdict": Verdict(values["verdict"]),
                "cause": Cause(cause) if cause else None,
                "bounds": Bounds(**bounds) if bounds else None,
                "compared_with": ComparedWith(**compared_with) if compared_with else None,
                "named": named,
                "metric": Metric(values["metric"]) if values.get("metric") else None,
            }
        )
        return finding._checked()

    def _checked(self) -> Finding:
        """Return the finding itself. Raises ValueError if one of its numbers is not finite."""
        numbers = [self.estimate, self.limit, self.baseline, self.samples]
        numbers += [self.bounds.lower, self.bounds.upper] if self.bounds else []
        if not all(math.isfinite(number) for number in numbers if number is not None):
            raise ValueError(f"{self.check.value}: expected finite numbers; found {numbers}")
        return self


@dataclass(frozen=True)
class ErrorProbabilities:
    """The probabilities of error that one comparison has at one analysis.

    ``alpha`` is that of a false alarm, ``suspicion`` that of a pause without a reason, ``beta`` that of a miss.
    ``narrowing`` is the factor by which an interval narrows until the last analysis if data keeps coming in; it is 1
    at the last analysis.
    """

    alpha: float
    suspicion: float
    beta: float
    narrowing: float


# Temperatures are judged in steps of so many degrees: so what is assumed of ratios, that devices of a class differ by
# 10%, is 2 degrees of them.
DEGREES = 20.0
_LOG_RANGE = (math.log(1e-6), math.log(1e6))


@dataclass(frozen=True)
class Comparison:
    """An effect with its limit, which becomes a finding once the probabilities of error are known.

    It fails if the estimate is beyond ``limit`` and the effect is certainly beyond ``floor``. It passes if the estimate
    is within ``limit`` and the effect is certainly below ``ceiling``. ``logarithmic``: the effect and the three numbers
    are logarithms of what people read.
    """

    check: Check
    effect: Effect
    limit: float
    floor: float
    ceiling: float
    samples: int
    device_class: str | None = None
    events: int | None = None
    devices: int | None = None
    baseline: float | None = None
    compared_with: ComparedWith | None = None
    logarithmic: bool = False

    def finding(self, errors: ErrorProbabilities) -> Finding:
        """Judge the effect at one analysis."""
        value, lower, upper = self.effect.value, self.effect.lower(errors.alpha), self.effect.upper(errors.beta)
        verdict, cause = Verdict.PASS, None
        if value > self.limit and lower > self.floor:
            verdict = Verdict.FAIL
        elif value > self.limit or upper >= self.ceiling:
            cause = self._cause(value, upper, errors)
            verdict = Verdict.SKIPPED if cause is Cause.TOO_LITTLE else Verdict.INCONCLUSIVE
        return Finding(
            check=self.check,
            verdict=verdict,
            cause=cause,
            device_class=self.device_class,
            estimate=self._shown(value),
            bounds=Bounds(self._shown(lower), self._shown(upper)),
            limit=self._shown(self.limit),
            baseline=None if self.baseline is None else rounded(self.baseline),
            samples=self.samples,
            events=self.events,
            devices=self.devices,
            compared_with=self.compared_with,
        )

    def _cause(self, value: float, upper: float, errors: ErrorProbabilities) -> Cause:
        """Why the effect is not decided."""
        last_reach = (upper - value) * errors.narrowing
        decides = last_reach <= max(self.ceiling - self.limit, self.limit - self.floor)
        if errors.narrowing < 1 and (decides if value > self.limit else value + last_reach < self.ceiling):
            return Cause.UNDECIDED
        if value > self.limit and (decides or self.effect.lower(errors.suspicion) > self.floor):
            return Cause.SUSPICIOUS
        return Cause.TOO_LITTLE

    def _shown(self, value: float) -> float:
        if self.logarithmic:
            return rounded(math.exp(min(max(value, _LOG_RANGE[0]), _LOG_RANGE[1])))
        if self.check.unit is Unit.CELSIUS:
            return rounded(value * DEGREES)
        least = -1.0 if self.check.unit is Unit.POINTS else 0.0
        return rounded(min(max(value, least), 1.0))


Result = Union[Comparison, Finding]
