# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``setup_directories``."""

from __future__ import annotations

from typing import Callable, Sequence

DOCUMENTATION = r"""
name: setup_directories
short_description: Describe directories of the same owner and mode for device_setup
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Returns what O(edgeml.fleet.device_setup#module:parts) takes as C(directories).
options:
  _input:
    description: The paths of the directories.
    type: list
    elements: str
    required: true
  group:
    description: Their group.
    type: str
    required: true
  mode:
    description: Their mode.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show two directories
  ansible.builtin.debug:
    msg: "{{ ['/srv/a', '/srv/b'] | edgeml.fleet.setup_directories('edgeml', '0750') }}"
"""

RETURN = r"""
_value:
  description: For each path its C(path), C(group) and C(mode).
  type: list
  elements: dict
"""


def setup_directories(paths: Sequence[str], group: str, mode: str) -> list[dict[str, str]]:
    """Return the description of each directory."""
    return [{"path": path, "group": group, "mode": mode} for path in paths]


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[dict[str, str]]]]:
        """Name the filter."""
        return {"setup_directories": setup_directories}
