# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two at once: each pair of transitions has one outcome, whenever the second comes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils import _command
from ansible_collections.edgeml.fleet.plugins.module_utils._errors import IntegrityError, StoreError

from . import strace, subject
from .checks import check_of, snapshot
from .scenarios import NEW, NEXT, OLD, SWAP, clone, deliver, release
from .strace import Call, Ended, Traced
from .sweep import Results, sweep

CROWDS = 10


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A device that serves OLD, committed, and holds 0.9.0 (previous) and 0.8.0."""
    SWAP.prepare(tmp_path / "device")
    return tmp_path / "device"


# ---- whoever comes second waits for the lock, and readers need none ----


def test_what_comes_during_a_swap(
    memory: Path, all_points: bool, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A swap is stopped at each call while it holds the lock. Other transitions are refused and change nothing,
    readers find the old or the new version whole; and it comes to its end as if nobody had come."""
    monkeypatch.setattr(_command, "UNATTENDED_LOCK_SECONDS", 0)
    prepared, device, log = memory / "prepared", memory / "device", memory / "log"
    SWAP.prepare(prepared)
    check = check_of(SWAP, prepared)

    def act() -> None:
        SWAP.action(device)

    def fresh() -> None:
        shutil.rmtree(device, ignore_errors=True)
        clone(prepared, device)

    def stopped(call: Call) -> str:
        fresh()
        running = Traced(act, log, strace.stop_at(call))
        running.start()
        assert running.wait_until_stopped(), "the swap did not come to this call"
        try:
            active = check.readable(device)
            before = snapshot(device)
            with pytest.raises(StoreError, match="another swap has held the store's lock for 0 s; try again later"):
                subject.swap(device, release(NEXT), lock_seconds=0)
            with pytest.raises(StoreError, match="another swap has held the store's lock for 0 s; try again later"):
                subject.remove(device, release("0.8.0"), lock_seconds=0)
            subject.edgeml(device, "recover")
            subject.edgeml(device, "watch")
            assert snapshot(device) == before
        finally:
            running.resume()
            ended = running.wait()
        assert ended == Ended(killed=False)
        check.recovered(device, done=True)
        return f"readers saw {'old' if active == OLD else 'new'}"

    fresh()
    act()
    fresh()
    listed = strace.calls(act, log)
    names = [call.name for call in listed]
    locked = listed[names.index("flock") + 1 : len(names) - 1 - names[::-1].index("close")]
    sweep(results, "stopped: swap", [call for call in locked if all_points or call.changes], stopped)


def test_all_come_at_once(device: Path) -> None:
    """Three swaps, to three versions, in any order: one after the other, and none is lost."""
    for _crowd in range(CROWDS):
        before = subject.store_of(device).history(subject.MODEL)
        _at_once(*(lambda version=version: subject.swap(device, release(version)) for version in (OLD, NEW, NEXT)))
        store = subject.store_of(device)
        came = [
            entry for entry in store.history(subject.MODEL)[len(before) :] if entry["event"] in ("activate", "commit")
        ]
        assert {OLD, NEW, NEXT} - {subject.state_of(device).previous} >= {entry["to"] for entry in came} - {None}
        assert all(first["to"] == second["from"] for first, second in pairwise(came))
        assert subject.state_of(device).active == came[-1]["to"]
        for version in store.versions(subject.MODEL):
            store.verify(store.version(subject.MODEL, version))
