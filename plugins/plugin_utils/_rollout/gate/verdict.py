# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The gate: what a wave's devices measured, beside what the version before did and what devices that still have it do
meanwhile, gives a verdict with its reasons. Pure; runs on the controller.

What is compared. Each device with its own past, and the change with that of the controls (difference in differences:
Card and Krueger, Minimum wages and employment, American Economic Review 84(4), 1994), in each device class and over all
device_classes. Where there is no past, with the controls; where there are no controls, with the past alone.

When a check fails: the estimate is beyond its limit, and that there is any harm is certain. When it passes: the
estimate is within its limit, and harm of twice the limit is out of the question. The two errors are bounded apart:

- A release that does no harm fails with a probability of at most FALSE_ALARMS: each comparison, in each class, at
  each of the ``analyses_max`` analyses, has its equal part of it (Bonferroni), so that it does not matter how often a
  wave is analysed (Pocock, Group sequential methods in the design and analysis of clinical trials, Biometrika 64, 1977; Lan and DeMets,
  Discrete sequential boundaries for clinical trials, Biometrika 70, 1983: here the error is spent evenly).
- A release that does harm of twice a limit passes with a probability of at most MISSES, likewise spent over the
  analyses. All checks must pass, so that these need no correction for their number (Berger, Multiparameter hypothesis
  testing and acceptance sampling, Technometrics 24, 1982).

Shares of events have exact limits (see ``_interval``), widened by as much as the devices differ more than counts do.
For times and memory the device is the unit: the logarithm of its ratio, trimmed means of those, and a variance that
few devices borrow from all (Smyth, Linear models and empirical Bayes methods, Statistical Applications in Genetics
and Molecular Biology 3(1), 2004).
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping, Sequence, Union

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import (
    AWAY,
    FAILED,
    FAILED_BEFORE,
    ON_NEW_VERSION,
    REFUSED,
    SILENT,
    outcome,
)

from .estimates import MeanEffect, Share, ShareEffect, Trimmed, dispersion, trimmed
from .observations import Labels, Measured, Probe, Reader, Requests, Shadow

PASS = "pass"
FAIL = "fail"
INCONCLUSIVE = "inconclusive"
# Of a check only: there was nothing to judge, or too little. The reason says which.
SKIPPED = "skipped"

BAD = (REFUSED, FAILED, FAILED_BEFORE, SILENT)

FALSE_ALARMS = 0.01
MISSES = 0.05
# A suspicion pauses where a certainty fails.
SUSPICIONS = 0.05

# The standard deviation between devices of one kind of the logarithm of how their latency or memory changes by
# itself, before any was seen, and how many degrees of freedom that assumption is worth. Fleets that vary more soon
# outweigh it.
USUAL_DEVIATION = 0.1
USUAL_FREEDOM = 4
# The same between devices that are compared without their past.
USUAL_DIFFERENCE = 0.3
# What the hour's load does to the latency of all devices at once. Only controls tell it from what the version does.
USUAL_LOAD = 0.2
# Degrees of freedom of the assumption that counts vary between devices as chance has it.
DISPERSION_FREEDOM = 10
# Requests that a quantile needs on a device, in either stretch of time.
QUANTILES = {"p50": (0.5, 20), "p95": (0.95, 100)}
NAMES_MAX = 10

Estimate = Union[ShareEffect, MeanEffect]

NOTHING = Measured()


class LimitError(ValueError):
    """A limit that cannot be one."""


@dataclass(frozen=True)
class Limits:
    """What the gate allows. None turns a limit off. Shares and accuracies are from 0 to 1; a rise or drop is in points
    (0.02: two percentage points).

    ``max_failures``: devices that refused, failed, fell silent, restarted too often or answered the probe set wrongly;
    a count, or a percentage such as ``5%``. ``reporting_share_min``: share of the devices that must have reported.
    ``accuracy_drop_max``
    and ``accuracy_min``: on the release's probe set. ``live_accuracy_drop_max``: by the labels that came back.
    ``error_rate_max`` and ``error_rate_rise_max``: requests answered with a status of 500 or above.
    ``latency_ratio_max``: median and 95th percentile, in multiples of what they were. ``latency_seconds_max``: the
    95th percentile. ``drift_rise_max``: share of devices with a drift alarm, above that of the controls.
    ``shadow_agreement_min``: answers of the candidate that agreed. ``memory_ratio_max``, ``memory_bytes_max``:
    resident memory of the server.
    ``restarts_max``: of the server, on one device. ``strict``: what is too little to judge is inconclusive, not
    skipped.
    """

    max_failures: int | str = 0
    reporting_share_min: float = 0.5
    accuracy_drop_max: float | None = 0.02
    accuracy_min: float | None = None
    live_accuracy_drop_max: float | None = 0.01
    error_rate_max: float | None = 0.05
    error_rate_rise_max: float | None = 0.004
    latency_ratio_max: float | None = 1.1
    latency_seconds_max: float | None = None
    drift_rise_max: float | None = 0.2
    shadow_agreement_min: float | None = 0.8
    memory_ratio_max: float | None = 1.5
    memory_bytes_max: int | None = None
    restarts_max: int | None = 2
    strict: bool = False

    def __post_init__(self) -> None:
        """Raise LimitError for a limit that is out of its range."""
        self.failures_allowed(0)
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name != "reporting_share_min":
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not least <= value <= most:
                raise LimitError(f"{name}: expected a number from {least:g} to {most:g}; found {value!r}")

    def failures_allowed(self, devices: int) -> int:
        """How many of a wave's ``devices`` may fail."""
        text = str(self.max_failures).strip()
        match = re.fullmatch(r"(\d{1,9})|(\d{1,3}(?:\.\d{1,9})?)\s*%", text)
        if not match or isinstance(self.max_failures, bool) or float(match[2] or 0) > 100:
            raise LimitError(
                f"max_failures: expected a count or a percentage, such as 2 or 5%; found {self.max_failures!r}"
            )
        # Rounded, so that 10% of 30 is 3 also where binary fractions are not exact.
        return int(match[1]) if match[1] else int(round(devices * float(match[2]) / 100, 9))


