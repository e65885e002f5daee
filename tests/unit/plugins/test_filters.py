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
    server_credentials,
    status_rows,
    text_table,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._common import table


def test_each_plugin_names_its_filter() -> None:
    for plugin, name in (
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


# ---- status_rows ----


def test_one_row_for_each_device_and_model() -> None:
    digits = {"name": "digits", "live": "1.1.0", "active": "1.1.0", "previous": "1.0.0", "variant": "onnx-fp32"}
    models = [
        {
            **digits,
            "probe": {"metric": "accuracy", "value": 0.98333},
            "trial": {"seconds": 300.0, "returns_to": "1.0.0", "crashes": 0},
            "failed": [{"version": "1.2.0", "reason": "slow", "time": "2026-11-21T10:15:09Z"}],
        },
        {"name": "faces", "live": None, "active": None, "previous": None, "probe": None},
        {"name": "birds", "probe": {"metric": "accuracy", "top": 5, "value": 0.9}},
        {"name": "noise", "probe": {"metric": "mae", "value": float("nan")}},
    ]
    devices = [
        {"inventory_hostname": "a", "status": {"models": models, "server_live": True}},
        {"inventory_hostname": "b", "status": {"models": [], "server_live": False}},
    ]
    rows = status_rows.status_rows(devices)
    assert [(found["device"], found["model"], found["live"], found["accuracy"]) for found in rows] == [
        ("a", "digits", "1.1.0", "0.9833"),
        ("a", "faces", None, None),
        ("a", "birds", None, "top-5 accuracy 0.9000"),
        ("a", "noise", None, "mae none"),
        ("b", "-", None, None),
    ]
    assert [(found["trial"], found["failed"]) for found in rows] == [("300 s", "1.2.0"), *[(None, None)] * 4]
    assert len({tuple(found) for found in rows}) == 1, "all rows have the same keys"


def test_devices_whose_active_release_is_withdrawn_are_named() -> None:
    models: list[dict[str, Any]] = [
        {"name": "digits", "active": "1.2.0", "previous": "1.1.0"},
        {"name": "faces", "active": "1.2.0"},
    ]
    devices = [{"inventory_hostname": "a", "status": {"models": models, "server_live": True}}]
    rows = status_rows.status_rows(devices, withdrawn={"digits": {"1.2.0": "bad labels"}, "faces": {"1.1.0": "worse"}})
    assert [row["withdrawn"] for row in rows] == ["bad labels", None]
    assert all("withdrawn" not in row for row in status_rows.status_rows(devices, withdrawn={}))
    # Without a repository to ask, by what the device was told.
    models[0]["withdrawn"] = {"1.2.0": "known here", "1.1.0": "not active"}
    assert [row["withdrawn"] for row in status_rows.status_rows(devices)] == ["known here", None]


def test_what_the_broker_says_of_devices_is_a_column() -> None:
    devices = [{"inventory_hostname": name, "status": {"server_live": True}} for name in ("a", "b", "c")]
    rows = status_rows.status_rows(devices, presence={"a": True, "b": False, "gone": True})
    assert [row["presence"] for row in rows] == ["online", "offline", None]
    assert all("presence" not in row for row in status_rows.status_rows(devices, presence={"gone": True}))


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
