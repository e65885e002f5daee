# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counters, gauges, histograms and summaries, as the process that is measured keeps them.

``metrics`` has them written by prometheus_client. That is imported by the first who asks, not by a server that starts.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping, Sequence
from typing import Callable, Generic, TypeVar

_INFINITY = float("inf")


class Number:
    """The value of a counter or a gauge; from any thread."""

    def __init__(self) -> None:
        self._value = 0.0
        self._function: Callable[[], float] | None = None
        self._lock = threading.Lock()

    def inc(self, amount: float = 1) -> None:
        """Add to the value."""
        with self._lock:
            self._value += amount

    def set(self, value: float) -> None:
        """Replace the value."""
        self._value = float(value)

    def set_function(self, function: Callable[[], float]) -> None:
        """Have the value worked out whenever it is asked for."""
        self._function = function

    @property
    def value(self) -> float:
        """The value now."""
        return self._value if self._function is None else float(self._function())


class Distribution:
    """What a histogram or a summary knows of the values that were observed; from any thread."""

    def __init__(self, bounds: Sequence[float] = ()) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Count a value."""
        place = bisect.bisect_left(self._bounds, value)
        with self._lock:
            self._counts[place] += 1
            self.sum += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, int]]:
        """How many values were at most each bound, and in all."""
        found, total = [], 0
        for bound, count in zip([*self._bounds, _INFINITY], self._counts):
            total += count
            found.append(("+Inf" if bound == _INFINITY else str(float(bound)), total))
        return found


Child = TypeVar("Child", Number, Distribution)


class Family(Generic[Child]):
    """The series of one name, by the values of their labels; without labels there is just one, ``only``.

    ``kind`` is that of Prometheus: counter, gauge, histogram or summary.
    """

    def __init__(self, kind: str, name: str, text: str, new: Callable[[], Child], labels: Sequence[str] = ()) -> None:
        self.kind = kind
        self.name = name
        self.text = text
        self.label_names = tuple(labels)
        self._new: Callable[[], Child] = new
        self._children: dict[tuple[str, ...], Child] = {} if labels else {(): new()}

    @property
    def only(self) -> Child:
        """The one series of a family without labels."""
        return self._children[()]

    def labels(self, *values: str) -> Child:
        """Return the series with these values of the labels, in the order of their names."""
        child = self._children.get(values)
        # Of two threads that make the first one at once, both get the same.
        return self._children.setdefault(values, self._new()) if child is None else child

    def remove(self, *values: str) -> None:
        """Forget a series, if there is one."""
        self._children.pop(values, None)

    def remove_all(self, labels: Mapping[str, str]) -> None:
        """Forget all series with these labels, some or all of those that the family has."""
        wanted = [(self.label_names.index(name), value) for name, value in labels.items()]
        for values in list(self._children):
            if all(values[place] == value for place, value in wanted):
                self.remove(*values)

    def series(self) -> list[tuple[tuple[str, ...], Child]]:
        """All series now."""
        return list(self._children.items())