_RANGES = {
    "reporting_share_min": (0.0, 1.0),
    "accuracy_drop_max": (-1.0, 1.0),
    "accuracy_min": (0.0, 1.0),
    "live_accuracy_drop_max": (0.0, 1.0),
    "error_rate_max": (0.0, 1.0),
    "error_rate_rise_max": (0.0, 1.0),
    "latency_ratio_max": (1.0, 1e6),
    "latency_seconds_max": (0.0, 1e6),
    "drift_rise_max": (0.0, 1.0),
    "shadow_agreement_min": (0.0, 1.0),
    "memory_ratio_max": (1.0, 1e6),
    "memory_bytes_max": (0, 1e15),
    "restarts_max": (0, 1e6),
}


@dataclass(frozen=True)
class Report:
    """What is known of one device of the wave: its ``outcome`` and, where it reported, what was measured.

    ``first``: the version replaced none. ``now`` is the new version since it became active, ``past`` the version
    before until then; their ``probe`` is over the same questions. ``broken`` tells what was not what it must be.
    ``asked``: the release has a probe set, and the device was to answer it.
    """

    name: str
    device_class: str
    outcome: str
    first: bool = False
    now: Measured = NOTHING
    past: Measured = NOTHING
    broken: tuple[str, ...] = ()
    asked: bool = True


@dataclass(frozen=True)
class Control:
    """A device that keeps the old version: ``now`` is what was measured during the soak, ``past`` until then."""

    name: str
    device_class: str
    now: Measured
    past: Measured


@dataclass(frozen=True)
class Finding:
    """One check, in one device class or (None) over all: its own verdict, and why, in words and numbers.

    ``value`` is the estimate and ``interval`` what it may be as well: below its lower end with a probability of at most
    FALSE_ALARMS and above its upper end of at most MISSES, over everything that is looked at. ``baseline`` is what
    the version before had, ``samples`` how many requests, labels, rows or devices were judged.
    """

    check: str
    verdict: str
    reason: str
    device_class: str | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    limit: float | None = None
    baseline: float | None = None
    samples: int = 0


@dataclass(frozen=True)
class Levels:
    """The probabilities of error that one comparison at one analysis has."""

    alarm: float
    suspicion: float
    miss: float
    left: float
    """By how much an interval narrows until the last analysis, if what is counted keeps coming in."""


@dataclass(frozen=True)
class Comparison:
    """An effect and what becomes of it: harm beyond ``floor`` must be certain for a fail, ``ceiling`` out of the
    question for a pass. ``shown`` gives the numbers that a person reads from the effect's own."""

    check: str
    device_class: str | None
    effect: Estimate
    limit: float
    floor: float
    ceiling: float
    words: str
    samples: int
    shown: Callable[[float], float] = float
    form: str = "{:+.4f}"
    baseline: float | None = None
    ends: tuple[float, float] = (-math.inf, math.inf)

    def finding(self, levels: Levels, strict: bool) -> Finding:
        """Judge it at one analysis."""
        value, lower, upper = self.effect.value, self.effect.lower(levels.alarm), self.effect.upper(levels.miss)
        verdict, why = PASS, ""
        if value > self.limit and lower > self.floor:
            verdict = FAIL
        elif value > self.limit or upper >= self.ceiling:
            verdict, why = self._undecided(value, upper, levels, strict)
        numbers = [min(max(end, self.ends[0]), self.ends[1]) for end in (lower, upper)]
        shown = [self.form.format(self.shown(number)) for number in (value, *numbers, self.limit)]
        reason = f"{why}{self.words}: {shown[0]} [{shown[1]}, {shown[2]}] (at most {shown[3]})"
        return Finding(
            check=self.check,
            verdict=verdict,
            reason=reason,
            device_class=self.device_class,
            value=_round(self.shown(value)),
            interval=(_round(self.shown(numbers[0])), _round(self.shown(numbers[1]))),
            limit=_round(self.shown(self.limit)),
            baseline=None if self.baseline is None else _round(self.baseline),
            samples=self.samples,
        )

    def _undecided(self, value: float, upper: float, levels: Levels, strict: bool) -> tuple[str, str]:
        reach = (upper - value) * levels.left
        tells = reach <= max(self.ceiling - self.limit, self.limit - self.floor)
        if levels.left < 1 and (tells if value > self.limit else value + reach < self.ceiling):
            return INCONCLUSIVE, "not certain yet: "
        if value > self.limit and (tells or self.effect.lower(levels.suspicion) > self.floor):
            return INCONCLUSIVE, "suspicious, and not certain: "
        return (INCONCLUSIVE if strict else SKIPPED), "too little to judge by: "


