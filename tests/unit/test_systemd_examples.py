# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The units of examples/systemd: systemd understands every line, and finds little that the service is exposed to."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "examples" / "systemd"
# Of ten; systemd calls less than 2.5 "OK" and better.
EXPOSURE_MAX = 2.0


def analyze(*arguments: str | Path) -> str:
    """What systemd-analyze says."""
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that is there on every machine in the place of ansible-playbook."""
    for path in UNITS.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/ansible/bin/ansible-playbook", "/bin/true"))
    return tmp_path


def test_systemd_understands_every_line(units: Path) -> None:
    command = ["systemd-analyze", "verify", *sorted(map(str, units.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "edgeml" in line]) == (0, [])


def test_each_timer_starts_a_playbook_that_is_there(units: Path) -> None:
    for path in units.glob("*.timer"):
        (playbook,) = re.findall(r"^Unit=edgeml@(\w+)\.service$", path.read_text(), re.MULTILINE)
        assert (UNITS.parents[1] / "playbooks" / f"{playbook}.yml").exists()


def test_the_nightly_time_is_the_one_of_a_place() -> None:
    (calendar,) = re.findall(r"^OnCalendar=(.*)$", (UNITS / "edgeml-rollout.timer").read_text(), re.MULTILINE)
    assert "Normalized form: *-*-* 01:05:00 Europe/Berlin" in analyze("calendar", calendar)


def test_the_service_is_exposed_to_little(units: Path) -> None:
    said = analyze("security", "--offline=yes", "--no-pager", units / "edgeml@.service")
    (level,) = re.findall(r"Overall exposure level for \S+: (\S+)", said)
    assert float(level) < EXPOSURE_MAX


@pytest.mark.parametrize(
    ("unit", "exposure_max"),
    [
        ("inference_service/files/device/systemd/edgeml-metrics.service", EXPOSURE_MAX),
        # Root, with a network.
        ("telemetry/templates/edgeml-forward.service", 2.5),
        ("telemetry/templates/edgeml-vmalert.service", EXPOSURE_MAX),
    ],
)
def test_a_unit_of_the_roles_is_exposed_to_little(unit: str, exposure_max: float) -> None:
    path = UNITS.parents[1] / "roles" / unit
    (level,) = re.findall(
        r"Overall exposure level for \S+: (\S+)", analyze("security", "--offline=yes", "--no-pager", path)
    )
    assert float(level) < exposure_max
