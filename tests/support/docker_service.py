# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service of a device in a container of Docker or Podman, whose unit a service manager of systemd runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import onnx_models
from container_device import ContainerDevice
from edgeml_device._device.runner import ROLE_IMAGE, Image, write_image
from oci_images import write_image as write_archive
from server_process import Device
from user_manager import GUARD_SECONDS, UserManager

DOCKER, PODMAN = "/usr/bin/docker", "/usr/bin/podman"
UNIT = "edgeml-inference.service"
BRIDGE = "edgeml-inference-bridge.service"
WATCHDOG_SECONDS = 10


def docker(*arguments: str, check: bool = True) -> str:
    """Run Docker and return what it printed."""
    return run_engine(DOCKER, *arguments, check=check)


def run_engine(engine: str, *arguments: str, check: bool = True) -> str:
    """Run a container engine and return what it printed."""
    done = subprocess.run([engine, *arguments], capture_output=True, text=True, check=False, timeout=GUARD_SECONDS)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


class Service:
    """The service of a device, whose unit systemd runs."""

    def __init__(self, device: Device, manager: UserManager, container: ContainerDevice) -> None:
        self.device = device
        self.manager = manager
        self.container = container

    def edgeml(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the device's command."""
        store, server = self.device.store.root, self.device.socket_path
        command = [str(self.container.command), *arguments, "--store", store, "--server", server]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=GUARD_SECONDS)

    @property
    def log(self) -> str:
        """What the service printed."""
        return (self.container.directory / "log.txt").read_text()

    def wait_ready(self, restarts: int = 0) -> None:
        """Wait until systemd says that it serves, after so many restarts of systemd's own."""
        self.manager.wait_for(UNIT, ActiveState="active", NRestarts=str(restarts))
        listening = [line for line in self.log.splitlines() if "info listening" in line][-1]
        self.device.port = int(dict(part.split("=", 1) for part in listening.split()[2:])["port"])

    def process(self) -> int:
        """The server's process."""
        return int(self.engine("inspect", "--format={{.State.Pid}}", self.container.name))

    def engine(self, *arguments: str, check: bool = True) -> str:
        """Run the engine and return what it printed."""
        return run_engine(self.container.engine, *arguments, check=check)


@contextlib.contextmanager
def loaded_image(engine: str, directory: Path) -> Iterator[Image]:
    """An image that an engine has loaded from the archive that the role sends; its programs are this machine's."""
    # Another one in each process of the tests, which removes it.
    runtimes = {"onnxruntime": f"1.32.0+{uuid.uuid4().hex}"}
    reference = write_archive(directory / "image.tar", [], runtimes)
    run_engine(engine, "load", "--input", str(directory / "image.tar"))
    try:
        yield Image(reference, runtimes)
    finally:
        run_engine(engine, "image", "rm", reference, check=False)


@contextlib.contextmanager
def running_service(
    image: Image, directory: Path, engine: str = DOCKER, watchdog_seconds: int = WATCHDOG_SECONDS
) -> Iterator[Service]:
    """A service that serves ``plus`` 1.0.0, from the image."""
    device = Device(directory)
    device.socket_path = str(directory / "run" / "server.sock")
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    container = ContainerDevice(directory, engine, f"edgeml-{uuid.uuid4().hex[:12]}")
    (directory / "etc").mkdir()
    device.configure(listen_port=0)
    os.rename(directory / "server.json", directory / "etc" / "server.json")
    write_image(device.store.root, image, ROLE_IMAGE)
    with UserManager(directory, **container.environment) as manager:
        service = Service(device, manager, container)
        manager.write(UNIT, container.unit(watchdog_seconds))
        manager.write(BRIDGE, container.unit(watchdog_seconds, "-bridge"))
        try:
            done = manager.run("start", UNIT)
            assert done.returncode == 0, (directory / "log.txt").read_text()
            service.wait_ready()
            yield service
        finally:
            manager.run("stop", UNIT, BRIDGE)
            run_engine(engine, "rm", "--force", container.name, f"{container.name}-bridge", check=False)
