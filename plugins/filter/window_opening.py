# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``window_opening``."""

from __future__ import annotations

from typing import Any, Callable, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.window import next_opening, read_time

DOCUMENTATION = r"""
name: window_opening
short_description: Find when a maintenance window opens
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Returns when one of the windows opens next. The windows are those of P(edgeml.fleet.window_open#filter).
positional: now
options:
  now:
    description: The time to start from, in ISO 8601 with its zone. The present if not given.
    type: str
extends_documentation_fragment:
  - edgeml.fleet.windows
seealso:
  - plugin: edgeml.fleet.window_open
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Say when the window opens
  ansible.builtin.debug:
    msg: "{{ ['Sat 01:00-05:00 Europe/Berlin'] | edgeml.fleet.window_opening }}"
"""

RETURN = r"""
_value:
  description:
    - A time in UTC, like V(2026-11-28T00:00:00Z); the time that was asked for if a window is open.
    - Nothing if none opens within 15 days.
  type: str
"""


def window_opening(windows: Sequence[str], now: str | None = None) -> str | None:
    """The time in ISO 8601, to the second, or None. Raises AnsibleFilterError."""
    try:
        found = next_opening(windows, read_time(now))
    except ArgumentError as error:
        raise AnsibleFilterError(f"window_opening: {error}") from error
    return None if found is None else found.strftime("%Y-%m-%dT%H:%M:%SZ")


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"window_opening": window_opening}
