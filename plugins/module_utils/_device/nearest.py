# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Rows of numbers in pairs, the two that are nearest to each other first. Pure.

Not all distances are computed: a detector answers with hundreds of boxes, and a device has a slow processor.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from typing import Iterator, Sequence

Row = Sequence[float]


def nearest_pairs(rows: Sequence[Row], others: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """The places of two rows that belong together, as many as the fewer have: the nearest pair, then that of the rest.

    A distance is the sum of the differences of all values. Of equal distances the first row's comes first, and of its
    the first other's. Rows with a value that is not finite are as far from all as can be.
    """
    finite = [[place for place, row in enumerate(each) if all(map(math.isfinite, row))] for each in (rows, others)]
    left, unmet = ([True] * len(each) for each in (rows, others))
    near = _Near(others, finite[1])
    queue = [(found[0], place, found[1]) for place in finite[0] for found in [near.nearest(rows[place])] if found]
    heapq.heapify(queue)
    while queue:
        _distance, place, other = heapq.heappop(queue)
        if unmet[other]:
            left[place] = unmet[other] = False
            near.take(other)
            yield place, other
        else:
            found = near.nearest(rows[place])
            if found is not None:
                heapq.heappush(queue, (found[0], place, found[1]))
    of_rows, of_others = ([place for place, is_left in enumerate(each) if is_left] for each in (left, unmet))
    yield from zip(of_rows, of_others)


class _Near:
    """Rows that are looked for by the column in which they differ most. Rows that were taken are passed over."""

    def __init__(self, rows: Sequence[Row], places: Sequence[int]) -> None:
        self._rows = rows
        columns = range(len(rows[places[0]])) if places else ()
        spread = [max(rows[place][at] for place in places) - min(rows[place][at] for place in places) for at in columns]
        self._column = spread.index(max(spread)) if spread else 0
        self._order = sorted(places, key=lambda place: (rows[place][self._column], place))
        self._keys = [rows[place][self._column] for place in self._order]
        self._position = {place: position for position, place in enumerate(self._order)}
        # From each position the next one that is left, up and (one more, so that 0 is the end) down.
        self._up, self._down = list(range(len(places) + 1)), list(range(len(places) + 1))

    def take(self, place: int) -> None:
        """Pass over a row from now on."""
        position = self._position[place]
        self._up[position] = position + 1
        self._down[position + 1] = position

    def nearest(self, row: Row) -> tuple[float, int] | None:
        """The distance and the place of the nearest row that is left; None where there is none."""
        value, end = row[self._column] if self._keys else 0.0, len(self._keys)
        start = bisect_left(self._keys, value)
        up, down = _follow(self._up, start), _follow(self._down, start)
        best: tuple[float, int] | None = None
        while True:
            above = self._keys[up] - value if up < end else math.inf
            below = value - self._keys[down - 1] if down else math.inf
            # The difference in one column is a part of the distance.
            if min(above, below) == math.inf or (best is not None and min(above, below) > best[0]):
                return best
            if above <= below:
                place, up = self._order[up], _follow(self._up, up + 1)
            else:
                place, down = self._order[down - 1], _follow(self._down, down - 1)
            distance = sum(abs(a - b) for a, b in zip(row, self._rows[place]))
            if best is None or (distance, place) < best:
                best = distance, place
            # Equal rows are met in their order, before all others.
            if not distance:
                return best


def _follow(links: list[int], at: int) -> int:
    """The end of a chain of links; the links on the way are made shorter."""
    while links[at] != at:
        links[at] = links[links[at]]
        at = links[at]
    return at
