# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters that make tables for people."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.filter import (
    reconcile_rows,
    rollout_devices,
    rollout_measured,
    server_credentials,
    status_rows,
    text_table,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._common import table

OUTCOMES = {"before-a": "failed", "a": "updated"}
PLAN = {"waves": [{"number": 2, "hosts": ["edge-1"]}], "device_classes": {"edge-1": "small"}, "left_out": {}}
UP = {"active": "1.1.0", "previous": "1.0.0"}
DOWN = {"active": "1.0.0", "previous": None}
SWAPPED = {"changed": True, "before": DOWN, "after": UP, "live": "1.1.0"}
FAILED = {"failed": True, "changed": False, "before": DOWN, "after": UP, "live": "1.0.0"}


def test_each_plugin_names_its_filter() -> None:
    for plugin, name in (
        (reconcile_rows, "reconcile_rows"),
        (rollout_devices, "rollout_devices"),
        (rollout_measured, "rollout_measured"),
        (server_credentials, "server_credentials"),
        (status_rows, "status_rows"),
        (text_table, "text_table"),
    ):
        assert plugin.FilterModule().filters() == {name: getattr(plugin, name)}


# ---- server_credentials ----


def test_the_same_credentials_have_the_same_hashes_on_one_device_only() -> None:
    credentials = [{"name": "a", "secret": "0123456789abcdef"}, {"name": "b", "secret": "fedcba9876543210"}]
    first = server_credentials.server_credentials(credentials, "edge-1")
    assert first == server_credentials.server_credentials(credentials, "edge-1")
    other = server_credentials.server_credentials(credentials, "edge-2")
    assert not set(first["hashes"].values()) & set(other["hashes"].values())
    assert first["salt"] != other["salt"]


@pytest.mark.parametrize("names", [["a", "a"], ["a:b"], [""]])
def test_credentials_that_cannot_be_told_apart_are_refused(names: list[str]) -> None:
    credentials = [{"name": name, "secret": "0123456789abcdef"} for name in names]
    with pytest.raises(AnsibleFilterError, match="expected texts without a colon, each once"):
        server_credentials.server_credentials(credentials, "edge-1")


# ---- rollout_devices ----


def row(outcome: str | None = None, **registered: Any) -> dict[str, str]:
    variables = {f"__rollout_{name}": value for name, value in registered.items()}
    device = {"inventory_hostname": "edge-1", **variables}
    outcomes = {"edge-1": outcome} if outcome else {}
    (found,) = rollout_devices.rollout_devices([device], PLAN, outcomes)
    assert (found.pop("device"), found.pop("class"), found.pop("wave")) == ("edge-1", "small", 2)
    return found


def expected(before: str, after: str, outcome: str, detail: str = "") -> dict[str, str]:
    return {"before": before, "after": after, "outcome": outcome, "detail": detail}


def test_a_device_that_was_not_reached_by_the_rollout() -> None:
    assert row() == expected("-", "-", "not started")


def test_a_device_in_check_mode() -> None:
    assert row(swap=SWAPPED) == expected("1.0.0", "1.1.0", "planned")


def test_a_device_that_was_updated() -> None:
    assert row("updated", swap=SWAPPED) == expected("1.0.0", "1.1.0", "updated")


def test_a_device_that_was_reverted() -> None:
    back = {"changed": True, "before": UP, "after": DOWN}
    assert row("updated", swap=SWAPPED, revert=back) == expected("1.0.0", "1.0.0", "reverted")


@pytest.mark.parametrize("revert", [{"unreachable": True}, {"failed": True, "msg": "no"}])
def test_a_device_that_could_not_be_reverted(revert: dict[str, Any]) -> None:
    found = row("updated", swap=SWAPPED, revert=revert)
    assert (found["outcome"], found["detail"]) == ("not reverted", revert.get("msg", ""))


def test_a_device_that_had_nothing_to_revert() -> None:
    skipped = {"changed": False, "skipped": True}
    assert row("updated", swap=SWAPPED, revert=skipped) == expected("1.0.0", "1.1.0", "updated")


def test_a_device_that_refused_keeps_what_is_live() -> None:
    assert row("refused", swap=FAILED) == expected("1.0.0", "1.0.0", "refused")
    refused = {"failed": True, "changed": False, "live": "1.0.0", "msg": "no room: 7 bytes\nmore"}
    assert row("refused", swap=refused) == expected("1.0.0", "1.0.0", "refused", "no room: 7 bytes")


@pytest.mark.parametrize("live", [{}, {"live": None}])
def test_a_device_that_failed_without_telling_what_is_live(live: dict[str, Any]) -> None:
    assert row("failed", swap={"failed": True, **live}) == expected("unknown", "unknown", "failed")


def test_a_device_that_is_away() -> None:
    assert row("away", swap={"unreachable": True, "changed": False}) == expected("-", "-", "away")


def test_a_first_installation() -> None:
    swap = {"changed": True, "before": {"active": None, "previous": None}, "after": DOWN}
    assert row("updated", swap=swap) == expected("-", "1.0.0", "updated")


def test_a_device_without_a_class() -> None:
    (found,) = rollout_devices.rollout_devices([{"inventory_hostname": "edge-2"}], PLAN, {})
    assert (found["class"], found["wave"]) == ("all", None)


def test_a_device_that_was_left_out() -> None:
    plan = {"waves": [], "device_classes": {"edge-1": "small"}, "left_out": {"edge-1": "pinned: by hand"}}
    assert rollout_devices.rollout_devices([], plan, {}) == [
        {"device": "edge-1", "class": "small", "wave": None, **expected("-", "-", "pinned", "pinned: by hand")}
    ]


