# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fetch that is killed, or fails, at its system calls: nothing is lost, and the next one goes on and swaps."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from deltas import delta_between
from releases import sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SentPart, SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import Delta, index_document
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File

from . import strace, subject
from .checks import check_of
from .loop_image import make_image, mounted
from .scenarios import CHANGED, NEW, OLD, SWAP, Scenario, clone, deliver, release, swap_to
from .strace import Call
from .sweep import Results, sweep

WRITES = ("write", "pwrite64")


def large(version: str) -> File:
    """The largest file of a version: more than one block."""
    found: File = max(release(version).release.all_files(), key=lambda file: file.size)
    assert len(found.blocks) == 2
    return found


def swap_request(directory: Path, version: str) -> SwapRequest:
    """The module's O(state=active) on a device without a service."""
    return SwapRequest(
        model=subject.MODEL,
        version=version,
        manifest=release(version).document,
        strategy="none",
        server="",
        min_ready_seconds=0.0,
        keep=0,
        reason="a proof",
        store=str(directory / "store"),
    )


def fetch(directory: Path, version: str = NEW) -> dict[str, Any]:
    """The module's O(state=active), which fetches from a stick. Return what it fetched."""
    stick = directory / "stick" / "blobs" / "sha256"
    request = swap_request(directory, version)._replace(
        fetch=FetchOptions(sources=[stick.parents[1].as_uri()]),
    )
    result = answer_swap(request, check_mode=False)
    fetched: dict[str, Any] = result.get("fetched") or {"received_bytes": 0, "failure": None}
    if result.get("failed") or fetched["failure"]:
        raise EdgemlError(str(result.get("msg") or fetched["failure"]["message"]))
    return fetched


def refused(directory: Path) -> str | None:
    """Why a fetch is refused; None where it is not."""
    try:
        fetch(directory)
    except (EdgemlError, OSError) as error:
        return str(error)
    return None


def insert_stick(directory: Path) -> None:
    """Have the release's blobs where the device fetches from, and nothing of it sent."""
    stick = directory / "stick" / "blobs"
    stick.mkdir(parents=True)
    (directory / "incoming").rename(stick / "sha256")
    (directory / "incoming").mkdir()


def insert_delta(directory: Path) -> None:
    """Have of the release a delta from the active version, and the small files: nothing else makes the large one."""
    insert_stick(directory)
    file, base = large(CHANGED), large(NEW)
    new, old = (release(version).blobs[found.sha256] for version, found in ((CHANGED, file), (NEW, base)))
    delta = delta_between(new, old)
    deltas = directory / "stick" / "deltas" / file.sha256
    deltas.mkdir(parents=True)
    (deltas / sha256(delta)).write_bytes(delta)
    index = index_document([Delta(sha256(delta), len(delta), (base.sha256,))])
    (deltas / "index.json").write_text(json.dumps(index))


FETCH = Scenario("fetch", OLD, NEW, (*SWAP.history, insert_stick), fetch)
DELTA = Scenario(
    "fetch of a delta",
    NEW,
    CHANGED,
    (*SWAP.history, swap_to(NEW, trial_seconds=0), insert_delta),
    partial(fetch, version=CHANGED),
    again=True,
)


def hold_back(directory: Path) -> None:
    """Have the large file with the controller, and the others sent."""
    (directory / "incoming" / large(NEW).sha256).rename(directory / "large")


def hold_back_delta(directory: Path) -> None:
    """Have the controller hold a delta of the large file, from the active version, and send the others."""
    deliver(directory, CHANGED)
    file, base = large(CHANGED), large(NEW)
    (directory / "incoming" / file.sha256).unlink()
    delta = delta_between(release(CHANGED).blobs[file.sha256], release(NEW).blobs[base.sha256])
    (directory / "large").write_bytes(delta)


