# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paired comparisons: against the definitions of the tests, and against simulation."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._common.packed import pack_flags, pack_numbers
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import sample_results
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.paired import PairedProportion, paired
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.reader import Reader


def read(metric: str, **document: Any) -> Any:
    """A probe result, read as the gate reads it."""
    reader = Reader()
    found = reader.observation({}, {"metric": metric, **document}).probe
    assert reader.problems == []
    return found


def errors(metric: str, numbers: list[float], **more: Any) -> Any:
    """The result of a metric that is made of errors."""
    finite = [number for number in numbers if math.isfinite(number)]
    scale = max(finite, default=1.0) or 1.0
    packed = pack_numbers([number / scale if math.isfinite(number) else math.nan for number in numbers])
    value = sum(finite) / len(finite) if finite else None
    bad = len(numbers) - len(finite)
    results = {"numbers": packed, "scale": scale}
    return read(metric, samples=len(numbers), value=value, results=results, not_finite=bad, **more)


def mcnemar(worse: int, better: int) -> float:
    """The probability of at least so many worse ones of those that changed, by the definition of the exact test."""
    changed = worse + better
    return float(sum(math.comb(changed, count) for count in range(worse, changed + 1)) / 2**changed)


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from([0.05, 0.01, 1e-3, 1e-5]))
@settings(deadline=None)
def test_harm_is_certain_exactly_where_mcnemars_test_says_so(worse: int, better: int, alpha: float) -> None:
    effect = PairedProportion(worse, better, 200)
    probability = mcnemar(worse, better)
    if abs(probability - alpha) > 1e-3 * alpha:
        assert (effect.lower(alpha) > 0) == (probability < alpha)
    assert effect.lower(alpha) <= effect.value < effect.upper(alpha)


@pytest.mark.parametrize("loss", [0.0, 0.04])
def test_the_limits_of_a_loss_hold_the_truth_as_often_as_they_promise(loss: float) -> None:
    chance = random.Random(7)
    above = below = 0
    for _run in range(2000):
        drawn = [chance.random() for _sample in range(200)]
        worse, better = sum(number < 0.03 + loss for number in drawn), sum(number > 0.97 for number in drawn)
        effect = PairedProportion(worse, better, 200)
        above += effect.upper(0.05) < loss
        below += effect.lower(0.05) > loss
    assert above <= 0.06 * 2000
    assert below <= 0.06 * 2000


@pytest.mark.parametrize("metric", ["mae", "rmse", "distance"])
def test_a_ratio_of_errors(metric: str) -> None:
    chance = random.Random(3)
    old = [abs(chance.gauss(0, 1)) for _sample in range(400)]
    new = [1.2 * error for error in old]
    found = paired([(errors(metric, old), errors(metric, new), 1)])
    assert math.exp(found.effect.value) == pytest.approx(1.2, rel=1e-3)
    assert found.after == pytest.approx(1.2 * found.before, rel=1e-3)
    assert found.effect.lower(0.01) > math.log(1.19), "all samples change alike, so the ratio is known well"
    apart = paired([(errors(metric, old), errors(metric, chance.sample(new, len(new))), 1)])
    assert apart.effect.lower(0.01) < math.log(1.1) < apart.effect.upper(0.01)


def test_r2_is_a_loss_in_points() -> None:
    old, new = [0.1] * 100, [0.2] * 100
    found = paired([(errors("r2", old, label_variance=1.0), errors("r2", new, label_variance=1.0), 1)])
    assert [found.before, found.after] == pytest.approx([0.99, 0.96], abs=1e-4)
    assert found.effect.value == pytest.approx(0.03, abs=1e-4)


def test_the_area_under_the_curve_by_its_placements() -> None:
    chance = random.Random(5)
    positives = [number % 2 == 0 for number in range(300)]

    def result(shift: float) -> Any:
        sides = [min(max(chance.gauss(0.85 - shift, 0.1), 0), 1) for _positive in positives]
        value = sum(side for side, positive in zip(sides, positives, strict=True) if positive) / 150
        results = {"numbers": pack_numbers(sides), "scale": 1.0, "positives": pack_flags(positives)}
        return read("auc", samples=300, value=value, results=results)

    found = paired([(result(0.0), result(0.1), 1)])
    assert found.effect.value == pytest.approx(0.1, abs=0.03)
    assert found.effect.lower(0.001) > 0.02
    same = result(0.0)
    assert paired([(same, same, 1)]).effect.value == 0.0


def test_devices_that_answer_alike_are_one_and_others_are_averaged() -> None:
    old = read("accuracy", samples=4, correct=4, value=1.0, results={"flags": pack_flags([True] * 4)})
    new = read("accuracy", samples=4, correct=2, value=0.5, results={"flags": pack_flags([True, True, False, False])})
    found = paired([(old, old, 3), (old, new, 1)])
    assert found.effect == PairedProportion(0.5, 0.0, 4)
    assert found.metric is Metric.ACCURACY
    assert sample_results(new) == [1.0, 1.0, 0.0, 0.0]


def test_answers_that_are_no_numbers_any_more_break_a_version() -> None:
    good, bad = errors("mae", [0.5] * 10), errors("mae", [0.5] * 9 + [math.nan])
    assert paired([(good, bad, 1)]).broken
    assert not paired([(bad, bad, 1)]).broken
    assert not paired([(bad, good, 1)]).broken
    assert paired([(good, errors("mae", [math.nan] * 10), 1)]).broken
