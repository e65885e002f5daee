# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The verdict on a wave, by what its devices and the controls measured. Pure; runs on the controller.

A check fails if the estimate is beyond its limit and some harm is certain. It passes if the estimate is within its
limit and harm of twice the limit is out of the question. The two errors are bounded separately:

- A release that does no harm fails with a probability of at most FALSE_ALARMS. Each comparison, in each device class
  and at each of the ``analyses_max`` analyses, has an equal part of it (Bonferroni), so that the bound holds however
  often a wave is analysed (Pocock, Group sequential methods in the design and analysis of clinical trials, Biometrika
  64, 1977; Lan and DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70, 1983).
- A release that does harm of twice a limit passes with a probability of at most MISSES, divided over the analyses. All
  checks must pass, so that their number needs no correction (Berger, Multiparameter hypothesis testing and acceptance
  sampling, Technometrics 24, 1982).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Callable, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import ON_NEW_VERSION, Outcome

from .checks import (
    Cause,
    Check,
    ComparedWith,
    Comparison,
    DeviceNote,
    ErrorProbabilities,
    Finding,
    Result,
    Verdict,
)
from .limits import Limits
from .numerics import rounded
from .observations import Control, DeviceObservation, Groups, by_name
from .probe_set import NAMES_MAX, no_answers, probe_checks
from .proportions import Proportions
from .ratios import USUAL_LOAD, Ratios
from .readings import (
    P50_REQUESTS_MIN,
    P95_REQUESTS_MIN,
    counted_disagreements,
    counted_drift,
    counted_errors,
    counted_wrong_labels,
    log_energy,
    log_memory,
    log_probe_seconds,
    log_slowness,
    quantile,
    temperature,
)
from .reporting import coverage, failed_devices, measurements

FALSE_ALARMS = 0.01
MISSES = 0.05
# A suspicion, which only pauses a rollout, need not be as certain as a failure.
SUSPICIONS = 0.05

DEFAULT_LIMITS = Limits()

# The analysis at which a silent device counts as failed, if there is none before: short soaks have many.
SILENCE_ANALYSES = 5

# How many times as long as in the profile of their device class requests may take, where there is nothing else to
# compare them with: what clients ask, and how many at once, is not what was measured there.
PROFILE_RATIO = 2.0

# Requests of the controls from which on none at all on the wave's devices is suspicious.
TRAFFIC_REQUESTS_MIN = 100


class Judgement(NamedTuple):
    """The verdict on a wave, and the findings that led to it."""

    verdict: Verdict
    findings: list[Finding]


def judge(
    devices: Iterable[DeviceObservation],
    controls: Iterable[Control] = (),
    limits: Limits = DEFAULT_LIMITS,
    *,
    analysis: int = 1,
    analyses_max: int = 1,
    earlier: Sequence[DeviceObservation] = (),
    profiled: Mapping[str, float] | None = None,
) -> Judgement:
    """Judge a wave. A failure outweighs what is inconclusive, and that outweighs what passes.

    ``analysis`` counts from 1 to ``analyses_max``, which is fixed before the first. ``earlier`` are the devices of the
    rollout's waves before; their failures count too. The order of the devices does not matter. ``profiled`` is by
    device class the 95th percentile of the requests' time that its profile has, in seconds: it judges where neither
    the past nor controls do.

    Each check whose limit is on has at least one finding, except that only FAILED_DEVICES and COVERAGE are judged where
    no device serves the new version.
    """
    wave = by_name(devices)
    serving = [item for item in wave if item.outcome in ON_NEW_VERSION]
    silent = (
        [item for item in wave if item.outcome == Outcome.SILENT]
        if analysis < min(analyses_max, SILENCE_ANALYSES)
        else []
    )
    findings = [failed_devices([*wave, *earlier], silent, limits), *coverage(wave, serving, earlier, limits=limits)]
    if serving:
        groups = Groups.of(serving, by_name(controls), profiled)
        allowed = limits.max_failures.of(len(wave))
        results = [result for compare in _COMPARISONS for result in compare(groups, limits)]
        comparisons = sum(isinstance(result, Comparison) for result in results)
        last = max(analysis, analyses_max, 1)
        # The probe set has one comparison in each device class, which is the same at each analysis.
        parts = comparisons + len(groups.device_classes)
        once, errors = error_probabilities(parts, analysis, last)
        findings.append(measurements(serving, limits))
        findings += probe_checks(groups, limits, once, allowed=allowed)
        findings += [result.finding(errors) if isinstance(result, Comparison) else result for result in results]
        findings += _restarts(groups, limits, allowed)
        findings += _memory_bytes(serving, limits, allowed)
    return judgement(findings, limits)


