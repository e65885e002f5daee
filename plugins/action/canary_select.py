# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``canary_select``: it plans in Ansible's own process, because the inventory is on the controller."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
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


class ActionModule(ActionBase):
    """Plans the waves of a fleet; changes nothing."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the waves, who is left out, the controls and the boundaries."""
        super().run(tmp, task_vars)
        args = self.validate_argument_spec(argument_spec=ARGUMENTS)[1]
        try:
            result = plan(
                read_hosts(args["hosts"]),
                args["waves"],
                args["salt"],
                groups=args["groups"],
                max_unavailable=args["max_unavailable"],
                only=args["only"],
                boundaries=args["boundaries"],
            )
        except ArgumentError as error:
            raise AnsibleActionFail(str(error)) from None
        return {"changed": False, **result.document()}