def report(name: str, device_class: str, swap: Any, read: Any) -> Report:
    """Build a device's Report from the results of ``model_swap`` and ``model_info``, whatever they are."""
    swap, read = _mapping(swap), _mapping(read)
    result = outcome(swap, read)
    if result not in ON_NEW_VERSION:
        return Report(name, device_class, result)
    model, reader = read["model"], Reader()
    baseline, probe = model.get("baseline"), model.get("probe")
    past = reader.measured(model.get("past"), baseline, "past ")
    now = reader.measured(model, probe)
    for what, document, version in (("probe", probe, swap["version"]), ("baseline", baseline, model.get("replaced"))):
        answered = _mapping(document).get("version", version)
        if answered != version:
            reader.broken.append(f"{what}: expected answers of {version}; found those of {str(answered)[:50]}")
    return Report(
        name=name,
        device_class=device_class,
        outcome=result,
        first=model.get("replaced") is None,
        now=now,
        past=past,
        broken=tuple(reader.broken),
        asked="probe" not in model or probe is not None,
    )


def control(name: str, document: Any, version: str | None) -> Control | None:
    """Build a Control from its device class and what it said before and after the soak; None where it cannot be one: it
    did not answer, changed its version meanwhile, has the new one, or told what cannot be."""
    entry = _mapping(document)
    reads = [_mapping(entry.get(name)) for name in ("before", "after")]
    if any(read.get("failed") or read.get("unreachable") for read in reads):
        return None
    before, after = (_mapping(read.get("model")) for read in reads)
    live = after.get("live")
    if not isinstance(live, str) or live != before.get("live") or live == version:
        return None
    reader = Reader()
    past = reader.measured(before, before.get("probe"))
    now = reader.measured(after, after.get("probe"))
    return None if reader.broken else Control(name, str(entry.get("device_class")), now.since(past), past)


def judge(
    reports: Iterable[Report],
    controls: Iterable[Control] = (),
    limits: Limits = Limits(),
    analysis: int = 1,
    analyses_max: int = 1,
    earlier: Sequence[Report] = (),
) -> tuple[str, list[Finding]]:
    """Return the verdict over a wave and the findings that led to it. Fail wins over inconclusive, that over pass.

    ``earlier``: the devices of the rollout's waves before, whose failures count with this one's.
    ``analysis`` counts from 1 to ``analyses_max``, fixed before the first. The same data in another order give
    the same.
    """
    wave = sorted(reports, key=lambda item: item.name)
    beside = sorted(controls, key=lambda item: item.name)
    serving = [item for item in wave if item.outcome in ON_NEW_VERSION]
    last = max(analysis, analyses_max, 1)
    findings = [_failures(wave, earlier, limits), *_coverage(wave, serving, earlier, limits)]
    if serving:
        gate = _Gate(serving, beside, limits)
        comparisons = gate.comparisons()
        count = max(len(comparisons) + len(gate.device_classes), 1)
        levels = Levels(
            FALSE_ALARMS / (last * count),
            SUSPICIONS / (last * count),
            MISSES / last,
            math.sqrt(max(analysis, 1) / last),
        )
        findings += gate.measurements() + gate.golden(levels, limits.failures_allowed(len(wave)))
        findings += [comparison.finding(levels, limits.strict) for comparison in comparisons]
        findings += gate.levels(limits.failures_allowed(len(wave))) + gate.skipped
    verdicts = [finding.verdict for finding in findings]
    verdict = FAIL if FAIL in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS
    return verdict, findings


def reasons(findings: Iterable[Finding]) -> list[str]:
    """One line for each check that did not pass, and one for each that did: over all, where it was judged so."""
    lines, told = [], set()
    ordered = sorted(findings, key=lambda item: (_ORDER.index(item.verdict), item.device_class is not None))
    for finding in ordered:
        place = f" in {finding.device_class}" if finding.device_class is not None else ""
        quiet = finding.verdict in (PASS, SKIPPED)
        if not quiet or finding.check not in told:
            lines.append(f"{finding.verdict}: {finding.check}{place}: {finding.reason}")
        told.add(finding.check)
    return lines


_ORDER = (FAIL, INCONCLUSIVE, PASS, SKIPPED)


def _failures(wave: Sequence[Report], earlier: Sequence[Report], limits: Limits) -> Finding:
    """Over all waves so far: what each of them may bear would otherwise add up to any number."""
    begun = [*wave, *earlier]
    bad = [item for item in begun if item.outcome in BAD]
    allowed = limits.failures_allowed(len(begun))
    named = ": " + ", ".join(f"{item.name} {item.outcome}" for item in bad[:NAMES_MAX]) if bad else ""
    so_far = " so far" if earlier else ""
    reason = f"{len(bad)} of {len(begun)} devices{so_far} refused, failed or fell silent (at most {allowed}){named}"
    verdict = PASS if len(bad) <= allowed else FAIL
    return Finding("failed devices", verdict, reason, value=len(bad), limit=allowed, samples=len(begun))