def send(directory: Path, version: str = NEW, part_bytes: int = BLOCK_BYTES) -> dict[str, Any]:
    """The module's O(state=active), for which the large file, or its delta, is sent in parts, from where it broke."""
    file, content, sent = large(version), (directory / "large").read_bytes(), 0
    delta = None if len(content) == file.size else sha256(content)
    request = swap_request(directory, version)
    result = answer_swap(request, check_mode=False)
    for _part in range(3):
        blob = next((blob for blob in result["missing_blobs"] if blob["sha256"] == file.sha256), None)
        if blob is None:
            break
        held = blob["held_bytes"] if delta is None else blob["held_deltas"].get(delta, 0)
        (directory / "part").write_bytes(content[held:][:part_bytes])
        sent += len(content[held:][:part_bytes])
        part = SentPart(file.sha256, held, str(directory / "part"))
        if delta is not None:
            part = part._replace(delta=delta, delta_size=len(content))
        result = answer_swap(request._replace(sent_part=part), check_mode=False)
    if result["missing_blobs"]:
        result = answer_swap(request._replace(staged_blobs=str(directory / "incoming")), check_mode=False)
    elif not result["changed"] and subject.state_of(directory).active != version:
        result = answer_swap(request, check_mode=False)
    if result.get("failed"):
        raise EdgemlError(str(result["msg"]))
    return {"received_bytes": sent}


PARTS = Scenario("sending in parts", OLD, NEW, (*SWAP.history, hold_back), send)
DELTA_PARTS = Scenario(
    "sending a delta in parts",
    NEW,
    CHANGED,
    (*SWAP.history, swap_to(NEW, trial_seconds=0), hold_back_delta),
    partial(send, version=CHANGED, part_bytes=5000),
    again=True,
)


