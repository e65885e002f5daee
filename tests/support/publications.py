# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trained models for the tests of publishing: the digits network, and its holdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from links import REPOSITORY
from releases import Made
from server_process import Device

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Progress
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.options import ReleaseOptions, read_options
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.publication import Published
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.release import publish_release

DIGITS = REPOSITORY / "examples" / "digits" / "repository"


def digits_model(version: str = "1.1.0") -> bytes:
    """The ONNX file of a release of the digits."""
    manifest = json.loads((DIGITS / "digits" / version / "manifest.json").read_text())
    (file,) = manifest["variants"][0]["files"]
    content: bytes = (DIGITS / "blobs" / "sha256" / file["sha256"]).read_bytes()
    return content


def digits_holdout() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """360 images [N,1,8,8] that no digits model was trained on, and their labels."""
    manifest = json.loads((DIGITS / "digits" / "1.1.0" / "manifest.json").read_text())
    probe = json.loads((DIGITS / "blobs" / "sha256" / manifest["probe"]["sha256"]).read_text())
    (images,) = probe["inputs"]
    return np.array(images["data"], np.float32).reshape(images["shape"]), np.array(probe["labels"])


def answers(model: bytes, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a digits model computes: probabilities [N,10]."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"image": images})[0])


class Case:
    """A publication in ``directory``: its source, its samples and its options, to be changed by a test."""

    def __init__(self, directory: Path, model: bytes | None = None) -> None:
        self.directory = directory
        self.model = digits_model() if model is None else model
        images, labels = digits_holdout()
        self.samples: dict[str, Any] = {"image": images, "labels": labels}
        self.options: dict[str, Any] = {
            "model": "digits",
            "version": "1.1.0",
            "source": str(directory / "digits.onnx"),
            "samples": str(directory / "holdout.npz"),
            "repository": str(directory / "repository"),
            "device_image": "none",
            "measure_again": "true",
        }

    def write(self) -> ReleaseOptions:
        """Write the files, and return the options."""
        Path(self.options["source"]).write_bytes(self.model)
        np.savez(self.options["samples"], **self.samples)
        return read_options(self.options)

    def publish(self, *, check: bool = False) -> Published:
        """Publish it."""
        with open(self.directory / "progress", "a", encoding="utf-8") as progress:
            return publish_release(self.write(), Progress(progress), check=check)


def serve(device: Device, published: Published, repository: Path) -> None:
    """Put a published release, with its first variant, into a device's store, and make it active there."""
    blobs = {path.name: path.read_bytes() for path in (repository / "blobs" / "sha256").iterdir()}
    device.publish_release(Made(dict(published.document), blobs))
