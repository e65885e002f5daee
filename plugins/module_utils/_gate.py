# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The gate: what a wave's devices say, against limits, gives a verdict with its reasons. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping

PASS = "pass"
FAIL = "fail"
INCONCLUSIVE = "inconclusive"

UPDATED = "updated"
ALREADY = "already there"
REFUSED = "refused"
FAILED = "failed"
SILENT = "silent"
AWAY = "away"

# The new version serves on a device with one of these outcomes.
ON_NEW_VERSION = (UPDATED, ALREADY)


@dataclass(frozen=True)
class Limits:
    """What the gate allows. None turns a limit off.

    ``failed_max``: devices that refused, failed or fell silent. ``coverage_min``: share (0 to 1) of the targeted
    devices that reported. ``accuracy_drop_max``: accuracy lost against the version before, in points (0.02: two
    percentage points). ``accuracy_min``: accuracy (0 to 1). ``error_rate_max``: share (0 to 1) of answered requests.
    ``latency_ratio_max``: time of a probe batch, new version to old. Accuracy and latency are judged in each
    stratum, so that a fault of one kind of hardware cannot hide behind the others.
    """

    failed_max: int = 0
    coverage_min: float = 0.5
    accuracy_drop_max: float | None = None
    accuracy_min: float | None = None
    error_rate_max: float | None = None
    latency_ratio_max: float | None = None


@dataclass(frozen=True)
class Report:
    """What is known of one device of the wave: its ``outcome`` and, where it reported, its measurements.

    ``replaced`` is the version that the new one replaced (None on a first installation), ``baseline`` and
    ``current`` are probe results (see ``_probe.probe_accuracy``) of the two, ``requests`` the server's counts.
    """

    name: str
    stratum: str
    outcome: str
    replaced: str | None = None
    baseline: Mapping[str, Any] | None = None
    current: Mapping[str, Any] | None = None
    requests: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """One check of the gate: its own verdict, and why, in words and numbers."""

    check: str
    verdict: str
    reason: str


def outcome(swap: Mapping[str, Any], read: Mapping[str, Any]) -> str:
    """Tell a device's outcome from the results of its swap and of the read after the soak."""
    if swap.get("unreachable"):
        return AWAY
    if swap.get("failed"):
        return REFUSED if swap.get("refused") else FAILED
    if read.get("unreachable") or read.get("failed") or "model" not in read:
        return SILENT
    if read["model"].get("live") != swap.get("version"):
        return FAILED
    return UPDATED if swap.get("changed") else ALREADY


def report(name: str, stratum: str, swap: Mapping[str, Any], read: Mapping[str, Any]) -> Report:
    """Build a device's Report from the results of ``model_swap`` and ``model_info``."""
    result = outcome(swap, read)
    model = read["model"] if result in ON_NEW_VERSION else {}
    return Report(
        name=name,
        stratum=stratum,
        outcome=result,
        replaced=model.get("replaced"),
        baseline=model.get("baseline"),
        current=model.get("probe"),
        requests=model.get("requests"),
    )


def judge(reports: Iterable[Report], limits: Limits) -> tuple[str, list[Finding]]:
    """Return the verdict over a wave and the findings that led to it. Fail wins over inconclusive, that over pass."""
    wave = list(reports)
    serving = [item for item in wave if item.outcome in ON_NEW_VERSION]
    findings = [_failures(wave, limits), _coverage(wave, serving, limits)]
    if serving:
        findings += _accuracy(serving, limits) + _error_rate(serving, limits) + _latency(serving, limits)
    verdicts = [finding.verdict for finding in findings]
    verdict = FAIL if FAIL in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS
    return verdict, findings


def _failures(wave: list[Report], limits: Limits) -> Finding:
    bad = [item for item in wave if item.outcome in (REFUSED, FAILED, SILENT)]
    named = ": " + ", ".join(f"{item.name} {item.outcome}" for item in bad[:10]) if bad else ""
    reason = f"{len(bad)} of {len(wave)} devices refused, failed or fell silent (at most {limits.failed_max}){named}"
    return Finding("failed devices", PASS if len(bad) <= limits.failed_max else FAIL, reason)


def _coverage(wave: list[Report], serving: list[Report], limits: Limits) -> Finding:
    share = len(serving) / len(wave) if wave else 0.0
    enough = bool(serving) and share >= limits.coverage_min
    reason = f"{len(serving)} of {len(wave)} devices reported ({share:.0%}, at least {limits.coverage_min:.0%})"
    return Finding("coverage", PASS if enough else INCONCLUSIVE, reason)


