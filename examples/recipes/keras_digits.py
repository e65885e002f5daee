# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A recipe: a network of Keras, to LiteRT (TensorFlow Lite), for batches of any size.

Its holdout:  TRAINING/bin/python keras_digits.py holdout.npz
"""

from __future__ import annotations

import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def data() -> list[Any]:
    """Images to train on and to prove with, and their digits."""
    digits = load_digits()
    images = digits.images.astype(np.float32)[..., None]
    split: list[Any] = train_test_split(images, digits.target, test_size=500, random_state=0)
    return split


@lru_cache(maxsize=1)
def model() -> Any:
    """The trained network; yours is read from where training left it."""
    keras.utils.set_random_seed(0)
    images, _held_out, digits, _labels = data()
    network = keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    network.compile(optimizer=keras.optimizers.Adam(3e-3), loss="sparse_categorical_crossentropy")
    network.fit(images, digits, epochs=8, batch_size=32, verbose=0)
    return network


def export(directory: str) -> None:
    """Write the model, by way of a SavedModel: there its inputs and outputs get their names, and its weights are kept.

    A converter that is given a concrete function of Keras leaves the weights out, and says nothing.
    """
    network = model()
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        "serve",
        lambda image: {"probabilities": network(image, training=False)},
        input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32, name="image")],
    )
    with tempfile.TemporaryDirectory() as saved:
        archive.write_out(saved, verbose=False)
        content = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["serve"]).convert()
    Path(directory, "model.tflite").write_bytes(content)


def reference(inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What Keras computes."""
    return {"probabilities": model().predict(inputs["image"], verbose=0)}


if __name__ == "__main__":
    _images, held_out, _digits, labels = data()
    np.savez_compressed(sys.argv[1], image=held_out, labels=labels)
