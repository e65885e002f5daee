# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is put to the proof: the collection's own store and swap, called as its module and its device command do.

A device's directory holds its ``store`` and ``incoming``, the blobs that the action plugin has sent.
"""

from __future__ import annotations

import platform
from pathlib import Path

from releases import Made

from ansible_collections.edgeml.fleet.plugins.module_utils._oip import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._store import LOCK_SECONDS, Store
from ansible_collections.edgeml.fleet.plugins.module_utils._swap import Context, Swap

MODEL = "digits"
_DEVICE = {"architecture": platform.machine(), "memory_bytes": 1 << 30, "runtimes": {}}


def store_of(directory: Path) -> Store:
    """The store of the device in ``directory``."""
    return Store(str(directory / "store"))


def swap(directory: Path, made: Made, server: Server | None = None, lock_seconds: float = LOCK_SECONDS) -> bool:
    """Make a release the active one, keeping no version but it and the one before. Return whether that was to do."""
    transitions = _swap(directory, server)
    with transitions.store.lock(lock_seconds):
        plan = transitions.plan_active(made.release, _DEVICE, keep=0)
        if plan.stages:
            transitions.stage(made.release, plan, str(directory / "incoming"))
        if plan.tells_server or plan.before != plan.after:
            transitions.activate(plan, health_seconds=0)
            transitions.make_room(plan)
        return plan.changed


def hold(directory: Path, made: Made) -> None:
    """Hold a release in the store, without serving it."""
    transitions = _swap(directory, None)
    with transitions.store.lock():
        plan = transitions.plan_present(made.release, _DEVICE, keep=1)
        if plan.stages:
            transitions.stage(made.release, plan, str(directory / "incoming"))


def leave(directory: Path, version: str, server: Server | None = None) -> None:
    """Go back from ``version`` to the one before it."""
    transitions = _swap(directory, server)
    with transitions.store.lock():
        plan = transitions.plan_leave(version)
        if plan.changed:
            transitions.leave(plan)


def remove(directory: Path, version: str, lock_seconds: float = LOCK_SECONDS) -> None:
    """Remove a version from the store."""
    transitions = _swap(directory, None)
    with transitions.store.lock(lock_seconds):
        plan = transitions.plan_absent(version)
        if plan.changed:
            transitions.remove(version, plan)


def recover(directory: Path) -> None:
    """What a device does when it starts."""
    store = store_of(directory)
    with store.lock():
        store.clean_staging()


def _swap(directory: Path, server: Server | None) -> Swap:
    return Swap(store_of(directory), server, MODEL, Context(rollout_id=None, actor="test", why="a proof"))
