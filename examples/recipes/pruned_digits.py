# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recipe: the network of pytorch_digits.py with half of its channels and hidden units (structured pruning).

Its holdout:  TRAINING/bin/python pruned_digits.py holdout.npz

Weights that are only set to zero make no file smaller and no device faster: whole channels have to go. Those with the
smallest weights go, and what is left is trained a little more.
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

CHANNELS, HIDDEN = 8, 16
EPOCHS = 6
# The pixels of a channel after the pooling, which the first hidden layer takes.
PIXELS = 16


def largest(weights: torch.Tensor, count: int) -> torch.Tensor:
    """The outputs of a layer with the largest weights, in their order."""
    sizes = weights.detach().abs().flatten(1).sum(dim=1)
    return torch.sort(torch.topk(sizes, count).indices).values


def without_the_smallest(network: original.Network) -> original.Network:
    """A smaller network that has the largest channels and hidden units of ``network``."""
    smaller = original.Network(CHANNELS, HIDDEN)
    convolution, hidden, last = (network.layers[place] for place in (0, 4, 6))
    channels, units = largest(convolution.weight, CHANNELS), largest(hidden.weight, HIDDEN)
    pixels = (channels[:, None] * PIXELS + torch.arange(PIXELS)).flatten()
    kept = {
        0: (convolution.weight[channels], convolution.bias[channels]),
        4: (hidden.weight[units][:, pixels], hidden.bias[units]),
        6: (last.weight[:, units], last.bias),
    }
    with torch.no_grad():
        for place, (weight, bias) in kept.items():
            smaller.layers[place].weight.copy_(weight)
            smaller.layers[place].bias.copy_(bias)
    smaller.eval()
    return smaller


@lru_cache(maxsize=1)
def model() -> original.Network:
    """The pruned network, trained again."""
    pruned = without_the_smallest(original.model())
    torch.manual_seed(1)
    return original.train(pruned, epochs=EPOCHS, rate=2e-3)


def export(directory: str) -> None:
    """Write the model."""
    original.write(model(), directory)


def reference(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What PyTorch computes."""
    return original.answers(model(), inputs)


if __name__ == "__main__":
    original.write_holdout(sys.argv[1])
