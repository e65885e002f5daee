# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may be asked of a swap: numbers that end, in ranges that can be meant."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.plan import SwapOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import Limits

MOST = {
    "keep": 1000,
    "headroom_percent": 99,
    "min_ready_seconds": 3600,
    "trial_seconds": 365 * 86400,
    "crashes_max": 1000,
    "error_rate_max": 1,
    "latency_ratio_max": 1_000_000,
    "requests_min": 1_000_000_000,
}
LIMITS = ("crashes_max", "error_rate_max", "latency_ratio_max", "requests_min")


def options(name: str, value: Any) -> SwapOptions:
    return SwapOptions(limits=Limits(**{name: value})) if name in LIMITS else SwapOptions(**{name: value})


@pytest.mark.parametrize("name", MOST)
def test_the_ends_of_each_range_can_be_meant(name: str) -> None:
    for value in (0, MOST[name]):
        assert options(name, value) == options(name, value)


@pytest.mark.parametrize("name", MOST)
@given(
    st.floats(max_value=0, exclude_max=True) | st.integers(max_value=-1) | st.sampled_from([float("nan"), float("inf")])
)
def test_a_number_that_cannot_be_meant_is_named(name: str, value: float) -> None:
    with pytest.raises(ArgumentError, match=f"^{name}: expected a number from 0 to {MOST[name]}; found "):
        options(name, value)


@pytest.mark.parametrize("name", MOST)
def test_a_number_beyond_its_range_is_named(name: str) -> None:
    with pytest.raises(
        ArgumentError, match=f"^{name}: expected a number from 0 to {MOST[name]}; found {MOST[name] + 1}$"
    ):
        options(name, MOST[name] + 1)
