# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""examples/balena, built and run by Docker: `make balena`. What balenaOS has beyond Docker is a directory here."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from controller import DIGITS
from links import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "balena"
GUARD_SECONDS = 600
OWNER = "edgeml agent\n"
EDGEML = "/usr/local/bin/edgeml"


class Services:
    """The two services of the example, under a project's name of their own."""

    def __init__(self, directory: Path) -> None:
        description = yaml.safe_load((EXAMPLE / "docker-compose.yml").read_text())
        self.lock_directory = directory / "balena"
        self.lock_directory.mkdir()
        for service in description["services"].values():
            # Any Debian 12 with Python; a port of this machine's own; what the Supervisor mounts.
            service["build"] = {"context": str(EXAMPLE), "args": {"BASE": os.environ["EDGEML_TEST_BASE_IMAGE"]}}
        description["services"]["server"]["ports"] = ["127.0.0.1::8080"]
        description["services"]["agent"]["volumes"].append(f"{self.lock_directory}:/tmp/balena")
        description["services"]["agent"]["volumes"].append(f"{DIGITS}:/media/stick:ro")
        self._file = directory / "docker-compose.json"
        self._file.write_text(json.dumps(description))
        self._project = f"edgeml-balena-{os.getpid()}"

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Run docker-compose; return what it printed."""
        command = ["docker-compose", "--project-name", self._project, "--file", str(self._file), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not check or run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def edgeml(self, *arguments: str) -> Any:
        """Run the device's command in the agent; return its JSON."""
        return json.loads(self.compose("exec", "-T", "agent", EDGEML, *arguments, "--json"))

    def ask(self, path: str) -> Any:
        """Ask the server on its published port."""
        address = self.compose("port", "server", "8080").strip()
        with urllib.request.urlopen(f"http://{address}{path}", timeout=GUARD_SECONDS) as reply:
            return json.load(reply)

    def container(self, service: str) -> str:
        """What identifies a service's container."""
        return self.compose("ps", "--quiet", service)

    def wait(self, condition: Any) -> None:
        """Wait until the condition holds."""
        deadline = time.monotonic() + GUARD_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.compose("logs", "--no-color")
            time.sleep(0.5)

    def lock(self) -> str | None:
        """What is in the update lock, None where nobody holds it."""
        path = self.lock_directory / "updates.lock"
        return path.read_text() if path.exists() else None


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Both, up, with a model that serves."""
    found = Services(tmp_path_factory.mktemp("services"))
    found.compose("build")
    found.compose("up", "--detach")
    try:
        found.wait(lambda: "running" in found.compose("exec", "-T", "agent", "echo", "running", check=False))
        for version in ("1.1.0", "1.2.0"):
            manifest = f"/media/stick/digits/{version}/manifest.json"
            found.edgeml("fetch", "--manifest", manifest, "--source", "file:///media/stick")
        found.edgeml("activate", "digits", "1.1.0", "--trial-seconds", "0", "--min-ready-seconds", "0")
        yield found
    finally:
        found.compose("down", "--volumes", "--rmi", "local", check=False)


def test_compose_takes_the_file_as_it_is() -> None:
    run = subprocess.run(
        ["docker-compose", "config", "--quiet"], cwd=EXAMPLE, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_the_agent_swaps_a_model_in_the_running_server(services: Services) -> None:
    before = services.container("server")
    assert services.ask("/v2/models/digits")["versions"] == ["1.1.0"]
    services.edgeml("activate", "digits", "1.2.0", "--trial-seconds", "0", "--min-ready-seconds", "0")
    assert services.ask("/v2/models/digits")["versions"] == ["1.2.0"]
    services.edgeml("activate", "digits", "1.1.0", "--trial-seconds", "0", "--min-ready-seconds", "0")
    assert services.container("server") == before


def test_a_release_of_the_services_keeps_the_models(services: Services) -> None:
    """The Supervisor replaces containers; the volumes stay."""
    before = services.container("server")
    services.compose("up", "--detach", "--force-recreate")
    services.wait(lambda: services.container("server") not in ("", before))
    services.wait(lambda: "1.1.0" in services.compose("exec", "-T", "agent", EDGEML, "status", check=False))
    services.wait(lambda: services.edgeml("status")["models"][0]["live"] == "1.1.0")


def test_the_agent_holds_the_lock_during_a_trial_and_takes_it_up_again(services: Services) -> None:
    services.wait(lambda: services.lock() is None)
    services.edgeml("activate", "digits", "1.2.0", "--trial-seconds", "3600", "--min-ready-seconds", "0")
    # It begins anew, and finds the trial; and so does the next one, after it was killed.
    services.compose("restart", "agent")
    services.wait(lambda: services.lock() == OWNER)
    services.compose("kill", "agent")
    assert services.lock() == OWNER
    services.compose("start", "agent")
    services.wait(lambda: "3600" in services.compose("exec", "-T", "agent", EDGEML, "status", check=False))
    assert services.lock() == OWNER
    services.edgeml("revert", "digits")
    services.compose("restart", "agent")
    services.wait(lambda: services.lock() is None)
    assert services.ask("/v2/models/digits")["versions"] == ["1.1.0"]
