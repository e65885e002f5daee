# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``device_decommission``: it takes devices out of service, on the controller."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from typing import Any, ClassVar

from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.authority import Authority, is_authority
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.ansible_scene import AnsibleScene
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decommissioned import (
    Decommissioned,
    forget_decommissioned,
    read_decommissioned,
    write_decommissioned,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import take
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.names import refuse_unknown_names


class ActionModule(ControllerAction):
    """Notes in the ledger that devices are out of service, and has the fleet's authority sign nothing for them."""

    arguments: ClassVar[dict[str, Any]] = {
        "devices": {"type": "list", "elements": "str", "required": True},
        "ledger": {"type": "path", "required": True},
        "authority": {"type": "path"},
        "reason": {"type": "str"},
        "wiped": {"type": "list", "elements": "str", "default": []},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    required_if = (("state", "present", ("reason",)),)

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return which devices are out of service now, and of which something is still to be removed."""
        refuse_unknown_names(AnsibleScene(self, task_vars), "decommission_")
        ledger, check_mode = args["ledger"], self._task.check_mode
        if not check_mode:
            # Until the run ends: a rollout plans either before all of this, or after it.
            take(os.path.join(ledger, "lock"), os.getppid(), "decommission")
        before = read_decommissioned(ledger)
        after = {name: entry for name, entry in before.items() if name not in args["devices"]}
        if args["state"] == "present":
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            for name in args["devices"]:
                entry = before.get(name, Decommissioned(name, now, args["reason"]))
                after[name] = dataclasses.replace(entry, wiped=entry.wiped or name in args["wiped"])
        changed = [name for name in args["devices"] if before.get(name) != after.get(name)]
        revoked = self._revoke(args, check_mode)
        for name in [] if check_mode else changed:
            if name in after:
                write_decommissioned(ledger, after[name])
            else:
                forget_decommissioned(ledger, name)
        result: dict[str, Any] = {
            "changed": bool(changed or revoked),
            "decommissioned": [after[name].to_dict() for name in sorted(after)],
            "revoked": revoked,
            "to_wipe": [name for name in args["devices"] if name in after and not after[name].wiped],
        }
        if self._task.diff:
            result["diff"] = {"before": _text(before), "after": _text(after)}
        return result

    def _revoke(self, args: dict[str, Any], check_mode: bool) -> list[str]:
        """Have the authority refuse the devices, or take that back; return those for whom that changes something."""
        if not args["authority"] or not is_authority(args["authority"]):
            return []
        authority = Authority(args["authority"])
        wanted = args["state"] == "present"
        changed = [name for name in args["devices"] if authority.is_revoked(name) != wanted]
        for name in [] if check_mode else changed:
            if wanted:
                authority.revoke(name)
            else:
                authority.allow(name)
        return changed


def _text(entries: dict[str, Decommissioned]) -> str:
    return json.dumps({name: entries[name].to_dict() for name in sorted(entries)}, indent=1) + "\n"
