# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The step that notes why a rollout stops after a wave, and which devices go back."""

from __future__ import annotations

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Wave

from .scene import JUDGED, Result, Scene, current_rollout, noted


def stop(scene: Scene) -> Result:
    """Note why the rollout does not go on after this wave, and which devices go back."""
    run, rollout = current_rollout(scene)
    wave = run.wave_of(scene.batch)
    judged = scene.registered(scene.batch[0], JUDGED)
    unwritten = None
    if judged.get("unwritten"):
        unwritten = Wave.from_dict(judged["unwritten"])
        rollout = rollout.with_wave(unwritten)
    problems = list(judged.get("problems") or ())
    if "verdict" not in judged:
        problems = [f"wave {wave.number} ({wave.name}) could not be judged: {judged.get('msg') or 'no result'}"]
        rollout = rollout.with_verdict(wave.number, Verdict.INCONCLUSIVE, (), {})
        unwritten = rollout.begun_wave(wave.number)
    stopped = run.stopped(rollout, problems, unwritten)
    if judged.get("verdict") == Verdict.PASS.value:
        stopped = stopped.paused("; ".join(problems))
    return {"next": (Next.REVERT if stopped.revert else Next.END).value, **noted(stopped, scene)}
