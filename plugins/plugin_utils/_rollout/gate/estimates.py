# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How far a measured difference can be believed: one-sided confidence limits of shares and of ratios. Pure.

Each effect has a ``value`` (above 0: harm), and ``lower(alpha)`` and ``upper(alpha)``: limits that the true value is
beyond with a probability of at most ``alpha``, each.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Iterable, Sequence

NORMAL = NormalDist()
# From here on the score interval of a share cannot be told from the exact one.
MANY = 1000
TRIMMED = 0.2


@dataclass(frozen=True)
class Share:
    """``wrong`` of ``total`` events, with the factor ``weight`` that their share has in a sum."""

    weight: float
    wrong: float
    total: float

    @property
    def value(self) -> float:
        """The share itself, from 0 to 1."""
        return self.wrong / self.total


@dataclass(frozen=True)
class ShareEffect:
    """A sum of independent shares with weights, such as (now - past) - (now - past of the controls).

    The limits are those of MOVER (Zou and Donner, Construction of confidence limits about effect measures: a general
    approach, Statistics in Medicine 27, 2008; Newcombe, Interval estimation for the difference between independent
    proportions, Statistics in Medicine 17, 1998), over the exact limits of each share (Clopper and Pearson, The use of
    confidence or fiducial limits illustrated in the case of the binomial, Biometrika 26, 1934), which hold also where
    nothing or little was counted.
    """

    shares: tuple[Share, ...]

    @property
    def value(self) -> float:
        """The sum."""
        return math.fsum(share.weight * share.value for share in self.shares)

    def lower(self, alpha: float) -> float:
        """The lower limit."""
        return self.value - math.sqrt(math.fsum(_reach(share, alpha, share.weight < 0) ** 2 for share in self.shares))

    def upper(self, alpha: float) -> float:
        """The upper limit."""
        return self.value + math.sqrt(math.fsum(_reach(share, alpha, share.weight > 0) ** 2 for share in self.shares))


@dataclass(frozen=True)
class MeanEffect:
    """A mean, with the variance that it is known by and the degrees of freedom behind that."""

    value: float
    variance: float
    freedom: float

    def lower(self, alpha: float) -> float:
        """The lower limit (Student's t)."""
        return self.value - student(alpha, self.freedom) * math.sqrt(self.variance)

    def upper(self, alpha: float) -> float:
        """The upper limit (Student's t)."""
        return self.value + student(alpha, self.freedom) * math.sqrt(self.variance)


@dataclass(frozen=True)
class Trimmed:
    """A trimmed mean of ``kept`` values, and the winsorised sum of squares around it with its degrees of freedom.

    One noisy device among five or more does not move it (Yuen, The two-sample trimmed t for unequal population
    variances, Biometrika 61, 1974; a fifth is cut off at each end, as is usual).
    """

    mean: float
    squares: float
    kept: int

    @property
    def freedom(self) -> int:
        """Degrees of freedom of ``squares``."""
        return self.kept - 1


def trimmed(values: Iterable[float]) -> Trimmed:
    """The trimmed mean of at least one value."""
    ordered = sorted(values)
    cut = int(len(ordered) * TRIMMED)
    inner = ordered[cut : len(ordered) - cut]
    winsorised = [inner[0]] * cut + inner + [inner[-1]] * cut
    middle = math.fsum(winsorised) / len(winsorised)
    squares = math.fsum((value - middle) ** 2 for value in winsorised)
    return Trimmed(math.fsum(inner) / len(inner), squares, len(inner))


def dispersion(groups: Iterable[Sequence[tuple[float, float]]], weight: float) -> float:
    """By what factor devices differ more than their counts explain; at least 1.

    ``groups`` of (difference, its variance by the counts alone) per device. Pearson's statistic by its degrees of
    freedom (McCullagh and Nelder, Generalized Linear Models, 1989, 4.5), with ``weight`` degrees in favour of 1.
    """
    squares, freedom = weight, weight
    for group in groups:
        known = [(value, variance) for value, variance in group if variance > 0]
        if len(known) > 1:
            total = math.fsum(1 / variance for _value, variance in known)
            mean = math.fsum(value / variance for value, variance in known) / total
            squares += math.fsum((value - mean) ** 2 / variance for value, variance in known)
            freedom += len(known) - 1
    return max(1.0, squares / freedom)


@functools.lru_cache(maxsize=4096)
def student(alpha: float, freedom: float) -> float:
    """The value that Student's t is above with probability ``alpha`` (below 0.5)."""
    low, high = 0.0, 1.0
    while _student_tail(high, freedom) > alpha and high < 1e12:
        low, high = high, high * 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _student_tail(middle, freedom) > alpha else (low, middle)
    return high


def _student_tail(value: float, freedom: float) -> float:
    return beta_cdf(freedom / (freedom + value * value), freedom / 2, 0.5) / 2


def _reach(share: Share, alpha: float, above: bool) -> float:
    """How far the limit above or below a share is from it, times its weight."""
    limit = share_upper(share.wrong, share.total, alpha) if above else share_lower(share.wrong, share.total, alpha)
    return share.weight * (limit - share.value)


def share_lower(wrong: float, total: float, alpha: float) -> float:
    """The exact lower limit of a share; counts need not be whole."""
    return 1.0 - share_upper(total - wrong, total, alpha)


@functools.lru_cache(maxsize=65536)
def share_upper(wrong: float, total: float, alpha: float) -> float:
    """The exact upper limit of a share; counts need not be whole."""
    if wrong >= total:
        return 1.0
    if wrong == 0:
        return float(1 - alpha ** (1 / total))
    z = NORMAL.inv_cdf(1 - alpha)
    share = wrong / total
    # Wilson's score interval: where to look for the exact limit, or as good as it.
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2) / (1 + z * z / total)
    if wrong > MANY and total - wrong > MANY:
        return centre + reach
    low, high = share, min(1.0, max(centre + reach, share + 3 / total))
    a, b = wrong + 1, total - wrong
    while high < 1.0 and beta_cdf(1 - high, b, a) > alpha:
        low, high = high, min(1.0, high + (high - share))
    # Never too low.
    while high - low > 1e-3 * (high - share):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cdf(1 - middle, b, a) > alpha else (low, middle)
    return high


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz and Stegun, Handbook
    of Mathematical Functions, 1964, 26.5.8), summed by Lentz's method."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - beta_cdf(1.0 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d or tiny)
    fraction = d
    for step in range(1, 20000):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for term in (even, odd):
            d = 1.0 / ((1.0 + term * d) or tiny)
            c = (1.0 + term / c) or tiny
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-12:
            break
    return front * fraction / a
