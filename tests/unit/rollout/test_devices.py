# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The devices of a fleet: how a play names them, what a plan knows of them, and the rows of the closing tables."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import devices
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.devices import DeviceResults, Row
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import LeftOut

UP = {"active": "1.1.0", "previous": "1.0.0"}
DOWN = {"active": "1.0.0", "previous": None}
SWAPPED = {"changed": True, "before": DOWN, "after": UP, "live": "1.1.0"}
FAILED = {"failed": True, "changed": False, "before": DOWN, "after": UP, "live": "1.0.0"}


# ---- names ----

ODD = [
    "Hall 3, gateway",
    "rack1:cam2",
    "b[1]",
    "cam*",
    "!cam",
    "&cam",
    "~cam",
    "a.b",
    "axb",
    "fe80::1",
    "Küche",
    "cam\n2",
]


def inventory(names: list[str]) -> InventoryManager:
    """An inventory with these hosts, whatever their names."""
    found = InventoryManager(loader=DataLoader(), sources=["localhost,"])
    for name in names:
        found._inventory.add_host(name)
    return found


@pytest.mark.parametrize("name", ODD)
def test_a_pattern_means_its_host_and_no_other(name: str) -> None:
    found = inventory(ODD).get_hosts([devices.pattern(name)])
    assert [host.name for host in found] == [name]


def test_a_usual_name_is_its_own_pattern() -> None:
    assert devices.pattern("edge-s1.plant_a.example.com") == "edge-s1.plant_a.example.com"


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_patterns_of_any_two_names_differ(one: str, other: str) -> None:
    pattern = devices.pattern(one)
    matches = re.match(pattern[1:], other) is not None if pattern.startswith("~") else pattern == other
    assert matches == (one == other)


# ---- what a plan knows ----


def test_a_host_is_described_by_its_variables() -> None:
    variables = {"device_class": "small", "site": "a", "rollout_pinned": "by hand", "rollout_maintenance": False}
    assert devices.describe(variables, ["device_class", "site"]) == {"device_class": "small / a", "pinned": "by hand"}
    assert devices.describe(variables, []) == {"device_class": "all", "pinned": "by hand"}
    assert devices.describe({}, ["device_class", "site"]) == {"device_class": "no device_class / no site"}
    assert devices.describe({"device_class": 0}, ["device_class"]) == {"device_class": "0"}


@pytest.mark.parametrize("text", ["false", "No", "off", "0", "", None, False])
def test_a_reason_that_is_false_is_none_however_it_is_written(text: Any) -> None:
    variables = {"rollout_pinned": text, "rollout_maintenance": text}
    assert devices.describe(variables, []) == {"device_class": "all"}


def test_hosts_without_a_class_are_named() -> None:
    fleet: dict[str, dict[str, Any]] = {
        "b": {"device_class": ""},
        "a": {},
        "c": {"device_class": "small"},
        "d": {"device_class": 0},
    }
    assert devices.without_class(fleet, ["device_class"]) == ["a", "b"]


def test_groups_of_the_waves_that_have_no_hosts_are_named() -> None:
    groups = {"canary": ["a"], "empty": []}
    assert devices.check_groups(["canary", 3, "10%", "100%"], groups) == []
    assert devices.check_groups(["canery", "empty", "100%"], groups) == [
        "rollout_waves: canery is no group of the inventory, so there is no wave of it",
        "rollout_waves: empty has no hosts, so there is no wave of it",
    ]


# ---- what became of a device of a rollout ----


def row(outcome: Outcome | None = None, **results: Any) -> Row:
    (found,) = devices.rollout_rows(
        [PlannedWave(2, "100%", ("edge-1",))],
        {"edge-1": DeviceResults(**results)},
        {"edge-1": outcome} if outcome else {},
        device_classes={"edge-1": "small"},
        left_out={},
    )
    assert (found.pop("device"), found.pop("class"), found.pop("wave")) == ("edge-1", "small", 2)
    return found


def expected(before: str, after: str, outcome: str, detail: str = "") -> Row:
    return {"before": before, "after": after, "outcome": outcome, "detail": detail}


def test_a_device_that_was_not_reached_by_the_rollout() -> None:
    assert row() == expected("-", "-", "not started")


def test_a_device_in_check_mode() -> None:
    assert row(swap=SWAPPED) == expected("1.0.0", "1.1.0", "planned")


def test_a_device_that_was_updated() -> None:
    assert row(Outcome.UPDATED, swap=SWAPPED) == expected("1.0.0", "1.1.0", "updated")


def test_a_device_that_was_reverted() -> None:
    back = {"changed": True, "before": UP, "after": DOWN}
    assert row(Outcome.UPDATED, swap=SWAPPED, revert=back) == expected("1.0.0", "1.0.0", "reverted")


