# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One device goes from runner to runner, each time by one play, and loses no model."""

from __future__ import annotations

import json

from machine_controller import MachineController
from machine_images import SERVICE_CONTAINER, MachineImages, roles_of
from machine_model import ACTIVATE, NEW, OLD, has_failed, serving
from whole_machine import NAME, WholeMachine

# Each is left for each other once.
WAY = ("podman", "docker", "native", "docker", "podman", "native")


def test_a_device_that_changes_its_runner_loses_no_model(
    machine: WholeMachine, controller: MachineController, images: MachineImages
) -> None:
    held = _held(machine)
    assert held == {"active": OLD, "versions": [OLD, NEW]}
    for number, runner in enumerate(WAY):
        play, values = roles_of(runner, images.archive)
        assert controller.play(play, **values).stats[NAME]["changed"] > 0
        assert serving(machine) == (OLD, OLD), runner
        assert _held(machine) == held, runner
        assert _runs(machine) == ({runner} - {"native"}), runner
        if number == WAY.index(runner):
            # What another runner left behind would change something again.
            assert controller.play(play, **values).stats[NAME]["changed"] == 0, runner
            # The version that another runner's server has tested goes on by this one's.
            machine.shell(ACTIVATE.format(NEW))
            machine.shell(ACTIVATE.format(OLD))
    machine.shell("edgeml verify")
    assert not has_failed(machine), "a switch is no failure, and reverts no trial"


def _held(machine: WholeMachine) -> dict[str, object]:
    models = json.loads(machine.shell("edgeml status --json").stdout)["models"]
    (digits,) = [model for model in models if model["name"] == "digits"]
    return {"active": digits["active"], "versions": sorted(digits["versions"])}


def _runs(machine: WholeMachine) -> set[str]:
    """The engines that run the service's container."""
    listed = {
        engine: machine.shell(f"{engine} ps --format '{{{{.Names}}}}'", check=False).stdout.split()
        for engine in ("podman", "docker")
    }
    return {engine for engine, names in listed.items() if SERVICE_CONTAINER in names}
