# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Whether enough devices work and reported, and reported what they must. Pure."""

from __future__ import annotations

from typing import Sequence

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome

from .checks import (
    Cause,
    Check,
    DeviceNote,
    Finding,
    Missing,
    Verdict,
)
from .limits import Limits
from .numerics import rounded
from .observations import DeviceObservation
from .probe_set import CHECKS as PROBE_CHECKS
from .probe_set import NAMES_MAX, form, usual_form

BAD = (Outcome.REFUSED, Outcome.FAILED, Outcome.FAILED_BEFORE, Outcome.SILENT)

# What judges how the new version answers.
_BEHAVIOUR = (
    Check.ACCURACY,
    Check.ACCURACY_DROP,
    Check.PROBE_ERROR,
    Check.ERROR_RATE,
    Check.ERROR_RATE_RISE,
    Check.LIVE_ACCURACY_DROP,
    Check.LATENCY_P95,
    Check.LATENCY_P95_SECONDS,
)


def failed_devices(begun: Sequence[DeviceObservation], silent: Sequence[DeviceObservation], limits: Limits) -> Finding:
    """Over all waves so far, because what each of them may bear adds up.

    ``silent``: those that will be asked again. A link that is gone for minutes is no failure before the last analysis.
    """
    bad = [item for item in begun if item.outcome in BAD]
    allowed = limits.max_failures.of(len(begun))
    verdict = Verdict.PASS if len(bad) <= allowed else Verdict.FAIL
    waits = verdict is Verdict.FAIL and len(bad) - len(silent) <= allowed
    return Finding(
        check=Check.FAILED_DEVICES,
        verdict=Verdict.INCONCLUSIVE if waits else verdict,
        cause=Cause.UNDECIDED if waits else None,
        estimate=len(bad),
        limit=allowed,
        samples=len(begun),
        named=tuple(DeviceNote(item.name, outcome=str(item.outcome)) for item in bad[:NAMES_MAX]),
        named_total=len(bad),
    )


def coverage(
    wave: Sequence[DeviceObservation],
    serving: Sequence[DeviceObservation],
    earlier: Sequence[DeviceObservation],
    *,
    limits: Limits,
) -> list[Finding]:
    share = len(serving) / len(wave) if wave else 0.0
    covered = bool(serving) and share >= limits.reporting_share_min
    findings = [
        Finding(
            check=Check.COVERAGE,
            verdict=Verdict.PASS if covered else Verdict.INCONCLUSIVE,
            estimate=rounded(share),
            limit=limits.reporting_share_min,
            samples=len(wave),
            events=len(serving),
        )
    ]
    if serving and limits.reporting_share_min > 0:
        heard = {
            item.device_class
            for item in (*wave, *earlier)
            if item.outcome not in (Outcome.AWAY, Outcome.SILENT, Outcome.CUT_OFF)
        }
        findings += [
            Finding(
                check=Check.COVERAGE,
                verdict=Verdict.INCONCLUSIVE,
                cause=Cause.CLASS_SILENT,
                device_class=device_class,
                estimate=0.0,
                limit=limits.reporting_share_min,
                samples=sum(item.device_class == device_class for item in wave),
                events=0,
            )
            for device_class in sorted({item.device_class for item in wave} - heard)
        ]
    return findings


def measurements(serving: Sequence[DeviceObservation], limits: Limits) -> Finding:
    """Whether each device reported what it must, as valid numbers."""
    usual = usual_form(serving)
    notes: list[DeviceNote] = []
    cause: Cause | None = None
    for item in serving:
        missing = _missing(item, serving, limits)
        if item.problems:
            notes.append(DeviceNote(item.name, problems=item.problems[:3]))
        elif item.now.probe and usual and form(item.now.probe) != usual:
            found = f"{item.now.probe.samples} samples of {item.now.probe.measured}"
            other = f"{usual[1]} of {usual[0].value}"
            notes.append(DeviceNote(item.name, problems=(f"probe: {found}, where other devices have {other}",)))
        elif item.unasked and item.now.probe and limits.compares_answers:
            cause = Cause.NOT_COMPARABLE
            notes.append(DeviceNote(item.name, problems=(f"the version before: {item.unasked}",)))
        elif missing:
            notes.append(DeviceNote(item.name, missing=missing))
    if notes:
        return Finding(
            check=Check.MEASUREMENTS,
            verdict=Verdict.INCONCLUSIVE,
            cause=cause,
            estimate=len(notes),
            samples=len(serving),
            named=tuple(notes[:NAMES_MAX]),
            named_total=len(notes),
        )
    asked = [item for item in serving if item.now.probe or (item.now.requests and item.now.requests.requests)]
    judged = any(check.is_made(limits) for check in _BEHAVIOUR)
    return Finding(
        check=Check.MEASUREMENTS,
        verdict=Verdict.PASS if asked or not judged else Verdict.INCONCLUSIVE,
        cause=None if asked or not judged else Cause.NOTHING_ASKED,
        estimate=0,
        samples=len(serving),
    )


def _missing(item: DeviceObservation, serving: Sequence[DeviceObservation], limits: Limits) -> Missing | None:
    """What a device did not report, although others did or the release has it asked."""
    made = [check for check in PROBE_CHECKS if check.is_made(limits)]
    if made and not item.now.probe and any(other.probe_expected for other in serving):
        return Missing.PROBE
    if limits.compares_answers and item.now.probe and not item.first_installation and not item.past.probe:
        return Missing.BASELINE
    counted = Check.ERROR_RATE.is_made(limits) or Check.ERROR_RATE_RISE.is_made(limits)
    if counted and not item.now.requests and any(other.now.requests or other.past.requests for other in serving):
        return Missing.REQUESTS
    return None
