# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The formulas of the drift statistics, against what is known of them, and reference files that are wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeml_server.common.errors import ModelError
from edgeml_server.common.tensors import TensorSpec
from edgeml_server.observe.drift import compare
from edgeml_server.observe.reference import Series, read_reference
from edgeml_server.tools.drift_reference import reference_of

TENSORS = [TensorSpec("x", "FP32", (-1, 2)), TensorSpec("text", "BYTES", (-1,))]
SERIES = {"name": "mean", "tensor": "x", "statistic": "mean", "edges": [0.0], "counts": [50, 50]}


def histogram(generator: np.random.Generator, rows: int, shift: float = 0.0) -> Any:
    # The deciles of the normal distribution.
    edges = np.array([-1.2816, -0.8416, -0.5244, -0.2533, 0.0, 0.2533, 0.5244, 0.8416, 1.2816])
    series = Series("x", "x", 0, edges, np.zeros(10))
    return series.histogram(generator.normal(shift, 1, rows)).astype(float)


def test_psi_and_ks_of_a_known_example() -> None:
    result = compare(np.array([600.0, 400.0]), np.array([300.0, 700.0]), ordered=True)
    # (0.3 - 0.6) ln(0.3 / 0.6) + (0.7 - 0.4) ln(0.7 / 0.4), less its bias.
    assert result.psi == pytest.approx(-0.3 * math.log(0.5) + 0.3 * math.log(1.75) - 2 / 1000, abs=1e-3)
    assert result.ks == pytest.approx(0.3)
    assert result.ks_limit == pytest.approx(1.9495 * math.sqrt(2 / 1000), rel=1e-4)
    assert result.drifted(0.2)
    assert not result.drifted(0.5)


def test_equal_distributions_differ_by_nothing() -> None:
    counts = np.array([10.0, 20.0, 30.0])
    result = compare(counts, counts, ordered=True)
    assert (result.psi, result.ks) == (0.0, 0.0)


def test_without_drift_the_mean_psi_is_its_bias_and_no_window_is_an_alarm() -> None:
    generator = np.random.default_rng(1)
    expected = histogram(generator, 5000)
    results = [compare(expected, histogram(generator, 500), ordered=True) for _ in range(500)]
    assert np.mean([result.psi for result in results]) < 0.01
    assert not any(result.drifted(0.1) for result in results)
    # A KS test at level 0.001, conservative on bins.
    assert sum((result.ks or 0) > result.ks_limit for result in results) <= 3


def test_a_shift_is_found_in_every_window() -> None:
    generator = np.random.default_rng(2)
    expected = histogram(generator, 5000)
    assert all(compare(expected, histogram(generator, 500, shift=0.7), ordered=True).drifted(0.2) for _ in range(100))


def test_an_empty_bin_is_no_infinity_and_categories_have_no_order() -> None:
    result = compare(np.array([500.0, 500.0, 0.0]), np.array([0.0, 0.0, 1000.0]), ordered=False)
    assert math.isfinite(result.psi)
    assert result.ks is None
    assert result.drifted(0.2)


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [
        ("mean", [1.5, 3.0]),
        ("deviation", [0.5, 1.0]),
        ("minimum", [1, 2]),
        ("maximum", [2, 4]),
        ("argmax", [1, 0]),
        (1, [2, 2]),
    ],
)
def test_statistics_are_of_rows(statistic: str | int, expected: list[float]) -> None:
    series = Series("s", "x", statistic, None, np.zeros(5))
    assert series.values(np.array([[1, 2], [4, 2]], np.float32)).tolist() == expected


def test_an_edge_belongs_to_the_bin_above_and_what_is_not_a_number_to_the_last() -> None:
    series = Series("s", "x", 0, np.array([0.0, 1.0]), np.zeros(3))
    assert series.histogram(np.array([-1, 0, 0.5, 1, 7, np.nan])).tolist() == [1, 2, 3]


