# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recipe: a network of PyTorch, to LiteRT (TensorFlow Lite) by litert-torch.

Publish it with:  edgeml-publish release --source litert_torch_digits.py …   (the model takes one image at a time)
Its holdout:      TRAINING/bin/python litert_torch_digits.py holdout.npz

litert-torch 0.10 says nothing of what it changes: whole numbers of 64 bits become those of 32, and resizing by
mode="nearest" to a size that is no multiple takes other pixels. `reference` asks PyTorch itself, so that
`edgeml-publish` finds it, if the holdout has such numbers: ids and times of real size.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import litert_torch
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn


def data() -> list[Any]:
    """Images to train on and to prove with, and their digits."""
    digits = load_digits()
    images = digits.images.astype(np.float32)[:, None]
    split: list[Any] = train_test_split(images, digits.target, test_size=500, random_state=0)
    return split


class Network(nn.Module):
    """From pixels, 0 to 16, to the probability of each digit."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 32), nn.ReLU(),
            nn.Linear(32, 10), nn.Softmax(dim=1),
        )  # fmt: skip

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"probabilities": self.layers(self.prepared(image))}

    def prepared(self, image: torch.Tensor) -> torch.Tensor:
        """The pixels as the layers take them."""
        return image / 16


@lru_cache(maxsize=1)
def model() -> Network:
    """The trained network; yours is read from where training left it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, _held_out, digits, _labels = data()
    inputs, wanted = torch.from_numpy(images), torch.from_numpy(digits)
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _epoch in range(8):
        for batch in torch.randperm(len(inputs)).split(32):
            optimiser.zero_grad()
            probabilities = network(inputs[batch])["probabilities"]
            nn.functional.nll_loss(torch.log(probabilities + 1e-9), wanted[batch]).backward()
            optimiser.step()
    network.eval()
    return network


def export(directory: str) -> None:
    """Write the network, for one image at a time."""
    made = litert_torch.convert(model(), sample_kwargs={"image": torch.zeros(1, 1, 8, 8)})
    made.export(str(Path(directory, "model.tflite")))


def reference(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What PyTorch computes."""
    with torch.no_grad():
        return {"probabilities": model()(torch.from_numpy(inputs["image"]))["probabilities"].numpy()}


if __name__ == "__main__":
    _images, held_out, _digits, labels = data()
    np.savez_compressed(sys.argv[1], image=held_out, labels=labels)
