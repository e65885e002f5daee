# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a device knows of withdrawn releases, and what it refuses by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from releases import make_release, make_store

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, StoreError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.cli import main
from ansible_collections.edgeml.fleet.plugins.module_utils._device.describe import answer_info
from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import boot_id, boot_seconds
from ansible_collections.edgeml.fleet.plugins.module_utils._device.orders import Orders
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import InfoRequest, SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import (
    WATCHING,
    Limits,
    ModelServer,
    State,
    Trial,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.withdrawn import known_withdrawals
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._release.withdrawals import Withdrawals, parse_withdrawals

OLD, NEW, NEXT = "1.0.0", "1.1.0", "1.2.0"
WHY = "labels were permuted"
ALONE = ModelServer(strategy="none", server="/nowhere")


def withdrawing(*versions: str, number: int = 2, root: str = "ab") -> dict[str, Any]:
    return Withdrawals(dict.fromkeys(versions, WHY), number, root).document()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Both versions are held; the new one is active, and was committed."""
    store = make_store(tmp_path, make_release(OLD), make_release(NEW))
    store.update("digits", State(NEW, OLD, serving=ALONE))
    return store


def swap(store: Store, version: str, check_mode: bool = False, **changes: Any) -> dict[str, Any]:
    request = SwapRequest("digits", version, **{"strategy": "none", "store": store.root, "retry": True, **changes})
    return answer_swap(request, check_mode)


def file_of(store: Store) -> Path:
    return Path(store.root, "models", "digits", "withdrawn.json")


@pytest.mark.parametrize("state", ["present", "staged", "active"])
@pytest.mark.parametrize("version", [OLD, NEXT])
def test_a_withdrawn_release_is_refused_held_or_not(store: Store, state: str, version: str) -> None:
    result = swap(store, version, state=state, withdrawn=withdrawing(version))
    assert (result["failed"], result["refused"], result["live"]) == (True, True, NEW)
    assert result["msg"].startswith(f"digits {version} is withdrawn: {WHY}. Choose another version")
    # It stays on it, whoever asks.
    assert swap(store, version, state=state)["msg"] == result["msg"]
    assert store.state("digits").active == NEW


def test_check_mode_refuses_and_keeps_nothing(store: Store) -> None:
    assert swap(store, OLD, check_mode=True, withdrawn=withdrawing(OLD))["refused"]
    assert not file_of(store).exists()


def test_an_older_list_does_not_bring_a_release_back(store: Store) -> None:
    swap(store, NEW, withdrawn=withdrawing(OLD, number=7))
    assert swap(store, OLD, withdrawn=withdrawing(number=6))["refused"]
    assert known_withdrawals(store, "digits").number == 7
    assert swap(store, OLD, withdrawn=withdrawing(number=8))["after"]["active"] == OLD


def test_numbers_of_another_root_are_not_compared(store: Store) -> None:
    """As after a repository was begun anew, with other keys."""
    swap(store, NEW, withdrawn=withdrawing(number=99))
    swap(store, NEW, withdrawn=withdrawing(OLD, number=2, root="cd"))
    assert swap(store, OLD)["refused"]


def test_a_list_changes_nothing_that_is_told_as_a_change(store: Store) -> None:
    assert swap(store, NEW, withdrawn=withdrawing(OLD))["changed"] is False
    written = file_of(store).stat().st_mtime_ns
    assert swap(store, NEW, withdrawn=withdrawing(OLD))["changed"] is False
    assert file_of(store).stat().st_mtime_ns == written


def test_a_fleet_without_withdrawn_releases_gets_no_file(store: Store) -> None:
    swap(store, NEW, withdrawn=withdrawing())
    assert not file_of(store).exists()


def test_an_order_to_fetch_ends(store: Store) -> None:
    made = make_release(NEXT)
    sources = FetchOptions(sources=["http://127.0.0.1:9"])
    assert not swap(store, NEXT, state="staged", manifest=made.document, fetch=sources).get("failed")
    assert Orders(store).find("digits", NEXT) is not None
    swap(store, NEW, withdrawn=withdrawing(NEXT))
    assert Orders(store).find("digits", NEXT) is None


def test_a_person_goes_back_to_one_only_by_accepting_it(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    refused = swap(store, NEW, state="previous", withdrawn=withdrawing(OLD))
    assert refused["refused"]
    assert f"{OLD} is withdrawn: {WHY}" in refused["msg"]
    assert main(["revert", "digits", "--store", store.root]) == 1
    assert "--accept-withdrawn" in capsys.readouterr().err
    assert store.state("digits").active == NEW
    assert main(["activate", "digits", OLD, "--retry", "--store", store.root]) == 1
    assert f"{OLD} is withdrawn: {WHY}" in capsys.readouterr().err
    assert main(["revert", "digits", "--accept-withdrawn", "--store", store.root]) == 0
    assert store.state("digits").active == OLD
    assert main(["history", "digits", "--store", store.root]) == 0
    assert f"{OLD} is withdrawn: {WHY}" in capsys.readouterr().out


def test_a_failed_rollout_goes_back_and_says_so(store: Store) -> None:
    """A fleet that runs beats one that does not."""
    entry = {"event": "activate", "from": OLD, "to": NEW, "rollout_id": "digits-1.1.0-1"}
    store.transition("digits", State(NEW, OLD, serving=ALONE), entry)
    result = swap(store, NEW, state="previous", rollout_id="digits-1.1.0-1", withdrawn=withdrawing(OLD))
    assert (result["after"]["active"], result["withdrawn"]) == (OLD, WHY)
    assert store.journal("digits").history()[-1]["withdrawn"] == WHY


@pytest.mark.parametrize("damaged", [False, True])
def test_a_trial_goes_back_also_with_a_damaged_list(store: Store, damaged: bool) -> None:
    swap(store, NEW, withdrawn=withdrawing(OLD))
    if damaged:
        file_of(store).write_text("{")
    trial = Trial(WATCHING, OLD, None, 3600.0, Limits(), None, 1 << 20, boot_id(), boot_seconds(), crashes=2)
    store.update("digits", State(NEW, OLD, trial, serving=ALONE))
    result = swap(store, NEW, state="previous")
    assert (result["after"]["active"], result.get("withdrawn")) == (OLD, None if damaged else WHY)


def test_a_damaged_list_refuses_until_it_comes_again(store: Store) -> None:
    swap(store, NEW, withdrawn=withdrawing(OLD))
    for text in ("{", "[]", '{"releases": {"1.0.0": 1}}', '{"releases": {"../x": "y"}}', '{"number": "x"}'):
        file_of(store).write_text(text)
        with pytest.raises(StoreError, match=r"withdrawn\.json"):
            known_withdrawals(store, "digits")
        assert str(file_of(store)) in swap(store, NEW)["msg"]
    assert swap(store, OLD, withdrawn=withdrawing(OLD))["msg"].startswith(f"digits {OLD} is withdrawn")


def test_status_names_what_is_held_and_withdrawn(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    swap(store, NEW, withdrawn=withdrawing(NEW, "0.1.0"))
    result = answer_info(InfoRequest("digits", store=store.root, server="/nowhere"))
    assert result["model"]["withdrawn"] == {NEW: WHY}
    assert main(["status", "--store", store.root]) == 0
    assert f"digits {NEW} is active, and is withdrawn: {WHY}" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [[], {"releases": []}, {"number": True}, {"root": 1}, {"more": 1}])
def test_a_list_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="withdrawn: expected releases, number and root"):
        parse_withdrawals(wrong, "withdrawn")
