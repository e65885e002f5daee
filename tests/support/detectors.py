# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A detector that suppresses overlapping boxes itself, so that samples have as many as are found; its holdout."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx_models import model_of

ANCHORS, CLASSES, VALUES = 12, 2, 6
SAMPLES = 300
# What turns the features of an anchor into the corners of its box and its scores.
HEAD = np.linalg.qr(np.random.default_rng(1).standard_normal((VALUES, VALUES)))[0]

Array = np.ndarray[Any, Any]


def detector(shift: float = 0.0) -> bytes:
    """``boxes`` (FP32 [n, 4]), ``scores`` (FP32 [n]) and ``classes`` (INT64 [n]) of one sample's ``features`` (FP32
    [1, 12, 6]). All corners are ``shift`` pixels beside where they should be."""
    shifts = np.array([shift] * 4 + [0.0] * CLASSES)
    numbers = {
        "head": HEAD.astype(np.float32),
        "shifts": shifts.astype(np.float32),
        "four": np.array([4]),
        "zero": np.array([0]),
        "one": np.array(1),
        "two": np.array(2),
        "end": np.array([VALUES]),
        "axis": np.array([2]),
        "most": np.array([10]),
        "half": np.array([0.5], np.float32),
    }
    return model_of(
        [
            helper.make_node("MatMul", ["features", "head"], ["product"]),
            helper.make_node("Add", ["product", "shifts"], ["decoded"]),
            helper.make_node("Slice", ["decoded", "zero", "four", "axis"], ["corners"]),
            helper.make_node("Slice", ["decoded", "four", "end", "axis"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["rates"]),
            helper.make_node("Transpose", ["rates"], ["by_class"], perm=[0, 2, 1]),
            helper.make_node("NonMaxSuppression", ["corners", "by_class", "most", "half", "half"], ["selected"]),
            helper.make_node("Gather", ["selected", "one"], ["classes"], axis=1),
            helper.make_node("Gather", ["selected", "two"], ["places"], axis=1),
            helper.make_node("Squeeze", ["corners", "zero"], ["flat"]),
            helper.make_node("Gather", ["flat", "places"], ["boxes"], axis=0),
            helper.make_node("GatherND", ["by_class", "selected"], ["scores"]),
        ],
        inputs=[("features", TensorProto.FLOAT, [1, ANCHORS, VALUES])],
        outputs=[
            ("boxes", TensorProto.FLOAT, ["n", 4]),
            ("scores", TensorProto.FLOAT, ["n"]),
            ("classes", TensorProto.INT64, ["n"]),
        ],
        constants=[numpy_helper.from_array(values, name) for name, values in numbers.items()],
    )


def detector_holdout() -> tuple[Array, Array]:
    """Features, and the true boxes in an order of no meaning, filled up with NaN: of each sample up to four."""
    chance = np.random.default_rng(2)
    features = np.zeros((SAMPLES, ANCHORS, VALUES))
    truth = np.full((SAMPLES, 4, 4), np.nan)
    corner = np.array([[10, 10], [60, 10], [10, 60], [60, 60]], float)
    for row in range(SAMPLES):
        wanted = np.zeros((ANCHORS, VALUES))
        wanted[:, 4:] = -4
        objects = int(chance.integers(0, 5))
        for number in range(objects):
            start = corner[number] + chance.uniform(-5, 5, 2)
            box = np.concatenate([start, start + chance.uniform(20, 30, 2)])
            truth[row, number] = box + chance.normal(0, 0.5, 4)
            # Three anchors see it; the second and the third are suppressed.
            for anchor in range(3):
                wanted[3 * number + anchor, :4] = box + anchor
                wanted[3 * number + anchor, 4 + number % CLASSES] = 4 - anchor / 2
        truth[row, :objects] = chance.permutation(truth[row, :objects])
        features[row] = chance.permutation(wanted) @ HEAD.T
    return features.astype(np.float32), truth
