# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``pull_agent_problems``."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible_collections.edgeml.fleet.plugins.filter.timer_calendar import CALENDAR_SECONDS

DOCUMENTATION = r"""
name: pull_agent_problems
short_description: Find what keeps the role pull_agent from having a device pull
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Compares the role's options with each other and with the device, before anything is changed there.
options:
  _input:
    description: The role's options by their names without C(pull_agent_), each with its type.
    type: dict
    required: true
  architecture:
    description: What the device's programs are built for.
    type: str
    required: true
  python_version:
    description: The version of the device's Python, such as V(3.11.2).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse what cannot work
  ansible.builtin.assert:
    that: values | edgeml.fleet.pull_agent_problems('aarch64', '3.11.2') == []
"""

RETURN = r"""
_value:
  description: The problems, each a sentence that names the variables; empty if there are none.
  type: list
  elements: str
"""

# On 32-bit ARM there is no wheel of cffi, which cryptography imports.
_ARCHITECTURES = ("aarch64", "x86_64")
_PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def pull_agent_problems(values: Mapping[str, Any], architecture: str, python_version: str) -> list[str]:
    """Return what keeps a device of this architecture and Python from pulling with these options."""
    found = [f"pull_agent_{name} is required" for name in ("fleet", "sources") if not values[name]]
    if not values["root"]:
        found.append("pull_agent_root is required: the first root.json of the model repository")
    if not values["authority"] and not values["authority_directory"]:
        found.append("pull_agent_authority or pull_agent_authority_directory is required")
    # Nobody waits seconds for a release; a demonstration does.
    if values["poll_seconds"] not in CALENDAR_SECONDS:
        found.append(f"pull_agent_poll_seconds: expected one of {', '.join(map(str, CALENDAR_SECONDS))}")
    if architecture not in _ARCHITECTURES:
        found.append(f"pull mode has wheels for {', '.join(_ARCHITECTURES)}, but this device is {architecture}")
    if ".".join(python_version.split(".")[:2]) not in _PYTHONS:
        found.append(
            f"pull mode has wheels for Python {_PYTHONS[0]} to {_PYTHONS[-1]}, but this device has {python_version}"
        )
    return found


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Name the filter."""
        return {"pull_agent_problems": pull_agent_problems}
