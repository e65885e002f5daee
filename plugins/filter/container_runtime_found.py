# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``container_runtime_found``."""

from __future__ import annotations

import re
from typing import Any, Callable

DOCUMENTATION = r"""
name: container_runtime_found
short_description: Read what the role container_runtime has looked up on a device
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Reads packages, files and units from the text of one command. What the text does not have counts as missing.
options:
  _input:
    description:
      - The text. A line C(package name state) for each package, C(file path owner mode digest) for each file, and for
        each unit the lines C(Id), C(ActiveState) and C(UnitFileState) of systemctl.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show which packages are installed
  ansible.builtin.debug:
    msg: "{{ (looked_up.stdout | edgeml.fleet.container_runtime_found).packages }}"
"""

RETURN = r"""
_value:
  description:
    - The C(packages) that are installed; of the C(files) by their paths the owner, mode and digest in one text; of the
      C(units) by their names C(active) and C(enabled), as systemd calls these states; and C(running), the names of the
      units that are active.
  type: dict
"""

_PACKAGE = re.compile(r"^package (\S+) installed\r?$", re.MULTILINE)
_FILE = re.compile(r"^file (\S+) (.+?)\r?$", re.MULTILINE)
_UNIT = re.compile(r"Id=(\S+)\s+ActiveState=(\S+)\s+UnitFileState=(\S+)")


def container_runtime_found(text: str) -> dict[str, Any]:
    """Return the packages, files and units that the text tells of."""
    units = _UNIT.findall(text)
    return {
        "packages": _PACKAGE.findall(text),
        "files": dict(_FILE.findall(text)),
        "units": {name: {"active": active, "enabled": enabled} for name, active, enabled in units},
        "running": [name for name, active, _enabled in units if active == "active"],
    }


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """Name the filter."""
        return {"container_runtime_found": container_runtime_found}
