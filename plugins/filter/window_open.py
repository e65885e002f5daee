# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``window_open``."""

from __future__ import annotations

from typing import Any, Callable, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.window import is_open, read_time

DOCUMENTATION = r"""
name: window_open
short_description: Test whether a maintenance window is open
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - A window like V(Mon-Fri 22:00-05:00 Europe/Berlin) is open while the clock of its zone shows a time in it. An hour
    that the clock shows twice, when it is set back, is open twice; one that it skips is not open.
  - Days and zone may be left out, and mean every day and UTC. Days are like V(Mon-Fri) or V(Sat,Sun). A window that
    crosses midnight belongs to the day on which it opens. The end does not belong to it; V(24:00) is the day's end.
positional: now
options:
  now:
    description: The time to test, in ISO 8601 with its zone. The present if not given.
    type: str
extends_documentation_fragment:
  - edgeml.fleet.windows
seealso:
  - plugin: edgeml.fleet.window_opening
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Go on only at night and on weekends
  ansible.builtin.assert:
    that: "['Mon-Fri 22:00-05:00 Europe/Berlin', 'Sat,Sun 00:00-24:00 Europe/Berlin'] | edgeml.fleet.window_open"
"""

RETURN = r"""
_value:
  description: Whether one of the windows is open.
  type: bool
"""


def window_open(windows: Sequence[str], now: str | None = None) -> bool:
    """Whether one of ``windows`` is open. Raises AnsibleFilterError."""
    try:
        return is_open(windows, read_time(now))
    except ArgumentError as error:
        raise AnsibleFilterError(f"window_open: {error}") from error


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"window_open": window_open}
