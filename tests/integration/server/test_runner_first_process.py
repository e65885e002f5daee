# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device, a container, gets Supervisor as its first process in the place of systemd, and systemd again: one play each
time has the service run by the other, and no model is lost."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible
from docker_service import docker
from links import REPOSITORY
from user_manager import GUARD_SECONDS

pytestmark = pytest.mark.runners
NAME = "edge"
OLD, NEW = "1.1.0", "1.2.0"
SCENARIO = REPOSITORY / "molecule" / "supervisor"
# systemd as the first process of a container, without all privileges.
SYSTEMD = (
    *("--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE", "--security-opt=seccomp=unconfined"),
    *("--security-opt=apparmor=unconfined", "--tmpfs=/run/lock"),
)
# Of control groups of version 1, the machine's own are shared; of version 2, it has some of its own.
GROUPS = {"1": ("--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"), "2": ("--cgroupns=private",)}
_FOUND = importlib.util.find_spec("supervisor")
assert _FOUND is not None
assert _FOUND.origin is not None
SUPERVISOR = (
    f"--volume={os.path.realpath(os.path.dirname(_FOUND.origin))}:/opt/supervisor/supervisor:ro",
    f"--volume={SCENARIO}/supervisord:/usr/local/bin/supervisord:ro",
    f"--volume={SCENARIO}/supervisord.conf:/etc/supervisor/supervisord.conf:ro",
)


class Device:
    """A container whose files outlive its first process."""

    def __init__(self, directory: Path) -> None:
        self.name = f"edgeml-{uuid.uuid4().hex[:12]}"
        command = [sys.executable, str(REPOSITORY / "tools" / "device_image.py"), f"--architecture={_debian()}", "tag"]
        self._image = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        self._made: list[str] = []
        connection = {
            "ansible_connection": "community.docker.docker",
            "ansible_host": self.name,
            "ansible_user": "root",
        }
        python = {"ansible_python_interpreter": "/usr/bin/python3", "ansible_become": False}
        self.ansible = Ansible(directory, (), **{NAME: {**connection, **python}})

    def begin(self, first_process: str) -> None:
        """Have the device begin anew with another first process, and with the files that it had."""
        if self._made:
            docker("stop", "--time=30", self.name)
        if docker("ps", "--all", "--quiet", "--filter", f"name={self.name}"):
            self._image = docker("commit", self.name)
            self._made.append(self._image)
            docker("rm", "--force", self.name)
        options: tuple[str, ...] = SUPERVISOR
        if first_process == "systemd":
            options = (*SYSTEMD, *GROUPS[docker("info", "--format={{.CgroupVersion}}")])
        start = {"systemd": "/sbin/init", "supervisor": "/usr/local/bin/supervisord"}[first_process]
        files = ("--tmpfs=/run:mode=755", "--tmpfs=/tmp:exec")
        docker("run", "--detach", f"--name={self.name}", "--hostname=edge", *files, *options, self._image, start)
        ready = {"systemd": "systemctl is-system-running --wait", "supervisor": "test -S /run/supervisor.sock"}
        deadline = time.monotonic() + GUARD_SECONDS
        while (
            docker("exec", self.name, "sh", "-c", f"{ready[first_process]} >/dev/null && echo up", check=False) != "up"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def play(self, *roles: str, **variables: Any) -> int:
        """Run roles on it. Returns how many tasks changed something."""
        play = [{"hosts": NAME, "gather_facts": False, "roles": [f"edgeml.fleet.{role}" for role in roles]}]
        (self.ansible.directory / "play.yml").write_text(json.dumps(play))
        run = self.ansible.run("play.yml", **variables)
        assert run.code == 0, run
        return run.stats[NAME]["changed"]

    def swap(self, version: str, state: str = "active") -> None:
        """Have the device serve a version, or hold it."""
        swap = {"model": "digits", "version": version, "state": state, "repository": "{{ model_repository }}"}
        task = {"name": "Swap", "edgeml.fleet.model_swap": {**swap, "trial_seconds": 0}}
        (self.ansible.directory / "swap.yml").write_text(
            json.dumps([{"hosts": NAME, "gather_facts": False, "tasks": [task]}])
        )
        run = self.ansible.run("swap.yml")
        assert run.code == 0, run

    def models(self) -> dict[str, Any]:
        """What the device itself says of its model."""
        (model,) = json.loads(docker("exec", self.name, "edgeml", "status", "--json"))["models"]
        return {"live": model["live"], "active": model["active"], "held": sorted(model["versions"])}

    def remove(self) -> None:
        """Remove what was made of it."""
        docker("rm", "--force", self.name, check=False)
        for image in reversed(self._made):
            docker("image", "rm", image, check=False)


def _debian() -> str:
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    try:
        yield device
    finally:
        device.remove()


def test_the_first_process_changes_and_no_model_is_lost(device: Device) -> None:
    device.begin("systemd")
    assert device.play("provision", "inference_service") > 0
    device.swap(OLD)
    device.swap(NEW, state="present")
    before = {"live": OLD, "active": OLD, "held": [OLD, NEW]}
    assert device.models() == before
    for first_process, runner in (("supervisor", "supervisor"), ("systemd", "native")):
        device.begin(first_process)
        refused = {"supervisor": "native", "native": "supervisor"}[runner]
        with pytest.raises(AssertionError, match=f"inference_service_runner is {refused}, which needs "):
            device.play("inference_service", inference_service_runner=refused)
        device.play("inference_service", inference_service_runner=runner)
        assert device.models() == before, runner
        assert device.play("inference_service", inference_service_runner=runner) == 0
        device.swap(NEW)
        device.swap(OLD)
        assert docker("exec", device.name, "edgeml", "verify").count("good") == 2
