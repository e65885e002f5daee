# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What microcontrollers of tests run: firmware and digits models, and what the models answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from microcontrollers import BUILT, Microcontroller


@dataclass(frozen=True)
class Digits:
    """A digits model: its file, and what it answers."""

    payload: Path
    inputs: Any  # int8 [N, 64]
    expected: Any  # int8 [N, 10]

    @classmethod
    def of(cls, version: str) -> Digits:
        """The one that tools/mcu made."""
        arrays = np.load(BUILT / "models" / f"{version}.npz")
        return cls(BUILT / "models" / f"{version}.tflite", arrays["inputs"], arrays["expected"])

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
