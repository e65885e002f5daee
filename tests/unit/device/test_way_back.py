# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""To which version a device can return without a network, and what keeps it from that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from releases import make_release, make_store
from shell_runtime import GOOD, install

from ansible_collections.edgeml.fleet.plugins.module_utils._device import store as store_module
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import device_facts
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.plan import SwapOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import (
    WATCHING,
    Limits,
    ModelServer,
    State,
    Trial,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.swap import Swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.transitions import Cause
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


# ---- a swap keeps it ----


def switch(store: Store, check_mode: bool = False, **changes: Any) -> Any:
    """Ask for the switch from the version that serves to the new one."""
    fields = {"state": "active", "strategy": "none", "min_ready_seconds": 0, "store": store.root, **changes}
    return answer_swap(SwapRequest("digits", NEW, **fields), check_mode)


def damage(store: Store) -> str:
    """Change a byte of the version that serves; return its path."""
    version = store.version("digits", OLD)
    path = Path(version.directory, version.files[0].path)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.unlink()
    path.write_bytes(content)
    return str(path)


def shorten(store: Store) -> str:
    path = Path(damage(store))
    path.write_bytes(path.read_bytes()[:-1])
    return str(path)


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize(("damage", "verify"), [(shorten, "quick"), (shorten, "full"), (damage, "full")])
def test_a_switch_that_could_not_be_undone_is_refused(
    store: Store, damage: Callable[[Store], str], verify: str, check_mode: bool
) -> None:
    path = damage(store)
    before = store.state("digits")
    result = switch(store, check_mode, verify=verify)
    assert (result["failed"], result["refused"], result["live"]) == (True, True, OLD)
    assert result["msg"].startswith(f"digits {NEW} was not switched to: the device could not return to {OLD}, which se")
    assert path in result["msg"]
    assert f"model_swap with version {OLD}, state present and verify full" in result["msg"]
    assert store.state("digits") == before


def test_it_is_switched_to_where_that_is_accepted(store: Store) -> None:
    shorten(store)
    assert switch(store, accept_no_way_back=True)["changed"]
    assert store.state("digits").active == NEW
    assert not described(store, store.state("digits"))["ready"]


def test_what_is_active_and_serves_nobody_is_no_reason_to_stay(store: Store, server: Server) -> None:
    """A release that mends a damaged device is welcome: there is nothing to return to."""
    shorten(store)
    plan = Swap(store, "digits", Cause(actor="test"), ModelServer(server=server.address)).plan_active(
        make_release(NEW).release, device_facts(), SwapOptions()
    )
    assert (plan.live, plan.switches) == (None, True)


def test_a_withdrawn_version_is_left_for_another(store: Store) -> None:
    keep_withdrawals(store, "digits", Withdrawals({OLD: "labels were permuted"}, 2, "ab"))
    assert switch(store)["changed"]


def test_what_serves_is_tested_with_a_runtime_that_is_newer_than_its_test(store: Store, opt: Path) -> None:
    """A server that is not restarted serves with the runtime before."""
    install(opt, GOOD)
    store.note_test(store.version("digits", OLD), {"runtime_id": "venv-0 app-0"})
    assert switch(store)["changed"]
    assert described(store, store.state("digits"))["tested"] is True


def test_what_fails_with_the_installed_runtime_is_no_way_back(store: Store, opt: Path) -> None:
    old = store.version("digits", OLD).directory
    install(opt, f"""case "$*" in *{old}*) echo '{{"error": "no such operator"}}';; *) {GOOD};; esac""")
    store.note_test(store.version("digits", OLD), {"runtime_id": "venv-0 app-0"})
    result = switch(store)
    assert (result["failed"], result["refused"]) == (True, True)
    assert "no such operator. Install the one before. Or go on without (accept_no_way_back" in result["msg"]
    assert store.state("digits") == State(OLD)
    assert switch(store, accept_no_way_back=True)["changed"]
