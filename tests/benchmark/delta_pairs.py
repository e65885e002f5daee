# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make pairs of real models, an older and a newer version of each, for ``delta_sizes.py``.

Needs ``requirements-deltas.txt``. Writes ``OUT/NAME/old/FILE`` and ``OUT/NAME/new/FILE``. All networks learn
scikit-learn's handwritten digits: the CNN of ``examples/digits``, and a ResNet-18 in its usual size (11 million
weights), whose images are enlarged.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples" / "digits"))

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from torch import nn
from train import DigitsNet

SEED = 20261129
ROWS_BEFORE = 1000
RESNET_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
_OPSET = 17


class Block(nn.Module):
    """Two convolutions, and a way past them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.past = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.past = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(self.main(values) + self.past(values))


def resnet() -> nn.Sequential:
    """ResNet-18 for ten classes."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    inputs = 64
    for outputs, stride in RESNET_STAGES:
        layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def tuned(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int, rate: float, layers: str = ""
) -> nn.Module:
    """The network after some more epochs, of all its layers or of those whose names begin so."""
    network = copy.deepcopy(network).train()
    if layers:
        network.eval()
    chosen = [values for name, values in network.named_parameters() if name.startswith(layers)]
    optimiser = torch.optim.SGD(chosen, lr=rate, momentum=0.9)
    for _epoch in range(epochs):
        for batch in torch.randperm(len(images)).split(32):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimiser.step()
    return network.eval()


