# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gate's intervals, against tables, against the definition of what they are, and over many analyses."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._common.packed import pack_flags
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.estimates import (
    MeanEffect,
    Proportion,
    ProportionEffect,
    dispersion,
    proportion_lower,
    proportion_upper,
    trimmed,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import (
    Observation,
    ProbeResult,
    Requests,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.numerics import beta_cdf, t_quantile
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.observations import Control, DeviceObservation
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.verdict import judge
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome


@pytest.mark.parametrize(
    ("alpha", "degrees_of_freedom", "expected"),
    [(0.025, 1, 12.706), (0.05, 4, 2.132), (0.025, 10, 2.228), (0.005, 30, 2.750), (0.0005, 120, 3.373)],
)
def test_students_t_is_that_of_the_tables(alpha: float, degrees_of_freedom: float, expected: float) -> None:
    assert t_quantile(alpha, degrees_of_freedom) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(
    ("x", "a", "b", "expected"),
    [(0.5, 1, 1, 0.5), (0.3, 2, 5, 0.579825), (0.9, 8, 2, 0.774841), (0.0, 2, 2, 0.0), (1.0, 2, 2, 1.0)],
)
def test_the_incomplete_beta_function(x: float, a: float, b: float, expected: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 60), st.integers(1, 60), st.sampled_from([0.05, 1e-3, 1e-5]))
@settings(deadline=None)
def test_a_shares_limit_is_where_what_was_seen_has_that_probability(wrong: int, right: int, alpha: float) -> None:
    total = wrong + right

    def seen(share: float) -> float:
        """How probable so few wrong ones are."""
        return math.fsum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(wrong + 1))

    upper = proportion_upper(wrong, total, alpha)
    assert seen(upper) <= alpha * (1 + 1e-6), "never too low"
    assert seen(upper - 0.01 * (upper - wrong / total)) > alpha, "and not much too high"
    assert proportion_lower(right, total, alpha) == pytest.approx(1 - upper)


@pytest.mark.parametrize(("wrong", "total"), [(500, 10_000), (5_000, 100_000), (301, 602)])
def test_the_limit_of_many_is_nearly_the_exact_one(wrong: int, total: int) -> None:
    for alpha in (0.05, 1e-4):
        upper, share = proportion_upper(wrong, total, alpha), wrong / total
        reach = upper - share
        assert beta_cdf(share + 1.05 * reach, wrong + 1, total - wrong) > 1 - alpha
        assert beta_cdf(share + 0.95 * reach, wrong + 1, total - wrong) < 1 - alpha


def test_a_difference_is_less_sure_than_its_parts() -> None:
    one = ProportionEffect((Proportion(1.0, 10, 100),))
    both = ProportionEffect((Proportion(1.0, 10, 100), Proportion(-1.0, 10, 100)))
    assert both.value == 0.0
    assert both.lower(0.05) < one.lower(0.05) - one.value < 0 < one.upper(0.05) - one.value < both.upper(0.05)
    assert MeanEffect(1.0, 0.01, 5).upper(0.05) == pytest.approx(1.2015, abs=1e-3)


def test_one_noisy_device_of_five_moves_no_mean() -> None:
    assert trimmed([0.0, 0.1, -0.1, 0.05, 50.0]).mean == pytest.approx(0.05)
    assert trimmed([1.0]).mean == 1.0
    assert (trimmed([1.0]).degrees_of_freedom, trimmed([1.0]).squares) == (0, 0.0)
    plain = trimmed([1.0, 3.0])
    assert (plain.mean, plain.squares, plain.degrees_of_freedom) == (2.0, 2.0, 1)


def test_devices_that_differ_as_chance_has_it_have_no_dispersion() -> None:
    chance = random.Random(1)
    even = [[(chance.gauss(0, 0.1), 0.01) for _device in range(200)]]
    assert dispersion(even, 10) == pytest.approx(1.0, abs=0.25)
    assert dispersion([[(chance.gauss(0, 0.3), 0.01) for _device in range(200)]], 10) == pytest.approx(9, rel=0.3)
    assert dispersion([], 10) == dispersion([[(5.0, 0.01)]], 10) == 1.0


PROBE = ProbeResult(Metric.ACCURACY, 360, 350 / 360, pack_flags([place < 350 for place in range(360)]))


def analyses(chance: random.Random, share: float, number: int) -> list[Verdict]:
    """The verdicts at each of ``number`` looks at ten devices whose requests fail with that probability, beside ten
    that are as before."""
    counted = {f"{kind}{place}": 0 for kind in "wc" for place in range(10)}
    past = Observation(requests=Requests(50_000, 50, 49_950, ()), probe=PROBE)
    found = []
    for analysis in range(1, number + 1):
        for name in counted:
            probability = share if name[0] == "w" else 0.001
            counted[name] += sum(chance.random() < probability for _request in range(500))
        now = {
            name: Observation(requests=Requests(500 * analysis, wrong, 500 * analysis - wrong, ()), probe=PROBE)
            for name, wrong in counted.items()
        }
        wave = [
            DeviceObservation(name, "small", Outcome.UPDATED, now=now[name], past=past)
            for name in now
            if name[0] == "w"
        ]
        others = [Control(name, "small", now[name], past) for name in now if name[0] == "c"]
        found.append(judge(wave, others, analysis=analysis, analyses_max=number).verdict)
    return found


def test_to_look_often_raises_no_false_alarms_and_a_real_one_is_raised() -> None:
    chance = random.Random(20261122)
    quiet = [analyses(chance, 0.001, 4) for _rollout in range(60)]
    assert sum(Verdict.FAIL in verdicts for verdicts in quiet) <= 1
    assert sum(Verdict.PASS in verdicts for verdicts in quiet) >= 57
    harmful = [analyses(chance, 0.01, 4) for _rollout in range(30)]
    assert sum(Verdict.FAIL in verdicts for verdicts in harmful) >= 28
