# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``timer_calendar``."""

from __future__ import annotations

from typing import Callable

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: timer_calendar
short_description: Write a number of seconds as the calendar of a timer of systemd
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - The moments are those of the clock, so they are the same after each boot of a device.
options:
  _input:
    description:
      - The seconds between two moments. Seconds that divide a minute, whole minutes that divide an hour, or whole hours
        that divide a day.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show every quarter of an hour
  ansible.builtin.debug:
    msg: "{{ 900 | edgeml.fleet.timer_calendar }}"
"""

RETURN = r"""
_value:
  description: The calendar, as C(OnCalendar) of a timer takes it.
  type: str
"""

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
# Those periods that a calendar of systemd can express, and that somebody wants. Roles take some of them.
CALENDAR_SECONDS = (
    *(5, 10, 20, 30),
    *(_MINUTE * number for number in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)),
    *(_HOUR * number for number in (1, 2, 3, 4, 6, 8, 12, 24)),
)


def timer_calendar(seconds: int) -> str:
    """Return the moments, ``seconds`` apart, that a timer of systemd waits for.

    Raises AnsibleFilterError for a period that no calendar has, such as 90 seconds.
    """
    units = ((1, _MINUTE), (_MINUTE, _HOUR), (_HOUR, _DAY))
    if seconds < 1 or not any(seconds % unit == 0 and whole % seconds == 0 for unit, whole in units):
        known = ", ".join(map(str, CALENDAR_SECONDS))
        raise AnsibleFilterError(
            f"timer_calendar: expected a part of a minute in seconds, of an hour in minutes or of a day in hours, such "
            f"as {known}; found {seconds}"
        )
    if seconds < _MINUTE:
        return f"*-*-* *:*:00/{seconds}"
    if seconds < _HOUR:
        return f"*-*-* *:00/{seconds // _MINUTE}:00"
    if seconds < _DAY:
        return f"*-*-* 00/{seconds // _HOUR}:00:00"
    return "*-*-* 00:00:00"


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Name the filter."""
        return {"timer_calendar": timer_calendar}
