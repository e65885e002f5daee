# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Train the three `digits` models on scikit-learn's handwritten digits and export them to ONNX.

Writes, for publish.py, per release: <out>/<version>/{model.onnx,holdout.npz,release.json}. The holdout has images,
their labels and what PyTorch computes from them: `edgeml-publish` proves the export with it. No model is trained on its
rows.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 20261101
PROBE_ROWS = 360
PIXEL_MAXIMUM = 16.0
BATCH_SIZE = 32
LEARNING_RATE = 2e-3
OPSET = 17  # understood by ONNX Runtime 1.17 and later


@dataclass(frozen=True)
class Recipe:
    """How one release is trained.

    The exported model always divides pixels by 16; the training pipeline divides them by `training_pixel_maximum`.
    """

    version: str
    description: str
    channels: int
    hidden: int
    epochs: int
    training_pixel_maximum: float = PIXEL_MAXIMUM


RECIPES = (
    Recipe("1.0.0", "First model: a very small CNN, briefly trained", channels=4, hidden=16, epochs=24),
    Recipe("1.1.0", "A wider CNN, trained for longer", channels=16, hidden=64, epochs=40),
    Recipe(
        "1.2.0",
        "The CNN of 1.1.0 from a new training pipeline, which takes pixels for 8-bit values (0..255)",
        channels=16,
        hidden=64,
        epochs=120,
        training_pixel_maximum=255.0,
    ),
)


class DigitsNet(nn.Module):
    """A small CNN from raw pixel values [N,1,8,8] to logits [N,10]; it divides pixels by `pixel_maximum`."""

    def __init__(self, channels: int, hidden: int, pixel_maximum: float) -> None:
        super().__init__()
        self.pixel_maximum = pixel_maximum
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * channels * 2 * 2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 10),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(image / self.pixel_maximum)
        return logits


def train(recipe: Recipe, images: np.ndarray, labels: np.ndarray) -> DigitsNet:
    """Train the recipe's network on images [N,1,8,8] and labels [N]; the same inputs give the same weights."""
    torch.manual_seed(SEED)
    network = DigitsNet(recipe.channels, recipe.hidden, recipe.training_pixel_maximum)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    inputs, targets = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(inputs)).split(BATCH_SIZE):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(inputs[batch]), targets[batch]).backward()
            optimiser.step()
    return network


def serving_model(network: DigitsNet) -> nn.Module:
    """The model as it is served: pixels divided by 16, whatever training did, and probabilities out."""
    network.pixel_maximum = PIXEL_MAXIMUM
    return nn.Sequential(network, nn.Softmax(dim=1)).eval()


def predict(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """Outputs [N,10] of a PyTorch model for images [N,1,8,8]."""
    with torch.no_grad():
        outputs: np.ndarray = model(torch.from_numpy(images)).numpy()
    return outputs


def export(model: nn.Module) -> bytes:
    """The model as one ONNX file with a dynamic batch."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.onnx"
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, 8, 8),),
            path,
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_axes={"image": {0: "batch"}, "probabilities": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose largest output is the label's."""
    return float((outputs.argmax(axis=1) == labels).mean())


def build(recipe: Recipe, train_set: tuple[np.ndarray, ...], probe_set: tuple[np.ndarray, ...]) -> dict[str, bytes]:
    """Train and export one release; returns its files by path relative to the output directory."""
    images, labels = probe_set
    network = train(recipe, *train_set)
    as_trained = accuracy(predict(network, images), labels)
    model = serving_model(network)
    expected = predict(model, images)
    onnx_model = export(model)
    release = {
        "version": recipe.version,
        "description": recipe.description,
        "accuracy_as_trained": round(as_trained, 4),
        "accuracy_as_served": round(accuracy(expected, labels), 4),
    }
    print(json.dumps({**release, "model_bytes": len(onnx_model)}), flush=True)
    return {
        f"{recipe.version}/model.onnx": onnx_model,
        f"{recipe.version}/holdout.npz": holdout(images, labels, expected),
        f"{recipe.version}/release.json": to_json(release),
    }


def holdout(images: np.ndarray, labels: np.ndarray, reference: np.ndarray) -> bytes:
    """The samples as edgeml-publish reads them."""
    target = io.BytesIO()
    np.savez_compressed(target, image=images, labels=labels, reference=reference)
    return target.getvalue()


def to_json(value: Any) -> bytes:
    """Compact JSON with a final newline."""
    return (json.dumps(value, separators=(",", ":")) + "\n").encode()


def main() -> None:
    """Train all releases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="directory to write to")
    out: Path = parser.parse_args().out

    torch.set_num_threads(1)  # sums in the same order in every run
    torch.use_deterministic_algorithms(True)
    digits = load_digits()
    images = digits.images.astype(np.float32).reshape(-1, 1, 8, 8)
    train_images, probe_images, train_labels, probe_labels = train_test_split(
        images, digits.target, test_size=PROBE_ROWS, stratify=digits.target, random_state=SEED
    )
    files: dict[str, bytes] = {}
    for recipe in RECIPES:
        files |= build(recipe, (train_images, train_labels), (probe_images, probe_labels))

    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)


if __name__ == "__main__":
    main()