def _coverage(
    wave: Sequence[Report], serving: Sequence[Report], earlier: Sequence[Report], limits: Limits
) -> list[Finding]:
    share = len(serving) / len(wave) if wave else 0.0
    enough = bool(serving) and share >= limits.reporting_share_min
    reason = f"{len(serving)} of {len(wave)} devices reported ({share:.0%}, at least {limits.reporting_share_min:.0%})"
    verdict = PASS if enough else INCONCLUSIVE
    findings = [
        Finding("coverage", verdict, reason, value=_round(share), limit=limits.reporting_share_min, samples=len(wave))
    ]
    if serving and limits.reporting_share_min > 0:
        heard = {item.device_class for item in (*wave, *earlier) if item.outcome not in (AWAY, SILENT)}
        for device_class in sorted({item.device_class for item in wave} - heard):
            silent = sum(item.device_class == device_class for item in wave)
            reason = f"none of its {silent} devices reported, so that nothing is known of this kind"
            findings.append(
                Finding(
                    "coverage", INCONCLUSIVE, reason, device_class, 0.0, None, limits.reporting_share_min, None, silent
                )
            )
    return findings


class _Gate:
    """The checks of what was measured. ``skipped`` gathers those that there was nothing for."""

    def __init__(self, serving: Sequence[Report], controls: Sequence[Control], limits: Limits) -> None:
        self.serving = serving
        self.limits = limits
        self.skipped: list[Finding] = []
        self.device_classes = sorted({item.device_class for item in serving})
        self.wave = {name: [item for item in serving if item.device_class == name] for name in self.device_classes}
        self.beside = {name: [item for item in controls if item.device_class == name] for name in self.device_classes}

    # ---- what was told at all ----

    def measurements(self) -> list[Finding]:
        """Whether every device told what it must, and what it told can be."""
        wrong = [f"{item.name}: {'; '.join(item.broken[:3])}" for item in self.serving if item.broken]
        if self.limits.accuracy_drop_max is not None or self.limits.accuracy_min is not None:
            asked = any(item.asked for item in self.serving)
            wrong += [
                f"{item.name}: no probe" for item in self.serving if asked and not item.now.probe and not item.broken
            ]
            wrong += [
                f"{item.name}: no probe of the version before"
                for item in self.serving
                if item.now.probe and not item.first and not item.past.probe and not item.broken
                if self.limits.accuracy_drop_max is not None
            ]
        counts = self.limits.error_rate_max is not None or self.limits.error_rate_rise_max is not None
        if counts and any(item.now.requests or item.past.requests for item in self.serving):
            wrong += [
                f"{item.name}: no requests counted"
                for item in self.serving
                if not item.now.requests and not item.broken
            ]
        if wrong:
            more = f" and {len(wrong) - NAMES_MAX} more" if len(wrong) > NAMES_MAX else ""
            return [Finding("measurements", INCONCLUSIVE, f"missing or broken: {', '.join(wrong[:NAMES_MAX])}{more}")]
        known = [item for item in self.serving if item.now.probe or (item.now.requests and item.now.requests.requests)]
        if not known and self._anything_asked:
            reason = "no device was asked anything: no live traffic, and the release has no probe set"
            return [Finding("measurements", INCONCLUSIVE, reason)]
        return [
            Finding("measurements", PASS, f"all {len(self.serving)} devices told theirs", samples=len(self.serving))
        ]

    @property
    def _anything_asked(self) -> bool:
        """Whether any limit is on that behaviour is judged by."""
        limits = self.limits
        return any(
            value is not None
            for value in (
                limits.accuracy_drop_max,
                limits.accuracy_min,
                limits.live_accuracy_drop_max,
                limits.error_rate_max,
                limits.error_rate_rise_max,
                limits.latency_ratio_max,
                limits.latency_seconds_max,
            )
        )

    # ---- the probe set ----

    def golden(self, levels: Levels, allowed: int) -> list[Finding]:
        """The answers to the release's probe set. All devices have the same questions, so more devices are not more
        samples."""
        findings = []
        for device_class in self.device_classes:
            known = [item for item in self.wave[device_class] if item.now.probe]
            least = self.limits.accuracy_min
            if known and least is not None:
                accuracy, samples = _accuracy(item.now.probe for item in known)
                verdict = PASS if accuracy >= least else FAIL
                reason = f"{accuracy:.4f} of {samples} samples (at least {least:.4f})"
                findings.append(
                    Finding("accuracy", verdict, reason, device_class, _round(accuracy), None, least, samples=samples)
                )
            pairs = [item for item in known if item.past.probe]
            if pairs and self.limits.accuracy_drop_max is not None:
                findings.append(self._golden_drop(device_class, pairs, levels, allowed))
        if not findings and self.limits.accuracy_drop_max is not None:
            first = all(item.first for item in self.serving)
            reason = "a first installation: there is no version before" if first else "the release has no probe set"
            findings.append(Finding("accuracy drop", SKIPPED, reason))
        return findings

    def _golden_drop(self, device_class: str, pairs: Sequence[Report], levels: Levels, allowed: int) -> Finding:
        most = self.limits.accuracy_drop_max or 0.0
        before, samples = _accuracy(item.past.probe for item in pairs)
        after, _samples = _accuracy(item.now.probe for item in pairs)
        effect = _probe_effect(before, after, samples)
        drop, lower = _round(effect.value), effect.lower(levels.alarm)
        bad = [item.name for item in pairs if _is_worse(item, most, levels.alarm)]
        verdict = PASS if drop <= most else FAIL if lower > 0 else INCONCLUSIVE
        words = f"{drop:.4f} lost (from {before:.4f} to {after:.4f}; at most {most:.4f}) of {samples} samples"
        if verdict == INCONCLUSIVE:
            words = f"beyond the limit, and by so few samples it may be chance: {words}"
        if bad:
            verdict = FAIL if len(bad) > allowed else verdict
            words += f"; {len(bad)} of {len(pairs)} devices answer wrongly: {', '.join(bad[:NAMES_MAX])}"
        return Finding(
            check="accuracy drop",
            verdict=verdict,
            reason=words,
            device_class=device_class,
            value=drop,
            interval=(_round(max(lower, -1.0)), _round(min(effect.upper(levels.miss), 1.0))),
            limit=most,
            baseline=_round(before),
            samples=samples,
        )

    # ---- what is compared ----

    def comparisons(self) -> list[Comparison]:
        """All effects of the wave that have a limit and something to be told by."""
        return [
            *self._error_rate(),
            *self._live_accuracy(),
            *self._latency(),
            *self._probe_latency(),
            *self._drift(),
            *self._shadow(),
            *self._memory(),
        ]

    def _skip(self, check: str, reason: str, verdict: str = SKIPPED) -> None:
        self.skipped.append(Finding(check, verdict, reason))

    def _error_rate(self) -> list[Comparison]:
        limits = self.limits
        if limits.error_rate_max is None and limits.error_rate_rise_max is None:
            return []
        counts = _Counts(self, _errors)
        if not counts.total:
            meanwhile = sum(pair[1] for pair in counts.meanwhile())
            if not any(item.now.requests for item in self.serving):
                self._skip("error rate", "the server counts no requests")
            elif meanwhile >= QUANTILES["p95"][1]:
                self._skip("error rate", f"no requests, while the controls had {meanwhile:.0f}", INCONCLUSIVE)
            else:
                self._skip("error rate", "no live traffic: the probe set alone judges")
            return []
        found = counts.levels("error rate", limits.error_rate_max, "{} of {} requests failed")
        return found + counts.changes("error rate rise", limits.error_rate_rise_max, "{} of {} requests failed")

    def _live_accuracy(self) -> list[Comparison]:
        if self.limits.live_accuracy_drop_max is None:
            return []
        counts = _Counts(self, _wrong_labels)
        if not counts.total:
            self._skip("live accuracy drop", "no labels came back")
        return counts.changes(
            "live accuracy drop", self.limits.live_accuracy_drop_max, "{} of {} predictions were wrong"
        )

    def _shadow(self) -> list[Comparison]:
        least = self.limits.shadow_agreement_min
        if least is None:
            return []
        counts = _Counts(self, _disagreements)
        if not counts.total:
            self._skip("shadow disagreement", "no shadow ran")
        words = "{} of {} copies were answered otherwise than by the active version"
        return counts.levels("shadow disagreement", _round(1 - least), words)

    def _drift(self) -> list[Comparison]:
        if self.limits.drift_rise_max is None:
            return []
        # The share of devices is too coarse for a difference of differences.
        alone = not any(_drifted(item.now)[1] for items in self.beside.values() for item in items)
        counts = _Counts(self, _drifted, uses_past=alone)
        if not counts.total:
            self._skip("drift", "no window of requests was compared with the release's reference")
        return counts.changes("drift", self.limits.drift_rise_max, "{} of {} devices have a drift alarm")

    def _latency(self) -> list[Comparison]:
        found: list[Comparison] = []
        limits = self.limits
        for name, (share, least) in QUANTILES.items():
            measure = _quantile_of(share, least)
            if limits.latency_ratio_max is not None:
                times = _Ratios(self, measure, USUAL_LOAD)
                found += times.comparisons(f"latency {name}", limits.latency_ratio_max, "times what it was")
                if not found:
                    self._skip(f"latency {name}", f"fewer than {least} requests on each device, before or now")
            if name == "p95" and limits.latency_seconds_max:
                seconds = _Ratios(self, measure, USUAL_LOAD)
                found += seconds.against("latency p95 in seconds", limits.latency_seconds_max)
        return found

    def _probe_latency(self) -> list[Comparison]:
        if self.limits.latency_ratio_max is None:
            return []
        times = _Ratios(self, _probe_time, USUAL_LOAD)
        return times.comparisons("probe latency", self.limits.latency_ratio_max, "times what it was")

    def _memory(self) -> list[Comparison]:
        if self.limits.memory_ratio_max is None:
            return []
        found = _Ratios(self, _memory, 0.0).comparisons("memory", self.limits.memory_ratio_max, "times what it was")
        if not found:
            self._skip("memory", "not told, or not for the version before")
        return found

    # ---- what is simply counted ----

    def levels(self, allowed: int) -> list[Finding]:
        """Restarts, and memory against its absolute limit: each device by itself."""
        findings = []
        if self.limits.restarts_max is not None:
            most = self.limits.restarts_max
            told = [item for item in self.serving if item.now.restarts is not None]
            bad = [item for item in told if (item.now.restarts or 0) > most]
            beside = [item for items in self.beside.values() for item in items if item.now.restarts is not None]
            others = sum((item.now.restarts or 0) - (item.past.restarts or 0) > most for item in beside)
            named = "".join(f", {item.name} {item.now.restarts} times" for item in bad[:NAMES_MAX])
            reason = f"{len(bad)} of {len(told)} devices restarted the server more than {most} times{named}"
            # Where as many of the others do, it is the power or the machine, not the version.
            alike = bool(others) and others * len(told) >= len(bad) * len(beside)
            if alike:
                reason += f"; so did {others} of {len(beside)} controls"
            verdict = SKIPPED if not told else FAIL if len(bad) > allowed and not alike else PASS
            findings.append(Finding("restarts", verdict, reason, value=len(bad), limit=allowed, samples=len(told)))
        if self.limits.memory_bytes_max is not None:
            most = self.limits.memory_bytes_max
            sizes = {item.name: item.now.resident_bytes for item in self.serving if item.now.resident_bytes is not None}
            worst = max(sizes.values(), default=0)
            names = [name for name, size in sizes.items() if size > most]
            reason = f"at most {worst} bytes on {len(sizes)} devices (at most {most}){': ' if names else ''}"
            reason += ", ".join(names[:NAMES_MAX])
            unknown = len(sizes) < len(self.serving)
            verdict = FAIL if len(names) > allowed else INCONCLUSIVE if unknown else PASS
            findings.append(Finding("memory in bytes", verdict, reason, value=worst, limit=most, samples=len(sizes)))
        return findings


