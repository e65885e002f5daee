# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The execution environment: what ansible-builder finds in the collection as it is installed, the context that it makes
an image from, and playbooks that run with ansible-core and just what was found. The image itself is not built: that
needs a registry."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from controller import DIGITS
from device import Device
from links import REPOSITORY
from releases import read_release
from rollouts import at_once

DEFINITION = REPOSITORY / "examples" / "awx" / "execution-environment.yml"
PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints. Fails with all that it said when it does not end well."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": PATH, "HOME": str(cwd), "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Built:
    """What comes before an image: the tarball, the collections of the image, and what they need."""

    directory: Path
    tarball: Path

    @property
    def collections(self) -> Path:
        return self.directory / "collections"

    def needs(self, name: str) -> list[str]:
        """The lines of a file that ansible-builder wrote, without its comments."""
        lines = (self.directory / name).read_text().splitlines()
        return [line.split("#")[0].strip() for line in lines]


@pytest.fixture(scope="module")
def definition() -> Mapping[str, Any]:
    document: dict[str, Any] = yaml.safe_load(DEFINITION.read_text())
    return document


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The collection's tarball, installed as in the image, and introspected as there."""
    directory = tmp_path_factory.mktemp("execution-environment")
    run("ansible-galaxy", "collection", "build", "--output-path", directory, REPOSITORY, cwd=directory)
    (tarball,) = directory.glob("*.tar.gz")
    found = Built(directory, tarball)
    run("ansible-galaxy", "collection", "install", "--offline", "-p", found.collections, tarball, cwd=directory)
    pip, bindep = directory / "requirements.txt", directory / "bindep.txt"
    run("ansible-builder", "introspect", found.collections, "--write-pip", pip, "--write-bindep", bindep, cwd=directory)
    return found


def test_builder_finds_what_the_collection_needs(built: Built) -> None:
    packages = ["pip", "tzdata", "tuf==7.0.1", "securesystemslib==1.6.0", "paho-mqtt==2.2.0"]
    assert built.needs("requirements.txt") == packages
    assert built.needs("bindep.txt") == [
        "openssh-clients [platform:rpm]",
        "openssh-client [platform:dpkg]",
        "tar",
        "gzip",
    ]


def test_builder_makes_a_context_with_the_collection_in_it(
    built: Built, definition: Mapping[str, Any], tmp_path: Path
) -> None:
    (tmp_path / DEFINITION.name).write_text(DEFINITION.read_text())
    (tmp_path / built.tarball.name).write_bytes(built.tarball.read_bytes())
    run("ansible-builder", "create", "-f", DEFINITION.name, "--output-filename", "Containerfile", cwd=tmp_path)
    parts = tmp_path / "context" / "_build"
    (named,) = yaml.safe_load((parts / "requirements.yml").read_text())["collections"]
    assert (parts / named["name"]).read_bytes() == built.tarball.read_bytes()
    containerfile = (tmp_path / "context" / "Containerfile").read_text()
    assert f'ARG EE_BASE_IMAGE="{definition["images"]["base_image"]["name"]}"' in containerfile
    assert f'ARG PYPKG="{definition["dependencies"]["python_interpreter"]["package_system"]}"' in containerfile


def test_playbooks_run_with_the_core_and_what_was_found(
    built: Built, definition: Mapping[str, Any], machines: dict[str, Device], tmp_path: Path
) -> None:
    dependencies = definition["dependencies"]
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    pip = (tmp_path / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
    network = {name: value for name, value in os.environ.items() if name.lower().startswith(("pip_", "http"))}
    packages = (dependencies["ansible_core"]["package_pip"], "-r", built.directory / "requirements.txt")
    run(*pip, *packages, cwd=tmp_path, **network)

    device = machines["edge-s1"]
    device.reset()
    device.serve(read_release(DIGITS, "digits", "1.0.0"))
    variables = {
        **at_once(tmp_path / "rollouts"),
        "model_name": "digits",
        "model_version": "1.1.0",
        # One that needs a time zone, and is always open.
        "rollout_window": ["00:00-24:00 Europe/Berlin"],
    }
    inventory = {"edge": {"hosts": {device.name: device.inventory()}, "vars": variables}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    environment = {
        "PATH": os.environ["PATH"],
        "ANSIBLE_COLLECTIONS_PATH": str(built.collections),
        # As in an image without a database of time zones.
        "PYTHONTZPATH": "",
    }
    for playbook, live in (("rollout", "1.1.0"), ("rollback", "1.0.0")):
        command = (tmp_path / "venv" / "bin" / "ansible-playbook", "-i", "hosts.yml", f"edgeml.fleet.{playbook}")
        run(*command, cwd=tmp_path, **environment)
        assert device.live == live
