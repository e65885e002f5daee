# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two at once: each pair of transitions has one outcome, whenever the second comes."""

from __future__ import annotations

import faulthandler
import multiprocessing
import shutil
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError, StoreError
from ansible_collections.edgeml.fleet.plugins.module_utils._device import cli

from . import strace, subject
from .checks import check_of, snapshot
from .scenarios import NEW, NEXT, OLD, SWAP, clone, deliver, release
from .strace import Call, Ended, Traced
from .sweep import Results, sweep

CROWDS = 10
GUARD_SECONDS = 120


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
    monkeypatch.setattr(cli, "UNATTENDED_LOCK_SECONDS", 0)
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


def test_three_swaps_at_once(device: Path) -> None:
    """To three versions, in any order: one after the other. Each is done, on what the one before has left."""
    for _crowd in range(CROWDS):
        before = len(subject.store_of(device).journal(subject.MODEL).history())
        results = _at_once(*(partial(subject.swap, device, release(version)) for version in (OLD, NEW, NEXT)))
        assert all(result["live"] == result["version"] for result in results)
        store = subject.store_of(device)
        came = [entry for entry in store.journal(subject.MODEL).history()[before:] if entry["event"] == "activate"]
        assert sorted(entry["to"] for entry in came) == sorted(
            result["version"] for result in results if result["changed"]
        )
        assert all(first["to"] == second["from"] for first, second in pairwise(came))
        assert subject.state_of(device).active == came[-1]["to"]
        for version in store.versions(subject.MODEL):
            store.version(subject.MODEL, version).verify()


def test_the_same_swap_twice_at_once(device: Path) -> None:
    """One does it, the other finds it done."""
    results = _at_once(*(partial(subject.swap, device, release(NEW)) for _number in range(2)))
    assert sorted(result["changed"] for result in results) == [False, True]
    assert [result["live"] for result in results] == [NEW, NEW]
    assert [entry["to"] for entry in subject.store_of(device).journal(subject.MODEL).history()][-2:] == [OLD, NEW]


# ---- prunes ----


def test_a_prune_between_the_look_and_the_swap(tmp_path: Path) -> None:
    """The action plugin saw a blob on the device, did not send it, and a removal has taken it away since."""
    (tmp_path / "store").mkdir()
    deliver(tmp_path, OLD, NEW)
    (shared,) = set(release(OLD).blobs) & set(release(NEW).blobs)
    subject.swap(tmp_path, release(OLD), state="present")
    (tmp_path / "incoming" / shared).unlink()
    subject.remove(tmp_path, release(OLD))
    with pytest.raises(IntegrityError, match=r"labels\.txt: expected \d+ bytes; the file is missing"):
        subject.swap(tmp_path, release(NEW))
    assert subject.state_of(tmp_path).active is None
    deliver(tmp_path, NEW)
    assert subject.swap(tmp_path, release(NEW))["live"] == NEW


def test_a_prune_during_a_trial_keeps_what_its_revert_needs(device: Path) -> None:
    subject.swap(device, release(NEW))
    assert subject.state_of(device).needed() == {"0.9.0", OLD, NEW}
    subject.swap(device, release(NEXT), state="present", keep=0)
    assert subject.store_of(device).versions(subject.MODEL) == ["0.9.0", OLD, NEW, NEXT]
    for version in ("0.9.0", OLD, NEW):
        with pytest.raises(StoreError, match="is active or previous on this device: revert it first"):
            subject.remove(device, release(version))
    subject.leave(device, release(NEW))
    state = subject.state_of(device)
    assert (state.active, state.previous) == (OLD, "0.9.0")


# ---- a swap during a trial ----


def test_a_swap_during_a_trial_ends_the_trial_first(device: Path) -> None:
    """The version on trial was within its limits until then: it is committed, and what a revert returns to."""
    subject.swap(device, release(NEW))
    subject.swap(device, release(NEXT))
    events = [(entry["event"], entry["to"]) for entry in subject.store_of(device).journal(subject.MODEL).history()]
    assert events[-3:] == [("activate", NEW), ("commit", NEW), ("activate", NEXT)]
    subject.leave(device, release(NEXT))
    state = subject.state_of(device)
    assert (state.active, state.previous, set(state.failed)) == (NEW, OLD, {NEXT})


def test_the_same_swap_during_its_trial_changes_nothing(device: Path) -> None:
    subject.swap(device, release(NEW))
    before = snapshot(device)
    assert not subject.swap(device, release(NEW))["changed"]
    assert snapshot(device) == before


def test_a_swap_after_a_killed_one_settles_it_first(device: Path) -> None:
    """The killed one is put back before the next begins, so that it is never what a revert returns to."""
    subject.swap_killed_when_switched(device, release(NEW))
    assert subject.state_of(device).active == NEW
    subject.swap(device, release(NEXT))
    events = [(entry["event"], entry["to"]) for entry in subject.store_of(device).journal(subject.MODEL).history()]
    assert events[-3:] == [("activate", NEW), ("interrupted", OLD), ("activate", NEXT)]
    state = subject.state_of(device)
    assert (state.active, state.previous, dict(state.failed)) == (NEXT, OLD, {})


def _at_once(*swaps: Callable[[], dict[str, Any]]) -> list[dict[str, Any]]:
    """Run each in a process of its own, all at the same time; return their results.

    None is a fork of this process: what the tests before have left in it, such as a lock that is held, is not in them.
    """
    cause = multiprocessing.get_context("spawn")
    ready = cause.Barrier(len(swaps))
    running = []
    for swap in swaps:
        receiver, sender = cause.Pipe(duplex=False)
        process = cause.Process(target=_tell, args=(sender, ready, swap), daemon=True)
        process.start()
        sender.close()
        running.append((process, receiver))
    try:
        return [_told(receiver) for _process, receiver in running]
    finally:
        for process, receiver in running:
            process.kill()
            process.join()
            receiver.close()


def _tell(sender: Connection, ready: Barrier, swap: Callable[[], dict[str, Any]]) -> None:
    faulthandler.dump_traceback_later(GUARD_SECONDS / 2)
    ready.wait()
    sender.send(swap())


def _told(receiver: Connection) -> dict[str, Any]:
    assert receiver.poll(GUARD_SECONDS), f"a swap took more than {GUARD_SECONDS} s"
    result: dict[str, Any] = receiver.recv()
    return result