class _Counts:
    """Events, wrong ones and all, of the wave and of its controls, now and in the past; by device class."""

    def __init__(
        self, gate: _Gate, count: Callable[[Measured], tuple[float, float]], *, uses_past: bool = True
    ) -> None:
        self.gate = gate
        self.count = count
        self.uses_past = uses_past
        self.now = {name: [count(item.now) for item in gate.wave[name]] for name in gate.device_classes}
        self.total = math.fsum(total for pairs in self.now.values() for _wrong, total in pairs)
        # Apart, because a version that does harm does it on some devices more than on others.
        self.factor = self._dispersion(gate.wave)
        self.factor_beside = self._dispersion(gate.beside)

    def meanwhile(self) -> list[tuple[float, float]]:
        """The controls' events during the soak."""
        return [self.count(item.now) for items in self.gate.beside.values() for item in items]

    def levels(self, check: str, limit: float | None, words: str) -> list[Comparison]:
        """Each device_class, and all, against an absolute limit."""
        if limit is None or not self.total:
            return []
        known = [name for name, pairs in self.now.items() if sum(total for _wrong, total in pairs)]
        groups: list[tuple[str | None, list[str]]] = [(name, [name]) for name in known]
        if len(known) > 1:
            groups.append((None, known))
        found = []
        for device_class, names in groups:
            wrong, total = (math.fsum(pair[side] for name in names for pair in self.now[name]) for side in (0, 1))
            effect = ShareEffect((Share(1.0, wrong / self.factor, total / self.factor),))
            # A version that is no worse than the one before it is not refused for what that one did as well.
            most = max([limit, *(self._usual(name) for name in names)])
            text = words.format(int(wrong), int(total))
            found.append(
                Comparison(
                    check, device_class, effect, most, most, most, text, int(total), form="{:.2%}", ends=(0.0, 1.0)
                )
            )
        return found

    def changes(self, check: str, limit: float | None, words: str) -> list[Comparison]:
        """Each device_class, and all, against the past and the controls."""
        if limit is None or not self.total:
            return []
        effects: dict[str, tuple[ShareEffect, float, str, float]] = {}
        for name in self.gate.device_classes:
            found = self._change(name)
            if found is not None:
                effects[name] = found
        if not effects:
            self.gate.skipped.append(Finding(check, SKIPPED, "there is nothing to compare with"))
            return []
        comparisons = [
            self._comparison(check, name, effect, limit, words, total, beside, usual)
            for name, (effect, total, beside, usual) in effects.items()
        ]
        if len(effects) > 1:
            total = math.fsum(found[1] for found in effects.values())
            shares = [
                dataclasses.replace(share, weight=share.weight * found[1] / total)
                for found in effects.values()
                for share in found[0].shares
            ]
            usual = math.fsum(found[3] * found[1] for found in effects.values()) / total
            beside = (
                "its past and the controls" if any("controls" in found[2] for found in effects.values()) else "its past"
            )
            comparisons.append(
                self._comparison(check, None, ShareEffect(tuple(shares)), limit, words, total, beside, usual)
            )
        return comparisons

    def _comparison(
        self,
        check: str,
        device_class: str | None,
        effect: ShareEffect,
        limit: float,
        words: str,
        total: float,
        beside: str,
        usual: float,
    ) -> Comparison:
        device_classes = self.gate.device_classes if device_class is None else [device_class]
        wrong = math.fsum(pair[0] for name in device_classes for pair in self.now[name])
        text = f"{words.format(int(wrong), int(total))}, {usual:.2%} did before; beside {beside}, a change of"
        return Comparison(
            check,
            device_class,
            effect,
            limit,
            0.0,
            2 * limit,
            text,
            int(total),
            form="{:+.2%}",
            baseline=usual,
            ends=(-1.0, 1.0),
        )

    def _change(self, name: str) -> tuple[ShareEffect, float, str, float] | None:
        wave = [(self.count(item.now), self._past(item)) for item in self.gate.wave[name]]
        beside = [(self.count(item.now), self._past(item)) for item in self.gate.beside[name]]
        now, past = self._standard(wave)
        if now is None:
            return None
        others, others_past = self._standard(beside)
        if past is not None and others is not None and others_past is not None:
            shares = [(1.0, now), (-1.0, past)]
            shares_beside = [(-1.0, others), (1.0, others_past)]
            text, usual = f"its past and {len(beside)} controls", past[0] / past[1]
        elif past is not None:
            shares, shares_beside, text, usual = [(1.0, now), (-1.0, past)], [], "its past", past[0] / past[1]
        elif others is not None:
            shares, shares_beside = [(1.0, now)], [(-1.0, others)]
            text, usual = f"{len(beside)} controls", others[0] / others[1]
        else:
            return None
        found = [
            Share(weight, wrong / factor, total / factor)
            for factor, group in ((self.factor, shares), (self.factor_beside, shares_beside))
            for weight, (wrong, total) in group
        ]
        return ShareEffect(tuple(found)), math.fsum(pair[0][1] for pair in wave), text, usual

    def _usual(self, name: str) -> float:
        _now, past = self._standard([(self.count(item.now), self._past(item)) for item in self.gate.wave[name]])
        return past[0] / past[1] if past is not None else 0.0

    def _past(self, item: Report | Control) -> tuple[float, float]:
        first = isinstance(item, Report) and item.first
        return self.count(item.past) if self.uses_past and not first else (0.0, 0.0)

    @staticmethod
    def _standard(
        devices: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    ) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
        """The events now, and those of the past as they would be had each device had the same part of the traffic as
        now: else a device with many errors that is merely asked more often would look like a worse version."""
        wrong, total = (math.fsum(now[side] for now, _past in devices) for side in (0, 1))
        if not total:
            return None, None
        known = [(now[1], past) for now, past in devices if now[1] and past[1]]
        weight = math.fsum(part for part, _past in known)
        if not weight:
            return (wrong, total), None
        share = math.fsum(part / weight * past[0] / past[1] for part, past in known)
        size = 1 / math.fsum((part / weight) ** 2 / past[1] for part, past in known)
        return (wrong, total), (share * size, size)

    def _dispersion(self, devices: Mapping[str, Sequence[Report | Control]]) -> float:
        groups = []
        for items in devices.values():
            pairs = [(self.count(item.now), self._past(item)) for item in items]
            pairs = [(now, past) for now, past in pairs if now[1] and past[1]]
            spreads = [_spread([now for now, _past in pairs]), _spread([past for _now, past in pairs])]
            groups.append(
                [
                    (now[0] / now[1] - past[0] / past[1], spreads[0] / now[1] + spreads[1] / past[1])
                    for now, past in pairs
                ]
            )
        return dispersion(groups, DISPERSION_FREEDOM)


