# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proof that cannot fail proves nothing: stores that are broken on purpose are found out."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError, StoreError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree

from . import strace
from .checks import check_of
from .scenarios import SWAP, clone
from .test_power_cut import Ext4, Modelled


def test_strace_kills_before_the_call_is_done(tmp_path: Path) -> None:
    target, log = tmp_path / "file", tmp_path / "log"

    def act() -> None:
        target.write_bytes(b"content")

    (write,) = [call for call in strace.calls(act, log) if call.name == "write"]
    target.unlink()
    assert strace.run(act, log, strace.kill_at(write)).killed
    assert target.read_bytes() == b""


def test_strace_fails_the_call_and_tells_the_error(tmp_path: Path) -> None:
    target, log = tmp_path / "file", tmp_path / "log"
    (made,) = [call for call in strace.calls(target.mkdir, log) if call.name == "mkdir"]
    target.rmdir()
    ended = strace.run(target.mkdir, log, strace.fail_at(made, "ENOSPC"))
    assert ended.error == f"[Errno 28] No space left on device: '{target}'"
    assert not target.exists()


def test_a_state_that_is_written_in_place_is_found(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between the truncation and the write leaves no state."""

    def replace(tree: DurableTree, path: str, content: bytes, mode: int) -> None:
        tree.write(path, content, mode)

    prepared, device, log = memory / "prepared", memory / "device", memory / "log"
    SWAP.prepare(prepared)
    check = check_of(SWAP, prepared)
    monkeypatch.setattr(DurableTree, "replace", replace)

    def act() -> None:
        SWAP.action(device)

    def fresh() -> None:
        shutil.rmtree(device, ignore_errors=True)
        clone(prepared, device)

    fresh()
    act()
    fresh()
    writes = [call for call in strace.calls(act, log) if call.name == "write"]

    def kill_at_every_write() -> None:
        for write in writes:
            fresh()
            assert strace.run(act, log, strace.kill_at(write)).killed
            check.readable(device)

    with pytest.raises(StoreError, match=r"state\.json: damaged"):
        kill_at_every_write()


@pytest.mark.parametrize("forgotten", ["files", "directories"])
def test_an_fsync_that_is_forgotten_is_found(forgotten: str, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forget_fsync(monkeypatch, {forgotten})
    device = Modelled(memory, SWAP)

    def cut_the_power_everywhere() -> None:
        for survivor in device.survivors():
            device.check(survivor)

    with pytest.raises((AssertionError, EdgemlError)):
        cut_the_power_everywhere()


def test_ext4_loses_what_is_not_fsynced(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Ext4(memory, SWAP, "data=ordered")
    _forget_fsync(monkeypatch, {"files", "directories"})
    with pytest.raises(AssertionError, match="done, and then lost"):
        device.cut(None)


def _forget_fsync(monkeypatch: pytest.MonkeyPatch, forgotten: set[str]) -> None:
    fsync = os.fsync

    def forgetful(descriptor: int) -> None:
        kind = "directories" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "files"
        if kind not in forgotten:
            fsync(descriptor)

    monkeypatch.setattr(os, "fsync", forgetful)
