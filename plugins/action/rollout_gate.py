# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``rollout_gate``: it judges in Ansible's own process, because what it judges is on the controller."""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.validation import check_type_float
from ansible.plugins.action import ActionBase

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.verdict import (
    LimitError,
    Limits,
    Report,
    control,
    judge,
    reasons,
    report,
)

LIMITS: dict[str, dict[str, Any]] = {
    "max_failures": {"type": "str", "default": "0"},
    "reporting_share_min": {"type": "float", "default": 0.5},
    "accuracy_drop_max": {"type": "raw", "default": 0.02},
    "accuracy_min": {"type": "raw"},
    "live_accuracy_drop_max": {"type": "raw", "default": 0.01},
    "error_rate_max": {"type": "raw", "default": 0.05},
    "error_rate_rise_max": {"type": "raw", "default": 0.004},
    "latency_ratio_max": {"type": "raw", "default": 1.1},
    "latency_seconds_max": {"type": "raw"},
    "drift_rise_max": {"type": "raw", "default": 0.2},
    "shadow_agreement_min": {"type": "raw", "default": 0.8},
    "memory_ratio_max": {"type": "raw", "default": 1.5},
    "memory_bytes_max": {"type": "raw"},
    "restarts_max": {"type": "raw", "default": 2},
    "strict": {"type": "bool", "default": False},
}
ARGUMENTS: dict[str, Any] = {
    "device_classes": {"type": "dict", "required": True},
    "swaps": {"type": "dict", "required": True},
    "reads": {"type": "dict", "required": True},
    "controls": {"type": "dict", "default": {}},
    "earlier": {"type": "dict", "default": {}},
    "analysis": {"type": "int", "default": 1},
    "analyses_max": {"type": "int", "default": 1},
    "limits": {"type": "dict", "default": {}, "options": LIMITS, "apply_defaults": True},
}


class ActionModule(ActionBase):
    """Judges a wave; changes nothing."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the verdict with its findings, and the outcome of each device."""
        super().run(tmp, task_vars)
        return answer(self.validate_argument_spec(argument_spec=ARGUMENTS)[1])


def answer(args: dict[str, Any]) -> dict[str, Any]:
    """The action's result for its validated arguments. Raises AnsibleActionFail for what cannot be judged by."""
    if not 1 <= args["analysis"] <= args["analyses_max"]:
        raise AnsibleActionFail(
            f"analysis: expected 1 to analyses_max, {args['analyses_max']}; found {args['analysis']}"
        )
    try:
        limits = Limits(**{name: _limit(name, value) for name, value in args["limits"].items()})
    except LimitError as error:
        raise AnsibleActionFail(f"limits: {error}") from None
    wave = [
        report(name, str(device_class), args["swaps"].get(name), args["reads"].get(name))
        for name, device_class in args["device_classes"].items()
    ]
    versions = [swap.get("version") for swap in args["swaps"].values() if isinstance(swap, dict)]
    new = next((version for version in versions if isinstance(version, str)), None)
    found = [control(name, told, new) for name, told in args["controls"].items()]
    beside = [item for item in found if item is not None and item.name not in args["device_classes"]]
    earlier = [
        Report(name, str(told.get("device_class")), str(told.get("outcome"))) for name, told in args["earlier"].items()
    ]
    verdict, findings = judge(wave, beside, limits, args["analysis"], args["analyses_max"], earlier)
    return {
        "changed": False,
        "verdict": verdict,
        "reasons": reasons(findings),
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "outcomes": {item.name: item.outcome for item in wave},
    }


def _limit(name: str, value: Any) -> Any:
    """The value of a limit: a number, also one that is written as text; None where it is off. Raises LimitError."""
    if LIMITS[name]["type"] != "raw" or value is None:
        return value
    try:
        return check_type_float(value)
    except TypeError as error:
        raise LimitError(f"{name}: expected a number or null; found {value!r}") from error
