# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of the server rolled out over machines whose service Podman runs: to one, then the rest, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from controller import Ansible, Run
from image_device import NAME as IMAGE
from load import OK, Load
from machine_controller import SERVICE
from machine_images import BAD, FIRST, GOOD, SERVICE_CONTAINER, MachineImages, prepared_with
from machine_model import REQUESTS_PER_SECOND, request
from whole_machine import BOOT_SECONDS, WholeMachine

NAMES = ("edge-1", "edge-2")


class Fleet(NamedTuple):
    """The machines by their names, and who rolls out."""

    machines: dict[str, WholeMachine]
    ansible: Ansible
    images: MachineImages

    def rollout(self, version: str, directory: Path) -> Run:
        """Roll an image out while clients ask every machine; no request may be lost."""
        directory.mkdir()
        with ExitStack() as stack:
            loads = {}
            for name, machine in self.machines.items():
                (directory / name).mkdir()
                load = Load(directory / name, machine.port, "/v2/models/digits/infer", request(), REQUESTS_PER_SECOND)
                loads[name] = stack.enter_context(load)
            run = self.ansible.run("edgeml.fleet.rollout", **self._variables(version))
        lost = {name: [sent for sent in load.requests if sent.status != OK] for name, load in loads.items()}
        assert lost == {name: [] for name in NAMES}
        return run

    def running(self) -> list[str]:
        """The version of the image that each machine's service runs."""
        names = {reference: version for version, reference in self.images.references.items()}
        inspect = f"podman inspect --format '{{{{.Config.Image}}}}' {SERVICE_CONTAINER}"
        return [names[machine.shell(inspect).stdout.strip()] for machine in self.machines.values()]

    def _variables(self, version: str) -> dict[str, Any]:
        return {
            "model_name": IMAGE,
            "model_version": version,
            "model_repository": str(self.images.repository),
            "rollout_ledger": str(self.ansible.directory / "ledger"),
            "rollout_waves": [1, "100%"],
            "rollout_soak_seconds": 10,
            "rollout_soak_seconds_max": 60,
            "rollout_min_ready_seconds": 0,
            # An image takes minutes on an emulated processor, and a quarter of an hour beside others.
            "rollout_device_timeout": 4 * BOOT_SECONDS,
            # How long an answer takes is the emulation's, and says nothing here.
            "rollout_limits": {"latency_ratio_max": 1000},
            "rollout_trial_limits": {"latency_ratio_max": 1000},
        }


@pytest.fixture(scope="module")
def fleet(
    base: Path, prepared: Path, images: MachineImages, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    saved = prepared_with("podman", base, prepared, images, tmp_path_factory)
    directory = tmp_path_factory.mktemp("fleet")
    with ExitStack() as stack:
        machines = {name: stack.enter_context(WholeMachine(base, directory / name, saved)) for name in NAMES}
        ansible = Ansible(
            directory, (), **{name: {**machine.inventory(), **SERVICE} for name, machine in machines.items()}
        )
        yield Fleet(machines, ansible, images)


def test_a_good_image_reaches_the_canary_and_then_the_rest(fleet: Fleet, tmp_path: Path) -> None:
    assert fleet.running() == [FIRST, FIRST]
    run = fleet.rollout(GOOD, tmp_path / "good")
    assert run.code == 0, run
    assert run.custom_stats["rollout_verdict"] == "pass"
    assert run.custom_stats["rollout_outcomes"] == {"updated": 2}
    assert fleet.running() == [GOOD, GOOD]


def test_a_bad_image_stops_at_the_canary(fleet: Fleet, tmp_path: Path) -> None:
    run = fleet.rollout(BAD, tmp_path / "bad")
    assert run.code == 2, run
    assert run.custom_stats["rollout_verdict"] == "fail"
    assert run.custom_stats["rollout_outcomes"] == {"failed": 1, "not started": 1}
    assert fleet.running() == [GOOD, GOOD]


def test_a_rollout_of_an_image_is_rolled_back(fleet: Fleet) -> None:
    ledger = str(fleet.ansible.directory / "ledger")
    run = fleet.ansible.run("edgeml.fleet.rollback", model_name=IMAGE, model_version=GOOD, rollout_ledger=ledger)
    assert run.code == 0, run
    assert fleet.running() == [FIRST, FIRST]
