# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role report_mailbox removes from a mailbox, and what stays."""

from __future__ import annotations

import os
from pathlib import Path

import clean_mailbox
import pytest

NOW = 2_000_000_000.0
DAY = 86400


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("reports", "enroll"):
        (tmp_path / name).mkdir()
    return tmp_path


def write(path: Path, size: int = 100, age: float = 0) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW - age, NOW - age))


def clean(files: Path, *, days: int = 30, reports_per_device: int = 64, bytes_max: int = 10**9) -> list[str]:
    """What is left."""
    before = sum(path.is_file() for path in files.rglob("*"))
    removed = clean_mailbox.clean_mailbox(
        str(files), days=days, reports_per_device=reports_per_device, bytes_max=bytes_max, now=NOW
    )
    left = sorted(str(path.relative_to(files)) for path in files.rglob("*") if path.is_file())
    assert removed == before - len(left)
    return left


def test_what_is_within_the_bounds_stays(files: Path) -> None:
    write(files / "reports/edge-1/1.json", age=29 * DAY)
    write(files / "reports/edge-1/2.json.part", age=3000)
    write(files / "enroll/0.csr", age=29 * DAY)
    write(files / "enroll/0.pem", age=300 * DAY)
    assert len(clean(files)) == 4


def test_what_is_old_goes(files: Path) -> None:
    write(files / "reports/edge-1/1.json", age=31 * DAY)
    write(files / "reports/edge-1/2.json.part", age=3700)
    write(files / "enroll/0.csr", age=31 * DAY)
    write(files / "enroll/0.pem", age=401 * DAY)
    assert clean(files) == []


def test_a_device_keeps_its_newest_reports_by_number(files: Path) -> None:
    for number in (9, 10, 100):
        write(files / f"reports/edge-1/{number}.json")
    write(files / "reports/edge-2/1.json")
    assert clean(files, reports_per_device=2) == [
        "reports/edge-1/10.json",
        "reports/edge-1/100.json",
        "reports/edge-2/1.json",
    ]


def test_whoever_needs_the_most_makes_room(files: Path) -> None:
    """A device that fills the mailbox pushes no other's report out."""
    for number in range(10):
        write(files / f"reports/loud/{number}.json", 1000)
    write(files / "reports/quiet/1.json", 500, age=20 * DAY)
    assert clean(files, bytes_max=3600) == [
        "reports/loud/7.json",
        "reports/loud/8.json",
        "reports/loud/9.json",
        "reports/quiet/1.json",
    ]


def test_requests_are_bounded_in_number(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_mailbox, "REQUESTS_MAX", 2)
    for age in (1, 2, 3):
        write(files / f"enroll/{age}.csr", age=age)
    assert clean(files) == ["enroll/1.csr", "enroll/2.csr"]


def test_a_link_is_nobodys_report(files: Path) -> None:
    (files / "reports/edge-1").mkdir()
    (files / "reports/edge-1/1.json").symlink_to("/etc/passwd")
    (files / "reports/edge-2").symlink_to("/etc")
    clean(files, days=0, reports_per_device=0, bytes_max=0)
    assert (files / "reports/edge-1/1.json").is_symlink()
    assert Path("/etc/passwd").exists()


def test_as_its_unit_runs_it(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(files / "reports/edge-1/1.json", age=NOW)
    clean_mailbox.main([str(files), "--days", "1", "--reports-per-device", "1", "--megabytes", "1"])
    assert capsys.readouterr().out == "removed 1 files\n"
