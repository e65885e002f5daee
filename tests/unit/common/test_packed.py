# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results of many samples in few bytes: what is packed comes out again, and a text of another size is refused."""

from __future__ import annotations

import base64
import math
from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._common.packed import (
    pack_flags,
    pack_numbers,
    unpack_flags,
    unpack_numbers,
)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 20])
def test_flags_come_out_as_they_went_in(count: int) -> None:
    flags = [place % 3 == 0 for place in range(count)]
    assert unpack_flags(pack_flags(flags), count) == flags


def test_the_first_flag_is_the_highest_bit() -> None:
    assert base64.b64decode(pack_flags([True, *[False] * 6, True, True])) == b"\x81\x80"


def test_numbers_come_out_with_eleven_significant_bits() -> None:
    numbers = unpack_numbers(pack_numbers([-1.0, 0.0, 1 / 3, 1.0, math.nan]), 5)
    assert numbers[:4] == [-1.0, 0.0, pytest.approx(1 / 3, rel=2**-11), 1.0]
    assert math.isnan(numbers[4])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "expected base64 of 2 bytes"),
        ("A" * 8, "expected base64 of 2 bytes"),
        ("AA==", "expected base64 of 2 bytes; found 1"),
        ("AAAA", "expected base64 of 2 bytes; found 3"),
        ("A*A=", "expected base64 of 2 bytes: .+"),
        ("AÄA=", "expected base64 of 2 bytes: .+"),
    ],
)
def test_a_text_that_does_not_hold_what_it_should_is_refused(text: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{expected}$"):
        unpack_flags(text, 9)
    with pytest.raises(ValueError, match=f"^{expected}$"):
        unpack_numbers(text, 1)


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_infinity_is_no_result(number: float) -> None:
    with pytest.raises(ValueError, match=r"^expected numbers from -1 to 1; found infinity$"):
        unpack_numbers(pack_numbers([0.5, number]), 2)
