# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A gateway and an emulated microcontroller: its swaps, by the code that a gateway has, of firmware that runs."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import microcontroller
import numpy as np
import pytest
from mcu_images import Digits, Images
from microcontrollers import BUILT, MAP, sign_model
from serial_bridge import SerialBridge

from ansible_collections.edgeml.fleet.plugins.module_utils._device.describe import answer_info
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import InfoRequest, SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import ModelServer
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.swap import Swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.transitions import DEVICE
from ansible_collections.edgeml.fleet.plugins.module_utils._release.mcu_image import parse_image
from ansible_collections.edgeml.fleet.plugins.module_utils._smp.client import SmpClient
from ansible_collections.edgeml.fleet.plugins.module_utils._smp.ports import open_port


class Meter:
    """A microcontroller that a gateway reaches by `address`, with its store."""

    def __init__(self, directory: Path, firmware: Path, model: Path | None) -> None:
        directory.mkdir()
        (directory / "store").mkdir()
        self.store = Store(str(directory / "store"))
        self._flash, self._socket = directory / "flash", directory / "serial"
        self._process: subprocess.Popen[bytes] | None = None
        microcontroller.manufacture(BUILT / "build", self._flash, firmware, model)
        self._bridge = SerialBridge(str(self._socket))
        self.address = self._bridge.address

    def __enter__(self) -> Meter:
        self.power_on()
        self._bridge.__enter__()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bridge.__exit__(None, None, None)
        self.power_off()

    def power_on(self) -> None:
        """Start it."""
        self._socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            microcontroller.command(BUILT / "build", self._flash, f"unix:{self._socket}"), stdout=subprocess.DEVNULL
        )

    def power_off(self) -> None:
        """Cut its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def power_cycle(self) -> None:
        """Off and on."""
        self.power_off()
        self.power_on()

    @contextlib.contextmanager
    def asked(self) -> Iterator[SmpClient]:
        """The gateway's client of it."""
        with open_port(self.address) as port:
            yield SmpClient(port, self.address)

    def swap(self, release: dict[str, Any], **options: Any) -> dict[str, Any]:
        """What `model_swap` says."""
        request = {
            "model": "digits",
            "version": release["document"]["version"],
            "manifest": release["document"],
            "inline_blobs": release["blobs"],
            "strategy": "smp",
            "server": self.address,
            "store": self.store.root,
            "min_ready_seconds": 0,
            "trial_seconds": 3600,
        }
        return answer_swap(SwapRequest(**{**request, **options}), check_mode=False)

    def look(self) -> str:
        """One look of the gateway's timer."""
        with self.store.lock():
            swap = Swap(self.store, "digits", DEVICE, ModelServer(strategy="smp", server=self.address))
            swap.recover()
            outcome = swap.check_trial()
            swap.notify_if_needed()
            return outcome

    def read(self) -> dict[str, Any]:
        """What `model_info` says."""
        return answer_info(InfoRequest(model="digits", probe=True, store=self.store.root, server=self.address))


def release(image: Path, digits: Digits, version: str, **changes: Any) -> dict[str, Any]:
    """A release of a signed model, with golden inputs and a probe set of its own answers."""
    parsed = parse_image(image.read_bytes())
    count = 8
    inputs = {"name": "image", "datatype": "INT8", "shape": [count, 64], "data": digits.inputs[:count].ravel().tolist()}
    outputs = digits.expected[:count]
    golden = {
        "inputs": [inputs],
        "outputs": [{"name": "scores", "datatype": "INT8", "shape": [count, 10], "data": outputs.ravel().tolist()}],
        "tolerance": {"absolute": 0, "relative": 0},
    }
    probe = {
        "inputs": [inputs],
        "output": "scores",
        "task": "class_scores",
        "labels": np.argmax(outputs, axis=1).tolist(),
    }
    contents = {
        "model.bin": image.read_bytes(),
        "golden.json": json.dumps(golden).encode(),
        "probe.json": json.dumps(probe).encode(),
    }
    entries = {
        name: {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    document = {
        "schema": 2,
        "model": "digits",
        "version": version,
        "golden": entries["golden.json"],
        "probe": entries["probe.json"],
        "variants": [
            {
                "name": "mcu",
                "format": "mcu-model",
                "architectures": ["mps2-an385"],
                "runtime": {"name": "mcu-firmware", "minimum": "1.0.0"},
                "memory_bytes": 8192,
                "entrypoint": "model.bin",
                "files": [entries["model.bin"]],
                "boot": {
                    "hash": parsed.hash.hex(),
                    "version": str(parsed.version),
                    "security_counter": parsed.security_counter,
                },
                **changes,
            }
        ],
    }
    blobs = {hashlib.sha256(content).hexdigest(): base64.b64encode(content).decode() for content in contents.values()}
    return {"document": document, "blobs": blobs}


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


def test_a_model_is_tried_measured_and_confirmed(meter: Meter, images: Images) -> None:
    result = meter.swap(release(images.new_model, images.new_digits, "1.1.0"))
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
    print(f"model of {size} bytes: {written} bytes of flash written by its swap")
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
    digest = hashlib.sha256(cut.read_bytes()).hexdigest()
    entry = good["document"]["variants"][0]["files"][0]
    entry.update(size=cut.stat().st_size, sha256=digest)
    good["blobs"][digest] = base64.b64encode(cut.read_bytes()).decode()
    result = meter.swap(good)
    assert "the image is cut off" in result["msg"]
    assert meter.read()["model"]["live"] == "1.0.0"
