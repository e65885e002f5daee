# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A microcontroller behind a gateway: its swaps, trials and ways back, and what is left when either loses power."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from releases import Made, make_release
from smp_peer import (
    DEVICE_CLASS,
    FIRMWARE,
    INPUTS,
    MODEL,
    Flash,
    Microcontroller,
    answer_of,
    hash_of,
    signed_image,
    version_of,
)

from ansible_collections.edgeml.fleet.plugins.module_utils._device import recovery, smp_strategy, swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.describe import answer_info
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import InfoRequest, SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import ModelServer
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.swap import Swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.transitions import DEVICE
from ansible_collections.edgeml.fleet.plugins.module_utils._smp.client import RefusedError, SmpClient
from ansible_collections.edgeml.fleet.plugins.module_utils._smp.ports import SerialPort

SAMPLES = [[1.0, 2.0, 3.0, 4.0], [-8.0, 8.5, 0.0, 20.0], [30.0, 30.0, -1.5, 0.5]]
SCALE = 0.5


class KilledError(BaseException):
    """The gateway is gone in the middle of a call."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that is lost, or a microcontroller that is gone, costs the tests less time than on a real line."""
    monkeypatch.setattr(smp_strategy, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(smp_strategy, "BOOT_SECONDS", 0.5)
    monkeypatch.setattr(swap, "SERVER_RETURN_SECONDS", 0.5)


@pytest.fixture
def device() -> Iterator[Microcontroller]:
    with Microcontroller() as made:
        made.program(FIRMWARE, signed_image(b"firmware" * 20, (1, 2, 0), counter=2))
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return Store(str(tmp_path / "store"))


def whole(value: float) -> int:
    return max(-128, min(127, round(value / SCALE)))


def model(version: str, weight: int = 0x84, wrong: bool = False, **changes: Any) -> Made:
    """A release of a model: its golden outputs are those of its own weight, or of another one's if ``wrong``."""
    payload = bytes([weight]) + b"model" * 100
    numbers = tuple(int(part) for part in version.split("."))
    image = signed_image(payload, numbers, counter=changes.pop("counter", 1))  # type: ignore[arg-type]
    basis = bytes([0xFF]) if wrong else payload
    outputs = [value * SCALE for sample in SAMPLES for value in answer_of(basis, [whole(item) for item in sample])]
    inputs = {"name": "window", "datatype": "FP32", "shape": [3, INPUTS], "data": [x for row in SAMPLES for x in row]}
    golden = {
        "inputs": [inputs],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [3, 2], "data": outputs}],
        "tolerance": {"absolute": 0.01, "relative": 0},
    }
    labels = [int(outputs[2 * row + 1] > outputs[2 * row]) for row in range(3)]
    probe = {"inputs": [inputs], "output": "scores", "labels": labels}
    variant = {
        "format": "mcu-model",
        "architectures": [DEVICE_CLASS],
        "runtime": {"name": "mcu-firmware", "minimum": changes.pop("firmware", "1.0.0")},
        "memory_bytes": changes.pop("memory_bytes", 12000),
        "boot": {
            "hash": hash_of(image).hex(),
            "version": version_of(image),
            "security_counter": changes.pop("says_counter", 1),
            "operators": changes.pop("operators", ["FULLY_CONNECTED"]),
        },
        **changes,
    }
    return release("digits", version, image, variant, golden=golden, probe=probe)


def firmware(version: str, counter: int = 2, **files: Any) -> Made:
    """A release of a firmware; ``files`` are those of a model of its own."""
    image = signed_image(f"firmware {version}".encode() * 50, tuple(map(int, version.split("."))), counter)  # type: ignore[arg-type]
    boot = {"hash": hash_of(image).hex(), "version": version_of(image), "security_counter": counter}
    variant = {
        "format": "mcu-image",
        "architectures": [DEVICE_CLASS],
        "runtime": {"name": "mcuboot", "minimum": "1.0.0"},
        "memory_bytes": 0,
        "boot": boot,
    }
    return release("firmware", version, image, variant, **files)


