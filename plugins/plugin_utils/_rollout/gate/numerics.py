# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Distribution functions that the standard library lacks: the incomplete beta function and Student's t. Pure."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

NORMAL = NormalDist()


def rounded(value: float) -> float:
    """Return ``value`` without the noise of binary fractions, so that a loss of exactly the limit is within it."""
    return round(value, 9)


@functools.lru_cache(maxsize=4096)
def t_quantile(alpha: float, degrees_of_freedom: float) -> float:
    """Return the value that Student's t exceeds with probability ``alpha`` (above 0, below 0.5)."""
    low, high = 0.0, 1.0
    while _t_tail(high, degrees_of_freedom) > alpha and high < 1e12:
        low, high = high, high * 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_tail(middle, degrees_of_freedom) > alpha else (low, middle)
    return high


def _t_tail(value: float, degrees_of_freedom: float) -> float:
    return beta_cdf(degrees_of_freedom / (degrees_of_freedom + value * value), degrees_of_freedom / 2, 0.5) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b).

    It is computed by its continued fraction (Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 26.5.8),
    summed by Lentz's method.
    """
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
