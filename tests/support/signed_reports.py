# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports of many devices, each signed by a key of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from authorities import Authority

from ansible_collections.edgeml.fleet.plugins.module_utils._pull.report import Report, sign_report

RESULT = {"changed": True, "model": "digits", "version": "2.0.0", "live": "2.0.0", "msg": "x" * 1000}
INFO = {
    "changed": False,
    "server_live": True,
    "model": {"name": "digits", "active": "2.0.0", "probe": {"n": [0] * 300}},
}


def write_reports(directory: Path, authority: Authority, names: Iterable[str]) -> None:
    """Write one report of each device."""
    for name in names:
        (directory / "reports" / name).mkdir(parents=True)
        own = str(authority.issue(name, directory / "own.pem"))
        report = Report(name, "hall", 1, "2026-11-29T00:00:00Z", 1, "digits", 1, result=RESULT, info=INFO)
        (directory / "reports" / name / "1.json").write_bytes(sign_report(report, own, own))
