# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that must not run, a firmware that hangs or crashes, and a line that loses bytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema
from mcu_images import Images, relu_of
from microcontrollers import (
    BUILT,
    FIRMWARE,
    FIRMWARE_BINARY,
    MODEL,
    Microcontroller,
    RefusedError,
    sign,
    sign_model,
)
from serial_bridge import LossyLine
from smp_line import NoReplyError

NO_ENTRY, CORRUPT = 5, 9


def try_image(device: Microcontroller, number: int, content: bytes) -> None:
    """Upload an image, have it tried, and start; it is known not to be kept."""
    device.upload(number, content)
    device.test(device.image(number, active=False)["hash"])
    before = device.info()["resets"]
    device.ask(2, 0, 5)
    device.wait_for_start(before)


def assert_unchanged(device: Microcontroller, images: Images) -> dict[str, Any]:
    """Firmware and model 1.0.0 answer, also after another start; returns what the microcontroller says of itself."""
    info = device.info()
    for _ in range(2):
        assert (device.info()["firmware"], device.info()["model"]["version"]) == ("1.0.0+0", "1.0.0+0")
        assert images.digits.wrong_answers(device, 5) == 0
        assert not any(image["pending"] for image in device.images())
        device.power_cycle()
    assert device.info()["error"] == info["error"]
    assert device.info()["model"]["error"] == info["model"]["error"]
    return info


def test_firmware_by_another_key_is_not_booted(device: Microcontroller, images: Images, tmp_path: Path) -> None:
    image = sign(FIRMWARE_BINARY, tmp_path / "image", "1.1.0", key="wrong")
    try_image(device, FIRMWARE, image.read_bytes())
    assert assert_unchanged(device, images)["error"] == "signature: not by the key of this device"


def test_model_by_another_key_is_not_loaded(device: Microcontroller, images: Images, tmp_path: Path) -> None:
    image = sign_model(images.new_digits.payload, tmp_path / "image", "1.1.0", key="wrong")
    try_image(device, MODEL, image.read_bytes())
    assert assert_unchanged(device, images)["model"]["error"] == "signature: not by the key of this device"


@pytest.mark.parametrize("number", [FIRMWARE, MODEL])
def test_image_with_an_older_security_counter_is_not_booted(
    device: Microcontroller, images: Images, tmp_path: Path, number: int
) -> None:
    payload = (FIRMWARE_BINARY, images.digits.payload)[number]
    newer = sign(payload, tmp_path / "newer", "1.0.0", counter=3)
    older = sign(payload, tmp_path / "older", "1.1.0", counter=2)
    try_image(device, number, newer.read_bytes())
    device.confirm(device.image(number, active=True)["hash"])
    try_image(device, number, older.read_bytes())
    info = assert_unchanged(device, images)
    text = "security counter: lower than that of the confirmed image"
    assert (info["error"] if number == FIRMWARE else info["model"]["error"]) == text
    assert info["security_counter" if number == FIRMWARE else "model_counter"] == 3


def test_model_that_needs_a_newer_firmware_is_not_loaded(
    device: Microcontroller, images: Images, tmp_path: Path
) -> None:
    image = sign_model(images.new_digits.payload, tmp_path / "image", "1.1.0", needs="1.0.1")
    try_image(device, MODEL, image.read_bytes())
    assert assert_unchanged(device, images)["model"]["error"] == "dependency: needs a newer firmware"


@pytest.mark.parametrize("number", [FIRMWARE, MODEL])
def test_image_that_is_cut_short_cannot_be_tried(device: Microcontroller, images: Images, number: int) -> None:
    content = (images.new_firmware, images.new_model)[number].read_bytes()
    for length in (len(content) - 1, len(content) - 100, len(content) // 2):
        device.upload(number, content[:length])
        assert [image for image in device.images() if image["image"] == number and not image["active"]] == []
    assert_unchanged(device, images)


def test_image_with_a_changed_byte_cannot_be_tried(device: Microcontroller, images: Images) -> None:
    content = bytearray(images.new_firmware.read_bytes())
    content[5000] ^= 1
    with pytest.raises(RefusedError) as refused:
        try_image(device, FIRMWARE, bytes(content))
    assert refused.value.code == CORRUPT
    assert_unchanged(device, images)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (relu_of((1, 64, 16, 32)), "arena: the model needs more memory than there is"),
        (relu_of((1, 64), schema.BuiltinOperator.LOGISTIC), "operator: the firmware lacks one that the model has"),
        (relu_of((1, 64))[:-40], "model: the interpreter cannot read it"),
        (b"no model at all " * 8, "model: the interpreter cannot read it"),
    ],
    ids=["arena", "operator", "short", "text"],
)
def test_model_that_cannot_run_is_left_for_the_old_one(
    device: Microcontroller, images: Images, tmp_path: Path, content: bytes, error: str
) -> None:
    (tmp_path / "payload").write_bytes(content)
    image = sign_model(tmp_path / "payload", tmp_path / "image", "1.1.0")
    device.upload(MODEL, image.read_bytes())
    device.test(device.image(MODEL, active=False)["hash"])
    before = device.info()["resets"]
    device.ask(2, 0, 5)
    # Two starts: the firmware refuses the model, notes it and starts anew.
    device.wait_for_start(before + 1)
    assert assert_unchanged(device, images)["model"]["error"] == error


@pytest.mark.parametrize(("program", "cause"), [("hang", "watchdog"), ("crash", "fault")])
def test_firmware_that_does_not_run_is_left_by_itself(
    device: Microcontroller, images: Images, tmp_path: Path, program: str, cause: str
) -> None:
    image = sign(BUILT / "build" / f"{program}.bin", tmp_path / "image", "1.1.0")
    device.upload(FIRMWARE, image.read_bytes())
    device.test(device.image(FIRMWARE, active=False)["hash"])
    before = device.info()["resets"]
    device.ask(2, 0, 5)
    device.wait_for_start(before + 1)
    assert device.info()["reset"] == cause
    assert assert_unchanged(device, images)["error"] == "trial: it ended without a confirmation"


def test_upload_comes_to_its_end_on_a_line_that_loses_bytes(device: Microcontroller, images: Images) -> None:
    content = images.new_model.read_bytes()[:4000] + images.model.read_bytes()
    line = LossyLine(share=1 / 1000, seed=1)
    device.line.damage = line
    offset, lost, first = 0, 0, {"image": MODEL, "len": len(content)}
    while offset < len(content):
        data = content[offset : offset + 200]
        fields = {"off": offset, "data": data, **(first if offset == 0 else {})}
        try:
            offset = device.line.request(2, 1, 1, fields, seconds=2)["off"]
        except NoReplyError:
            lost += 1
    device.line.damage = bytes
    assert line.lost > 10
    assert lost > 5
    # All of it is there, as it was sent.
    begin = device.image(MODEL, active=True)["slot"] ^ 1
    with device.flash.open("rb") as flash:
        flash.seek((2 + begin) * 0x20000)
        assert flash.read(len(content)) == content
    assert images.digits.wrong_answers(device, 5) == 0
    print(f"{line.lost} bytes lost or changed, {lost} requests without a reply")


def test_noise_before_and_between_requests_is_passed_over(device: Microcontroller) -> None:
    chance = random.Random(3)
    for _ in range(30):
        device.line.send(bytes(chance.randrange(256) for _ in range(chance.randrange(300))) + b"\n")
        assert device.info()["firmware"] == "1.0.0+0"
