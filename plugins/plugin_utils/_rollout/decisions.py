# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Decisions: whether a wave begins, how long it soaks, what follows its verdict, and how a rollout ends. Pure."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Collection, Iterable, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common import window
from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted

from . import devices
from .gate.checks import Verdict
from .options import RolloutOptions
from .outcome import Outcome
from .plan import SHADOW_WAVE, PlannedWave
from .rollout import Agreement, Rollout, State
from .word import Word

_UNTOUCHED = (Outcome.REFUSED, Outcome.AWAY)


class Next(Word):
    """What the playbook does after a step."""

    ROLL_OUT = "roll_out"
    SWAP = "swap"
    ASK = "ask"
    REFUSE = "refuse"
    NEXT_WAVE = "next_wave"
    END_SHADOW = "end_shadow"
    SOAK_AGAIN = "soak_again"
    REVERT = "revert"
    END = "end"


@dataclass(frozen=True)
class Decision:
    """What follows, and why: ``text`` is empty where it needs no reason, and the question where ``next`` is ASK."""

    next: Next
    text: str = ""


def agreed_after(options: RolloutOptions, waves: Sequence[PlannedWave], wave: PlannedWave) -> int:
    """Return after which wave somebody has to agree before this one of ``waves`` begins; 0 where nobody has to.

    It need not be the one before: a run for a part of the fleet plays only waves that have devices of it.
    """
    before = max((other.number for other in waves if other.number < wave.number), default=0)
    return max((number for number in options.approve_after if before <= number < wave.number), default=0)


def before_wave(
    options: RolloutOptions,
    wave: PlannedWave,
    *,
    agree_after: int,
    now: datetime.datetime,
    answer: str | None,
    can_ask: bool,
) -> Decision:
    """Decide whether a wave begins: not outside the window, and not before somebody agreed.

    ``agree_after`` is the wave after which somebody has to agree, 0 for nobody; ``answer`` what a person typed, None
    before anybody was asked.
    """
    if options.plan_only:
        return Decision(Next.END)
    if not window.is_open(options.window, now):
        return Decision(Next.END, f"outside the maintenance window ({', '.join(options.window)})")
    if options.approved >= agree_after:
        return Decision(Next.SWAP)
    if answer is None and can_ask:
        has = counted(len(wave.hosts), "device")
        return Decision(Next.ASK, f"Wave {wave.number} ({wave.name}) has {has}. Type yes to go on")
    if answer is not None and answer.strip().lower() == "yes":
        return Decision(Next.SWAP)
    return Decision(
        Next.END, f"somebody has to agree to wave {wave.number}: run it again with rollout_approved={agree_after}"
    )


def behind(rollout: Rollout, waves: Sequence[PlannedWave], wave: PlannedWave) -> str:
    """Return why a wave does not begin: one before it has not passed. Nothing if all of them have."""
    for before in waves:
        if before.number >= wave.number:
            break
        known = rollout.wave(before.number)
        if known is None or known.verdict is not Verdict.PASS:
            return f"wave {before.number} ({before.name}) has not passed"
    return ""


def agreement(
    options: RolloutOptions, agree_after: int, *, answer: str | None, operator: str, time: str
) -> Agreement | None:
    """Return who agreed to a wave that begins; None where nobody had to. ``operator`` runs the playbook."""
    if not agree_after:
        return None
    if answer is not None:
        return Agreement(time, operator, "terminal")
    return Agreement(time, options.approved_by or operator, "rollout_approved")


def after_verdict(verdict: Verdict, analysis: int, analyses_max: int) -> Next:
    """Decide what follows an analysis, which counts from 1."""
    if verdict is Verdict.PASS:
        return Next.NEXT_WAVE
    if verdict is Verdict.FAIL:
        return Next.REVERT
    return Next.SOAK_AGAIN if analysis < analyses_max else Next.END


def soak_seconds(soak: int, analysis: int, active: Iterable[float]) -> float:
    """Return how long a wave still soaks.

    One that soaked before the rollout was interrupted does not soak again: ``active`` is for how long each of its
    devices has had the version.
    """
    soaked = min(active, default=0.0) if analysis == 1 else 0.0
    return max(soak - soaked, 0.0)


def ended(
    rollout: Rollout,
    waves: Sequence[PlannedWave],
    pause: str = "",
    problems: Sequence[str] = (),
    others: Collection[str] = (),
) -> tuple[State, str]:
    """Decide how a run over ``waves`` has ended, and why.

    ``pause`` is why no further wave began, empty if nothing kept it from beginning; ``problems`` are what the gate
    found in the last one. A planned wave without a verdict is never passed over, nor one of ``others``, the devices of
    the rollout that take part in it and not in this run.
    """
    shadow = rollout.wave(SHADOW_WAVE)
    if shadow is not None and shadow.verdict is not Verdict.PASS:
        state = State.FAILED if shadow.verdict is Verdict.FAIL else State.PAUSED
        return state, "; ".join(problems) or pause or "wave 0 (shadow) was not judged"
    for wave in waves:
        judged = rollout.wave(wave.number)
        verdict = judged.verdict if judged else None
        if verdict is Verdict.PASS:
            continue
        where = f"wave {wave.number} ({wave.name})"
        if verdict is Verdict.FAIL:
            # Where no device has anything of it, there is nothing to keep others from: what was wrong may be mended.
            untouched = all(outcome in _UNTOUCHED for outcome in rollout.outcomes.values())
            return State.PAUSED if untouched else State.FAILED, "; ".join(problems) or f"{where} failed"
        if pause:
            return State.PAUSED, pause
        if verdict is Verdict.INCONCLUSIVE:
            return State.PAUSED, "; ".join(problems) or f"{where} is inconclusive"
        return State.PAUSED, f"{where} was not judged"
    missing = rollout.not_passed
    to_come = [host for host in missing if host in others]
    if to_come:
        return State.PAUSED, (
            f"the devices of this run passed, and {counted(len(to_come), 'device')} of the rollout not yet: "
            f"{devices.named(to_come)}. This run was for a part of the fleet: run the same command without --limit and "
            "with the rollout's rollout_hosts"
        )
    why = "every wave passed"
    gone = [host for host in missing if all(host not in wave.hosts for wave in waves)]
    if gone:
        why += f", without {counted(len(gone), 'device')} no longer taking part: {devices.named(gone)}"
    if rollout.plan.limited:
        why += ", on a part of the fleet: without --limit the same command goes on with other devices, if there are any"
    return State.PASSED, why
