# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client of a microcontroller, beside one in this process, over a pseudo-terminal and over UDP."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from smp_peer import DEVICE_CLASS, FIRMWARE, INPUTS, MODEL, Microcontroller, hash_of, signed_image

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ServerDownError, ServerError
from ansible_collections.edgeml.fleet.plugins.module_utils._smp.address import (
    AddressError,
    SerialAddress,
    UdpAddress,
    is_port,
    parse_address,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._smp.client import (
    ATTEMPTS,
    RefusedError,
    SmpClient,
    _info,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._smp.ports import open_port

# The wait for an answer that does not come. One that comes is there at once, and a lost one costs this.
ANSWER_SECONDS = 0.1
NEW = signed_image(b"\x90" * 3000, (1, 1, 0))


@pytest.fixture(params=[False, True], ids=["serial", "udp"])
def device(request: pytest.FixtureRequest) -> Iterator[Microcontroller]:
    """One that runs a firmware and a model."""
    with Microcontroller(udp=request.param) as made:
        made.program(FIRMWARE, signed_image(b"firmware" * 10, counter=4))
        made.program(MODEL, signed_image(b"\x84" + b"model" * 10))
        yield made


@contextlib.contextmanager
def asked(device: Microcontroller) -> Iterator[SmpClient]:
    with open_port(device.address) as port:
        yield SmpClient(port, device.address, answer_seconds=ANSWER_SECONDS)


def test_it_says_what_it_is_and_what_it_runs(device: Microcontroller) -> None:
    with asked(device) as client:
        assert client.is_there()
        info, images = client.info(), client.images()
    assert (info.device_class, info.firmware, info.security_counter) == (DEVICE_CLASS, "1.0.0+0", 4)
    assert (info.model_loaded, info.input and info.input.shape) == (True, (1, INPUTS))
    assert [(image.image, image.slot, image.active, image.confirmed) for image in images] == [
        (FIRMWARE, 0, True, True),
        (MODEL, 0, True, True),
    ]


def test_an_image_is_sent_tested_and_confirmed(device: Microcontroller) -> None:
    with asked(device) as client:
        told: list[int] = []
        assert client.upload(MODEL, NEW, told.append) == len(NEW)
        assert told == sorted(told)
        assert told[-1] == len(NEW)
        client.test(hash_of(NEW))
        client.restart()
        assert device.running(MODEL) == "1.1.0+0"
        client.confirm(hash_of(NEW))
        client.restart()
    assert device.running(MODEL) == "1.1.0+0"
    assert device.flash.written == len(NEW)


def test_without_a_confirmation_it_goes_back_at_the_next_reset(device: Microcontroller) -> None:
    with asked(device) as client:
        client.upload(MODEL, NEW)
        client.test(hash_of(NEW))
        for expected in ("1.1.0+0", "1.0.0+0"):
            client.restart()
            assert device.running(MODEL) == expected


def test_an_upload_goes_on_where_one_that_broke_off_had_come_to(device: Microcontroller) -> None:
    device.cut_at = 8
    with asked(device) as client, pytest.raises(ServerDownError):
        client.upload(MODEL, NEW)
    there = len(device.flash.slots[MODEL][1].data)
    assert 0 < there < len(NEW)
    device.cut_at = None
    device.power_on()
    with asked(device) as client:
        sent = client.upload(MODEL, NEW)
    # The first part names the image, and is there already.
    assert len(NEW) - there < sent < len(NEW)
    assert device.flash.written == len(NEW)


def test_frames_that_are_lost_are_sent_again(device: Microcontroller) -> None:
    device.lose = 0.1
    with asked(device) as client:
        client.upload(MODEL, NEW)
    assert device.flash.slots[MODEL][1].data == NEW


def test_nobody_is_asked_for_ever(device: Microcontroller) -> None:
    device.is_dead = True
    with asked(device) as client:
        assert not client.is_there()
        with pytest.raises(ServerDownError, match=f"no answer from the microcontroller, asked {ATTEMPTS} times"):
            client.info()


def test_a_microcontroller_that_does_not_come_back_is_named(device: Microcontroller) -> None:
    device.hangs_at_boot = True
    with asked(device) as client, pytest.raises(ServerDownError, match="did not start anew within 0 s after a reset"):
        client.restart(seconds=0)


def test_an_answer_that_is_none_is_no_answer(device: Microcontroller) -> None:
    device.broken_answers = True
    with asked(device) as client, pytest.raises(ServerDownError, match="no answer"):
        client.info()


def test_a_refusal_has_its_reason(device: Microcontroller) -> None:
    with asked(device) as client:
        with pytest.raises(RefusedError, match=r"the microcontroller says: wrong value \(3\)"):
            client.infer(b"too short to be an input")
        with pytest.raises(RefusedError, match="nothing there"):
            client.test(b"\0" * 32)


def test_one_program_has_a_port_at_a_time(device: Microcontroller) -> None:
    with open_port(device.address), pytest.raises(ServerError, match="another program has had it"):
        open_port(device.address, lock_seconds=0)
    open_port(device.address, lock_seconds=0).close()


def test_a_port_that_is_not_there_is_named() -> None:
    with pytest.raises(ServerError, match=r"^/dev/ttyNothing: the port cannot be opened: .*No such file"):
        open_port("/dev/ttyNothing")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/dev/ttyACM0", SerialAddress("/dev/ttyACM0")),
        ("/dev/serial/by-id/usb-Pico_E660-if00@921600", SerialAddress("/dev/serial/by-id/usb-Pico_E660-if00", 921600)),
        ("udp://10.0.0.7:1337", UdpAddress("10.0.0.7", 1337)),
        ("udp://[fd00::7]:1337", UdpAddress("fd00::7", 1337)),
    ],
)
def test_an_address_is_read(text: str, found: object) -> None:
    assert parse_address(text) == found
    assert is_port(text)


