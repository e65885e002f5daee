# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""README's *Use it on your fleet*, followed literally by somebody who has nothing but it.

The commands and the inventory are README's own text. The home directory is empty, Ansible is ansible-core alone, the
collection is what the first command installs from the clone. Provisioning takes systemd, which Molecule's devices have:
here its command is only parsed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from device import Device
from links import REPOSITORY
from onnx import TensorProto, helper, numpy_helper
from releases import make_release, publish

SECTION = (REPOSITORY / "README.md").read_text().split("\n## Use it on your fleet\n")[1].split("\n## ")[0]
# The inventory has ranges of hosts; two of the cameras are there.
CAMERAS, SOME_CAMERAS = "plant-a-cam[01:40]", "plant-a-cam[01:02]"
HOSTS = ("plant-a-gw1", "plant-b-gw1", "plant-a-cam01", "plant-a-cam02")


def blocks(kind: str) -> list[str]:
    """The fenced blocks of the section."""
    return re.findall(rf"```{kind}\n(.*?)```", SECTION, re.DOTALL)


def commands() -> list[str]:
    """The commands of Ansible, in their order. What is between them needs the internet, or is the reader's own."""
    return re.findall(r"^\$ (ansible-\S+ .*)$", "".join(blocks("console")), re.MULTILINE)


class Newcomer:
    """Somebody with an empty home directory, a copy of the sources, and ansible-core's newest release."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        self.sources = self.home / "fleet"
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
        for name in filter(None, listed.stdout.split("\0")):
            if os.path.lexists(REPOSITORY / name):
                target = self.sources / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, target, follow_symlinks=False)
        path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
        self._environment = {"HOME": str(self.home), "PATH": path, "LC_ALL": "C.UTF-8"}

    def type(self, command: str) -> subprocess.CompletedProcess[str]:
        """Type a command and wait for its end."""
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def programs() -> Path:
    """The programs of the newest ansible-core that runs here, as the set-up installs it: nothing else is with it."""
    made = subprocess.run(
        [REPOSITORY / "tools/matrix", "--environments"], check=True, capture_output=True, text=True, env=os.environ
    )
    return Path(made.stdout.split()[-1]) / "bin"


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[dict[str, Device]]:
    """Devices that README's inventory names: provisioned, and without any model."""
    made: dict[str, Device] = {}
    try:
        for name in HOSTS:
            made[name] = Device(tmp_path, name).__enter__()
        yield made
    finally:
        for device in made.values():
            device.__exit__()


def publish_model(repository: Path, name: str, version: str) -> None:
    """Publish a model of one's own: it tells whether the sum of four numbers is positive."""
    random = np.random.default_rng(1)
    rows = random.standard_normal((200, 4)).astype(np.float32)
    weights = np.stack([-np.ones(4), np.ones(4)], axis=1).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)

    def tensor(name: str, values: np.ndarray) -> dict[str, object]:
        return {"name": name, "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}

    golden = {
        "inputs": [tensor("x", rows[:3])],
        "outputs": [tensor("y", rows[:3] @ weights)],
        "tolerance": {"absolute": 1e-4, "relative": 1e-3},
    }
    probe = {"inputs": [tensor("x", rows)], "output": "y", "labels": (rows.sum(axis=1) > 0).astype(int).tolist()}
    files = {"model.onnx": model.SerializeToString()}
    publish(make_release(version, name, files, json.dumps(golden).encode(), json.dumps(probe).encode()), repository)


def test_use_it_on_your_fleet(tmp_path: Path, programs: Path, devices: dict[str, Device]) -> None:
    install, provision, rollout, status, reconcile, rollback = commands()
    newcomer = Newcomer(tmp_path, programs)
    repository, ledger = tmp_path / "models", tmp_path / "rollouts"
    (inventory,) = [block for block in blocks("yaml") if "# inventory.yml" in block]
    assert CAMERAS in inventory
    (newcomer.home / "inventory.yml").write_text(inventory.replace(CAMERAS, SOME_CAMERAS))
    # What is the reader's own: where models and ledger are, and how the devices are reached.
    for name, variables in {
        "group_vars/edge.json": {
            "model_repository": str(repository),
            # ansible-core alone has no tuf to verify signatures with: tests/integration/test_trust.py does.
            "model_repository_root": "",
            "model_repository_unsigned": True,
            "rollout_ledger": str(ledger),
            "rollout_soak_seconds": 1,
            "rollout_limits": {"latency_ratio_max": 1000},
        },
        **{
            f"host_vars/{host}.json": {
                name: value for name, value in device.inventory().items() if name != "device_class"
            }
            for host, device in devices.items()
        },
    }.items():
        path = newcomer.home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(variables))
    named = re.search(r"model_name=(\S+) .*model_version=(\S+)", rollout)
    assert named is not None
    model, version = named.groups()
    publish_model(repository, model, version)

    def follow(command: str) -> str:
        done = newcomer.type(command)
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def live() -> set[str | None]:
        return {device.server.serving_version(model) for device in devices.values()}

    assert "edgeml.fleet" in follow(install)
    follow(f"{provision} --syntax-check")
    assert live() == {None}
    follow(rollout)
    assert live() == {version}
    shown = follow(status)
    assert all(re.search(rf"{host} .*{re.escape(version)}", shown) for host in HOSTS), shown
    assert re.search(r"changed=[1-9]", follow(reconcile)) is None
    assert list(ledger.glob(f"{model}-*-1.html")), "the report is beside the ledger"
    follow(rollback)
    assert live() == {None}