class _Ratios:
    """One positive quantity per device, as logarithms: how it changed, on the wave's devices and on the controls.

    ``load``: what changes it on all devices at once; controls take that off.
    """

    def __init__(self, gate: _Gate, measure: Callable[[Measured], float | None], load: float) -> None:
        self.gate = gate
        self.measure = measure
        self.load = load

    def comparisons(self, check: str, limit: float, words: str) -> list[Comparison]:
        """Each device_class, and all, against the past and the controls."""
        groups = {name: found for name in self.gate.device_classes if (found := self._group(name)) is not None}
        if not groups:
            return []
        # All that is known of how devices vary, so that a device class of few devices has something to go by.
        parts = [part for found in groups.values() for part in found.parts]
        usual = max(found.usual for found in groups.values())
        squares = USUAL_FREEDOM * usual**2 + math.fsum(part.squares for part in parts)
        freedom = USUAL_FREEDOM + sum(part.freedom for part in parts)
        common = squares / freedom
        effects = {name: found.effect(common, self.load) for name, found in groups.items()}
        comparisons = [
            self._comparison(check, name, effect, limit, words, groups[name].devices, groups[name].beside)
            for name, effect in effects.items()
        ]
        if len(groups) > 1:
            known = {name: found for name, found in groups.items() if found.controls} or groups
            weights = {name: 1 / found.unit for name, found in known.items()}
            total = math.fsum(weights.values())
            value = math.fsum(weights[name] / total * effects[name].value for name in known)
            variance = math.fsum((weights[name] / total) ** 2 * known[name].unit for name in known) * common
            # The hour's load is the same for all.
            variance += 0.0 if all(found.controls for found in known.values()) else self.load**2
            devices = sum(found.devices for found in known.values())
            beside = f"{sum(found.controls for found in known.values())} controls"
            effect = MeanEffect(value, variance, freedom)
            comparisons.append(self._comparison(check, None, effect, limit, words, devices, beside))
        return comparisons

    def against(self, check: str, limit: float) -> list[Comparison]:
        """Each device_class against an absolute limit."""
        found = []
        for name in self.gate.device_classes:
            values = [value for item in self.gate.wave[name] if (value := self.measure(item.now)) is not None]
            if values:
                part = trimmed(values)
                squares = USUAL_FREEDOM * USUAL_DIFFERENCE**2 + part.squares
                freedom = USUAL_FREEDOM + part.freedom
                effect = MeanEffect(part.mean, squares / freedom / part.kept, freedom)
                most, text = math.log(limit), f"on {len(values)} devices, seconds"
                found.append(
                    Comparison(
                        check, name, effect, most, most, most, text, len(values), _exp, "{:.4f}", None, _LOG_ENDS
                    )
                )
        return found

    def _comparison(
        self,
        check: str,
        device_class: str | None,
        effect: MeanEffect,
        limit: float,
        words: str,
        devices: int,
        beside: str,
    ) -> Comparison:
        text = f"on {devices} devices, beside {beside}, {words}"
        most = math.log(limit)
        return Comparison(
            check, device_class, effect, most, 0.0, 2 * most, text, devices, _exp, "{:.3f}", None, _LOG_ENDS
        )

    def _group(self, name: str) -> _Group | None:
        wave, beside = self.gate.wave[name], self.gate.beside[name]
        changes, others = self._changes(wave), self._changes(beside)
        if changes:
            return _Group(
                trimmed(changes), trimmed(others) if others else None, len(changes), len(others), USUAL_DEVIATION
            )
        now = [value for item in wave if (value := self.measure(item.now)) is not None]
        meanwhile = [value for item in beside if (value := self.measure(item.now)) is not None]
        if now and meanwhile:
            return _Group(trimmed(now), trimmed(meanwhile), len(now), len(meanwhile), USUAL_DIFFERENCE)
        return None

    def _changes(self, items: Sequence[Report | Control]) -> list[float]:
        found = []
        for item in items:
            before, now = self.measure(item.past), self.measure(item.now)
            if before is not None and now is not None and not (isinstance(item, Report) and item.first):
                found.append(now - before)
        return found


