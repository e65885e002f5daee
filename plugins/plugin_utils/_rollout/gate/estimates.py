# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""One-sided confidence limits of proportions and of means. Pure.

Each effect has a ``value`` (above 0 means harm) and the limits ``lower(alpha)`` and ``upper(alpha)``. The true value is
beyond either limit with a probability of at most ``alpha``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Iterable, Sequence, Union

from .numerics import NORMAL, beta_cdf, t_quantile

# With more events than this, the score interval of a proportion equals the exact one for all practical purposes.
MANY = 1000
# The share of the values that a trimmed mean leaves out at each end.
TRIMMED = 0.2


@dataclass(frozen=True)
class Proportion:
    """``events`` of ``total``, which may be fractions, and the factor ``weight`` that the proportion has in a sum."""

    weight: float
    events: float
    total: float

    @property
    def value(self) -> float:
        """The proportion itself, from 0 to 1."""
        return self.events / self.total


@dataclass(frozen=True)
class ProportionEffect:
    """A weighted sum of independent proportions, such as (now - past) - (now - past of the controls).

    The limits are those of MOVER (Zou and Donner, Construction of confidence limits about effect measures: a general
    approach, Statistics in Medicine 27, 2008; Newcombe, Interval estimation for the difference between independent
    proportions, Statistics in Medicine 17, 1998), over the exact limits of each proportion
    (Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial, Biometrika
    26, 1934), which hold for small counts and for no events at all.
    """

    proportions: tuple[Proportion, ...]

    @property
    def value(self) -> float:
        """The sum."""
        return math.fsum(part.weight * part.value for part in self.proportions)

    def lower(self, alpha: float) -> float:
        """The lower limit."""
        return self.value - self._reach(alpha, above=False)

    def upper(self, alpha: float) -> float:
        """The upper limit."""
        return self.value + self._reach(alpha, above=True)

    def _reach(self, alpha: float, *, above: bool) -> float:
        """How far the limit is from the value."""
        parts = (_reach(part, alpha, above=(part.weight > 0) == above) for part in self.proportions)
        return math.sqrt(math.fsum(part**2 for part in parts))


@dataclass(frozen=True)
class MeanEffect:
    """A mean, its variance, and the degrees of freedom of that variance. Its limits are those of Student's t."""

    value: float
    variance: float
    degrees_of_freedom: float

    def lower(self, alpha: float) -> float:
        """The lower limit."""
        return self.value - t_quantile(alpha, self.degrees_of_freedom) * math.sqrt(self.variance)

    def upper(self, alpha: float) -> float:
        """The upper limit."""
        return self.value + t_quantile(alpha, self.degrees_of_freedom) * math.sqrt(self.variance)


Effect = Union[ProportionEffect, MeanEffect]


@dataclass(frozen=True)
class Trimmed:
    """A trimmed mean of ``kept`` values, and the winsorised sum of squares around it with its degrees of freedom.

    One noisy device among five or more does not move the mean (Yuen, The two-sample trimmed t for unequal population
    variances, Biometrika 61, 1974). A fifth is cut off at each end, as is usual.
    """

    mean: float
    squares: float
    kept: int

    @property
    def degrees_of_freedom(self) -> int:
        """Degrees of freedom of ``squares``."""
        return self.kept - 1


def trimmed(values: Iterable[float]) -> Trimmed:
    """Return the trimmed mean of at least one value."""
    ordered = sorted(values)
    cut = int(len(ordered) * TRIMMED)
    inner = ordered[cut : len(ordered) - cut]
    winsorised = [inner[0]] * cut + inner + [inner[-1]] * cut
    middle = math.fsum(winsorised) / len(winsorised)
    squares = math.fsum((value - middle) ** 2 for value in winsorised)
    return Trimmed(math.fsum(inner) / len(inner), squares, len(inner))


def dispersion(groups: Iterable[Sequence[tuple[float, float]]], weight: float) -> float:
    """Return by what factor devices differ more than chance explains; at least 1.

    Each group holds a pair for each device: a difference, and its variance if chance alone were at work. The result is
    Pearson's statistic divided by its degrees of freedom (McCullagh and Nelder, Generalized Linear Models, 1989, 4.5),
    with ``weight`` degrees of freedom added in favour of 1.
    """
    squares, degrees_of_freedom = weight, weight
    for group in groups:
        known = [(value, variance) for value, variance in group if variance > 0]
        if len(known) > 1:
            total = math.fsum(1 / variance for _value, variance in known)
            mean = math.fsum(value / variance for value, variance in known) / total
            squares += math.fsum((value - mean) ** 2 / variance for value, variance in known)
            degrees_of_freedom += len(known) - 1
    return max(1.0, squares / degrees_of_freedom)


def _reach(part: Proportion, alpha: float, *, above: bool) -> float:
    """How far the limit above or below a proportion is from it, times its weight."""
    limit = (
        proportion_upper(part.events, part.total, alpha) if above else proportion_lower(part.events, part.total, alpha)
    )
    return part.weight * (limit - part.value)


def proportion_lower(events: float, total: float, alpha: float) -> float:
    """Return the exact lower limit of a proportion; counts need not be whole."""
    return 1.0 - proportion_upper(total - events, total, alpha)


@functools.lru_cache(maxsize=65536)
def proportion_upper(events: float, total: float, alpha: float) -> float:
    """Return the exact upper limit of a proportion; counts need not be whole."""
    if events >= total:
        return 1.0
    if events == 0:
        return float(1 - alpha ** (1 / total))
    z = NORMAL.inv_cdf(1 - alpha)
    share = events / total
    # Wilson's score interval: a bracket for the exact limit, and as good as it for many events.
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2) / (1 + z * z / total)
    if events > MANY and total - events > MANY:
        return centre + reach
    low, high = share, min(1.0, max(centre + reach, share + 3 / total))
    a, b = events + 1, total - events
    while high < 1.0 and beta_cdf(1 - high, b, a) > alpha:
        low, high = high, min(1.0, high + (high - share))
    # The result is the upper end of the bracket, so that it is never too low.
    while high - low > 1e-3 * (high - share):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cdf(1 - middle, b, a) > alpha else (low, middle)
    return high
