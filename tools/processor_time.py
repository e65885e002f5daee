#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processor time, which says how much work was done, however busy the machine is.

usage: processor_time.py machine        seconds that this machine takes for a fixed amount of work
       processor_time.py devices LABEL  seconds that the running containers with a label (KEY=VALUE) have used

The engine's own figures are not taken: with control groups of version 1 they can be 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

_WORK = 20_000_000
_TICKS = os.sysconf("SC_CLK_TCK")


def machine_seconds() -> float:
    """Return the processor time in seconds that a fixed amount of work takes now."""
    begin = time.process_time()
    total = 0
    for number in range(_WORK):
        total += number & 7
    return time.process_time() - begin


def device_seconds(label: str) -> float:
    """Return the processor time in seconds of all processes, ended ones too, of the running containers with a label."""
    import docker

    children = defaultdict(list)
    ticks = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        process = int(path.parent.name)
        children[int(fields[1])].append(process)
        # utime, stime, and those of the children that were waited for (proc(5))
        ticks[process] = sum(map(int, fields[11:15]))
    found = [
        int(container.attrs["State"]["Pid"])
        for container in docker.from_env().containers.list(filters={"label": label})
    ]
    total = 0
    while found:
        process = found.pop()
        total += ticks.get(process, 0)
        found += children[process]
    return total / _TICKS


def main() -> int:
    """Print one number."""
    parser = argparse.ArgumentParser(description="processor time in seconds")
    of = parser.add_subparsers(dest="of", required=True)
    of.add_parser("machine", help="for a fixed amount of work")
    of.add_parser("devices", help="of containers").add_argument("label")
    arguments = parser.parse_args()
    print(f"{machine_seconds() if arguments.of == 'machine' else device_seconds(arguments.label):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