@dataclass(frozen=True)
class _Group:
    """The changes in one device_class: of the wave's devices, and of the controls if there are any."""

    wave: Trimmed
    others: Trimmed | None
    devices: int
    controls: int
    usual: float

    @property
    def parts(self) -> list[Trimmed]:
        """What tells how devices vary."""
        return [self.wave] if self.others is None else [self.wave, self.others]

    @property
    def unit(self) -> float:
        """The variance of the effect, in multiples of that of one device."""
        return math.fsum(1 / part.kept for part in self.parts)

    @property
    def beside(self) -> str:
        """What they are compared with, in words."""
        past = "their past" if self.usual == USUAL_DEVIATION else ""
        controls = f"{self.controls} controls" if self.controls else ""
        return " and ".join(text for text in (past, controls) if text)

    def effect(self, common: float, load: float) -> MeanEffect:
        """The change beyond that of the controls; ``common`` is the variance of one device, as all classes have it."""
        freedom = USUAL_FREEDOM + sum(part.freedom for part in self.parts)
        squares = USUAL_FREEDOM * common + math.fsum(part.squares for part in self.parts)
        variance = squares / freedom * self.unit
        if self.others is None:
            return MeanEffect(self.wave.mean, variance + load**2, freedom)
        return MeanEffect(self.wave.mean - self.others.mean, variance, freedom)


