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
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import LedgerOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.record import record
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, State, release_of
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Rollback

from . import pulling
from .names import refuse_unknown_names
from .scene import Result, Scene, StepError, UnwritableError, hold_lock, noted, revert_result, whole_fleet

_UNNOTED = "the ledger does not know of it, because it could not be written"


def rollback(scene: Scene) -> Result:
    """Find out what to go back from, and note that its rollouts are rolled back before any device is touched.

    So no schedule brings the version to a device that does not know of it. A device that goes back notes that itself,
    and keeps it: where the ledger cannot be written, devices go back all the same, and the run fails at its end.
    """
    refuse_unknown_names(scene, "rollback_", "rollout_")
    whole_fleet(scene, "rollback_hosts")
    values, options = scene.variables, LedgerOptions.from_variables(scene.variables)
    directory = options.ledger_directory
    unwritable = "" if scene.check_mode else _hold_lock(directory, scene)
    found, unnoted = _contents(directory)
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
        name = str(values["rollback_rollout"])
        unread = "; ".join(unnoted) or ("" if found.rollouts else unwritable)
        run, concerned = _back_from_rollout(scene, found, unread, name, wave, reason)
    else:
        run, concerned = _back_from_release(scene, found, reason)
    run = dataclasses.replace(run, pulled=pulling.pulled_hosts(scene, run.revert))
    if scene.limited or wave is not None:
        pulling.refuse_part_of_fleet(run.pulled, "a wave" if wave is not None else "--limit")
    warnings = [f"{unwritable}. Devices go back all the same, and each keeps a record of its own"] if unwritable else []
    warnings += [*unnoted, *found.damaged.values()]
    stopped = []
    if scene.limited or wave is not None or scene.check_mode:
        unnoted = []
    else:
        stopped = [rollout.closed(State.ROLLED_BACK, reason) for rollout in concerned if not rollout.state.is_stopped]
        for rollout in stopped:
            recorded = record(ledger.path_of(directory, rollout.id), rollout, options.evidence_key_file)
            warnings += recorded.warnings
            unnoted += filter(None, [recorded.unwritten])
        if unwritable and not concerned and not unnoted:
            # Its disk may be away, with the rollouts of this release.
            unnoted = [unwritable]
    if unnoted:
        run = dataclasses.replace(run, reason=f"{reason}; {_UNNOTED}", unnoted=tuple(unnoted))
    asked = pulling.begin_rollback(scene, run, stopped)
    warnings += asked.pop("warnings", [])
    return {"next": Next.REVERT.value, **asked, **({"warnings": warnings} if warnings else {}), **noted(run, scene)}


def _hold_lock(directory: str, scene: Scene) -> str:
    """Hold the ledger's lock; return what is wrong where it cannot be written, else nothing. Raises LockedError."""
    try:
        hold_lock(directory, scene, "rollback")
    except UnwritableError as error:
        hold_lock(directory, scene, "rollback", written=False)
        return error.problem
    return ""


def _contents(directory: str) -> tuple[ledger.Contents, list[str]]:
    """What the ledger holds; and why it cannot be read, where it cannot."""
    try:
        return ledger.read_all(directory), []
    except ledger.LedgerError as error:
        return ledger.Contents((), {}), [str(error)]


def _without_ledger(name: str, why: str) -> str:
    """What is wrong where a rollout cannot be read, and the command that needs no ledger."""
    model, version = release_of(name) or ("…", "…")
    return (
        f"rollback_rollout: {why}. So nobody knows its devices. This command goes back without the ledger, on every "
        "device of the run where the version is active (choose them with --limit): ansible-playbook "
        f"edgeml.fleet.rollback -e model_name={model} -e model_version={version}"
    )


def _back_from_rollout(
    scene: Scene, found: ledger.Contents, unread: str, name: str, wave: Any, reason: str
) -> tuple[Rollback, list[Rollout]]:
    rollout = next((item for item in found.rollouts if item.id == name), None)
    if rollout is None and (unread or name in found.damaged):
        raise StepError(_without_ledger(name, unread or found.damaged[name]))
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
    outcomes = devices.count_outcomes(rows)
    if run.unnoted:
        problem = "; ".join(filter(None, [problem, _unnoted(run, outcomes)]))
    return {"msg": text_table(rows), "problem": problem, "stats": {"rollback_outcomes": outcomes}}


def _unnoted(run: Rollback, outcomes: Mapping[str, int]) -> str:
    done = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    return (
        f"{run.model} {run.version}: {done}. But {_UNNOTED}: {'; '.join(run.unnoted)}. A device that has gone back "
        f"stays so; a schedule may still bring {run.version} to one that was away or is new. Run the same command "
        "again when the ledger can be written"
    )


def _held(swap: Mapping[str, Any], version: str) -> bool:
    held = ((swap.get("diff") or {}).get("before") or {}).get("versions") or {}
    return bool(swap.get("changed")) or version in held
