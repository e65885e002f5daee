# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The first and the last step of a rollback by an operator."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import devices, ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.evidence import read_key
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import LedgerOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.record import record
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, State
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Rollback

from . import pulling
from .names import refuse_unknown_names
from .scene import Result, Scene, StepError, hold_lock, noted, revert_result, whole_fleet


def rollback(scene: Scene) -> Result:
    """Find out what to go back from, and note that its rollouts are rolled back before any device is touched.

    So no schedule brings the version back to a device that has just left it.
    """
    refuse_unknown_names(scene, "rollback_", "rollout_")
    whole_fleet(scene, "rollback_hosts")
    values, options = scene.variables, LedgerOptions.from_variables(scene.variables)
    directory = options.ledger_directory
    if options.evidence_key:
        read_key(options.evidence_key_file)
    if not scene.check_mode:
        hold_lock(directory, scene, "rollback")
    found = ledger.read_all(directory)
    reason = str(values.get("rollback_reason") or "rollback by an operator")
    wave = values.get("rollback_wave")
    # What nobody answered in a survey is an empty text.
    wave = None if wave == "" else wave
    if wave is not None and not values.get("rollback_rollout"):
        known = ", ".join(item.id for item in found.rollouts) or "none"
        raise StepError(
            f"rollback_wave: expected rollback_rollout beside it, the rollout that wave {wave} is of: {known}. Without "
            "it all devices would go back"
        )
    if values.get("rollback_rollout"):
        run, concerned = _back_from_rollout(scene, found, str(values["rollback_rollout"]), wave, reason)
    else:
        run, concerned = _back_from_release(scene, found, reason)
    run = dataclasses.replace(run, pulled=pulling.pulled_hosts(scene, run.revert))
    if scene.limited or wave is not None:
        pulling.refuse_part_of_fleet(run.pulled, "a wave" if wave is not None else "--limit")
    warnings = list(found.damaged.values())
    if not scene.limited and wave is None and not scene.check_mode:
        for rollout in concerned:
            if not rollout.state.is_stopped:
                closed = rollout.closed(State.ROLLED_BACK, reason)
                recorded = record(ledger.path_of(directory, rollout.id), closed, options.evidence_key_file)
                warnings += recorded.get("warnings", [])
    asked = pulling.begin_rollback(scene, run)
    warnings += asked.pop("warnings", [])
    return {"next": Next.REVERT.value, **asked, **({"warnings": warnings} if warnings else {}), **noted(run, scene)}


def _back_from_rollout(
    scene: Scene, found: ledger.Contents, name: str, wave: Any, reason: str
) -> tuple[Rollback, list[Rollout]]:
    rollout = next((item for item in found.rollouts if item.id == name), None)
    if rollout is None:
        known = ", ".join(item.id for item in found.rollouts) or "none"
        raise StepError(
            f"rollback_rollout: expected a rollout of the ledger: {known}; found {name!r}. {_active(found)}"
        )
    planned = {item.number: item for item in rollout.plan.waves}
    if wave is not None:
        number = int(wave) if str(wave).isdecimal() else 0
        if number not in planned:
            known = ", ".join(f"{item.number} ({item.name})" for item in planned.values())
            raise StepError(f"rollback_wave: expected a wave of {name}: {known}; found {wave!r}. {_active(found)}")
        planned = {number: planned[number]}
    played = set(scene.hosts)
    hosts = [host for item in planned.values() for host in item.hosts if host in played]
    if not hosts:
        raise StepError(f"{name}: none of its devices is among the hosts of this run")
    run = Rollback(scene.process, rollout.model, rollout.version, tuple(hosts), reason, rollout.id)
    return run, [rollout]


def _back_from_release(scene: Scene, found: ledger.Contents, reason: str) -> tuple[Rollback, list[Rollout]]:
    names = {}
    for field, variable in (("model", "model_name"), ("version", "model_version")):
        value = scene.variables.get(variable)
        if value in (None, ""):
            raise StepError(f"Set model_name and model_version, or rollback_rollout. {_active(found)}")
        if not isinstance(value, str):
            raise StepError(f'{variable}: expected a text; found {value!r}. Quote it: {variable}: "{value}"')
        names[field] = value
    concerned = [item for item in found.rollouts if (item.model, item.version) == (names["model"], names["version"])]
    run = Rollback(
        scene.process,
        names["model"],
        names["version"],
        tuple(scene.hosts),
        reason,
        known=bool(concerned),
        active=_active(found),
    )
    return run, concerned


def _active(found: ledger.Contents) -> str:
    """What the fleet is on by the ledger, in a sentence."""
    newest = {item.model: item for item in found.rollouts if not item.state.is_stopped}
    names = [f"{item.model} {item.version} ({item.id}, {item.state})" for _model, item in sorted(newest.items())]
    return f"Rolled out by the ledger: {', '.join(names) or 'nothing'}"


def close(scene: Scene, run: Rollback) -> Result:
    """Sum up what became of each device that went back."""
    swaps = {host: revert_result(scene, host) for host in run.revert}
    rows = devices.rollback_rows({host: devices.DeviceResults(revert=swap) for host, swap in swaps.items()})
    problem = ""
    bad = [row for row in rows if row["outcome"] in ("away", Outcome.NOT_REVERTED.value)]
    if bad:
        details = list(dict.fromkeys(row["detail"] for row in bad))
        problem = f"not gone back: {', '.join(row['device'] for row in bad)}: {'; '.join(details)}"
    elif not run.known and not any(_held(swap, run.version) for swap in swaps.values()):
        live = devices.count_outcomes([{"outcome": row["before"]} for row in rows])
        active = ", ".join(f"{version} on {number}" for version, number in live.items())
        problem = f"{run.model} {run.version}: no device has it, and the ledger has no rollout of it. Active: {active}"
    return {
        "msg": text_table(rows),
        "problem": problem,
        "stats": {"rollback_outcomes": devices.count_outcomes(rows)},
    }


def _held(swap: Mapping[str, Any], version: str) -> bool:
    held = ((swap.get("diff") or {}).get("before") or {}).get("versions") or {}
    return bool(swap.get("changed")) or version in held
