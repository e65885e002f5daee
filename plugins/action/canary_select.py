# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``canary_select``: it plans in Ansible's own process, because the inventory is on the controller."""

from __future__ import annotations

from typing import Any

from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import DEFAULT_WAVES, plan, read_hosts

ARGUMENTS: dict[str, Any] = {
    "hosts": {"type": "dict", "required": True},
    "waves": {"type": "list", "elements": "raw", "default": list(DEFAULT_WAVES)},
    "salt": {"type": "str", "required": True},
    "groups": {"type": "dict", "default": {}},
    "max_unavailable": {"type": "raw"},
    "only": {"type": "list", "elements": "str"},
    "boundaries": {"type": "dict"},
}


class ActionModule(ControllerAction):
    """Plans the waves of a fleet; changes nothing."""

    arguments = ARGUMENTS

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the waves, who is left out, the controls and the boundaries."""
        planned = plan(
            read_hosts(args["hosts"]),
            args["waves"],
            args["salt"],
            groups=args["groups"],
            max_unavailable=args["max_unavailable"],
            only=args["only"],
            boundaries=args["boundaries"],
        )
        return planned.document()
