# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a step of a rollout knows: what Ansible has where it runs, and what the steps before it noted."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Collection, Iterable, Mapping, Protocol, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import devices, ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import LockedError, take, take_unwritable
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import DeviceOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import (
    AnyRun,
    LabelReading,
    Reconciliation,
    Rollback,
    Run,
)

# What the tasks of the role register.
SWAP = "__rollout_swap"
READ = "__rollout_read"
CONTROLS_BEFORE = "__rollout_controls_before"
CONTROLS_AFTER = "__rollout_controls_after"
SOAKED = "__rollout_soak"
WAVE = "__rollout_wave"
REVERT = "__rollout_revert"
# What the devices that pull have reported, which no task asks.
REPORTED = "__rollout_reported"
REPORTED_REVERTS = "__rollout_reported_reverts"
RECONCILED = "__rollout_reconciled"
UNMENDED = "__rollout_unmended"

# The facts of localhost that have the run as its first step noted it, and what the steps after it changed of that.
FACT = "edgeml_rollout"
CHANGES = "edgeml_rollout_changes"

LOCK_WAIT_SECONDS = 30

Result = dict[str, Any]


class StepError(EdgemlError):
    """A step cannot be done; the text says why, and what to do."""


class UnwritableError(StepError):
    """The ledger cannot be written; ``problem`` is that without what to do."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}. Name a directory that the user who runs ansible-playbook can write")
        self.problem = problem


class Scene(Protocol):
    """What Ansible knows where a step runs."""

    check_mode: bool
    # That of ansible-playbook.
    process: int
    # The host that the task is for, also where it is delegated.
    task_host: str
    # A directory that goes with the run, and that no other run has.
    scratch: str
    # The hosts of the play, and of its present batch.
    hosts: Sequence[str]
    batch: Sequence[str]
    groups: Mapping[str, Sequence[str]]
    # Whether the run is for a part of the inventory (--limit).
    limited: bool
    # Whether a person may be at the terminal.
    can_ask: bool
    # Who runs this, as far as the controller knows.
    operator: str
    # The variables of the host that the step runs for, those of the role included.
    variables: Mapping[str, Any]
    # The names of those that the command gives (-e).
    given: Sequence[str]

    def matching(self, pattern: str) -> list[str]:
        """Return all hosts of the inventory that match, also those that are not played."""

    def left(self, hosts: Sequence[str]) -> list[str]:
        """Return those of the hosts that --limit leaves; all where nobody knows."""

    def has_plugin(self, kind: str, name: str) -> bool:
        """Return whether the controller has a plugin of this kind: connection, become or shell."""

    def role_variables(self) -> list[str]:
        """Return the names of the variables of this collection's roles."""

    def users_roles(self) -> list[str]:
        """Return the names of the roles that are the user's own."""

    def host_variables(self, host: str) -> Mapping[str, Any]:
        """Return the variables of a host."""

    def registered(self, host: str, name: str) -> Mapping[str, Any]:
        """Return what a task registered for a host; nothing if it registered nothing."""

    def fact(self, name: str) -> Mapping[str, Any]:
        """Return a fact of localhost that an earlier step noted; nothing if none did."""

    def ask(self, prompt: str) -> str:
        """Return what the person at the terminal types; nothing where nobody is there, or who is there ends it."""

    def say(self, line: str) -> None:
        """Show a line at once, while the step goes on."""


def noted(run: AnyRun, scene: Scene) -> Result:
    """Return the part of a result that notes the run for the steps and plays to come."""
    hosts = run.hosts
    sizes = [len(wave.hosts) for wave in run.waves] if isinstance(run, Run) else [len(hosts)]
    first = run.shadow if isinstance(run, Run) else ()
    idle = not hosts and not (isinstance(run, Reconciliation) and run.problems)
    # A play needs a host, also where none has anything to do.
    hosts = hosts or [scene.hosts[0]]
    document = {
        **run.to_dict(),
        "next": (Next.END if idle else Next.SWAP).value,
        "scratch": scene.scratch,
        "hosts": [devices.pattern(host) for host in hosts],
        "sizes": sizes,
        "first": [devices.pattern(host) for host in first or hosts[:1]],
        "closing": [devices.pattern(host) for host in run.closing or hosts],
    }
    return {"ansible_facts": {FACT: document, CHANGES: {}}}


def changed(run: AnyRun, scene: Scene) -> Result:
    """Return the part of a result that notes what became of the run since its first step: what may change of it."""
    document = run.to_dict()
    changes = {name: document[name] for name in run.changing}
    closing = [devices.pattern(host) for host in run.closing or [scene.hosts[0]]]
    return {"ansible_facts": {CHANGES: {**changes, "scratch": scene.scratch, "closing": closing}}}


def noted_run(scene: Scene) -> Mapping[str, Any]:
    """Return what the steps of this run noted, as it is. Raises StepError where the first step did not run."""
    document = scene.fact(FACT)
    # Of an earlier run, where facts are cached.
    if document.get("scratch") != scene.scratch:
        raise StepError(
            "this run has no plan: its first play did not run. Run the whole playbook; --start-at-task and --tags "
            "leave out what the rest stands on"
        )
    changes = scene.fact(CHANGES)
    return {**document, **changes} if changes.get("scratch") == scene.scratch else document


