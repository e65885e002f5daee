# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of a device, told from the results of its swap and of the read after it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import one_line, outcome, swap_outcome

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
# Of Ansible itself, before the task began.
NOT_BEGUN = {"failed": True, "changed": False, "msg": "the connection plugin was not found"}
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
        (NOT_BEGUN, "refused"),
        (BEFORE, "failed before"),
    ],
)
def test_swap_outcome(swap: dict[str, Any], expected: str) -> None:
    assert swap_outcome(swap) == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"msg": "no room\nTraceback"}, "no room"),
        ({}, ""),
        ({"unreachable": True, "msg": "by ssh: a@b: Permission denied.\r\n"}, "by ssh: a@b: Permission denied."),
        (
            {
                "unreachable": True,
                "msg": "by ssh: @@@@@@\r\n@   WARNING: OPEN!   @\r\n@@@@@@\r\nLoad key: bad\r\na@b: no",
            },
            "by ssh: WARNING: OPEN!; Load key: bad; a@b: no",
        ),
        ({"failed": True, "msg": "x" * 1000}, "x" * 300),
    ],
)
def test_a_message_in_a_table_has_one_line_with_the_reason(result: dict[str, Any], expected: str) -> None:
    assert one_line(result) == expected
