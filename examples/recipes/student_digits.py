# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recipe: a network with a third of the weights of pytorch_digits.py, which learns from its answers (distillation).

Its holdout:  TRAINING/bin/python student_digits.py holdout.npz

The answers of the larger network say more than the right digit: which other digits an image is like. Divided by a
temperature, they say it louder.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import pytorch_digits as original

CHANNELS, HIDDEN = 6, 24
EPOCHS = 60
TEMPERATURE = 3.0
# How much the teacher's answers count, beside the right digits.
SHARE = 0.7


@lru_cache(maxsize=1)
def model() -> original.Network:
    """The student, trained by the larger network's answers and by the right digits."""
    teacher = original.model()
    images, _held_out, _digits, _labels = original.data()
    with torch.no_grad():
        alike = torch.softmax(teacher.scores(torch.from_numpy(images)) / TEMPERATURE, dim=1)

    def loss(scores: torch.Tensor, digits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        as_the_teacher = torch.nn.functional.cross_entropy(scores / TEMPERATURE, alike[rows])
        # The square makes up for the gradients, which the temperature makes smaller.
        return (1 - SHARE) * original.right_digits(scores, digits, rows) + SHARE * TEMPERATURE**2 * as_the_teacher

    torch.manual_seed(2)
    return original.train(original.Network(CHANNELS, HIDDEN), epochs=EPOCHS, rate=3e-3, loss=loss)


def export(directory: str) -> None:
    """Write the model."""
    original.write(model(), directory)


def reference(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What PyTorch computes."""
    return original.answers(model(), inputs)


if __name__ == "__main__":
    original.write_holdout(sys.argv[1])
