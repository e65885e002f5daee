# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labels, samples and tolerances by which no model can be told from one that always gives the same answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import ProbeSetError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.golden import make_probe
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.holdout import Holdout, reasons_against_source
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.options import ReleaseOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.samples import Samples

ROWS = 400
CHANCE = np.random.default_rng(3)
X = CHANCE.standard_normal((ROWS, 3)).astype(np.float32)
CLASSES = X.argmax(axis=1)
MASKS = (X > 0).astype(np.float32)
NOT_THOSE = "the labels are not those of these samples, or the inputs are not prepared as in training"


def reasons(directory: Path, answers: Any, labels: Any, **settings: Any) -> list[str]:
    """Why a source that answers so is refused by such labels."""
    right = {"y": answers}
    samples = Samples("holdout.npz", {"x": X}, labels, settings=settings)
    probe = make_probe(samples, right, str(directory), output=None, settings={})
    source, metric = probe.scores(right)
    return reasons_against_source(Holdout(samples, "", right, probe, source, metric), ReleaseOptions())


def within(tolerance: float) -> dict[str, Any]:
    return {"metric": "within", "tolerance": {"absolute": tolerance, "relative": 0}}


@pytest.mark.parametrize(
    ("labels", "settings", "value", "same"),
    [
        # Where no sample is right, nothing can get worse; where any answer is, neither.
        (1 - MASKS, {}, "accuracy 0", None),
        (X + 1, within(0.001), "within 0", "0"),
        (X + 1, within(100), "within 1", "1"),
        (MASKS, {"task": "reference", "tolerance": {"absolute": 0.01, "relative": 0}}, "agreement 0", None),
        (np.array([[1, 1, 0]] * ROWS), {}, "accuracy ", "1"),
    ],
)
def test_metrics_that_cannot_tell_a_loss(
    tmp_path: Path, labels: Any, settings: dict[str, Any], value: str, same: str | None
) -> None:
    (reason,) = reasons(tmp_path, X, labels, **settings)
    assert reason.startswith(f"labels: the source reaches {value}")
    assert f"always giving the same answer reaches {same or '0.'}" in reason
    assert NOT_THOSE in reason
    assert "A sample is right if all its " in reason


@pytest.mark.parametrize(
    ("labels", "settings"),
    [(MASKS, {}), (X + 0.001, within(0.01)), (MASKS, {"task": "reference", "metric": "distance"}), (None, {})],
)
def test_metrics_that_tell_one(tmp_path: Path, labels: Any, settings: dict[str, Any]) -> None:
    answers = MASKS if settings.get("task") or "tolerance" not in settings else X
    assert reasons(tmp_path, answers, labels, **settings) == []


@pytest.mark.parametrize("settings", [{}, {"metric": "distance"}])
def test_answers_that_are_all_the_same_prove_nothing_without_labels(tmp_path: Path, settings: dict[str, Any]) -> None:
    (reason,) = reasons(tmp_path, np.full((ROWS, 2), 0.5, np.float32), None, **settings)
    assert reason.startswith(
        "samples: the source's answers differ too little to tell it from a model that always gives"
    )


@pytest.mark.parametrize(
    ("labels", "pairs"),
    [
        ((CLASSES + 1) % 3, "the model's 0 is what the labels call 1, 1 is what the labels call 2, 2 is what"),
        (np.array([0, 2, 1])[CLASSES], "the model's 1 is what the labels call 2, 2 is what the labels call 1; with"),
    ],
)
def test_classes_that_are_numbered_otherwise_are_told(tmp_path: Path, labels: Any, pairs: str) -> None:
    wrong = np.arange(8)
    right = 1 - (labels[wrong] != CLASSES[wrong]).sum() / ROWS
    labels[wrong] = CLASSES[wrong]
    (reason,) = reasons(tmp_path, X, labels)
    assert f"the classes are numbered otherwise: {pairs}" in reason
    assert reason.endswith(f"with that the source is right in {right:.4f}. Number the labels as the model does")
    assert NOT_THOSE not in reason


