# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of the server for a whole machine, and the machine's service in a container of one of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from controller import Run
from image_device import NAME as IMAGE
from image_parts import with_entrypoint, with_layer
from machine_controller import MachineController
from whole_machine import NAME, WholeMachine

from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import write_archive
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.build import BuiltImage, build_images
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.layer import Entry
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.release import publish_images

CACHE = Path("~/.cache/edgeml-fleet/image").expanduser()
SERVICE_CONTAINER, BRIDGE = "edgeml-inference", "edgeml-inference-bridge"
# What the role brings, a release that differs by one file, and one that never starts.
FIRST, GOOD, BAD = "1.0.0", "1.1.0", "1.2.0"
PYTHON = "/opt/edgeml/venv/bin/python"
# The server's tools run in it as they should, and the server ends at once.
END = """
import os, sys
command = sys.argv[1:]
if not any("edgeml_server.tools." in word for word in command):
    sys.exit(3)
os.execv(command[0], command)
"""
NEVER_STARTS = (PYTHON, "-c", END)


class MachineImages(NamedTuple):
    """An archive for the role, and a repository with releases of a good image and of a bad one."""

    archive: Path
    repository: Path
    references: dict[str, str]

    @classmethod
    def build(cls, architecture: str, directory: Path) -> MachineImages:
        """Build them of Debian's packages and the locked wheels."""
        CACHE.mkdir(parents=True, exist_ok=True)
        (first,) = build_images(
            [architecture], version=FIRST, runtimes=["onnxruntime"], directory=str(directory), cache=str(CACHE)
        )
        with (directory / "image.tar").open("wb") as archive:
            write_archive(archive, first.image, first.layer_path)
        good = with_layer(first, directory, "newer", {"opt/edgeml/app/edgeml_server/_newer.py": Entry(0o644, b"")})
        releases = {GOOD: good, BAD: with_entrypoint(good, NEVER_STARTS)}
        for version, built in releases.items():
            _publish(built, version, directory)
        references = {version: built.image.reference for version, built in {FIRST: first, **releases}.items()}
        return cls(directory / "image.tar", directory / "repository", references)


class Contained(NamedTuple):
    """A machine whose service runs in a container of ``engine``."""

    engine: str
    machine: WholeMachine
    controller: MachineController
    images: MachineImages

    def play_role(self, code: int = 0, **variables: Any) -> Run:
        """Run the roles for this runner."""
        play, values = roles_of(self.engine, self.images.archive)
        return self.controller.play(play, code=code, **values, **variables)

    def changes(self, **variables: Any) -> int:
        """Run the roles for this runner. Returns how many tasks changed something."""
        return self.play_role(**variables).stats[NAME]["changed"]

    def inspect(self, template: str, container: str = SERVICE_CONTAINER) -> str:
        """What the engine says of a container."""
        return self.machine.shell(f"{self.engine} inspect --format '{{{{{template}}}}}' {container}").stdout.strip()

    def swap(self, code: int = 0, **options: Any) -> str:
        """Have the device swap its image. Returns the message of a swap that failed."""
        request = {
            "model": IMAGE,
            "repository": str(self.images.repository),
            "trial_seconds": 0,
            "min_ready_seconds": 0,
        }
        run = self.controller.tasks({"name": "Swap", "edgeml.fleet.model_swap": {**request, **options}}, code=code)
        return str(run.results("Swap")[NAME].get("msg", ""))


def roles_of(runner: str, archive: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The play that has the service run by ``runner``, and its variables."""
    service = {"role": "edgeml.fleet.inference_service"}
    if runner == "native":
        return {"roles": [service]}, {}
    engine = {"role": "edgeml.fleet.container_runtime", "container_runtime_engine": runner}
    values = {"inference_service_runner": runner, "inference_service_image": str(archive)}
    return {"roles": [engine, service]}, values


def prepared_with(
    engine: str, base: Path, prepared: Path, images: MachineImages, factory: pytest.TempPathFactory
) -> Path:
    """A prepared machine that the role has switched to a container of ``engine``, saved for others to go on from.

    Beside ``prepared``, where it is found again.
    """
    directory = prepared.with_name(f"{prepared.name}-{engine}")
    if (directory / "complete").exists() and (directory / "complete").read_text() == images.references[FIRST]:
        return directory
    shutil.rmtree(directory, ignore_errors=True)
    with WholeMachine(base, directory, prepared) as machine:
        controller = MachineController(factory.mktemp("switching") / "ansible", machine)
        assert Contained(engine, machine, controller, images).changes() > 0
        machine.save()
    (directory / "complete").write_text(images.references[FIRST])
    return directory


def _publish(built: BuiltImage, version: str, directory: Path) -> None:
    place = directory / f"files-{version}"
    (place / built.machine).mkdir(parents=True)
    repository = str(directory / "repository")
    publish_images([built], name=IMAGE, version=version, repository=repository, directory=str(place), created=None)
