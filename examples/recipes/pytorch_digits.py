# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recipe: a network of PyTorch, to ONNX by the current exporter (dynamo).

Its holdout:  TRAINING/bin/python pytorch_digits.py holdout.npz
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

OPSET = 18
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def data() -> list[Any]:
    """Images to train on and to prove with, and their digits."""
    digits = load_digits()
    images = digits.images.astype(np.float32)[:, None]
    split: list[Any] = train_test_split(images, digits.target, test_size=500, random_state=0)
    return split


class Network(nn.Module):
    """From pixels, 0 to 16, to the probability of each digit. ``channels`` and ``hidden`` are its sizes."""

    def __init__(self, channels: int = 16, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(16 * channels, hidden), nn.ReLU(), nn.Linear(hidden, 10),
        )  # fmt: skip

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.scores(image), dim=1)

    def scores(self, image: torch.Tensor) -> torch.Tensor:
        """What the probabilities are made of."""
        scores: torch.Tensor = self.layers(image / 16)
        return scores


def right_digits(scores: torch.Tensor, digits: torch.Tensor, _rows: torch.Tensor) -> torch.Tensor:
    """The usual loss: how far the scores are from the right digits."""
    return nn.functional.cross_entropy(scores, digits)


def train(network: Network, epochs: int, rate: float, loss: Loss = right_digits) -> Network:
    """Train a network. ``loss`` gets its scores, the right digits, and which of the training images they are of."""
    torch.set_num_threads(1)
    images, _held_out, digits, _labels = data()
    inputs, wanted = torch.from_numpy(images), torch.from_numpy(digits)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    for _epoch in range(epochs):
        for rows in torch.randperm(len(inputs)).split(32):
            optimiser.zero_grad()
            loss(network.scores(inputs[rows]), wanted[rows], rows).backward()
            optimiser.step()
    network.eval()
    return network


@lru_cache(maxsize=1)
def model() -> Network:
    """The trained network; yours is read from where training left it."""
    torch.manual_seed(0)
    return train(Network(), epochs=16, rate=3e-3)


def write(network: Network, directory: str) -> None:
    """Write a network as ONNX, for batches of any size."""
    torch.onnx.export(
        network,
        (torch.zeros(2, 1, 8, 8),),
        str(Path(directory, "model.onnx")),
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
    )


def answers(network: Network, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What PyTorch computes of a network."""
    with torch.no_grad():
        return {"probabilities": network(torch.from_numpy(inputs["image"])).numpy()}


def export(directory: str) -> None:
    """Write the model."""
    write(model(), directory)


def reference(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What PyTorch computes."""
    return answers(model(), inputs)


def write_holdout(path: str) -> None:
    """Write the images that no network was trained by."""
    _images, held_out, _digits, labels = data()
    np.savez_compressed(path, image=held_out, labels=labels)


if __name__ == "__main__":
    write_holdout(sys.argv[1])
