# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``model_channel``: it has a channel stand for a version, on the controller."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.promotion import promote
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.signature_due import needs_signature


class ActionModule(ControllerAction):
    """Promotes a release."""

    arguments: ClassVar[dict[str, Any]] = {
        "repository": {"type": "path", "required": True},
        "model": {"type": "str", "required": True},
        "channel": {"type": "str", "required": True},
        "version": {"type": "str"},
        "from_channel": {"type": "str"},
    }

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return which version the channel has now, and which it had."""
        found = promote(
            args["repository"],
            args["model"],
            args["channel"],
            version=args["version"],
            source=args["from_channel"],
            check=self._task.check_mode,
        )
        result: dict[str, Any] = {
            "changed": found.changed,
            "version": found.version,
            "before": found.before,
            "digest": found.digest,
            "needs_signature": needs_signature(args["repository"]),
        }
        if self._task.diff:
            header = {"before_header": found.path, "after_header": found.path}
            result["diff"] = {**header, "before": found.text_before, "after": found.text_after}
        return result
