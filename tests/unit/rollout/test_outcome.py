# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of a device, told from the results of its swap and of the read after it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import outcome, swap_outcome

NEW = {"model": {"live": "1.1.0"}}
OLD = {"model": {"live": "1.0.0"}}
GONE = {"unreachable": True, "msg": "ssh: connect to host"}
BROKEN = {"failed": True, "msg": "damaged"}
SKIPPED = {"skipped": True}
DONE = {"changed": True, "version": "1.1.0"}
THERE = {"changed": False, "version": "1.1.0"}
AWAY = {"unreachable": True, "started": False, "version": "1.1.0"}
LOST = {"unreachable": True, "started": True, "version": "1.1.0"}
LATE = {"failed": True, "timedout": {"period": 900}, "version": "1.1.0"}
REFUSED = {"failed": True, "refused": True, "version": "1.1.0"}
FAILED = {"failed": True, "refused": False, "version": "1.1.0"}
BEFORE = {"failed": True, "refused": True, "failure": {"reason": "crashed"}, "version": "1.1.0"}


@pytest.mark.parametrize(
    ("swap", "read", "expected"),
    [
        (DONE, NEW, "updated"),
        (DONE, OLD, "failed"),
        (DONE, {"model": {"live": None}}, "failed"),
        (DONE, GONE, "silent"),
        (DONE, BROKEN, "silent"),
        (DONE, {}, "silent"),
        (DONE, {"model": "1.1.0"}, "silent"),
        (THERE, NEW, "already there"),
        (THERE, OLD, "failed"),
        (THERE, GONE, "silent"),
        (AWAY, GONE, "away"),
        (AWAY, OLD, "away"),
        (AWAY, NEW, "already there"),
        (LOST, GONE, "silent"),
        (LOST, NEW, "updated"),
        (LOST, OLD, "failed"),
        (LATE, GONE, "silent"),
        (LATE, NEW, "updated"),
        (LATE, OLD, "failed"),
        (REFUSED, SKIPPED, "refused"),
        (REFUSED, NEW, "refused"),
        (FAILED, SKIPPED, "failed"),
        (BEFORE, SKIPPED, "failed before"),
        ({}, {}, "silent"),
    ],
)
def test_outcome(swap: dict[str, Any], read: dict[str, Any], expected: str) -> None:
    assert outcome(swap, read) == expected


@pytest.mark.parametrize(
    ("swap", "expected"),
    [
        (DONE, "updated"),
        (THERE, "already there"),
        (AWAY, "away"),
        (LOST, "silent"),
        (LATE, "silent"),
        (REFUSED, "refused"),
        (FAILED, "failed"),
        (BEFORE, "failed before"),
    ],
)
def test_swap_outcome(swap: dict[str, Any], expected: str) -> None:
    assert swap_outcome(swap) == expected
