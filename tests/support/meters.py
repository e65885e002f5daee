# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Emulated microcontrollers as a gateway has them: each with a serial port and a store; and releases for them."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from boards import Board
from mcu_images import Digits
from releases import Made, file_entry, sha256
from serial_bridge import Damage, SerialBridge

from ansible_collections.edgeml.fleet.plugins.module_utils._device import microcontrollers
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


class Meter(Board):
    """A microcontroller that a gateway, this machine, reaches by `address`, with its store."""

    def __init__(self, directory: Path, firmware: Path, model: Path | None, bits_per_second: int = 0) -> None:
        super().__init__(directory, firmware, model)
        (directory / "store").mkdir()
        self.store = Store(str(directory / "store"))
        # What becomes of the bytes between it and its gateway.
        self.damage: Damage = bytes
        self._bridge = SerialBridge(str(self.line), lambda data: self.damage(data), bits_per_second)
        self.address = self._bridge.address + (f"@{bits_per_second}" if bits_per_second else "")

    def __enter__(self) -> Meter:
        self.power_on()
        self._bridge.__enter__()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bridge.__exit__()
        self.power_off()

    @contextlib.contextmanager
    def asked(self) -> Iterator[SmpClient]:
        """The gateway's client of it."""
        with open_port(self.address) as port:
            yield SmpClient(port, self.address)

    def swap(self, made: Made, **options: Any) -> dict[str, Any]:
        """What `model_swap` says."""
        return answer_swap(SwapRequest(**self.request(made, **options)), check_mode=False)

    def request(self, made: Made, **options: Any) -> dict[str, Any]:
        """What `model_swap` is asked."""
        return {
            "model": "digits",
            "version": made.document["version"],
            "manifest": made.document,
            "inline_blobs": {name: base64.b64encode(content).decode() for name, content in made.blobs.items()},
            "strategy": "smp",
            "server": self.address,
            "store": self.store.root,
            "min_ready_seconds": 0,
            "trial_seconds": 3600,
            **options,
        }

    def watch(self) -> dict[str, Any]:
        """What `edgeml mcu watch` does, which the gateway's timer calls."""
        found = [microcontrollers.Microcontroller("meter", self.address, "mps2-an385", self.store.root)]
        result, _text = microcontrollers.watch(found)
        return result

    def look(self) -> str:
        """One look of the gateway's timer."""
        with self.store.lock():
            swap = Swap(self.store, "digits", DEVICE, ModelServer(strategy="smp", server=self.address))
            swap.recover()
            outcome = swap.check_trial()
            swap.notify_if_needed()
            return outcome

    def inventory(self, gateway: str) -> dict[str, Any]:
        """The variables of its host, whose gateway is this machine."""
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
            "device_class": "mps2-an385",
            "mcu_gateway": gateway,
            "rollout_server": {"strategy": "smp", "server": self.address, "store": self.store.root},
        }

    def read(self) -> dict[str, Any]:
        """What `model_info` says."""
        return answer_info(InfoRequest(model="digits", probe=True, store=self.store.root, server=self.address))


def release(image: Path, digits: Digits, version: str, labelled: int = 0, **changes: Any) -> Made:
    """A release of a signed model, with golden inputs, and a probe set of its own answers, or of the ``labelled`` first
    images with what they show."""
    parsed = parse_image(image.read_bytes())
    count = 8
    outputs = digits.expected[:count]
    golden = {
        "inputs": [_inputs(digits, count)],
        "outputs": [{"name": "scores", "datatype": "INT8", "shape": [count, 10], "data": outputs.ravel().tolist()}],
        "tolerance": {"absolute": 0, "relative": 0},
    }
    labels = digits.labels[:labelled] if labelled else np.argmax(outputs, axis=1)
    probe = {
        "inputs": [_inputs(digits, labelled or count)],
        "output": "scores",
        "task": "class_scores",
        "labels": labels.tolist(),
    }
    contents = {
        "model.bin": image.read_bytes(),
        "golden.json": json.dumps(golden).encode(),
        "probe.json": json.dumps(probe).encode(),
    }
    entries = {name: file_entry(name, content) for name, content in contents.items()}
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
    return Made(document, {sha256(content): content for content in contents.values()})


def _inputs(digits: Digits, count: int) -> dict[str, Any]:
    """The first inputs, as golden files and probe sets have them."""
    return {"name": "image", "datatype": "INT8", "shape": [count, 64], "data": digits.inputs[:count].ravel().tolist()}
