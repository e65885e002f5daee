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
    "pytorch_digits": ("pytorch", {"variants": ["fp32", "fp16", "int8"], "required_variants": ["fp16", "int8"]}),
}
# What changes a recipe so that the converter loses something, and says nothing.
WRONG = {
    "LightGBM: a random forest": (
        "lightgbm_digits",
        'PARAMETERS.update(boosting_type="rf", bagging_freq=1, subsample=0.7)',
    ),
    "LightGBM: zero_as_missing": ("lightgbm_digits", "PARAMETERS.update(zero_as_missing=True)"),
    "LightGBM: linear_tree": ("lightgbm_digits", "PARAMETERS.update(linear_tree=True)"),
    "LightGBM: multiclassova": ("lightgbm_digits", 'PARAMETERS.update(objective="multiclassova")'),
    "scikit-learn: a forest for double inputs": (
        "sklearn_forest",
        "from skl2onnx.common.data_types import DoubleTensorType\nINPUT, PRECISION = DoubleTensorType, np.float64",
    ),
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


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_published(tmp_path: Path, name: str) -> None:
    published = publish(tmp_path, RECIPES / f"{name}.py", python_of(name), **PUBLISHED[name][1])
    assert all(row["published"] for row in published.table)
    assert not any("no reference outputs" in note for note in published.notes)
    repository = Repository(str(tmp_path / "repository"))
    release = repository.release(name.replace("_", "-"), "1.0.0")
    assert repository.verify(release) > 0
    assert b"pkg:pypi/numpy@" in repository.read_blob(release.documents["provenance"])


@pytest.mark.parametrize("case", WRONG)
def test_a_conversion_that_loses_something_is_refused(tmp_path: Path, case: str) -> None:
    name, change = WRONG[case]
    recipe = tmp_path / "wrong.py"
    text = (RECIPES / f"{name}.py").read_text()
    # Before what makes the holdout, which is the last part.
    head, tail = text.split('\nif __name__ == "__main__":\n')
    recipe.write_text(f'{head}\n{change}\n\nif __name__ == "__main__":\n{tail}')
    with pytest.raises(RefusedError) as refused:
        publish(tmp_path, recipe, python_of(name))
    assert "is not what the source framework computes" in str(refused.value)
    assert not (tmp_path / "repository").exists()


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
