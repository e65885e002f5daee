# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recipe: a network of PyTorch, to ONNX by the current exporter (dynamo).

Its holdout:  TRAINING/bin/python pytorch_digits.py holdout.npz
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

OPSET = 18


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

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        probabilities: torch.Tensor = self.layers(image / 16)
        return probabilities


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
            nn.functional.nll_loss(torch.log(network(inputs[batch]) + 1e-9), wanted[batch]).backward()
            optimiser.step()
    network.eval()
    return network


def export(directory: str) -> None:
    """Write the network, for batches of any size."""
    torch.onnx.export(
        model(),
        (torch.zeros(2, 1, 8, 8),),
        str(Path(directory, "model.onnx")),
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
    )


def reference(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What PyTorch computes."""
    with torch.no_grad():
        return {"probabilities": model()(torch.from_numpy(inputs["image"])).numpy()}


if __name__ == "__main__":
    _images, held_out, _digits, labels = data()
    np.savez_compressed(sys.argv[1], image=held_out, labels=labels)
