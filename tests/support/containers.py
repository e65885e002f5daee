# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The devices of a Molecule scenario, which are containers, and a controller that runs playbooks on them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from links import REPOSITORY

GUARD_SECONDS = 600
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def docker(*arguments: str) -> str:
    """Run a command of the Docker Engine; return what it says."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def wait_for(condition: Callable[[], bool], what: str = "") -> None:
    """Wait until something is so; fail with ``what`` was waited for."""
    deadline = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


class Containers:
    """The devices of the inventory ``fleet``: ``quickstart``, or ``native``, whose containers have other names."""

    def __init__(self, names: Sequence[str], fleet: str = "quickstart") -> None:
        self.names = list(names)
        self._prefix = "edgeml" if fleet == "quickstart" else f"edgeml-{fleet}"

    def container(self, device: str) -> str:
        """The name of a device's container."""
        return f"{self._prefix}-{device}"

    def on(self, device: str, command: str) -> str:
        """Run a shell command on a device as root, beside every connection; return what it says."""
        return self.output(device, command).decode()

    def output(self, device: str, command: str) -> bytes:
        """Run a shell command on a device as root; return what it writes.

        Not by ``docker exec``, which joins the container's control groups: with the host's ones of version 1, the
        systemd in a container removes those that its units need no more (``PrivateDevices``): no command starts then.
        """
        process = docker("inspect", "--format={{.State.Pid}}", self.container(device)).strip()
        inside = ["nsenter", f"--target={process}", "--all", "sh", "-c", command]
        return subprocess.run(inside, check=True, capture_output=True, env=_ENVIRONMENT).stdout

    def live(self) -> dict[str, str | None]:
        """The version that each device serves, by its own word."""
        found = {}
        for device in self.names:
            told = json.loads(self.on(device, "edgeml status --json 2>/dev/null || echo '{}'"))
            found[device] = told["models"][0]["live"] if told.get("models") else None
        return found

    def switches(self, device: str, model: str = "digits") -> int:
        """How often a device has made a version active."""
        history = json.loads(self.on(device, f"edgeml history {model} --json"))["history"]
        return sum(entry["event"] == "activate" for entry in history)


class ContainerController:
    """Runs the playbooks on a fleet, with the ledger ``directory``/ledger and the variables ``usual``."""

    def __init__(self, directory: Path, inventories: Sequence[Path], usual: dict[str, Any]) -> None:
        self.directory = directory
        self.usual = {"rollout_ledger": str(directory / "ledger"), **usual}
        self._inventories = [f"--inventory={path}" for path in inventories]

    def start(self, playbook: str, *arguments: str, **variables: Any) -> subprocess.Popen[str]:
        """Start a playbook; `arguments` are options of the command."""
        extra = ["-e", json.dumps({**self.usual, **variables}), *arguments]
        return subprocess.Popen(
            ["ansible-playbook", playbook, *self._inventories, *extra],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_FORKS": "6",
                "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, playbook: str, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run a playbook to its end."""
        return self.finish(self.start(playbook, *arguments, **variables))

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        """Wait for a playbook that was started."""
        with process:
            output, _ = process.communicate()
        print(output)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def start_rollout(self, version: str, **variables: Any) -> subprocess.Popen[str]:
        """Begin to roll a version out."""
        return self.start("edgeml.fleet.rollout", model_name="digits", model_version=version, **variables)

    def rollout(self, version: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Roll a version out."""
        return self.finish(self.start_rollout(version, **variables))

    def ledger(self, version: str, model: str = "digits") -> dict[str, Any]:
        """The ledger of a version's first attempt. A hyphen in a model's name stays one."""
        found: dict[str, Any] = json.loads((self.directory / f"ledger/{model}-{version}-1.json").read_text())
        return found

    def outcomes(self, version: str, model: str = "digits") -> dict[str, str]:
        """What became of each device."""
        return {row["device"]: row["outcome"] for row in self.ledger(version, model)["devices"]}

    def failed_checks(self, version: str, model: str = "digits") -> set[str]:
        """The checks that the last judged wave failed."""
        wave = self.ledger(version, model)["waves"][-1]
        return {finding["check"] for finding in wave["findings"] if finding["verdict"] == "fail"}


def wait_for_soak(process: subprocess.Popen[str], wave: int) -> None:
    """Wait until the devices of a wave have swapped, and it soaks, as the rollout's progress says."""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="")
        if re.search(rf": wave {wave} of \d+ .*: soaks \d", line):
            return
    pytest.fail(f"wave {wave} never soaked")


def kill(process: subprocess.Popen[str]) -> None:
    """End a controller at once, with all that it started."""
    with process:
        os.killpg(process.pid, signal.SIGKILL)
