# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``rollout_call``: what a run asks a device, by ``model_swap`` and ``model_info``."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.edgeml.fleet.plugins.action import model_info, model_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.ansible_scene import AnsibleScene
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.calls import CALLS, DeviceCall, device_calls

ARGUMENTS: dict[str, Any] = {
    "call": {"type": "str", "required": True, "choices": list(CALLS)},
    "model": {"type": "str"},
}

# Loaded in Ansible's main process, with what they hash and compile, and not in the worker of each device.
_ACTIONS: dict[str, type[ActionBase]] = {"model_info": model_info.ActionModule, "model_swap": model_swap.ActionModule}


class ActionModule(ActionBase):
    """One call to a device, or as many as it takes; none where it has nothing to do."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module returns, and ``mend`` where the device's service is to be mended."""
        super().run(tmp, task_vars)
        args = self.validate_argument_spec(argument_spec=ARGUMENTS)[1]
        variables = task_vars or {}
        host = str(self._task.delegate_to or variables["inventory_hostname"])
        try:
            calls = device_calls(args["call"], AnsibleScene(self, variables), host, args["model"])
        except EdgemlError as error:
            raise AnsibleActionFail(str(error), result={"refused": True, "live": None}) from None
        result: dict[str, Any] = {"skipped": True, "skip_reason": "the device has nothing to do"}
        for call in calls:
            result = self._call(call, variables)
            if result.get("unreachable"):
                break
            if call.mends and result.get("server_down"):
                result["mend"] = True
        return result

    def _call(self, call: DeviceCall, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the action of the module in the place of this one."""
        own, self._task.args = self._task.args, call.arguments
        action = _ACTIONS[call.module](
            self._task, self._connection, self._play_context, self._loader, self._templar, self._shared_loader_obj
        )
        try:
            return action.run(task_vars=task_vars)
        finally:
            # Callbacks see the task as its action has left it.
            self._task.args = own
