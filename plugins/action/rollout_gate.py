# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``rollout_gate``. It runs in Ansible's own process, because everything that it judges is there."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import (
    LimitError,
    Limits,
    argument_spec,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.observations import (
    DeviceObservation,
    observe_control,
    observe_device,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.verdict import judge
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import words

ARGUMENTS: dict[str, Any] = {
    "device_classes": {"type": "dict", "required": True},
    "swaps": {"type": "dict", "required": True},
    "reads": {"type": "dict", "required": True},
    "controls": {"type": "dict", "default": {}},
    "earlier": {"type": "dict", "default": {}},
    "analysis": {"type": "int", "default": 1},
    "analyses_max": {"type": "int", "default": 1},
    "limits": {"type": "dict", "default": {}, "options": argument_spec(), "apply_defaults": True},
}


class ActionModule(ControllerAction):
    """Judges a wave; changes nothing."""

    arguments = ARGUMENTS

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the verdict with its findings, and the outcome of each device."""
        return answer(args)


def answer(args: dict[str, Any]) -> dict[str, Any]:
    """Return the action's result for its validated arguments. Raises AnsibleActionFail for limits out of range."""
    if not 1 <= args["analysis"] <= args["analyses_max"]:
        raise AnsibleActionFail(
            f"analysis: expected 1 to analyses_max, {args['analyses_max']}; found {args['analysis']}"
        )
    try:
        limits = Limits.from_dict(args["limits"])
    except LimitError as error:
        raise AnsibleActionFail(f"limits: {error}") from None
    wave = [
        observe_device(name, str(device_class), args["swaps"].get(name), args["reads"].get(name))
        for name, device_class in args["device_classes"].items()
    ]
    versions = [swap.get("version") for swap in args["swaps"].values() if isinstance(swap, dict)]
    new = next((version for version in versions if isinstance(version, str)), None)
    observed = [observe_control(name, document, new) for name, document in args["controls"].items()]
    verdict, findings = judge(
        wave,
        [control for control in observed if control is not None and control.name not in args["device_classes"]],
        limits,
        analysis=args["analysis"],
        analyses_max=args["analyses_max"],
        earlier=[
            DeviceObservation(name, str(device.get("device_class")), str(device.get("outcome")))
            for name, device in args["earlier"].items()
        ],
    )
    return {
        "changed": False,
        "verdict": verdict.value,
        "reasons": words.lines(findings),
        "findings": [{**finding.to_dict(), "reason": words.reason(finding)} for finding in findings],
        "outcomes": {device.name: str(device.outcome) for device in wave},
    }
