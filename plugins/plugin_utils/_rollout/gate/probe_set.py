# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Checks of the answers to the release's probe set. Pure.

All devices answer the same questions, so that more devices are not more samples.
"""

from __future__ import annotations

import math
from typing import Iterable, Sequence

from .checks import Bounds, Cause, Check, DeviceNote, ErrorProbabilities, Finding, Verdict
from .estimates import Proportion, ProportionEffect
from .limits import Limits
from .numerics import rounded
from .observations import DeviceObservation, Groups, Probe
from .proportions import skipped_classes

NAMES_MAX = 10


def probe_accuracy(groups: Groups, limits: Limits, errors: ErrorProbabilities, *, allowed: int) -> list[Finding]:
    """Judge accuracy and its drop in each device class. ``allowed``: how many devices may answer wrongly."""
    findings: list[Finding] = []
    for check in (Check.ACCURACY, Check.ACCURACY_DROP):
        if not check.is_made(limits):
            continue
        found: list[Finding] = []
        unknown: dict[str, Cause] = {}
        for name, devices in groups.wave.items():
            answered = [item for item in devices if item.now.probe]
            paired = [item for item in answered if item.past.probe]
            if check is Check.ACCURACY and answered:
                found.append(_accuracy_finding(name, answered, limits.accuracy_min or 0.0))
            elif check is Check.ACCURACY_DROP and paired:
                found.append(
                    _drop_finding(name, paired, limits.accuracy_drop_max or 0.0, errors=errors, allowed=allowed)
                )
            else:
                first = check is Check.ACCURACY_DROP and all(item.first_installation for item in devices)
                unknown[name] = Cause.FIRST_INSTALLATION if first else Cause.NO_PROBE_SET
        findings += [*found, *skipped_classes(check, groups, unknown)]
    return findings


def _accuracy_finding(device_class: str, devices: Sequence[DeviceObservation], least: float) -> Finding:
    accuracy, samples = _mean_accuracy(item.now.probe for item in devices)
    return Finding(
        check=Check.ACCURACY,
        verdict=Verdict.PASS if accuracy >= least else Verdict.FAIL,
        device_class=device_class,
        estimate=rounded(accuracy),
        limit=least,
        samples=samples,
        devices=len(devices),
    )


def _drop_finding(
    device_class: str,
    devices: Sequence[DeviceObservation],
    most: float,
    *,
    errors: ErrorProbabilities,
    allowed: int,
) -> Finding:
    before, samples = _mean_accuracy(item.past.probe for item in devices)
    after, _samples = _mean_accuracy(item.now.probe for item in devices)
    effect = _loss(before, after, samples)
    drop, lower = rounded(effect.value), effect.lower(errors.alpha)
    verdict, cause = Verdict.PASS, None
    if drop > most:
        verdict, cause = (Verdict.FAIL, None) if lower > 0 else (Verdict.INCONCLUSIVE, Cause.SMALL_PROBE_SET)
    worse = [item.name for item in devices if _is_worse(item, most, errors.alpha)]
    if len(worse) > allowed:
        verdict, cause = Verdict.FAIL, None
    return Finding(
        check=Check.ACCURACY_DROP,
        verdict=verdict,
        cause=cause,
        device_class=device_class,
        estimate=drop,
        bounds=Bounds(rounded(max(lower, -1.0)), rounded(min(effect.upper(errors.beta), 1.0))),
        limit=most,
        baseline=rounded(before),
        samples=samples,
        devices=len(devices),
        named=tuple(DeviceNote(name) for name in worse[:NAMES_MAX]),
        named_total=len(worse),
    )


def _mean_accuracy(probes: Iterable[Probe | None]) -> tuple[float, int]:
    """The mean accuracy, and the number of different samples behind it."""
    known = [probe for probe in probes if probe is not None]
    mean = math.fsum(probe.correct / probe.samples for probe in known) / len(known)
    return mean, min(probe.samples for probe in known)


def _loss(before: float, after: float, samples: int) -> ProportionEffect:
    """The loss of accuracy. The questions are the same, which makes its limits wider than they need be."""
    return ProportionEffect(
        (Proportion(1.0, (1 - after) * samples, samples), Proportion(-1.0, (1 - before) * samples, samples))
    )


def _is_worse(item: DeviceObservation, most: float, alpha: float) -> bool:
    """Whether one device by itself lost more than allowed, beyond chance."""
    before, samples = _mean_accuracy([item.past.probe])
    after, _samples = _mean_accuracy([item.now.probe])
    effect = _loss(before, after, samples)
    return rounded(effect.value) > most and effect.lower(alpha) > 0
