# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A LiteRT model that says how loud a signal is, and samples of which few are loud."""

from __future__ import annotations

from typing import Any

import numpy as np
from tflite_models import dense

Array = np.ndarray[Any, Any]
SAMPLES, LOUD = 400, 16


def levels() -> bytes:
    """How loud ``x`` is: below 30, above 30, above 80. The scores are lines that cross there."""
    spread = (np.array([[1.0], [0.5], [0.25], [0.25]]), np.zeros(4))
    lines = np.outer([0, 1, 2], [0.25, 0.5, 1, 1])
    return dense([spread, (lines, np.array([0.0, -30.0, -110.0]))])


def loudness(loud_first: bool) -> tuple[Array, Array]:
    """Samples [N,1], few of them loud, all these at one end; and their levels."""
    random = np.random.default_rng(0)
    quiet = random.uniform(0, 4, SAMPLES - LOUD)
    loud = np.concatenate([random.uniform(60, 70, LOUD // 2), random.uniform(90, 100, LOUD // 2)])
    values = np.concatenate([loud, quiet] if loud_first else [quiet, loud]).astype(np.float32)
    return values[:, None], (values > 30).astype(int) + (values > 80)
