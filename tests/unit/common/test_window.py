# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Maintenance windows, also at midnight and when the clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.filter import window_open, window_opening
from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.window import is_open, next_opening, read_time

# 2026-11-20 is a Friday. Berlin is one hour ahead of UTC in winter; its clocks go from 02:00 to 03:00 on 2026-03-29,
# a Sunday, at 01:00 UTC, and from 03:00 back to 02:00 on 2026-10-25, a Sunday, at 01:00 UTC.
NIGHTS = "Mon-Fri 22:00-05:00 Europe/Berlin"


@pytest.mark.parametrize(
    ("window", "now", "expected"),
    [
        ("01:00-05:00", "2026-11-20T00:59:59Z", False),
        ("01:00-05:00", "2026-11-20T01:00:00Z", True),
        ("01:00-05:00", "2026-11-20T04:59:59Z", True),
        ("01:00-05:00", "2026-11-20T05:00:00Z", False),
        ("01:00-05:00 UTC", "2026-11-20T01:00:00Z", True),
        ("01:00-05:00 Europe/Berlin", "2026-11-20T00:00:00Z", True),
        ("01:00-05:00 Europe/Berlin", "2026-11-20T04:00:00Z", False),
        # Of another zone, and of another day there.
        ("Sat 00:00-01:00 Europe/Berlin", "2026-11-20T23:30:00Z", True),
        ("Sat 00:00-01:00 Europe/Berlin", "2026-11-20T18:30:00-05:00", True),
        # Days.
        ("Mon-Fri 01:00-05:00", "2026-11-20T02:00:00Z", True),
        ("Mon-Fri 01:00-05:00", "2026-11-21T02:00:00Z", False),
        ("Sat-Mon 01:00-05:00", "2026-11-22T02:00:00Z", True),
        ("Sat-Mon 01:00-05:00", "2026-11-23T02:00:00Z", True),
        ("Sat-Mon 01:00-05:00", "2026-11-24T02:00:00Z", False),
        ("mon,WED,fri-sat 01:00-05:00", "2026-11-21T02:00:00Z", True),
        ("mon,WED,fri-sat 01:00-05:00", "2026-11-19T02:00:00Z", False),
        # Midnight: the day is that on which it opens.
        ("Fri 22:00-06:00", "2026-11-20T05:00:00Z", False),
        ("Fri 22:00-06:00", "2026-11-20T22:00:00Z", True),
        ("Fri 22:00-06:00", "2026-11-21T05:59:00Z", True),
        ("Fri 22:00-06:00", "2026-11-21T06:00:00Z", False),
        ("Fri 22:00-06:00", "2026-11-21T22:00:00Z", False),
        ("Sun 22:00-06:00", "2026-11-23T05:00:00Z", True),
        ("Fri 22:00-24:00", "2026-11-20T23:59:59Z", True),
        ("Fri 22:00-24:00", "2026-11-21T00:00:00Z", False),
        ("Fri 22:00-00:00", "2026-11-20T23:59:59Z", True),
        ("Fri 22:00-00:00", "2026-11-21T00:00:00Z", False),
        ("Fri 00:00-24:00", "2026-11-20T00:00:00Z", True),
        # The hour that is skipped.
        ("Sun 02:00-03:00 Europe/Berlin", "2026-03-29T00:59:59Z", False),
        ("Sun 02:00-03:00 Europe/Berlin", "2026-03-29T01:00:00Z", False),
        ("Sun 02:30-04:00 Europe/Berlin", "2026-03-29T01:00:00Z", True),
        ("Sun 01:00-02:30 Europe/Berlin", "2026-03-29T00:59:59Z", True),
        ("Sun 01:00-02:30 Europe/Berlin", "2026-03-29T01:00:00Z", False),
        # The hour that comes twice.
        ("Sun 02:00-02:30 Europe/Berlin", "2026-10-25T00:15:00Z", True),
        ("Sun 02:00-02:30 Europe/Berlin", "2026-10-25T00:45:00Z", False),
        ("Sun 02:00-02:30 Europe/Berlin", "2026-10-25T01:15:00Z", True),
        ("Sun 02:00-02:30 Europe/Berlin", "2026-10-25T01:45:00Z", False),
        # Summer and winter.
        ("01:00-05:00 Europe/Berlin", "2026-07-01T23:30:00Z", True),
        ("01:00-05:00 Europe/Berlin", "2026-01-01T23:30:00Z", False),
        ("01:00-05:00 Asia/Kathmandu", "2026-01-01T19:15:00Z", True),
        (NIGHTS, "2026-11-20T21:00:00Z", True),
        (NIGHTS, "2026-11-21T03:59:00Z", True),
        (NIGHTS, "2026-11-21T21:00:00Z", False),
    ],
)
def test_whether_a_window_is_open(window: str, now: str, expected: bool) -> None:
    assert is_open([window], read_time(now)) is expected
    assert is_open(["Tue 12:00-12:01", window], read_time(now)) is expected