@pytest.mark.parametrize(
    "text",
    ["", "/run/edgeml/server.sock", "/dev/../etc/passwd", "/dev/ttyS0@7", "udp://a", "udp://a:0", "udp://a:70000"],
)
def test_another_text_is_no_address(text: str) -> None:
    with pytest.raises(AddressError, match=r"^port: expected /dev/"):
        parse_address(text)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"arena": -1}, "arena: expected a whole number from 0; found -1"),
        ({"class": 1}, "class: expected a text; found 1"),
        ({"operators": ["A", 1]}, "operators: expected a list of texts"),
        ({"model": {"sha": "text"}}, "model.sha: expected bytes"),
        ({"model": 5}, "model: expected an object; found 5"),
        ({"input": {"type": "int8", "shape": [0]}}, "input: expected type, shape, scale and zero"),
        ({"output": {"type": 1}}, "output: expected type, shape, scale and zero"),
    ],
)
def test_what_a_microcontroller_says_of_itself_is_checked(document: dict[str, object], reason: str) -> None:
    with pytest.raises(ServerError, match=f"^port: info: {reason}"):
        _info(document, "port")


def test_a_line_that_is_hung_up_is_no_answer() -> None:
    master, slave = os.openpty()
    name = os.ttyname(slave)
    with open_port(name) as port:
        os.close(master)
        with pytest.raises(ServerDownError, match="no answer from the microcontroller"):
            SmpClient(port, name, answer_seconds=ANSWER_SECONDS).info()
    os.close(slave)


def test_an_upload_is_begun_again_where_the_microcontroller_was_reset_meanwhile(device: Microcontroller) -> None:
    """It asks what this is about (reason 6), and knows how far it had come."""
    resets: list[int] = []

    def reset_once(at: int) -> None:
        if at > 1000 and not resets:
            resets.append(at)
            device.boot()

    with asked(device) as client:
        client.upload(MODEL, NEW, reset_once)
    assert device.flash.slots[MODEL][1].data == NEW
    assert device.flash.written == len(NEW)
