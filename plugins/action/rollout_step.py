# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``rollout_step``: what a rollout decides, it decides in Ansible's own process on the controller."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError, message_of
from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.ansible_scene import AnsibleScene
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.refusal import refused
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.registry import STEPS

ARGUMENTS: dict[str, Any] = {"step": {"type": "str", "required": True, "choices": list(STEPS)}}
# The steps whose message is for the person who runs the playbook.
_SHOWN = ("power", "judge", "judge_labels", "close", "fleet")


class ActionModule(ControllerAction):
    """One step of a rollout."""

    arguments = ARGUMENTS

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the step; its result has ``next``, what the playbook does then, and ``stats``, what workflows get."""
        step, scene = args["step"], AnsibleScene(self, task_vars)
        try:
            result = STEPS[step](scene)
        except (EdgemlError, OSError) as error:
            answer = refused(step, error, scene)
            if answer is None:
                raise AnsibleActionFail(message_of(error), result={"step": step}) from None
            result = answer
        self.warn(result.pop("warnings", []))
        if result.get("stats"):
            # As set_stats returns it.
            result["ansible_stats"] = {"data": result["stats"], "per_host": False, "aggregate": True}
        if step in _SHOWN and result.get("msg"):
            result["_ansible_verbose_always"] = True
        return {"step": step, **result}