@pytest.mark.parametrize(
    ("windows", "now", "expected"),
    [
        ([], "2026-11-20T12:00:30Z", "2026-11-20T12:00:30Z"),
        (["01:00-05:00"], "2026-11-20T02:00:30Z", "2026-11-20T02:00:30Z"),
        (["01:00-05:00"], "2026-11-20T12:00:30Z", "2026-11-21T01:00:00Z"),
        (["Fri 01:00-05:00 Europe/Berlin"], "2026-11-20T12:00:00Z", "2026-11-27T00:00:00Z"),
        (["Fri 01:00-05:00", "Sat 03:00-04:00"], "2026-11-20T12:00:00+05:30", "2026-11-21T03:00:00Z"),
        # The hour is skipped, so it opens a week later.
        (["Sun 02:00-03:00 Europe/Berlin"], "2026-03-22T12:00:00Z", "2026-04-05T00:00:00Z"),
        (["Sun 02:30-04:00 Europe/Berlin"], "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
        # Open once more in the hour that comes twice.
        (["Sun 02:00-02:30 Europe/Berlin"], "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z"),
    ],
)
def test_when_a_window_opens(windows: list[str], now: str, expected: str) -> None:
    assert window_opening.window_opening(windows, now) == expected
    assert window_open.window_open(windows, expected)


def test_without_windows_it_is_always_open() -> None:
    assert window_open.window_open([])
    assert window_opening.window_opening([]) is not None


DAYS = st.sampled_from(["", "Mon ", "Sat-Sun ", "Fri-Mon ", "Tue,Thu "])
TIMES = st.tuples(st.integers(0, 23), st.integers(0, 59)).map(lambda found: f"{found[0]:02}:{found[1]:02}")
ZONES = st.sampled_from(["", " UTC", " Europe/Berlin", " America/New_York", " Australia/Lord_Howe", " Asia/Kathmandu"])
WINDOWS = st.tuples(DAYS, TIMES, TIMES, ZONES).filter(lambda found: found[1] != found[2])
MOMENTS = st.integers(0, 2 * 365 * 86400).map(
    lambda seconds: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@given(WINDOWS, MOMENTS)
def test_a_window_and_the_rest_of_its_days_are_never_open_together(parts: tuple[str, ...], now: datetime) -> None:
    _days, start, end, zone = parts
    assert is_open([f"{start}-{end}{zone}"], now) != is_open([f"{end}-{start}{zone}"], now)


@given(WINDOWS, MOMENTS)
def test_nothing_is_open_before_the_next_opening(parts: tuple[str, ...], now: datetime) -> None:
    days, start, end, zone = parts
    window = [f"{days}{start}-{end}{zone}"]
    opening = next_opening(window, now)
    assert opening is not None
    assert is_open(window, opening)
    assert opening >= now
    if opening > now:
        assert not is_open(window, now)
        assert not is_open(window, opening - timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("at night", r'expected a text like "Mon-Fri 01:00-05:00 Europe/Berlin"; found \'at night\''),
        ("", 'expected a text like "Mon-Fri 01:00-05:00 Europe/Berlin"; found'),
        (5, 'expected a text like "Mon-Fri 01:00-05:00 Europe/Berlin"; found 5'),
        ("Mon Tue 01:00-05:00", "expected a text like"),
        ("01:00-05:00 Europe/Berlin now", "expected a text like"),
        ("1:00-05:00", "expected a time from 00:00 to 24:00; found '1:00' in '1:00-05:00'"),
        ("01:00-25:00", "expected a time from 00:00 to 24:00; found '25:00' in '01:00-25:00'"),
        ("01:00-24:01", "expected a time from 00:00 to 24:00; found '24:01'"),
        ("01:60-05:00", "expected a time from 00:00 to 24:00; found '01:60'"),
        ("01:00-05:00:00", "expected a time from 00:00 to 24:00; found '05:00:00'"),
        ("05:00-05:00", "expected an end after the start"),
        ("24:00-05:00", "expected an end after the start"),
        ("Mon-Fry 01:00-05:00", "expected days like Mon-Fri or Sat,Sun; found 'Mon-Fry' in 'Mon-Fry 01:00-05:00'"),
        ("Monday 01:00-05:00", "expected days like Mon-Fri or Sat,Sun; found 'Monday'"),
        ("Mon- 01:00-05:00", "expected days like"),
        ("Mon,,Tue 01:00-05:00", "expected days like"),
        ("Mon-Tue-Wed 01:00-05:00", "expected days like"),
        (
            "01:00-05:00 Europe/Berlln",
            "expected a zone like Europe/Berlin .* found 'Europe/Berlln' in '01:00-05:00 Eur",
        ),
        ("01:00-05:00 ../../etc/passwd", "expected a zone like"),
        ("01:00-05:00 Europe", "expected a zone like"),
    ],
)
def test_a_mistake_is_named(window: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"window: {message}"):
        is_open([window], datetime.now(UTC))


@pytest.mark.parametrize("windows", ["01:00-05:00", None, {"a": "b"}, 5])
def test_windows_are_a_list(windows: Any) -> None:
    with pytest.raises(ArgumentError, match="window: expected a list of windows; found"):
        is_open(windows, datetime.now(UTC))


def test_a_time_has_a_zone() -> None:
    with pytest.raises(ArgumentError, match="now: expected a time with its zone; found 2026-11-20T12:00:00"):
        is_open([], read_time("2026-11-20T12:00:00"))


@pytest.mark.parametrize("name", ["window_open", "window_opening"])
def test_the_filters_say_what_is_wrong(name: str) -> None:
    plugin = {"window_open": window_open, "window_opening": window_opening}[name]
    function = plugin.FilterModule().filters()[name]
    with pytest.raises(AnsibleFilterError, match=f"{name}: window: expected a text like"):
        function(["at night"])
    with pytest.raises(
        AnsibleFilterError, match=f"{name}: now: expected a time like 2026-11-22T02:30:00Z; found 'now'"
    ):
        function([], "now")
