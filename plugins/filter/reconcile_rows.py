# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``reconcile_rows``."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import first_line, swap_outcome

DOCUMENTATION = r"""
name: reconcile_rows
short_description: What became of each device in a reconciliation
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Turns what the role P(edgeml.fleet.rollout#role) registered for each device into one row for each device and model.
options:
  _input:
    description: The variables of the devices, in the order of the rows.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what became of each device
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | map('extract', hostvars) | edgeml.fleet.reconcile_rows }}"
"""

RETURN = r"""
_value:
  description: One row for each device and model, with what was asked for, what became of it, and why where it failed.
  type: list
  elements: dict
"""


def reconcile_rows(devices: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """One row for each device and model: ``device``, ``model``, ``version``, ``live``, ``outcome``, ``detail``."""
    rows = []
    for device in devices:
        for result in (device.get("__rollout_reconciled") or {}).get("results", []):
            bad = result.get("failed") or result.get("unreachable")
            rows.append(
                {
                    "device": device["inventory_hostname"],
                    "model": result["item"]["model"],
                    "version": result["item"]["version"] or "-",
                    "live": str(result.get("live") or "-"),
                    "outcome": swap_outcome(result),
                    "detail": first_line(result) if bad else "",
                }
            )
    return rows


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"reconcile_rows": reconcile_rows}
