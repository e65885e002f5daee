# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The recipes of examples/recipes, each with its own framework: `make recipes`. Wrong conversions are refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Progress, PublishError, RefusedError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.options import read_options
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.publication import Published
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.release import publish_release

RECIPES = REPOSITORY / "examples" / "recipes"
ENVIRONMENTS = REPOSITORY / ".cache" / "recipes"
# The environment of each recipe, and how it is published.
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "lightgbm_digits": ("trees", {}),
    "xgboost_digits": ("trees", {}),
    "sklearn_forest": ("trees", {}),
    "sklearn_tickets": ("trees", {}),
    "pytorch_digits": (
        "pytorch",
        {"variants": ["fp32", "fp16", "int8", "ncnn"], "required_variants": ["fp16", "int8", "ncnn"]},
    ),
    "keras_digits": ("keras", {"variants": ["int8", "fp16", "fp32"], "required_variants": ["int8", "fp16"]}),
    "litert_torch_digits": (
        "litert-torch",
        # The model takes one image at a time, and so its golden file has one.
        {"variants": ["int8", "fp32"], "required_variants": ["int8"]},
    ),
}
TWO_CLASSES = """
_digits = data
def data():
    pixels, held_out, digits, labels = _digits()
    return [pixels, held_out, (digits > 4).astype(int), (labels > 4).astype(int)]
"""
REGRESSION = """
def model():
    pixels, _held_out, digits, _labels = data()
    return lightgbm.LGBMRegressor(reg_sqrt=True, **PARAMETERS).fit(pixels, digits)
def reference(inputs):
    return {"variable": model().predict(inputs["pixels"])[:, None]}
"""
NEAREST = """
def prepared(_network, image):
    larger = nn.functional.interpolate(image / 16, size=11, mode="nearest")
    return nn.functional.interpolate(larger, size=8, mode="nearest")
Network.prepared = prepared
"""
WITHOUT_WEIGHTS = """
def export(directory):
    network = model()
    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32, "image")])
    def serve(image):
        return {"probabilities": network(image, training=False)}
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], network)
    Path(directory, "model.tflite").write_bytes(converter.convert())
"""
# Minutes since 1970 have 25 bits, their milliseconds 41.
PRODUCTS = """
class Hours(nn.Module):
    def forward(self, minutes):
        return {"hour": minutes.to(torch.int64) * 60000 // 3600000 % 24}
def data():
    minutes = np.random.default_rng(0).integers(28_000_000, 29_000_000, (200, 1)).astype(np.int32)
    return [minutes, minutes, None, minutes[:, 0] // 60 % 24]
def export(directory):
    made = litert_torch.convert(Hours().eval(), sample_kwargs={"minutes": torch.zeros((1, 1), dtype=torch.int32)})
    made.export(str(Path(directory, "model.tflite")))
def reference(inputs):
    return {"hour": Hours()(torch.from_numpy(inputs["minutes"]))["hour"].numpy()}
"""
# What changes a recipe so that the converter loses something, and says nothing.
WRONG = {
    "LightGBM: a random forest": (
        "lightgbm_digits",
        'PARAMETERS.update(boosting_type="rf", bagging_freq=1, subsample=0.7)',
    ),
    "LightGBM: zero_as_missing": ("lightgbm_digits", "PARAMETERS.update(zero_as_missing=True)"),
    "LightGBM: linear_tree": ("lightgbm_digits", "PARAMETERS.update(linear_tree=True)"),
    "LightGBM: multiclassova": ("lightgbm_digits", 'PARAMETERS.update(objective="multiclassova")'),
    "LightGBM: sigmoid": ("lightgbm_digits", f"PARAMETERS.update(sigmoid=2.0)\n{TWO_CLASSES}"),
    "LightGBM: reg_sqrt": ("lightgbm_digits", REGRESSION),
    "XGBoost: several trees in a round": (
        "xgboost_digits",
        "PARAMETERS.update(num_parallel_tree=3, subsample=0.7)",
    ),
    "XGBoost: a random forest": ("xgboost_digits", "xgboost.XGBClassifier = xgboost.XGBRFClassifier"),
    "scikit-learn: a forest for double inputs": (
        "sklearn_forest",
        "from skl2onnx.common.data_types import DoubleTensorType\nINPUT, PRECISION = DoubleTensorType, np.float64",
    ),
    "litert-torch: nearest to a size that is no multiple": ("litert_torch_digits", NEAREST),
    "litert-torch: products above 32 bits": ("litert_torch_digits", PRODUCTS),
}
# Options that the converter itself refuses.
REFUSED = {
    "XGBoost: dart": ("xgboost_digits", 'PARAMETERS.update(booster="dart", rate_drop=0.5)', "gbtree_model_param"),
    "XGBoost: zeros that are missing values": ("xgboost_digits", "PARAMETERS.update(missing=0.0)", "not nan but 0.0"),
}


