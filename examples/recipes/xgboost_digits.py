# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recipe: gradient-boosted trees of XGBoost, to ONNX.

Its holdout:  TRAINING/bin/python xgboost_digits.py holdout.npz
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

PARAMETERS: dict[str, Any] = {"n_estimators": 20, "max_depth": 4, "random_state": 0, "n_jobs": 1}
OPSET = 15


def data() -> list[Any]:
    """Pixels to train on and to prove with, and their digits."""
    pixels, digits = load_digits(return_X_y=True)
    split: list[Any] = train_test_split(pixels.astype(np.float32), digits, test_size=500, random_state=0)
    return split


def model() -> xgboost.XGBClassifier:
    """The trained model; yours is read from where training left it."""
    pixels, _held_out, digits, _labels = data()
    return xgboost.XGBClassifier(**PARAMETERS).fit(pixels, digits)


def export(directory: str) -> None:
    """Write the model."""
    proto = convert_xgboost(model(), initial_types=[("pixels", FloatTensorType([None, 64]))], target_opset=OPSET)
    proto.ir_version = 8
    Path(directory, "model.onnx").write_bytes(proto.SerializeToString())


def reference(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What XGBoost computes."""
    trained = model()
    return {"label": trained.predict(inputs["pixels"]), "probabilities": trained.predict_proba(inputs["pixels"])}


if __name__ == "__main__":
    _pixels, held_out, _digits, labels = data()
    np.savez_compressed(sys.argv[1], pixels=held_out, labels=labels)
