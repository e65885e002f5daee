# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``rollout_measured``."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

DOCUMENTATION = r"""
name: rollout_measured
short_description: What the gate is told of a wave
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Gathers what the role P(edgeml.fleet.rollout#role) registered for the devices of a wave, as arguments for
    M(edgeml.fleet.rollout_gate).
options:
  _input:
    description: The variables of the wave's devices.
    type: list
    elements: dict
    required: true
  device_classes:
    description: The class of each device of the fleet.
    type: dict
    required: true
  version:
    description: The version that is rolled out, for results that do not name it.
    type: str
    required: true
  outcomes:
    description: What became of the devices of the waves so far.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what a gate would be told of devices that nothing was done with
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | map('extract', hostvars) | edgeml.fleet.rollout_measured(classes, '1.1.0', {}) }}"
  vars:
    classes: {edge-s1: small}
"""

RETURN = r"""
_value:
  description: C(device_classes), C(swaps), C(reads), C(controls) and C(earlier) for the gate.
  type: dict
"""


# More than half of what a module returns, and of no use to the gate, which would be sent it and return it.
_SPARED = ("invocation", "diff", "models", "device")


def rollout_measured(
    devices: Iterable[Mapping[str, Any]], device_classes: Mapping[str, str], version: str, outcomes: Mapping[str, str]
) -> dict[str, Any]:
    """``device_classes``, ``swaps``, ``reads`` and ``controls`` of a wave, what became of ``earlier`` waves, by the
    devices' names."""
    result: dict[str, Any] = {"device_classes": {}, "swaps": {}, "reads": {}, "controls": {}, "earlier": {}}
    for device in devices:
        name = device["inventory_hostname"]
        result["device_classes"][name] = device_classes.get(name, "all")
        result["swaps"][name] = {"version": version, **_told(device.get("__rollout_swap"))}
        result["reads"][name] = _told(device.get("__rollout_read"))
        # The same for all devices of the wave.
        if not result["controls"]:
            result["controls"] = _controls(device, device_classes)
    for name, outcome in outcomes.items():
        if name not in result["device_classes"]:
            result["earlier"][name] = {"device_class": device_classes.get(name, "all"), "outcome": outcome}
    return result


def _controls(device: Mapping[str, Any], device_classes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The devices on the old version, with what they told before and after the soak."""
    before, after = (
        {result["item"]: _told(result) for result in (device.get(f"__rollout_control_{when}") or {}).get("results", [])}
        for when in ("before", "after")
    )
    return {
        name: {"device_class": device_classes.get(name, "all"), "before": told, "after": after.get(name, {})}
        for name, told in before.items()
    }


def _told(result: Mapping[str, Any] | None) -> dict[str, Any]:
    """A module's result without what the gate does not read."""
    return {key: value for key, value in (result or {}).items() if key not in _SPARED}


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"rollout_measured": rollout_measured}
