# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of CBOR that microcontrollers speak, beside another implementation in Python, and under hostile bytes."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._smp.cbor import (
    DEPTH_MAX,
    ITEMS_MAX,
    CborError,
    dumps,
    loads,
)

WHOLE = st.integers(-(1 << 64), (1 << 64) - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False) | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(VALUES)
def test_another_reader_reads_what_is_written(value: Any) -> None:
    assert cbor2.loads(dumps(value)) == value


@given(VALUES)
def test_what_another_writes_is_read(value: Any) -> None:
    assert loads(cbor2.dumps(value)) == value
    assert loads(cbor2.dumps(value, canonical=True)) == value


@given(st.binary(max_size=200))
def test_hostile_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(CborError):
        again = loads(data)
        assert dumps(loads(dumps(again))) == dumps(again)


def test_values_whose_end_is_marked_are_read() -> None:
    """As Zephyr writes them, which does not know the number of entries when it begins."""
    assert loads(b"\xbf\x61a\x9f\x01\x02\xff\x61b\x7f\x61x\x61y\xff\xff") == {"a": [1, 2], "b": "xy"}
    assert loads(b"\x5f\x41a\x41b\xff") == b"ab"


def test_floats_of_all_sizes_are_read() -> None:
    assert loads(b"\xf9\x3c\x00") == 1.0
    assert loads(b"\xfa\x3f\x80\x00\x00") == 1.0
    assert math.isnan(loads(b"\xf9\x7e\x00"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "byte 0: expected 1 bytes; found 0"),
        (b"\x01\x01", "byte 1: expected the end of the CBOR; found 1 bytes more"),
        (b"\xff", "byte 0: expected a value; found the end of a list"),
        (b"\x1c", "byte 0: expected a number or a length; found 28"),
        (b"\xc0\x60", "expected no tag; found one"),
        (b"\xf0", "expected true, false, null or a float; found the simple value 16"),
        (b"\x5b" + b"\xff" * 8, "expected 18446744073709551615 bytes; found 0"),
        (b"\x9b" + b"\xff" * 8, "expected 18446744073709551615 entries; found 0 bytes"),
        (b"\xa1\x01\x01", "expected a text as a key; found int"),
        (b"\xbf\x01\x01\xff", "expected a text as a key; found int"),
        (b"\xa2\x61a\x01\x61a\x02", "expected each key once; found 'a' twice"),
        (b"\x61\xff", "expected a text in UTF-8"),
        (b"\x7f\x41a\xff", "expected a part of a string; found bytes"),
        (b"\x81" * (DEPTH_MAX + 2), f"expected at most {DEPTH_MAX} levels; found more"),
        (b"\x9f" + b"\x01" * (ITEMS_MAX + 1), f"expected at most {ITEMS_MAX} items; found more"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(CborError, match=f"^.*{reason}"):
        loads(data)


@pytest.mark.parametrize("value", [{1: 2}, object(), {"a": {3}}])
def test_a_value_that_nobody_can_read_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError, match="expected a"):
        dumps(value)


def test_a_number_of_more_than_64_bits_is_not_written() -> None:
    with pytest.raises(ValueError, match="at most 64 bits"):
        dumps(1 << 64)
