# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is put to the proof: the module model_swap and the command edgeml themselves, on a device in a directory.

A device's directory holds its ``store`` and ``incoming``, the blobs that the action plugin has sent.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from releases import Made

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.cli import main
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import SwapCall
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.serving import NoStrategy
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import State
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import LOCK_SECONDS, Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.swap import Swap

MODEL = "digits"

# What the module's users get, but for what needs a controller or a server.
_ARGUMENTS: dict[str, Any] = {
    "model": MODEL,
    "strategy": "none",
    "server": "",
    "min_ready_seconds": 0.0,
    "keep": 0,
    "reason": "a proof",
}


class Killed(BaseException):
    """Ends a swap where a kill would."""


def store_of(directory: Path) -> Store:
    """The store of the device in ``directory``."""
    return Store(str(directory / "store"))


def state_of(directory: Path) -> State:
    """The state of the device's model."""
    return store_of(directory).state(MODEL)


def swap(directory: Path, made: Made, state: str = "active", **options: Any) -> dict[str, Any]:
    """The module's O(state=active) or O(state=present) with the release's blobs sent. Return its result."""
    return _module(directory, made, staged_blobs=str(directory / "incoming"), state=state, **options)


def leave(directory: Path, made: Made, **options: Any) -> dict[str, Any]:
    """The module's O(state=previous)."""
    return _module(directory, made, state="previous", **options)


def remove(directory: Path, made: Made, **options: Any) -> dict[str, Any]:
    """The module's O(state=absent)."""
    return _module(directory, made, state="absent", **options)


def edgeml(directory: Path, *arguments: str) -> None:
    """The device's command. Raises EdgemlError with what it says when it fails."""
    said, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complaint):
        code = main([*arguments, "--store", str(directory / "store")])
    if code != 0:
        raise EdgemlError(complaint.getvalue())


def recover(directory: Path) -> None:
    """What the device does before its service starts."""
    edgeml(directory, "recover", "--before-start")


def swap_killed_when_switched(directory: Path, made: Made) -> None:
    """A swap that ends between the switch and the word to the server."""

    class Deadly(NoStrategy):
        def notify(self, model: str, active: str | None) -> None:
            raise Killed

    class Interrupted(SwapCall):
        def _open(self, prepared: bool = True) -> Swap:
            swap = super()._open(prepared)
            swap.strategy = Deadly()
            return swap

    try:
        _module(directory, made, call=Interrupted, staged_blobs=str(directory / "incoming"), state="active")
    except Killed:
        return
    raise AssertionError("the swap was not interrupted")


def _module(
    directory: Path, made: Made, call: type[SwapCall] = SwapCall, lock_seconds: float = LOCK_SECONDS, **options: Any
) -> dict[str, Any]:
    """What the module does with the lock held."""
    arguments = {
        **_ARGUMENTS,
        "store": str(directory / "store"),
        "version": made.document["version"],
        "manifest": made.document,
        **options,
    }
    running = call(SwapRequest(**arguments))
    with running.store.lock(lock_seconds):
        running.run(act=True)
    return running.result