def error_probabilities(parts: int, analysis: int, last: int) -> tuple[ErrorProbabilities, ErrorProbabilities]:
    """What each of ``parts`` comparisons may err with, where it is made once, and at each of ``last`` analyses."""
    once = ErrorProbabilities(FALSE_ALARMS / parts, SUSPICIONS / parts, MISSES, narrowing=1.0)
    return once, ErrorProbabilities(
        alpha=once.alpha / last,
        suspicion=once.suspicion / last,
        beta=once.beta / last,
        narrowing=math.sqrt(max(analysis, 1) / last),
    )


def judgement(findings: Sequence[Finding], limits: Limits) -> Judgement:
    """The verdict that findings lead to."""
    if limits.strict:
        findings = [_strictly(finding) for finding in findings]
    verdicts = {finding.verdict for finding in findings}
    verdict = next((item for item in (Verdict.FAIL, Verdict.INCONCLUSIVE) if item in verdicts), Verdict.PASS)
    return Judgement(verdict, list(findings))


def _strictly(finding: Finding) -> Finding:
    """What was skipped for want of data is inconclusive."""
    if finding.verdict is Verdict.SKIPPED and finding.cause in (Cause.TOO_LITTLE, Cause.TOO_FEW_REQUESTS):
        return dataclasses.replace(finding, verdict=Verdict.INCONCLUSIVE)
    return finding


# ---- what is compared with limits, with the past and with the controls ----


def _error_rate(groups: Groups, limits: Limits) -> list[Result]:
    proportions = Proportions(groups, counted_errors)
    verdict, otherwise = Verdict.SKIPPED, Cause.NO_TRAFFIC
    if not any(item.now.requests for item in groups.serving):
        otherwise = Cause.NOT_REPORTED
    elif not proportions.total and proportions.total_of_controls >= TRAFFIC_REQUESTS_MIN:
        verdict, otherwise = Verdict.INCONCLUSIVE, Cause.NO_TRAFFIC_BUT_CONTROLS
    results: list[Result] = []
    if limits.error_rate_max is not None:
        results += proportions.against_limit(Check.ERROR_RATE, limits.error_rate_max, otherwise=otherwise)
    if limits.error_rate_rise_max is not None:
        results += proportions.changes(Check.ERROR_RATE_RISE, limits.error_rate_rise_max, otherwise=otherwise)
    if verdict is Verdict.SKIPPED:
        return results
    controls = ComparedWith(controls=len(groups.all_controls), events=int(proportions.total_of_controls))
    return [
        dataclasses.replace(result, verdict=verdict, compared_with=controls)
        for result in results
        if isinstance(result, Finding)
    ]


def live_accuracy(groups: Groups, limits: Limits) -> list[Result]:
    """Compare the labels that came back."""
    if limits.live_accuracy_drop_max is None:
        return []
    proportions = Proportions(groups, counted_wrong_labels)
    return proportions.changes(Check.LIVE_ACCURACY_DROP, limits.live_accuracy_drop_max, otherwise=Cause.NO_LABELS)


def _latency(groups: Groups, limits: Limits) -> list[Result]:
    results: list[Result] = []
    p50 = Ratios(groups, quantile(0.5, P50_REQUESTS_MIN), load=USUAL_LOAD)
    p95 = Ratios(groups, quantile(0.95, P95_REQUESTS_MIN), load=USUAL_LOAD)
    seconds = Ratios(groups, log_probe_seconds, load=USUAL_LOAD)
    if limits.latency_ratio_max is not None:
        most = limits.latency_ratio_max
        results += p50.changes(Check.LATENCY_P50, most, otherwise=Cause.TOO_FEW_REQUESTS)
        results += p95.changes(Check.LATENCY_P95, most, otherwise=Cause.TOO_FEW_REQUESTS)
        results += seconds.changes(Check.PROBE_LATENCY, most, otherwise=no_answers(groups.serving))
    if limits.latency_seconds_max is not None:
        most = limits.latency_seconds_max
        results += p95.against_limit(Check.LATENCY_P95_SECONDS, most, otherwise=Cause.TOO_FEW_REQUESTS)
    elif limits.latency_ratio_max is not None:
        alone = set(p95.uncompared).intersection(groups.profiled)
        floors = {name: PROFILE_RATIO * groups.profiled[name] for name in sorted(alone)}
        results += p95.against_limits(Check.LATENCY_P95_SECONDS, floors, ComparedWith(profile=True))
    return results


