# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The first and the last step of a reconciliation."""

from __future__ import annotations

import contextlib
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import devices, ledger, waves
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decommissioned import leave_out
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import LockedError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import (
    LedgerOptions,
    absolute_path,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Reconciliation
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import Trust, open_repository

from . import pulling
from .labels import late_failures
from .names import refuse_unknown_names
from .scene import RECONCILED, UNMENDED, Result, Scene, hold_lock, noted, whole_fleet, wrong_devices

_EMPTY = "rollout_ledger: {}: no rollout is known here, so nothing is known of what a device should serve"
_BAD = (Outcome.FAILED, Outcome.REFUSED, Outcome.SILENT)


def wanted(scene: Scene) -> Result:
    """Find out by the ledger what each device of the play should be on."""
    refuse_unknown_names(scene, "rollout_", "reconcile_")
    whole_fleet(scene)
    options = LedgerOptions.from_variables(scene.variables)
    directory = absolute_path(options.ledger)
    if not scene.check_mode:
        try:
            hold_lock(directory, scene, "reconcile", waits=False)
        except LockedError as error:
            # A rollout brings returning devices of its own to its release; the next schedule sees to the rest.
            return {
                "next": Next.END.value,
                "msg": str(error),
                "locked": True,
                **noted(Reconciliation(scene.process, {}), scene),
            }
    found = ledger.read_all(directory)
    hosts = {host: scene.host_variables(host) for host in scene.hosts}
    described = {host: devices.describe(item, options.device_class_variables) for host, item in hosts.items()}
    described = leave_out(described, directory)
    taking_part = [host for host, item in waves.read_hosts(described).items() if item.left_out is None]
    wrong = wrong_devices(scene, {host: hosts[host] for host in taking_part})
    taking_part = [host for host in taking_part if host not in wrong]
    problems = [
        *late_failures(scene),
        *found.damaged.values(),
        *(f"{host}: {problem}" for host, problem in wrong.items()),
    ]
    pulled = set(pulling.pulled_hosts(scene, taking_part))
    if pulled:
        # They bring themselves there, by what is published.
        taking_part = [host for host in taking_part if host not in pulled]
        problems += pulling.publish_at_end(scene)
    calls: dict[str, list[dict[str, Any]]] = {}
    for host, entries in ledger.wanted(found.rollouts, taking_part).items():
        certain = [entry for entry in entries if not found.damaged_of(entry["model"])]
        if certain:
            calls[host] = [_call(entry) for entry in certain]
    manifests, withdrawn_releases, warnings = _verified(scene, calls)
    run = Reconciliation(scene.process, calls, tuple(problems), manifests, withdrawn_releases)
    return {
        "next": (Next.SWAP if calls else Next.END).value,
        "msg": [*problems, *([] if found.rollouts or found.damaged else [_EMPTY.format(directory)])],
        "locked": False,
        **({"warnings": warnings} if warnings else {}),
        **noted(run, scene),
    }


def _location(scene: Scene) -> str | None:
    """Where the model repository is, if the variable says."""
    found: str | None = scene.variables.get("model_repository")
    return found


def _verified(
    scene: Scene, calls: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], list[str]]:
    """The manifests of the releases that devices should be on, each verified once for all of them; what devices are
    told of withdrawn ones, by model; and warnings.

    A release that is refused is left out: who needs it is refused by its name, and others are not kept from theirs.
    """
    models = sorted({call["model"] for entries in calls.values() for call in entries})
    wanted_releases = {
        (call["model"], call["version"]) for entries in calls.values() for call in entries if call["state"] == "active"
    }
    manifests: dict[str, dict[str, Any]] = {}
    location = _location(scene)
    if not location or not models:
        return {}, {}, []
    try:
        repository = open_repository(location, Trust.from_variables(scene.variables.get))
        told = {model: repository.withdrawals(model).document() for model in models}
    except EdgemlError:
        # Each device says of its own release what is wrong.
        return {}, {}, []
    for model, version in sorted(wanted_releases):
        with contextlib.suppress(EdgemlError):
            manifests.setdefault(model, {})[version] = dict(repository.release(model, version).document)
    return manifests, told, list(repository.warnings)


def withdrawn(scene: Scene) -> Result:
    """Read which releases nobody may run any more, if there is a repository to ask."""
    location = _location(scene)
    if not location:
        return {"withdrawn": {}}
    repository = open_repository(location, Trust.from_variables(scene.variables.get))
    found = repository.withdrawn_releases()
    return {"withdrawn": found, **({"warnings": list(repository.warnings)} if repository.warnings else {})}


def _call(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What ``model_swap`` is called with: the release that the device belongs on, or to leave one that was stopped."""
    if entry["version"] is not None:
        return {
            "model": entry["model"],
            "version": entry["version"],
            "state": "active",
            "rollout_id": entry["rollout_id"],
            "reason": "reconcile",
        }
    stopped = entry["stopped_releases"][0]
    return {
        "model": entry["model"],
        "version": stopped["version"],
        "state": "previous",
        "rollout_id": stopped["rollout_id"],
        "reason": stopped["why"],
    }


def close(scene: Scene, run: Reconciliation) -> Result:
    """Sum up what became of each device that was brought to its release."""
    results = {
        host: devices.DeviceResults(
            reconciled=scene.registered(host, RECONCILED).get("results") or (),
            unmended=scene.registered(host, UNMENDED),
        )
        for host in run.calls
    }
    rows = devices.reconcile_rows(results)
    news = [row for row in rows if row["outcome"] != Outcome.ALREADY_THERE.value]
    # A device that is away, or whose failure is known, is no news.
    bad = [row for row in rows if row["outcome"] in [outcome.value for outcome in _BAD]]
    problem = ""
    if bad:
        details = list(dict.fromkeys(row["detail"] for row in bad))
        problem = f"{', '.join(row['device'] for row in bad)}: {'; '.join(details)}"
    silent = [host for host, found in results.items() if not found.reconciled]
    if silent:
        problem = "; ".join(filter(None, [problem, f"neither reached nor explained: {', '.join(silent)}"]))
    problem = "; ".join(filter(None, [problem, *run.problems]))
    return {
        "msg": text_table(news),
        "problem": problem,
        "stats": {"reconcile_outcomes": devices.count_outcomes(rows)},
    }
