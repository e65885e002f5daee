# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each device made of its fault: the old version serves as before, and the device can say what happened."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

OLD, CANDIDATE = "1.1.0", "1.2.0"
MODEL = "/var/lib/edgeml/store/models/digits"

# The newest transition of each device: its event, who made it, and what its reason tells.
ENDINGS = {
    "edge-s1": ("revert", "device", "the service crashed 3 times (at most 2)"),
    "edge-s2": ("interrupted", "device", "the swap was interrupted"),
    "edge-l1": ("interrupted", "device", "the switch was never made"),
    "edge-l2": ("revert", "device", "the service crashed 2 times (at most 1)"),
}


@pytest.fixture(scope="module")
def name(host: Host) -> str:
    hostname: str = host.check_output("hostname")
    return hostname


@pytest.fixture(scope="module")
def model(host: Host) -> dict[str, Any]:
    """What the device's command says of the model."""
    models: list[dict[str, Any]] = json.loads(host.check_output("edgeml status --json"))["models"]
    assert [entry["name"] for entry in models] == ["digits"]
    return models[0]


@pytest.fixture(scope="module")
def history(host: Host) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(host.check_output("edgeml history digits --json"))["history"]
    return entries


def test_the_old_version_serves_as_before(model: dict[str, Any]) -> None:
    assert {key: model[key] for key in ("live", "active", "previous", "trial")} == {
        "live": OLD,
        "active": OLD,
        "previous": None,
        "trial": None,
    }


def test_servers_that_read_the_link_get_it_too(host: Host) -> None:
    assert host.file(f"{MODEL}/active").linked_to == f"{MODEL}/versions/{OLD}"


def test_the_history_tells_what_happened(name: str, history: list[dict[str, Any]]) -> None:
    last = history[-1]
    assert (last["event"], last["actor"], last["reason"]) == ENDINGS[name]
    assert (last["from"], last["to"]) == (CANDIDATE, OLD)


def test_only_a_version_that_failed_is_not_tried_again(name: str, model: dict[str, Any]) -> None:
    """A power cut and a full disk say nothing against a version."""
    event, _actor, reason = ENDINGS[name]
    failed = {entry["version"]: entry["reason"] for entry in model["failed"]}
    assert failed == ({CANDIDATE: reason} if event == "revert" else {})


def test_the_service_runs_and_no_unit_failed(host: Host) -> None:
    assert host.service("edgeml-inference").is_running
    assert host.check_output("systemctl is-system-running") == "running"


def test_nobody_watches_any_more(host: Host) -> None:
    timer = host.service("edgeml-trial.timer")
    assert timer.is_enabled
    assert not timer.is_running


def test_nothing_is_left_in_staging(host: Host) -> None:
    assert host.run("ls -A /var/lib/edgeml/store/staging").stdout == ""