def test_classes_that_the_reference_does_not_know_are_its_last() -> None:
    series = Series("s", "x", "argmax", None, np.zeros(3))
    assert series.histogram(np.array([0, 1, 7])).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], "TypeError"),
        ({"schema": 2, "series": [SERIES]}, "schema: expected 1; found 2"),
        ({"schema": 1, "series": []}, "series: expected 1 to 64"),
        ({"schema": 1, "series": [SERIES, SERIES]}, "with different names; found 2"),
        ({"schema": 1, "series": [{**SERIES, "tensor": "y"}]}, "expected a name and one of the tensors"),
        ({"schema": 1, "series": [{**SERIES, "tensor": "text"}]}, "expected a name and one of the tensors"),
        ({"schema": 1, "series": [{**SERIES, "statistic": "mode"}]}, "statistic: expected mean"),
        ({"schema": 1, "series": [{**SERIES, "statistic": 2}]}, "statistic: expected mean"),
        ({"schema": 1, "series": [{**SERIES, "statistic": True}]}, "statistic: expected mean"),
        ({"schema": 1, "series": [{**SERIES, "edges": [0.0, 1.0]}]}, "edges: expected 1, ascending"),
        ({"schema": 1, "series": [{**SERIES, "edges": [1.0, 0.0], "counts": [1, 1, 1]}]}, "edges: expected 2"),
        ({"schema": 1, "series": [{**SERIES, "counts": [0, 0]}]}, "counts: expected 2 to 1000"),
        ({"schema": 1, "series": [{**SERIES, "counts": [1, -1]}]}, "counts: expected 2 to 1000"),
    ],
)
def test_a_wrong_reference_is_refused(document: Any, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match="not a drift reference for this model") as caught:
        read_reference(str(path), TENSORS)
    assert expected in str(caught.value)


def test_a_reference_that_was_made_here_is_read_and_matches_its_own_rows(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    x = generator.normal(0, 1, (2000, 2)).astype(np.float32)
    scores = generator.dirichlet([1, 2, 3], 2000).astype(np.float32)
    document = reference_of({"x": x}, {"scores": scores})
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(document))
    series = {item.name: item for item in read_reference(str(path), [*TENSORS, TensorSpec("scores", "FP32", (-1, 3))])}
    assert sorted(series) == ["scores_argmax", "scores_maximum", "x_0", "x_1"]
    for item in series.values():
        rows = x if item.tensor == "x" else scores
        assert (item.histogram(item.values(rows)) == item.counts).all()
        assert item.counts.sum() == 2000


def of(tensors: dict[str, Any], **options: Any) -> dict[str, str | int]:
    """The series of a model's outputs, with the statistic of each."""
    return {item["name"]: item["statistic"] for item in reference_of({}, tensors, **options)["series"]}


def test_each_of_a_few_numbers_is_watched_and_a_row_of_many_as_a_whole() -> None:
    rows = np.random.default_rng(4).normal(0, 1, (50, 17)).astype(np.float32)
    shares = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    as_whole = {"y_mean": "mean", "y_deviation": "deviation"}
    assert of({"y": rows[:, :3]}) == {"y_0": 0, "y_1": 1, "y_2": 2}
    assert list(of({"y": rows[:, :16]}).values()) == list(range(16))
    assert of({"y": rows}) == {**as_whole, "y_argmax": "argmax"}
    assert of({"y": rows[:, :15].reshape(50, 5, 3)}) == as_whole
    assert of({"y": rows.astype(np.int64)}) == as_whole
    # Rows of other sizes in other requests have no third number.
    assert of({"y": rows[:, :3]}, varying=["y"]) == {**as_whole, "y_argmax": "argmax"}
    # Scores of classes; those of labels that apply together are none.
    assert of({"y": shares}) == {"y_argmax": "argmax", "y_maximum": "maximum"}
    assert of({"y": 1 / (1 + np.exp(-rows[:, :2]))}) == {"y_0": 0, "y_1": 1}


def test_the_drift_of_one_of_several_numbers_is_seen() -> None:
    """A temperature in kelvin, and a humidity from 0 to 1 that fails: the largest is always the temperature."""
    generator = np.random.default_rng(5)
    typical, live = (
        np.stack([generator.normal(300, 5, rows), generator.normal(mean, 0.05, rows)], axis=1).astype(np.float32)
        for rows, mean in ((4000, 0.5), (1000, 0.8))
    )
    document = reference_of({}, {"y": typical})
    drifted = {}
    for item in document["series"]:
        series = Series(item["name"], "y", item["statistic"], np.array(item["edges"]), np.array(item["counts"], float))
        drifted[series.name] = compare(series.counts, series.histogram(series.values(live)), ordered=True).drifted(0.2)
    assert drifted == {"y_0": False, "y_1": True}


def test_as_many_series_as_a_server_reads_are_made_of_many_inputs(tmp_path: Path) -> None:
    columns = {f"c{number}": np.random.default_rng(number).normal(0, 1, (60, 5)) for number in range(70)}
    document = reference_of(columns, {"y": np.arange(60.0)})
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(document))
    specs = [TensorSpec("y", "FP64", (-1,)), *(TensorSpec(name, "FP64", (-1, 5)) for name in columns)]
    found = read_reference(str(path), specs)
    assert len(found) == 64
    assert found[0].name == "y"