def _drift(groups: Groups, limits: Limits) -> list[Result]:
    if limits.drift_rise_max is None:
        return []
    # The share of devices with an alarm is too coarse for a difference of differences.
    uses_past = not any(counted_drift(item.now).total for item in groups.all_controls)
    proportions = Proportions(groups, counted_drift, uses_past=uses_past)
    return proportions.changes(Check.DRIFT, limits.drift_rise_max, otherwise=Cause.NO_DRIFT_WINDOW)


def shadow_disagreement(groups: Groups, limits: Limits) -> list[Result]:
    """How many copies of requests a shadow answered otherwise."""
    if limits.shadow_agreement_min is None:
        return []
    most = rounded(1 - limits.shadow_agreement_min)
    return Proportions(groups, counted_disagreements).against_limit(
        Check.SHADOW_DISAGREEMENT, most, otherwise=Cause.NO_SHADOW
    )


def _memory(groups: Groups, limits: Limits) -> list[Result]:
    if limits.memory_ratio_max is None:
        return []
    ratios = Ratios(groups, log_memory, load=0.0)
    return ratios.changes(Check.MEMORY, limits.memory_ratio_max, otherwise=Cause.NOT_REPORTED)


def _board(groups: Groups, limits: Limits) -> list[Result]:
    results: list[Result] = []
    for check, limit, measure in (
        (Check.ENERGY, limits.energy_ratio_max, log_energy),
        (Check.CLOCK, limits.clock_ratio_max, log_slowness),
        (Check.TEMPERATURE, limits.temperature_rise_max, temperature),
    ):
        if limit is not None:
            results += Ratios(groups, measure, load=USUAL_LOAD).changes(check, limit, otherwise=Cause.NO_SENSOR)
    return results


_COMPARISONS: tuple[Callable[[Groups, Limits], list[Result]], ...] = (
    _error_rate,
    live_accuracy,
    _latency,
    _drift,
    shadow_disagreement,
    _memory,
    _board,
)


# ---- what is counted on each device by itself ----


def _restarts(groups: Groups, limits: Limits, allowed: int) -> list[Finding]:
    most = limits.restarts_max
    if most is None:
        return []
    known = [item for item in groups.serving if item.now.restarts is not None]
    bad = [item for item in known if (item.now.restarts or 0) > most]
    controls = [item for item in groups.all_controls if item.now.restarts is not None]
    others = sum((item.now.restarts or 0) - (item.past.restarts or 0) > most for item in controls)
    # Where as many of the controls do, the cause is the power or the machine, not the version.
    alike = bool(others) and others * len(known) >= len(bad) * len(controls)
    verdict = Verdict.FAIL if len(bad) > allowed and not alike else Verdict.PASS
    return [
        Finding(
            check=Check.RESTARTS,
            verdict=verdict if known else Verdict.SKIPPED,
            cause=None if known else Cause.NOT_REPORTED,
            estimate=len(bad),
            limit=allowed,
            threshold=most,
            samples=len(known),
            devices=len(known),
            compared_with=ComparedWith(controls=len(controls), events=others) if alike else None,
            named=tuple(DeviceNote(item.name, count=item.now.restarts) for item in bad[:NAMES_MAX]),
            named_total=len(bad),
        )
    ]


def _memory_bytes(serving: Sequence[DeviceObservation], limits: Limits, allowed: int) -> list[Finding]:
    most = limits.memory_bytes_max
    if most is None:
        return []
    sizes = {item.name: item.now.resident_bytes for item in serving if item.now.resident_bytes is not None}
    beyond = [name for name, size in sizes.items() if size > most]
    unknown = len(sizes) < len(serving)
    verdict = Verdict.FAIL if len(beyond) > allowed else Verdict.INCONCLUSIVE if unknown else Verdict.PASS
    return [
        Finding(
            check=Check.MEMORY_BYTES,
            verdict=verdict,
            cause=Cause.NOT_REPORTED if verdict is Verdict.INCONCLUSIVE else None,
            estimate=max(sizes.values(), default=None),
            limit=most,
            samples=len(sizes),
            devices=len(serving),
            named=tuple(DeviceNote(name) for name in beyond[:NAMES_MAX]),
            named_total=len(beyond),
        )
    ]
