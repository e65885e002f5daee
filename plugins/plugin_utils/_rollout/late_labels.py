# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Labels that come after a rollout has passed: which rollouts they may still fail, and what they say. Pure."""

from __future__ import annotations

import datetime
from typing import Any, Iterable, Mapping, Sequence

from . import judging
from .gate import late_labels
from .gate.checks import Check, Verdict
from .gate.observations import DeviceObservation, observe_device
from .outcome import ON_NEW_VERSION
from .report import words
from .rollout import LabelAnalysis, Rollout, State, utc_now

Result = Mapping[str, Any]


def open_rollouts(rollouts: Iterable[Rollout], days: float, now: str = "") -> list[Rollout]:
    """Return the rollouts, given oldest first, that labels may still fail: of each model the newest that was not
    stopped, if it has passed, its last verdict is not older than ``days``, and live accuracy has a limit.

    Raises ArgumentError for limits that a newer version of this collection wrote.
    """
    newest = {rollout.model: rollout for rollout in rollouts if not rollout.state.is_stopped}
    return [
        rollout
        for rollout in newest.values()
        if rollout.state is State.PASSED and _age_days(rollout, now or utc_now()) < days and _has_limit(rollout)
    ]


def devices_of(rollout: Rollout) -> list[str]:
    """Return the devices that the rollout brought to its release."""
    return [host for host, outcome in rollout.outcomes.items() if outcome in ON_NEW_VERSION]


def judge(rollout: Rollout, reads: Mapping[str, Result]) -> Rollout | None:
    """Return the rollout with one more analysis, failed if that is its verdict; None if none is due yet.

    ``reads`` has what ``model_info`` returned, by device.
    """
    devices = [_observed(rollout, name, read) for name, read in reads.items()]
    labels = late_labels.count_labels(devices)
    before = rollout.labels[-1].labels if rollout.labels else 0
    if not late_labels.is_due(labels, before):
        return None
    limits = judging.read_limits(rollout.settings.get("limits") or {})
    verdict, findings = late_labels.judge_labels(devices, limits, len(rollout.labels) + 1)
    documents = tuple({**finding.to_dict(), "reason": words.reason(finding)} for finding in findings)
    judged = rollout.with_labels_judged(LabelAnalysis(utc_now(), verdict, labels, documents))
    if verdict is not Verdict.FAIL:
        return judged
    failed = [finding for finding in findings if finding.verdict is Verdict.FAIL]
    return judged.closed(State.FAILED, f"labels that came later: {'; '.join(words.lines(failed))}")


def describe(rollout: Rollout, hosts: Sequence[str], *, planned: bool) -> str:
    """Return in a sentence what follows of the last analysis; ``planned`` in check mode."""
    analysis = rollout.labels[-1]
    if analysis.verdict is not Verdict.FAIL:
        return f"{rollout.id}: {analysis.labels} labels by now: {analysis.verdict.value}"
    would = "would fail, and its devices would leave" if planned else "has failed, and its devices leave"
    return f"{rollout.id} {would} {rollout.version} ({len(hosts)}): {rollout.why}"


def _observed(rollout: Rollout, name: str, read: Result) -> DeviceObservation:
    swap = {"changed": False, "version": rollout.version, "live": rollout.version}
    return observe_device(name, rollout.plan.device_classes.get(name, "all"), swap, read)


def _has_limit(rollout: Rollout) -> bool:
    return Check.LIVE_ACCURACY_DROP.is_made(judging.read_limits(rollout.settings.get("limits") or {}))


def _age_days(rollout: Rollout, now: str) -> float:
    """How long ago the last wave was judged; a run that finds nothing to do does not make that younger."""
    ended = max((wave.ended or "" for wave in rollout.waves), default="")
    times = [words.time_of(text) for text in (ended, now)]
    if times[0] is None or times[1] is None:
        return float("inf")
    return (times[1] - times[0]) / datetime.timedelta(days=1)
