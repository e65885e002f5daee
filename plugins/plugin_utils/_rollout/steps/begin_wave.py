# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The step that begins a wave: not outside the window, not before somebody agreed."""

from __future__ import annotations

import datetime

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import (
    Decision,
    Next,
    agreement,
    before_wave,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import RolloutError, utc_now

from .scene import Result, Scene, current_rollout, noted, swap_call


def begin_wave(scene: Scene, answer: str | None = None) -> Result:
    """Decide whether the wave of the present batch begins, and note that it has. ``answer``: what a person typed."""
    run, rollout = current_rollout(scene)
    wave = None
    try:
        wave = run.wave_of(scene.batch)
        if scene.check_mode and not run.options.plan_only:
            decision = Decision(Next.SWAP)
        else:
            now = datetime.datetime.now(datetime.timezone.utc)
            decision = before_wave(run.options, wave, now=now, answer=answer, can_ask=scene.can_ask)
        if decision.next is Next.SWAP and not scene.check_mode:
            agreed = agreement(run.options, wave, answer=answer, operator=scene.operator, time=utc_now())
            ledger.write(run.path, rollout.with_wave_begun(wave.number, wave.name, agreed))
    except (RolloutError, ledger.LedgerError) as error:
        decision = Decision(Next.END, str(error))
    result: Result = {
        "next": decision.next.value,
        "wave": wave.number if wave else None,
        "prompt": decision.text if decision.next is Next.ASK else "",
        "why": decision.text if decision.next is Next.END else "",
        "controls": [],
    }
    if decision.next is Next.END:
        result.update(noted(run.paused(decision.text), scene))
    elif wave:
        result["controls"] = [] if scene.check_mode else run.controls_of(wave)
        result["call"] = swap_call(run, rollout)
    return result
