# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The last step of a rollout: what became of each device, and what the run fails with."""

from __future__ import annotations

from typing import Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import devices, judging
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import ended
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome, one_line, swap_outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import SHADOW_WAVE
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.record import Recorded, record
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, State
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Reconciliation, Rollback, Run

from . import pulling, reconcile, rollback
from .scene import Result, Scene, current_rollout, current_run, revert_result, swap_result

_REFUSALS = (Outcome.REFUSED, Outcome.FAILED, Outcome.FAILED_BEFORE)
_SHOWN = 5


def close(scene: Scene) -> Result:
    """Sum up what became of each device; the result has a table, the statistics for workflows, and what failed."""
    run = current_run(scene)
    if isinstance(run, Reconciliation):
        return reconcile.close(scene, run)
    if isinstance(run, Rollback):
        return rollback.close(scene, run)
    return _close_rollout(scene)


def _close_rollout(scene: Scene) -> Result:
    run, rollout = current_rollout(scene)
    # What a device of wave 0 returned there is no swap of a wave that has not begun.
    begun = {wave.number for wave in rollout.waves}
    results = {
        host: devices.DeviceResults(
            swap=swap_result(scene, host) if scene.check_mode or wave.number in begun else {},
            revert=revert_result(scene, host) if host in run.revert else {},
        )
        for wave in run.waves
        for host in wave.hosts
    }
    rows = devices.rollout_rows(
        run.waves,
        results,
        {} if scene.check_mode else rollout.outcomes,
        device_classes=rollout.plan.device_classes,
        left_out=rollout.plan.left_out,
    )
    state, why = ended(rollout, run.waves, run.pause, run.problems, run.others)
    rollout = rollout.closed(state, why, rows)
    result: Result = {
        "msg": text_table(rows),
        "state": "planned" if scene.check_mode else state.value,
        "why": "" if scene.check_mode else why,
        "problem": "",
    }
    recorded = Recorded("", "", ())
    if scene.check_mode:
        result["problem"] = _problem_of_check(rollout, run, results)
    else:
        result["problem"] = _problem(rollout, run)
        recorded = record(run.path, rollout, run.options.evidence_key_file)
        warnings = [*recorded.warnings, *(pulling.publish_at_end(scene, rollout) if run.pulled else [])]
        result.update({"warnings": warnings} if warnings else {})
    result["stats"] = {
        "rollout_id": rollout.id,
        "rollout_verdict": _verdict(scene, run, rollout),
        "rollout_outcomes": devices.count_outcomes(rows),
        "rollout_report": recorded.report,
        "rollout_evidence": recorded.evidence,
    }
    return result


def _verdict(scene: Scene, run: Run, rollout: Rollout) -> str:
    if scene.check_mode:
        return "planned"
    if run.pause:
        return "paused"
    # A wave of others may have ended otherwise: in another run, for a part of the fleet.
    own = [rollout.wave(number) for number in (SHADOW_WAVE, *(wave.number for wave in run.waves))]
    judged = [wave.verdict for wave in own if wave and wave.verdict]
    verdict = next((found for found in judged if found is not Verdict.PASS), Verdict.PASS)
    if not judged:
        return Verdict.INCONCLUSIVE.value
    return State.PAUSED.value if verdict is Verdict.PASS and rollout.state is State.PAUSED else verdict.value


def _problem_of_check(rollout: Rollout, run: Run, results: Mapping[str, devices.DeviceResults]) -> str:
    """What a run would fail with, as far as check mode shows it: the first wave of which too many devices refuse."""
    allowance = judging.read_limits(run.options.limits).max_failures
    for wave in run.waves:
        swaps = {host: results[host].swap for host in wave.hosts}
        refusing = [host for host, swap in swaps.items() if swap and swap_outcome(swap) in _REFUSALS]
        allowed = allowance.of(len(wave.hosts))
        if len(refusing) > allowed:
            return (
                f"{rollout.id}: a run would fail in wave {wave.number} ({wave.name}), and nothing was changed: "
                f"{len(refusing)} of {counted(len(wave.hosts), 'device')} would refuse the release (at most "
                f"{allowed}): {', '.join(f'{host}: {one_line(swaps[host])}' for host in refusing[:_SHOWN])}"
            )
    return ""


def _problem(rollout: Rollout, run: Run) -> str:
    """What the run fails with; nothing if every wave passed."""
    if rollout.state is State.PASSED:
        return ""
    if rollout.state is State.PAUSED:
        own = {host for wave in run.waves for host in wave.hosts}
        # Where its own devices have passed, the reason says which command goes on with the others.
        goes_on = "" if own.isdisjoint(rollout.not_passed) else ", and the same command goes on from here"
        return f"{rollout.id}: paused; nothing was reverted{goes_on}. {rollout.why}"
    if rollout.wave(SHADOW_WAVE) and not rollout.reached:
        return f"{rollout.id}: failed as a shadow; no client saw it. {rollout.why}"
    left = [row["device"] for row in rollout.devices if row["after"] == rollout.version]
    later = "edgeml.fleet.reconcile reverts them when they can be reached"
    still = f"Still on {rollout.version}: {', '.join(left)}. {later}. " if left else ""
    return f"{rollout.id}: failed, and was reverted where it had been activated. {still}{rollout.why}"
