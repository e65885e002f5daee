# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A request for a swap while another one is at work."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from releases import activate, make_release, put

from ansible_collections.edgeml.fleet.plugins.module_utils._device import perform
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store

OLD, NEW = "1.0.0", "1.1.0"


@pytest.mark.parametrize(("state", "active"), [("previous", OLD), ("active", NEW)])
def test_a_way_back_waits_for_the_swap_that_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, active: str
) -> None:
    """As after rollout_device_timeout: Ansible has given the swap up, and the device has not."""
    monkeypatch.setattr(perform, "LOCK_SECONDS", 0.0)
    (tmp_path / "store").mkdir()
    store = Store(str(tmp_path / "store"))
    put(store, make_release(OLD))
    activate(store, "digits", OLD)
    result = {}

    def ask() -> None:
        request = SwapRequest("digits", NEW, state=state, strategy="none", store=store.root)
        result.update(perform.answer_swap(request, check_mode=False))

    asking = threading.Thread(target=ask)
    with store.lock():
        put(store, make_release(NEW))
        asking.start()
        # Who does not wait has ended; who waits has time to begin.
        asking.join(None if state == "active" else 0.5)
        activate(store, "digits", NEW, OLD)
    asking.join()
    assert store.state("digits").active == active
    if state == "active":
        assert (result["failed"], result["refused"]) == (True, True)
        assert "another swap has held the store's lock for 0 s" in result["msg"]
    else:
        assert (result.get("failed"), result["changed"]) == (None, True)
