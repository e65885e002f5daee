# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole machine (`make arm-machine`): pristine, and prepared by the collection's own roles."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_controller import MachineController
from machine_images import MachineImages
from whole_machine import WholeMachine, architecture_of


@pytest.fixture(scope="session")
def base() -> Path:
    """The directory with the machine's pristine disk."""
    directory = os.environ.get("EDGEML_TEST_MACHINE")
    assert directory, "run `make arm-machine`, which makes the machine's disk first"
    return Path(directory)


@pytest.fixture(scope="session")
def prepared(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine that was prepared by the roles and serves digits 1.1.0, saved for others to go on from.

    EDGEML_TEST_PREPARED names a directory that keeps it for the next run; remove it when a role changed.
    """
    kept = os.environ.get("EDGEML_TEST_PREPARED")
    directory = Path(kept) if kept else tmp_path_factory.mktemp("prepared") / "machine"
    if (directory / "complete").exists():
        return directory
    shutil.rmtree(directory, ignore_errors=True)
    with WholeMachine(base, directory) as machine:
        controller = MachineController(tmp_path_factory.mktemp("preparing") / "ansible", machine)
        run = controller.ansible.run("edgeml.fleet.provision")
        assert run.code == 0, run
        swap = {"model": "digits", "repository": "{{ model_repository }}", "trial_seconds": 0}
        controller.tasks(
            {"name": "Serve", "edgeml.fleet.model_swap": {**swap, "version": "1.1.0"}},
            {"name": "Hold", "edgeml.fleet.model_swap": {**swap, "version": "1.2.0", "state": "present"}},
        )
        machine.save()
    (directory / "complete").touch()
    return directory


@pytest.fixture(scope="session")
def images(base: Path, tmp_path_factory: pytest.TempPathFactory) -> MachineImages:
    """Images of the server for it."""
    return MachineImages.build(architecture_of(base), tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def machine(base: Path, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMachine]:
    """A prepared machine that is up, serves digits 1.1.0 and holds 1.2.0; tests leave it so."""
    with WholeMachine(base, tmp_path_factory.mktemp("machine") / "machine", prepared) as machine:
        yield machine


@pytest.fixture(scope="session")
def controller(machine: WholeMachine, tmp_path_factory: pytest.TempPathFactory) -> MachineController:
    """Ansible for that machine."""
    return MachineController(tmp_path_factory.mktemp("controller") / "ansible", machine)


@pytest.fixture
def spare(base: Path, prepared: Path, tmp_path: Path) -> Iterator[WholeMachine]:
    """A prepared machine of a test's own, that is up; its power may be cut."""
    with WholeMachine(base, tmp_path / "machine", prepared) as machine:
        yield machine
