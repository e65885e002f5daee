# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The steps that let labels re-open a rollout that has passed, before a reconciliation reads the ledger."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import late_labels, ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import LedgerOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.record import record
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import State
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import LabelReading

from .scene import Result, Scene, StepError, changed, current_run, hold_lock, noted

LABELS = "__rollout_labels"


def open_verdicts(scene: Scene) -> Result:
    """Find the rollouts that have passed and that labels may still fail, and the devices to ask for labels.

    A run for a part of the fleet (``--limit``) asks none, because it would count too few.
    """
    models: dict[str, list[str]] = {}
    try:
        options = LedgerOptions.from_variables(scene.variables)
        if options.label_days > 0 and not scene.limited:
            if not scene.check_mode:
                hold_lock(options.ledger_directory, scene, "reconcile", waits=False)
            played = set(scene.hosts)
            rollouts = ledger.read_all(options.ledger_directory).rollouts
            for rollout in late_labels.open_rollouts(rollouts, options.label_days):
                for host in played.intersection(late_labels.devices_of(rollout)):
                    models.setdefault(host, []).append(rollout.model)
    except EdgemlError:
        # The step after this one says what is wrong with the ledger, its lock or a variable.
        models = {}
    return {
        "next": (Next.SWAP if models else Next.END).value,
        **noted(LabelReading(scene.process, dict(sorted(models.items()))), scene),
    }


def judge_labels(scene: Scene) -> Result:
    """Judge the rollouts by the labels that have come. One that fails is noted as failed, so that the reconciliation
    that follows takes its devices back; in check mode nothing is noted."""
    run = current_run(scene)
    if not isinstance(run, LabelReading):
        raise StepError(f"this run is a {run.kind}, and reads no labels")
    options = LedgerOptions.from_variables(scene.variables)
    found = ledger.read_all(options.ledger_directory)
    lines: list[str] = []
    problems: list[str] = []
    warnings: list[str] = []
    for rollout in late_labels.open_rollouts(found.rollouts, options.label_days):
        reads = {host: read for host in run.models if (read := _read(scene, host, rollout.model)) is not None}
        judged = late_labels.judge(rollout, reads)
        if judged is None:
            continue
        line = late_labels.describe(judged, sorted(reads), planned=scene.check_mode)
        lines.append(line)
        if judged.state is State.FAILED:
            problems.append(line)
        if not scene.check_mode:
            path = ledger.path_of(options.ledger_directory, judged.id)
            warnings += record(path, judged, options.evidence_key_file).warnings
    noted_run = dataclasses.replace(run, problems=() if scene.check_mode else tuple(problems))
    return {"msg": lines, **({"warnings": warnings} if warnings else {}), **changed(noted_run, scene)}


def late_failures(scene: Scene) -> tuple[str, ...]:
    """Return what labels have just failed in this run."""
    try:
        run = current_run(scene)
    except StepError:
        return ()
    return run.problems if isinstance(run, LabelReading) else ()


def _read(scene: Scene, host: str, model: str) -> Mapping[str, Any] | None:
    """What a device said of a model; None where it was not asked, or did not answer."""
    for read in scene.registered(host, LABELS).get("results") or ():
        if read.get("item") == model and not read.get("failed") and not read.get("unreachable"):
            found: Mapping[str, Any] = read
            return found
    return None
