# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The step that judges a wave by what its devices returned."""

from __future__ import annotations

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import judging, ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next, after_verdict

from .scene import CONTROLS_AFTER, CONTROLS_BEFORE, READ, SOAKED, SWAP, Result, Scene, current_rollout, results_by_item


def judge(scene: Scene) -> Result:
    """Judge the wave by what its devices returned, and note the verdict."""
    run, rollout = current_rollout(scene)
    wave = run.wave_of(scene.batch)
    analysis = int(scene.registered(scene.batch[0], SOAKED)["analysis"])
    measured = judging.Measured(
        device_classes=rollout.plan.device_classes,
        version=rollout.version,
        swaps={host: scene.registered(host, SWAP) for host in wave.hosts},
        reads={host: scene.registered(host, READ) for host in wave.hosts},
        before=results_by_item(scene.registered(scene.batch[0], CONTROLS_BEFORE)),
        after=results_by_item(scene.registered(scene.batch[0], CONTROLS_AFTER)),
        earlier=rollout.earlier_outcomes(wave),
        profiled=run.profiled,
    )
    judged = judging.judge(
        measured,
        judging.read_limits(run.options.limits),
        analysis=analysis,
        analyses_max=run.options.analyses_max,
    )
    following = after_verdict(judged.verdict, analysis, run.options.analyses_max)
    rollout = rollout.with_verdict(wave.number, judged.verdict, judged.findings, judged.outcomes)
    result: Result = {
        "wave": wave.number,
        "verdict": judged.verdict.value,
        "checks": len(judged.reasons),
        "problems": list(judged.problems),
        "msg": [f"Wave {wave.number} ({wave.name}): {judged.verdict.value}", *judged.reasons],
    }
    try:
        ledger.write(run.path, rollout)
    except ledger.LedgerError as error:
        result["warnings"] = [str(error)]
        result["unwritten"] = rollout.begun_wave(wave.number).to_dict()
        if following is Next.NEXT_WAVE:
            following = Next.END
            result["problems"] = [str(error)]
    result["next"] = following.value
    return result
