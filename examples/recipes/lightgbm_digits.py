# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recipe: gradient-boosted trees of LightGBM, to ONNX.

Publish it with:  edgeml-publish release --source lightgbm_digits.py --recipe-python TRAINING/bin/python …
Its holdout:      TRAINING/bin/python lightgbm_digits.py holdout.npz

The conversion loses what LightGBM does beside adding up trees: zero_as_missing, linear_tree, boosting=rf and others.
It says nothing; `edgeml-publish` finds it, because `reference` asks LightGBM itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

PARAMETERS: dict[str, Any] = {"n_estimators": 20, "num_leaves": 15, "random_state": 0, "n_jobs": 1, "verbose": -1}
OPSET = 15


def data() -> list[Any]:
    """Pixels to train on and to prove with, and their digits."""
    pixels, digits = load_digits(return_X_y=True)
    split: list[Any] = train_test_split(pixels.astype(np.float32), digits, test_size=500, random_state=0)
    return split


def model() -> lightgbm.LGBMClassifier:
    """The trained model; yours is read from where training left it."""
    pixels, _held_out, digits, _labels = data()
    return lightgbm.LGBMClassifier(**PARAMETERS).fit(pixels, digits)


def export(directory: str) -> None:
    """Write the model."""
    # Without zipmap=False the probabilities are a list of dictionaries, which no tensor can carry.
    proto = convert_lightgbm(
        model(), initial_types=[("pixels", FloatTensorType([None, 64]))], zipmap=False, target_opset=OPSET
    )
    proto.ir_version = 8
    Path(directory, "model.onnx").write_bytes(proto.SerializeToString())


def reference(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What LightGBM computes."""
    trained = model()
    return {"label": trained.predict(inputs["pixels"]), "probabilities": trained.predict_proba(inputs["pixels"])}


if __name__ == "__main__":
    _pixels, held_out, _digits, labels = data()
    np.savez_compressed(sys.argv[1], pixels=held_out, labels=labels)
