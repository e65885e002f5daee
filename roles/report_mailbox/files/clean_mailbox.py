# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps the mailbox of reports within its bounds. A timer of the role report_mailbox runs it."""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import time
from typing import NamedTuple, Sequence

# What was not finished within this time is never finished.
PART_SECONDS = 3600
# A certificate that nobody fetched, and requests that nobody accepted.
CERTIFICATE_DAYS = 400
REQUESTS_MAX = 10_000


class Report(NamedTuple):
    """A file in a device's directory: its place in the order of writing, its path, its length in bytes."""

    number: int
    path: str
    size: int


def clean_mailbox(files: str, *, days: int, reports_per_device: int, bytes_max: int, now: float) -> int:
    """Remove from ``files``, which has ``reports`` and ``enroll``, what is beyond the bounds.

    ``now`` is the time in seconds since the epoch. Returns how many files were removed.
    """
    old, removed = now - days * 86400, 0
    devices: list[list[Report]] = []
    for directory in sorted(_directories(os.path.join(files, "reports"))):
        kept = []
        for path, status in _files(directory):
            name, _dot, kind = os.path.basename(path).partition(".")
            if status.st_mtime < (old if kind == "json" else now - PART_SECONDS):
                removed += _remove(path)
            elif kind == "json" and name.isdigit():
                kept.append(Report(int(name), path, status.st_size))
        kept.sort()
        beyond = max(0, len(kept) - reports_per_device)
        removed += sum(_remove(report.path) for report in kept[:beyond])
        devices.append(kept[beyond:])
    removed += _remove_beyond(devices, bytes_max)
    return removed + _clean_requests(os.path.join(files, "enroll"), old, now - CERTIFICATE_DAYS * 86400)


def _remove_beyond(devices: Sequence[list[Report]], bytes_max: int) -> int:
    """Remove the oldest report of the device that needs the most, until all need no more than ``bytes_max``."""
    sizes = [(-sum(report.size for report in reports), index) for index, reports in enumerate(devices) if reports]
    heapq.heapify(sizes)
    total, removed = -sum(size for size, _index in sizes), 0
    positions = [0] * len(devices)
    while total > bytes_max and sizes:
        size, index = heapq.heappop(sizes)
        report = devices[index][positions[index]]
        positions[index] += 1
        removed += _remove(report.path)
        total -= report.size
        if positions[index] < len(devices[index]):
            heapq.heappush(sizes, (size + report.size, index))
    return removed


def _clean_requests(directory: str, old: float, old_certificate: float) -> int:
    requests, removed = [], 0
    for path, status in _files(directory):
        if path.endswith(".csr"):
            requests.append((status.st_mtime, path))
        elif status.st_mtime < old_certificate:
            removed += _remove(path)
    requests.sort()
    beyond = len(requests) - REQUESTS_MAX
    for index, (modified, path) in enumerate(requests):
        if index < beyond or modified < old:
            removed += _remove(path)
    return removed


def _directories(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _files(path: str) -> list[tuple[str, os.stat_result]]:
    found = []
    with os.scandir(path) as entries:
        for entry in entries:
            # A reader removes what it has read, meanwhile as well.
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    found.append((entry.path, entry.stat(follow_symlinks=False)))
    return found


def _remove(path: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Clean up once."""
    parser = argparse.ArgumentParser(description="Keep the mailbox of reports within its bounds.")
    parser.add_argument("files", help="the directory with reports and enroll")
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--reports-per-device", type=int, required=True)
    parser.add_argument("--megabytes", type=int, required=True)
    options = parser.parse_args(arguments)
    removed = clean_mailbox(
        options.files,
        days=options.days,
        reports_per_device=options.reports_per_device,
        bytes_max=options.megabytes * 1_000_000,
        now=time.time(),
    )
    if removed:
        print(f"removed {removed} files")


if __name__ == "__main__":
    main()
