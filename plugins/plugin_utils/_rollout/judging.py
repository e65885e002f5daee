# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the gate reads of a wave, from what its tasks registered, and what the rollout keeps of its verdict. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError

from .gate import shadow
from .gate import verdict as gate
from .gate.checks import Finding, Verdict
from .gate.estimates import Proportion, ProportionEffect
from .gate.limits import LimitError, Limits
from .gate.observations import DeviceObservation, observe_control, observe_device
from .outcome import Outcome
from .report import words

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """What the devices of a wave returned, by their names.

    ``before`` and ``after`` are the reads of the controls around the soak, ``earlier`` the outcomes of the waves
    before this one. ``profiled`` is what requests take by the profiles of device classes, in seconds.
    """

    device_classes: Mapping[str, str]
    version: str
    swaps: Mapping[str, Result]
    reads: Mapping[str, Result]
    before: Mapping[str, Result] = field(default_factory=dict)
    after: Mapping[str, Result] = field(default_factory=dict)
    earlier: Mapping[str, Outcome] = field(default_factory=dict)
    profiled: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """A verdict: ``reasons`` has a line for each check, ``problems`` those of the checks that led to no pass."""

    verdict: Verdict
    findings: tuple[Mapping[str, Any], ...]
    reasons: tuple[str, ...]
    problems: tuple[str, ...]
    outcomes: Mapping[str, Outcome]


def read_limits(values: Mapping[str, Any]) -> Limits:
    """Return the gate's limits. Raises ArgumentError, which names the limit."""
    try:
        return Limits.from_dict(values)
    except LimitError as error:
        raise ArgumentError(f"rollout_limits: {error}") from None


def explained(silent: int, begun: int, controls_silent: int, controls_begun: int) -> bool:
    """Return whether the controls explain that ``silent`` of the ``begun`` devices of a wave are not heard from.

    They do where controls are silent too, and that the wave's devices are silent more often is not certain: a switch of
    a site that is dead takes all of its devices.
    """
    if not silent or not controls_silent:
        return False
    effect = ProportionEffect((Proportion(1.0, silent, begun), Proportion(-1.0, controls_silent, controls_begun)))
    return effect.lower(gate.FALSE_ALARMS) <= 0


def judge_shadow(
    results: Mapping[str, tuple[Result, Result]],
    device_classes: Mapping[str, str],
    memory: Mapping[str, int],
    limits: Limits,
    *,
    analysis: int,
    analyses_max: int,
) -> Judged:
    """Judge wave 0. ``results`` are by device those of ``model_swap`` and ``model_info``; ``memory`` is what each
    variant declares."""
    observed = [
        shadow.observe_shadow(name, device_classes.get(name, "all"), start, read, memory)
        for name, (start, read) in results.items()
    ]
    verdict, findings = shadow.judge_shadow(observed, limits, analysis=analysis, analyses_max=analyses_max)
    return _judged(verdict, findings, observed)


def _judged(verdict: Verdict, findings: Sequence[Finding], devices: Iterable[DeviceObservation]) -> Judged:
    bad = [finding for finding in findings if finding.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)]
    return Judged(
        verdict=verdict,
        findings=tuple({**finding.to_dict(), "reason": words.reason(finding)} for finding in findings),
        reasons=tuple(words.lines(findings)),
        problems=tuple(words.lines(bad)),
        outcomes={device.name: Outcome(device.outcome) for device in devices},
    )


def _is_heard(read: Result) -> bool:
    return bool(read) and not (read.get("unreachable") or read.get("failed"))


def judge(measured: Measured, limits: Limits, *, analysis: int, analyses_max: int) -> Judged:
    """Judge a wave."""
    classes = measured.device_classes
    wave = [
        observe_device(
            name,
            classes.get(name, "all"),
            {"version": measured.version, **measured.swaps[name]},
            measured.reads.get(name),
        )
        for name in measured.swaps
    ]
    controls = [
        observe_control(
            name,
            {"device_class": classes.get(name, "all"), "before": before, "after": measured.after.get(name, {})},
            measured.version,
        )
        for name, before in measured.before.items()
        if name not in measured.swaps
    ]
    reached = [name for name, before in measured.before.items() if _is_heard(before)]
    begun = [device for device in wave if device.outcome not in (Outcome.AWAY, Outcome.REFUSED)]
    silent = [device for device in begun if device.outcome == Outcome.SILENT]
    controls_silent = sum(not _is_heard(measured.after.get(name, {})) for name in reached)
    if explained(len(silent), len(begun), controls_silent, len(reached)):
        wave = [dataclasses.replace(device, outcome=Outcome.CUT_OFF) if device in silent else device for device in wave]
    verdict, findings = gate.judge(
        wave,
        [control for control in controls if control is not None],
        limits,
        analysis=analysis,
        analyses_max=analyses_max,
        earlier=[
            DeviceObservation(name, classes.get(name, "all"), outcome) for name, outcome in measured.earlier.items()
        ],
        profiled=measured.profiled,
    )
    return _judged(verdict, findings, wave)
