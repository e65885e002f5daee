# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds of a device after its recovery, whatever happened before."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from . import subject
from .scenarios import Scenario, release, swap_to

Snapshot = dict[str, tuple[int, int, int]]


def recover_and_check(directory: Path, scenario: Scenario, journal: list[dict[str, Any]], done: bool = False) -> str:
    """Recover the device and check all that must hold; then that the next swap succeeds. Return what was active.

    ``journal`` is what the device's journal held before: none of it may be lost. ``done``: the transition had come to
    its end, so that it must not be lost either.
    """
    subject.recover(directory)
    active = must_be_consistent(directory, scenario, journal)
    assert active == scenario.new or not done, f"done, and then lost: {active} is active"
    before = snapshot(directory)
    subject.recover(directory)
    assert snapshot(directory) == before, "a second recovery finds something to do"
    if scenario.new is not None:
        swap_to(scenario.new)(directory)
        assert subject.store_of(directory).state(subject.MODEL).active == scenario.new
        must_be_consistent(directory, scenario, journal, settled=True)
    return "old" if active == scenario.old else "new"


def must_be_readable(directory: Path, scenario: Scenario) -> None:
    """Who reads the store now, without its lock, finds the old or the new version active and whole."""
    store = subject.store_of(directory)
    active = store.state(subject.MODEL).active
    assert active in (scenario.old, scenario.new)
    if active is not None:
        store.verify(store.version(subject.MODEL, active))


def must_be_consistent(
    directory: Path, scenario: Scenario, journal: list[dict[str, Any]], settled: bool = False
) -> str | None:
    """The store is whole, and the old or the new version is active. ``settled``: the journal's last entry is done."""
    store = subject.store_of(directory)
    state = store.state(subject.MODEL)
    assert state.active in (scenario.old, scenario.new), state
    held = store.versions(subject.MODEL)
    for version in held:
        found = store.version(subject.MODEL, version)
        assert found.digest == release(version).release.digest
        store.verify(found)
    for version in (state.active, state.previous):
        assert version is None or version in held, f"{state}: {version} is not held; held are {held}"
    for blob in Path(store.root, "blobs", "sha256").glob("*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name, f"{blob} has other content than its name"
    assert list(Path(store.root, "staging").glob("*")) == [], "staging is not clean"
    history = store.history(subject.MODEL)
    assert history[: len(journal)] == journal, "the journal lost an entry"
    _must_agree(history, state.active, None if settled else scenario)
    return state.active


def _must_agree(history: list[dict[str, Any]], active: str | None, scenario: Scenario | None) -> None:
    """The journal's last transition made ``active`` the active version, or is the one of ``scenario``, interrupted."""
    last = next(
        (entry for entry in reversed(history) if entry.get("event") in ("activate", "revert", "put_back")), None
    )
    if last is None:
        assert active is None, f"{active} is active without an entry in the journal"
        return
    interrupted = scenario is not None and (last["from"], last["to"]) == (scenario.old, scenario.new)
    assert last["to"] == active or (interrupted and active == last["from"]), (last, active)


def snapshot(directory: Path) -> Snapshot:
    """Every file of the store with its inode, size and time of change, without the lock."""
    root = directory / "store"
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        if path.name != "lock":
            found[str(path.relative_to(root))] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found