def python_of(recipe: str) -> str:
    """The Python that a recipe runs with."""
    python = ENVIRONMENTS / PUBLISHED[recipe][0] / "bin" / "python"
    assert python.exists(), f"{python} is missing: run `make recipes`"
    return str(python)


def publish(directory: Path, recipe: Path, python: str, **options: Any) -> Published:
    """Make a recipe's holdout, and publish what it exports."""
    samples = directory / "holdout.npz"
    subprocess.run([python, str(recipe), str(samples)], check=True)
    values = {
        "model": recipe.stem.replace("_", "-"),
        "version": "1.0.0",
        "source": str(recipe),
        "recipe_python": python,
        "samples": str(samples),
        "repository": str(directory / "repository"),
        "device_image": "none",
        **options,
    }
    return publish_release(read_options(values), Progress())


@pytest.fixture(autouse=True)
def _converter_of_ncnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """pnnx has a directory of its own, because its package wants PyTorch."""
    assert (ENVIRONMENTS / "pnnx").exists(), "run `make recipes`"
    monkeypatch.syspath_prepend(str(ENVIRONMENTS / "pnnx"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_published(tmp_path: Path, name: str) -> None:
    published = publish(tmp_path, RECIPES / f"{name}.py", python_of(name), **PUBLISHED[name][1])
    assert all(row["published"] for row in published.table)
    assert not any("no reference outputs" in note for note in published.notes)
    repository = Repository(str(tmp_path / "repository"))
    release = repository.release(name.replace("_", "-"), "1.0.0")
    assert repository.verify(release) > 0
    assert b"pkg:pypi/numpy@" in repository.read_blob(release.documents["provenance"])


def changed(directory: Path, name: str, change: str) -> Path:
    """A recipe with ``change`` before what makes the holdout, which is the last part."""
    recipe = directory / "wrong.py"
    head, tail = (RECIPES / f"{name}.py").read_text().split('\nif __name__ == "__main__":\n')
    tail = tail.replace("image=held_out", "minutes=held_out") if change == PRODUCTS else tail
    recipe.write_text(f'{head}\n{change}\n\nif __name__ == "__main__":\n{tail}')
    return recipe


@pytest.mark.parametrize("case", WRONG)
def test_a_conversion_that_loses_something_is_refused(tmp_path: Path, case: str) -> None:
    name, change = WRONG[case]
    recipe = changed(tmp_path, name, change)
    with pytest.raises(RefusedError) as refused:
        publish(tmp_path, recipe, python_of(name))
    assert "is not what the source framework computes" in str(refused.value)
    assert not (tmp_path / "repository").exists()


def test_a_keras_model_without_its_weights_is_refused(tmp_path: Path) -> None:
    """What the memory has in their place is often no number."""
    recipe = changed(tmp_path, "keras_digits", WITHOUT_WEIGHTS)
    with pytest.raises(RefusedError, match=r"expected finite numbers|is not what the source framework computes"):
        publish(tmp_path, recipe, python_of("keras_digits"))


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_converter_refuses_is_said(tmp_path: Path, case: str) -> None:
    name, change, expected = REFUSED[case]
    with pytest.raises(PublishError, match=expected):
        publish(tmp_path, changed(tmp_path, name, change), python_of(name))


def test_a_model_that_ncnn_cannot_serve_is_left_out(tmp_path: Path) -> None:
    recipe = RECIPES / "sklearn_tickets.py"
    published = publish(tmp_path, recipe, python_of("sklearn_tickets"), variants=["ncnn", "fp32"])
    assert [(row["variant"], row["published"]) for row in published.table] == [
        ("ncnn-fp32", False), ("onnx-fp32", True),
    ]  # fmt: skip
    assert any("ncnn takes float32 inputs of a fixed size" in note for note in published.notes)


def test_a_zip_map_is_served_and_so_proved(tmp_path: Path) -> None:
    """The converters' default: probabilities as a list of dictionaries, of which the server makes a tensor."""
    recipe = tmp_path / "zipmap.py"
    text = (RECIPES / "lightgbm_digits.py").read_text()
    recipe.write_text(text.replace("zipmap=False,", "zipmap=True,"))
    published = publish(tmp_path, recipe, python_of("lightgbm_digits"))
    assert published.table[0]["published"]
    assert not any("no reference outputs" in note for note in published.notes)


def test_a_recipe_that_fails_shows_why(tmp_path: Path) -> None:
    recipe = tmp_path / "broken.py"
    recipe.write_text(
        (RECIPES / "sklearn_forest.py")
        .read_text()
        .replace("    trained = model()\n    # Without", '    raise OSError("no disk")\n    # Without')
    )
    with pytest.raises(PublishError, match="OSError: no disk"):
        publish(tmp_path, recipe, python_of("sklearn_forest"))
