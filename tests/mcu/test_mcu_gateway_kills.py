# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gateway's process, the board, or both are killed at a frame of an update: the old version answers or the new one,
the gateway's store says which, and the update comes to its end afterwards.

EDGEML_TEST_GATEWAY_KILLS says how many frames are tried, 60 unless it is set. They are spread over the update. What a
board's loss of power kept from passing its test is asked for once more by `retry`, as by a person.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from figures import Figures
from links import PYTHON_PATH
from mcu_images import Images
from meters import Meter, release
from releases import Made

KILLS = int(os.environ.get("EDGEML_TEST_GATEWAY_KILLS", "60"))
FRAME = b"\x06\x09"  # how one begins on the line
OLD, NEW = "1.0.0", "1.1.0"
# Looks of the gateway's timer, of which each comes 30 s after the one before.
LOOKS_MAX = 3


class Interrupted:
    """A meter on its way from one version to another, again and again from the same beginning."""

    def __init__(self, meter: Meter, made: Made, directory: Path) -> None:
        self._meter = meter
        self._made = made
        self._copy = directory
        self._process: subprocess.Popen[str] | None = None
        meter.power_off()
        directory.mkdir()
        shutil.copy(meter.flash, directory / "flash")
        shutil.copytree(meter.store.root, directory / "store", symlinks=True)

    def begin_again(self) -> None:
        """Have board and store as they were."""
        self._meter.power_off()
        shutil.copy(self._copy / "flash", self._meter.flash)
        shutil.rmtree(self._meter.store.root)
        shutil.copytree(self._copy / "store", self._meter.store.root, symlinks=True)
        self._meter.power_on()

    def update(self, at: int, kill: Callable[[], None]) -> tuple[int, dict[str, object] | None]:
        """Bring it to the new version, and `kill` at a frame on the line, either way. Returns how many frames there
        were, and what the gateway said; None where it was killed."""
        frames = 0
        lock = threading.Lock()

        def count(data: bytes) -> bytes:
            nonlocal frames
            with lock:
                before, frames = frames, frames + data.count(FRAME)
                if before < at <= frames:
                    kill()
            return data

        request = json.dumps(self._meter.request(self._made, trial_seconds=0, retry=True))
        command = [sys.executable, str(Path(__file__).parents[1] / "support" / "meter_gateway.py")]
        self._meter.damage = count
        pipe, environment = subprocess.PIPE, {**os.environ, "PYTHONPATH": str(PYTHON_PATH)}
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as self._process:
            output, _ = self._process.communicate(request)
        self._meter.damage = bytes
        return frames, json.loads(output) if self._process.returncode >= 0 else None

    def kill_gateway(self) -> None:
        """End its process at once."""
        assert self._process is not None
        self._process.kill()

    def kill_board(self) -> None:
        """Power that comes back at once; what was on the line is lost."""
        self._meter.power_cycle()

    def kill_both(self) -> None:
        """The house's power."""
        self.kill_gateway()
        self.kill_board()

    def settle(self) -> str:
        """Have the gateway look until both agree; returns the version that answers, which does so rightly."""
        for _ in range(LOOKS_MAX):
            self._meter.watch()
            state = self._meter.store.state("digits")
            found = self._meter.read()["model"]
            if found["live"] == state.active and state.trial is None:
                assert found["probe"]["accuracy"] == 1.0
                return str(found["live"])
        raise AssertionError(f"the board runs {found['live']}; its gateway's store says {state}")


@pytest.fixture
def interrupted(tmp_path: Path, images: Images) -> Iterator[Interrupted]:
    with Meter(tmp_path / "meter", images.firmware, images.model) as meter:
        result = meter.swap(release(images.model, images.digits, OLD), trial_seconds=0)
        assert not result.get("failed"), result
        yield Interrupted(meter, release(images.new_model, images.new_digits, NEW), tmp_path / "copy")


def test_kills_at_frames_of_an_update_leave_board_and_gateway_agreed(
    interrupted: Interrupted, figures: Figures
) -> None:
    interrupted.begin_again()
    frames, told = interrupted.update(0, lambda: None)
    assert told is not None
    assert told["live"] == NEW, told.get("msg")
    kinds = {
        "gateway": interrupted.kill_gateway, "board": interrupted.kill_board, "both": interrupted.kill_both,
    }  # fmt: skip
    points = range(1, frames + 1)
    after: dict[str, dict[str, int]] = {kind: dict.fromkeys((OLD, NEW), 0) for kind in kinds}
    for number in range(KILLS):
        kind = list(kinds)[number % len(kinds)]
        at = points[number * len(points) // KILLS]
        interrupted.begin_again()
        reached, told = interrupted.update(at, kinds[kind])
        if reached < at:
            # This time fewer frames were sent again, and it came to its end.
            assert told is not None
            assert told["live"] == NEW, (kind, at, told.get("msg"))
            continue
        assert (told is None) == (kind != "board")
        version = interrupted.settle()
        after[kind][version] += 1
        if told is not None and not told.get("failed"):
            assert version == NEW
        _frames, told = interrupted.update(0, lambda: None)
        assert told is not None
        assert told["live"] == NEW, (kind, at, told.get("msg"))
        assert interrupted.settle() == NEW
    # The kills came before the new version was kept and after it, or this would prove nothing.
    assert all(sum(counts[version] for counts in after.values()) for version in (OLD, NEW))
    kills = sum(sum(counts.values()) for counts in after.values())
    assert kills > KILLS / 2
    figures.add(f"kills through the gateway, at {frames} frames of an update", f"{kills}: {after}; nothing bricked")
