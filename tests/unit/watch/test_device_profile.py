# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is measured on a device, with boards of which each has other sensors."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer
from releases import activate, make_release, put

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._watch.profile import (
    WINDOWS,
    ProfileOptions,
    is_emulated,
    measure_profile,
)

GOLDEN = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}], "outputs": []}
# An answer to each question: which versions there are, and an inference.
ANSWER = json.dumps({"versions": ["1.0.0"], "model_version": "1.0.0", "outputs": []}).encode()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeServer]:
    with FakeServer(str(tmp_path / "s")) as server:
        server.reply = (200, ANSWER)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def options(tmp_path: Path, fake: FakeServer) -> ProfileOptions:
    return ProfileOptions(str(tmp_path / "store"), fake.path, "digits", 3, 0.05, root=str(tmp_path / "board"))


def hold(options: ProfileOptions, golden: bytes | None = json.dumps(GOLDEN).encode()) -> None:
    """Have the version in the store."""
    Path(options.store).mkdir()
    store = Store(options.store)
    put(store, make_release("1.0.0", golden=golden))
    activate(store, "digits", "1.0.0")


def sensor(options: ProfileOptions, number: int, microwatts: int) -> None:
    """Have a sensor of power."""
    chip = Path(options.root) / f"sys/class/hwmon/hwmon{number}"
    chip.mkdir(parents=True)
    (chip / "name").write_text(f"ina{number}\n")
    (chip / "power1_input").write_text(f"{microwatts}\n")


def test_a_board_without_sensors(options: ProfileOptions, fake: FakeServer) -> None:
    hold(options)
    found = measure_profile(options)
    assert (found["version"], found["variant"], found["device"]["emulated"]) == ("1.0.0", "onnx-fp32", False)
    assert [found[name] for name in ("idle_watts", "watts", "celsius_before", "celsius_max")] == [None] * 4
    assert found["joules"] == []
    asked = [json.loads(body) for method, path, body in fake.requests if path.endswith("/infer")]
    # The burst, and in each window one and more.
    assert len(asked) >= 3 + WINDOWS
    assert asked[0] == {"inputs": GOLDEN["inputs"]}
    assert found["burst"]["p50_seconds"] <= found["burst"]["p95_seconds"]


def test_a_board_that_measures_its_power(options: ProfileOptions) -> None:
    hold(options)
    sensor(options, 0, 2_000_000)
    found = measure_profile(options)
    # As much at work as at rest.
    assert (found["idle_watts"], found["watts"], found["joules"]) == (2.0, 2.0, [0.0] * WINDOWS)


def test_of_several_sensors_one_is_named(options: ProfileOptions) -> None:
    hold(options)
    sensor(options, 0, 2_000_000)
    sensor(options, 1, 5_000_000)
    with pytest.raises(ArgumentError, match=r"say which one has all of the board's power: ina0 power1, ina1 power1"):
        measure_profile(options)
    assert measure_profile(options._replace(power_sensor="ina1 power1"))["watts"] == 5.0
    with pytest.raises(ArgumentError, match=r"expected one of ina0 power1, ina1 power1; found other"):
        measure_profile(options._replace(power_sensor="other"))


def test_what_cannot_be_measured(options: ProfileOptions, fake: FakeServer) -> None:
    hold(options, golden=None)
    with pytest.raises(EdgemlError, match=r"digits 1.0.0: expected one model with golden inputs"):
        measure_profile(options)
    with pytest.raises(ArgumentError, match=r"expected burst >= 2 and seconds > 0; found 1 and 0.05"):
        measure_profile(options._replace(burst=1))
    fake.reply = (404, b"{}")
    with pytest.raises(EdgemlError, match="digits: nothing is served at"):
        measure_profile(options)


@pytest.mark.parametrize(
    ("path", "text", "emulated"),
    [
        ("proc/device-tree/compatible", "raspberrypi,4-model-b\0brcm,bcm2711\0", False),
        ("proc/device-tree/compatible", "linux,dummy-virt\0", True),
        ("sys/class/dmi/id/sys_vendor", "QEMU\n", True),
    ],
)
def test_a_virtual_machine_is_no_board(tmp_path: Path, path: str, text: str, emulated: bool) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
    assert is_emulated(str(tmp_path)) == emulated


def test_an_emulator_runs_the_programs(tmp_path: Path) -> None:
    process = tmp_path / "proc/1"
    process.mkdir(parents=True)
    (process / "exe").symlink_to("/usr/bin/qemu-aarch64-static")
    assert is_emulated(str(tmp_path))
