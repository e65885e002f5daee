# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Updates of firmware and model: tried once, then kept or left again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from figures import Figures
from mcu_images import Images
from microcontrollers import FIRMWARE, IMAGE, MAP, MODEL, OS, Microcontroller, RefusedError, sign, sign_model
from smp_line import READ, WRITE

BAD_STATE, NO_ENTRY, CORRUPT, INVALID, NO_MEMORY = 6, 5, 9, 3, 2


def start_trial(device: Microcontroller, number: int, image: Path) -> bytes:
    """Upload an image and start it on trial; returns its hash."""
    device.upload(number, image.read_bytes())
    image_hash: bytes = device.image(number, active=False)["hash"]
    device.test(image_hash)
    device.reset()
    return image_hash


def wear(device: Microcontroller) -> tuple[int, int]:
    """Bytes programmed and sectors erased since manufacture."""
    info = device.info()
    return info["written"], info["erased"]


def test_new_model_runs_on_trial_and_stays_once_it_is_confirmed(
    device: Microcontroller, images: Images, figures: Figures
) -> None:
    before = wear(device)
    image_hash = start_trial(device, MODEL, images.new_model)
    assert device.info()["model"] == {
        "version": "1.1.0+0", "sha": device.info()["model"]["sha"], "loaded": True, "error": "",
    }  # fmt: skip
    assert images.new_digits.wrong_answers(device) == 0
    assert not device.image(MODEL, active=True)["confirmed"]
    device.confirm(image_hash)
    device.power_cycle()
    assert device.image(MODEL, active=True)["confirmed"]
    assert images.new_digits.wrong_answers(device) == 0
    assert device.info()["firmware"] == "1.0.0+0"
    size = images.new_model.stat().st_size
    written, erased = (after - then for after, then in zip(wear(device), before, strict=True))
    # Each byte of the image once, each of its sectors once; beside that the slot's log.
    assert size <= written < size + 100
    assert erased == -(-size // MAP["FLASH_SECTOR"]) + 1
    figures.add(f"update of a model of {size} bytes", f"{written} bytes of flash written, {erased} sectors erased")


def test_new_firmware_runs_on_trial_and_stays_once_it_is_confirmed(
    device: Microcontroller, images: Images, figures: Figures
) -> None:
    before = wear(device)
    image_hash = start_trial(device, FIRMWARE, images.new_firmware)
    assert device.info()["firmware"] == "1.1.0+0"
    assert images.digits.wrong_answers(device) == 0
    device.confirm(image_hash)
    device.power_cycle()
    assert device.info()["firmware"] == "1.1.0+0"
    size = images.new_firmware.stat().st_size
    written, erased = (after - then for after, then in zip(wear(device), before, strict=True))
    assert size <= written < size + 100
    figures.add(f"update of a firmware of {size} bytes", f"{written} bytes of flash written, {erased} sectors erased")


@pytest.mark.parametrize("number", [FIRMWARE, MODEL])
def test_image_that_is_not_confirmed_is_left_at_the_next_start(
    device: Microcontroller, images: Images, number: int
) -> None:
    start_trial(device, number, (images.new_firmware, images.new_model)[number])
    device.power_cycle()
    info = device.info()
    assert (info["firmware"], info["model"]["version"]) == ("1.0.0+0", "1.0.0+0")
    error = info["error"] if number == FIRMWARE else info["model"]["error"]
    assert error == "trial: it ended without a confirmation"
    device.power_cycle()
    assert device.info()["firmware"] == "1.0.0+0"


def test_both_are_tried_in_one_start_and_the_firmware_is_confirmed_first(
    device: Microcontroller, images: Images, tmp_path: Path
) -> None:
    needing = sign_model(images.new_digits.payload, tmp_path / "needing", "1.1.0", needs="1.1.0")
    device.upload(FIRMWARE, images.new_firmware.read_bytes())
    device.upload(MODEL, needing.read_bytes())
    hashes = [device.image(number, active=False)["hash"] for number in (FIRMWARE, MODEL)]
    for image_hash in hashes:
        device.test(image_hash)
    device.reset()
    assert images.new_digits.wrong_answers(device) == 0
    with pytest.raises(RefusedError) as refused:
        device.confirm(hashes[MODEL])
    assert refused.value.code == BAD_STATE
    for image_hash in hashes:
        device.confirm(image_hash)
    device.power_cycle()
    assert (device.info()["firmware"], device.info()["model"]["version"]) == ("1.1.0+0", "1.1.0+0")


def test_older_version_that_is_still_there_is_tried_again_without_an_upload(
    device: Microcontroller, images: Images
) -> None:
    old_hash = device.image(MODEL, active=True)["hash"]
    device.confirm(start_trial(device, MODEL, images.new_model))
    before = wear(device)
    device.test(old_hash)
    device.reset()
    assert images.digits.wrong_answers(device) == 0
    device.confirm(old_hash)
    device.power_cycle()
    assert images.digits.wrong_answers(device) == 0
    # Three records of eight bytes.
    assert wear(device) == (before[0] + 24, before[1])


def test_spare_slot_is_not_touched_during_a_trial(device: Microcontroller, images: Images) -> None:
    old_hash = device.image(FIRMWARE, active=True)["hash"]
    start_trial(device, FIRMWARE, images.new_firmware)
    for attempt in (
        lambda: device.upload(FIRMWARE, images.firmware.read_bytes()),
        lambda: device.ask(WRITE, IMAGE, 5, {"slot": 0}),
        lambda: device.test(old_hash),
        lambda: device.confirm(old_hash),
    ):
        with pytest.raises(RefusedError) as refused:
            attempt()
        assert refused.value.code == BAD_STATE


def test_upload_goes_on_where_it_was_after_the_power_was_cut(device: Microcontroller, images: Images) -> None:
    content = images.new_model.read_bytes()
    device.upload(MODEL, content, until=9000)
    before = wear(device)
    device.power_cycle()
    with pytest.raises(RefusedError) as refused:
        device.ask(WRITE, IMAGE, 1, {"off": 9000, "data": bytes(64)})
    assert refused.value.code == BAD_STATE
    uploaded = device.upload(MODEL, content)
    assert 9000 - 1900 < uploaded.begun_at < 9000 + 1900
    written, erased = wear(device)
    assert erased == before[1]
    assert written - before[0] < len(content) - 7000
    # What is there already is not sent again.
    assert device.upload(MODEL, content).requests == 1


def test_upload_of_another_file_begins_anew(device: Microcontroller, images: Images) -> None:
    device.upload(MODEL, images.new_model.read_bytes(), until=9000)
    uploaded = device.upload(MODEL, images.model.read_bytes())
    assert uploaded.begun_at < 1900
    assert device.image(MODEL, active=False)["hash"] == device.image(MODEL, active=True)["hash"]


def test_requests_that_make_no_sense_are_answered_by_codes(device: Microcontroller, images: Images) -> None:
    content = images.new_model.read_bytes()
    cases: list[tuple[int, int, dict[str, Any], int]] = [
        (IMAGE, 1, {"off": 0, "data": content[:64]}, INVALID),  # no length
        (IMAGE, 1, {"off": 0, "data": bytes(64), "len": 64}, INVALID),  # no image
        (IMAGE, 1, {"off": 0, "data": content[:64], "len": 64, "image": 2}, INVALID),
        (IMAGE, 1, {"off": 0, "data": content[:64], "len": MAP["IMAGE_MAX"] + 1}, NO_MEMORY),
        (IMAGE, 0, {"hash": bytes(32), "confirm": False}, NO_ENTRY),
        (IMAGE, 0, {"hash": bytes(31)}, INVALID),
        (IMAGE, 5, {"slot": 4}, INVALID),
        (64, 1, {"i": bytes(63)}, INVALID),
        (64, 1, {"i": "text"}, INVALID),
        (7, 0, {}, 8),
    ]
    for group, command, fields, code in cases:
        with pytest.raises(RefusedError) as refused:
            device.ask(WRITE, group, command, fields)
        assert refused.value.code == code, (group, command, fields)
    assert device.info()["errors"] == 2
    assert images.digits.wrong_answers(device) == 0


def test_every_inference_computes_from_its_own_input(device: Microcontroller, images: Images) -> None:
    values, wanted = images.digits.inputs[0].tobytes(), images.digits.expected[0].tobytes()
    assert [device.infer(values) for _ in range(5)] == [wanted] * 5


def test_microcontroller_without_a_model_says_so_and_takes_one(tmp_path: Path, images: Images) -> None:
    with Microcontroller(tmp_path / "empty", images.firmware).powered() as device:
        assert not device.info()["model"]["loaded"]
        with pytest.raises(RefusedError) as refused:
            device.infer(bytes(64))
        assert refused.value.code == BAD_STATE
        device.confirm(start_trial(device, MODEL, images.model))
        device.power_cycle()
        assert images.digits.wrong_answers(device) == 0


def test_reset_says_why_it_was(device: Microcontroller) -> None:
    assert device.info()["reset"] == "power"
    device.reset()
    assert device.info()["reset"] == "requested"
    assert device.ask(READ, OS, 6) == {"buf_size": 2048, "buf_count": 1}


def test_firmware_can_be_signed_again_with_the_same_version(
    device: Microcontroller, images: Images, tmp_path: Path
) -> None:
    again = sign(images.digits.payload.parents[1] / "build" / "firmware.bin", tmp_path / "again", "1.0.0", counter=2)
    device.confirm(start_trial(device, FIRMWARE, again))
    device.power_cycle()
    assert device.info()["security_counter"] == 2
