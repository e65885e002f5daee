# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device whose service runs in a container, and that gets images of it as releases."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker_service import Service
from edgeml_device._device.perform import answer_swap
from edgeml_device._device.request import SwapRequest
from edgeml_device._device.runner import read_runner
from edgeml_device._device.state import ModelServer
from image_parts import make_image

from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.build import BuiltImage
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.release import publish_images

NAME = "edgeml-inference"
MACHINE = platform.machine()
# Its tools run as they should, and the server does what follows.
TOOLS_RUN = 'case "$*" in *edgeml_server.tools.*) exec "$@";; esac; '
NEVER_STARTS = ("/usr/bin/sh", "-c", TOOLS_RUN + "echo broken >&2; exit 3", "sh")
NOTHING_RUNS = ("/usr/bin/false",)


@dataclass
class ImageDevice:
    """The device, and the releases that it can get."""

    service: Service
    directory: Path

    @classmethod
    def make(cls, service: Service, directory: Path, monkeypatch: pytest.MonkeyPatch) -> ImageDevice:
        """Have this process's swaps act on the service of a device."""
        programs = directory / "bin"
        programs.mkdir()
        (programs / "systemctl").write_text('#!/bin/sh\nexec /usr/bin/systemctl --user "$@"\n')
        (programs / "systemctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setenv("XDG_RUNTIME_DIR", service.manager.runtime_directory)
        for name, value in service.container.environment.items():
            monkeypatch.setenv(name, value)
        runner = read_runner(str(service.container.runner))
        monkeypatch.setattr("edgeml_device._device.runner.read_runner", lambda: runner)
        store = service.device.store
        # As a swap leaves it.
        with store.lock():
            store.update("plus", store.state("plus")._replace(serving=ModelServer(server=service.device.socket_path)))
        return cls(service, directory)

    def publish(self, built: BuiltImage, version: str) -> dict[str, Any]:
        """Publish an image. Returns the manifest."""
        place = self.directory / "files" / version
        (place / built.machine).mkdir(parents=True)
        _changed, manifest = publish_images(
            [built],
            name=NAME,
            version=version,
            repository=str(self.directory / "repository"),
            directory=str(place),
            created=None,
        )
        return manifest

    def build(self, version: str, **options: Any) -> BuiltImage:
        """An image for this machine."""
        place = self.directory / "images" / version
        place.mkdir(parents=True)
        return make_image(place, version=version, machine=MACHINE, **options)

    def swap(self, version: str, manifest: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """Have the device swap, with the repository's blobs at hand."""
        request = SwapRequest(
            model=NAME,
            version=version,
            manifest=manifest,
            staged_blobs=str(self.directory / "repository" / "blobs" / "sha256"),
            store=self.service.device.store.root,
            server=self.service.device.socket_path,
            min_ready_seconds=0.0,
            **options,
        )
        return answer_swap(request, check_mode=False)

    def running(self) -> str:
        """The image of the service's container; empty where there is none."""
        name = self.service.container.name
        return self.service.engine("inspect", "--format={{.Config.Image}}", name, check=False)

    def containers(self) -> list[str]:
        """The device's containers that run."""
        return self.service.engine(
            "ps", "--filter", f"name={self.service.container.name}", "--format={{.Names}}"
        ).split()
