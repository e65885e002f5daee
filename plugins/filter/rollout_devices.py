# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``rollout_devices``."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

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
  stratum:
    description: Name of the host variable that tells a device's class.
    type: str
    required: true
  outcomes:
    description: The outcomes that the gates told, by device.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what became of each device
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | map('extract', hostvars) | edgeml.fleet.rollout_devices('hardware_class', {}) }}"
"""

RETURN = r"""
_value:
  description: One row a device, with its name, class, active version before and after, and outcome.
  type: list
  elements: dict
"""


def rollout_devices(
    devices: Iterable[Mapping[str, Any]], stratum: str, outcomes: Mapping[str, str]
) -> list[dict[str, str]]:
    """One row a device: ``device``, ``class``, ``before``, ``after`` and ``outcome``."""
    return [_row(device, stratum, outcomes) for device in devices]


def _row(device: Mapping[str, Any], stratum: str, outcomes: Mapping[str, str]) -> dict[str, str]:
    name = device["inventory_hostname"]
    swap, revert = device.get("__rollout_swap") or {}, device.get("__rollout_revert") or {}
    outcome = outcomes.get(name, "planned" if "changed" in swap else "not started")
    before, after = _active(swap, "before"), _active(swap, "after")
    if swap.get("failed"):
        after = str(swap.get("live") or "unknown")
        before = before if "before" in swap else after
    if (revert.get("unreachable") and outcome != "away") or revert.get("failed"):
        outcome = "not reverted"
    elif revert.get("changed"):
        outcome, after = "reverted", _active(revert, "after")
    return {
        "device": name,
        "class": str(device.get(stratum, "all")),
        "before": before,
        "after": after,
        "outcome": outcome,
    }


def _active(result: Mapping[str, Any], when: str) -> str:
    return str((result.get(when) or {}).get("active") or "-")


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"rollout_devices": rollout_devices}
