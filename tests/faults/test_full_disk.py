# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A really full filesystem: whatever room is left, the swap is done, or it is refused and the old version stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from . import strace
from .checks import Check, check_of
from .loop_image import copy_image, make_image, mounted
from .scenarios import SWAP, SWAP_BY_DELTA, Scenario
from .sweep import Results, sweep

MEGABYTES = 8
INODES = 64
# The release to be staged needs a bit more than one mebibyte.
ENOUGH_KIBIBYTES = 2048


class SmallDisk:
    """A device on a small ext4, of which a swap finds nearly everything in use."""

    def __init__(self, directory: Path, scenario: Scenario) -> None:
        self._directory = directory
        self._scenario = scenario
        self._image, self._prepared, self._mount = (directory / name for name in ("image", "prepared", "mount"))
        make_image(self._prepared, MEGABYTES, "-b", "1024", "-m", "0", "-N", str(INODES))
        with mounted(self._prepared, self._mount):
            scenario.prepare(self._mount / "device")
            # The blobs come to another filesystem: the device's /tmp.
            shutil.move(self._mount / "device" / "incoming", directory / "incoming")
            (self._mount / "device" / "incoming").symlink_to(directory / "incoming")
            self._check: Check = check_of(scenario, self._mount / "device")

    @property
    def name(self) -> str:
        """What is done there."""
        return self._scenario.name

    def with_free_kibibytes(self, free: int) -> str:
        """Swap with so much room; then once more with all of it."""
        return self._swap(lambda ballast: _fill_blocks(ballast, free))

    def with_free_inodes(self, free: int) -> str:
        """Swap where so many files and directories can be made; then once more without that limit."""
        return self._swap(lambda ballast: _fill_inodes(ballast, free))

    def _swap(self, fill: Callable[[Path], None]) -> str:
        copy_image(self._prepared, self._image)
        with mounted(self._image, self._mount) as mount:
            device, ballast = mount / "device", mount / "ballast"
            ballast.mkdir()
            fill(ballast)
            ended = strace.run(lambda: self._scenario.action(device), self._directory / "log")
            self._check.readable(device)
            assert ended.unexpected is None, ended.unexpected
            if ended.error is not None:
                assert "No space left on device" in ended.error or "are free" in ended.error, (
                    f"not clear: {ended.error}"
                )
            shutil.rmtree(ballast)
            outcome = self._check.recovered(device, done=ended.error is None)
            assert outcome == ("new" if ended.error is None else "old")
            return "swapped" if ended.error is None else "refused, old stays"


def _fill_blocks(ballast: Path, free_kibibytes: int) -> None:
    status = os.statvfs(ballast)
    size = status.f_bavail * status.f_frsize - (free_kibibytes << 10)
    with (ballast / "blocks").open("wb") as file:
        # The filesystem's own blocks for a file of this size come on top.
        while size > 0:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                break
            except OSError:
                size -= 1 << 10


def _fill_inodes(ballast: Path, free: int) -> None:
    for number in range(os.statvfs(ballast).f_favail - free):
        (ballast / str(number)).touch()


@pytest.fixture
def disk(memory: Path, request: pytest.FixtureRequest) -> SmallDisk:
    return SmallDisk(memory, getattr(request, "param", SWAP))


@pytest.mark.parametrize("disk", [SWAP, SWAP_BY_DELTA], ids=["whole files", "a delta"], indirect=True)
def test_a_full_disk(disk: SmallDisk, all_points: bool, results: Results) -> None:
    outcomes = sweep(
        results,
        f"full disk, {disk.name}, by free KiB",
        range(0, ENOUGH_KIBIBYTES + 1, 8 if all_points else 128),
        disk.with_free_kibibytes,
    )
    assert len(outcomes) == 2, "not both of: refused, swapped"


def test_no_more_inodes(disk: SmallDisk, all_points: bool, results: Results) -> None:
    free = range(20) if all_points else (0, 1, 2, 4, 8, 16)
    outcomes = sweep(results, "full disk, by free inodes", free, disk.with_free_inodes)
    assert len(outcomes) == 2, "not both of: refused, swapped"
