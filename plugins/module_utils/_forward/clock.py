# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What time it is, and what time it was when a batch was recorded by a clock that was wrong.

A device without a clock that runs on a battery begins at 1970, or where it was switched off, and jumps when it learns
the time. How long ago something was, as long as the device has not started anew, is known all the same: by the kernel's
time since the start, which nothing sets.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from typing import NamedTuple, Sequence

# A clock that is wrong by less is right: a reply's time is that of a whole second, and links are slow.
TOLERANCE_MS = 10_000
# No batch is older: 2026-01-01.
EARLIEST_MS = 1_767_225_600_000
_UNSYNCHRONISED = 5
_TIMEX_BYTES = 512


class Reading(NamedTuple):
    """What the device's clocks say: ``time_ms`` since 1970, ``boot_ms`` since the start with the id ``boot``, both in
    milliseconds; and whether there is reason to trust the first one (``trusted``)."""

    time_ms: int
    boot_ms: int
    boot: str
    trusted: bool


def read_clock(root: str = "/") -> Reading:
    """Read the clocks. ``root`` is where proc and sys are. Raises OSError where the kernel does not tell its start."""
    with open(os.path.join(root, "proc/sys/kernel/random/boot_id"), encoding="ascii") as file:
        boot = file.read().strip().replace("-", "")
    boot_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    time_ms = time.time_ns() // 1_000_000
    return Reading(time_ms, boot_ms, boot, is_synchronised() or _agrees_with_battery_clock(time_ms, root))


def is_synchronised() -> bool:
    """Whether the kernel says that a service of the network keeps its clock right."""
    with contextlib.suppress(ImportError, OSError, AttributeError, MemoryError):
        import ctypes

        # A structure of zeros asks and changes nothing. The call returns the clock's state.
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
        return int(state) not in (-1, _UNSYNCHRONISED)
    return False


def _agrees_with_battery_clock(time_ms: int, root: str) -> bool:
    """Whether the kernel took its time from a clock on a battery, and that one still says the same. It does not where
    the battery is empty: systemd moves a clock of long ago to the time of its own release."""
    for directory in glob.glob(os.path.join(glob.escape(root), "sys/class/rtc/rtc*")):
        with contextlib.suppress(OSError, ValueError):
            with open(os.path.join(directory, "hctosys"), encoding="ascii") as file:
                is_source = file.read().strip() == "1"
            with open(os.path.join(directory, "since_epoch"), encoding="ascii") as file:
                if is_source and abs(int(file.read()) * 1000 - time_ms) <= TOLERANCE_MS:
                    return True
    return False


def right_times(readings: Sequence[Reading], now: Reading, offset_ms: int) -> list[int | None]:
    """The times at which readings were taken, in milliseconds since 1970; None for one that nobody can tell.

    ``readings`` are in their order. ``offset_ms`` is what has to be added to ``boot_ms`` in the start of ``now``, as
    the receiver's clock says. Of an earlier start the last reading tells it whose clock was trusted. A time that is
    right stays as it is.
    """
    offsets = {reading.boot: reading.time_ms - reading.boot_ms for reading in readings if reading.trusted}
    offsets[now.boot] = offset_ms
    found: list[int | None] = []
    earliest, latest = EARLIEST_MS, now.boot_ms + offset_ms
    for reading in readings:
        moment = reading.boot_ms + offsets[reading.boot] if reading.boot in offsets else None
        if moment is not None and not earliest - TOLERANCE_MS <= moment <= latest + TOLERANCE_MS:
            moment = None
        if moment is not None:
            moment = reading.time_ms if abs(moment - reading.time_ms) <= TOLERANCE_MS else moment
            earliest = max(earliest, moment)
        found.append(moment)
    return found
