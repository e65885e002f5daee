# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The verdict on wave 0, in which the new version answers copies of requests, and the old one clients. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import is_number
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome, shadow_outcome

from .checks import Cause, Check, Comparison, DeviceNote, Finding, Result, Verdict
from .limits import Limits
from .measurements import Observation
from .observations import DeviceObservation, Groups, by_name
from .probe_set import NAMES_MAX
from .ratios import Ratios
from .reader import Reader
from .reporting import coverage, failed_devices
from .verdict import Judgement, error_probabilities, judgement, shadow_disagreement

# What a version may take beyond what its release declares, as in a trial.
MEMORY_MARGIN_BYTES = 64 << 20
# Checks that are made in wave 0 only.
SHADOW_CHECKS = (Check.SHADOW_TIME, Check.SHADOW_MEMORY)
_TIMES = ("timed", "active", "candidate")


@dataclass(frozen=True)
class ShadowObservation(DeviceObservation):
    """A device with a shadow. ``now`` is the new version, ``past`` the one that serves, for the same requests.

    ``memory_bytes``: what the variant of the device declares; None where that is not known.
    """

    memory_bytes: int | None = None


def observe_shadow(name: str, device_class: str, start: Any, read: Any, memory: Mapping[str, int]) -> ShadowObservation:
    """Read the results of ``model_swap`` that began a shadow, and of ``model_info`` after the soak. Never raises.

    ``memory``: what each variant of the release declares.
    """
    begun, read = _mapping(_mapping(start).get("candidate")), _mapping(read)
    outcome = shadow_outcome(_mapping(start), read)
    if outcome is not Outcome.SHADOWED:
        return ShadowObservation(name, device_class, outcome)
    reader, found = Reader(), _mapping(_mapping(read.get("model")).get("candidate"))
    before, after = reader.observation(begun, None, "begun "), reader.observation(found, None)
    since = after.since(before)
    timed, active, candidate = _seconds(begun, found)
    return ShadowObservation(
        name=name,
        device_class=device_class,
        outcome=outcome,
        now=Observation(
            shadow=since.shadow,
            resident_bytes=after.resident_bytes,
            model_seconds=candidate / timed if timed else None,
        ),
        past=Observation(resident_bytes=before.resident_bytes, model_seconds=active / timed if timed else None),
        problems=tuple(reader.problems),
        memory_bytes=memory.get(str(_mapping(start).get("variant"))),
    )


def judge_shadow(
    devices: Iterable[ShadowObservation], limits: Limits, *, analysis: int = 1, analyses_max: int = 1
) -> Judgement:
    """Judge wave 0, by the limits of the other waves. ``analysis`` counts from 1 to ``analyses_max``."""
    wave: list[ShadowObservation] = by_name(devices)
    serving = [item for item in wave if item.outcome in (Outcome.SHADOWED, Outcome.ALREADY_THERE)]
    shadows = [item for item in serving if item.outcome is Outcome.SHADOWED]
    silent = [item for item in wave if item.outcome is Outcome.SILENT] if analysis < analyses_max else []
    findings = [failed_devices(wave, silent, limits), *coverage(wave, serving, (), limits=limits)]
    if shadows:
        groups = Groups.of(shadows, ())
        results: list[Result] = [*shadow_disagreement(groups, limits), *_time(groups, limits)]
        comparisons = sum(isinstance(result, Comparison) for result in results)
        _once, errors = error_probabilities(max(comparisons, 1), analysis, max(analysis, analyses_max, 1))
        findings += [_asked(shadows)]
        findings += [result.finding(errors) if isinstance(result, Comparison) else result for result in results]
        findings += [_memory(shadows, limits)]
    return judgement(findings, limits)


def _time(groups: Groups, limits: Limits) -> list[Result]:
    if limits.latency_ratio_max is None:
        return []
    # Both versions answer the same requests on the same device.
    ratios = Ratios(groups, _log_seconds, load=0.0)
    return ratios.changes(Check.SHADOW_TIME, limits.latency_ratio_max, otherwise=Cause.NOT_REPORTED)


def _asked(shadows: Sequence[ShadowObservation]) -> Finding:
    """Whether a shadow was asked anything: without a request it says nothing, and so does the wave."""
    wrong = [item for item in shadows if item.problems]
    asked = any(item.now.shadow is not None and item.now.shadow.rows for item in shadows)
    return Finding(
        check=Check.MEASUREMENTS,
        verdict=Verdict.INCONCLUSIVE if wrong or not asked else Verdict.PASS,
        cause=None if wrong or asked else Cause.NOTHING_ASKED,
        estimate=len(wrong),
        samples=len(shadows),
        named=tuple(DeviceNote(item.name, problems=item.problems[:3]) for item in wrong[:NAMES_MAX]),
        named_total=len(wrong),
    )


def _memory(shadows: Sequence[ShadowObservation], limits: Limits) -> Finding:
    """On how many devices the server grew by more than the release declares, with a margin."""
    grown = {item.name: _growth(item) for item in shadows}
    known = [item for item in shadows if grown[item.name] is not None and item.memory_bytes is not None]
    bad = [item for item in known if (grown[item.name] or 0) > (item.memory_bytes or 0) + MEMORY_MARGIN_BYTES]
    allowed = limits.max_failures.of(len(shadows))
    verdict = Verdict.FAIL if len(bad) > allowed else Verdict.PASS
    return Finding(
        check=Check.SHADOW_MEMORY,
        verdict=verdict if known else Verdict.SKIPPED,
        cause=None if known else Cause.NOT_REPORTED,
        estimate=len(bad),
        limit=allowed,
        threshold=max((item.memory_bytes or 0 for item in known), default=0) + MEMORY_MARGIN_BYTES if known else None,
        samples=len(known),
        devices=len(known),
        named=tuple(DeviceNote(item.name, count=grown[item.name]) for item in bad[:NAMES_MAX]),
        named_total=len(bad),
    )


def _growth(item: ShadowObservation) -> int | None:
    now, past = item.now.resident_bytes, item.past.resident_bytes
    return None if now is None or past is None else now - past


def _log_seconds(observation: Observation) -> float | None:
    return math.log(observation.model_seconds) if observation.model_seconds else None


def _seconds(begun: Mapping[str, Any], read: Mapping[str, Any]) -> tuple[float, float, float]:
    """How many requests were timed since the shadow began, and what both versions took for them; zeros where it is not
    known. A server that started anew counts from 0."""
    before, after = ([_mapping(found.get("model_seconds")).get(name, 0) for name in _TIMES] for found in (begun, read))
    if not all(map(is_number, (*before, *after))):
        return 0.0, 0.0, 0.0
    if any(now < past for now, past in zip(after, before)):
        before = [0.0] * len(_TIMES)
    timed, active, candidate = (float(now - past) for now, past in zip(after, before))
    return timed, active, candidate


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
