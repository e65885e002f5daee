# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""README's *A release*, followed literally: from a forest of scikit-learn to a device that answers.

The two environments that README makes are the ones that `make recipes` made. The device is one on this machine, so
what README sends by SSH is sent to its port.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from device import Device
from links import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
TRAINING = REPOSITORY / ".cache" / "recipes" / "trees"
CAMERA = "plant-a-cam01"
ENVIRONMENTS = ("python3 -m venv ", "export PYTHON=")


def commands(heading: str) -> list[str]:
    """What README has its reader type below a heading, in order."""
    section = re.split(r"\n##+ ", README.split(f"{heading}\n", 1)[1])[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    return [command.strip() for block in blocks for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Device]:
    """The device that README asks."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Device(tmp_path, CAMERA, port=port) as device:
        device.install_command()
        yield device


def test_from_a_forest_to_a_device_that_answers(tmp_path: Path, camera: Device) -> None:
    assert TRAINING.exists(), f"{TRAINING} is missing: run `make recipes`"
    for name, target in (("publishing", REPOSITORY / ".venv"), ("training", TRAINING)):
        (tmp_path / name).symlink_to(target)
    for name in ("bin", "examples", "plugins", "roles"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    home, models = tmp_path / "home", tmp_path / "models"
    variables = {
        "model_repository": str(models),
        "model_repository_root": "~/.config/edgeml/keys/root.json",
        "rollout_ledger": str(tmp_path / "ledger"),
        "rollout_soak_seconds": 1,
        "rollout_limits": {"latency_ratio_max": 1000},
    }
    inventory = {"edge": {"hosts": {CAMERA: camera.inventory()}, "vars": variables}}
    (tmp_path / "inventory.yml").write_text(json.dumps(inventory))
    environment = {
        "HOME": str(home),
        "PATH": f"{REPOSITORY}/.venv/bin:/usr/local/bin:/usr/bin:/bin",
        "PYTHON": str(REPOSITORY / ".venv" / "bin" / "python"),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".ansible" / "collections"),
    }

    def follow(command: str) -> str:
        local = command.replace("/srv/models", str(models))
        local = local.replace(f"ssh {CAMERA} ", "").replace("127.0.0.1:8080", f"127.0.0.1:{camera.port}")
        done = subprocess.run(
            ["/bin/sh", "-c", local], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    home.mkdir()
    keys = [command for command in commands("## Use it on your fleet") if " keys init " in command]
    release = [command for command in commands("### A release") if not command.startswith(ENVIRONMENTS)]
    said = [follow(command) for command in (*keys, *release)]
    assert camera.server.serving_version("forest") == "1.0.0"
    answer = json.loads(said[-1])
    assert (answer["model_name"], answer["model_version"]) == ("forest", "1.0.0")
    shapes = {output["name"]: output["shape"] for output in answer["outputs"]}
    assert shapes == {"label": [1], "probabilities": [1, 3]}
