# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``rollout_ledger``: it runs on the controller, in no process of its own, because it locks for the run."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from jinja2 import TemplateError

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import LockedError, take
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import view

ARGUMENTS: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "state": {"type": "str", "required": True, "choices": ["read", "open", "wave", "closed"]},
    "rollout": {"type": "dict"},
    "id": {"type": "str"},
    "wave": {"type": "dict"},
    "outcome": {"type": "str", "choices": list(ledger.STATES)},
    "why": {"type": "str", "default": ""},
    "devices": {"type": "list", "elements": "dict"},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "lock": {"type": "bool", "default": True},
}
REQUIRED_IF = [
    ("state", "open", ["rollout"]),
    ("state", "wave", ["id", "wave"]),
    ("state", "closed", ["id", "outcome"]),
]


class ActionModule(ActionBase):
    """Reads and writes the ledger's files."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do what ``state`` asks for; in check mode tell what the ledger would say, and write and lock nothing."""
        super().run(tmp, task_vars)
        args = self.validate_argument_spec(argument_spec=ARGUMENTS, required_if=REQUIRED_IF)[1]
        act, directory = not self._task.check_mode, args["directory"]
        try:
            if act and args["lock"] and args["state"] in ("read", "open"):
                note = args["rollout"]["id"] if args["state"] == "open" else "reconcile or rollback"
                take(os.path.join(directory, "lock"), os.getppid(), note)
            if args["state"] == "read":
                rollouts = ledger.read_all(directory)
                wanted = ledger.wanted(rollouts, args["hosts"])
                return {"changed": False, "locked": False, "rollouts": rollouts, "wanted": wanted}
            rollout = self._next(directory, args)
            path = ledger.path_of(directory, rollout["id"])
            told = {"changed": False, "ledger": rollout, "path": path}
            if act:
                ledger.write(directory, rollout)
            if args["state"] == "closed":
                told["report"] = self._report(rollout, path) if act else ""
            return told
        except LockedError as error:
            told = {"locked": True, "changed": False, "msg": str(error)}
            if args["state"] == "read":
                return {**told, "rollouts": [], "wanted": {}}
            raise AnsibleActionFail(str(error), result=told) from None
        except (EdgemlError, OSError) as error:
            raise AnsibleActionFail(str(error)) from None

    def _report(self, rollout: ledger.Rollout, path: str) -> str:
        """Write the report beside the ledger. One that cannot be written is no reason to fail a rollout."""
        report = f"{os.path.splitext(path)[0]}.html"
        try:
            view.write(rollout, report)
        except (OSError, ArithmeticError, LookupError, TypeError, ValueError, TemplateError) as error:
            self._display.warning(f"{report}: the report could not be written: {error!r}")
            return ""
        return report

    def _next(self, directory: str, args: dict[str, Any]) -> ledger.Rollout:
        """The rollout as it is from now on."""
        if args["state"] == "open":
            return ledger.opened(ledger.read(directory, args["rollout"]["id"]), args["rollout"])
        found = ledger.read(directory, args["id"])
        if found is None:
            raise ledger.LedgerError(f"{ledger.path_of(directory, args['id'])}: no such rollout")
        if args["state"] == "wave":
            return ledger.with_wave(found, args["wave"])
        return ledger.closed(found, args["outcome"], args["why"], args["devices"] or found["devices"])