def release(name: str, version: str, image: bytes, variant: dict[str, Any], **files: Any) -> Made:
    contents = {kind: json.dumps(content).encode() for kind, content in files.items()}
    made = make_release(version, name, {"image.bin": image}, **contents)
    made.document["variants"][0].update(variant, name="mcu")
    return made


def swapped(store: Store, device: Microcontroller, made: Made, **options: Any) -> dict[str, Any]:
    """The result of a call of ``model_swap``; files that are lacking come with it."""
    request = SwapRequest(
        **{
            "model": made.document["model"],
            "version": made.document["version"],
            "manifest": made.document,
            "strategy": "smp",
            "server": device.address,
            "store": store.root,
            "min_ready_seconds": 0,
            "trial_seconds": 60,
            "inline_blobs": {name: _base64(content) for name, content in made.blobs.items()},
            **options,
        }
    )
    return answer_swap(request, check_mode=options.pop("check_mode", False))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def opened(store: Store, device: Microcontroller, name: str = "digits") -> Swap:
    return Swap(store, name, DEVICE, ModelServer(strategy="smp", server=device.address))


def look(store: Store, device: Microcontroller, name: str = "digits") -> str:
    """One look of the timer."""
    with store.lock():
        found = opened(store, device, name)
        found.recover()
        outcome = found.check_trial()
        found.notify_if_needed()
        return outcome


