# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recipe: a forest of scikit-learn on measurements, to ONNX.

Its holdout:  TRAINING/bin/python sklearn_forest.py holdout.npz

scikit-learn compares 32-bit floats with 64-bit thresholds. So the exact conversion is the one for float inputs: with
DoubleTensorType, samples whose measurements are between a threshold and its 32-bit neighbour take another branch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

INPUT: Any = FloatTensorType
PRECISION: Any = np.float32
OPSET = 15


def data() -> list[Any]:
    """Measurements to train on and to prove with, and their classes. Like a sensor's, they have few digits."""
    measurements, classes = make_classification(2500, 12, n_informative=8, n_classes=3, random_state=0)
    split: list[Any] = train_test_split(np.round(measurements, 1), classes, test_size=1000, random_state=0)
    return split


def model() -> RandomForestClassifier:
    """The trained model; yours is read from where training left it."""
    measurements, _held_out, classes, _labels = data()
    return RandomForestClassifier(30, max_depth=8, random_state=0).fit(measurements, classes)


def export(directory: str) -> None:
    """Write the model."""
    trained = model()
    # Without zipmap=False the probabilities are a list of dictionaries, which no tensor can carry.
    proto = to_onnx(
        trained,
        initial_types=[("measurements", INPUT([None, 12]))],
        options={id(trained): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    Path(directory, "model.onnx").write_bytes(proto.SerializeToString())


def reference(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What scikit-learn computes."""
    trained, measurements = model(), inputs["measurements"]
    return {"label": trained.predict(measurements), "probabilities": trained.predict_proba(measurements)}


if __name__ == "__main__":
    _measurements, held_out, _classes, labels = data()
    np.savez_compressed(sys.argv[1], measurements=held_out.astype(PRECISION), labels=labels)
