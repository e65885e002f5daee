# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is made of many measurements."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def spread(values: Iterable[float]) -> str:
    """The median and, in brackets, the least and the greatest."""
    found = sorted(values)
    return f"{statistics.median(found):.2f} ({found[0]:.2f}-{found[-1]:.2f})"


class Figures:
    """What a run measured, for its end: each a name and a text."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def add(self, name: str, text: str) -> None:
        """Keep a figure."""
        self.rows.append((name, text))

    def lines(self) -> list[str]:
        """A table of them."""
        width = max((len(name) for name, _text in self.rows), default=0)
        return [f"{name.ljust(width)}  {text}" for name, text in self.rows]
