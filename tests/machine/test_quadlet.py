# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service by Podman's generator: on Debian 13, which has it, and refused on Debian 12, which has not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from load import OK, Load
from machine_controller import MachineController
from machine_images import FIRST, GOOD, Contained, MachineImages, prepared_with
from machine_model import ACTIVATE, NEW, OLD, REQUESTS_PER_SECOND, request, serving, versions
from whole_machine import NAME, WholeMachine

GENERATOR = "/usr/lib/systemd/system-generators/podman-system-generator"
UNIT = "/etc/systemd/system/edgeml-inference.service"
SHOW = "systemctl show --property={} --value edgeml-inference"
QUADLET = {"inference_service_quadlet": True}


@pytest.fixture
def contained(
    base: Path, prepared: Path, images: MachineImages, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Contained]:
    """A machine whose service runs in a container of Podman, by a plain unit."""
    saved = prepared_with("podman", base, prepared, images, tmp_path_factory)
    with WholeMachine(base, tmp_path / "machine", saved) as machine:
        yield Contained("podman", machine, MachineController(tmp_path / "ansible", machine), images)


def test_the_generator_makes_the_unit_where_there_is_one(contained: Contained, tmp_path: Path) -> None:
    machine = contained.machine
    if machine.shell(f"test -e {GENERATOR}", check=False).returncode != 0:
        before = machine.shell(f"cat {UNIT}; {SHOW.format('MainPID')}").stdout
        refused = contained.play_role(code=2, **QUADLET)
        assert refused.stats[NAME]["failures"] == 1
        assert "podman-system-generator" in repr(refused)
        assert machine.shell(f"cat {UNIT}; {SHOW.format('MainPID')}").stdout == before
        return

    assert contained.changes(**QUADLET) > 0
    fragment = machine.shell(SHOW.format("FragmentPath")).stdout.strip()
    assert fragment == "/run/systemd/generator/edgeml-inference.service"
    assert serving(machine) == (OLD, OLD)
    assert contained.inspect(".Config.Image") == contained.images.references[FIRST]
    before = contained.inspect(".Id")
    assert contained.changes(**QUADLET) == 0
    with Load(tmp_path, machine.port, "/v2/models/digits/infer", request(), REQUESTS_PER_SECOND) as sent:
        machine.shell(ACTIVATE.format(NEW))
        machine.shell(ACTIVATE.format(OLD))
    assert {request.status for request in sent.requests} == {OK}
    assert versions(sent) == {OLD, NEW}
    assert contained.inspect(".Id") == before

    with Load(tmp_path, machine.port, "/v2/models/digits/infer", request(), REQUESTS_PER_SECOND) as sent:
        contained.swap(version=GOOD)
        contained.swap(version=GOOD, state="previous")
    assert {request.status for request in sent.requests} == {OK}
    assert contained.inspect(".Config.Image") == contained.images.references[FIRST]

    # What hangs is ended by the watchdog: Podman passes on what the server says.
    hung = machine.shell(SHOW.format("MainPID")).stdout.strip()
    machine.shell(f"kill -STOP {contained.inspect('.State.Pid')}")
    machine.wait_until(f"[ $({SHOW.format('MainPID')}) -gt 0 ] && [ $({SHOW.format('MainPID')}) != {hung} ]")
    assert serving(machine) == (OLD, OLD)

    # And back to the plain unit.
    assert contained.changes() > 0
    assert machine.shell(SHOW.format("FragmentPath")).stdout.strip() == UNIT
    assert serving(machine) == (OLD, OLD)