class Device:
    """A device that is made anew for each point of ``scenario``, in ``memory``."""

    def __init__(self, memory: Path, scenario: Scenario = FETCH) -> None:
        assert scenario.old is not None
        assert scenario.new is not None
        self.old, self.new = scenario.old, scenario.new
        self.fetch = scenario.action
        self.prepared, self.path, self.log = memory / "prepared", memory / "device", memory / "log"
        scenario.prepare(self.prepared)
        self.check = check_of(scenario, self.prepared)
        # Once without strace, so that nothing is imported or cached for the first time later.
        self.renew()
        self.fetch(self.path)
        self.renew()
        self.calls = strace.calls(partial(self.fetch, self.path), self.log)

    def renew(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        clone(self.prepared, self.path)

    def finished(self) -> str:
        """Recover, check that the old or the new version is whole, and fetch once more, but not what was there."""
        subject.recover(self.path)
        state = self.check.consistent(self.path)
        kept, of_delta = self._kept(), self._kept_of_delta()
        again: Any = self.fetch(self.path)
        if state.active == self.old:
            assert again["received_bytes"] <= sum(file.size for file in release(self.new).release.all_files()) - kept
            if of_delta:
                assert again["received_bytes"] <= (self.path / "large").stat().st_size - of_delta
        assert subject.state_of(self.path).active == self.new
        self.check.consistent(self.path, settled=True)
        assert list((self.path / "store" / "fetched").glob("*")) == []
        if state.active == self.new:
            return "swapped"
        if kept:
            return f"{kept // BLOCK_BYTES} blocks were kept"
        return "a part of the delta was kept" if of_delta else "nothing had come"

    def _kept_of_delta(self) -> int:
        """The bytes that are there of a delta that is sent."""
        if not (self.path / "large").exists():
            return 0
        parts = (self.path / "store" / "fetched").glob(f"{large(self.new).sha256}.*")
        return sum(path.stat().st_size for path in parts if path.name.count(".") == 1 + (path.suffix == ".part"))

    def _kept(self) -> int:
        """The bytes of whole blocks of the large file that are there, each as the manifest says."""
        fetched, file = self.path / "store" / "fetched", large(self.new)
        if (fetched / file.sha256).exists():
            return file.size
        part = fetched / f"{file.sha256}.part"
        return part.stat().st_size // BLOCK_BYTES * BLOCK_BYTES if part.exists() else 0


def chosen(calls: Sequence[Call], all_points: bool, step: int) -> Sequence[Call]:
    """Every call, or each ``step``-th of those that change something."""
    changing = [call for call in calls if call.changes]
    # The switch is near the end.
    return calls if all_points else [*changing[:-2:step], *changing[-2:]]


@pytest.mark.parametrize("scenario", [FETCH, DELTA, PARTS, DELTA_PARTS], ids=lambda scenario: scenario.name)
def test_killed_at_every_call(memory: Path, all_points: bool, results: Results, scenario: Scenario) -> None:
    device = Device(memory, scenario)

    def killed(call: Call) -> str:
        device.renew()
        ended = strace.run(partial(device.fetch, device.path), device.log, strace.kill_at(call))
        assert ended.killed, ended
        return device.finished()

    outcomes = sweep(results, f"killed: {scenario.name}", chosen(device.calls, all_points, 8), killed)
    assert outcomes.keys() >= {"nothing had come", "swapped"}
    if scenario is DELTA_PARTS:
        assert "a part of the delta was kept" in outcomes
    if all_points:
        assert "1 blocks were kept" in outcomes


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_disk_that_fails_from_some_call_on(memory: Path, all_points: bool, results: Results, error: str) -> None:
    """As when somebody else fills the disk meanwhile."""
    device = Device(memory)
    fetched = device.path / "store" / "fetched"
    writes = [call for call in device.calls if call.name in WRITES and call.concerns(fetched)]

    def failed(call: Call) -> str:
        device.renew()
        options = strace.fail_from(call, device.calls, error, WRITES)
        ended = strace.run(partial(fetch, device.path), device.log, options)
        assert ended.unexpected is None, ended.unexpected
        assert ended.error is not None
        assert "the disk is full" in ended.error or "No space left" in ended.error or "put/output error" in ended.error
        return device.finished()

    outcomes = sweep(results, f"{error}: fetch", writes if all_points else [writes[0], writes[-1]], failed)
    assert outcomes.keys() == {"nothing had come", "1 blocks were kept"}


def test_a_disk_without_room_is_refused_before_the_first_byte(tmp_path: Path, results: Results) -> None:
    """Whatever room there is, the release is fetched or refused, and fetched once there is room."""
    image, mount = tmp_path / "image", tmp_path / "mount"

    def with_free(kibibytes: int) -> str:
        make_image(image, 12, "-b", "1024", "-m", "0")
        with mounted(image, mount):
            FETCH.prepare(mount / "device")
            shutil.move(mount / "device" / "stick", tmp_path / "stick")
            (mount / "device" / "stick").symlink_to(tmp_path / "stick")
            store = subject.store_of(mount / "device")
            ballast = mount / "ballast"
            ballast.write_bytes(bytes(max(0, store.free_bytes() - (kibibytes << 10) - (20 << 10))))
            refusal = refused(mount / "device")
            if refusal is not None:
                assert re.search("are free|disk is full|No space left", refusal), refusal
                assert subject.state_of(mount / "device").active == OLD
            ballast.unlink()
            fetch(mount / "device")
            assert subject.state_of(mount / "device").active == NEW
        shutil.rmtree(tmp_path / "stick")
        image.unlink()
        return "fetched" if refusal is None else "refused"

    outcomes = sweep(results, "full disk: fetch", (64, 600, 1200, 3000), with_free)
    assert outcomes.keys() == {"refused", "fetched"}


def test_a_disk_without_inodes_is_refused_by_that_name(tmp_path: Path, results: Results) -> None:
    """There is room for the bytes: who looks at that alone does not find what is wrong."""
    image, mount = tmp_path / "image", tmp_path / "mount"

    def with_free(inodes: int) -> str:
        make_image(image, 12, "-b", "1024", "-m", "0", "-N", "128")
        with mounted(image, mount):
            FETCH.prepare(mount / "device")
            ballast = mount / "ballast"
            ballast.mkdir()
            for number in range(os.statvfs(mount).f_favail - inodes):
                (ballast / str(number)).touch()
            refusal = refused(mount / "device")
            if refusal is not None:
                assert f"inodes; {inodes} are free" in refusal, refusal
                assert "(df -i)" in refusal
                assert subject.state_of(mount / "device").active == OLD
            shutil.rmtree(ballast)
            fetch(mount / "device")
            assert subject.state_of(mount / "device").active == NEW
        image.unlink()
        return "fetched" if refusal is None else "refused"

    outcomes = sweep(results, "no inodes: fetch", (0, 3, 7, 16), with_free)
    assert outcomes.keys() == {"refused", "fetched"}
