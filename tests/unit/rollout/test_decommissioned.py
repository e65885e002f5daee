# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices that are out of service: what the ledger says of them, and who leaves them out."""

from __future__ import annotations

from pathlib import Path

import pytest
from rollout_stage import CLASSES, Stage

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decommissioned import (
    Decommissioned,
    forget_decommissioned,
    leave_out,
    read_decommissioned,
    write_decommissioned,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.ledger import LedgerError

STOLEN = Decommissioned("edge-s1", "2026-11-29T04:00:00Z", "stolen")


@pytest.mark.parametrize("name", ["edge-s1", "plant a/gate.1", "../up", "größe"])
def test_what_was_noted_is_read(tmp_path: Path, name: str) -> None:
    ledger = str(tmp_path / "ledger")
    assert read_decommissioned(ledger) == {}
    entry = Decommissioned(name, "2026-11-29T04:00:00Z", "sold", wiped=True)
    write_decommissioned(ledger, entry)
    write_decommissioned(ledger, STOLEN)
    assert read_decommissioned(ledger) == {name: entry, STOLEN.device: STOLEN}
    assert {path.name for path in tmp_path.iterdir()} == {"ledger"}
    forget_decommissioned(ledger, name)
    forget_decommissioned(ledger, name)
    assert name == STOLEN.device or read_decommissioned(ledger) == {STOLEN.device: STOLEN}


@pytest.mark.parametrize("text", ["", "{}", '{"device": "edge-9", "at": "", "reason": "", "wiped": false}'])
def test_a_damaged_note_is_named(tmp_path: Path, text: str) -> None:
    """A device that was stolen must not come back because its file is damaged."""
    write_decommissioned(str(tmp_path), STOLEN)
    path = tmp_path / "decommissioned/edge-s1.json"
    path.write_text(text)
    with pytest.raises(LedgerError, match=str(path)):
        read_decommissioned(str(tmp_path))


def test_who_is_left_out_says_why(tmp_path: Path) -> None:
    write_decommissioned(str(tmp_path), STOLEN)
    described = {"edge-s1": {"device_class": "small"}, "edge-s2": {"device_class": "small"}}
    assert leave_out(described, str(tmp_path)) == {
        "edge-s1": {"device_class": "small", "decommissioned": "stolen (2026-11-29T04:00:00Z)"},
        "edge-s2": {"device_class": "small"},
    }


def test_no_rollout_and_no_reconciliation_takes_it_along(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    write_decommissioned(str(stage.ledger), STOLEN)
    # It is left out for that reason, whatever else the inventory says of it.
    stage.host["edge-s1"]["rollout_pinned"] = "until March"
    assert "edge-s1 left out: decommissioned: stolen (2026-11-29T04:00:00Z)" in stage.step("plan")["msg"]
    assert {host for wave in stage.waves for host in wave} == set(CLASSES) - {"edge-s1"}
    for number in range(1, len(stage.waves) + 1):
        stage.wave(number, {})
    stage.step("close")
    assert {row["device"]: row["outcome"] for row in stage.rollout().to_dict()["devices"]}[
        "edge-s1"
    ] == "decommissioned"
    stage.step("wanted")
    assert set(stage.noted["calls"]) == set(CLASSES) - {"edge-s1"}
    forget_decommissioned(str(stage.ledger), "edge-s1")
    del stage.host["edge-s1"]["rollout_pinned"]
    stage.step("plan")
    assert {host for wave in stage.waves for host in wave} == set(CLASSES)
