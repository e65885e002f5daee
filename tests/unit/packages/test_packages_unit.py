# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where systemd runs, a unit installs packages: it is waited for, and believed only of the version that is wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from edgeml_device._common.errors import ServerError
from edgeml_device._device import packages_strategy
from edgeml_device._device.client import Server
from edgeml_device._device.package_manager import PackageManager
from edgeml_device._device.packages_strategy import PackagesStrategy
from edgeml_device._device.store import Store

Noted = Callable[..., None]


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Noted:
    """Have each start of the unit note the next of some outcomes, after it was seen at work once."""
    outcomes: list[dict[str, str | None] | None] = []
    states: list[str] = []

    def systemctl(*arguments: str) -> str:
        assert arguments == ("start", "--no-block", "--", "edgeml-packages.service")
        assert not (tmp_path / "packages-outcome.json").exists(), "an earlier outcome is none of this start"
        states[:] = ["activating", "inactive"]
        outcome = outcomes.pop(0)
        if outcome is not None:
            (tmp_path / "packages-outcome.json").write_text(json.dumps(outcome))
        return ""

    def unit_property(_unit: str, name: str) -> str:
        if name == "Job":
            return ""
        return states.pop(0)

    monkeypatch.setattr(packages_strategy, "has_unit", lambda: True)
    monkeypatch.setattr(packages_strategy, "systemctl", systemctl)
    monkeypatch.setattr(packages_strategy, "unit_property", unit_property)
    monkeypatch.setattr(packages_strategy, "_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(Server, "has_started", lambda _self: True)
    return lambda *noted: outcomes.extend(noted)


def notify(tmp_path: Path) -> None:
    """Have version 2 installed."""
    strategy = PackagesStrategy(Server(str(tmp_path / "socket")), Store(str(tmp_path)), PackageManager())
    strategy.notify("debian-bookworm", "2")


def test_the_units_outcome_is_waited_for(unit: Noted, tmp_path: Path) -> None:
    unit({"version": "2", "error": None})
    notify(tmp_path)
    assert json.loads((tmp_path / "packages.json").read_text()) == {"model": "debian-bookworm", "version": "2"}


def test_a_unit_that_was_at_work_for_another_version_is_started_again(unit: Noted, tmp_path: Path) -> None:
    unit({"version": "1", "error": None}, {"version": "2", "error": None})
    notify(tmp_path)


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ([{"version": "2", "error": "no room"}], "no room"),
        ([{"version": "1", "error": None}] * 2, "edgeml-packages.service: expected 2; found"),
        ([None] * 2, "edgeml-packages.service ended without an outcome"),
    ],
    ids=["failed", "another version", "killed"],
)
def test_what_did_not_bring_the_version_is_an_error(
    unit: Noted, tmp_path: Path, noted: list[dict[str, str | None] | None], expected: str
) -> None:
    unit(*noted)
    with pytest.raises(ServerError, match=expected):
        notify(tmp_path)


def test_a_server_that_does_not_come_back_is_an_error(
    unit: Noted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit({"version": "2", "error": None})
    monkeypatch.setattr(Server, "has_started", lambda _self: False)
    monkeypatch.setattr(packages_strategy, "_START_SECONDS", 0.0)
    with pytest.raises(ServerError, match="the inference server does not answer with these packages"):
        notify(tmp_path)
