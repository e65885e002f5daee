# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The trial of a switched version: what the device sees of it, against its limits, gives a verdict. Pure."""

from __future__ import annotations

from typing import NamedTuple

from .._common.words import counted
from .state import Record, Trial

COMMIT = "commit"
REVERT = "revert"
WAIT = "wait"

# Looks in a row without an answer. systemd's own watchdog and start limit are quicker where the server is at fault.
UNREADY_MAX = 3
# Restarts of the device; bootloaders that count boots use 3 as well (U-Boot's bootlimit is commonly so set).
BOOTS_MAX = 3
# What a server's own memory may grow by under traffic: buffers, threads, the allocator's arenas.
MEMORY_GROWTH_BYTES = 64 << 20


class Reading(NamedTuple):
    """One look: whether the server answers, whether the version on trial is ready there (None: unknown, because the
    server does not answer), and what was counted of it. ``why``: what is known of a version that is not ready."""

    answers: bool
    ready: bool | None
    record: Record | None
    why: str = ""


def judge_trial(trial: Trial, reading: Reading, elapsed: float, last: bool = False) -> tuple[str, str]:
    """Return the verdict on a version after ``elapsed`` seconds of its trial, and the reason in words and numbers.

    ``last``: there will be no other look, so what is not worse than its limits is committed; of a server that does
    not answer nothing is known.
    """
    reason = _crashed(trial, reading) or _unready(trial, reading) or _slow_or_failing(trial, reading)
    if reason:
        return REVERT, reason
    if not reading.ready:
        return WAIT, "the server does not answer"
    if last:
        return COMMIT, f"within its limits for {elapsed:.0f} s, when another version was asked for"
    if elapsed >= trial.seconds:
        return COMMIT, f"within its limits for {elapsed:.0f} s"
    return WAIT, f"{trial.seconds - elapsed:.0f} s are left"


def _crashed(trial: Trial, reading: Reading) -> str | None:
    crashes = trial.crashes
    before, now = (record.restarts if record else None for record in (trial.begun, reading.record))
    if before is not None and now is not None:
        crashes += max(0, now - before)
    if crashes > trial.limits.crashes_max:
        return f"the service crashed {counted(crashes, 'time')} (at most {trial.limits.crashes_max})"
    if trial.boots > BOOTS_MAX:
        return f"the device restarted {counted(trial.boots, 'time')} (at most {BOOTS_MAX})"
    return None


def _unready(trial: Trial, reading: Reading) -> str | None:
    if reading.answers and not reading.ready:
        return reading.why or "the server answers, and the version is not ready there"
    if not reading.answers and trial.unready > UNREADY_MAX:
        return f"the server did not answer {trial.unready} times in a row (at most {UNREADY_MAX})"
    return None


def _slow_or_failing(trial: Trial, reading: Reading) -> str | None:
    now, before, limits = _since(trial.begun, reading.record), trial.baseline, trial.limits
    if now is None:
        return None
    enough = max(limits.requests_min, 1)
    if now.requests >= enough:
        rate, usual = now.errors / now.requests, _error_rate(before)
        if rate > max(limits.error_rate_max, usual):
            return (
                f"{now.errors} of {now.requests} requests failed (at most {limits.error_rate_max:.1%}, "
                f"and {usual:.1%} did of the version before)"
            )
    if before is not None and min(now.timed, before.timed) >= enough and before.latency_seconds_sum > 0:
        mean, old = now.latency_seconds_sum / now.timed, before.latency_seconds_sum / before.timed
        if mean > limits.latency_ratio_max * old:
            return (
                f"a request takes {mean * 1000:.2f} ms, {mean / old:.2f} times the {old * 1000:.2f} ms of the "
                f"version before (at most {limits.latency_ratio_max:g} times)"
            )
    if before is not None and before.resident_bytes is not None and now.resident_bytes is not None:
        most = before.resident_bytes + trial.memory_bytes + MEMORY_GROWTH_BYTES
        if now.resident_bytes > most:
            return (
                f"the server uses {now.resident_bytes} bytes (at most {most}: {before.resident_bytes} before, "
                f"{trial.memory_bytes} that the release declares, and {MEMORY_GROWTH_BYTES} to grow by)"
            )
    return None


def _since(begun: Record | None, now: Record | None) -> Record | None:
    """What was counted since the trial began; counters that are lower than they were began anew with the server."""
    if begun is None or now is None or now.requests < begun.requests or now.errors < begun.errors:
        return now
    return now._replace(
        requests=now.requests - begun.requests,
        errors=now.errors - begun.errors,
        timed=max(now.timed - begun.timed, 0),
        latency_seconds_sum=max(now.latency_seconds_sum - begun.latency_seconds_sum, 0.0),
    )


def _error_rate(record: Record | None) -> float:
    return record.errors / record.requests if record and record.requests else 0.0