# ---- rollout_measured ----


def test_what_the_gate_is_told_of_a_wave() -> None:
    swap, read = {"changed": True, "version": "1.1.0"}, {"model": {"live": "1.1.0"}}
    lost = {"unreachable": True, "started": True}
    away = {"unreachable": True, "msg": "ssh: connect to host"}
    registered = {
        "__rollout_control_before": {"results": [{"item": "old-a", "model": {}}, {"item": "old-b", **away}]},
        "__rollout_control_after": {"results": [{"item": "old-a", "model": {}, "device": {}}]},
    }
    devices: list[dict[str, Any]] = [
        {"inventory_hostname": "a", "__rollout_swap": {**swap, "diff": {}}, "__rollout_read": read, **registered},
        {"inventory_hostname": "b", "__rollout_swap": lost, **registered},
        {"inventory_hostname": "c"},
    ]
    device_classes = {"a": "small", "b": "large", "old-a": "small"}
    told = rollout_measured.rollout_measured(devices, device_classes, "1.1.0", OUTCOMES)
    assert told == {
        "device_classes": {"a": "small", "b": "large", "c": "all"},
        "swaps": {"a": swap, "b": {"version": "1.1.0", **lost}, "c": {"version": "1.1.0"}},
        "reads": {"a": read, "b": {}, "c": {}},
        "controls": {
            "old-a": {
                "device_class": "small",
                "before": {"item": "old-a", "model": {}},
                "after": {"item": "old-a", "model": {}},
            },
            "old-b": {"device_class": "all", "before": {"item": "old-b", **away}, "after": {}},
        },
        "earlier": {"before-a": {"device_class": "all", "outcome": "failed"}},
    }


# ---- reconcile_rows ----


def test_one_row_for_each_reconciled_model() -> None:
    item = {"model": "digits", "version": "1.1.0"}
    results = [
        {"item": item, "changed": True, "live": "1.1.0"},
        {"item": {**item, "version": None}, "failed": True, "refused": True, "live": None, "msg": "no room\n"},
        {"item": item, "unreachable": True, "started": False, "msg": "ssh: connect to host"},
    ]
    devices: list[dict[str, Any]] = [
        {"inventory_hostname": "a", "__rollout_reconciled": {"results": results}},
        {"inventory_hostname": "b"},
    ]
    rows = reconcile_rows.reconcile_rows(devices)
    assert [list(row.values()) for row in rows] == [
        ["a", "digits", "1.1.0", "1.1.0", "updated", ""],
        ["a", "digits", "-", "-", "refused", "no room"],
        ["a", "digits", "1.1.0", "-", "away", "ssh: connect to host"],
    ]


# ---- status_rows ----


def test_one_row_for_each_device_and_model() -> None:
    digits = {"name": "digits", "live": "1.1.0", "active": "1.1.0", "previous": "1.0.0", "variant": "onnx-fp32"}
    models = [
        {
            **digits,
            "probe": {"accuracy": 0.98333},
            "trial": {"seconds": 300.0, "returns_to": "1.0.0", "crashes": 0},
            "failed": [{"version": "1.2.0", "reason": "slow", "time": "2026-11-21T10:15:09Z"}],
        },
        {"name": "faces", "live": None, "active": None, "previous": None, "probe": None},
    ]
    devices = [
        {"inventory_hostname": "a", "status": {"models": models, "server_live": True}},
        {"inventory_hostname": "b", "status": {"models": [], "server_live": False}},
    ]
    rows = status_rows.status_rows(devices)
    assert [(found["device"], found["model"], found["live"], found["accuracy"]) for found in rows] == [
        ("a", "digits", "1.1.0", "0.9833"),
        ("a", "faces", None, None),
        ("b", "-", None, None),
    ]
    assert [(found["trial"], found["failed"]) for found in rows] == [("300 s", "1.2.0"), (None, None), (None, None)]
    assert len({tuple(found) for found in rows}) == 1, "all rows have the same keys"


@pytest.mark.parametrize(
    ("status", "answers"),
    [
        ({"server_live": True}, "yes"),
        ({"server_live": False}, "no server"),
        ({"unreachable": True}, "away"),
        ({}, "away"),
        (None, "away"),
        ({"failed": True, "server_live": True}, "error"),
    ],
)
def test_whether_a_device_answers(status: Any, answers: str) -> None:
    (found,) = status_rows.status_rows([{"inventory_hostname": "a", "status": status}])
    assert found["answers"] == answers


# ---- text_table ----


def test_columns_are_aligned() -> None:
    rows: list[dict[str, Any]] = [{"device": "edge-s1", "live": "1.1.0", "n": 1}, {"device": "e", "live": None, "n": 0}]
    assert table.text_table(rows) == ["device   live   n", "edge-s1  1.1.0  1", "e        -      0"]


def test_no_rows_no_table() -> None:
    assert table.text_table([]) == []


def test_a_row_may_lack_a_column() -> None:
    assert table.text_table([{"a": 1, "b": 2}, {"a": 3}]) == ["a  b", "1  2", "3  -"]


CELLS = st.text(alphabet="ab- é", max_size=6) | st.integers() | st.none()


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_every_second_column_starts_at_the_same_place(cells: list[tuple[Any, Any]]) -> None:
    rows: list[dict[str, Any]] = [{"one": one, "two": two} for one, two in cells]
    lines = table.text_table(rows)
    start = lines[0].index("two")
    assert len(lines) == len(rows) + 1
    for line, found in zip(lines[1:], rows, strict=True):
        assert line[start:] == ("-" if found["two"] is None else str(found["two"])).rstrip()
        assert line == line.rstrip()
