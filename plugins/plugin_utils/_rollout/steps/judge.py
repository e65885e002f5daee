# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The step that judges a wave by what its devices returned, and notes where the rollout stops."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import judging, ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next, after_verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import SHADOW_WAVE, PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, Wave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Run

from . import pulling
from .scene import (
    CONTROLS_AFTER,
    CONTROLS_BEFORE,
    READ,
    REPORTED,
    SOAKED,
    Result,
    Scene,
    StepError,
    changed,
    current_rollout,
    results_by_item,
    swap_result,
)


def judge(scene: Scene) -> Result:
    """Judge the wave by what its devices returned, and note the verdict.

    After one that is no pass the run has which devices go back; those that pull are told so. A wave that could not be
    judged pauses the rollout.
    """
    run, rollout = current_rollout(scene)
    wave = run.wave_of(scene.batch)
    try:
        soaked = scene.registered(scene.batch[0], SOAKED)
        analysis = int(soaked["analysis"])
        if soaked.get("trouble"):
            raise StepError(str(soaked["trouble"]))
        judged = _judge(scene, run, rollout, wave, analysis)
    except Exception as error:  # Whatever kept the gate from a verdict: the devices that have the version stay.
        return _unjudged(scene, run, rollout, wave, error)
    rollout = rollout.with_verdict(wave.number, judged.verdict, judged.findings, judged.outcomes)
    following = after_verdict(judged.verdict, analysis, run.options.analyses_max)
    result: Result = {
        "wave": wave.number,
        "verdict": judged.verdict.value,
        "checks": len(judged.reasons),
        "problems": list(judged.problems),
        "msg": [f"Wave {wave.number} ({wave.name}): {judged.verdict.value}", *judged.reasons],
    }
    problems, unwritten = judged.problems, _unwritten(run, rollout, wave, result)
    if unwritten and following is Next.NEXT_WAVE:
        # Nothing would say later that the wave has passed.
        following, problems = Next.END, tuple(result["warnings"])
        run = run.paused("; ".join(problems))
        result["problems"] = list(problems)
    if following in (Next.REVERT, Next.END):
        run = run.stopped(rollout, problems, unwritten)
        asked = pulling.begin_reverts(scene, run)
        warnings = [*result.get("warnings", []), *asked.pop("warnings", [])]
        result.update(asked, **({"warnings": warnings} if warnings else {}), **changed(run, scene))
        following = Next.REVERT if run.revert else Next.END
    if wave.number == SHADOW_WAVE and following is not Next.SOAK_AGAIN:
        result.update(changed(dataclasses.replace(run, shadow=() if _passed(judged) else run.shadow), scene))
        following = Next.END_SHADOW
    result["next"] = following.value
    return result


def _judge(scene: Scene, run: Run, rollout: Rollout, wave: PlannedWave, analysis: int) -> judging.Judged:
    limits, most = judging.read_limits(run.options.limits), run.options.analyses_max
    swaps = {host: swap_result(scene, host) for host in wave.hosts}
    reads = {host: scene.registered(host, READ) for host in wave.hosts}
    classes = rollout.plan.device_classes
    if wave.number == SHADOW_WAVE:
        answers = {host: (swaps[host], reads[host]) for host in wave.hosts}
        memory = _declared_memory(run.manifest)
        return judging.judge_shadow(answers, classes, memory, limits, analysis=analysis, analyses_max=most)
    measured = judging.Measured(
        device_classes=classes,
        version=rollout.version,
        swaps=swaps,
        reads=reads,
        before={
            **results_by_item(scene.registered(scene.batch[0], CONTROLS_BEFORE)),
            **(scene.registered(scene.batch[0], REPORTED).get("controls") or {}),
        },
        after=results_by_item(scene.registered(scene.batch[0], CONTROLS_AFTER)),
        earlier=rollout.earlier_outcomes(wave),
        profiled=run.profiled,
    )
    return judging.judge(measured, limits, analysis=analysis, analyses_max=most)


def _unjudged(scene: Scene, run: Run, rollout: Rollout, wave: PlannedWave, error: Exception) -> Result:
    why = str(error) if isinstance(error, EdgemlError) else f"{type(error).__name__}: {error}"
    problem = f"wave {wave.number} ({wave.name}) could not be judged: {why}"
    rollout = rollout.with_verdict(wave.number, Verdict.INCONCLUSIVE, (), {})
    stopped = run.stopped(rollout, [problem], rollout.begun_wave(wave.number))
    following = Next.END_SHADOW if wave.number == SHADOW_WAVE else Next.END
    return {"wave": wave.number, "next": following.value, "msg": [problem], **changed(stopped, scene)}


def _unwritten(run: Run, rollout: Rollout, wave: PlannedWave, result: Result) -> Wave | None:
    """Write the verdict; return the wave if the ledger cannot take it, with a warning in ``result``."""
    try:
        ledger.write(run.path, rollout)
    except ledger.LedgerError as error:
        result["warnings"] = [str(error)]
        return rollout.begun_wave(wave.number)
    return None


def _passed(judged: judging.Judged) -> bool:
    return judged.verdict is Verdict.PASS


def _declared_memory(manifest: Mapping[str, Any]) -> dict[str, int]:
    """What each variant of a release declares that it takes."""
    variants = manifest.get("variants") or ()
    return {str(item.get("name")): int(item["memory_bytes"]) for item in variants if item.get("memory_bytes")}
