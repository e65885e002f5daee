# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The step that begins a wave: inside the window, once somebody agreed, and after waves that have passed."""

from __future__ import annotations

import datetime

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import (
    Decision,
    Next,
    agreed_after,
    agreement,
    before_wave,
    behind,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import SHADOW_WAVE, PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, RolloutError, utc_now
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Run

from . import pulling
from .calls import shadow_call, swap_call
from .scene import Result, Scene, changed, current_rollout


def begin_wave(scene: Scene) -> Result:
    """Decide whether the wave of the present batch begins; note that it has, and have its devices that pull begin.

    A person at the terminal is asked where somebody has to agree. The result says how the devices are called. Nobody
    waits here: ``collect_swaps`` does, when the devices that are called have begun as well.
    """
    run, rollout = current_rollout(scene)
    wave, answer = None, None
    try:
        why = run.pause or "; ".join(run.problems)
        if run.shadow and set(run.shadow) != set(scene.batch):
            why = why or "wave 0 (shadow) has not passed"
        if why:
            return {"next": Next.END.value, "wave": None, "why": why}
        wave = run.wave_of(scene.batch)
        agree_after = agreed_after(run.options, run.waves, wave)
        decision = _decide(scene, run, rollout, wave, agree_after, None)
        if decision.next is Next.ASK:
            answer = scene.ask(decision.text)
            decision = _decide(scene, run, rollout, wave, agree_after, answer)
        if decision.next is Next.SWAP and not scene.check_mode:
            agreed = agreement(run.options, agree_after, answer=answer, operator=scene.operator, time=utc_now())
            ledger.write(run.path, rollout.with_wave_begun(wave.number, wave.name, agreed, wave.hosts))
    except (RolloutError, ledger.LedgerError) as error:
        decision = Decision(Next.END, str(error))
    result: Result = {
        "next": decision.next.value,
        "wave": wave.number if wave else None,
        "why": decision.text,
        "controls": [],
        "controls_called": [],
    }
    if decision.next is Next.END:
        result.update(changed(run.paused(decision.text), scene))
    elif wave:
        controls = [] if scene.check_mode else run.controls_of(wave)
        result.update(controls=controls, controls_called=[host for host in controls if host not in run.pulled])
        result["call"] = shadow_call(run, rollout) if wave.number == SHADOW_WAVE else swap_call(run, rollout)
        result.update(pulling.begin_swaps(scene))
    return result


def _decide(
    scene: Scene, run: Run, rollout: Rollout, wave: PlannedWave, agree_after: int, answer: str | None
) -> Decision:
    if scene.check_mode and not run.options.plan_only:
        return Decision(Next.SWAP)
    why = behind(rollout, run.waves, wave)
    if why and not run.options.plan_only:
        return Decision(Next.END, why)
    now = datetime.datetime.now(datetime.timezone.utc)
    return before_wave(run.options, wave, agree_after=agree_after, now=now, answer=answer, can_ask=scene.can_ask)
