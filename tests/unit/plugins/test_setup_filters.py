# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What roles tell devices of timers and directories, and what the role container_runtime reads and sets there."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.edgeml.fleet.plugins.filter.container_runtime_found import container_runtime_found
from ansible_collections.edgeml.fleet.plugins.filter.container_runtime_units import container_runtime_units
from ansible_collections.edgeml.fleet.plugins.filter.setup_directories import setup_directories
from ansible_collections.edgeml.fleet.plugins.filter.timer_calendar import CALENDAR_SECONDS, timer_calendar

FOUND = """\
package crun installed
package podman config-files
file /etc/containers/storage.conf root:root 644 0123abc
Id=podman.socket
ActiveState=active
UnitFileState=enabled

Id=missing.timer
ActiveState=inactive
UnitFileState=

Id=docker.service
ActiveState=failed
UnitFileState=disabled
"""


@pytest.mark.parametrize(
    ("seconds", "calendar"),
    [
        (5, "*-*-* *:*:00/5"),
        (30, "*-*-* *:*:00/30"),
        (60, "*-*-* *:00/1:00"),
        (900, "*-*-* *:00/15:00"),
        (3600, "*-*-* 00/1:00:00"),
        (43200, "*-*-* 00/12:00:00"),
        (86400, "*-*-* 00:00:00"),
    ],
)
def test_seconds_are_moments_of_the_clock(seconds: int, calendar: str) -> None:
    assert timer_calendar(seconds) == calendar


@pytest.mark.parametrize("seconds", [0, -60, 7, 90, 420, 5400, 90_000, 172_800])
def test_a_period_that_no_calendar_has_is_an_error(seconds: int) -> None:
    with pytest.raises(AnsibleFilterError, match=rf"such as 5, 10, .*, 86400; found {seconds}\Z"):
        timer_calendar(seconds)


def test_every_period_that_roles_take_is_one_of_a_calendar() -> None:
    assert len({timer_calendar(seconds) for seconds in CALENDAR_SECONDS}) == len(CALENDAR_SECONDS)


def test_directories_share_their_rights() -> None:
    assert setup_directories(['/srv/"quoted"', "/srv/b"], "edgeml", "0750") == [
        {"path": '/srv/"quoted"', "group": "edgeml", "mode": "0750"},
        {"path": "/srv/b", "group": "edgeml", "mode": "0750"},
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_was_looked_up_is_read_and_the_rest_is_missing(end: str) -> None:
    """With a terminal between, as become may need one, lines end in another way."""
    assert container_runtime_found(FOUND.replace("\n", end)) == {
        "packages": ["crun"],
        "files": {"/etc/containers/storage.conf": "root:root 644 0123abc"},
        "units": {
            "podman.socket": {"active": "active", "enabled": "enabled"},
            "docker.service": {"active": "failed", "enabled": "disabled"},
        },
        "running": ["podman.socket"],
    }
    nothing: dict[str, Any] = {"packages": [], "files": {}, "units": {}, "running": []}
    assert container_runtime_found("") == nothing


@pytest.mark.parametrize(
    ("unit", "is_set"),
    [
        ({"name": "podman.socket", "enabled": True, "state": "started"}, True),
        ({"name": "podman.socket", "enabled": True}, True),
        ({"name": "podman.socket", "enabled": True, "state": ""}, True),
        ({"name": "podman.socket", "enabled": False}, False),
        ({"name": "podman.socket", "enabled": True, "state": "stopped"}, False),
        ({"name": "docker.service", "enabled": False, "state": "stopped"}, True),
        ({"name": "docker.service", "enabled": False, "state": "started"}, False),
        ({"name": "missing.timer", "enabled": False}, False),
    ],
)
def test_only_units_that_differ_are_set(unit: dict[str, Any], is_set: bool) -> None:
    found = container_runtime_found(FOUND)["units"]
    assert container_runtime_units([unit], found) == ([] if is_set else [unit])
    # In check mode nothing was installed.
    changes = not is_set and unit["name"] in found
    assert container_runtime_units([unit], found, check_mode=True) == ([unit] if changes else [])
