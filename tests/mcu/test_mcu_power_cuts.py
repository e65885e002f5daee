# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The power is cut in the middle of updates, also of a single word: the old image or the new one answers, always.

EDGEML_TEST_KILLS says how often on emulated boards, 1,000 times unless it is set.
"""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from figures import Figures
from mcu_images import Digits, Images
from microcontrollers import BUILT, FIRMWARE, FIRMWARE_BINARY, MODEL, Microcontroller, sign, sign_model
from smp_line import NoReplyError

KILLS = int(os.environ.get("EDGEML_TEST_KILLS", "1000"))
SEED = 20261129
BY_THE_CLOCK = 0.1  # share of the kills that come at a time, not at an operation of the flash


@pytest.mark.parametrize(("number", "stride"), [(MODEL, 1), (FIRMWARE, 11)])
def test_every_operation_of_an_update_may_be_cut(
    tmp_path: Path, images: Images, figures: Figures, number: int, stride: int
) -> None:
    """The firmware's own code on this machine: every operation but for words in the middle of the firmware's image."""
    device = Microcontroller(tmp_path / "device", images.firmware, images.new_model)
    new = (images.new_firmware, images.model)[number]
    command = [BUILT / "build" / "power_cuts", device.flash, str(number), new, str(stride), str(SEED)]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    operations, updates, cuts = map(int, run.stdout.split())
    assert operations > new.stat().st_size / 4
    assert cuts >= updates >= operations // stride
    name = f"power cuts on this machine, image {number}"
    figures.add(name, f"an update of {operations} operations; {updates} updates cut {cuts} times; nothing bricked")


def test_log_never_says_what_nobody_wrote() -> None:
    run = subprocess.run([str(BUILT / "build" / "torn_records"), "5000"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@dataclass
class Target:
    """An image that the microcontroller is brought to, and what it may answer meanwhile."""

    number: int
    content: bytes
    version: str


class Interrupted:
    """A microcontroller that is updated over and over, while its power goes."""

    def __init__(self, device: Microcontroller, images: Images) -> None:
        self.device = device
        self.digits = {"1.0.0+0": images.digits, "1.1.0+0": images.new_digits, "1.2.0+0": images.digits}
        self.versions = ["1.0.0+0", "1.0.0+0"]  # confirmed: of the firmware, of the model
        self.kills = 0
        self.updates = 0
        self._chance = random.Random(SEED)

    def update(self, target: Target) -> None:
        """Bring it to an image, with as many kills as come."""
        before, size = self.device.operations(), len(target.content) // 4 + 40
        done = False
        while not done:
            left = max(100, size - (self.device.operations() - before))
            by_the_clock = self._chance.random() < BY_THE_CLOCK
            cut = 0 if by_the_clock else self.device.operations() + self._chance.randint(1, left // 5)
            self.device.power_on(cut, seed=self._chance.randrange(2**31))
            timer = self.device.kill_after(self._chance.uniform(0, 1)) if by_the_clock else None
            try:
                done = self._one_start(target)
            except NoReplyError:
                assert self.device.is_off(), "it is on, and does not answer"
                self.kills += 1
            finally:
                if timer is not None:
                    timer.cancel()
                self.device.power_off()
        self.versions[target.number] = target.version
        self.updates += 1
        self.device.power_on()
        self.check({self.versions[FIRMWARE]}, {self.versions[MODEL]})
        self.device.power_off()

    def _one_start(self, target: Target) -> bool:
        """What a client does from a start on; returns whether the new image is confirmed."""
        allowed = [{version} for version in self.versions]
        allowed[target.number].add(target.version)
        version = self.check(*allowed)[target.number]
        if version != target.version:
            self.device.upload(target.number, target.content)
            self.device.test(self.device.image(target.number, active=False)["hash"])
            self.device.reset()
            assert self.check(*allowed)[target.number] == target.version
        self.device.confirm(self.device.image(target.number, active=True)["hash"])
        return True

    def check(self, firmware: set[str], model: set[str]) -> tuple[str, str]:
        """What it is answers as it should; returns the versions of firmware and model."""
        info = self.device.info()
        assert info["firmware"] in firmware
        assert info["model"]["version"] in model
        digits: Digits = self.digits[info["model"]["version"]]
        assert digits.wrong_answers(self.device, 1) == 0
        return info["firmware"], info["model"]["version"]


def test_kills_during_updates_leave_the_old_image_or_the_new_one(
    tmp_path: Path, images: Images, figures: Figures
) -> None:
    interrupted = Interrupted(Microcontroller(tmp_path / "device", images.firmware, images.model), images)
    # Three of each: the next one is in neither slot, and has to be uploaded.
    firmware = [images.new_firmware, sign(FIRMWARE_BINARY, tmp_path / "firmware-1.2.0", "1.2.0"), images.firmware]
    model = [images.new_model, sign_model(images.digits.payload, tmp_path / "model-1.2.0", "1.2.0"), images.model]
    targets = [
        Target(number, path.read_bytes(), version)
        for paths in zip(model, firmware, ["1.1.0+0", "1.2.0+0", "1.0.0+0"], strict=True)
        for number, path, version in ((MODEL, paths[0], paths[2]), (FIRMWARE, paths[1], paths[2]))
    ]
    while interrupted.kills < KILLS:
        interrupted.update(targets[interrupted.updates % len(targets)])
        print(f"{interrupted.kills} kills in {interrupted.updates} updates", flush=True)
    # Each update wrote its image, or this would prove nothing.
    assert interrupted.device.operations() > 1000 * interrupted.updates
    kills, updates = interrupted.kills, interrupted.updates
    text = f"{kills} over {updates} updates, {kills / updates:.0f} per update; nothing bricked"
    figures.add("kills of the emulated board", text)