def test_a_device_that_went_back_still_says_why_its_swap_failed() -> None:
    swap = {"failed": True, "changed": False, "before": UP, "live": "1.1.0", "msg": "no end within 900 s"}
    back = {"changed": True, "before": UP, "after": {"active": None, "previous": None}}
    found = row(Outcome.FAILED, swap=swap, revert=back)
    assert found["outcome"] == "reverted"
    assert found["detail"] == "no end within 900 s; no version was active before: the model is not served now"
    found = row(Outcome.FAILED, swap=swap, revert={"failed": True, "msg": "no room"})
    assert (found["outcome"], found["detail"]) == ("not reverted", "no end within 900 s; no room")


@pytest.mark.parametrize("revert", [{"unreachable": True}, {"failed": True, "msg": "no"}])
def test_a_device_that_could_not_be_reverted(revert: dict[str, Any]) -> None:
    found = row(Outcome.UPDATED, swap=SWAPPED, revert=revert)
    assert (found["outcome"], found["detail"]) == ("not reverted", revert.get("msg", ""))


def test_a_device_that_had_nothing_to_revert() -> None:
    skipped = {"changed": False, "skipped": True}
    assert row(Outcome.UPDATED, swap=SWAPPED, revert=skipped) == expected("1.0.0", "1.1.0", "updated")


def test_a_device_that_refused_keeps_what_is_live() -> None:
    assert row(Outcome.REFUSED, swap=FAILED) == expected("1.0.0", "1.0.0", "refused")
    refused = {"failed": True, "changed": False, "live": "1.0.0", "msg": "no room: 7 bytes\nmore"}
    assert row(Outcome.REFUSED, swap=refused) == expected("1.0.0", "1.0.0", "refused", "no room: 7 bytes")


@pytest.mark.parametrize("live", [{}, {"live": None}])
def test_a_device_that_failed_without_telling_what_is_live(live: dict[str, Any]) -> None:
    assert row(Outcome.FAILED, swap={"failed": True, **live}) == expected("unknown", "unknown", "failed")


def test_a_device_that_is_away() -> None:
    assert row(Outcome.AWAY, swap={"unreachable": True, "changed": False}) == expected("-", "-", "away")


def test_a_first_installation() -> None:
    swap = {"changed": True, "before": {"active": None, "previous": None}, "after": DOWN}
    assert row(Outcome.UPDATED, swap=swap) == expected("-", "1.0.0", "updated")


def test_a_device_without_a_class() -> None:
    (found,) = devices.rollout_rows([PlannedWave(1, "100%", ("edge-2",))], {}, {}, device_classes={}, left_out={})
    assert (found["class"], found["wave"]) == ("all", 1)


def test_a_device_that_was_left_out() -> None:
    why = LeftOut(Outcome.PINNED, "by hand: twice")
    assert devices.rollout_rows([], {}, {}, device_classes={"edge-1": "small"}, left_out={"edge-1": why}) == [
        {"device": "edge-1", "class": "small", "wave": None, **expected("-", "-", "pinned", "pinned: by hand: twice")}
    ]


# ---- what became of devices in a reconciliation and in a rollback ----


def test_one_row_for_each_reconciled_model() -> None:
    item = {"model": "digits", "version": "1.1.0", "state": "active"}
    results = [
        {"item": item, "changed": True, "live": "1.1.0"},
        {"item": {**item, "state": "previous"}, "failed": True, "refused": True, "live": None, "msg": "no room\n"},
        {"item": item, "unreachable": True, "started": False, "msg": "ssh: connect to host"},
    ]
    rows = devices.reconcile_rows({"a": DeviceResults(reconciled=results), "b": DeviceResults()})
    assert [list(row.values()) for row in rows] == [
        ["a", "digits", "1.1.0", "1.1.0", "updated", ""],
        ["a", "digits", "-", "-", "refused", "no room"],
        ["a", "digits", "1.1.0", "-", "away", "ssh: connect to host"],
    ]


def test_one_row_for_each_device_that_goes_back() -> None:
    results = {
        "a": {"changed": True, "before": UP, "after": DOWN},
        "b": {"changed": False, "before": DOWN, "after": DOWN},
        "c": {"failed": True, "before": UP, "after": DOWN, "live": "1.1.0", "msg": "no previous version"},
        "d": {"unreachable": True, "msg": "ssh: connect to host"},
    }
    rows = devices.rollback_rows({name: DeviceResults(revert=result) for name, result in results.items()})
    assert [list(row.values()) for row in rows] == [
        ["a", "1.1.0", "1.0.0", "reverted", ""],
        ["b", "1.0.0", "1.0.0", "unchanged", ""],
        ["c", "1.1.0", "1.1.0", "not reverted", "no previous version"],
        ["d", "-", "-", "away", "ssh: connect to host"],
    ]


def test_a_microcontroller_names_its_gateway() -> None:
    fleet = {"meter-1": {"mcu_gateway": "hall-3"}, "hall-3": {}, "meter-2": {"mcu_gateway": ""}}
    assert devices.gateways(fleet) == {"meter-1": "hall-3"}
