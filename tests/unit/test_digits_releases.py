# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The committed digits releases are whole, run in ONNX Runtime and are as accurate as their README says."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits"
REPOSITORY = DIGITS / "repository"
VERSIONS = ("1.0.0", "1.1.0", "1.2.0")


def manifest(version: str) -> Any:
    return json.loads((REPOSITORY / "digits" / version / "manifest.json").read_text(encoding="utf-8"))


def file_entries(version: str) -> dict[str, dict[str, Any]]:
    document = manifest(version)
    entries = [document["golden"], document["probe"], document["reference"]]
    entries += [file for variant in document["variants"] for file in variant["files"]]
    entries += document["documents"].values()
    return {entry["path"]: entry for entry in entries}


def blob(version: str, name: str) -> bytes:
    digest: str = file_entries(version)[name]["sha256"]
    return (REPOSITORY / "blobs" / "sha256" / digest).read_bytes()


def array(tensor: Any) -> np.ndarray:
    assert tensor["datatype"] == "FP32"
    return np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])


def run(version: str, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(blob(version, "model.onnx"), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"image": images})
    return np.asarray(probabilities)


def probe_accuracy(version: str) -> float:
    probe = json.loads(blob(version, "probe.json"))
    assert probe["output"] == "probabilities"
    (images,) = probe["inputs"]
    outputs = run(version, array(images))
    assert np.isfinite(outputs).all()
    return float((outputs.argmax(axis=1) == np.array(probe["labels"])).mean())


@pytest.mark.parametrize("version", VERSIONS)
def test_manifest_names_itself_and_its_blobs(version: str) -> None:
    document = manifest(version)
    assert (document["schema"], document["model"], document["version"]) == (2, "digits", version)
    about = {"provenance.json", "measurements.json", "bom.cdx.json", "reference.json"}
    smaller = {f"{variant['name']}.onnx" for variant in document["variants"][1:]}
    assert set(file_entries(version)) == {"model.onnx", "golden.json", "probe.json", *smaller, *about}
    assert [variant["name"] for variant in document["variants"]][:2] == ["onnx-fp32", "onnx-fp16"]
    for name, entry in file_entries(version).items():
        content = blob(version, name)
        assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_repository_holds_these_releases_and_no_other_blob() -> None:
    assert sorted(path.name for path in (REPOSITORY / "digits").iterdir()) == list(VERSIONS)
    named = {entry["sha256"] for version in VERSIONS for entry in file_entries(version).values()}
    assert {path.name for path in (REPOSITORY / "blobs" / "sha256").iterdir()} == named


@pytest.mark.parametrize("version", VERSIONS)
def test_model_is_one_portable_file_with_a_dynamic_batch(version: str) -> None:
    model = onnx.load_model_from_string(blob(version, "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)  # ONNX Runtime 1.17 runs these
    (image,), (probabilities,) = model.graph.input, model.graph.output
    assert [dimension.dim_value for dimension in image.type.tensor_type.shape.dim] == [0, 1, 8, 8]
    assert [dimension.dim_value for dimension in probabilities.type.tensor_type.shape.dim] == [0, 10]
    assert (image.name, probabilities.name) == ("image", "probabilities")


@pytest.mark.parametrize("version", VERSIONS)
def test_golden_outputs_reproduce(version: str) -> None:
    golden = json.loads(blob(version, "golden.json"))
    (images,), (expected,) = golden["inputs"], golden["outputs"]
    tolerance = manifest(version)["variants"][0]["tolerances"]["probabilities"]
    assert 4 <= images["shape"][0] <= 8
    np.testing.assert_allclose(
        run(version, array(images)), array(expected), rtol=tolerance["relative"], atol=tolerance["absolute"]
    )


def test_golden_tells_the_releases_apart() -> None:
    golden = json.loads(blob("1.1.0", "golden.json"))
    (images,), (expected,) = golden["inputs"], golden["outputs"]
    for other in ("1.0.0", "1.2.0"):
        assert np.abs(run(other, array(images)) - array(expected)).max() > 0.05


def test_releases_share_one_probe_of_real_rows() -> None:
    assert len({file_entries(version)["probe.json"]["sha256"] for version in VERSIONS}) == 1
    probe = json.loads(blob("1.0.0", "probe.json"))
    (images,) = probe["inputs"]
    values = array(images)
    assert values.shape == (360, 1, 8, 8)
    assert (values.min(), values.max()) == (0, 16)
    assert len(np.unique(values, axis=0)) == 360
    assert np.bincount(probe["labels"], minlength=10).min() >= 34


@pytest.mark.parametrize("version", VERSIONS)
def test_the_drift_reference_is_of_the_holdout(version: str) -> None:
    """Of each series, as many rows as the holdout has, where those images and the release's own answers are."""
    series = {item["name"]: item for item in json.loads(blob(version, "reference.json"))["series"]}
    assert set(series) == {"image_mean", "image_deviation", "probabilities_argmax", "probabilities_maximum"}
    assert {sum(item["counts"]) for item in series.values()} == {360}
    (images,) = json.loads(blob(version, "probe.json"))["inputs"]
    given = np.bincount(run(version, array(images)).argmax(axis=1), minlength=10)
    noted = np.array(series["probabilities_argmax"]["counts"])
    assert np.abs(noted - given).max() <= 1  # Rounding differs between processors.


@pytest.mark.parametrize(
    ("version", "lowest", "highest"), [("1.0.0", 0.90, 0.94), ("1.1.0", 0.97, 1), ("1.2.0", 0, 0.7)]
)
def test_probe_accuracy_is_what_the_readme_says(version: str, lowest: float, highest: float) -> None:
    measured = probe_accuracy(version)
    assert lowest <= measured <= highest
    readme = (DIGITS / "README.md").read_text(encoding="utf-8")
    (stated,) = re.findall(rf"^\| {re.escape(version)} \|.*\| ([0-9.]+) \|$", readme, flags=re.MULTILINE)
    assert measured == pytest.approx(float(stated), abs=0.003)  # one row of 360: rounding differs between processors
