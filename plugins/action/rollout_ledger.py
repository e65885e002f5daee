# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``rollout_ledger``: it runs on the controller, in no process of its own, because it locks for the run."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import LockedError, take
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.record import record
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, RolloutError, State

PLANNED: dict[str, Any] = {
    "id": {"type": "str"},
    "model": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "attempt": {"type": "int", "default": 1},
    "digest": {"type": "str", "required": True},
    "reason": {"type": "str", "default": ""},
    "settings": {"type": "dict", "default": {}},
    "plan": {"type": "dict", "required": True},
}
WAVE: dict[str, Any] = {
    "number": {"type": "int", "required": True},
    "name": {"type": "str", "default": ""},
    "verdict": {"type": "str", "choices": ["pass", "fail", "inconclusive"]},
    "findings": {"type": "list", "elements": "dict", "default": []},
    "outcomes": {"type": "dict", "default": {}},
}
ARGUMENTS: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "state": {"type": "str", "required": True, "choices": ["read", "open", "wave", "closed"]},
    "rollout": {"type": "dict", "options": PLANNED},
    "id": {"type": "str"},
    "wave": {"type": "dict", "options": WAVE},
    "outcome": {"type": "str", "choices": [state.value for state in State]},
    "why": {"type": "str", "default": ""},
    "devices": {"type": "list", "elements": "dict", "default": []},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "lock": {"type": "bool", "default": True},
}
REQUIRED_IF = [
    ("state", "open", ["rollout"]),
    ("state", "wave", ["id", "wave"]),
    ("state", "closed", ["id", "outcome"]),
]


class ActionModule(ControllerAction):
    """Reads and writes the ledger's files."""

    arguments = ARGUMENTS
    required_if = REQUIRED_IF

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Do what ``state`` asks for; in check mode return what the ledger would say, and write and lock nothing."""
        act, directory = not self._task.check_mode, args["directory"]
        try:
            planned = _planned(args["rollout"]) if args["state"] == "open" else None
            if act and args["lock"] and args["state"] in ("read", "open"):
                note = planned.id if planned else "a playbook that reads it"
                take(os.path.join(directory, "lock"), os.getppid(), note)
        except LockedError as error:
            if args["state"] != "read":
                raise AnsibleActionFail(str(error), result={"locked": True}) from None
            return {"locked": True, "msg": str(error), "rollouts": [], "wanted": {}, "damaged": []}
        if args["state"] == "read":
            return {"locked": False, **_read(directory, args["hosts"])}
        rollout = _next(directory, args, planned)
        path = ledger.path_of(directory, rollout.id)
        result = {"locked": False, "ledger": rollout.to_dict(), "path": path}
        if args["state"] == "closed":
            result["report"] = ""
        if act and args["state"] == "closed":
            # Evidence is signed with a key of the playbooks.
            recorded = record(path, rollout)
            self.warn(recorded.warnings)
            result["report"] = recorded.report
        elif act:
            ledger.write(path, rollout)
        return result


def _planned(document: dict[str, Any]) -> Rollout:
    rollout = Rollout.from_dict(document)
    if document["id"] not in (None, rollout.id):
        raise RolloutError(f"rollout: id: expected {rollout.id}, or none; found {document['id']}")
    return rollout


def _read(directory: str, hosts: list[str]) -> dict[str, Any]:
    found = ledger.read_all(directory)
    return {
        "rollouts": [rollout.to_dict() for rollout in found.rollouts],
        "wanted": ledger.wanted(found.rollouts, hosts),
        "damaged": list(found.damaged.values()),
    }


def _next(directory: str, args: dict[str, Any], planned: Rollout | None) -> Rollout:
    """The rollout as it is from now on."""
    found = ledger.read(ledger.path_of(directory, planned.id if planned else args["id"]))
    if planned:
        return planned.resumed_from(found)
    if found is None:
        raise ledger.LedgerError(f"{ledger.path_of(directory, args['id'])}: no such rollout")
    if args["state"] == "closed":
        return found.closed(State(args["outcome"]), args["why"], args["devices"])
    wave = args["wave"]
    if wave["verdict"] is None:
        return found.with_wave_begun(wave["number"], wave["name"])
    outcomes = {str(host): Outcome(word) for host, word in wave["outcomes"].items()}
    return found.with_verdict(wave["number"], Verdict(wave["verdict"]), wave["findings"], outcomes)
