# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recipe of the digits: trains a small network with NumPy, and exports it to ONNX. Put your framework in its place.

``ci/check`` and ``ci/publish`` run it in a process of its own, which needs what requirements.txt has.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[np.float32]
PIXEL_MAXIMUM = np.float32(16)  # the scaling is part of the model: clients send raw pixels
HIDDEN, EPOCHS, BATCH, RATE, DECAY = 48, 60, 32, np.float32(0.1), np.float32(1e-4)
OPSET, IR_VERSION = 17, 8  # ONNX Runtime 1.14 and later load it


def probabilities(weights: list[Array], image: Array) -> tuple[Array, Array]:
    """The hidden layer [N,HIDDEN], and the probabilities [N,10], of raw images [N,1,8,8]."""
    first, first_bias, second, second_bias = weights
    hidden = np.maximum(image.reshape(len(image), -1) / PIXEL_MAXIMUM @ first + first_bias, 0)
    logits = hidden @ second + second_bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return hidden, exponentials / exponentials.sum(axis=1, keepdims=True)


@lru_cache(maxsize=1)
def train() -> list[Array]:
    """Train by gradient descent; the same data give the same weights."""
    with np.load(Path(__file__).with_name("training.npz")) as archive:
        images, labels = archive["image"].astype(np.float32), archive["labels"].astype(int)
    random = np.random.default_rng(1)
    weights = [
        random.normal(0, 0.2, (64, HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        random.normal(0, 0.2, (HIDDEN, 10)).astype(np.float32),
        np.zeros(10, np.float32),
    ]
    for _epoch in range(EPOCHS):
        for rows in np.array_split(random.permutation(len(images)), len(images) // BATCH):
            hidden, found = probabilities(weights, images[rows])
            error = (found - np.eye(10, dtype=np.float32)[labels[rows]]) / np.float32(len(rows))
            back = (error @ weights[2].T) * (hidden > 0)
            pixels = images[rows].reshape(len(rows), -1) / PIXEL_MAXIMUM
            slopes = [pixels.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
            weights = [value - RATE * (slope + DECAY * value) for value, slope in zip(weights, slopes, strict=True)]
    return weights


def export(directory: str) -> None:
    """Write the model as ONNX."""
    names = ("first", "first_bias", "second", "second_bias")
    constants = [numpy_helper.from_array(value, name) for name, value in zip(names, train(), strict=True)]
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["pixels"]),
            helper.make_node("Div", ["pixels", "pixel_maximum"], ["scaled"]),
            helper.make_node("Gemm", ["scaled", "first", "first_bias"], ["before"]),
            helper.make_node("Relu", ["before"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "second", "second_bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        [*constants, numpy_helper.from_array(np.array(PIXEL_MAXIMUM), "pixel_maximum")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(Path(directory, "digits.onnx")))


def reference(inputs: dict[str, Array]) -> dict[str, Array]:
    """What the trained network itself computes: each export is compared with it."""
    return {"probabilities": probabilities(train(), inputs["image"])[1]}
