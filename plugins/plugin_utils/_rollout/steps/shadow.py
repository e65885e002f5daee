# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The steps of wave 0: some devices answer copies of requests with the release, before any client sees it."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections import defaultdict
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import judging, ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next, after_verdict, before_wave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import SHADOW_WAVE, PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout

from .scene import (
    SHADOW_READ,
    SHADOW_SOAKED,
    SHADOWED,
    Result,
    Scene,
    StepError,
    current_rollout,
    noted,
    results_by_item,
    swap_call,
)

NAME = "shadow"
# Beyond the longest soak: what the calls to the devices of wave 0, one after the other, may take.
_MARGIN_SECONDS = 900.0


def has_passed(rollout: Rollout) -> bool:
    """Return whether wave 0 has passed, also in an earlier run."""
    wave = rollout.wave(SHADOW_WAVE)
    return wave is not None and wave.verdict is Verdict.PASS


def shadow_hosts(
    count: int, device_classes: Mapping[str, str], waves: Sequence[PlannedWave], pulled: Sequence[str]
) -> tuple[str, ...]:
    """Return the devices of wave 0: of each class the first ``count`` of the plan.

    Raises StepError for a class that nobody can reach: nobody asks a device that pulls for a shadow.
    """
    chosen: dict[str, list[str]] = defaultdict(list)
    for host in (host for wave in waves for host in wave.hosts) if count else ():
        found = chosen[device_classes[host]]
        if host not in pulled and len(found) < count:
            found.append(host)
    for name, hosts in sorted(chosen.items()):
        if not hosts:
            raise StepError(
                f"rollout_shadow_devices: expected a device of the class {name} that is reached by push; all of them "
                "pull, and no device that pulls can be asked for a shadow. Set rollout_shadow_devices=0"
            )
    return tuple(host for hosts in chosen.values() for host in hosts)


def begin_shadow(scene: Scene) -> Result:
    """Decide whether wave 0 begins, and note that it has."""
    run, rollout = current_rollout(scene)
    decision = before_wave(
        run.options,
        PlannedWave(SHADOW_WAVE, NAME, run.shadow),
        now=datetime.datetime.now(datetime.timezone.utc),
        answer=None,
        can_ask=False,
    )
    result: Result = {"next": decision.next.value, "hosts": list(run.shadow), "why": decision.text}
    if decision.next is not Next.SWAP:
        return {**result, **noted(run.paused(decision.text), scene)}
    ledger.write(run.path, rollout.with_wave_begun(SHADOW_WAVE, NAME))
    seconds = run.options.soak_seconds_max + run.options.soak_seconds + _MARGIN_SECONDS
    return {**result, "call": {**swap_call(run, rollout), "shadow_seconds": seconds}}


def soak_shadow(scene: Scene) -> Result:
    """Wait until the shadows have answered for long enough."""
    run = current_rollout(scene)[0]
    analysis = int(scene.registered(scene.batch[0], SHADOW_SOAKED).get("analysis", 0)) + 1
    time.sleep(run.options.soak_seconds)
    return {"analysis": analysis, "elapsed": run.options.soak_seconds}


def judge_shadow(scene: Scene) -> Result:
    """Judge wave 0 by what its devices returned, and note the verdict."""
    run, rollout = current_rollout(scene)
    first, options = scene.batch[0], run.options
    analysis = int(scene.registered(first, SHADOW_SOAKED)["analysis"])
    started = results_by_item(scene.registered(first, SHADOWED))
    read = results_by_item(scene.registered(first, SHADOW_READ))
    judged = judging.judge_shadow(
        {host: (started.get(host, {}), read.get(host, {})) for host in run.shadow},
        rollout.plan.device_classes,
        _declared_memory(run.manifest),
        judging.read_limits(options.limits),
        analysis=analysis,
        analyses_max=options.analyses_max,
    )
    following = after_verdict(judged.verdict, analysis, options.analyses_max)
    rollout = rollout.with_verdict(SHADOW_WAVE, judged.verdict, judged.findings, judged.outcomes)
    ledger.write(run.path, rollout)
    passed = judged.verdict is Verdict.PASS
    run = dataclasses.replace(run, shadow=() if passed else run.shadow, problems=judged.problems)
    return {
        "next": following.value,
        "verdict": judged.verdict.value,
        "problems": list(judged.problems),
        "checks": len(judged.reasons),
        "msg": [f"Wave 0 (shadow): {judged.verdict.value}", *judged.reasons],
        **noted(run, scene),
    }


def _declared_memory(manifest: Mapping[str, Any]) -> dict[str, int]:
    """What each variant of a release declares that it takes."""
    variants = manifest.get("variants") or ()
    return {str(item.get("name")): int(item["memory_bytes"]) for item in variants if item.get("memory_bytes")}
