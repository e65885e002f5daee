# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is measured of answers: rows without an order, such as boxes; numbers beyond what a float can sum up."""

from __future__ import annotations

import json
import math

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._device.probe_scores import ProbeScores, unfilled
from ansible_collections.edgeml.fleet.plugins.module_utils._release.arrays import ListArray
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric, ProbeSet, Task

A, B, C = [10.0, 10.0, 20.0, 20.0], [60.0, 10.0, 80.0, 30.0], [10.0, 70.0, 30.0, 90.0]


def scored(answer: list[float], wanted: list[float], metric: Metric, *, unordered: bool = True) -> float:
    """The metric of one sample."""
    reference = ListArray("expected", "FP32", [1, 3, 4], [math.nan] * 12)
    probe = ProbeSet((), "boxes", 1, expected=reference, ragged=True, unordered=unordered, absolute=1.5)
    scores = ProbeScores(probe, Task.REFERENCE, metric)
    scores.add(answer, wanted)
    return float(scores.result()["value"])


@pytest.mark.parametrize(
    ("answer", "wanted", "distance"),
    [
        ([*A, *B, *C], [*C, *A, *B], 0.0),
        ([*A, *B], [*B, *[value + 1 for value in A]], 0.5),
        # What one of the two lacks counts as 0.
        ([*A, *B], [*B], sum(A) / 8),
        ([*B], [*A, *B], sum(A) / 8),
        ([], [*B], sum(B) / 4),
        ([*B], [], sum(B) / 4),
        ([], [], 0.0),
    ],
)
def test_each_box_is_compared_with_the_nearest(answer: list[float], wanted: list[float], distance: float) -> None:
    assert scored(answer, wanted, Metric.DISTANCE) == pytest.approx(distance)


def test_of_two_boxes_near_the_same_one_the_nearer_takes_it() -> None:
    near, nearer = [value + 5 for value in A], [value + 1 for value in A]
    far = [value + 9 for value in A]
    # A with the nearer one, and what is left with each other.
    assert scored([*near, *nearer], [*A, *far], Metric.DISTANCE) == pytest.approx((1 + 4) / 2)


def test_boxes_that_have_an_order_are_compared_in_it() -> None:
    assert scored([*A, *B], [*B, *A], Metric.DISTANCE, unordered=False) > 20


def test_boxes_agree_in_any_order_but_not_in_another_number() -> None:
    near = [value + 1 for value in A]
    assert scored([*near, *B], [*B, *A], Metric.AGREEMENT) == 1
    assert scored([*near, *B], [*B, *A], Metric.AGREEMENT, unordered=False) == 0
    assert scored([*near, *B], [*A], Metric.AGREEMENT) == 0


def test_an_answer_that_is_no_row_of_boxes_is_no_error() -> None:
    assert scored([*A, 1.0], [*A], Metric.DISTANCE) == pytest.approx(1 / 5)


@pytest.mark.parametrize("metric", [Metric.MAE, Metric.RMSE, Metric.R2])
@pytest.mark.parametrize(("answers", "not_finite"), [([1e308, -1e308], 2), ([1e200, 2.0], 1), ([math.nan, 2.0], 1)])
def test_errors_that_nothing_can_sum_up_are_no_finite_numbers(
    metric: Metric, answers: list[float], not_finite: int
) -> None:
    scores = ProbeScores(ProbeSet((), "y", 2, labels=(1.0, 3.0)), Task.REGRESSION, metric)
    for answer in answers:
        scores.add([answer], None)
    found = scores.result()
    assert found["not_finite"] == not_finite
    assert (found["value"] is None) == (not_finite == 2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_value_beyond_all_numbers_is_none() -> None:
    scores = ProbeScores(ProbeSet((), "y", 2, labels=(0.0, 1e-160)), Task.REGRESSION, Metric.R2)
    for _sample in range(2):
        scores.add([1e149], None)
    found = scores.result()
    assert found["value"] is None


@pytest.mark.parametrize(("top", "told"), [(1, None), (3, 3)])
def test_an_accuracy_among_the_best_classes_says_so(top: int, told: int | None) -> None:
    scores = ProbeScores(ProbeSet((), "y", 1, labels=(2,), top=top), Task.CLASS_SCORES, Metric.ACCURACY)
    scores.add([0.1, 0.2, 0.15, 0.05], None)
    found = scores.result()
    assert (found["correct"], found.get("top")) == (int(top > 1), told)


def test_what_fills_a_reference_up_is_none_of_it() -> None:
    assert len(unfilled([1.0, math.nan, 2.0, None, math.nan])) == 3
    assert unfilled([math.nan]) == []