def save_onnx(network: nn.Module, path: Path, image: torch.Tensor) -> None:
    """Export for one image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(network, (image,), path, input_names=["image"], opset_version=_OPSET, dynamo=False)


def save_external(network: nn.Module, path: Path, image: torch.Tensor) -> None:
    """Export with the weights in a file of their own, ``path``."""
    save_onnx(network, path.parent / "model.onnx", image)
    model = onnx.load(path.parent / "model.onnx")
    onnx.save(model, path.parent / "model.onnx", save_as_external_data=True, location=path.name)


class Calibration(CalibrationDataReader):
    """Images for the ranges of an int8 model."""

    def __init__(self, images: torch.Tensor) -> None:
        self._images = iter(images[:100].numpy())

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def save_int8(network: nn.Module, path: Path, images: torch.Tensor) -> None:
    """Export, quantised to int8 with ranges and scales of its own."""
    whole = path.parent / "float.onnx"
    save_onnx(network, whole, images[:1])
    quantize_static(whole, path, Calibration(images), quant_format=QuantFormat.QDQ)
    whole.unlink()


def save_tflite(network: nn.Module, path: Path, image: torch.Tensor, int8: bool) -> None:
    """Export for LiteRT, as it is or with weights of int8."""
    # To import them takes longer than to train most networks here.
    import litert_torch
    from ai_edge_quantizer import quantizer, recipe

    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.parent / "float.tflite"
    litert_torch.convert(network, (image,)).export(str(made))
    if int8:
        packer = quantizer.Quantizer(str(made), recipe.dynamic_wi8_afp32())
        packer.quantize().export_model(str(path), overwrite=True)
        made.unlink()
    else:
        made.rename(path)


def forest(images: Any, labels: Any, path: Path) -> None:
    """A random forest of a hundred trees."""
    path.parent.mkdir(parents=True, exist_ok=True)
    model = RandomForestClassifier(100, random_state=SEED).fit(images, labels)
    path.write_bytes(to_onnx(model, images[:1], options={id(model): {"zipmap": False}}).SerializeToString())


Save = Callable[[nn.Module, Path], None]


class Pairs:
    """The pairs of a directory, and the images that their models learn."""

    def __init__(self, out: Path) -> None:
        self._out = out
        torch.manual_seed(SEED)
        # Threads that wait for each other cost small networks more than they gain, and everything on a busy machine.
        torch.set_num_threads(1)
        digits = load_digits()
        order = np.random.default_rng(SEED).permutation(len(digits.target))
        self._pixels = digits.data[order].astype(np.float32)
        self._labels = torch.from_numpy(digits.target[order])
        self._small = torch.from_numpy(self._pixels.reshape(-1, 1, 8, 8))
        self._large = (self._small / 16).repeat_interleave(4, 2).repeat_interleave(4, 3).repeat(1, 3, 1, 1)

    def forest(self) -> None:
        """A forest that is trained again, with more rows."""
        for version, rows in (("old", ROWS_BEFORE), ("new", len(self._pixels))):
            path = self._out / "forest" / version / "model.onnx"
            forest(self._pixels[:rows], self._labels[:rows].numpy(), path)

    def digits(self) -> None:
        """The CNN of the digits, fine-tuned with other rows; and a wider one of 1.4 MB, also in other shapes."""
        image = self._small[:1]
        for name, channels, hidden in (("digits", 16, 64), ("digits-wide", 64, 512)):
            models = self._tuned(DigitsNet(channels, hidden, 16.0), self._small, 20, 0.02)
            self._save(f"{name}-fp32", "model.onnx", models, partial(save_onnx, image=image))
        first, _second = models
        more = copy.deepcopy(first)
        more.layers.insert(len(more.layers) - 1, nn.Linear(hidden, hidden))
        self._save("digits-wide-layer-inserted", "model.onnx", (first, more), partial(save_onnx, image=image))
        self._save("digits-wide-renamed", "model.onnx", (first, nn.Sequential(first)), partial(save_onnx, image=image))
        self._save("digits-wide-external", "weights.bin", models, partial(save_external, image=image))

    def tflite(self) -> None:
        """A wider one, for LiteRT."""
        models = self._tuned(DigitsNet(64, 1024, 16.0), self._small, 10, 0.01)
        for name, int8 in (("tflite-fp32", False), ("tflite-int8", True)):
            self._save(name, "model.tflite", models, partial(save_tflite, image=self._small[:1], int8=int8))

    def resnet(self) -> None:
        """A ResNet-18: fine-tuned, its last layer alone, and in other forms."""
        image = self._large[:1]
        network = resnet()
        first, second = self._tuned(network, self._large, 2, 0.02)
        self._save("resnet-fp32", "model.onnx", (first, second), partial(save_onnx, image=image))
        self._save("resnet-int8", "model.onnx", (first, second), partial(save_int8, images=self._large))
        halves = copy.deepcopy(first).half(), copy.deepcopy(second).half()
        self._save("resnet-fp16", "model.onnx", halves, partial(save_onnx, image=image.half()))
        head = tuned(
            first, self._large[ROWS_BEFORE:], self._labels[ROWS_BEFORE:], 2, 0.001, layers=f"{len(network) - 1}."
        )
        self._save("resnet-last-layer", "model.onnx", (first, head), partial(save_onnx, image=image))

    def _tuned(self, network: nn.Module, images: torch.Tensor, epochs: int, rate: float) -> tuple[nn.Module, nn.Module]:
        """A network that learned some rows, and the same after two epochs with the others, at a tenth of the rate."""
        first = tuned(network, images[:ROWS_BEFORE], self._labels[:ROWS_BEFORE], epochs, rate)
        return first, tuned(first, images[ROWS_BEFORE:], self._labels[ROWS_BEFORE:], 2, rate / 10)

    def _save(self, name: str, file: str, models: tuple[nn.Module, nn.Module], save: Save) -> None:
        for version, model in zip(("old", "new"), models, strict=True):
            path = self._out / name / version / file
            path.parent.mkdir(parents=True, exist_ok=True)
            save(model, path)


def main() -> None:
    """Make the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="directory to write to")
    families = ("forest", "digits", "tflite", "resnet")
    parser.add_argument("families", nargs="*", default=families, help=f"of {', '.join(families)}; all without any")
    options = parser.parse_args()
    pairs = Pairs(options.out)
    for family in options.families:
        getattr(pairs, family)()


if __name__ == "__main__":
    main()
