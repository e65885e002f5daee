# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many points, each with an outcome: counted, and every failure told at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

Point = TypeVar("Point")
_SHOWN = 200


class Results:
    """The outcomes of all sweeps of this run."""

    def __init__(self) -> None:
        self._rows: dict[str, Counter[str]] = {}

    def add(self, sweep: str, outcomes: Counter[str]) -> None:
        """Note what a sweep found."""
        self._rows[sweep] = outcomes

    def dump(self) -> dict[str, dict[str, int]]:
        """The outcomes of each sweep with their counts, for ``load``."""
        return {name: dict(outcomes) for name, outcomes in self._rows.items()}

    def load(self, dumped: Mapping[str, Mapping[str, int]]) -> None:
        """Add what another process found."""
        self._rows.update({name: Counter(outcomes) for name, outcomes in dumped.items()})

    def lines(self) -> list[str]:
        """A line for each sweep, and one for all."""
        if not self._rows:
            return []
        lines = [f"{name}: {_told(outcomes)}" for name, outcomes in self._rows.items()]
        return [*lines, f"all: {sum(outcomes.total() for outcomes in self._rows.values())} points"]


def sweep(results: Results, name: str, points: Iterable[Point], outcome: Callable[[Point], str]) -> Counter[str]:
    """Find the ``outcome`` of every point, also after one has failed, and note it. Fails when any did."""
    outcomes: Counter[str] = Counter()
    failures = []
    for point in points:
        try:
            outcomes[outcome(point)] += 1
        except Exception as error:
            outcomes["FAILED"] += 1
            failures.append(f"{point}: {type(error).__name__}: {str(error).splitlines()[0]}")
    results.add(name, outcomes)
    assert not failures, "\n".join([f"{name}: {_told(outcomes)}", *failures[:_SHOWN]])
    assert outcomes, f"{name}: no points"
    return outcomes


def _told(outcomes: Counter[str]) -> str:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    return f"{outcomes.total()} points: {counts}"
