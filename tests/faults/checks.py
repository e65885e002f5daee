# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds of a device after its recovery, whatever happened before."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._device.prepared import PREFIX
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import SWITCHING, WATCHING, State

from . import subject
from .scenarios import Scenario, release

Snapshot = dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Check:
    """The checks of a device that had ``state`` and the ``journal`` before a transition, or would have had that state
    once recovered: ``left`` is the version that a killed swap had left active."""

    scenario: Scenario
    state: State
    journal: list[dict[str, Any]]
    left: str | None = None

    def recovered(self, directory: Path, done: bool = False) -> str:
        """Recover the device, check all that must hold, then that the next swap succeeds. Return what was active.

        ``done``: the transition had come to its end, so that it must not be lost.
        """
        subject.recover(directory)
        state = self.consistent(directory)
        outcome = "old" if state.active == self.scenario.old else "new"
        assert state.active == self.scenario.new or not done, f"done, and then lost: {state.active} is active"
        if outcome == "old" and self.scenario.old != self.scenario.new:
            assert state.previous == self.state.previous, f"{state.previous} is previous; it was {self.state.previous}"
            assert state.failed == self.state.failed, f"blamed for what it did not do: {dict(state.failed)}"
        before = snapshot(directory)
        subject.recover(directory)
        assert snapshot(directory) == before, "a second recovery finds something to do"
        if self.scenario.new is not None:
            self._next_swap(directory)
        return outcome

    def readable(self, directory: Path) -> str | None:
        """Who reads the store now, without its lock, finds the old or the new version active and whole, or what was
        left active."""
        store = subject.store_of(directory)
        active = store.state(subject.MODEL).active
        allowed = (self.scenario.old, self.scenario.new, self.left)
        assert active in allowed or self.scenario.old == self.scenario.new, active
        if active not in (None, self.scenario.damaged):
            store.version(subject.MODEL, active).verify()
        link = directory / "store" / "models" / subject.MODEL / "active"
        assert link.exists() or not link.is_symlink(), "the link to the active version leads nowhere"
        return active

    def consistent(self, directory: Path, settled: bool = False) -> State:
        """The store is whole, and the old or the new version is active. ``settled``: nothing is damaged any more."""
        store = subject.store_of(directory)
        state = store.state(subject.MODEL)
        assert state.active in (self.scenario.old, self.scenario.new), state
        assert state.trial is None or state.trial.phase == WATCHING, state
        damaged = None if settled else self.scenario.damaged
        held = store.versions(subject.MODEL)
        for version in held:
            found = store.version(subject.MODEL, version)
            assert found.digest == release(version).release.digest
            if version != damaged:
                found.verify()
            prepared = store.prepared(found)
            if prepared is not None:
                found.verify_prepared(prepared)
            beside = {path.name for path in Path(found.directory).glob(f"{PREFIX}*")}
            used = {Path(file.path).parts[0] for file in prepared.files} if prepared is not None else set()
            assert beside <= used, f"{beside} are there; the record of {version} names {used}"
        assert state.needed() <= set(held), f"{state}: held are {held}"
        rotten = set(release(damaged).blobs) if damaged else set()
        for blob in Path(store.root, "blobs", "sha256").glob("*"):
            right = hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
            assert right or blob.name in rotten, f"{blob} has other content than its name"
        assert list(Path(store.root, "staging").glob("*")) == [], "staging is not clean"
        link = Path(store.root, "models", subject.MODEL, "active")
        target = os.readlink(link) if link.is_symlink() else None
        assert target == (f"versions/{state.active}" if state.active else None), f"the link leads to {target}"
        history = store.journal(subject.MODEL).history()
        assert history[: len(self.journal)] == self.journal, "the journal lost an entry"
        last = store.journal(subject.MODEL).last_transition()
        assert (last or {}).get("to") == state.active, f"{state.active} is active; the journal says {last}"
        return state

    def _next_swap(self, directory: Path) -> None:
        assert self.scenario.new is not None
        made = release(self.scenario.new)
        if self.scenario.again:
            self.scenario.action(directory)
            left = sorted((path.name, path.stat().st_size) for path in (directory / "store" / "fetched").glob("*"))
            assert not left, f"parts are left: {left}"
        # A version whose trial was reverted has to be asked for with retry.
        retry = self.scenario.new in subject.state_of(directory).failed
        subject.swap(directory, made, verify="full", retry=retry)
        assert subject.state_of(directory).active == self.scenario.new
        self.consistent(directory, settled=self.scenario.new == self.scenario.damaged)


def check_of(scenario: Scenario, prepared: Path) -> Check:
    """The checks of devices that were ``prepared`` for ``scenario``."""
    state = subject.state_of(prepared)
    interrupted = state.trial is not None and state.trial.phase == SWITCHING
    return Check(
        scenario,
        state.reverted() if interrupted else state,
        subject.store_of(prepared).journal(subject.MODEL).history(),
        left=state.active,
    )


def snapshot(directory: Path) -> Snapshot:
    """Every file of the store with its inode, size and time of change, without the lock and staging."""
    root = directory / "store"
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        if path.name not in ("lock", "staging"):
            found[str(path.relative_to(root))] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found
