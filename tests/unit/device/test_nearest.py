# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows in pairs: those that sorting all distances gives, without computing them all."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._device.nearest import nearest_pairs

NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.0, -0.0, 0.5, 1e-300, 5e-324, 1e9]), st.floats(-10, 10))
ROWS = st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=12)


def by_all_distances(rows: list[list[float]], others: list[list[float]]) -> list[tuple[int, int]]:
    apart = sorted(
        (sum(abs(a - b) for a, b in zip(row, other, strict=True)), place, at)
        for place, row in enumerate(rows)
        for at, other in enumerate(others)
    )
    left, unmet, found = set(range(len(rows))), set(range(len(others))), []
    for _distance, place, at in apart:
        if place in left and at in unmet:
            left.remove(place)
            unmet.remove(at)
            found.append((place, at))
    return found


@given(ROWS, ROWS)
def test_the_pairs_are_those_of_all_distances(rows: list[list[float]], others: list[list[float]]) -> None:
    assert list(nearest_pairs(rows, others)) == by_all_distances(rows, others)


def test_rows_that_are_not_finite_are_last() -> None:
    rows = [[math.nan, 1.0], [2.0, 2.0], [math.inf, 0.0]]
    others = [[9.0, 9.0], [math.inf, 0.0], [1.0, 1.0]]
    assert list(nearest_pairs(rows, others)) == [(1, 2), (0, 0), (2, 1)]
    assert list(nearest_pairs(rows, others[:1])) == [(1, 0)]
    assert list(nearest_pairs([], others)) == list(nearest_pairs(rows, [])) == []


@pytest.mark.parametrize("kind", ["boxes", "a shifted copy", "padding"])
def test_few_distances_are_computed(kind: str) -> None:
    """Of 1,000 rows and 1,000 others, a million distances: less than a twentieth of them."""
    compared = 0

    class Number(float):
        def __sub__(self, other: float) -> float:
            nonlocal compared
            compared += 1
            return float(self) - float(other)

    source = random.Random(5)
    others = [[source.uniform(0, 640) for _column in range(4)] for _row in range(1000)]
    if kind == "padding":
        others[100:] = [[0.0] * 4] * 900
    off = 0.0 if kind == "padding" else 0.01
    rows = [[Number(value + off) for value in row] for row in others]
    if kind == "boxes":
        source.shuffle(rows)
    assert len(list(nearest_pairs(rows, others))) == 1000
    assert compared < 4 * 1000 * 1000 / 20
