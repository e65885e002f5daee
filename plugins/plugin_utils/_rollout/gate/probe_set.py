# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Checks of the answers to the release's probe set. Pure.

All devices answer the same questions, so that more devices are not more samples, and more analyses are not more data.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric

from .checks import Bounds, Cause, Check, DeviceNote, ErrorProbabilities, Finding, Verdict
from .limits import Limits
from .measurements import ProbeResult
from .numerics import rounded
from .observations import DeviceObservation, Groups
from .paired import Paired, PairedProportion, paired
from .proportions import skipped_classes

NAMES_MAX = 10
CHECKS = (Check.ACCURACY, Check.ACCURACY_DROP, Check.PROBE_ERROR)

Pair = tuple[ProbeResult, ProbeResult]


def probe_checks(groups: Groups, limits: Limits, errors: ErrorProbabilities, *, allowed: int) -> list[Finding]:
    """Judge the metric of the probe set, and its change, in each device class.

    ``allowed``: how many devices may answer wrongly.
    """
    findings: list[Finding] = []
    usual = usual_form(groups.serving)
    for check in CHECKS:
        if not check.is_made(limits):
            continue
        found: list[Finding] = []
        unknown: dict[str, Cause] = {}
        for name, devices in groups.wave.items():
            answered = [item for item in devices if item.now.probe and form(item.now.probe) == usual]
            compared = [item for item in answered if item.past.probe and form(item.past.probe) == usual]
            if answered and usual and usual[0].is_error is not (check is Check.PROBE_ERROR):
                unknown[name] = Cause.OTHER_METRIC
            elif check is Check.ACCURACY and answered:
                found.append(_least_finding(name, answered, limits.accuracy_min or 0.0))
            elif check is not Check.ACCURACY and compared:
                found.append(_change_finding(check, name, compared, limits=limits, errors=errors, allowed=allowed))
            else:
                first = check is not Check.ACCURACY and all(item.first_installation for item in devices)
                unknown[name] = Cause.FIRST_INSTALLATION if first else no_answers(devices)
        findings += [*found, *skipped_classes(check, groups, unknown)]
    return findings


def no_answers(devices: Sequence[DeviceObservation]) -> Cause:
    """Why devices have no answers to a probe set, or no answers of the version before."""
    if any(item.unasked and item.now.probe for item in devices):
        return Cause.NOT_COMPARABLE
    return Cause.NOT_REPORTED if any(item.probe_expected for item in devices) else Cause.NO_PROBE_SET


def form(probe: ProbeResult) -> tuple[Metric, int]:
    """What two results must have in common to be compared: the metric, and the number of samples."""
    return probe.metric, probe.samples


def usual_form(devices: Sequence[DeviceObservation]) -> tuple[Metric, int] | None:
    """The form that most devices have; None if no device answered."""
    forms = Counter(form(item.now.probe) for item in devices if item.now.probe)
    return max(forms, key=lambda item: (forms[item], item[1], item[0].value)) if forms else None


def _least_finding(device_class: str, devices: Sequence[DeviceObservation], least: float) -> Finding:
    probes = [item.now.probe for item in devices if item.now.probe]
    values = [-math.inf if probe.value is None else probe.value for probe in probes]
    mean = math.fsum(values) / len(values)
    return Finding(
        check=Check.ACCURACY,
        verdict=Verdict.PASS if mean >= least else Verdict.FAIL,
        device_class=device_class,
        estimate=rounded(mean) if math.isfinite(mean) else None,
        limit=least,
        samples=probes[0].samples,
        devices=len(devices),
        metric=probes[0].metric,
        top=probes[0].top,
    )


def _change_finding(
    check: Check,
    device_class: str,
    devices: Sequence[DeviceObservation],
    *,
    limits: Limits,
    errors: ErrorProbabilities,
    allowed: int,
) -> Finding:
    by_pair: dict[Pair, list[str]] = {}
    for item in devices:
        if item.past.probe and item.now.probe:
            by_pair.setdefault((item.past.probe, item.now.probe), []).append(item.name)
    found = paired([(old, new, len(names)) for (old, new), names in by_pair.items()])
    most, ceiling = _limits(check, limits)
    verdict, cause = _verdict(found, most, ceiling, errors)
    worse = sorted(
        name
        for (old, new), names in by_pair.items()
        for name in names
        if _is_certainly_worse(paired([(old, new, 1)]), most, errors.alpha / len(by_pair))
    )
    if len(worse) > allowed:
        verdict, cause = Verdict.FAIL, None
    effect = found.effect
    changed = effect if isinstance(effect, PairedProportion) else None
    return Finding(
        check=check,
        verdict=verdict,
        cause=cause,
        device_class=device_class,
        estimate=_shown(found, effect.value),
        bounds=Bounds(_shown(found, effect.lower(errors.alpha)), _shown(found, effect.upper(errors.beta))),
        limit=_shown(found, most),
        baseline=rounded(found.before) if math.isfinite(found.before) else None,
        samples=found.samples,
        events=round(changed.worse) if changed else None,
        improved=round(changed.better) if changed else None,
        devices=len(devices),
        named=tuple(DeviceNote(name) for name in worse[:NAMES_MAX]),
        named_total=len(worse),
        metric=found.metric,
        top=next(iter(by_pair))[1].top,
    )


def _limits(check: Check, limits: Limits) -> tuple[float, float]:
    """What is tolerated, and what must not slip through, on the scale of the effect."""
    if check is Check.PROBE_ERROR:
        most = math.log(limits.probe_error_ratio_max or 1.0)
        return most, 2 * most
    most = limits.accuracy_drop_max or 0.0
    return most, max(2 * most, 0.0)


def _verdict(found: Paired, most: float, ceiling: float, errors: ErrorProbabilities) -> tuple[Verdict, Cause | None]:
    if found.broken:
        return Verdict.FAIL, Cause.NOT_FINITE
    value, upper = rounded(found.effect.value), found.effect.upper(errors.beta)
    if value > most:
        certain = found.effect.lower(errors.alpha) > 0
        return (Verdict.FAIL, None) if certain else (Verdict.INCONCLUSIVE, Cause.SMALL_PROBE_SET)
    if upper < ceiling or ceiling <= most:
        return Verdict.PASS, None
    # A set that could not tell even if nothing had changed would pause every rollout.
    if upper - value >= ceiling:
        return Verdict.SKIPPED, Cause.TOO_LITTLE
    return Verdict.INCONCLUSIVE, Cause.SMALL_PROBE_SET


def _is_certainly_worse(found: Paired, most: float, alpha: float) -> bool:
    """Whether one device by itself lost more than allowed, beyond chance."""
    return found.broken or (rounded(found.effect.value) > most and found.effect.lower(alpha) > 0)


def _shown(found: Paired, value: float) -> float:
    if found.logarithmic:
        return rounded(math.exp(min(max(value, -13.0), 13.0)))
    return rounded(min(max(value, -1.0), 1.0))
