# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A swap that is killed around its switch, with the real server: it serves the old version or the new one all along,
and after the recovery the one that the store names."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS
from device import Device
from releases import Made, read_release

from . import strace, subject
from .scenarios import clone
from .strace import Call
from .sweep import Results, sweep

OLD, NEW = (read_release(DIGITS, "digits", version) for version in ("1.0.0", "1.1.0"))
# In how many parts an answer of the server comes is not always the same: how often it is received is not, either.
ATTEMPTS = 20
VERSIONS = (OLD.document["version"], NEW.document["version"])


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device whose server serves OLD, and that holds NEW."""
    with Device(tmp_path, "edge") as device:
        incoming = device.root.parent / "incoming"
        incoming.mkdir()
        for made in (OLD, NEW):
            for digest, content in made.blobs.items():
                (incoming / digest).write_bytes(content)
        while not device.server.has_started():
            time.sleep(0.02)
        _swap(device, OLD, trial_seconds=0)
        _swap(device, NEW, state="present")
        yield device


def test_killed_around_the_switch_with_a_server(
    device: Device, tmp_path: Path, all_points: bool, results: Results
) -> None:
    """Every call of the switch; without --all-points, every one that changes something."""
    prepared, log = tmp_path / "prepared", tmp_path / "log"
    clone(device.root, prepared)

    def fresh() -> None:
        shutil.rmtree(device.root)
        clone(prepared, device.root)
        device.server.load(subject.MODEL)
        assert device.versions() == (VERSIONS[0], VERSIONS[0], None)

    def act() -> None:
        _swap(device, NEW)

    def killed(call: Call) -> str:
        for _attempt in range(ATTEMPTS):
            fresh()
            if strace.run(act, log, strace.kill_at(call)).killed:
                break
        else:
            raise AssertionError("the swap did not come to this call")
        assert device.live in VERSIONS, "nothing is served"
        subject.edgeml(device.root.parent, "recover", "--server", _address(device))
        live, active, _previous = device.versions()
        assert live == active, f"{live} is served, {active} is active"
        device.store.version(subject.MODEL, str(active)).verify()
        assert (device.store.journal(subject.MODEL).last_transition() or {}).get("to") == active, (
            "the journal says otherwise"
        )
        _swap(device, NEW)
        assert device.versions() == (VERSIONS[1], VERSIONS[1], VERSIONS[0])
        return "old" if active == VERSIONS[0] else "new"

    fresh()
    act()
    fresh()
    listed = strace.calls(act, log)
    chosen = [call for call in listed if all_points or call.changes]
    outcomes = sweep(results, "killed, with a server: swap to a version held", chosen, killed)
    assert outcomes.keys() == {"old", "new"}


def _swap(device: Device, made: Made, **options: Any) -> None:
    subject.swap(device.root.parent, made, strategy="load", server=_address(device), **options)


def _address(device: Device) -> str:
    return str(device.directory / "run" / "server.sock")
