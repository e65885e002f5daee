#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a device pays for being watched: a scrape of its server, edgeml metrics, edgeml forward to a VictoriaMetrics.

Processor time of each minute, and the most memory while it lasts, without the pages of files that the server has as
well, which runs by the same Python. A device runs one of the two commands. The VictoriaMetrics is the one that
tools/watch unpacks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from clone import REPOSITORY
from device import Device
from device_app import make_app
from releases import read_release
from victoria_metrics import VictoriaMetrics

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.forwarder import ASK_AFTER_MS

SCRAPES = 200


class Cost(NamedTuple):
    """Of one run of a command: processor time, and the most memory beside the server."""

    cpu_seconds: float
    memory_bytes: int


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=6, help="of each command (default: 6)")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with VictoriaMetrics(directory / "store") as receiver, Device(directory, "edge-1") as device:
            device.serve(read_release(REPOSITORY / "examples/digits/repository", "digits", "1.0.0"))
            costs = {
                "edgeml metrics, for node_exporter": _run(directory, device, runs, "metrics", "--textfile", "x.prom"),
                "edgeml forward, node_exporter's file with it": _forward(directory, device, receiver, runs),
            }
            scrape = _scrape(device)
    rows = [
        {
            "each minute": title,
            "processor": f"{statistics.median(cost.cpu_seconds for cost in found) * 1000:.0f} ms",
            "of a core": f"{statistics.median(cost.cpu_seconds for cost in found) / 60:.2%}",
            "memory": f"{max(cost.memory_bytes for cost in found) / 1e6:.1f} MB",
        }
        for title, found in costs.items()
    ]
    rows.append(
        {
            "each minute": "a scrape of the server",
            "processor": f"{scrape * 1000:.1f} ms",
            "of a core": f"{scrape / 60:.2%}",
            "memory": "the server's",
        }
    )
    print("\n".join(text_table(rows)))


def _run(directory: Path, device: Device, runs: int, *arguments: str, pause: float = 0.0) -> list[Cost]:
    """Run a command of the device so many times."""
    app = directory / f"app-{arguments[0]}"
    app.mkdir()
    make_app(app)
    found = []
    for _run_number in range(runs):
        command = [*device.enter(), sys.executable, "-sSE", str(app / "edgeml"), *arguments]
        found.append(_cost(command, device.server_pid))
        time.sleep(pause)
    return found


def _cost(command: list[str], server: int) -> Cost:
    shared = {line.split(None, 5)[5] for line in Path(f"/proc/{server}/maps").read_text().splitlines() if "/" in line}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    most, status = 0, 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        with suppress(OSError, IndexError):
            most = max(most, _own_bytes(process.pid, shared))
        time.sleep(0.001)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} failed")
    return Cost(usage.ru_utime + usage.ru_stime, most)


def _own_bytes(process: int, shared: set[str]) -> int:
    """The memory of a process, without the pages of the files that are shared."""
    found, is_shared = 0, False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        words = line.split(None, 5)
        if not words[0].endswith(":"):
            is_shared = len(words) == 6 and words[5] in shared
        elif words[0] == ("Anonymous:" if is_shared else "Rss:"):
            found += int(words[1]) * 1024
    return found


def _forward(directory: Path, device: Device, receiver: VictoriaMetrics, runs: int) -> list[Cost]:
    """Each run records, asks for what the run before sent, and sends."""
    config = directory / "forward.json"
    exporter = directory / "node-exporter"
    exporter.mkdir()
    paths = {"state": str(directory / "spool"), "runtime": str(directory / "runtime")}
    paths["textfile"] = str(exporter / "edgeml.prom")
    config.write_text(json.dumps({"device": "edge-1", "url": receiver.url, **paths}))
    pause = ASK_AFTER_MS / 1000 + 1
    return _run(directory, device, runs + 1, "forward", "--config", str(config), pause=pause)[1:]


def _scrape(device: Device) -> float:
    """The server's processor time for one scrape, in seconds."""
    process = device.server_pid
    before = _cpu_seconds(process)
    for _scrape_number in range(SCRAPES):
        device.server.metrics()
    return (_cpu_seconds(process) - before) / SCRAPES


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