def commit(store: Store, device: Microcontroller, monkeypatch: pytest.MonkeyPatch, name: str = "digits") -> None:
    """Let the trial's time pass."""
    monkeypatch.setattr(recovery, "boot_seconds", lambda: 1e12)
    assert look(store, device, name).startswith("commit")
    monkeypatch.undo()
    monkeypatch.setattr(smp_strategy, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(smp_strategy, "BOOT_SECONDS", 0.5)
    monkeypatch.setattr(swap, "SERVER_RETURN_SECONDS", 0.5)


@pytest.fixture
def serving(store: Store, device: Microcontroller, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with 1.0.0 committed, which the microcontroller runs."""
    result = swapped(store, device, model("1.0.0"))
    assert not result.get("failed"), result
    commit(store, device, monkeypatch)
    return store


# ---- what goes well ----


def test_a_model_is_tried_and_confirmed_at_the_end_of_its_trial(
    serving: Store, device: Microcontroller, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = swapped(serving, device, model("1.1.0", 0x90))
    assert (result.get("failed"), result["live"], result["trial"]["returns_to"]) == (None, "1.1.0", "1.0.0")
    assert not device.flash.slots[MODEL][0].confirmed
    assert look(serving, device).startswith("wait")
    commit(serving, device, monkeypatch)
    assert device.flash.slots[MODEL][0].confirmed
    device.boot()
    assert (device.running(MODEL), serving.state("digits").trial) == ("1.1.0+0", None)
    assert swapped(serving, device, model("1.1.0", 0x90))["changed"] is False


def test_without_a_trial_it_is_confirmed_at_once(serving: Store, device: Microcontroller) -> None:
    swapped(serving, device, model("1.1.0", 0x90), trial_seconds=0)
    assert device.flash.slots[MODEL][0].confirmed
    assert serving.state("digits").active == "1.1.0"


def test_going_back_writes_no_flash(serving: Store, device: Microcontroller, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped(serving, device, model("1.1.0", 0x90))
    commit(serving, device, monkeypatch)
    written = device.flash.written
    result = swapped(serving, device, model("1.1.0", 0x90), state="previous", manifest=None, inline_blobs={})
    assert (result["live"], device.running(MODEL)) == ("1.0.0", "1.0.0+0")
    assert device.flash.slots[MODEL][0].confirmed
    assert device.flash.written == written


def test_a_release_is_held_without_touching_the_microcontroller(serving: Store, device: Microcontroller) -> None:
    written, resets = device.flash.written, device.flash.resets
    result = swapped(serving, device, model("1.1.0", 0x90), state="present")
    assert (result["changed"], serving.versions("digits")) == (True, ["1.0.0", "1.1.0"])
    assert (device.flash.written, device.flash.resets) == (written, resets)


def test_check_mode_says_the_same_and_changes_nothing(serving: Store, device: Microcontroller) -> None:
    seen = (device.flash.written, device.flash.resets)
    request = SwapRequest(
        model="digits",
        version="1.1.0",
        manifest=model("1.1.0", 0x90).document,
        strategy="smp",
        server=device.address,
        store=serving.root,
    )
    result = answer_swap(request, check_mode=True)
    assert (result["changed"], result["after"]["active"], result["live"]) == (True, "1.1.0", "1.0.0")
    assert (device.flash.written, device.flash.resets, serving.versions("digits")) == (*seen, ["1.0.0"])


@pytest.mark.parametrize("off", [0, 40])
def test_a_firmware_with_golden_inputs_of_its_own_is_asked_them(
    store: Store, device: Microcontroller, off: int
) -> None:
    """The peer's firmware has no model of its own: its slot's answers stand for them."""
    made = model("1.0.0")
    swapped(store, device, made, trial_seconds=0)
    golden = json.loads(made.blobs[made.document["golden"]["sha256"]])
    golden["outputs"][0]["data"][0] += off
    result = swapped(store, device, firmware("1.3.0", golden=golden))
    if off:
        assert "golden test: output" in result["msg"]
        assert device.running(FIRMWARE) == "1.2.0+0"
    else:
        assert (result.get("failed"), result["live"], device.running(FIRMWARE)) == (None, "1.3.0", "1.3.0+0")


def test_the_first_version_is_left_for_what_was_there_before(store: Store, device: Microcontroller) -> None:
    """The firmware of the factory is in no store."""
    swapped(store, device, firmware("1.3.0"), trial_seconds=0)
    assert device.running(FIRMWARE) == "1.3.0+0"
    result = swapped(store, device, firmware("1.3.0"), state="previous", manifest=None, inline_blobs={})
    assert (result.get("failed"), result["live"], device.running(FIRMWARE)) == (None, None, "1.2.0+0")
    assert device.flash.slots[FIRMWARE][0].confirmed


# ---- what is refused, and what fails ----


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architectures": ["nrf52840"]}, f"built for nrf52840; the device is {DEVICE_CLASS}"),
        ({"firmware": "1.3.0"}, "needs mcu-firmware >= 1.3.0; the device has 1.2.0"),
        ({"memory_bytes": 40000}, "needs 40000 bytes of memory; the device has 40000, of which 20% are to stay free"),
        ({"operators": ["CONV_2D", "FULLY_CONNECTED"]}, "needs operators that the firmware 1.2.0+0 lacks: CONV_2D"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_a_byte_is_sent(
    serving: Store, device: Microcontroller, changes: dict[str, Any], reason: str
) -> None:
    device.seen.clear()
    result = swapped(serving, device, model("1.1.0", 0x90, **changes))
    assert (result["failed"], result["refused"], result["live"]) == (True, True, "1.0.0")
    assert reason in result["msg"]
    assert (1, 1) not in device.seen


def test_an_older_security_counter_is_refused_before_a_byte_is_sent(store: Store, device: Microcontroller) -> None:
    result = swapped(store, device, firmware("1.3.0", counter=1))
    assert "has the security counter 1; the microcontroller has 2" in result["msg"]
    assert (1, 1) not in device.seen


def test_an_image_that_is_not_what_the_release_says_is_refused(serving: Store, device: Microcontroller) -> None:
    result = swapped(serving, device, model("1.1.0", 0x90, says_counter=7))
    assert "expected hash, version and counter" in result["msg"]
    assert (result["live"], device.running(MODEL)) == ("1.0.0", "1.0.0+0")


def test_a_wrong_key_leaves_the_old_model_answering(serving: Store, device: Microcontroller) -> None:
    bad = model("1.1.0", 0x90)
    device.refuses.add(bytes.fromhex(bad.document["variants"][0]["boot"]["hash"]))
    result = swapped(serving, device, bad)
    assert (result["failed"], result["live"]) == (True, "1.0.0")
    assert "does not run after a reset: signature. It runs 1.0.0+0" in result["msg"]
    assert "1.1.0" in serving.state("digits").failed


def test_a_model_with_wrong_answers_goes_back_at_once(serving: Store, device: Microcontroller) -> None:
    result = swapped(serving, device, model("1.1.0", 0x90, wrong=True))
    assert (result["failed"], result["live"], device.running(MODEL)) == (True, "1.0.0", "1.0.0+0")
    assert "golden test: output 'scores' at [" in result["msg"]
    assert device.flash.slots[MODEL][0].confirmed


def test_a_model_that_takes_too_long_goes_back_at_once(serving: Store, device: Microcontroller) -> None:
    device.microseconds = 90_000
    result = swapped(serving, device, model("1.1.0", 0x90, latency_seconds_max=0.05))
    assert "an inference takes 0.0900 s; the release allows 0.05 s" in result["msg"]
    assert device.running(MODEL) == "1.0.0+0"


def test_a_crash_during_the_trial_ends_it(serving: Store, device: Microcontroller) -> None:
    swapped(serving, device, model("1.1.0", 0x90))
    device.boot()
    assert look(serving, device) == "revert: the microcontroller went back: it runs 1.0.0+0"
    assert (serving.state("digits").active, device.running(MODEL)) == ("1.0.0", "1.0.0+0")


def test_one_that_stays_silent_ends_its_trial_and_is_brought_back_when_it_answers(
    serving: Store, device: Microcontroller
) -> None:
    swapped(serving, device, model("1.1.0", 0x90))
    device.is_dead = True
    outcomes = [look(serving, device).split(":")[0] for _look in range(4)]
    assert outcomes == ["wait", "wait", "wait", "revert"]
    # It never lost power, and still runs what nobody confirmed.
    device.is_dead = False
    assert look(serving, device) == "no trial"
    assert (device.running(MODEL), device.flash.slots[MODEL][0].confirmed) == ("1.0.0+0", True)


def test_a_silent_microcontroller_is_no_fault_of_the_version(serving: Store, device: Microcontroller) -> None:
    device.is_dead = True
    result = swapped(serving, device, model("1.1.0", 0x90))
    assert (result["failed"], result["refused"], result["server_down"]) == (True, True, True)
    assert serving.state("digits").failed == {}


def test_a_firmware_is_not_tried_while_a_model_is(serving: Store, device: Microcontroller) -> None:
    swapped(serving, device, model("1.1.0", 0x90))
    result = swapped(serving, device, firmware("1.3.0"))
    assert "image 1 (1.1.0+0) is on trial, which a reset would end" in result["msg"]
    assert device.running(MODEL) == "1.1.0+0"


def test_a_firmware_with_which_the_model_answers_otherwise_goes_back(
    serving: Store, device: Microcontroller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(data: bytes) -> dict[str, Any]:
        if device.running(FIRMWARE) == "1.3.0+0":
            return {"o": b"\x7f\x7f", "us": 1}
        return Microcontroller._infer(device, data)

    monkeypatch.setattr(device, "_infer", broken)
    result = swapped(serving, device, firmware("1.3.0"))
    assert "golden test" in result["msg"]
    assert (device.running(FIRMWARE), device.flash.slots[FIRMWARE][0].confirmed) == ("1.2.0+0", True)


def test_a_model_of_another_kind_is_refused(serving: Store, device: Microcontroller) -> None:
    made = make_release("1.1.0")
    made.document["variants"][0].update(architectures=[DEVICE_CLASS], memory_bytes=0)
    result = swapped(serving, device, made)
    assert "expected the format mcu-image or mcu-model for a microcontroller; found onnx" in result["msg"]


def test_a_server_takes_no_image_of_a_microcontroller(store: Store) -> None:
    made = model("1.0.0", architectures=["x86_64", "aarch64"])
    request = SwapRequest("digits", "1.0.0", manifest=made.document, strategy="none", store=store.root)
    assert "is for a microcontroller: expected the strategy smp" in answer_swap(request, check_mode=True)["msg"]


# ---- what it says of itself ----


def test_it_is_read_and_measured_through_its_port(serving: Store, device: Microcontroller) -> None:
    result = answer_info(InfoRequest(model="digits", probe=True, store=serving.root, server=device.address))
    assert result["server_live"] is True
    found = result["model"]
    assert (found["live"], found["probe"]["version"], found["probe"]["accuracy"]) == ("1.0.0", "1.0.0", 1.0)
    # What the microcontroller took, and not the line.
    assert found["probe"]["latency_seconds"] == pytest.approx(0.0015)
    assert found["requests"]["errors"] == 0
    assert result["device"]["architecture"] == DEVICE_CLASS
    assert result["device"]["runtimes"]["mcu-firmware"] == "1.2.0+0"
    assert result["device"]["flash"]["written_bytes"] == device.flash.written


def test_resets_and_errors_are_counted_since_the_activation(serving: Store, device: Microcontroller) -> None:
    def measured() -> dict[str, Any]:
        found: dict[str, Any] = answer_info(InfoRequest(model="digits", store=serving.root, server=device.address))
        return dict(found["model"])

    assert measured()["restarts"] == 0
    device.boot()
    device._infer(b"")
    assert (measured()["restarts"], measured()["requests"]["errors"]) == (1, 1)


def test_starts_before_a_version_and_the_one_that_begins_it_are_not_its_restarts(
    serving: Store, device: Microcontroller
) -> None:
    for _start in range(5):
        device.boot()
    assert swapped(serving, device, model("1.1.0", weight=0x85))["live"] == "1.1.0"

    def restarts() -> Any:
        found = answer_info(InfoRequest(model="digits", store=serving.root, server=device.address))
        return found["model"]["restarts"]

    assert restarts() == 0
    device.boot()
    assert swapped(serving, device, model("1.2.0", weight=0x86))["live"] == "1.2.0"
    assert restarts() == 0


def test_a_silent_one_is_said_to_be_silent(serving: Store, device: Microcontroller) -> None:
    device.is_dead = True
    result = answer_info(InfoRequest(model="digits", store=serving.root, server=device.address))
    assert (result["server_live"], result["model"]["live"], result["model"]["active"]) == (False, None, "1.0.0")


def test_one_that_was_replaced_gets_its_model_again(serving: Store, device: Microcontroller) -> None:
    fresh = Flash()
    device.flash = fresh
    device.program(FIRMWARE, signed_image(b"firmware" * 20, (1, 2, 0), counter=2))
    assert answer_info(InfoRequest(model="digits", store=serving.root, server=device.address))["model"]["live"] is None
    look(serving, device)
    assert (device.running(MODEL), fresh.slots[MODEL][0].confirmed) == ("1.0.0+0", True)


# ---- power ----


def agrees(store: Store, device: Microcontroller, versions: set[str]) -> None:
    """What the store says is what runs; only what is on trial is not confirmed."""
    state = store.state("digits")
    assert state.active in versions
    assert device.running(MODEL) == f"{state.active}+0"
    assert device.flash.slots[MODEL][0].confirmed == (state.trial is None)
    assert not device.flash.slots[MODEL][1].pending


def sends(monkeypatch: pytest.MonkeyPatch, killed_at: int | None) -> list[int]:
    """Count the frames that the gateway sends, and end it before one of them."""
    count: list[int] = []
    send = SerialPort.send

    def counted(port: SerialPort, frame: bytes) -> None:
        count.append(len(frame))
        if len(count) == killed_at:
            raise KilledError
        send(port, frame)

    monkeypatch.setattr(SerialPort, "send", counted)
    return count


def test_a_gateway_that_dies_at_a_frame_of_a_swap_leaves_both_agreed(
    serving: Store, device: Microcontroller, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(1, 200, 4))
    while True:
        number = next(numbers)
        with monkeypatch.context() as patched:
            count = sends(patched, number)
            try:
                result = swapped(serving, device, model("1.1.0", 0x90), retry=True)
            except KilledError:
                result = None
        if result is not None:
            break
        assert number < 190
        look(serving, device)
        agrees(serving, device, {"1.0.0", "1.1.0"})
        if serving.state("digits").active == "1.1.0":
            swapped(serving, device, model("1.1.0", 0x90), state="previous", manifest=None, inline_blobs={})
    assert len(count) > 20
    agrees(serving, device, {"1.1.0"})


def test_a_microcontroller_that_loses_power_at_a_frame_of_a_swap_runs_the_old_version_or_the_new(
    serving: Store, device: Microcontroller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smp_strategy, "ANSWER_SECONDS", 0.005)
    monkeypatch.setattr(smp_strategy, "BOOT_SECONDS", 0.05)
    monkeypatch.setattr(swap, "SERVER_RETURN_SECONDS", 0.0)
    number = 0
    while True:
        number += 5
        device.cut_at = device.frames + number
        result = swapped(serving, device, model("1.1.0", 0x90), retry=True)
        was_cut, device.cut_at = device.is_dead, None
        device.power_on()
        monkeypatch.setattr(smp_strategy, "ANSWER_SECONDS", 1.0)
        look(serving, device)
        agrees(serving, device, {"1.0.0", "1.1.0"})
        if not was_cut:
            break
        assert result.get("failed") or result["live"] in ("1.1.0", None)
        if serving.state("digits").active == "1.1.0":
            swapped(serving, device, model("1.1.0", 0x90), state="previous", manifest=None, inline_blobs={})
        monkeypatch.setattr(smp_strategy, "ANSWER_SECONDS", 0.005)
    assert number > 20


def test_a_confirmation_that_does_not_arrive_leaves_the_trial_going_on(
    serving: Store, device: Microcontroller, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped(serving, device, model("1.1.0", 0x90))
    monkeypatch.setattr(recovery, "boot_seconds", lambda: 1e12)
    monkeypatch.setattr(SmpClient, "confirm", lambda _client, _hash: _refuse())
    assert look(serving, device).startswith("wait: it cannot be confirmed")
    assert serving.state("digits").trial is not None


def _refuse() -> None:
    raise RefusedError("port: busy", 10)


# ---- several behind one gateway ----


def test_microcontrollers_of_one_kind_take_one_file_from_the_gateway(tmp_path: Path) -> None:
    stores = []
    for name in ("meter-1", "meter-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "neighbours").symlink_to("..")
        stores.append(Store(str(tmp_path / name)))
    made = model("1.0.0")
    with Microcontroller() as first, Microcontroller() as second:
        for each in (first, second):
            each.program(FIRMWARE, signed_image(b"firmware" * 20, (1, 2, 0), counter=2))
        assert not swapped(stores[0], first, made).get("failed")
        result = swapped(stores[1], second, made, inline_blobs={})
        assert (result.get("failed"), result["live"], result["missing_blobs"]) == (None, "1.0.0", [])


def test_a_neighbours_damaged_file_is_not_taken(tmp_path: Path) -> None:
    made = model("1.0.0")
    digest = next(iter(made.blobs))
    for name in ("meter-1", "meter-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "neighbours").symlink_to("..")
    blobs = tmp_path / "meter-1" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for name, content in made.blobs.items():
        (blobs / name).write_bytes(bytes(len(content)) if name == digest else content)
    with Microcontroller() as second:
        second.program(FIRMWARE, signed_image(b"firmware" * 20, (1, 2, 0), counter=2))
        result = swapped(Store(str(tmp_path / "meter-2")), second, made, inline_blobs={})
    assert "expected SHA-256" in result["msg"]
    assert Store(str(tmp_path / "meter-2")).versions("digits") == []
