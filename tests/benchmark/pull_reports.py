#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what the reports of one wave of devices that pull cost the controller, each verified.

Prints processor seconds and the process's memory in MiB. Every device has a key and a certificate of its own.

usage: PYTHONPATH=.cache/python:tests/support python tests/benchmark/pull_reports.py [DEVICES]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from authorities import Authority

from ansible_collections.edgeml.fleet.plugins.module_utils._pull.report import Report, sign_report
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.collect import Collector
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.settings import PullSettings

DEVICES = 10_000
RESULT = {"changed": True, "model": "digits", "version": "2.0.0", "live": "2.0.0", "msg": "x" * 1000}
INFO = {
    "changed": False,
    "server_live": True,
    "model": {"name": "digits", "active": "2.0.0", "probe": {"n": [0] * 300}},
}


def write_reports(directory: Path, authority: Authority, names: list[str]) -> None:
    """Write one report of each device."""
    for name in names:
        (directory / "reports" / name).mkdir(parents=True)
        own = str(authority.issue(name, directory / "own.pem"))
        report = Report(name, "hall", 1, "2026-11-29T00:00:00Z", 1, "digits", 1, result=RESULT, info=INFO)
        (directory / "reports" / name / "1.json").write_bytes(sign_report(report, own, own))


def main() -> None:
    """Write the reports, and measure their collection."""
    names = [f"edge-{number:06}" for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else DEVICES)]
    with tempfile.TemporaryDirectory() as path:
        directory, authority = Path(path), Authority("hall")
        ca = str(authority.write(directory / "ca.pem"))
        write_reports(directory, authority, names)
        settings = PullSettings("hall", "", "", "", str(directory / "reports"), ca, str(directory / "ledger"))
        before = time.process_time()
        found = Collector(settings).collect(dict.fromkeys(names, "digits"), 1, 0.0)
        seconds = time.process_time() - before
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{found.answered} reports: {seconds:.1f} s of processor time, {memory:.0f} MiB, refused: {found.refused}"
        )


if __name__ == "__main__":
    main()
