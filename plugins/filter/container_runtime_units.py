# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``container_runtime_units``."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

DOCUMENTATION = r"""
name: container_runtime_units
short_description: Find the units that the role container_runtime has to set
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Compares how units should be with how they were before the play.
options:
  _input:
    description:
      - The units, each with its C(name), whether it is C(enabled), and with C(state) V(started) or V(stopped) where it
        runs between its jobs.
    type: list
    elements: dict
    required: true
  found:
    description: How they were, as the filter C(container_runtime_found) returns it.
    type: dict
    required: true
  check_mode:
    description: Whether nothing was installed, so that units may be missing.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what is to be set
  ansible.builtin.debug:
    msg: "{{ [{'name': 'podman.socket', 'enabled': false}] | edgeml.fleet.container_runtime_units(found.units) }}"
"""

RETURN = r"""
_value:
  description: Those of the units that are not as they should be, or that nothing is known of.
  type: list
  elements: dict
"""

# What systemd calls the states that a unit may be in.
_ACTIVE = {"started": ("active",), "stopped": ("inactive", "failed")}


def container_runtime_units(
    units: Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[str, str]], check_mode: bool = False
) -> list[Mapping[str, Any]]:
    """Return those of ``units`` that are not as they should be; in check mode only of those that are there."""
    there = [unit for unit in units if not check_mode or unit["name"] in found]
    return [unit for unit in there if not _is_set(unit, found.get(unit["name"]))]


def _is_set(unit: Mapping[str, Any], found: Mapping[str, str] | None) -> bool:
    if found is None or found["enabled"] != ("enabled" if unit["enabled"] else "disabled"):
        return False
    return not unit.get("state") or found["active"] in _ACTIVE[unit["state"]]


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[Mapping[str, Any]]]]:
        """Name the filter."""
        return {"container_runtime_units": container_runtime_units}
