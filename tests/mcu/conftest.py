# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Emulated microcontrollers (`make mcu`): the images that they get."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mcu_images import Digits, Images
from microcontrollers import BUILT, Microcontroller, sign, sign_model


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The images that most tests begin with."""
    assert (BUILT / "build" / "firmware.bin").exists(), "run `make mcu`, which builds the firmware first"
    directory = tmp_path_factory.mktemp("images")
    firmware = BUILT / "build" / "firmware.bin"
    old, new = Digits.of("1.0.0"), Digits.of("1.1.0")
    return Images(
        firmware=sign(firmware, directory / "firmware-1.0.0", "1.0.0"),
        new_firmware=sign(firmware, directory / "firmware-1.1.0", "1.1.0"),
        model=sign_model(old.payload, directory / "model-1.0.0", "1.0.0"),
        new_model=sign_model(new.payload, directory / "model-1.1.0", "1.1.0"),
        digits=old,
        new_digits=new,
    )


@pytest.fixture
def device(tmp_path: Path, images: Images) -> Iterator[Microcontroller]:
    """A new microcontroller with firmware and model 1.0.0, that is on."""
    with Microcontroller(tmp_path / "device", images.firmware, images.model).powered() as device:
        yield device
