# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``text_table``."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

DOCUMENTATION = r"""
name: text_table
short_description: Format rows as an aligned text table
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Aligns the values of the rows in columns, under the names of the first row's keys.
options:
  _input:
    description: The rows. All have the keys of the first one.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show two devices as a table
  ansible.builtin.debug:
    msg: "{{ rows | edgeml.fleet.text_table }}"
  vars:
    rows:
      - {device: edge-s1, live: 1.1.0}
      - {device: edge-l1, live: 1.1.0}
"""

RETURN = r"""
_value:
  description: The lines of the table, the heading first; none without rows.
  type: list
  elements: str
"""


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"text_table": text_table}
