# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""To which version a device can return without a network, and what keeps it from that."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from releases import make_release, make_store

from ansible_collections.edgeml.fleet.plugins.module_utils._device import store as store_module
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import WATCHING, Limits, State, Trial
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.way_back import describe_way_back
from ansible_collections.edgeml.fleet.plugins.module_utils._device.withdrawn import keep_withdrawals
from ansible_collections.edgeml.fleet.plugins.module_utils._release.withdrawals import Withdrawals

OLD, NEW = "1.0.0", "1.1.0"
STATE = State(NEW, OLD)
READY = {"version": OLD, "ready": True, "problem": None, "tested": None, "ends": "next release"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = make_store(tmp_path, make_release(OLD), make_release(NEW))
    store.reserve_space()
    return store


def described(store: Store, state: State = STATE) -> Any:
    return describe_way_back(store, "digits", state)


def test_a_device_returns_to_the_version_before(store: Store) -> None:
    assert described(store) == READY


def test_a_trial_returns_by_itself(store: Store) -> None:
    trial = Trial(WATCHING, OLD, None, 300, Limits(), None, 0, "", 0)
    assert described(store, State(NEW, OLD, trial)) == {**READY, "ends": "trial"}


def test_without_a_version_before_there_is_no_way_back(store: Store) -> None:
    assert described(store, State()) is None
    first = {"version": None, "ready": False, "problem": "no version was active before"}
    assert described(store, State(NEW)) == {**READY, **first}


def test_a_version_whose_file_is_not_whole_is_no_way_back(store: Store) -> None:
    version = store.version("digits", OLD)
    path = os.path.join(version.directory, version.files[0].path)
    os.unlink(path)
    found = described(store)
    assert (found["ready"], found["tested"]) == (False, None)
    assert path in found["problem"]
    shutil.rmtree(version.directory)
    assert "does not hold digits 1.0.0" in described(store)["problem"]


def test_a_withdrawn_version_is_no_way_back(store: Store) -> None:
    keep_withdrawals(store, "digits", Withdrawals({OLD: "labels were permuted"}, 2, "ab"))
    assert described(store)["problem"] == "1.0.0 is withdrawn: labels were permuted"


def test_a_full_disk_is_a_way_back_only_with_what_was_set_aside(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module.Store, "free_bytes", lambda _store: 0)
    assert described(store)["ready"]
    os.unlink(os.path.join(store.root, "reserve"))
    assert "the disk is full, and nothing is set aside" in described(store)["problem"]


def test_the_runtime_of_its_smoke_test_is_compared_with_the_present_one(store: Store, opt: Path) -> None:
    for name in ("venv-1", "app-1"):
        (opt / name).mkdir()
    assert described(store)["tested"] is None, "nobody tested it"
    store.note_test(store.version("digits", OLD), {"runtime_id": "venv-1 app-1"})
    assert described(store)["tested"] is True
    store.note_test(store.version("digits", OLD), {"runtime_id": "venv-0 app-1"})
    assert described(store)["tested"] is False
