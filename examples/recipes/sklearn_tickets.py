# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recipe: a pipeline of scikit-learn over a text and numbers, to ONNX. Words are part of the model.

Its holdout:  TRAINING/bin/python sklearn_tickets.py holdout.npz

Clients send lower case. A model that does it itself (lowercase=True) needs the locale en_US.UTF-8 on each device, and
at the desk: without it ONNX Runtime does not load the model.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

WORDS = {
    "pump": "pump leaks pressure drops valve noise vibration bearing",
    "camera": "camera picture dark lens blurred frame lost focus",
    "network": "modem offline packet loss antenna weak signal gateway",
}
OPSET = 15


def data(count: int, seed: int) -> tuple[dict[str, np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """Tickets that technicians wrote, with temperature and load; and what they are about."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, len(WORDS), count)
    every = " ".join(WORDS.values()).split()
    texts = []
    for number in classes:
        own = random.choice(list(WORDS.values())[number].split(), 4)
        texts.append(" ".join(random.permutation([*own, *random.choice(every, 2)])))
    numbers = random.normal(classes[:, None] * [3.0, -2.0] + [40.0, 60.0], [4.0, 6.0]).astype(np.float32)
    inputs = {"ticket": np.array(texts)[:, None], "temperature": numbers[:, :1], "load": numbers[:, 1:]}
    return inputs, classes


def table(inputs: dict[str, np.ndarray[Any, Any]]) -> pandas.DataFrame:
    """The inputs as the pipeline takes them."""
    return pandas.DataFrame({name: values[:, 0] for name, values in inputs.items()})


def model() -> Pipeline:
    """The trained pipeline; yours is read from where training left it."""
    inputs, classes = data(1500, seed=1)
    columns = ColumnTransformer(
        [("words", CountVectorizer(lowercase=False), "ticket"), ("numbers", StandardScaler(), ["temperature", "load"])]
    )
    pipeline = Pipeline([("columns", columns), ("classifier", LogisticRegression(max_iter=1000))])
    return pipeline.fit(table(inputs), classes)


def export(directory: str) -> None:
    """Write the pipeline."""
    trained = model()
    proto = to_onnx(
        trained,
        initial_types=[
            ("ticket", StringTensorType([None, 1])),
            ("temperature", FloatTensorType([None, 1])),
            ("load", FloatTensorType([None, 1])),
        ],
        options={id(trained): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    Path(directory, "model.onnx").write_bytes(proto.SerializeToString())


def reference(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What scikit-learn computes."""
    trained, rows = model(), table(inputs)
    return {"label": trained.predict(rows), "probabilities": trained.predict_proba(rows)}


if __name__ == "__main__":
    held_out, labels = data(800, seed=2)
    np.savez_compressed(sys.argv[1], labels=labels, **held_out)  # type: ignore[arg-type]