def current_run(scene: Scene) -> AnyRun:
    """Return what the steps of this run noted. Raises StepError where the first step did not run."""
    readers: dict[str, Callable[[Mapping[str, Any]], AnyRun]] = {
        kind.kind: kind.from_dict for kind in (Run, Reconciliation, Rollback, LabelReading)
    }
    document = noted_run(scene)
    return readers[document["kind"]](document)


def current_rollout(scene: Scene) -> tuple[Run, Rollout]:
    """Return this run and its rollout as the ledger has it. Raises StepError where there is none."""
    run = current_run(scene)
    if not isinstance(run, Run):
        raise StepError(f"this run is a {run.kind}, no rollout")
    rollout = ledger.read(run.path)
    if rollout is None:
        raise StepError(f"{run.path}: the rollout's file is gone while the rollout runs")
    return run, rollout.with_wave(run.unwritten) if run.unwritten else rollout


def wrong_devices(scene: Scene, fleet: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return what is wrong with the own variables of each device of the play, by ``fleet``, the variables of all.

    Most devices share theirs with many others.
    """
    names = [name for alternatives in DeviceOptions.names().values() for name in alternatives]
    known: dict[str, str] = {}
    wrong = {}
    for host in scene.hosts:
        found = fleet.get(host, {})
        try:
            values = {name: found[name] for name in (*names, *devices.CONNECTION_VARIABLES) if name in found}
        except ArgumentError as error:
            wrong[host] = str(error).removeprefix(f"{host}: ")
            continue
        key = repr(sorted(values.items()))
        if key not in known:
            known[key] = _problem(values, scene)
        if known[key]:
            wrong[host] = known[key]
    return wrong


def _problem(values: Mapping[str, Any], scene: Scene) -> str:
    try:
        DeviceOptions.from_variables(values)
        devices.check_connection(values, scene.has_plugin)
    except ArgumentError as error:
        return str(error)
    return ""


def hold_lock(directory: str, scene: Scene, note: str, *, waits: bool = True, written: bool = True) -> None:
    """Hold the ledger's lock until the run ends; wait where another run has it, because a reconcile ends soon.

    Raises LockedError, and UnwritableError; where nothing is to be ``written``, the lock is held as far as it can be.
    """
    path, deadline = os.path.join(directory, "lock"), time.monotonic() + (LOCK_WAIT_SECONDS if waits else 0)
    told = False
    while True:
        try:
            if written:
                take(path, scene.process, note)
            else:
                take_unwritable(path, scene.process)
            return
        except OSError as error:
            raise UnwritableError(
                f"rollout_ledger: {directory}: the ledger cannot be written: {error.strerror or error}"
            ) from error
        except LockedError as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                scene.say(f"{error}. This run waits for {LOCK_WAIT_SECONDS} s")
                told = True
            time.sleep(1)


def whole_fleet(scene: Scene, variable: str = "rollout_hosts", usual: str = "edge") -> list[str]:
    """Return the hosts that a variable names, all of them; ``usual`` where it is empty.

    Raises ArgumentError where there is none, or --limit leaves none: a schedule would believe that all is well.
    """
    given = scene.variables.get(variable) or usual
    pattern = given if isinstance(given, str) else ",".join(map(str, given))
    found = scene.matching(pattern)
    if not found:
        known = ", ".join(sorted(name for name in scene.groups if name not in ("all", "ungrouped"))) or "none"
        nothing = "it has none at all: name it with -i, or in ansible.cfg"
        has = f"its groups are: {known}" if scene.groups.get("all") else nothing
        raise ArgumentError(f"{variable}: no host of the inventory matches {pattern!r}; {has}")
    if not scene.left(found):
        raise ArgumentError(f"{variable}: --limit leaves none of its hosts, which are {devices.named(found)}")
    return found


def device_variables(scene: Scene, host: str, options: Collection[str]) -> dict[str, Any]:
    """Return the variables that set these options of a device: its own, else those of the play and the role."""
    names = [name for option in options for name in DeviceOptions.names()[option]]
    if host == scene.task_host:
        return {name: scene.variables[name] for name in names if name in scene.variables}
    own = scene.host_variables(host)
    found = common_variables(scene, [name for name in names if name not in own])
    return {**found, **{name: own[name] for name in names if name in own}}


def common_variables(scene: Scene, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the variables that are of the play and the role, and of no device."""
    of_host = scene.host_variables(scene.task_host)
    return {name: scene.variables[name] for name in names if name in scene.variables and name not in of_host}


def swap_result(scene: Scene, host: str) -> Mapping[str, Any]:
    """Return what came of the swap of a device: what its task registered, or what the device has reported."""
    return _reported(scene, host, REPORTED) or scene.registered(host, SWAP)


def revert_result(scene: Scene, host: str) -> Mapping[str, Any]:
    """Return what came of the way back of a device: what its task registered, or what the device has reported."""
    return _reported(scene, host, REPORTED_REVERTS) or scene.registered(host, REVERT)


def _reported(scene: Scene, host: str, name: str) -> Mapping[str, Any]:
    reports: Mapping[str, Any] = scene.registered(host, name).get("reports") or {}
    return reports.get(host) or {}


def results_by_item(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the results of a task with a loop over devices, by the devices' names."""
    return {str(item["item"]): item for item in result.get("results") or ()}
