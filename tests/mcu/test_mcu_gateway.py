# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A gateway and an emulated microcontroller: its swaps, by the code that a gateway has, of firmware that runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from figures import Figures
from mcu_images import Images
from meters import Meter, release
from microcontrollers import MAP, sign_model
from releases import Made, file_entry, sha256


@pytest.fixture
def meter(tmp_path: Path, images: Images) -> Iterator[Meter]:
    """One that the factory gave firmware and model 1.0.0, and whose store knows that model."""
    with Meter(tmp_path / "meter", images.firmware, images.model) as made:
        result = made.swap(release(images.model, images.digits, "1.0.0"), trial_seconds=0)
        assert not result.get("failed"), result
        yield made


def test_it_says_what_it_is(meter: Meter) -> None:
    with meter.asked() as client:
        info, images = client.info(), client.images()
    assert (info.device_class, info.firmware, info.arena) == ("mps2-an385", "1.0.0+0", MAP["ARENA_SIZE"])
    assert [(image.image, image.active, image.confirmed) for image in images if image.active] == [
        (0, True, True),
        (1, True, True),
    ]


def test_what_the_factory_gave_it_is_not_sent_again(meter: Meter) -> None:
    assert meter.store.state("digits").active == "1.0.0"
    with meter.asked() as client:
        assert client.info().written < 100


def test_a_model_is_tried_measured_and_confirmed(meter: Meter, images: Images, figures: Figures) -> None:
    sent = 0

    def count(data: bytes) -> bytes:
        nonlocal sent
        sent += len(data)
        return data

    meter.damage = count
    began = time.monotonic()
    result = meter.swap(release(images.new_model, images.new_digits, "1.1.0"))
    took = time.monotonic() - began
    meter.damage = bytes
    assert (result.get("failed"), result["live"]) == (None, "1.1.0"), result
    with meter.asked() as client:
        written = client.info().written
    found = meter.read()["model"]
    assert (found["live"], found["probe"]["accuracy"]) == ("1.1.0", 1.0)
    assert found["trial"]["returns_to"] == "1.0.0"
    meter.store.update("digits", meter.store.state("digits")._replace(trial=_over(meter)))
    assert meter.look().startswith("commit")
    meter.power_cycle()
    assert meter.read()["model"]["live"] == "1.1.0"
    size = images.new_model.stat().st_size
    text = f"{sent} bytes on the line; {took:.1f} s; {written} bytes of flash written"
    figures.add(f"swap by the gateway, model of {size} bytes", text)
    back = meter.swap(release(images.new_model, images.new_digits, "1.1.0"), state="previous", manifest=None)
    assert back["live"] == "1.0.0"
    with meter.asked() as client:
        assert client.info().written - written < 200


def _over(meter: Meter) -> Any:
    trial = meter.store.state("digits").trial
    assert trial is not None
    return trial._replace(seconds=0.0)


def test_a_power_cut_during_the_trial_ends_it(meter: Meter, images: Images) -> None:
    meter.swap(release(images.new_model, images.new_digits, "1.1.0"))
    meter.power_cycle()
    assert meter.look() == "revert: the microcontroller went back: it runs 1.0.0+0"
    assert meter.read()["model"]["live"] == "1.0.0"


def test_a_model_with_wrong_answers_goes_back_at_once(meter: Meter, images: Images) -> None:
    """The answers of one model, and the image of another."""
    result = meter.swap(release(images.new_model, images.digits, "1.1.0"))
    assert "golden test: output 'scores'" in result["msg"]
    assert (result["live"], meter.read()["model"]["probe"]["accuracy"]) == ("1.0.0", 1.0)


def test_a_wrong_key_is_refused_by_the_bootloader(meter: Meter, images: Images, tmp_path: Path) -> None:
    image = sign_model(images.new_digits.payload, tmp_path / "wrong", "1.1.0", key="wrong")
    result = meter.swap(release(image, images.new_digits, "1.1.0"))
    assert "does not run after a reset" in result["msg"]
    assert meter.read()["model"]["live"] == "1.0.0"


def test_a_truncated_image_is_refused_by_the_gateway(meter: Meter, images: Images, tmp_path: Path) -> None:
    good = release(images.new_model, images.new_digits, "1.1.0")
    cut = tmp_path / "cut"
    cut.write_bytes(images.new_model.read_bytes()[:-40])
    content = cut.read_bytes()
    good.document["variants"][0]["files"] = [file_entry("model.bin", content)]
    result = meter.swap(Made(good.document, {**good.blobs, sha256(content): content}))
    assert "the image is cut off" in result["msg"]
    assert meter.read()["model"]["live"] == "1.0.0"


def test_a_slow_line_takes_its_time(tmp_path: Path, images: Images) -> None:
    """A part of an image is longer on its way than an answer is waited for."""
    with Meter(tmp_path / "slow", images.firmware, images.model, bits_per_second=9600) as meter:
        result = meter.swap(release(images.new_model, images.new_digits, "1.1.0"))
        assert (result.get("failed"), result["live"]) == (None, "1.1.0"), result
