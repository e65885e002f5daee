# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``rollout_devices``."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import first_line

DOCUMENTATION = r"""
name: rollout_devices
short_description: What became of each device in a rollout
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Turns what the role P(edgeml.fleet.rollout#role) registered for each device into one row a device.
options:
  _input:
    description: The variables of the rollout's devices, in the order of the rows.
    type: list
    elements: dict
    required: true
  plan:
    description: The plan, with its C(waves), the devices' C(device_classes), and those that it C(left_out).
    type: dict
    required: true
  outcomes:
    description: The outcomes that the gates told, by device.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what became of each device
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | map('extract', hostvars) | edgeml.fleet.rollout_devices(plan, {}) }}"
  vars:
    plan: {waves: [], device_classes: {}, left_out: {edge-s1: "pinned: by hand"}}
"""

RETURN = r"""
_value:
  description: One row a device, with its class, wave, active version before and after, outcome, and why it failed.
  type: list
  elements: dict
"""


def rollout_devices(
    devices: Iterable[Mapping[str, Any]], plan: Mapping[str, Any], outcomes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One row a device: ``device``, ``class``, ``wave``, ``before``, ``after``, ``outcome`` and ``detail``."""
    waves = {host: wave["number"] for wave in plan["waves"] for host in wave["hosts"]}
    rows = []
    for device in devices:
        name = device["inventory_hostname"]
        row = {"device": name, "class": plan["device_classes"].get(name, "all"), "wave": waves.get(name)}
        rows.append({**row, **_became(device, outcomes.get(name))})
    for name, reason in plan["left_out"].items():
        row = {"device": name, "class": plan["device_classes"].get(name, "all"), "wave": None}
        rows.append({**row, "before": "-", "after": "-", "outcome": reason.split(":")[0], "detail": reason})
    return rows


def swapped(swap: Mapping[str, Any]) -> tuple[str, str]:
    """The active versions before and after a swap, by its result."""
    before, after = _active(swap, "before"), _active(swap, "after")
    if swap.get("failed"):
        after = str(swap.get("live") or "unknown")
        before = before if "before" in swap else after
    return before, after


def _became(device: Mapping[str, Any], told: str | None) -> dict[str, str]:
    swap, revert = device.get("__rollout_swap") or {}, device.get("__rollout_revert") or {}
    outcome = told or ("planned" if "changed" in swap and not swap.get("failed") else "not started")
    before, after = swapped(swap)
    detail = first_line(swap) if swap.get("failed") or swap.get("unreachable") else ""
    if (revert.get("unreachable") and outcome != "away") or revert.get("failed"):
        outcome, detail = "not reverted", first_line(revert)
    elif revert.get("changed"):
        outcome, after = "reverted", _active(revert, "after")
    return {"before": before, "after": after, "outcome": outcome, "detail": detail}


def _active(result: Mapping[str, Any], when: str) -> str:
    return str((result.get(when) or {}).get("active") or "-")


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"rollout_devices": rollout_devices}
