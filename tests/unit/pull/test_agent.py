# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A device that pulls, by real signed metadata: what it does, what it refuses, and what it reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from pulled import MODEL, PulledFleet

from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import Ask


@pytest.fixture
def fleet(tmp_path: Path) -> PulledFleet:
    return PulledFleet(tmp_path)


def test_a_device_follows_its_fleet_from_release_to_release(fleet: PulledFleet) -> None:
    device = fleet.device()
    assert (device.poll().code, device.active) == (0, None)
    fleet.publish(fleet.rollout("1.0.0"))
    assert (device.poll().code, device.active) == (0, "1.0.0")
    fleet.publish(fleet.rollout("2.0.0"), fleet.rollout("1.0.0"))
    assert (device.poll().code, device.active) == (0, "2.0.0")
    fleet.publish(fleet.rollout("2.0.0", stopped=True, reason="it was bad"), fleet.rollout("1.0.0"))
    assert (device.poll().code, device.active) == (0, "1.0.0")
    assert [(report.state, report.version) for report in device.queued()] == [
        ("active", "1.0.0"),
        ("active", "2.0.0"),
        ("previous", "2.0.0"),
    ]


def test_a_poll_that_finds_nothing_writes_nothing(fleet: PulledFleet) -> None:
    device = fleet.device(mailbox=None)
    fleet.publish(fleet.rollout("1.0.0"))
    device.poll()
    before = device.snapshot()
    assert device.poll() == device.poll()
    assert device.snapshot() == before


def test_a_question_is_answered_once(fleet: PulledFleet) -> None:
    device = fleet.device()
    ask = Ask(number=1, purpose="swap", rollout_id=f"{MODEL}-1.0.0-1", waves=[1])
    fleet.publish(fleet.rollout("1.0.0"), ask=ask)
    device.poll()
    fleet.release("3.0.0")
    device.poll()
    begun, report = device.queued()
    assert (begun.begun, begun.question, begun.result) == (True, 1, None)
    assert (report.question, report.model, report.state, report.version) == (1, MODEL, "active", "1.0.0")
    assert report.result is not None
    assert report.result["changed"] is True
    assert report.info is not None
    assert report.info["model"]["active"] == "1.0.0"
