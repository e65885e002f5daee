# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``model_withdrawal``: it says on the controller that nobody may run a release any more."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.signature_due import needs_signature
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.withdrawal import withdraw, withdrawn_text


class ActionModule(ControllerAction):
    """Withdraws a release, or takes that back."""

    arguments: ClassVar[dict[str, Any]] = {
        "repository": {"type": "path", "required": True},
        "model": {"type": "str", "required": True},
        "version": {"type": "str", "required": True},
        "reason": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    required_if = (("state", "present", ("reason",)),)

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return why the release is withdrawn now, and why it was before."""
        reason = args["reason"] if args["state"] == "present" else None
        found = withdraw(args["repository"], args["model"], args["version"], reason, check=self._task.check_mode)
        if found.channels and reason is not None:
            self.warn([f"{found.model} {found.version} is withdrawn and on the channel {' and '.join(found.channels)}"])
        result: dict[str, Any] = {
            "changed": found.changed,
            "reason": found.reason,
            "before": found.before,
            "digest": found.digest,
            "channels": list(found.channels),
            "needs_signature": needs_signature(args["repository"]),
        }
        if self._task.diff:
            result["diff"] = {
                "before_header": found.path,
                "after_header": found.path,
                "before": withdrawn_text(found.before),
                "after": withdrawn_text(found.reason),
            }
        return result
