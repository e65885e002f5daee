# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A version that answers copies of requests: what a device is asked, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer
from releases import make_release, make_store

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ServerError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._device.metrics import measure_candidate
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._release.withdrawals import Withdrawals

OLD, NEW = "1.0.0", "1.1.0"
METRICS = """
process_resident_memory_bytes 5e7
edgeml_shadow_rows_total{model="digits",version="1.1.0",outcome="agreed"} 14
edgeml_shadow_rows_total{model="digits",version="1.1.0",outcome="failed"} 1
edgeml_shadow_rows_total{model="digits",version="0.9.0",outcome="agreed"} 99
edgeml_shadow_requests_total{model="digits",version="1.1.0"} 8
edgeml_shadow_requests_total{model="digits",version="0.9.0"} 99
edgeml_shadow_run_duration_seconds_sum{model="digits",version="1.1.0",role="active"} 0.25
edgeml_shadow_run_duration_seconds_count{model="digits",version="1.1.0",role="active"} 7
edgeml_shadow_run_duration_seconds_sum{model="digits",version="1.1.0",role="candidate"} 0.5
edgeml_shadow_run_duration_seconds_count{model="digits",version="1.1.0",role="candidate"} 7
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path, make_release(OLD), make_release(NEW))


def ask(store: Store, version: str = NEW, check_mode: bool = False, **changes: Any) -> dict[str, Any]:
    request = SwapRequest("digits", version, **{"state": "shadow", "store": store.root, **changes})
    return answer_swap(request, check_mode)


def test_what_was_measured_of_a_candidate() -> None:
    assert measure_candidate(METRICS, "digits", NEW) == {
        "shadow": {"agreed": 14, "disagreed": 0, "failed": 1, "dropped": 0, "requests": 8},
        "model_seconds": {"timed": 7, "active": 0.25, "candidate": 0.5},
        "resident_bytes": 50_000_000,
    }
    nothing = measure_candidate("", "digits", NEW)
    assert nothing["model_seconds"] == {"timed": 0, "active": 0.0, "candidate": 0.0}


def test_it_is_begun_with_its_time_after_another_has_ended(store: Store, fake: FakeServer) -> None:
    fake.reply, fake.replies["/metrics"] = (200, b"{}"), (200, METRICS.encode())
    result = ask(store, strategy="load", server=fake.path, shadow_seconds=60)
    assert (result["changed"], result["candidate"]) == (True, measure_candidate(METRICS, "digits", NEW))
    posted = [(path.rpartition("/")[2], body) for method, path, body in fake.requests if method == "POST"]
    assert posted == [("unshadow", b"{}"), ("shadow", b'{"version": "1.1.0", "seconds": 60}')]
    assert store.state("digits").active == OLD


def test_check_mode_asks_for_nothing(store: Store, fake: FakeServer) -> None:
    result = ask(store, check_mode=True, strategy="load", server=fake.path)
    assert (result["changed"], result["diff"]["after"]["active"]) == (True, OLD)
    assert [method for method, _path, _body in fake.requests if method == "POST"] == []


def test_what_serves_already_is_no_shadow(store: Store, fake: FakeServer) -> None:
    result = ask(store, OLD, strategy="load", server=fake.path)
    assert (result["changed"], "candidate" in result) == (False, False)
    assert [method for method, _path, _body in fake.requests if method == "POST"] == []


@pytest.mark.parametrize(("status", "changed"), [(200, True), (404, False)])
def test_it_is_ended(store: Store, fake: FakeServer, status: int, changed: bool) -> None:
    fake.reply = (status, b"{}")
    # Also of a release that was withdrawn meanwhile.
    withdrawn = Withdrawals({NEW: "labels were permuted"}, 2, "ab").document()
    options: dict[str, Any] = {"strategy": "load", "server": fake.path, "shadow_seconds": 0, "withdrawn": withdrawn}
    assert ask(store, **options)["changed"] is changed
    assert NEW in store.versions("digits")
    assert ask(store, **{**options, "shadow_seconds": 60})["refused"]


def test_a_server_that_refuses_to_end_it_is_named(fake: FakeServer, server: Server) -> None:
    fake.reply = (500, b'{"error": "no"}')
    with pytest.raises(ServerError, match=r"unshadow: expected status 200; found 500: no"):
        server.end_shadow("digits")


def test_who_has_no_server_that_can_is_told_so(store: Store) -> None:
    for seconds in (60, 0):
        result = ask(store, strategy="none", shadow_seconds=seconds)
        assert (result["failed"], result["refused"]) == (True, True)
        assert "state shadow needs the strategy load" in result["msg"]
