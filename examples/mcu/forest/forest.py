# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a random forest of scikit-learn C code for a microcontroller, by emlearn.

Writes OUT/digits_forest.h, and what the source answers: OUT/golden.json (a few samples, which the microcontroller is
asked), OUT/holdout.json (all samples that were held out, for the desk) and OUT/probe.json (some of them, with labels).

emlearn says nothing of what its code loses. What costs this forest accuracy, or changes its answers:

- Features are int16 unless `dtype` says otherwise, and so are thresholds: 2.5 becomes 2, which sends the whole number 2
  the other way.
- scikit-learn goes left where a feature is a threshold or less, and emlearn where it is less. Thresholds are halves and
  whole numbers here, so that the features are moved by less than a half.
- Each tree votes for one class unless `leaf_bits` is from 3 to 8; scikit-learn adds up the shares of each leaf. A leaf
  of a tree that is grown to its end has one class, and then both are the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import emlearn
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

FOREST: dict[str, Any] = {"n_estimators": 15, "random_state": 0}
CONVERSION: dict[str, Any] = {"method": "inline", "dtype": "float"}
BELOW = 0.25
GOLDEN, PROBE = 8, 60


def data() -> list[Any]:
    """Pixels from 0 to 16 to train on and to prove with, and the digits that they show."""
    pixels, digits = load_digits(return_X_y=True)
    split: list[Any] = train_test_split(pixels, digits, test_size=360, random_state=0)
    return split


def tensors(name: str, values: Any) -> dict[str, Any]:
    """A tensor of whole numbers as golden files have it."""
    return {"name": name, "datatype": "INT8", "shape": list(values.shape), "data": values.ravel().tolist()}


def main() -> None:
    """Train it, convert it, and write what it has to answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="directory to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    pixels, held_out, digits, labels = data()
    model = RandomForestClassifier(**FOREST).fit(pixels, digits)
    code = emlearn.convert(model, **CONVERSION).save(name="digits_forest")
    kind = CONVERSION["dtype"]
    value = f"(float)(x) - {BELOW}f" if kind == "float" else f"({kind})(x)"
    sizes = f"""
#define FOREST_FEATURE {kind}
#define FOREST_VALUE(x) ({value})
#define FOREST_FEATURES 64U
#define FOREST_CLASSES 10U
"""
    (out / "digits_forest.h").write_text(code + sizes, encoding="utf-8")
    shares = model.predict_proba(held_out)
    answers = (np.floor(shares * 255 + 0.5) - 128).astype(np.int8)
    samples = held_out.astype(np.int8)
    tolerance = {"absolute": 0, "relative": 0, "steps": 1}
    for name, count in (("golden", GOLDEN), ("holdout", len(samples))):
        document = {
            "inputs": [tensors("image", samples[:count])],
            "outputs": [tensors("scores", answers[:count])],
            "tolerance": tolerance,
            **({"labels": labels.tolist()} if name == "holdout" else {}),
        }
        (out / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    probe = {
        "inputs": [tensors("image", samples[:PROBE])],
        "output": "scores",
        "task": "class_scores",
        "labels": labels[:PROBE].tolist(),
    }
    (out / "probe.json").write_text(json.dumps(probe), encoding="utf-8")
    print(json.dumps({"accuracy": round(float((shares.argmax(1) == labels).mean()), 4), "code_bytes": len(code)}))


if __name__ == "__main__":
    main()
