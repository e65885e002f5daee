# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container engine is stopped: no image is swapped meanwhile, and the service comes back with the engine."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_device import DOCKER_HOST
from docker_service import DOCKER, UNIT, loaded_image, running_service
from image_device import ImageDevice
from user_manager import GUARD_SECONDS, SYSTEMD

LIVE = "1.1.0"

pytestmark = [
    pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="needs systemd's program"),
    pytest.mark.runners,
]


class OwnEngine:
    """A Docker Engine of the test's own, which it can stop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._bridge = f"edgeml{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self.host = f"unix://{directory}/docker.sock"

    def __enter__(self) -> OwnEngine:
        subprocess.run(["ip", "link", "add", self._bridge, "type", "bridge"], check=True)
        # An address for documentation (RFC 5737): no container has this network.
        subprocess.run(["ip", "address", "add", "192.0.2.1/24", "dev", self._bridge], check=True)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        subprocess.run(["ip", "link", "delete", self._bridge], check=True)
        # What it has mounted: its own directory over itself, and the network of its containers.
        for line in Path("/proc/self/mounts").read_text().splitlines():
            place = line.split(" ")[1]
            if place.startswith(f"{self._directory}/"):
                subprocess.run(["umount", "--lazy", place], check=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        places = [f"--{name}={self._directory}/{name}" for name in ("data-root", "exec-root", "pidfile")]
        # Without a bridge of its own (`--bridge=none`) it would remove the one of this machine's engine.
        network = [f"--bridge={self._bridge}", "--iptables=false", "--ip6tables=false"]
        with (self._directory / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/usr/sbin/dockerd", f"--host={self.host}", *places, *network], stdout=log, stderr=log
            )
        deadline = time.monotonic() + GUARD_SECONDS
        while subprocess.run([DOCKER, "--host", self.host, "ps"], capture_output=True, check=False).returncode != 0:
            assert self._process.poll() is None, (self._directory / "dockerd.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def stop(self) -> None:
        """End it; its containers end with it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(GUARD_SECONDS)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnEngine]:
    """An engine that runs, and that all of this test asks."""
    # The paths of its sockets have little room.
    with tempfile.TemporaryDirectory(prefix="engine-", dir="/tmp") as path, OwnEngine(Path(path)) as engine:
        monkeypatch.setenv(DOCKER_HOST, engine.host)
        engine.start()
        yield engine


def test_the_service_comes_back_with_its_engine(
    engine: OwnEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded_image(DOCKER, tmp_path) as image, running_service(image, tmp_path) as service:
        # On a device a unit starts it anew after the tenth time.
        unit = service.manager.path(UNIT).read_text()
        service.manager.write(UNIT, unit.replace("StartLimitBurst=10\n", "StartLimitBurst=100000\n"))
        device = ImageDevice.make(service, tmp_path, monkeypatch)
        built = device.build(LIVE, app=uuid.uuid4().bytes)
        assert device.swap(LIVE, device.publish(built, LIVE))["live"] == LIVE
        newer = device.publish(device.build("1.2.0", app=uuid.uuid4().bytes), "1.2.0")

        engine.stop()
        refused = device.swap("1.2.0", newer)
        assert refused["failed"]
        assert "the container engine does not answer" in refused["msg"]
        assert refused["msg"].endswith("Live now: no version")
        assert "the inference server does not answer" in service.edgeml("activate", "plus", "1.0.0").stderr

        engine.start()
        service.manager.wait_for(UNIT, ActiveState="active")
        service.wait_ready(int(service.manager.shown(UNIT, "NRestarts")))
        assert device.running() == built.image.reference
        assert service.device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [2, 3]
        assert device.swap("1.2.0", newer)["live"] == "1.2.0"