_LOG_ENDS = (math.log(1e-6), math.log(1e6))


def _exp(value: float) -> float:
    return math.exp(min(max(value, _LOG_ENDS[0]), _LOG_ENDS[1]))


def _errors(measured: Measured) -> tuple[float, float]:
    found: Requests | None = measured.requests
    return (float(found.errors), float(found.requests)) if found else (0.0, 0.0)


def _wrong_labels(measured: Measured) -> tuple[float, float]:
    found: Labels | None = measured.labels
    return (float(found.wrong), float(found.right + found.wrong)) if found else (0.0, 0.0)


def _disagreements(measured: Measured) -> tuple[float, float]:
    found: Shadow | None = measured.shadow
    if found is None:
        return 0.0, 0.0
    return float(found.disagreed + found.failed), float(found.agreed + found.disagreed + found.failed)


def _drifted(measured: Measured) -> tuple[float, float]:
    return (0.0, 0.0) if measured.alarms is None else (float(bool(measured.alarms)), 1.0)


def _quantile_of(share: float, least: int) -> Callable[[Measured], float | None]:
    def measure(measured: Measured) -> float | None:
        found = measured.requests
        return found.quantile(share) if found is not None and found.timed >= least else None

    return measure


def _probe_time(measured: Measured) -> float | None:
    probe = measured.probe
    return math.log(probe.latency_seconds) if probe is not None and probe.latency_seconds else None


def _memory(measured: Measured) -> float | None:
    return math.log(measured.resident_bytes) if measured.resident_bytes else None


def _spread(counts: Sequence[tuple[float, float]]) -> float:
    """The variance of one event. With the usual half of an event more, so that what nobody has seen is possible."""
    wrong, total = (math.fsum(pair[side] for pair in counts) for side in (0, 1))
    share = (wrong + 0.5) / (total + 1.0)
    return share * (1 - share)


def _accuracy(probes: Iterable[Probe | None]) -> tuple[float, int]:
    """The mean accuracy, and of how many different samples it is."""
    known = [probe for probe in probes if probe is not None]
    mean = math.fsum(probe.correct / probe.samples for probe in known) / len(known)
    return mean, min(probe.samples for probe in known)


def _probe_effect(before: float, after: float, samples: int) -> ShareEffect:
    """The loss of accuracy. The questions are the same, which makes its limits wider than they need be."""
    return ShareEffect(
        (Share(1.0, (1 - after) * samples, samples), Share(-1.0, (1 - before) * samples, samples)),
    )


def _is_worse(item: Report, most: float, alpha: float) -> bool:
    """Whether one device for itself lost more than allowed, beyond chance."""
    before, samples = _accuracy([item.past.probe])
    after, _samples = _accuracy([item.now.probe])
    effect = _probe_effect(before, after, samples)
    return _round(effect.value) > most and effect.lower(alpha) > 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _round(value: float) -> float:
    # So that a loss of exactly the limit is one also where binary fractions are not exact.
    return round(value, 9)