def test_two_classes_of_many_that_are_swapped_are_told(tmp_path: Path) -> None:
    answers = np.eye(10, dtype=np.float32)[np.arange(ROWS) % 10]
    labels = np.array([0, 1, 2, 3, 4, 5, 7, 6, 8, 9])[np.arange(ROWS) % 10]
    (reason,) = reasons(tmp_path, answers, labels)
    assert reason.startswith("labels: the source is right in 0.8000 of 400 samples: the classes are numbered otherwise")
    assert "the model's 6 is what the labels call 7, 7 is what the labels call 6; with that" in reason
    often_wrong = np.where(CHANCE.random(ROWS) < 0.3, (labels + 1) % 10, np.arange(ROWS) % 10)
    assert reasons(tmp_path, answers, often_wrong) == []


def test_the_answers_of_an_anomaly_detector_are_not_zero_and_one(tmp_path: Path) -> None:
    """It says 1 of what is usual, and -1 of what is not."""
    strange = X[:, 0] > 1
    (reason,) = reasons(tmp_path, np.where(strange, -1, 1)[:, None], strange.astype(int))
    assert "the model's -1 is what the labels call 1, 1 is what the labels call 0; with that" in reason


@pytest.mark.parametrize("metric", ["agreement", "distance"])
@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (X[:, :2], "numbers of the shape [400, 2]"),
        (CLASSES, "numbers of the shape [400]"),
        (np.array([["a", "b", "c"]] * ROWS), "texts of the shape [400, 3]"),
    ],
)
def test_right_answers_of_another_kind_are_told(tmp_path: Path, labels: Any, found: str, metric: str) -> None:
    tolerance = {"absolute": 0.1, "relative": 0}
    with pytest.raises(ProbeSetError) as refused:
        reasons(tmp_path, X, labels, task="reference", metric=metric, tolerance=tolerance)
    expected = "labels: expected numbers of the shape [400, 3] for the task reference, as 'y' has them; found "
    assert str(refused.value) == f"output 'y': {expected}{found}"


def test_texts_that_are_all_different_are_of_no_numbering(tmp_path: Path) -> None:
    """Such as those of number plates: each wrong one stands for one right one, and tells nothing of others."""
    plates = np.array([f"AB{number:04}" for number in range(ROWS)])
    read = np.where(np.arange(ROWS) % 5, plates, np.char.replace(plates, "A", "4"))
    assert reasons(tmp_path, read, plates) == []
    (reason,) = reasons(tmp_path, read, np.roll(plates, 1))
    assert reason.endswith(NOT_THOSE)


def test_a_class_that_the_model_never_finds_is_of_no_numbering(tmp_path: Path) -> None:
    """It says 1 of what is 2, of which there are more than of 1."""
    labels = np.repeat([0, 1, 2], [200, 80, 120])
    assert reasons(tmp_path, np.eye(3, dtype=np.float32)[np.minimum(labels, 1)], labels) == []


def test_labels_of_other_samples_are_of_no_numbering(tmp_path: Path) -> None:
    (reason,) = reasons(tmp_path, X, CHANCE.permutation(CLASSES))
    assert reason.endswith(NOT_THOSE)


@pytest.mark.parametrize("order", [[1, 0, 2], [1, 2, 0]])
def test_columns_of_labels_in_another_order(tmp_path: Path, order: list[int]) -> None:
    # Each label depends on the ones before, so that the wrong column is still better than none.
    numbers = np.stack([X[:, 0], X[:, 0] + X[:, 1], X[:, 0] + X[:, 1] + X[:, 2]], axis=1)
    labels = numbers[:, order] + CHANCE.normal(0, 0.05, numbers.shape)
    (reason,) = [found for found in reasons(tmp_path, numbers, labels) if "columns" in found]
    assert reason.startswith(
        "labels: expected their columns in the order of 'y'; column 0 of the answers is near column "
    )
    for place in range(3):
        near = f"column {place} of the answers is near column {order.index(place)}"
        assert (near in reason) is (order[place] != place)
    assert reasons(tmp_path, numbers, labels[:, np.argsort(order)]) == []


def test_quantiles_of_one_label_are_in_no_order(tmp_path: Path) -> None:
    quantiles = X[:, :1] + np.array([[-1, 0, 1]], np.float32)
    assert reasons(tmp_path, quantiles, np.repeat(X[:, :1] + 0.01, 3, axis=1)) == []
