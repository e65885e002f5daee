# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cohorts: the same host gets the same answer, and waves cover the fleet, each device once."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from links import PYTHON_PATH

from ansible_collections.edgeml.fleet.plugins.module_utils._cohort import cohort, position, waves

HOSTS = st.text(alphabet="abcdefghij0123456789-.é", min_size=1, max_size=12)
FLEETS = st.dictionaries(HOSTS, st.sampled_from(["small", "large", "site-a/large"]), max_size=40)
SALTS = st.text(max_size=8)
PERCENTS = st.floats(min_value=0, max_value=100)
RISING = st.lists(st.floats(min_value=0, max_value=99.9), unique=True, max_size=5).map(
    lambda found: [*sorted(found), 100]
)


def fleet(size: int) -> dict[str, str]:
    return {f"edge-{number:06}": "small" if number % 4 else "large" for number in range(size)}


def test_a_position_is_fixed_for_ever() -> None:
    # Controllers of different versions, and the devices themselves, must agree.
    assert position("digits", "edge-s1") == 0.44277715549813834
    assert position("digits", "edge-s2") == 0.5600881382631684


def test_another_process_gives_the_same_answer() -> None:
    hosts = fleet(50)
    code = (
        "import json, sys; from edgeml_device._cohort import cohort; print(cohort(json.loads(sys.argv[1]), 30, 'salt'))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(hosts)],
            env={"PYTHONPATH": str(PYTHON_PATH), "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert answers == {str(cohort(hosts, 30, "salt"))}


@given(SALTS, HOSTS)
def test_a_position_is_a_share(salt: str, host: str) -> None:
    assert 0 <= position(salt, host) < 1


@given(FLEETS, PERCENTS, SALTS, st.randoms(use_true_random=False))
def test_the_order_of_the_hosts_does_not_matter(
    hosts: dict[str, str], percent: float, salt: str, order: random.Random
) -> None:
    names = list(hosts)
    order.shuffle(names)
    assert cohort({name: hosts[name] for name in names}, percent, salt) == cohort(hosts, percent, salt)


@given(FLEETS, PERCENTS, PERCENTS, SALTS)
def test_a_larger_percentage_contains_the_smaller(hosts: dict[str, str], one: float, other: float, salt: str) -> None:
    assert set(cohort(hosts, min(one, other), salt)) <= set(cohort(hosts, max(one, other), salt))


@given(FLEETS, FLEETS, PERCENTS, SALTS)
def test_new_hosts_change_no_host_that_is_chosen_by_its_position(
    hosts: dict[str, str], more: dict[str, str], percent: float, salt: str
) -> None:
    grown = {**more, **hosts}
    by_position = {host for host in hosts if position(salt, host) < percent / 100}
    assert by_position <= set(cohort(hosts, percent, salt))
    assert by_position <= set(cohort(grown, percent, salt))
    # The others are there only to represent their stratum, and one is enough.
    for chosen, everyone in ((cohort(hosts, percent, salt), hosts), (cohort(grown, percent, salt), grown)):
        extra = [everyone[host] for host in chosen if position(salt, host) >= percent / 100]
        assert len(extra) == len(set(extra))


@given(FLEETS, PERCENTS.filter(lambda percent: percent > 0), SALTS)
def test_each_stratum_is_represented(hosts: dict[str, str], percent: float, salt: str) -> None:
    assert {hosts[host] for host in cohort(hosts, percent, salt)} == set(hosts.values())


@given(FLEETS, SALTS)
def test_nobody_and_everybody(hosts: dict[str, str], salt: str) -> None:
    assert cohort(hosts, 0, salt, always=hosts) == []
    assert sorted(cohort(hosts, 100, salt)) == sorted(hosts)


@given(FLEETS, RISING, SALTS, st.lists(HOSTS, max_size=3))
def test_waves_partition_the_fleet(hosts: dict[str, str], percents: list[float], salt: str, always: list[str]) -> None:
    result = waves(hosts, percents, salt, always)
    assert all(result)
    assert sorted(host for wave in result for host in wave) == sorted(hosts)
    assert len(result) <= len(percents)
    if result:
        assert set(always) & set(hosts) <= set(result[0])
        assert {hosts[host] for host in result[0]} == set(hosts.values())


def test_always_names_the_first_and_strangers_are_passed_over() -> None:
    first = waves(fleet(100), [1, 100], "salt", ["edge-000099", "stranger"])[0]
    assert "edge-000099" in first
    assert "stranger" not in first


def test_always_may_be_an_iterator() -> None:
    assert waves(fleet(20), [5, 50, 100], "salt", iter(["edge-000007"])) == waves(
        fleet(20), [5, 50, 100], "salt", ["edge-000007"]
    )


def test_another_salt_spreads_the_risk_of_being_first() -> None:
    hosts = fleet(1000)
    assert len(set(cohort(hosts, 10, "digits")) & set(cohort(hosts, 10, "faces"))) < 40


def test_a_fleet_of_100_000_is_planned() -> None:
    hosts = fleet(100_000)
    result = waves(hosts, [1, 10, 50, 100], "digits")
    assert sum(map(len, result)) == 100_000
    for wave, expected in zip(result, (0.01, 0.09, 0.40, 0.50), strict=True):
        assert len(wave) == pytest.approx(expected * 100_000, rel=0.05)
        assert sum(hosts[host] == "large" for host in wave) == pytest.approx(len(wave) / 4, rel=0.15)


@pytest.mark.parametrize("percent", [-1, 100.1, float("nan"), float("inf"), -0.0001])
def test_a_percentage_is_from_0_to_100(percent: float) -> None:
    with pytest.raises(ValueError, match="percent: expected 0 to 100; found"):
        cohort({"a": "b"}, percent, "")


@pytest.mark.parametrize("percents", [[], [50], [100, 50], [10, 10, 100], [10, 10.0, 100], [50, 100, 101], [100, 100]])
def test_waves_rise_to_100(percents: list[float]) -> None:
    with pytest.raises(ValueError, match="waves: expected rising percentages that end with 100; found"):
        waves(fleet(3), percents, "")


@pytest.mark.parametrize("percents", [[-10, 100], [float("nan"), 100]])
def test_waves_are_percentages(percents: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        waves(fleet(3), percents, "")
