# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What microcontrollers of tests run: firmware and digits models, and what the models answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from int8_model import Int8Model, Quantisation
from microcontrollers import BUILT, FIRMWARE_BINARY, Microcontroller, sign, sign_model


@dataclass(frozen=True)
class Digits:
    """A digits model: its file, and what it answers."""

    payload: Path
    inputs: Any  # int8 [N, 64]
    expected: Any  # int8 [N, 10]
    labels: Any  # [N]

    @classmethod
    def of(cls, version: str) -> Digits:
        """The one that tools/mcu made."""
        arrays = np.load(BUILT / "models" / f"{version}.npz")
        return cls(BUILT / "models" / f"{version}.tflite", arrays["inputs"], arrays["expected"], arrays["labels"])

    def wrong_answers(self, device: Microcontroller, count: int = 20) -> int:
        """How many of the first inputs the microcontroller answers otherwise."""
        pairs = zip(self.inputs[:count], self.expected[:count], strict=True)
        return sum(device.infer(values.tobytes()) != wanted.tobytes() for values, wanted in pairs)


@dataclass(frozen=True)
class Images:
    """Signed images: firmware 1.0.0 and 1.1.0, models 1.0.0 and 1.1.0."""

    firmware: Path
    new_firmware: Path
    model: Path
    new_model: Path
    digits: Digits
    new_digits: Digits

    @classmethod
    def signed(cls, directory: Path) -> Images:
        """Sign what tools/mcu built."""
        assert FIRMWARE_BINARY.exists(), "run `make mcu`, which builds the firmware first"
        old, new = Digits.of("1.0.0"), Digits.of("1.1.0")
        return cls(
            firmware=sign(FIRMWARE_BINARY, directory / "firmware-1.0.0", "1.0.0"),
            new_firmware=sign(FIRMWARE_BINARY, directory / "firmware-1.1.0", "1.1.0"),
            model=sign_model(old.payload, directory / "model-1.0.0", "1.0.0"),
            new_model=sign_model(new.payload, directory / "model-1.1.0", "1.1.0"),
            digits=old,
            new_digits=new,
        )


def relu_of(shape: tuple[int, ...], operator: int = schema.BuiltinOperator.RELU) -> bytes:
    """A model of one operator that takes a tensor to one of the same shape."""
    model = Int8Model()
    quantisation = Quantisation(0.1, 0)
    x = model.input(shape, quantisation)
    y = model.relu(x, quantisation)
    model._model.operatorCodes[0].builtinCode = model._model.operatorCodes[0].deprecatedBuiltinCode = operator
    return model.serialised(x, y)
