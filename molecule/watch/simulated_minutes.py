# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On a device: let minutes pass, with what its timer does in each of them, by its own code.

usage: simulated_minutes.py MINUTES AGO [FIRST LAST BELIEVED]

They end AGO minutes before now. From the minute FIRST to the one before LAST the device believes that it is BELIEVED,
in seconds since 1970, and goes on from there. It prints one line of JSON: the true times of the minutes in milliseconds
since 1970, and all that they said.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial

# The app that serves now.
sys.path.insert(0, os.path.dirname(os.path.realpath("/usr/local/bin/edgeml")))

from edgeml_device._forward.clock import Reading, read_clock
from edgeml_device._forward.config import CONFIG, read_config
from edgeml_device._forward.forwarder import Forwarder

MINUTE_MS = 60_000


def main(minutes: int, ago: int, first: int = 0, last: int = 0, believed: int = 0) -> None:
    """Let them pass."""
    config, now = read_config(CONFIG), read_clock()
    times: list[int] = []
    lines: set[str] = set()
    for minute in range(minutes):
        # As if the device had started before them.
        ago_ms = (minutes - minute + ago) * MINUTE_MS
        true_ms = now.time_ms - ago_ms
        is_wrong = first <= minute < last
        says_ms = believed * 1000 + (minute - first) * MINUTE_MS if is_wrong else true_ms
        reading = Reading(says_ms, now.boot_ms - ago_ms, now.boot, not is_wrong)
        forwarder = Forwarder(config, partial(Reading, *reading))
        forwarder.run(by_timer=True)
        times.append(true_ms)
        lines.update(forwarder.lines)
    print(json.dumps({"times": times, "lines": sorted(lines)}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
