# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stays of many inputs for retraining, and which rules the server takes."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from edgeml_server.observe.collect_rules import CollectRule, parse_rules
from edgeml_server.observe.reservoir import Cell, Held, Reservoir
from hypothesis import given
from hypothesis import strategies as st

NOISE, RARE = Cell("low_confidence", 3, 10), Cell("low_confidence", 4, 10)


def offer(reservoir: Reservoir, digest: str, cell: Cell, size: int = 10, time: float = 0) -> bool:
    """Offer an input, and do what the collector does; return whether it was taken."""
    gone = reservoir.admit(cell, size)
    if gone is None:
        return False
    for other in gone:
        reservoir.remove(other)
    reservoir.put(digest, Held(size, time, cell, False))
    return True


def held_cells(reservoir: Reservoir, count: int) -> Counter[Cell]:
    held = [reservoir.get(str(number)) for number in range(count)]
    return Counter(item.cell for item in held if item is not None)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 60)), max_size=120), st.integers(1, 9))
def test_the_bounds_always_hold(offers: list[tuple[int, int, int]], rows: int) -> None:
    reservoir = Reservoir(rows, 100, random.Random(1))
    for number, (predicted, hour, size) in enumerate(offers):
        offer(reservoir, str(number), Cell("drifting", predicted, hour), size)
        held = [reservoir.get(str(index)) for index in range(number + 1)]
        sizes = [item.size for item in held if item is not None]
        assert len(sizes) == len(reservoir) <= rows
        assert sum(sizes) == reservoir.bytes <= 100


def test_a_noisy_class_does_not_take_the_place_of_a_rare_one() -> None:
    reservoir = Reservoir(100, 1 << 20, random.Random(1))
    for number in range(5000):
        offer(reservoir, str(number), NOISE)
    assert len(reservoir) == 100
    for number in range(5000, 5030):
        assert offer(reservoir, str(number), RARE)
    for number in range(5030, 9000):
        offer(reservoir, str(number), NOISE)
    assert held_cells(reservoir, 9000) == {NOISE: 70, RARE: 30}


def test_a_minute_does_not_take_the_place_of_the_hours_before_and_after() -> None:
    reservoir = Reservoir(90, 1 << 20, random.Random(1))
    count = 0
    for hour, offers in ((1, 40), (2, 5000), (3, 40)):
        for _ in range(offers):
            offer(reservoir, str(count), Cell("drifting", 0, hour))
            count += 1
    found = held_cells(reservoir, count)
    assert min(found.values()) >= 25


def test_what_stays_of_a_cell_is_a_uniform_sample() -> None:
    """The first and the last of a thousand have the same chance, whose binomial deviation is 0.5 in 30."""
    early = 0
    for seed in range(200):
        reservoir = Reservoir(50, 1 << 20, random.Random(seed))
        for number in range(1000):
            offer(reservoir, str(number), NOISE)
        early += sum(reservoir.get(str(number)) is not None for number in range(500))
    assert 4600 < early < 5400


def test_what_was_taken_makes_room_and_what_is_old_is_named() -> None:
    reservoir = Reservoir(2, 100, random.Random(1))
    assert offer(reservoir, "a", NOISE, time=5)
    assert offer(reservoir, "b", NOISE, time=9)
    assert reservoir.is_full(10)
    reservoir.retain({"b", "unknown"})
    assert not reservoir.is_full(10)
    assert (reservoir.older_than(9), reservoir.older_than(10)) == ([], ["b"])
    reservoir.remove("unknown")
    assert reservoir.admit(NOISE, 101) is None


def test_the_rules_of_the_readme() -> None:
    given_rules = [{"model": "digits"}, {"model": "a/b", "reasons": ["shadow"], "margin": 0, "rows": 1, "days": 0.5}]
    assert parse_rules(given_rules) == {
        "digits": CollectRule(("disagreeing", "drifting", "low_confidence"), 0.1, 1000, 64 << 20, 30),
        "a/b": CollectRule(["shadow"], 0, 1, 64 << 20, 0.5),
    }


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, "expected a list"),
        ([1], "expected objects with the name of a model"),
        ([{"model": "../x"}], "expected objects with the name of a model"),
        ([{"model": "a"}, {"model": "a"}], "a: expected once; found twice"),
        ([{"model": "a", "seconds": 1}], "a: unknown key seconds"),
        ([{"model": "a", "reasons": []}], "a: reasons: expected some of"),
        ([{"model": "a", "reasons": "shadow"}], "a: reasons: expected some of"),
        ([{"model": "a", "reasons": ["fun"]}], "a: reasons: expected some of"),
        ([{"model": "a", "margin": -1}], "a: margin: expected"),
        ([{"model": "a", "margin": True}], "a: margin: expected"),
        ([{"model": "a", "rows": 20_001}], "a: rows: expected a whole number from 1 to 20000"),
        ([{"model": "a", "bytes": 1}], "a: bytes: expected a whole number from 65536"),
        ([{"model": "a", "days": 0}], "a: days: expected a number above 0"),
    ],
)
def test_other_rules_are_refused(rules: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_rules(rules)
