# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The device's own units, each in its sandbox on a real kernel: what fetches, what clears up, and other runtimes."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from controller import DIGITS
from machine_controller import MachineController
from releases import make_release, publish, variant_entry
from tflite_models import plus_one
from whole_machine import WholeMachine

STORE = "/var/lib/edgeml/store"
ORIGIN_PORT = 8099
GOLDEN = json.dumps(
    {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}],
        "outputs": [{"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 3.0]}],
        "tolerance": {"absolute": 1e-4, "relative": 1e-3},
    }
).encode()


def digits(machine: WholeMachine) -> dict[str, Any]:
    """What the device says of the model."""
    models: list[dict[str, Any]] = json.loads(machine.shell("edgeml status --json").stdout)["models"]
    (found,) = [model for model in models if model["name"] == "digits"]
    return found


def test_a_release_that_was_ordered_is_fetched_by_the_unit(
    machine: WholeMachine, controller: MachineController
) -> None:
    """From a web server of the machine's own: it reaches no other."""
    machine.shell("mkdir --parents /srv/origin")
    packed = controller.ansible.directory / "origin.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(DIGITS, ".")
    controller.tasks({"name": "Copy", "ansible.builtin.unarchive": {"src": str(packed), "dest": "/srv/origin"}})
    machine.shell(
        f"systemd-run --unit=origin python3 -m http.server --bind 127.0.0.1 --directory /srv/origin {ORIGIN_PORT}"
    )
    order = {
        "model": "digits",
        "version": "1.0.0",
        "repository": "{{ model_repository }}",
        "state": "staged",
        "fetch": {"sources": [f"http://127.0.0.1:{ORIGIN_PORT}"]},
    }
    controller.tasks({"name": "Order", "edgeml.fleet.model_swap": order})
    machine.shell("systemctl start edgeml-fetch.service", check=False)
    shown = machine.shell("systemctl show edgeml-fetch.service --property=Result,ExecMainStatus").stdout.split()
    assert set(shown) == {"Result=success", "ExecMainStatus=0"}, machine.shell("journalctl --unit=edgeml-fetch").stdout
    (fetched,) = json.loads(machine.shell("edgeml status --json").stdout)["fetching"]
    assert (fetched["model"], fetched["version"], fetched["complete"]) == ("digits", "1.0.0", True)
    assert machine.shell("journalctl --unit=origin --output=cat").stdout.count("GET /blobs/sha256/") > 0


def test_a_new_installation_is_tried_and_the_one_before_is_cleared_away(
    machine: WholeMachine, controller: MachineController
) -> None:
    (old,) = machine.shell("ls /opt/edgeml | grep ^venv-").stdout.split()
    controller.play(
        {"roles": [{"role": "edgeml.fleet.inference_service"}]},
        inference_service_runtimes=["onnxruntime", "ai-edge-litert"],
    )
    (new,) = set(machine.shell("ls /opt/edgeml | grep ^venv-").stdout.split()) - {old}
    machine.shell(f"ls {STORE}/way-back/go-back")
    machine.wait_until(f"[ ! -e {STORE}/way-back ] && [ ! -e {STORE}/ended-trial ]")
    shown = machine.shell("systemctl show edgeml-clear.service --property=Result,ExecMainStatus").stdout.split()
    assert set(shown) == {"Result=success", "ExecMainStatus=0"}
    assert machine.shell("ls /opt/edgeml | grep ^venv-").stdout.split() == [new]
    assert digits(machine)["live"] == "1.1.0"


def test_a_model_of_litert_serves_in_the_sandbox(
    machine: WholeMachine, controller: MachineController, tmp_path: Path
) -> None:
    model = {"model.tflite": plus_one()}
    variant = variant_entry(
        model, "litert", format="tflite", runtime={"name": "ai-edge-litert", "minimum": "1.2.0"}, memory_bytes=1 << 20
    )
    publish(make_release("1.0.0", "plus", model, golden=GOLDEN, variants=[variant]), tmp_path)
    swap = {"model": "plus", "version": "1.0.0", "repository": str(tmp_path), "trial_seconds": 0}
    controller.tasks({"name": "Serve", "edgeml.fleet.model_swap": swap})
    models = json.loads(machine.shell("edgeml status --json").stdout)["models"]
    assert [model["live"] for model in models if model["name"] == "plus"] == ["1.0.0"]
