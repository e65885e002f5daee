# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Windows: times of the week, by the clock of a time zone. For maintenance, and for what a link costs."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from importlib import import_module
from typing import NamedTuple, Sequence

from .errors import ArgumentError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"(?:(?P<days>[A-Za-z][A-Za-z,-]*)\s+)?(?P<start>[\d:]+)-(?P<end>[\d:]+)(?:\s+(?P<zone>\S+))?", re.ASCII
)
_TIME = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])", re.ASCII)
_MINUTE = timedelta(minutes=1)
_DAY_MINUTES = 24 * 60

# A weekly window can be missed once, where a zone's clock skips its hour.
_HORIZON_MINUTES = 15 * _DAY_MINUTES


class _Window(NamedTuple):
    """Weekdays (0: Monday) on which it opens; minutes of the day; a smaller ``end`` is one of the next day."""

    days: frozenset[int]
    start: int
    end: int
    zone: tzinfo

    def shows(self, now: datetime) -> bool:
        """Whether the zone's clock shows a time in the window."""
        local = now.astimezone(self.zone)
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        yesterday = (today - 1) % 7
        return (today in self.days and minute >= self.start) or (yesterday in self.days and minute < self.end)


def is_open(windows: Sequence[str], now: datetime) -> bool:
    """Whether one of ``windows`` is open at ``now``, which has a zone; always, if there are none.

    A window like "Mon-Fri 22:00-05:00 Europe/Berlin" is open while the clock of its zone (UTC if it has none) shows a
    time in it: an hour that the clock shows twice is open twice, one that it skips is not. One that crosses
    midnight belongs to the day on which it opens (every day, if it names none). The end does not belong to it.
    Raises ArgumentError.
    """
    found = _read(windows)
    if now.tzinfo is None:
        raise ArgumentError(f"now: expected a time with its zone; found {now.isoformat()}")
    return not found or any(window.shows(now) for window in found)


def check(windows: Sequence[str]) -> None:
    """Raise ArgumentError unless each of ``windows`` can be read."""
    _read(windows)


def read_time(text: str | None) -> datetime:
    """A time in ISO 8601 with its zone, or the present for None. Raises ArgumentError."""
    if text is None:
        return datetime.now(timezone.utc)
    try:
        # Python 3.10 does not know the Z.
        return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except (AttributeError, ValueError) as error:
        raise ArgumentError(f"now: expected a time like 2026-11-22T02:30:00Z; found {text!r}") from error


def next_opening(windows: Sequence[str], now: datetime) -> datetime | None:
    """When ``is_open`` is true the next time, in UTC, to the minute: ``now`` itself if it is; None if not within
    15 days. Raises ArgumentError."""
    at = now
    if is_open(windows, at):
        return at.astimezone(timezone.utc)
    found = _read(windows)
    at = at.astimezone(timezone.utc).replace(second=0, microsecond=0)
    for _minute in range(_HORIZON_MINUTES):
        at += _MINUTE
        if any(window.shows(at) for window in found):
            return at
    return None


def _read(windows: Sequence[str]) -> list[_Window]:
    if isinstance(windows, str) or not isinstance(windows, Sequence):
        raise ArgumentError(f"window: expected a list of windows; found {windows!r}")
    return [_read_window(text) for text in windows]


def _read_window(text: str) -> _Window:
    match = _WINDOW.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ArgumentError(f'window: expected a text like "Mon-Fri 01:00-05:00 Europe/Berlin"; found {text!r}')
    start, end = _read_time(match["start"], text), _read_time(match["end"], text)
    if start in (end, _DAY_MINUTES):
        raise ArgumentError(f"window: expected an end after the start (a whole day is 00:00-24:00); found {text!r}")
    return _Window(_read_days(match["days"], text), start, end, _read_zone(match["zone"], text))


def _read_time(text: str, whole: str) -> int:
    match = _TIME.fullmatch(text)
    minutes = int(match[1]) * 60 + int(match[2]) if match else None
    if minutes is None or minutes > _DAY_MINUTES:
        raise ArgumentError(f"window: expected a time from 00:00 to 24:00; found {text!r} in {whole!r}")
    return minutes


def _read_days(text: str | None, whole: str) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.lower().split(","):
        first, _dash, last = part.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS or part.endswith("-"):
            raise ArgumentError(f"window: expected days like Mon-Fri or Sat,Sun; found {text!r} in {whole!r}")
        start, end = _DAYS.index(first), _DAYS.index(last or first)
        days.update((start + number) % 7 for number in range((end - start) % 7 + 1))
    return frozenset(days)


def _read_zone(text: str | None, whole: str) -> tzinfo:
    if text is None:
        return timezone.utc
    try:
        # Python 3.8 has no such module.
        zone: tzinfo = import_module("zoneinfo").ZoneInfo(text)
    except (ImportError, OSError, ValueError, LookupError) as error:
        raise ArgumentError(
            f"window: expected a zone like Europe/Berlin that this machine knows (package tzdata);"
            f" found {text!r} in {whole!r}"
        ) from error
    return zone