def _accuracy(serving: list[Report], limits: Limits) -> list[Finding]:
    findings = []
    if limits.accuracy_min is not None:
        least = limits.accuracy_min
        low, where, missing = _worst_stratum(serving, lambda item: _field(item.current, "accuracy"), min)
        reason = f"{_shown(low)} in {where} (at least {least:.4f})"
        findings.append(_finding("accuracy", low, missing, reason, lambda value: value >= least))
    upgraded = [item for item in serving if item.replaced is not None]
    if limits.accuracy_drop_max is not None and upgraded:
        drop, where, missing = _worst_stratum(upgraded, _accuracy_drop, max)
        most = limits.accuracy_drop_max
        reason = f"{_shown(drop)} lost in {where} ({_change(upgraded, where)}; at most {most:.4f})"
        findings.append(_finding("accuracy drop", drop, missing, reason, lambda value: value <= most))
    return findings


def _error_rate(serving: list[Report], limits: Limits) -> list[Finding]:
    if limits.error_rate_max is None:
        return []
    missing = [item.name for item in serving if item.requests is None]
    requests = sum(item.requests["requests"] for item in serving if item.requests)
    errors = sum(item.requests["errors"] for item in serving if item.requests)
    rate = errors / requests if requests else None
    reason = f"{errors} of {requests} requests failed (at most {limits.error_rate_max:.2%})"
    most = limits.error_rate_max
    return [_finding("error rate", rate, missing, reason, lambda value: value <= most)]


def _latency(serving: list[Report], limits: Limits) -> list[Finding]:
    upgraded = [item for item in serving if item.replaced is not None]
    if limits.latency_ratio_max is None or not upgraded:
        return []
    ratio, where, missing = _worst_stratum(upgraded, _latency_ratio, max)
    most = limits.latency_ratio_max
    reason = f"{_shown(ratio)} times the old version's in {where} (at most {most:.2f})"
    return [_finding("latency", ratio, missing, reason, lambda value: value <= most)]


def _finding(
    check: str, value: float | None, missing: list[str], reason: str, allowed: Callable[[float], bool]
) -> Finding:
    """A value beyond its limit fails; otherwise a device without the measurement leaves the check inconclusive."""
    if value is not None and not allowed(value):
        return Finding(check, FAIL, reason)
    if missing or value is None:
        return Finding(check, INCONCLUSIVE, f"not measured on {', '.join(missing[:10]) or 'any device'}; {reason}")
    return Finding(check, PASS, reason)


def _worst_stratum(
    reports: list[Report], measure: Callable[[Report], float | None], worst: Callable[[Iterable[float]], float]
) -> tuple[float | None, str, list[str]]:
    """Mean of ``measure`` over each stratum: the worst mean, its stratum, and the devices without the measurement."""
    values: dict[str, list[float]] = {}
    missing = []
    for item in reports:
        value = measure(item)
        if value is None:
            missing.append(item.name)
        else:
            values.setdefault(item.stratum, []).append(value)
    # Rounded, so that a loss of exactly the limit is one also where binary fractions are not exact.
    means = {stratum: round(math.fsum(found) / len(found), 9) for stratum, found in values.items()}
    if not means:
        return None, "no stratum", missing
    value = worst(means.values())
    return value, next(stratum for stratum, mean in sorted(means.items()) if mean == value), missing


def _accuracy_drop(item: Report) -> float | None:
    before, after = _field(item.baseline, "accuracy"), _field(item.current, "accuracy")
    return None if before is None or after is None else before - after


def _latency_ratio(item: Report) -> float | None:
    before, after = _field(item.baseline, "latency_seconds"), _field(item.current, "latency_seconds")
    return None if not before or after is None else after / before


def _change(reports: list[Report], stratum: str) -> str:
    pairs = [
        (_field(item.baseline, "accuracy"), _field(item.current, "accuracy"))
        for item in reports
        if item.stratum == stratum and _accuracy_drop(item) is not None
    ]
    if not pairs:
        return "no device measured"
    before, after = (sum(pair[side] or 0.0 for pair in pairs) / len(pairs) for side in (0, 1))
    return f"from {before:.4f} to {after:.4f}"


def _field(probe: Mapping[str, Any] | None, name: str) -> float | None:
    return None if probe is None else probe.get(name)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
